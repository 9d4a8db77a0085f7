//! What the counts of an encoded text say about it.

use super::event::{Event, Finding, Listener};
use super::tokens::{Encoded, Tokens};

/// Says what somebody who trains on the tokens should know; `field` is the text field.
pub(super) fn tell(text: Encoded, tokens: &Tokens, field: &str, tell: Listener) {
    let found =
        [holes(tokens), unknown(&text, tokens), special(&text, tokens), bytes(&text, tokens)];
    let seams = (text.seams > 0).then_some(Finding::Seams { seams: text.seams });
    found.into_iter().flatten().chain(seams).for_each(|finding| tell(Event::Finding(finding)));
    text.noticed.tell(field, tell);
}

fn count(text: &Encoded, id: u32) -> u64 {
    text.counts.get(id as usize).copied().unwrap_or(0)
}

fn holes(tokens: &Tokens) -> Option<Finding> {
    let vocabulary = tokens.tokenizer.get_vocab(true);
    let ids = vocabulary.values().filter_map(|id| u16::try_from(*id).ok());
    let (tokens, largest) = (vocabulary.len(), ids.max()?);
    (usize::from(largest) >= tokens).then_some(Finding::Holes { tokens, largest })
}

fn unknown(text: &Encoded, tokens: &Tokens) -> Option<Finding> {
    let id = tokens.unknown?;
    let (count, all) = (count(text, id), text.counts.iter().sum());
    let token = tokens.tokenizer.id_to_token(id).unwrap_or_default();
    (count > 0).then_some(Finding::Unknown { token, count, tokens: all })
}

fn special(text: &Encoded, tokens: &Tokens) -> Option<Finding> {
    let special = tokens.special();
    let became = special.iter().map(|(id, _)| match tokens.unknown {
        Some(unknown) if unknown == *id => 0,
        _ => count(text, *id),
    });
    let most = |counts: &[u64]| {
        let (place, _) = counts.iter().enumerate().max_by_key(|(_, count)| **count)?;
        Some((special[place].1.clone(), counts.iter().sum())).filter(|(_, sum)| *sum > 0)
    };
    let became = most(&became.collect::<Vec<_>>());
    let became = became.map(|(token, count)| Finding::SpecialInText { token, count });
    let spelled = || most(&text.spelled);
    became.or_else(|| spelled().map(|(token, count)| Finding::SpellsSpecial { token, count }))
}

/// Compares the bytes by the tables with those of the text. A tokenizer may put a space in front of
/// each text, so as many bytes may be too many.
fn bytes(text: &Encoded, tokens: &Tokens) -> Option<Finding> {
    let (tables, bytes) = (text.table_bytes, text.bytes);
    if tables.abs_diff(bytes) <= text.segments as u64 {
        return None;
    }
    let unknown = tokens.unknown.is_some_and(|id| count(text, id) > 0);
    let reason = match (unknown, tokens.tokenizer.get_normalizer().is_some(), tables < bytes) {
        (true, ..) => "unknown tokens stand for any number of bytes",
        (_, true, _) => "the tokenizer changes the text before it encodes it",
        (_, _, true) => "the tokenizer leaves out parts of the text that it does not know",
        (_, _, false) => "some tokens stand for fewer bytes than they are spelled with",
    };
    Some(Finding::Bytes { tables, bytes, reason })
}

//! Normalizers that make much of little: a letter may become a page, and the page a book.
//!
//! The library keeps two numbers for each byte that a normalizer makes, for all of a text at once. So
//! what might be too much is made in small parts first, one normalizer after the other.

use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::{NormalizedString, Normalizer};

/// Bytes that may be made of one. The compatibility forms of Unicode make 11, of U+FDFA.
const MOST: usize = 16;
/// Bytes by which a text may grow whatever its length, divided by [`MOST`].
const SLACK: usize = 16;
/// Bytes that are normalized at once, with what is made of them.
const PART: usize = 1 << 20;

/// The normalizers of a tokenizer that might make too much of a text.
pub(in crate::data) struct Growth {
    stages: Vec<Stage>,
}

struct Stage {
    normalizer: NormalizerWrapper,
    /// Bytes that it may make of one.
    most: usize,
}

impl Growth {
    /// Nothing if the normalizer makes little of any text.
    pub fn of(normalizer: NormalizerWrapper) -> Option<Self> {
        let mut stages = Vec::new();
        flatten(normalizer, &mut stages);
        let most = stages.iter().fold(1, |most: usize, stage| most.saturating_mul(stage.most));
        (most > MOST).then_some(Self { stages })
    }

    /// Refuses a text of which too much would be made.
    pub fn check(&self, text: &str) -> tokenizers::Result<()> {
        let most = MOST * (text.len() + SLACK);
        let mut text = text.to_owned();
        for stage in &self.stages {
            let (mut rest, mut made) = (text.as_str(), String::new());
            while !rest.is_empty() {
                // The longest character has four bytes.
                let size = (PART / stage.most).max(4);
                let (part, after) = rest.split_at(rest.floor_char_boundary(size));
                let mut part = NormalizedString::from(part);
                stage.normalizer.normalize(&mut part)?;
                made += part.get();
                rest = after;
                if made.len() > most {
                    return Err(
                        format!("its normalizer makes more than {MOST} bytes of one").into()
                    );
                }
            }
            text = made;
        }
        Ok(())
    }
}

fn flatten(normalizer: NormalizerWrapper, stages: &mut Vec<Stage>) {
    use NormalizerWrapper::*;
    let most = match &normalizer {
        Sequence(parts) => {
            parts.as_ref().iter().for_each(|part| flatten(part.clone(), stages));
            return;
        }
        Replace(replace) => replace.content.len(),
        Prepend(prepend) => prepend.prepend.len(),
        ByteLevel(_) => 2,
        // Of which letter it is made is not known; those that have long ones take three bytes.
        Precompiled(map) => longest_entry(map).div_ceil(3),
        _ => 1,
    };
    stages.push(Stage { normalizer, most: most.max(1) });
}

/// Bytes of the longest text in a map of characters: texts are parted by zeros.
fn longest_entry(map: &impl serde::Serialize) -> usize {
    let json = serde_json::to_value(map).unwrap_or_default();
    let bytes = base64(json["precompiled_charsmap"].as_str().unwrap_or_default());
    let Some((size, rest)) = bytes.split_first_chunk() else { return 0 };
    let texts = rest.get(u32::from_le_bytes(*size) as usize..).unwrap_or_default();
    texts.split(|byte| *byte == 0).map(<[u8]>::len).max().unwrap_or(0)
}

/// The bytes that a text in base64 stands for, up to the first digit that is none.
pub(super) fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |byte: u8| DIGITS.iter().position(|digit| *digit == byte);
    let digits: Vec<usize> = text.bytes().map_while(digit).collect();
    let three = |four: &[usize]| {
        let bits = four.iter().fold(0, |bits: u32, digit| bits << 6 | *digit as u32);
        let bytes = (bits << (6 * (4 - four.len()))).to_be_bytes();
        bytes[1..four.len().max(1)].to_vec()
    };
    digits.chunks(4).flat_map(three).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn growth(normalizer: Value) -> Option<Growth> {
        Growth::of(serde_json::from_value(normalizer).unwrap())
    }

    fn replace(pattern: &str, content: &str) -> Value {
        json!({"type": "Replace", "pattern": {"Regex": pattern}, "content": content})
    }

    fn sequence(parts: &[Value]) -> Value {
        json!({"type": "Sequence", "normalizers": parts})
    }

    #[test]
    fn usual_normalizers_are_not_looked_at() {
        let usual = [
            json!({"type": "NFKC"}),
            json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                   "strip_accents": null, "lowercase": true}),
            sequence(&[json!({"type": "Prepend", "prepend": "▁"}), replace(" ", "▁")]),
            sequence(&[json!({"type": "NFKD"}), json!({"type": "ByteLevel"})]),
            replace("\\d", "[NUM]"),
            sequence(&[]),
        ];
        usual.into_iter().for_each(|part| assert!(growth(part.clone()).is_none(), "{part}"));
    }

    #[test]
    fn a_letter_that_becomes_a_page_is_refused_however_the_page_is_made() {
        let tens = vec![replace(".", &"a".repeat(10)); 10];
        let long = "a".repeat(100_000);
        let pages = [
            replace(".", &long),
            replace("x*", &long),
            json!({"type": "Prepend", "prepend": long}),
            sequence(&tens),
            sequence(&[json!({"type": "NFC"}), sequence(&[sequence(&tens)])]),
            sequence(&vec![json!({"type": "ByteLevel"}); 40]),
        ];
        for page in pages {
            let growth = growth(page).unwrap();
            for text in ["é", "é word\u{ad}. ".repeat(9000).as_str()] {
                let error = growth.check(text).unwrap_err().to_string();
                assert_eq!(error, "its normalizer makes more than 16 bytes of one");
            }
            growth.check("").unwrap();
        }
    }

    #[test]
    fn what_is_replaced_by_much_but_rarely_met_is_no_fault() {
        let marks: Vec<_> = ('a'..='j').map(|c| replace(&c.to_string(), "[letter]")).collect();
        let growth = growth(sequence(&marks)).unwrap();
        growth.check("No such marks: xyz, ".repeat(9000).as_str()).unwrap();
        growth.check(&"b".repeat(100_000)).unwrap_err();
    }

    #[test]
    fn the_texts_of_a_character_map_are_measured() {
        assert_eq!(base64("/P///w=="), [0xfc, 0xff, 0xff, 0xff]);
        assert_eq!(base64("YWJj?YQ"), b"abc");
        // Four bytes of trie, then `ab`, a zero, `abc`.
        let map = json!({"precompiled_charsmap": "BAAAAAAAAABhYgBhYmM="});
        assert_eq!(longest_entry(&map), 3);
        assert_eq!(longest_entry(&json!({"precompiled_charsmap": "////"})), 0);
    }
}

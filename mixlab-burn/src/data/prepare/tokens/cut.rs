//! Texts are cut into pieces where that changes no token, so that no text is too long.
//!
//! A cut is made in front of a space or line end that a word follows. Whether a tokenizer lets the
//! two sides be encoded apart is asked there, with the text around the place: the ids of both sides
//! must be those of the whole. Some tokenizers put a space in front of every text; for these the
//! space at the cut is left out.

/// Pieces have at least so many bytes where there are more.
const PIECE: usize = 1 << 16;
/// Where no place was found for so long, a text is cut at any character.
const LONGEST: usize = 1 << 18;
/// Text on each side of a place on which the answer depends.
const CONTEXT: usize = 256;
/// Places that are tried.
const TRIES: usize = 8;

/// Two texts and whether they may be encoded apart: the whole, and the ends of the first and the
/// start of the second in it.
pub(super) type MayPart<'a> = dyn Fn(&str, usize, usize) -> bool + 'a;

/// A piece of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub text: String,
    /// Bytes of the text that it stands for: one more than it has where a space was left out.
    pub bytes: usize,
}

/// Cuts a text that comes in parts.
pub(super) struct Cutter<'a> {
    may_part: &'a MayPart<'a>,
    waiting: String,
    /// Places where the text was cut for its length alone.
    pub seams: u64,
}

/// Where a piece ends and the next begins, and whether only the length asked for it.
struct Cut {
    end: usize,
    next: usize,
    is_seam: bool,
}

impl<'a> Cutter<'a> {
    pub fn new(may_part: &'a MayPart<'a>) -> Self {
        Self { may_part, waiting: String::new(), seams: 0 }
    }

    /// Adds a part, and returns the pieces that are complete.
    pub fn add(&mut self, part: &str) -> Vec<Piece> {
        self.waiting.push_str(part);
        // So much text decides every cut, whatever follows.
        self.pieces(LONGEST + 2 * CONTEXT)
    }

    /// Ends the text, and returns its last pieces.
    pub fn end(&mut self) -> Vec<Piece> {
        let mut pieces = self.pieces(PIECE);
        let text = std::mem::take(&mut self.waiting);
        if !text.is_empty() {
            pieces.push(Piece { bytes: text.len(), text });
        }
        pieces
    }

    fn pieces(&mut self, more_than: usize) -> Vec<Piece> {
        let text = std::mem::take(&mut self.waiting);
        let (mut rest, mut pieces) = (text.as_str(), Vec::new());
        while rest.len() > more_than {
            let Some(cut) = self.cut(rest) else { break };
            self.seams += u64::from(cut.is_seam);
            pieces.push(Piece { text: rest[..cut.end].to_owned(), bytes: cut.next });
            rest = &rest[cut.next..];
        }
        self.waiting = if pieces.is_empty() { text } else { rest.to_owned() };
        pieces
    }

    fn cut(&self, text: &str) -> Option<Cut> {
        let end = text.len().min(LONGEST);
        let places = text.as_bytes()[..end].iter().enumerate().skip(PIECE);
        let before_word = |at: usize| text[at + 1..].starts_with(char::is_alphanumeric);
        let places = places.filter(|(at, byte)| matches!(byte, b' ' | b'\n') && before_word(*at));
        for (at, _) in places.take(TRIES) {
            let around = &text[text.floor_char_boundary(at - CONTEXT)..];
            let from = text.len() - around.len();
            let around = &around[..around.floor_char_boundary(at - from + CONTEXT)];
            for next in [at, at + 1] {
                if (self.may_part)(around, at - from, next - from) {
                    return Some(Cut { end: at, next, is_seam: false });
                }
            }
        }
        let end = text.floor_char_boundary(end);
        (text.len() > LONGEST).then_some(Cut { end, next: end, is_seam: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, part: usize, may_part: &MayPart) -> (Vec<Piece>, u64) {
        let mut cutter = Cutter::new(may_part);
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (first, more) = rest.split_at(rest.floor_char_boundary(part.max(4)));
            pieces.extend(cutter.add(first));
            rest = more;
        }
        pieces.extend(cutter.end());
        (pieces, cutter.seams)
    }

    fn joined(pieces: &[Piece]) -> String {
        pieces.iter().map(|piece| piece.text.as_str()).collect()
    }

    #[test]
    fn pieces_do_not_depend_on_how_the_text_came() {
        let text = "Wörter und  words,\nlines\n\nand so on. ".repeat(20_000);
        let (whole, seams) = cut(&text, text.len(), &|_, _, _| true);
        assert_eq!((joined(&whole) == text, seams), (true, 0));
        assert!(whole.len() > 5 && whole[1..].iter().all(|p| p.text.starts_with([' ', '\n'])));
        for part in [1 << 12, 70_001, 500_000] {
            assert_eq!(cut(&text, part, &|_, _, _| true).0, whole);
        }
    }

    #[test]
    fn text_without_a_place_is_cut_for_its_length_and_counted() {
        let text = "語".repeat(300_000);
        let (pieces, seams) = cut(&text, 1 << 16, &|_, _, _| true);
        assert_eq!(joined(&pieces), text);
        assert_eq!(seams as usize, pieces.len() - 1);
        assert!(pieces.len() > 2 && pieces.iter().all(|piece| piece.text.len() <= LONGEST));
        let spaced = "word ".repeat(100_000);
        let (refused, seams) = cut(&spaced, 1 << 16, &|_, _, _| false);
        assert_eq!((joined(&refused) == spaced, seams), (true, 1));
    }

    #[test]
    fn a_space_that_is_left_out_still_counts() {
        let text = "word ".repeat(60_000);
        let without = |_: &str, end: usize, next: usize| next == end + 1;
        let (pieces, seams) = cut(&text, 1 << 16, &without);
        assert_eq!(pieces.iter().map(|piece| piece.bytes).sum::<usize>(), text.len());
        assert_eq!(joined(&pieces).len(), text.len() - (pieces.len() - 1));
        assert_eq!(seams, 0);
    }

    #[test]
    fn short_texts_and_parts_stay_whole() {
        let (pieces, _) = cut("a few words", 4, &|_, _, _| true);
        assert_eq!(pieces, [Piece { text: "a few words".into(), bytes: 11 }]);
        assert!(cut("", 4, &|_, _, _| true).0.is_empty());
    }
}

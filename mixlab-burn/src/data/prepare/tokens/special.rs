//! Special tokens that a text spells.

use super::Tokens;

/// Special tokens as a text may spell them.
pub(super) struct Special {
    pub names: Vec<String>,
    /// Whether one of them begins with these two bytes.
    begins: Vec<bool>,
}

impl Special {
    pub fn of(tokens: &Tokens) -> Self {
        let names: Vec<_> = tokens.special().into_iter().map(|(_, name)| name).collect();
        let mut begins = vec![false; 1 << 16];
        for pair in names.iter().filter_map(|name| name.as_bytes().first_chunk()) {
            begins[usize::from(u16::from_le_bytes(*pair))] = true;
        }
        Self { names, begins }
    }

    /// How often `text` spells each of them. A name of one byte is too common to mean anything.
    pub fn spelled(&self, text: &[u8]) -> Vec<u64> {
        let mut counts = vec![0; self.names.len()];
        for (at, pair) in text.windows(2).enumerate() {
            if self.begins[usize::from(u16::from_le_bytes([pair[0], pair[1]]))] {
                for (count, name) in counts.iter_mut().zip(&self.names) {
                    *count += u64::from(name.len() > 1 && text[at..].starts_with(name.as_bytes()));
                }
            }
        }
        counts
    }
}

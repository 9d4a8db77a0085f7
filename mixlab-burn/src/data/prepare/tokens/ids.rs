//! The ids of a text.

use std::sync::Mutex;

use ahash::AHashMap;
use compact_str::CompactString;

use super::{Tokens, words};

/// Words that a thread remembers; it knows most of a text then.
const REMEMBERED: usize = 1 << 16;
/// Longer words do not come back.
const LONGEST: usize = 64;

/// Words and their ids.
type Memory = AHashMap<CompactString, Box<[u32]>>;

/// Encodes texts on any number of threads.
pub(super) struct Encoder<'a> {
    tokens: &'a Tokens,
    /// Where each word has ids of its own: those of the last words, for each thread.
    memories: Option<Vec<Mutex<Memory>>>,
}

impl<'a> Encoder<'a> {
    pub fn new(tokens: &'a Tokens) -> Self {
        let memories = || (0..=rayon::current_num_threads()).map(|_| Mutex::default()).collect();
        Self { tokens, memories: words::are_apart(&tokens.tokenizer).then(memories) }
    }

    /// The ids of a text.
    pub fn ids(&self, text: &str) -> tokenizers::Result<Vec<u32>> {
        let Some(memories) = &self.memories else { return self.tokens.encode(text) };
        // The last one is for threads that are not rayon's.
        let thread = rayon::current_thread_index().unwrap_or(memories.len() - 1);
        let mut memory = memories[thread].lock().expect("nothing panics with the lock");
        let mut ids = Vec::with_capacity(text.len() / 2);
        for word in words::words(text) {
            if let Some(known) = memory.get(word) {
                ids.extend(known);
                continue;
            }
            let found = self.tokens.encode(word)?;
            ids.extend(&found);
            if word.len() <= LONGEST {
                if memory.len() >= REMEMBERED {
                    memory.clear();
                }
                memory.insert(word.into(), found.into());
            }
        }
        Ok(ids)
    }

    /// Whether the ids of `text` are those of `text[..end]` and `text[next..]`.
    pub fn may_part(&self, text: &str, end: usize, next: usize) -> bool {
        let ids = || -> tokenizers::Result<bool> {
            let parts = [self.ids(&text[..end])?, self.ids(&text[next..])?];
            Ok(self.ids(text)? == parts.concat())
        };
        // A text that cannot be encoded is told when its piece is.
        ids().unwrap_or(true)
    }
}

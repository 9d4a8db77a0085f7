//! What a file is that is no shard: token files of other tools, and files that hold no ids.

use std::fs::Metadata;
use std::path::Path;

use super::{MAGIC, ShardError};
use crate::data::format::{Format, of as format_of};

const BIG_ENDIAN: &str = "token ids in the other byte order (big-endian)";
const SWAPPED: &str = "write its numbers in little-endian order, as numpy does with the type `<u2`";
const WIDE: &str = "ids are stored in 16 bits here: tokenize the text anew with `prepare` and a vocabulary of at most 65,536 tokens";
const UNPACKED: &str = "unpack it first: shards are read at many places";
const SHARDS: &str =
    "name shards of token ids; `prepare` makes them of text, JSON lines or Parquet";
const EXCLUDE: &str = "exclude this file from the pattern";

/// Numbers with which llm.c begins files that are no shards of 16-bit ids.
const OF_LLM_C: [(i32, &str, &str); 4] = [
    (20_240_801, "token ids of 32 bits, as llm.c writes them for Llama 3", WIDE),
    (20_240_522, "an evaluation set of llm.c", EXCLUDE),
    (20_240_326, "a model of llm.c", EXCLUDE),
    (20_240_327, "a state of llm.c's optimizer", EXCLUDE),
];
/// Formats without an entry in `prepare`'s list, by their first bytes.
const OTHERS: [(&[u8], &str, &str); 2] = [
    (b"MMIDIDX\0", "an index of Megatron-LM", "name the `.bin` file beside it, with `--raw-u16`"),
    (
        b"\x93NUMPY",
        "a NumPy array",
        "write its ids with `tofile` as `uint16`, and give `--raw-u16`",
    ),
];

/// Refuses what is no regular file, before it is opened: a pipe would be waited for.
pub(super) fn check_kind(path: &Path, kind: &Metadata) -> Result<(), ShardError> {
    let (what, hint) = match kind {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_dir() => ("a folder", "name its files, as in `FOLDER/train_*.bin`"),
        _ => (
            "a pipe or device",
            "name a pipe alone, without `*`, to have it read; write what a device gives to a file",
        ),
    };
    Err(ShardError::Foreign { path: path.to_owned(), what, hint })
}

/// Refuses the file that begins with `head` if that is known to be something else than a shard.
pub(super) fn check_head(path: &Path, head: &[u8]) -> Result<(), ShardError> {
    match named(head) {
        None => Ok(()),
        Some((what, hint)) => Err(ShardError::Foreign { path: path.to_owned(), what, hint }),
    }
}

fn named(head: &[u8]) -> Option<(&'static str, &'static str)> {
    let number = i32::from_le_bytes(*head.first_chunk()?);
    if number == MAGIC {
        return None;
    }
    if let Some((_, what, hint)) = OF_LLM_C.iter().find(|(magic, ..)| *magic == number) {
        return Some((what, hint));
    }
    if [MAGIC, OF_LLM_C[0].0].contains(&number.swap_bytes()) {
        return Some((BIG_ENDIAN, SWAPPED));
    }
    if let Some((_, what, hint)) = OTHERS.iter().find(|(start, ..)| head.starts_with(start)) {
        return Some((what, hint));
    }
    if head.get(8) == Some(&b'{') && head[..8].ends_with(&[0, 0, 0]) {
        return Some(("a safetensors file", EXCLUDE));
    }
    if is_wide(head) {
        return Some(("token ids of 32 bits", WIDE));
    }
    match format_of(head) {
        Format::Gzip => Some(("compressed with gzip", UNPACKED)),
        Format::Zstd => Some(("compressed with zstd", UNPACKED)),
        Format::Parquet => Some(("a Parquet file", SHARDS)),
        Format::Utf16 { .. } => Some(("text in UTF-16", SHARDS)),
        Format::Text { .. } if is_plain(head) => Some(("text", SHARDS)),
        Format::Text { .. } => None,
        // Ids without a header have zeros too, and are no UTF-8.
        Format::Foreign { what, .. } if what.starts_with("no ") => None,
        Format::Foreign { what, .. } => Some((what, SHARDS)),
    }
}

/// What `ids`, of which some are not below `vocab_size`, are in the other byte order: ids, if all of many
/// would be below it.
pub(super) fn swapped(ids: &[u16], vocab_size: usize) -> Option<(&'static str, &'static str)> {
    const MANY: usize = 64;
    let fit = ids.iter().all(|id| usize::from(id.swap_bytes()) < vocab_size);
    (ids.len() >= MANY && fit).then_some((BIG_ENDIAN, SWAPPED))
}

/// Whether these are numbers of 32 bits that may be ids: many, several of them, and none with more than
/// 18 bits, so that every other number of 16 bits is next to nothing.
fn is_wide(head: &[u8]) -> bool {
    const MANY: usize = 64;
    const SEVERAL: usize = 8;
    let numbers = head.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes));
    let numbers: Vec<u32> = numbers.collect();
    let mut seen: Vec<u16> = numbers.iter().map(|n| *n as u16).filter(|low| *low > 3).collect();
    seen.sort_unstable();
    seen.dedup();
    numbers.len() >= MANY && seen.len() >= SEVERAL && numbers.iter().all(|n| n >> 18 == 0)
}

/// Whether these are characters that texts have; the last may be cut off.
fn is_plain(head: &[u8]) -> bool {
    let text = match str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_some() => return false,
        Err(error) => str::from_utf8(&head[..error.valid_up_to()]).expect("valid up to there"),
    };
    text.chars().all(|c| !c.is_control() || c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_files_of_other_tools_are_named() {
        let llama = [20_240_801i32.to_le_bytes(), 7i32.to_le_bytes()].concat();
        let wide: Vec<u8> = (0..256u32).flat_map(|i| (i * 517 % 128_000).to_le_bytes()).collect();
        let cases: [(&[u8], &str); 12] = [
            (&llama, "32 bits"),
            (&wide, "32 bits"),
            (&MAGIC.to_be_bytes(), "byte order"),
            (&20_240_801i32.to_be_bytes(), "byte order"),
            (b"\x1f\x8b\x08\0\0", "gzip"),
            (b"\x28\xb5\x2f\xfd\x04", "zstd"),
            (b"PK\x03\x04\0\0", "zip"),
            (b"\x93NUMPY\x01\0", "NumPy"),
            (b"MMIDIDX\0\0\x01", "Megatron"),
            (b"\x20\x01\0\0\0\0\0\0{\"w0", "safetensors"),
            (b"{\"text\": \"a\"}\n", "text"),
            ("Ça va\t?\r\n".as_bytes(), "text"),
        ];
        for (head, part) in cases {
            let (what, hint) = named(head).unwrap_or_else(|| panic!("{part}"));
            assert!(what.contains(part) && !hint.is_empty(), "{what}");
        }
    }

    #[test]
    fn shards_and_ids_without_a_header_are_not() {
        let ids: Vec<u8> = (0..500u16).flat_map(|id| (id * 131).to_le_bytes()).collect();
        let small: Vec<u8> = (40..90u16).flat_map(u16::to_le_bytes).collect();
        let controls = b"ab\x01\x02cd";
        // Two kinds of tokens in turn, and four kinds in all.
        let in_turn: Vec<u8> = (0..500u16).flat_map(|i| (i % 2 * 7).to_le_bytes()).collect();
        let four: Vec<u8> = (0..500u16).flat_map(|i| (i % 7 * i % 4).to_le_bytes()).collect();
        let heads = [&MAGIC.to_le_bytes()[..], &ids, &small, controls, b"", b"ab", &in_turn, &four];
        for head in heads {
            assert_eq!(named(head), None, "{head:?}");
        }
    }
}

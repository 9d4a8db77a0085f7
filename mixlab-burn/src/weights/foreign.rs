//! What a file is that was given as weights and holds none in safetensors.

use crate::data::format::{Format, of as format_of};

const CONVERT: &str = "load it where it was made, and write it with `safetensors`";
const TENSORS: &str = "name the `.safetensors` file that `arch --safetensors` has written";

/// What `bytes` are, and the way out; nothing if their beginning says nothing.
pub(super) fn named(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    match bytes {
        [] => return Some(("empty", TENSORS)),
        [b'G', b'G', b'U', b'F', ..] => return Some(("a GGUF file", TENSORS)),
        [b'P', b'K', 3, 4, ..] => {
            return Some(("a zip archive, as `torch.save` writes it", CONVERT));
        }
        [0x80, 2..=5, ..] => return Some(("a Python pickle, as `torch.save` writes it", CONVERT)),
        _ => {}
    }
    match format_of(&bytes[..bytes.len().min(1 << 16)]) {
        Format::Gzip => Some(("packed with gzip", "unpack it first")),
        Format::Zstd => Some(("packed with zstd", "unpack it first")),
        Format::Parquet => Some(("a Parquet file", TENSORS)),
        // The length of a header, in front, has zeros.
        Format::Utf16 { .. } | Format::Text { .. } if bytes.len() > 8 => Some(("text", TENSORS)),
        Format::Utf16 { .. } | Format::Text { .. } => None,
        Format::Foreign { what, .. } if what.starts_with("no ") => None,
        Format::Foreign { what, hint } => Some((what, hint)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_other_kinds_are_named() {
        let what = |bytes: &[u8]| named(bytes).map(|(what, _)| what);
        assert_eq!(what(b""), Some("empty"));
        assert_eq!(what(b"GGUF\x03\0\0\0"), Some("a GGUF file"));
        assert!(what(b"PK\x03\x04rest").unwrap().contains("torch.save"));
        assert_eq!(what(b"{\"weight_map\": {}}"), Some("text"));
        assert_eq!(what(b"\x1f\x8b\x08\0"), Some("packed with gzip"));
        assert!(what(b"version https://git-lfs.github.com/spec/v1\n").unwrap().contains("LFS"));
    }

    #[test]
    fn a_header_says_nothing_else() {
        for length in [2_u64, 100, 0x4142, 1 << 63] {
            let mut file = length.to_le_bytes().to_vec();
            file.extend(b"{}");
            assert_eq!(named(&file), None, "{length}");
        }
    }
}

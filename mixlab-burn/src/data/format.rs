//! What a file is, by its first bytes.

/// Bytes that are looked at.
#[cfg(feature = "data")]
pub(crate) const HEAD: usize = 1 << 16;
/// A byte of value 0 among so many first ones is no text, as Git has it.
const ZERO_FREE: usize = 8000;

/// What the first bytes say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Gzip,
    Zstd,
    Parquet,
    Utf16 {
        little: bool,
    },
    /// UTF-8, as far as it is; `mark` bytes in front are no part of the text.
    Text {
        mark: usize,
    },
    /// No text, but `what`.
    Foreign {
        what: &'static str,
        hint: &'static str,
    },
}

const UNPACK: &str = "unpack it first; gzip and zstd are unpacked while they are read";
const CONVERT: &str = "convert it to text, JSON lines or Parquet";
const RECODE: &str = "convert it to UTF-8, for example with iconv";

/// First bytes that belong to no text: where, which, what it is and the way out.
const SIGNATURES: [(usize, &[u8], &str, &str); 26] = [
    (0, b"BZh91AY&SY", "packed with bzip2", UNPACK),
    (0, b"\xfd7zXZ\0", "packed with xz", UNPACK),
    (0, b"\x04\x22\x4d\x18", "packed with lz4", UNPACK),
    (0, b"\x1f\x9d", "packed with compress", UNPACK),
    (0, b"PK\x03\x04", "a zip archive", UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (0, b"Rar!\x1a\x07", "a rar archive", UNPACK),
    (257, b"ustar", "a tar archive", UNPACK),
    (0, b"%PDF-", "a PDF document", CONVERT),
    (0, b"\x89PNG", "an image", CONVERT),
    (0, b"\xff\xd8\xff", "an image", CONVERT),
    (0, b"GIF87a", "an image", CONVERT),
    (0, b"GIF89a", "an image", CONVERT),
    (0, b"ARROW1\0\0", "an Arrow file", CONVERT),
    (0, b"\xff\xff\xff\xff\x10\0\0\0", "an Arrow stream", CONVERT),
    (0, b"ORC", "an ORC file", CONVERT),
    (0, b"Obj\x01", "an Avro file", CONVERT),
    (0, b"\x93NUMPY", "a NumPy array", CONVERT),
    (0, b"\x89HDF\r\n", "an HDF5 file", CONVERT),
    (0, b"SQLite format 3\0", "an SQLite database", CONVERT),
    (0, b"\x7fELF", "a program", CONVERT),
    (0, b"\x80\x04\x95", "a Python pickle", CONVERT),
    (0, b"\x88\xd8\x34\x01", "a shard of token ids", "give the text; train on shards with `arch`"),
    (0, b"\xff\xfe\0\0", "UTF-32 text", RECODE),
    (0, b"\0\0\xfe\xff", "UTF-32 text", RECODE),
    (
        0,
        b"version https://git-lfs.github.com/spec/",
        "a Git LFS pointer and not the file itself",
        "fetch the file with `git lfs pull`",
    ),
];

/// Finds out what `head` begins.
pub(crate) fn of(head: &[u8]) -> Format {
    let foreign = SIGNATURES.iter().find(|(at, bytes, ..)| {
        // `ORC` may begin a text as well, which has no zeros.
        head.get(*at..).is_some_and(|rest| rest.starts_with(bytes))
            && (bytes.len() > 3 || has_zero(head) || !bytes.is_ascii())
    });
    if let Some((_, _, what, hint)) = foreign {
        return Format::Foreign { what, hint };
    }
    match head {
        [0x1f, 0x8b, ..] => Format::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Format::Zstd,
        // A frame to be skipped, with which some packers begin.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Format::Zstd,
        [b'P', b'A', b'R', b'1', ..] => Format::Parquet,
        [0xff, 0xfe, ..] => Format::Utf16 { little: true },
        [0xfe, 0xff, ..] => Format::Utf16 { little: false },
        [0xef, 0xbb, 0xbf, rest @ ..] => text(rest, 3),
        _ => text(head, 0),
    }
}

fn has_zero(head: &[u8]) -> bool {
    head[..head.len().min(ZERO_FREE)].contains(&0)
}

/// Text, unless zeros or mostly broken UTF-8 say otherwise.
fn text(head: &[u8], mark: usize) -> Format {
    if has_zero(head) {
        let what = "no text: it has bytes of value 0 (UTF-16 without its mark has them too)";
        return Format::Foreign { what, hint: RECODE };
    }
    let broken: usize = head.utf8_chunks().map(|chunk| chunk.invalid().len()).sum();
    if broken * 3 > head.len() && head.len() >= 16 {
        return Format::Foreign { what: "no UTF-8 text in most of its bytes", hint: RECODE };
    }
    // Text in another encoding has no control characters, UTF-16 and packed data have.
    let is_control = |byte: &&u8| matches!(byte, 0x01..=0x06 | 0x0e..=0x1a | 0x1c..=0x1f);
    let control = head.iter().filter(is_control).count();
    if broken.min(control) * 50 > head.len() {
        let what = "no UTF-8 text: it has control characters and broken ones (UTF-16 without its mark has them too)";
        return Format::Foreign { what, hint: RECODE };
    }
    Format::Text { mark }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_magic_numbers_are_known() {
        let cases: [(&[u8], Format); 8] = [
            (b"\x1f\x8b\x08", Format::Gzip),
            (b"\x28\xb5\x2f\xfd\x04", Format::Zstd),
            (b"\x50\x2a\x4d\x18\x05\0\0\0hello", Format::Zstd),
            (b"PAR1\x15\0", Format::Parquet),
            (b"\xff\xfea\0", Format::Utf16 { little: true }),
            (b"\xfe\xff\0a", Format::Utf16 { little: false }),
            (b"\xef\xbb\xbfa", Format::Text { mark: 3 }),
            (b"", Format::Text { mark: 0 }),
        ];
        for (head, expected) in cases {
            assert_eq!(of(head), expected);
        }
    }

    #[test]
    fn what_is_no_text_is_named() {
        let named = |head: &[u8]| match of(head) {
            Format::Foreign { what, .. } => what,
            other => panic!("{head:?} is {other:?}"),
        };
        assert_eq!(named(b"PK\x03\x04rest"), "a zip archive");
        assert_eq!(named(b"\xff\xfe\0\0a\0\0\0"), "UTF-32 text");
        assert_eq!(named(b"\x88\xd8\x34\x01\x01\0\0\0"), "a shard of token ids");
        assert!(named(b"a\0b\0c\0").contains("value 0"));
        let russian_in_windows_1251 =
            b"\xd1\xfa\xe5\xf8\xfc \xe5\xf9\xb8 \xfd\xf2\xe8\xf5 \xe1\xf3\xeb\xee\xea";
        assert!(named(russian_in_windows_1251).contains("UTF-8"));
        let chinese = "中文字符测试。".repeat(99);
        let little: Vec<u8> = chinese.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = chinese.encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert!(named(&little).contains("control") && named(&big).contains("control"));
        let mut tar = b"name".to_vec();
        tar.resize(257, b'0');
        tar.extend(b"ustar");
        assert_eq!(named(&tar), "a tar archive");
    }

    #[test]
    fn texts_that_begin_like_something_else_stay_texts() {
        for head in ["ORC and goblin", "BZh", "GIF8 is short", "PK", "PARK", "Obj", "%PD"] {
            assert_eq!(of(head.as_bytes()), Format::Text { mark: 0 }, "{head}");
        }
        assert_eq!(of(b"\x1b[1mred\x07\x08\x1b[0m\x01\x02"), Format::Text { mark: 0 });
        assert_eq!(of(b"caf\xe9 au lait, s'il vous pla\xeet"), Format::Text { mark: 0 });
    }
}

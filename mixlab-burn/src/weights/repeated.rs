//! A name that the header of a safetensors file has twice: readers of JSON take one of the two.

use std::collections::HashSet;
use std::fmt::{self, Formatter};

use serde::Deserializer;
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};

/// The first such name in the file that begins with `bytes`; nothing if its header is none.
pub(super) fn name(bytes: &[u8]) -> Option<String> {
    let (length, rest) = bytes.split_first_chunk()?;
    let header = rest.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let mut found = None;
    let mut json = serde_json::Deserializer::from_slice(header);
    // Errors are told by who reads the header for what it says.
    let _ = json.deserialize_map(Names(&mut found));
    found
}

struct Names<'a>(&'a mut Option<String>);

impl<'de> Visitor<'de> for Names<'_> {
    type Value = ();

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("a header")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some((name, _)) = map.next_entry::<String, IgnoredAny>()? {
            if let Some(name) = seen.replace(name) {
                *self.0 = Some(name);
                return Err(Error::custom("found"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    fn name(header: &str) -> Option<String> {
        super::name(&[&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat())
    }

    #[test]
    fn a_name_is_repeated_only_beside_itself() {
        assert_eq!(name(r#"{"a": {"a": 1}, "b": {"a": 2}}"#), None);
        assert_eq!(name(r#"{"a": 1, "b": 2, "\u0061": 3}"#).as_deref(), Some("a"));
        assert_eq!(name(r#"{"__metadata__": {}, "__metadata__": {}}"#).unwrap(), "__metadata__");
    }

    #[test]
    fn what_is_no_header_repeats_nothing() {
        for header in ["", "[1, 1]", "{\"a\": 1, \"a\"", "{\"a\""] {
            assert_eq!(name(header), None, "{header}");
        }
        assert_eq!(super::name(b"\xff\0\0\0\0\0\0\0{}"), None);
        assert_eq!(super::name(&[255; 8]), None);
        assert_eq!(super::name(b"short"), None);
    }
}

//! Text segments from files: a text file is one segment, a JSONL file one a line.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::PrepareError;

/// Where the text comes from. Segments are read anew each time they are asked for.
pub(super) struct Source {
    files: Vec<PathBuf>,
    text_field: String,
}

/// A segment, or nothing for a JSON object without the text field.
pub(super) type Segment = Result<Option<String>, PrepareError>;

impl Source {
    /// Finds the files: `input` itself, or in a folder all `*.txt`, then all `*.jsonl`.
    pub fn open(input: &Path, text_field: &str) -> Result<Self, PrepareError> {
        let kind = fs::metadata(input).map_err(PrepareError::io(input))?;
        let files = if kind.is_dir() {
            let mut files = files_below(input, "txt")?;
            files.extend(files_below(input, "jsonl")?);
            files
        } else {
            vec![input.to_owned()]
        };
        if files.is_empty() {
            return Err(PrepareError::NoText { folder: input.to_owned() });
        }
        Ok(Self { files, text_field: text_field.to_owned() })
    }

    /// All segments in order.
    pub fn segments(&self) -> impl Iterator<Item = Segment> + Send + '_ {
        self.files.iter().flat_map(|path| self.segments_of(path))
    }

    fn segments_of<'a>(&'a self, path: &'a Path) -> Box<dyn Iterator<Item = Segment> + Send + 'a> {
        if !path.as_os_str().as_encoded_bytes().ends_with(b".jsonl") {
            let text = fs::read(path).map_err(PrepareError::io(path));
            return Box::new(std::iter::once(text.map(|bytes| Some(decode(&bytes)))));
        }
        match File::open(path) {
            Err(error) => Box::new(std::iter::once(Err(PrepareError::io(path)(error)))),
            Ok(file) => Box::new(self.lines(path, BufReader::new(file))),
        }
    }

    fn lines<'a>(
        &'a self,
        path: &'a Path,
        file: impl BufRead + Send + 'a,
    ) -> impl Iterator<Item = Segment> + Send + 'a {
        let numbered = file.split(b'\n').zip(1..);
        numbered.flat_map(move |(line, number)| self.line_segments(path, line, number))
    }

    /// A line may hold several lone carriage returns, each of which ends a line too.
    fn line_segments(&self, path: &Path, line: io::Result<Vec<u8>>, number: usize) -> Vec<Segment> {
        let line = match line {
            Ok(line) => decode(&line),
            Err(error) => return vec![Err(PrepareError::io(path)(error))],
        };
        let filled = line.split('\n').filter(|part| !part.trim().is_empty());
        let parsed = filled.map(|part| self.parse(part).map_err(|reason| (reason, number)));
        parsed
            .map(|segment| {
                segment.map_err(|(reason, line)| PrepareError::Json {
                    path: path.to_owned(),
                    line,
                    reason,
                })
            })
            .collect()
    }

    fn parse(&self, line: &str) -> Result<Option<String>, String> {
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(line).map_err(|error| error.to_string())?;
        match object.get(&self.text_field) {
            None => Ok(None),
            Some(serde_json::Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(format!("`{}` is `{other}`, expected a string", self.text_field)),
        }
    }
}

fn files_below(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, PrepareError> {
    let Some(name) = folder.to_str() else {
        let error = io::Error::other("its name is not valid UTF-8");
        return Err(PrepareError::io(folder)(error));
    };
    let pattern = format!("{}/**/*.{extension}", glob::Pattern::escape(name));
    let found = glob::glob(&pattern).map_err(|error| {
        let reason = io::Error::other(error.msg);
        PrepareError::io(folder)(reason)
    })?;
    let mut files = Vec::new();
    for path in found {
        let path = path.map_err(|error| PrepareError::io(folder)(error.into()))?;
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// UTF-8 with U+FFFD for what is not, and `\n` for every kind of line end.
fn decode(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if !text.contains('\r') {
        return text.into_owned();
    }
    text.replace("\r\n", "\n").replace('\r', "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments of a folder with these files.
    fn segments(files: &[(&str, &[u8])]) -> Result<Vec<Option<String>>, PrepareError> {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        Source::open(folder.path(), "text")?.segments().collect()
    }

    fn texts(files: &[(&str, &[u8])]) -> Vec<String> {
        segments(files).unwrap().into_iter().flatten().collect()
    }

    #[test]
    fn text_files_come_before_jsonl_files_both_sorted() {
        let files: [(&str, &[u8]); 5] = [
            ("b.txt", b"3"),
            ("a/x.txt", b"1"),
            ("a/y.jsonl", b"{\"text\": \"4\"}"),
            ("a.txt", b"2"),
            ("z.md", b"no"),
        ];
        assert_eq!(texts(&files), ["1", "2", "3", "4"]);
    }

    #[test]
    fn jsonl_skips_blank_lines_and_counts_objects_without_the_field() {
        let lines =
            b"\n{\"text\": \"a\\nb\"}\r\n   \n{\"other\": 1}\n{\"text\": \"\"}\r{\"text\":\"c\"}";
        let found = segments(&[("x.jsonl", lines)]).unwrap();
        let expected = [Some("a\nb"), None, Some(""), Some("c")];
        assert_eq!(found, expected.map(|text| text.map(str::to_owned)));
    }

    #[test]
    fn bad_json_is_an_error_that_names_the_line() {
        for bad in ["{\"text\": ", "[1]", "{\"text\": 5}"] {
            let lines = format!("{{\"text\": \"fine\"}}\n\n{bad}\n");
            let error = segments(&[("x.jsonl", lines.as_bytes())]).unwrap_err();
            assert!(matches!(error, PrepareError::Json { line: 3, .. }), "{error}");
        }
    }

    #[test]
    fn invalid_bytes_and_line_ends_are_normalised() {
        assert_eq!(texts(&[("x.txt", b"a\r\nb\rc\xffd")]), ["a\nb\nc\u{fffd}d"]);
    }

    #[test]
    fn a_folder_without_text_is_an_error() {
        let error = segments(&[("x.md", b"")]).unwrap_err();
        assert!(matches!(error, PrepareError::NoText { .. }));
    }

    #[test]
    fn any_other_file_is_one_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes");
        fs::write(&path, "x").unwrap();
        let source = Source::open(&path, "text").unwrap();
        let found: Vec<_> = source.segments().map(Result::unwrap).collect();
        assert_eq!(found, [Some("x".to_owned())]);
        assert!(Source::open(&folder.path().join("none"), "text").is_err());
    }
}

use super::*;
use std::io::Write;

type Texts = Vec<Option<String>>;

/// The texts of a source, and nothing for each record without one.
fn texts_of(input: &Path, field: &str) -> Result<(Texts, Vec<Finding>), PrepareError> {
    let spool = tempfile::tempdir().unwrap();
    let options = PrepareOptions { text_field: field.into(), ..PrepareOptions::new(input, "out") };
    let findings = std::sync::Mutex::new(Vec::new());
    let tell = |event: Event| {
        if let Event::Finding(finding) = event {
            findings.lock().unwrap().push(finding);
        }
    };
    let source = Source::open(&options, spool.path(), &tell)?;
    let (mut texts, mut text) = (Vec::new(), String::new());
    let noticed = source.each(|item| {
        match item {
            Item::Part(part) => text.push_str(part),
            Item::End => texts.push(Some(std::mem::take(&mut text))),
            Item::Skipped => texts.push(None),
        }
        Ok(())
    })?;
    noticed.tell(field, &tell);
    Ok((texts, findings.into_inner().unwrap()))
}

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

/// Segments of a folder with these files.
fn segments(files: &[(&str, &[u8])]) -> Result<Texts, PrepareError> {
    texts_of(folder(files).path(), "text").map(|(texts, _)| texts)
}

/// The texts of one file.
fn file(name: &str, content: &[u8]) -> Result<(Texts, Vec<Finding>), String> {
    let folder = folder(&[(name, content)]);
    texts_of(&folder.path().join(name), "text").map_err(|error| error.to_string())
}

fn texts(name: &str, content: &[u8]) -> Vec<String> {
    let (texts, findings) = file(name, content).unwrap();
    assert!(findings.is_empty(), "{name}: {findings:?}");
    texts.into_iter().flatten().collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), Default::default());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

fn utf16(text: &str) -> Vec<u8> {
    format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect()
}

const LINES: &str = "{\"text\": \"one\"}\n{\"text\": \"two\"}\n";

#[test]
fn text_files_come_before_jsonl_files_both_sorted() {
    let files: [(&str, &[u8]); 5] = [
        ("b.txt", b"3"),
        ("a/x.txt", b"1"),
        ("a/y.jsonl", b"{\"text\": \"4\"}"),
        ("a.txt", b"2"),
        ("z.md", b"no"),
    ];
    let found: Vec<_> = segments(&files).unwrap().into_iter().flatten().collect();
    assert_eq!(found, ["1", "2", "3", "4"]);
}

#[test]
fn jsonl_skips_blank_lines_and_counts_objects_without_the_field() {
    let lines = b"\n{\"text\": \"a\\nb\"}\r\n   \n{\"other\": 1}\n{\"text\": null}\n{\"text\": \"\"}\r{\"text\":\"c\"}";
    let found = segments(&[("x.jsonl", lines)]).unwrap();
    let expected = [Some("a\nb"), None, None, Some(""), Some("c")];
    assert_eq!(found, expected.map(|text| text.map(str::to_owned)));
}

#[test]
fn bad_json_is_an_error_that_names_the_line_once() {
    for bad in ["{\"text\": ", "[1]", "{\"text\": 5}", "plain text"] {
        let lines = format!("{{\"text\": \"fine\"}}\n\n{bad}\n{{\"text\": \"fine\"}}\n");
        let error = segments(&[("x.jsonl", lines.as_bytes())]).unwrap_err();
        assert!(matches!(error, PrepareError::Json { line: 3, .. }), "{error}");
        assert_eq!(error.to_string().matches("line `").count(), 1);
    }
}

#[test]
fn invalid_bytes_and_line_ends_are_normalised_and_counted() {
    let (found, findings) = file("x.txt", b"a\r\nb\rc\xffd").unwrap();
    assert_eq!(found, [Some("a\nb\nc\u{fffd}d".to_owned())]);
    assert!(
        matches!(&findings[..], [Finding::NotUtf8 { bytes: 1, files: 1, first }] if first.ends_with("x.txt"))
    );
    let (_, findings) = file("x.jsonl", b"{\"text\": \"caf\xe9\"}").unwrap();
    assert!(matches!(&findings[..], [Finding::NotUtf8 { bytes: 1, .. }]));
}

#[test]
fn zeros_far_from_the_start_are_counted() {
    let text = [&b"a line\n".repeat(2000)[..], &[0; 5]].concat();
    let (_, findings) = file("x.txt", &text).unwrap();
    assert!(
        matches!(&findings[..], [Finding::Zeros { bytes: 5, files: 1, first }] if first.ends_with("x.txt"))
    );
}

#[test]
fn marks_of_encodings_are_no_text() {
    assert_eq!(texts("x.txt", b"\xef\xbb\xbfa"), ["a"]);
    assert_eq!(texts("x.txt", &utf16("ä 語😀\r\n.")), ["ä 語😀\n."]);
    assert_eq!(texts("x.txt", b"\xfe\xff\0a"), ["a"]);
    let marked = format!("\u{feff}{LINES}");
    assert_eq!(texts("x.jsonl", marked.as_bytes()), ["one", "two"]);
    assert_eq!(texts("x.jsonl", &utf16(LINES)), ["one", "two"]);
    assert_eq!(texts("x", marked.as_bytes()), ["one", "two"]);
}

#[test]
fn packed_files_are_unpacked_whatever_they_are_called() {
    assert_eq!(texts("x.txt.gz", &gzip(b"a text")), ["a text"]);
    assert_eq!(texts("x.txt", &zstd(b"a text")), ["a text"]);
    assert_eq!(texts("x.jsonl.gz", &gzip(LINES.as_bytes())), ["one", "two"]);
    assert_eq!(texts("x.jsonl.zst", &zstd(LINES.as_bytes())), ["one", "two"]);
    assert_eq!(texts("x.gz", &gzip(&utf16("a text"))), ["a text"]);
    let members = [gzip(b"a "), gzip(b"text")].concat();
    assert_eq!(texts("x.gz", &members), ["a text"]);
    assert_eq!(texts("x.zst", &[zstd(b"a "), zstd(b"text")].concat()), ["a text"]);
    let cut = gzip(&LINES.as_bytes().repeat(999));
    assert!(file("x.jsonl.gz", &cut[..cut.len() / 2]).unwrap_err().contains("x.jsonl.gz"));
}

#[test]
fn tables_and_markup_are_read_as_they_are_with_the_way_to_their_text() {
    let warned = |name: &str| {
        let (found, findings) = file(name, b"id,text\n1,\"a\"\n").unwrap();
        assert_eq!(found, [Some("id,text\n1,\"a\"\n".to_owned())]);
        findings.iter().map(Finding::to_string).collect::<Vec<_>>().concat()
    };
    assert!(warned("x.CSV").contains("commas and quotes become training data\n  hint: make JSON"));
    assert!(warned("x.tsv").contains("csv.DictReader(sys.stdin, delimiter=\"\\t\")]"));
    assert!(warned("x.html").contains("its tags become training data"));
    assert_eq!(warned("x.md"), "");
    let (_, findings) = file("x.csv.gz", &gzip(b"id,text\n")).unwrap();
    assert!(matches!(&findings[..], [Finding::MoreThanText { more: MoreThanText::Commas, .. }]));
    // A name says nothing of JSON lines.
    assert_eq!(texts("x.csv", LINES.as_bytes()), ["one", "two"]);
}

#[test]
fn what_packers_add_is_passed_over_and_damage_is_no_fault_of_the_path() {
    let filled = [gzip(b"a text"), vec![0; 70_000]].concat();
    assert_eq!(texts("x.gz", &filled), ["a text"]);
    let between = [gzip(b"a "), vec![0; 500], gzip(b"text")].concat();
    assert_eq!(texts("x.gz", &between), ["a text"]);
    let skipped = [b"\x5e\x2a\x4d\x18\x02\0\0\0ab", &zstd(b"a text")[..]].concat();
    assert_eq!(texts("x.zst", &skipped), ["a text"]);
    let mut far = zstd::Encoder::new(Vec::new(), 1).unwrap();
    far.window_log(30).unwrap();
    far.write_all(b"a text").unwrap();
    assert_eq!(texts("x.zst", &far.finish().unwrap()), ["a text"]);
    let mut sum = gzip(b"a text");
    let end = sum.len() - 8;
    sum[end] ^= 1;
    let after = |packed: Vec<u8>| [packed, b"more than a header".to_vec()].concat();
    for (name, bytes) in [("x.gz", sum), ("y.gz", after(gzip(b"a"))), ("z.zst", after(zstd(b"a")))]
    {
        let error = file(name, &bytes).unwrap_err();
        assert!(error.contains(name) && error.contains("damaged"), "{error}");
    }
}

#[test]
fn json_lines_that_were_joined_or_spread_out_are_read() {
    let joined = "\u{feff}{\"text\": \"one\"}\n\u{feff}{\"text\": \"two\"}\n";
    let spread = "{\n  \"text\": \"one\"\n}\n{\n  \"text\": \"two\"\n}\n";
    for name in ["x.jsonl", "x.json", "x"] {
        assert_eq!(texts(name, joined.as_bytes()), ["one", "two"], "{name}");
        assert_eq!(texts(name, spread.as_bytes()), ["one", "two"], "{name}");
    }
}

#[test]
fn json_lines_are_known_by_any_of_their_names_or_by_themselves() {
    for name in ["x.jsonl", "X.JSONL", "x.ndjson", "x.json", "x.jsonlines", "x", "x.dump"] {
        assert_eq!(texts(name, LINES.as_bytes()), ["one", "two"], "{name}");
    }
    let list = b"[{\"text\": \"one\"},\n {\"text\": \"two\"}]";
    for name in ["x.json", "x.jsonl", "x"] {
        assert_eq!(texts(name, list), ["one", "two"], "{name}");
    }
    let (found, findings) = file("x.txt", LINES.as_bytes()).unwrap();
    assert_eq!(found, [Some(LINES.to_owned())]);
    assert!(matches!(&findings[..], [Finding::LooksLikeJson { .. }]));
    assert_eq!(texts("x.txt", b"{curly} braces"), ["{curly} braces"]);
}

#[test]
fn a_json_file_of_a_folder_is_read_if_it_is_a_corpus() {
    let files: [(&str, &[u8]); 4] = [
        ("a.json", LINES.as_bytes()),
        ("b.json", b"[{\"text\": \"three\"}]"),
        ("package.json", b"{\"name\": \"x\"}"),
        ("broken.json", b"// no JSON"),
    ];
    let folder = folder(&files);
    let (found, findings) = texts_of(folder.path(), "text").unwrap();
    assert_eq!(found.into_iter().flatten().collect::<Vec<_>>(), ["one", "two", "three"]);
    let [Finding::LeftOut { left_out, .. }] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!(left_out.other, 2);
}

#[test]
fn what_is_no_text_is_refused_by_name() {
    assert!(file("x.txt", b"PK\x03\x04").unwrap_err().contains("is a zip archive"));
    assert!(file("x.jsonl", &gzip(b"a\0b")).unwrap_err().contains("no text"));
    assert!(file("x.parquet", b"text").unwrap_err().contains("no Parquet file"));
    assert!(file("x.gz", &gzip(&gzip(&gzip(&gzip(b"a"))))).unwrap_err().contains("several times"));
    assert!(segments(&[("x.md", b"")]).unwrap_err().to_string().contains("1 of other kinds"));
    assert!(texts_of(Path::new("none"), "text").is_err());
}

#[test]
fn a_text_comes_in_parts_and_is_one_text() {
    let text = "Wörter und mehr.\r\n".repeat(60_000);
    assert_eq!(texts("x.txt", text.as_bytes()), [text.replace('\r', "")]);
}

#[cfg(unix)]
#[test]
fn a_pipe_is_read_once_for_all_passes() {
    let folder = folder(&[]);
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let writer = {
        let pipe = pipe.clone();
        std::thread::spawn(move || fs::write(pipe, LINES))
    };
    let (found, findings) = texts_of(&pipe, "text").unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(found.into_iter().flatten().collect::<Vec<_>>(), ["one", "two"]);
    assert!(matches!(&findings[..], [Finding::Pipe { .. }]));
}

//! The text column of a Parquet file.

use std::fs::File;
use std::path::Path;

use parquet::basic::{Compression, Type};
use parquet::column::reader::{ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::{ColumnDescPtr, SchemaDescriptor};

use super::super::guard::guarded;
use super::{PrepareError, decode};

/// Rows that are read at once.
const ROWS: usize = 256;

/// Hands the text of each row to `take`, or nothing for a null. Returns how many bytes were not
/// UTF-8.
pub(super) fn each(
    path: &Path,
    data: &Path,
    field: &str,
    take: &mut dyn FnMut(Option<&str>) -> Result<(), PrepareError>,
) -> Result<u64, PrepareError> {
    let file = File::open(data).map_err(PrepareError::io(path))?;
    let reader = library(path, || SerializedFileReader::new(file))?;
    let schema = reader.metadata().file_metadata().schema_descr();
    let column = column(schema, field).map_err(|[reason, hint]| PrepareError::Parquet {
        path: path.to_owned(),
        reason,
        hint,
    })?;
    for group in reader.metadata().row_groups() {
        check_packing(path, field, group.column(column).compression())?;
    }
    let full = schema.column(column).max_def_level();
    let mut broken = 0;
    for group in 0..reader.num_row_groups() {
        let open = || reader.get_row_group(group)?.get_column_reader(column);
        let mut rows = get_typed_column_reader(library(path, open)?);
        loop {
            let texts = library(path, || read(&mut rows, full))?;
            if texts.is_empty() {
                break;
            }
            for text in texts {
                let text = text.map(|text| decode::whole(text.data()));
                broken += text.as_ref().map_or(0, |(_, invalid)| *invalid);
                take(text.as_ref().map(|(text, _)| text.as_str()))?;
            }
        }
    }
    Ok(broken)
}

/// Refuses a column that is packed in a way that this build does not unpack.
fn check_packing(path: &Path, field: &str, packed: Compression) -> Result<(), PrepareError> {
    let packing = match packed {
        Compression::BROTLI(_) => "brotli",
        Compression::LZO => "LZO",
        _ => return Ok(()),
    };
    Err(PrepareError::Parquet {
        path: path.to_owned(),
        reason: format!("its column `{field}` is packed with {packing}"),
        hint: "write it anew, packed with zstd, snappy, gzip or lz4".into(),
    })
}

/// Calls the Parquet library, which panics at some damaged files.
fn library<T>(path: &Path, call: impl FnOnce() -> errors::Result<T>) -> Result<T, PrepareError> {
    guarded(|| call().map_err(Into::into)).map_err(|error| PrepareError::Parquet {
        path: path.to_owned(),
        reason: error.to_string(),
        hint: "write it anew, or as JSON lines".into(),
    })
}

/// The next rows; `full` is the level at which a row has a value.
fn read(
    rows: &mut ColumnReaderImpl<ByteArrayType>,
    full: i16,
) -> errors::Result<Vec<Option<ByteArray>>> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let (count, ..) = rows.read_records(ROWS, Some(&mut levels), None, &mut values)?;
    let mut values = values.into_iter();
    let has_value = |row: usize| full == 0 || levels.get(row) == Some(&full);
    Ok((0..count).map(|row| if has_value(row) { values.next() } else { None }).collect())
}

/// The index of the column `field`, if it holds one text a row; otherwise why not, and the way out.
fn column(schema: &SchemaDescriptor, field: &str) -> Result<usize, [String; 2]> {
    let names: Vec<_> = schema.columns().iter().map(|column| column.path().string()).collect();
    let is_text = |column: &ColumnDescPtr| {
        column.physical_type() == Type::BYTE_ARRAY && column.max_rep_level() == 0
    };
    let texts = schema.columns().iter().filter(|column| is_text(column));
    let texts: Vec<_> = texts.map(|column| column.path().string()).collect();
    let known = || {
        if texts.is_empty() {
            "no column of it holds one text a row: write it anew, or as JSON lines".into()
        } else {
            format!("give `--text-field` one of its columns `{}`", texts.join("`, `"))
        }
    };
    let Some(index) = names.iter().position(|name| name == field) else {
        return Err([format!("it has no column `{field}`"), known()]);
    };
    let column = schema.column(index);
    if column.max_rep_level() > 0 {
        let reason = format!("its column `{field}` holds lists, expected one text a row");
        return Err([reason, known()]);
    }
    match column.physical_type() {
        Type::BYTE_ARRAY => Ok(index),
        other => Err([format!("its column `{field}` holds {other}, expected text"), known()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use parquet::data_type::Int64Type;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    /// A file with a text, a null and a text in `doc.text`, and numbers in `id`.
    fn write(path: &Path, compression: Compression) {
        let schema = "message m { required group doc { optional binary text (UTF8); } \
                      required int64 id; }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = WriterProperties::builder().set_compression(compression).build();
        let file = File::create(path).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
        for word in ["one", "two"] {
            let mut group = writer.next_row_group().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            let texts = [ByteArray::from(word), ByteArray::from("b\r\nc")];
            column.typed::<ByteArrayType>().write_batch(&texts, Some(&[1, 0, 1]), None).unwrap();
            column.close().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<Int64Type>().write_batch(&[1, 2, 3], None, None).unwrap();
            column.close().unwrap();
            group.close().unwrap();
        }
        writer.close().unwrap();
    }

    fn texts(path: &Path, field: &str) -> Result<Vec<Option<String>>, String> {
        let mut texts = Vec::new();
        let mut take = |text: Option<&str>| {
            texts.push(text.map(str::to_owned));
            Ok(())
        };
        let read = each(path, path, field, &mut take);
        read.map(|_| texts).map_err(|error| error.to_string())
    }

    #[test]
    fn texts_and_nulls_come_in_order_however_they_are_packed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        for packed in [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::GZIP(Default::default()),
            Compression::ZSTD(Default::default()),
            Compression::LZ4_RAW,
        ] {
            write(&path, packed);
            let expected = [Some("one"), None, Some("b\nc"), Some("two"), None, Some("b\nc")];
            let expected = expected.map(|text| text.map(str::to_owned));
            assert_eq!(texts(&path, "doc.text").unwrap(), expected);
        }
    }

    #[test]
    fn a_packing_that_is_not_read_is_named_with_those_that_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        write(&path, Compression::SNAPPY);
        // In the description of a column its name comes before the number of its packing.
        let (snappy, brotli) = (b"\x04text\x15\x02", b"\x04text\x15\x08");
        let mut bytes = std::fs::read(&path).unwrap();
        let places: Vec<_> =
            (0..bytes.len()).filter(|at| bytes[*at..].starts_with(snappy)).collect();
        assert_eq!(places.len(), 2);
        places.iter().for_each(|at| bytes[*at..][..brotli.len()].copy_from_slice(brotli));
        std::fs::write(&path, bytes).unwrap();
        let error = texts(&path, "doc.text").unwrap_err();
        assert!(error.contains("its column `doc.text` is packed with brotli"), "{error}");
        assert!(error.ends_with("packed with zstd, snappy, gzip or lz4"), "{error}");
    }

    #[test]
    fn columns_that_are_no_text_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        write(&path, Compression::UNCOMPRESSED);
        let error = texts(&path, "text").unwrap_err();
        assert!(error.contains("no column `text`"), "{error}");
        assert!(
            error.ends_with("hint: give `--text-field` one of its columns `doc.text`"),
            "{error}"
        );
        assert_eq!(error.matches("hint: ").count(), 1, "{error}");
        assert!(texts(&path, "id").unwrap_err().contains("holds INT64"));
    }

    #[test]
    fn damaged_files_are_errors_wherever_the_damage_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        write(&path, Compression::SNAPPY);
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            std::fs::write(&path, damaged).unwrap();
            if let Err(error) = texts(&path, "doc.text") {
                assert!(error.contains("x.parquet"), "{error}");
            }
        }
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        assert!(texts(&path, "doc.text").unwrap_err().contains("x.parquet"));
    }
}

use super::*;

/// A valid shard of three tokens, changed by `change`, and what opening it says.
fn open_changed(change: impl FnOnce(&mut Vec<u8>)) -> Result<Shard, ShardError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train_00000.bin");
    write_shard(&path, &[7, 300, 65_535]).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
    Shard::open(&path, Layout::Header)
}

#[test]
fn what_was_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.bin");
    write_shard(&path, &[7, 300, 65_535]).unwrap();
    let shard = Shard::open(&path, Layout::Header).unwrap();
    assert_eq!(shard.read().unwrap(), [7, 300, 65_535]);
    let mut some = vec![1];
    shard.reader().unwrap().read(1..2, &mut some).unwrap();
    assert_eq!(some, [1, 300]);
}

#[test]
fn the_layout_is_header_zeros_then_little_endian_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.bin");
    write_shard(&path, &[0x0102]).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes[..12], [0x88, 0xd8, 0x34, 1, 1, 0, 0, 0, 1, 0, 0, 0]);
    assert!(bytes[12..1024].iter().all(|b| *b == 0));
    assert_eq!(bytes[1024..], [2, 1]);
}

#[test]
fn a_shard_without_tokens_is_valid() {
    let shard = open_changed(|bytes| {
        bytes.truncate(HEADER_BYTES);
        bytes[8] = 0;
    });
    assert!(shard.unwrap().is_empty());
}

#[test]
fn ignored_header_bytes_may_have_any_value() {
    assert!(open_changed(|bytes| bytes[12..1024].fill(9)).is_ok());
}

#[test]
fn a_wrong_magic_or_version_is_named() {
    let error = open_changed(|bytes| bytes[0] ^= 1).unwrap_err().to_string();
    assert!(error.contains("magic `20240521`"), "{error}");
    let error = open_changed(|bytes| bytes[4] = 2).unwrap_err().to_string();
    assert!(error.contains("version `2`"), "{error}");
}

#[test]
fn a_size_that_contradicts_the_count_is_an_error_either_way() {
    let grown = open_changed(|bytes| bytes.push(0)).unwrap_err();
    let (bytes, needed) = (1031, 1030);
    assert!(
        matches!(grown, ShardError::Size { bytes: b, needed: n, .. } if (b, n) == (bytes, needed))
    );
    let cut = open_changed(|bytes| bytes.truncate(1028)).unwrap_err();
    assert!(matches!(cut, ShardError::Size { bytes: 1028, .. }));
}

#[test]
fn a_negative_count_is_named_and_asks_for_no_negative_size() {
    let error = open_changed(|bytes| bytes[8..12].fill(255)).unwrap_err().to_string();
    assert!(error.contains("token count `-1` in its header"), "{error}");
    assert!(error.contains("several shards"), "{error}");
}

#[test]
fn a_file_shorter_than_the_header_is_an_error() {
    let error = open_changed(|bytes| bytes.truncate(1023)).unwrap_err();
    assert!(matches!(error, ShardError::NoHeader { bytes: 1023, .. }));
}

#[test]
fn ids_without_a_header_are_read_as_such_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.bin");
    let ids: Vec<u8> = (0..900u16).flat_map(u16::to_le_bytes).collect();
    let refused = |layout| Shard::open(&path, layout).unwrap_err().to_string();
    std::fs::write(&path, &ids).unwrap();
    assert!(refused(Layout::Header).contains("--raw-u16"));
    let read = Shard::open(&path, Layout::Raw).unwrap().read().unwrap();
    assert_eq!(read, (0..900).collect::<Vec<_>>());
    std::fs::write(&path, &ids[..1799]).unwrap();
    assert!(refused(Layout::Raw).contains("odd number"));
    write_shard(&path, &[1, 2]).unwrap();
    assert!(refused(Layout::Raw).contains("leave out"));
}

#[test]
fn a_shard_that_shrinks_is_named_and_ends_no_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train_7.bin");
    write_shard(&path, &[5; 100]).unwrap();
    let shard = Shard::open(&path, Layout::Header).unwrap();
    let mut reader = shard.reader().unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(1024 + 80).unwrap();
    let error = reader.read(30..60, &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("train_7.bin` had `100` tokens"), "{error}");
    assert!(error.contains("has `40`"), "{error}");
    assert!(matches!(shard.reader(), Err(ShardError::Size { .. })));
    write_shard(&path, &[5; 99]).unwrap();
    assert!(matches!(shard.reader(), Err(ShardError::Changed { now: 99, .. })));
}

#[cfg(unix)]
#[test]
fn folders_and_pipes_are_refused_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("train_p.bin");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let refused = |path| Shard::open(path, Layout::Header).unwrap_err().to_string();
    assert!(refused(&pipe).contains("train_p.bin` is no shard of token ids: it is a pipe"));
    assert!(refused(folder.path()).contains("a folder"));
}

#[test]
fn the_first_id_outside_the_vocabulary_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let files = [vec![1, 2], vec![7, 300, 65_535], vec![400]];
    let shards = files.iter().enumerate().map(|(i, tokens)| {
        let path = folder.path().join(format!("{i}.bin"));
        write_shard(&path, tokens).unwrap();
        Shard::open(&path, Layout::Header).unwrap()
    });
    let shards: Vec<_> = shards.collect();
    assert!(check_vocabulary(&shards, 65_536).is_ok());
    let error = check_vocabulary(&shards, 300).unwrap_err().to_string();
    assert!(error.contains("1.bin` has token id `300` at position `1`"), "{error}");
    assert!(error.contains("more than `65535`"), "{error}");
}

#[test]
fn ids_in_the_other_byte_order_are_named_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.bin");
    let error = |ids: &mut dyn Iterator<Item = u16>| {
        std::fs::write(&path, ids.flat_map(u16::to_be_bytes).collect::<Vec<_>>()).unwrap();
        let shard = Shard::open(&path, Layout::Raw).unwrap();
        check_vocabulary(&[shard], 256).unwrap_err().to_string()
    };
    let swapped = error(&mut (0..900).map(|i| i % 256));
    assert!(swapped.contains("big-endian") && swapped.contains("`<u2`"), "{swapped}");
    // Of few nothing is known, and with one that fits in neither order it is none.
    for few in [error(&mut (0..63)), error(&mut (0..900).map(|i| i % 257))] {
        assert!(few.contains("has token id `256` at position `1`"), "{few}");
    }
}

//! The format of pprof: `profile.proto` of <https://github.com/google/pprof>, compressed by gzip.
//! Numbers of fields are those of that file.

use std::collections::HashMap;
use std::hash::Hash;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use protobuf::CodedOutputStream;

/// Bytes of a file, or why there are none.
pub type Packed = Result<Vec<u8>, String>;

/// What every uncompressed file begins with: the tag of a `sample_type`.
pub const FIRST_BYTE: u8 = 0x0a;

/// One call in the source.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Call {
    pub function: String,
    pub file: String,
    /// 0 where it is not known.
    pub line: u32,
}

/// What one sample stands for.
pub struct Scale {
    /// Name and unit.
    pub of: (&'static str, &'static str),
    /// So many units lie between samples.
    pub period: i64,
}

/// A profile that grows sample by sample.
pub struct Profile {
    message: Message,
    strings: Numbers<String>,
    /// Names and files.
    functions: Numbers<[u64; 2]>,
    /// Functions and lines of a frame.
    locations: Numbers<Vec<[u64; 2]>>,
}

impl Profile {
    /// An empty profile, whose samples have one value of each of `types`, names with units.
    pub fn new(types: &[(&str, &str)], scale: Scale) -> Self {
        let mut strings = Numbers::from(0);
        strings.of(String::new());
        let mut profile = Self {
            message: Message::default(),
            strings,
            functions: Numbers::from(1),
            locations: Numbers::from(1),
        };
        for &named in types {
            let value_type = profile.value_type(named);
            profile.message.message(1, value_type);
        }
        let period_type = profile.value_type(scale.of);
        profile.message.message(11, period_type);
        profile.message.number(12, scale.period as u64);
        profile
    }

    /// Says when it was taken.
    pub fn took(&mut self, start: SystemTime, duration: Duration) {
        let start = start.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.message.number(9, start.as_nanos() as u64);
        self.message.number(10, duration.as_nanos() as u64);
    }

    /// Adds a sample of a stack, the innermost frame first. A frame is more than one call where some
    /// were inlined, the innermost first.
    pub fn add(&mut self, stack: impl Iterator<Item = Vec<Call>>, values: &[i64]) {
        let mut sample = Message::default();
        for frame in stack {
            let location = self.location(frame);
            sample.number(1, location);
        }
        values.iter().for_each(|&value| sample.number(2, value as u64));
        self.message.message(2, sample);
    }

    fn location(&mut self, frame: Vec<Call>) -> u64 {
        let mut lines = Vec::with_capacity(frame.len());
        for Call { function, file, line } in frame {
            let named = [self.strings.of(function).0, self.strings.of(file).0];
            let (id, is_new) = self.functions.of(named);
            if is_new {
                let mut function = Message::default();
                // What the linker calls it is its name too.
                for (field, value) in [(1, id), (2, named[0]), (3, named[0]), (4, named[1])] {
                    function.number(field, value);
                }
                self.message.message(5, function);
            }
            lines.push([id, line.into()]);
        }
        let (id, is_new) = self.locations.of(lines.clone());
        if is_new {
            let mut location = Message::default();
            location.number(1, id);
            for [function, line] in lines {
                let mut call = Message::default();
                call.number(1, function);
                call.number(2, line);
                location.message(4, call);
            }
            self.message.message(4, location);
        }
        id
    }

    fn value_type(&mut self, (name, unit): (&str, &str)) -> Message {
        let mut message = Message::default();
        message.number(1, self.strings.of(name.into()).0);
        message.number(2, self.strings.of(unit.into()).0);
        message
    }

    /// The file's bytes.
    pub fn packed(mut self) -> Packed {
        for string in self.strings.in_order() {
            self.message.bytes(6, string.as_bytes());
        }
        let mut file = GzEncoder::new(Vec::new(), Compression::fast());
        let packed = file.write_all(&self.message.0).and_then(|()| file.finish());
        packed.map_err(|error| error.to_string())
    }
}

/// Each value once, with its number.
struct Numbers<T> {
    first: u64,
    known: HashMap<T, u64>,
}

impl<T: Hash + Eq> Numbers<T> {
    fn from(first: u64) -> Self {
        Self { first, known: HashMap::new() }
    }

    /// The number of `value`, and whether it is new.
    fn of(&mut self, value: T) -> (u64, bool) {
        let next = self.first + self.known.len() as u64;
        let number = *self.known.entry(value).or_insert(next);
        (number, number == next)
    }

    fn in_order(&self) -> Vec<&T> {
        let mut all: Vec<_> = self.known.iter().collect();
        all.sort_by_key(|(_, number)| **number);
        all.into_iter().map(|(value, _)| value).collect()
    }
}

/// Fields of a protobuf message, one after the other.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(&mut self, field: u32, value: u64) {
        self.write(|out| out.write_uint64(field, value));
    }

    fn bytes(&mut self, field: u32, value: &[u8]) {
        self.write(|out| out.write_bytes(field, value));
    }

    fn message(&mut self, field: u32, value: Message) {
        self.bytes(field, &value.0);
    }

    fn write(&mut self, field: impl FnOnce(&mut CodedOutputStream<'_>) -> protobuf::Result<()>) {
        let mut out = CodedOutputStream::vec(&mut self.0);
        field(&mut out).and_then(|()| out.flush()).expect("a vector takes all");
    }
}

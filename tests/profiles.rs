//! Profiles of a command, as a reader of pprof sees them, however the command ends.
#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use flate2::read::GzDecoder;
use protobuf::well_known_types::empty::Empty;
use protobuf::{Message, UnknownValueRef};

use crate::cli::{TRAIN, command, stderr};

const CONFIG: &str = "golden/cases/plain_swiglu/config.json";

/// `profile.proto` of pprof, as far as it is looked at.
struct Profile {
    /// Names of values.
    types: Vec<String>,
    /// Places of a stack, the innermost first, and values.
    samples: Vec<(Vec<u64>, Vec<i64>)>,
    /// Of a place the functions.
    functions: Vec<(u64, Vec<String>)>,
}

/// Fields of a message: numbers, and what has a length.
struct Fields(Vec<(u32, u64)>, Vec<(u32, Vec<u8>)>);

impl Fields {
    fn read(bytes: &[u8]) -> Self {
        let message = Empty::parse_from_bytes(bytes).unwrap();
        let mut fields = Self(Vec::new(), Vec::new());
        for (field, value) in message.special_fields.unknown_fields().iter() {
            match value {
                UnknownValueRef::Varint(number) => fields.0.push((field, number)),
                UnknownValueRef::LengthDelimited(bytes) => fields.1.push((field, bytes.to_vec())),
                _ => panic!("field {field} is of another type"),
            }
        }
        fields
    }

    fn numbers(&self, field: u32) -> Vec<u64> {
        self.0.iter().filter(|(f, _)| *f == field).map(|(_, number)| *number).collect()
    }

    fn messages(&self, field: u32) -> impl Iterator<Item = Self> {
        self.bytes(field).map(Self::read)
    }

    fn bytes(&self, field: u32) -> impl Iterator<Item = &[u8]> {
        self.1.iter().filter(move |(f, _)| *f == field).map(|(_, bytes)| &bytes[..])
    }
}

impl Profile {
    fn read(path: &Path) -> Self {
        let mut bytes = Vec::new();
        GzDecoder::new(fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
        let profile = Fields::read(&bytes);
        let strings: Vec<_> =
            profile.bytes(6).map(|s| String::from_utf8(s.to_vec()).unwrap()).collect();
        assert_eq!(strings[0], "");
        let string = |index: u64| strings[index as usize].clone();
        let functions: Vec<_> =
            profile.messages(5).map(|f| (f.numbers(1)[0], string(f.numbers(2)[0]))).collect();
        let name = |id: u64| functions.iter().find(|(f, _)| *f == id).unwrap().1.clone();
        let calls = |location: Fields| {
            let calls = location.messages(4).map(|call| name(call.numbers(1)[0])).collect();
            (location.numbers(1)[0], calls)
        };
        Self {
            types: profile.messages(1).map(|t| string(t.numbers(1)[0])).collect(),
            samples: profile
                .messages(2)
                .map(|s| (s.numbers(1), s.numbers(2).iter().map(|n| *n as i64).collect()))
                .collect(),
            functions: profile.messages(4).map(calls).collect(),
        }
    }

    fn sum(&self, value: &str) -> i64 {
        let index = self.types.iter().position(|t| t == value).unwrap();
        self.samples.iter().map(|(_, values)| values[index]).sum()
    }

    /// The sum of samples with a function of this name on their stacks.
    fn of(&self, value: &str, part: &str) -> i64 {
        let index = self.types.iter().position(|t| t == value).unwrap();
        let is_at = |place: &u64| {
            let (_, calls) = self.functions.iter().find(|(id, _)| id == place).unwrap();
            calls.iter().any(|call| call.contains(part))
        };
        let samples = self.samples.iter().filter(|(stack, _)| stack.iter().any(is_at));
        samples.map(|(_, values)| values[index]).sum()
    }
}

/// A folder for both profiles.
struct Scene(tempfile::TempDir);

impl Scene {
    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments);
        command.arg("--cpuprofile").arg(self.at("cpu.pb.gz"));
        command.arg("--memprofile").arg(self.at("mem.pb.gz"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn profiles(&self) -> [Profile; 2] {
        ["cpu.pb.gz", "mem.pb.gz"].map(|name| Profile::read(&self.at(name)))
    }
}

#[test]
fn profiles_say_where_time_and_memory_went() {
    let scene = Scene(tempfile::tempdir().unwrap());
    let arch = ["arch", "--config", CONFIG, "--train", TRAIN, "--backend", "cpu"];
    let output = scene.run(&[&arch[..], &["--set", "training.steps=300"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let [cpu, mem] = scene.profiles();
    assert_eq!(cpu.types, ["samples", "cpu"]);
    assert_eq!(cpu.sum("cpu"), cpu.sum("samples") * 10_000_000);
    assert!(cpu.of("samples", "mixlab_") > 0, "{} samples", cpu.sum("samples"));
    assert_eq!(mem.types, ["alloc_objects", "alloc_space", "inuse_objects", "inuse_space"]);
    let (taken, held) = (mem.sum("alloc_space"), mem.sum("inuse_space"));
    assert!(0 <= held && held < taken, "{held} of {taken}");
    // Three hundred steps take their gradients again and again.
    assert!(mem.of("alloc_space", "mixlab_") > 10 << 20, "{taken}");
    let top = |(stack, _): &(Vec<u64>, Vec<i64>)| stack.first().copied();
    let of_the_profiler = mem
        .functions
        .iter()
        .filter(|(_, calls)| calls.iter().all(|call| call.contains("mixlab_cli::profile")));
    let of_the_profiler: Vec<u64> = of_the_profiler.map(|(id, _)| *id).collect();
    assert!(!mem.samples.iter().filter_map(top).any(|place| of_the_profiler.contains(&place)));
}

#[test]
fn errors_and_signals_leave_profiles_too() {
    let scene = Scene(tempfile::tempdir().unwrap());
    let failed = scene.run(&["count", "--config", "none.json"]);
    assert_eq!(failed.status.code(), Some(2), "{}", stderr(&failed));
    scene.profiles();
    // The first signal asks a step that would take hours to end, the second does not ask.
    let endless = ["--set", "training.muon_backend_steps=100000000"];
    let arch = ["arch", "--config", CONFIG, "--train", TRAIN, "--backend", "cpu"];
    for name in ["cpu.pb.gz", "mem.pb.gz"] {
        fs::remove_file(scene.at(name)).unwrap();
    }
    let mut command = scene.command(&[&arch[..], &endless].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("IR program")));
    let id = child.id().to_string();
    for _ in 0..2 {
        std::thread::sleep(std::time::Duration::from_millis(500));
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let [cpu, _] = scene.profiles();
    assert!(cpu.sum("samples") > 0);
}

#[test]
fn a_profile_writes_over_profiles_only() {
    let scene = Scene(tempfile::tempdir().unwrap());
    let count = |flag: &str, path: &Path| {
        let mut command = command(&["count", "--config", CONFIG]);
        command.arg(flag).arg(path).output().unwrap()
    };
    for flag in ["--cpuprofile", "--memprofile"] {
        fs::write(scene.at("c.json"), "{}").unwrap();
        let refused = count(flag, &scene.at("c.json"));
        assert_eq!(refused.status.code(), Some(2));
        assert!(stderr(&refused).contains("would write over"), "{}", stderr(&refused));
        assert_eq!(fs::read(scene.at("c.json")).unwrap(), b"{}");
        let refused = count(flag, &scene.at("c.json/p"));
        assert_eq!(refused.status.code(), Some(1));
        assert!(stderr(&refused).contains("cannot write"), "{}", stderr(&refused));
        for _ in 0..2 {
            assert!(count(flag, &scene.at("p")).status.success());
        }
        fs::remove_file(scene.at("p")).unwrap();
    }
}

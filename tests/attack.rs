//! Damage by chance: configs, shards, weights, tokenizers and JSON lines are changed at random and
//! given to the library. Whatever they are, nothing panics, hangs or takes a gigabyte, and every
//! refusal says where, and what to do.
//!
//! Each input follows from its number alone. `MIXLAB_ATTACK=1000000` makes a longer attack, and
//! `MIXLAB_ATTACK=12345..12346` repeats the input of one number.

use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::fs;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use burn_flex::Flex;
use mixlab_burn::data::prepare::{PrepareOptions, prepare};
use mixlab_burn::data::shard::{Layout, write_shard};
use mixlab_burn::data::{Batches, Loader, LoaderConfig};
use mixlab_burn::model::Model;
use mixlab_burn::plan::Plan;
use mixlab_burn::program::Counts;
use mixlab_burn::random::Generator;
use mixlab_burn::weights;

/// Inputs, unless the environment says otherwise.
const INPUTS: usize = 20_000;
/// Longer is a hang.
const PATIENCE: Duration = Duration::from_secs(2);
/// What never ends cannot be told apart from what is slow; then the process ends with its number.
const FOREVER: Duration = Duration::from_secs(60);
const GIGABYTE: usize = 1 << 30;

/// The system's memory, with a note of the largest piece.
struct Watched;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static MEMORY: Watched = Watched;

// SAFETY: passes everything on to the system.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, memory: Memory) -> *mut u8 {
        LARGEST.fetch_max(memory.size(), Ordering::Relaxed);
        unsafe { System.alloc(memory) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, memory: Memory) {
        unsafe { System.dealloc(pointer, memory) }
    }

    unsafe fn alloc_zeroed(&self, memory: Memory) -> *mut u8 {
        LARGEST.fetch_max(memory.size(), Ordering::Relaxed);
        unsafe { System.alloc_zeroed(memory) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, memory: Memory, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Ordering::Relaxed);
        unsafe { System.realloc(pointer, memory, size) }
    }
}

/// What is put into texts: values that something may stumble over.
const PIECES: [&str; 34] = [
    "0",
    "-1",
    "-0",
    "01",
    "1e999",
    "-1e-400",
    "1e38",
    "1e-45",
    "0.5",
    "3",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "NaN",
    "null",
    "true",
    "\"\"",
    "\"x\"",
    "[]",
    "{}",
    "[",
    "}",
    "\"",
    ",",
    ":",
    "`",
    "\\",
    "\\ud800",
    "//",
    "\u{1b}[2J",
];

/// Changes bytes in a few places.
fn damaged(bytes: &[u8], chance: &mut Generator) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + below(chance, 4) {
        let range = stretch(bytes.len(), chance);
        let piece = PIECES[below(chance, PIECES.len())].as_bytes();
        match below(chance, 10) {
            0 => bytes.truncate(range.start),
            1 => drop(bytes.drain(range)),
            2 => {
                let copy = bytes[range].to_vec();
                let at = below(chance, bytes.len() + 1);
                bytes.splice(at..at, copy);
            }
            3 => drop(bytes.splice(range, piece.iter().copied())),
            4 => {
                let many = piece.repeat(1 + below(chance, 3000));
                drop(bytes.splice(range.start..range.start, many));
            }
            5 | 6 => bytes[range].iter_mut().for_each(|byte| *byte = below(chance, 256) as u8),
            _ => {
                let number = number(&bytes, range.start);
                drop(bytes.splice(number, piece.iter().copied()));
            }
        }
    }
    bytes
}

/// A short stretch of `length` bytes.
fn stretch(length: usize, chance: &mut Generator) -> Range<usize> {
    let start = below(chance, length + 1);
    start..length.min(start + below(chance, 12))
}

/// The first number in a text from `start` on, or nothing at its end.
fn number(bytes: &[u8], start: usize) -> Range<usize> {
    let is_digit = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    let begin = bytes[start..].iter().position(is_digit).map_or(bytes.len(), |at| start + at);
    let length = bytes[begin..].iter().take_while(|byte| is_digit(byte)).count();
    begin..begin + length
}

fn below(chance: &mut Generator, limit: usize) -> usize {
    chance.intn(limit as u64) as usize
}

/// What the attack begins with.
struct Originals {
    folder: tempfile::TempDir,
    configs: Vec<Vec<u8>>,
    shard: Vec<u8>,
    weights: Vec<u8>,
    model: Model<Flex>,
    tokenizers: Vec<Vec<u8>>,
    lines: Vec<u8>,
}

const SMALL: &str = r#"{
    "model_dim": 8, "vocab_size": 40, "seq_len": 8,
    "blocks": [{"type": "plain", "heads": 2}, {"type": "swiglu"}], "training": {"batch_tokens": 16}
}"#;
const TEXT: &str = "the small cat sees the old dog. Ein Hund, 23 Katzen: café, naïve, 🐈! ";

impl Originals {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("original");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut configs = files(&root.join("../examples"), ".json");
        configs.extend(files(&root.join("golden/cases"), "config.json"));
        configs.retain(|text| text.len() < 6000);
        write_shard(&path, &(0..700).map(|i| i % 40).collect::<Vec<_>>()).unwrap();
        let shard = fs::read(&path).unwrap();
        let plan = Arc::new(Plan::parse(SMALL, "small.json", &[]).unwrap().plan);
        let model = Model::<Flex>::init(plan.clone(), &Default::default());
        weights::save(&model, &path, &plan.metadata()).unwrap();
        let weights = fs::read(&path).unwrap();
        let input = folder.path().join("text.txt");
        fs::write(&input, TEXT.repeat(20)).unwrap();
        let options = PrepareOptions {
            vocab_size: 120,
            ..PrepareOptions::new(&input, folder.path().join("out"))
        };
        let trained = prepare(&options, &|_| ()).unwrap().tokenizer;
        let mut tokenizers = files(&root.join("cases"), "tokenizer.json");
        tokenizers.retain(|text| text.len() < 20_000);
        tokenizers.push(fs::read(trained).unwrap());
        let line = |i| {
            format!("{{\"id\": {i}, \"meta\": {{\"a\": [1.5, null]}}, \"text\": \"{TEXT}\"}}\n")
        };
        let lines = (0..12).map(line).collect::<String>().into_bytes();
        assert!(configs.len() > 20 && !tokenizers.is_empty());
        Self { folder, configs, shard, weights, model, tokenizers, lines }
    }

    /// Gives the input of `number` to the library. Returns what is wrong with how it took it.
    fn attack(&self, number: usize, thread: usize) -> Result<(), String> {
        let mut chance = Generator::new(number as i64 + 1);
        let place = self.folder.path().join(format!("t{thread}"));
        fs::create_dir_all(&place).unwrap();
        match number % 20 {
            0 | 1 => {
                let path = place.join("shard.bin");
                fs::write(&path, damaged(&self.shard, &mut chance)).unwrap();
                explained(load(&path, &mut chance), "shard.bin")
            }
            2 | 3 => {
                let path = place.join("weights.st");
                fs::write(&path, damaged(&self.weights, &mut chance)).unwrap();
                explained(weights::load(self.model.clone(), &path).map(drop), "weights.st")
            }
            4 => {
                let (text, path) = (place.join("text.txt"), place.join("tokenizer.json"));
                let original = &self.tokenizers[below(&mut chance, self.tokenizers.len())];
                fs::write(&text, TEXT).unwrap();
                fs::write(&path, damaged(original, &mut chance)).unwrap();
                let options = PrepareOptions {
                    tokenizer: Some(path),
                    ..PrepareOptions::new(&text, place.join("out"))
                };
                explained(prepare(&options, &|_| ()).map(drop), "tokenizer.json")
            }
            5 => {
                let path = place.join("lines.jsonl");
                fs::write(&path, damaged(&self.lines, &mut chance)).unwrap();
                let options = PrepareOptions {
                    vocab_size: 80,
                    ..PrepareOptions::new(&path, place.join("out"))
                };
                explained(prepare(&options, &|_| ()).map(drop), "lines.jsonl")
            }
            _ => {
                let original = &self.configs[below(&mut chance, self.configs.len())];
                let text = damaged(original, &mut chance);
                config(&String::from_utf8_lossy(&text), number)
            }
        }
    }
}

/// All files below `folder` whose names end like this, in the order of their names.
fn files(folder: &Path, end: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        if path.is_dir() {
            files(&path, end)
        } else if path.to_string_lossy().ends_with(end) {
            vec![fs::read(&path).unwrap()]
        } else {
            Vec::new()
        }
    };
    paths.into_iter().flat_map(read).collect()
}

/// Plans a config, and counts some of those that are valid.
fn config(text: &str, number: usize) -> Result<(), String> {
    let error = match Plan::parse(text, "attack.json", &[]) {
        Ok(planned) if number.is_multiple_of(4) => {
            let plan: Arc<Plan> = Arc::new(planned.plan);
            Counts::of(&plan).map_err(|error| error.to_string())?;
            return Ok(());
        }
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    for finding in error.findings() {
        if !finding.place.starts_with("attack.json:") || finding.problem.hint.is_none() {
            return Err(format!("no place or no hint: {finding}"));
        }
    }
    let message = error.to_string();
    match message.len() {
        0..200_000 => Ok(()),
        length => Err(format!("a message of {length} bytes: {message:.300}")),
    }
}

/// Reads some batches of a shard.
fn load(path: &Path, chance: &mut Generator) -> Result<(), mixlab_burn::data::DataError> {
    let layout = if below(chance, 4) == 0 { Layout::Raw } else { Layout::Header };
    let mut loader = Loader::new(&LoaderConfig {
        patterns: vec![path.display().to_string()],
        batch_tokens: 16,
        seq_len: 8,
        chunk: 0,
        seed: 1,
        vocab_size: 40,
        layout,
    })?;
    (0..3).try_for_each(|_| loader.next_batch()?.check(8, 40))
}

/// Whether a refusal names the file and the way out.
fn explained<E: std::fmt::Display>(result: Result<(), E>, name: &str) -> Result<(), String> {
    let Err(error) = result else { return Ok(()) };
    let message = error.to_string();
    let good = message.contains(name) && message.contains("\n  hint: ") && message.len() < 20_000;
    if good { Ok(()) } else { Err(format!("no place or no hint: {message:.2000}")) }
}

/// The numbers of the inputs.
fn numbers() -> Range<usize> {
    let given = std::env::var("MIXLAB_ATTACK").unwrap_or_else(|_| INPUTS.to_string());
    let (first, end) = given.split_once("..").unwrap_or(("0", &given));
    let number = |text: &str| text.parse().expect("MIXLAB_ATTACK is a number or `first..end`");
    number(first)..number(end)
}

#[test]
fn damage_by_chance_is_refused_with_place_and_hint() {
    let originals = Originals::new();
    let numbers = numbers();
    let next = AtomicUsize::new(numbers.start);
    let faults = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let working: Vec<Mutex<Option<(usize, Instant)>>> =
        (0..threads).map(|_| Mutex::default()).collect();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let (originals, numbers, next, faults, working) =
                    (&originals, &numbers, &next, &faults, &working);
                scope.spawn(move || {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= numbers.end {
                            *working[thread].lock().unwrap() = None;
                            return;
                        }
                        let run = || {
                            let begin = Instant::now();
                            *working[thread].lock().unwrap() = Some((number, begin));
                            let attacked =
                                catch_unwind(AssertUnwindSafe(|| originals.attack(number, thread)));
                            (attacked.unwrap_or_else(|_| Err("a panic".into())), begin.elapsed())
                        };
                        let (mut outcome, time) = run();
                        // Other tests may have had the cores.
                        if outcome.is_ok() && time > PATIENCE && run().1 > PATIENCE {
                            outcome = Err(format!("it takes {time:?}"));
                        }
                        if let Err(fault) = outcome {
                            faults.lock().unwrap().push(format!("{number}: {fault}"));
                        }
                    }
                })
            })
            .collect();
        while !workers.iter().all(|worker| worker.is_finished()) {
            std::thread::sleep(Duration::from_millis(100));
            let stuck = working.iter().filter_map(|now| *now.lock().unwrap());
            if let Some((number, _)) =
                stuck.into_iter().find(|(_, begin)| begin.elapsed() > FOREVER)
            {
                eprintln!("input {number} does not end");
                std::process::abort();
            }
        }
    });
    let faults = faults.into_inner().unwrap();
    let shown: Vec<_> = faults.iter().take(20).cloned().collect();
    assert!(faults.is_empty(), "{} of {numbers:?} inputs:\n{}", faults.len(), shown.join("\n"));
    assert!(LARGEST.load(Ordering::Relaxed) < GIGABYTE, "a piece of memory of {LARGEST:?} bytes");
}

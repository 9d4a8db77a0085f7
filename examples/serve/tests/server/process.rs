//! A server in a process of its own, with a small model, and a client.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn_flex::Flex;
use mixlab_burn::inference::{Generation, Sampling, Session};
use mixlab_burn::model::Model;
use mixlab_burn::plan::Plan;
use mixlab_burn::weights;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

pub const VOCAB: usize = 64;
pub const SEQ: usize = 96;

/// Attention, a recurrence and a head that both shape.
const BLOCKS: &str = r#"{"type": "plain", "heads": 4, "kv_heads": 2}, {"type": "mamba"},
    {"type": "swiglu"}, {"type": "retnet", "heads": 2}"#;

/// A model, its files, and the process that serves it.
pub struct Server {
    pub session: Session<Flex>,
    pub address: String,
    child: Child,
    _folder: TempDir,
}

impl Server {
    /// A model of attention and recurrences.
    pub fn start(arguments: &[&str]) -> Self {
        Self::of(BLOCKS, SEQ, arguments)
    }

    /// A model of `blocks` for rows of `seq_len` tokens.
    pub fn of(blocks: &str, seq_len: usize, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let config = format!(
            r#"{{"name": "small", "model_dim": 32, "vocab_size": {VOCAB}, "seq_len": {seq_len},
                "training": {{"batch_tokens": {seq_len}, "seed": 5}}, "blocks": [{blocks}]}}"#
        );
        let plan = Arc::new(Plan::parse(&config, "small.json", &[]).unwrap().plan);
        let session = Session::<Flex>::new(
            Model::init(plan.clone(), &Default::default()),
            &Default::default(),
        );
        fs::write(path("small.json"), config).unwrap();
        fs::write(path("tokenizer.json"), tokenizer()).unwrap();
        weights::save(session.model(), &path("small.st"), &plan.metadata()).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_serve"))
            .arg("--config")
            .arg(path("small.json"))
            .arg("--safetensors-load")
            .arg(path("small.st"))
            .args(["--backend", "cpu", "--port", "0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit("http://").next().unwrap().to_owned();
        assert!(line.starts_with("serving `small` on cpu"), "{line}");
        Self { session, address, child, _folder: folder }
    }

    /// What `generate` makes of `prompt`.
    pub fn generated(&self, prompt: &[u16], max_tokens: usize, sampling: Sampling) -> Vec<u16> {
        let options = Generation { max_tokens, sampling, seed: 7, slide: false };
        let go_on = |_, _| std::ops::ControlFlow::Continue(());
        self.session.generate(&[prompt.to_vec()], &options, go_on).unwrap()[0].tokens.clone()
    }

    /// An answer to `body`.
    pub fn complete(&self, body: &Value) -> (u16, Value) {
        let (status, text) = self.ask("POST", "/v1/completions", &body.to_string());
        (status, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}")))
    }

    /// The objects of a streamed answer to `body`.
    pub fn stream(&self, body: &Value) -> Vec<Value> {
        let mut body = body.clone();
        body["stream"] = true.into();
        let (status, text) = self.ask("POST", "/v1/completions", &body.to_string());
        assert_eq!(status, 200, "{text}");
        let mut events: Vec<&str> = text.split_terminator("\n\n").collect();
        assert_eq!(events.pop(), Some("data: [DONE]"), "{text}");
        let data = events.iter().map(|event| event.strip_prefix("data: ").expect("data"));
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    /// Status and body of the answer to a request.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut answer = String::new();
        self.send(method, path, body).read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        (status, if chunked { unchunked(body) } else { body.to_owned() })
    }

    /// A connection on which a request was sent.
    pub fn send(&self, method: &str, path: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all((head + body).as_bytes()).unwrap();
        stream
    }

    /// Rows that run and wait.
    pub fn rows(&self) -> [u64; 2] {
        let health: Value = serde_json::from_str(&self.ask("GET", "/health", "").1).unwrap();
        ["rows_running", "rows_waiting"].map(|name| health[name].as_u64().unwrap())
    }

    /// Waits until so many rows run and wait.
    pub fn wait_for(&self, rows: [u64; 2]) {
        let start = Instant::now();
        while self.rows() != rows {
            assert!(start.elapsed() < Duration::from_secs(20), "{:?}, not {rows:?}", self.rows());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Bytes of memory that the process has; 0 where that cannot be read.
    pub fn memory(&self) -> u64 {
        if !cfg!(target_os = "linux") {
            return 0;
        }
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        // SAFETY: a signal to a process of ours that has not been waited for.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) }, 0);
    }

    /// How the process ended.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The data of chunks.
fn unchunked(mut rest: &str) -> String {
    let mut text = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return text;
        }
        text += &after[..size];
        rest = &after[size + 2..];
    }
    panic!("the last chunk is missing after {text}");
}

/// One token a character: a space, a line break, digits and letters.
fn tokenizer() -> String {
    let characters = "ĠĊ".chars().chain('0'..='9').chain('A'..='Z').chain('a'..='z');
    let vocabulary: Map<String, Value> =
        characters.zip(0u32..).map(|(c, id)| (c.to_string(), id.into())).collect();
    assert_eq!(vocabulary.len(), VOCAB);
    let bytes = |kind: &str| json!({"type": kind, "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": bytes("ByteLevel"), "post_processor": null,
        "decoder": bytes("ByteLevel"),
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
            "byte_fallback": false, "vocab": vocabulary, "merges": []},
    })
    .to_string()
}

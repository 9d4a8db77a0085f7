//! Routes, and what they answer.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tiny_http::{Header, Method, Response};

use crate::answer::{Answer, Choices, Next};
use crate::choice::Piece;
use crate::engine::Row;
use crate::error::ApiError;
use crate::queue::Queue;
use crate::request::{Request, Served};

/// Bytes of a request at most: ids of the longest rows need less.
const MAX_BODY: u64 = 4 << 20;
/// How often a client hears something while it waits: a write that fails says that it has gone away.
const BEAT: Duration = Duration::from_secs(1);

/// What all requests share.
pub struct Server {
    /// What is served.
    pub model: Served,
    /// Rows that wait.
    pub queue: Arc<Queue<Row>>,
    /// How many rows are being continued.
    pub running: Arc<AtomicUsize>,
}

/// What a request gets.
enum Reply<'a> {
    Object(Value),
    Completion(Request, Choices<'a>),
}

impl Server {
    /// Answers the requests to `http` until it is unblocked, and then until all that have come have
    /// their answer.
    pub fn run(&self, http: &tiny_http::Server) {
        thread::scope(|scope| {
            for request in http.incoming_requests() {
                scope.spawn(|| self.answer(request));
            }
        });
    }

    fn answer(&self, mut request: tiny_http::Request) {
        let answered = match self.reply(&mut request) {
            Ok(Reply::Object(object)) => respond(request, 200, &object),
            Ok(Reply::Completion(asked, choices)) => {
                let answer = Answer::new(&self.model.name, &asked);
                if asked.stream {
                    stream(request, &answer, choices, asked.include_usage)
                } else {
                    whole(request, &answer, choices)
                }
            }
            Err(error) => respond(request, error.status, &error.body()),
        };
        // Its client has gone away; its rows have ended with it.
        drop(answered);
    }

    fn reply(&self, request: &mut tiny_http::Request) -> Result<Reply<'_>, ApiError> {
        let path = request.url().split('?').next().unwrap_or_default().to_owned();
        match (request.method(), path.as_str()) {
            (Method::Get, "/health") => Ok(Reply::Object(self.health())),
            (Method::Get, "/v1/models") => {
                Ok(Reply::Object(json!({"object": "list", "data": [self.object()]})))
            }
            (Method::Get, path) if path == format!("/v1/models/{}", self.model.name) => {
                Ok(Reply::Object(self.object()))
            }
            (Method::Post, "/v1/completions") => self.complete(request),
            (_, "/health" | "/v1/models" | "/v1/completions") => {
                Err(ApiError::new(405, format!("`{path}` does not take this method")))
            }
            _ => Err(ApiError::new(404, format!("there is no `{path}`"))),
        }
    }

    fn health(&self) -> Value {
        json!({
            "status": "ok",
            "rows_running": self.running.load(Ordering::Relaxed),
            "rows_waiting": self.queue.len(),
        })
    }

    fn object(&self) -> Value {
        let Served { name, since, .. } = &self.model;
        json!({"id": name, "object": "model", "created": since, "owned_by": "mixlab-burn"})
    }

    /// Puts the rows that are asked for into the queue, all or none.
    fn complete(&self, request: &mut tiny_http::Request) -> Result<Reply<'_>, ApiError> {
        let mut body = Vec::new();
        let read = request.as_reader().take(MAX_BODY + 1).read_to_end(&mut body);
        read.map_err(|error| ApiError::new(400, format!("the request does not arrive: {error}")))?;
        if body.len() as u64 > MAX_BODY {
            return Err(ApiError::new(413, format!("a request has at most `{MAX_BODY}` bytes")));
        }
        let asked = Request::parse(&body, &self.model)?;
        let seed = asked.seed.unwrap_or_else(|| RandomState::new().hash_one(()) as i64);
        let (choices, rows) = Choices::new(&asked, seed, self.model.tokenizer.as_ref());
        if !self.queue.add(rows) {
            let message = "too many rows wait already\n  hint: try again later";
            return Err(ApiError::new(429, message));
        }
        Ok(Reply::Completion(asked, choices))
    }
}

/// One object with all choices. If that takes long, spaces come before it.
fn whole(request: tiny_http::Request, answer: &Answer, mut choices: Choices<'_>) -> io::Result<()> {
    let mut request = Some(request);
    let (mut begun, mut beat) = (None::<Chunks>, Instant::now());
    let mut pieces: Vec<Piece> = Vec::new();
    let (status, object) = loop {
        match choices.next(BEAT) {
            Next::Piece(piece) => match pieces.iter_mut().find(|p| p.index == piece.index) {
                Some(before) => before.add(piece),
                None => pieces.push(piece),
            },
            Next::Nothing => {}
            Next::Failed(message) => break (500, ApiError::new(500, message).body()),
            Next::End => {
                pieces.sort_by_key(|piece| piece.index);
                let written = pieces.iter().map(|piece| piece.tokens.len()).sum();
                break (200, answer.with_usage(answer.object(&pieces), written));
            }
        }
        if beat.elapsed() >= BEAT {
            if let Some(request) = request.take() {
                begun = Some(Chunks::begin(request, JSON)?);
            }
            begun.iter_mut().try_for_each(|chunks| chunks.send(" "))?;
            beat = Instant::now();
        }
    };
    match (request, begun) {
        (Some(request), _) => respond(request, status, &object),
        (None, Some(mut chunks)) => chunks.send(&object.to_string()).and_then(|()| chunks.end()),
        (None, None) => Ok(()),
    }
}

/// An event for each piece as it comes, the usage if it is asked for, and the end.
fn stream(
    request: tiny_http::Request,
    answer: &Answer,
    mut choices: Choices<'_>,
    include_usage: bool,
) -> io::Result<()> {
    let mut chunks = Chunks::begin(request, "text/event-stream")?;
    let mut written = 0;
    loop {
        match choices.next(BEAT) {
            Next::Piece(piece) => {
                written += piece.tokens.len();
                if answer.shows(&piece) {
                    chunks.event(&answer.object([&piece]).to_string())?;
                }
            }
            Next::Nothing => chunks.send(": it waits\n\n")?,
            Next::Failed(message) => {
                chunks.event(&ApiError::new(500, message).body().to_string())?
            }
            Next::End => break,
        }
    }
    if include_usage {
        chunks.event(&answer.with_usage(answer.object([]), written).to_string())?;
    }
    chunks.event("[DONE]")?;
    chunks.end()
}

const JSON: &str = "application/json";

fn respond(request: tiny_http::Request, status: u16, object: &Value) -> io::Result<()> {
    let kind = Header::from_bytes("Content-Type", JSON).expect("a header");
    let response = Response::from_string(object.to_string());
    request.respond(response.with_status_code(status).with_header(kind))
}

/// The body of an answer that comes in parts.
struct Chunks(Box<dyn Write + Send>);

impl Chunks {
    fn begin(request: tiny_http::Request, kind: &str) -> io::Result<Self> {
        let mut writer = request.into_writer();
        write!(
            writer,
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
        )?;
        writer.flush()?;
        Ok(Self(writer))
    }

    fn event(&mut self, data: &str) -> io::Result<()> {
        self.send(&format!("data: {data}\n\n"))
    }

    fn send(&mut self, text: &str) -> io::Result<()> {
        write!(self.0, "{:x}\r\n{text}\r\n", text.len())?;
        self.0.flush()
    }

    fn end(&mut self) -> io::Result<()> {
        self.0.write_all(b"0\r\n\r\n")?;
        self.0.flush()
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

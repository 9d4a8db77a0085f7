//! Many clients at once get what `generate` gives, and the server does not grow.

use std::env;
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mixlab_burn::inference::Sampling;
use serde_json::{Value, json};

use crate::process::{SEQ, Server, VOCAB};

const CLIENTS: usize = 64;
/// Memory that may come and go: buffers of requests, stacks, what the allocator keeps.
const SLACK: u64 = 16 << 20;

/// What a client asks for, and the only right answer.
struct Case {
    body: Value,
    tokens: Value,
}

/// Prompts of all lengths, greedy and drawn.
fn cases(server: &Server) -> Vec<Case> {
    let case = |i: usize| {
        let length = 1 + i * 5 % (SEQ - 1);
        let prompt: Vec<u16> =
            (0..length).map(|at| ((i * 17 + at * at * 3 + at * 5) % VOCAB) as u16).collect();
        let temperature = if i.is_multiple_of(4) { 1.0 } else { 0.0 };
        let max_tokens = 1 + i * 7 % 40;
        let sampling = Sampling { temperature, top_k: 0, ..Sampling::default() };
        let tokens = server.generated(&prompt, max_tokens, sampling);
        let body = json!({"prompt": prompt, "max_tokens": max_tokens, "temperature": temperature,
            "seed": 7, "return_token_ids": true});
        Case { body, tokens: json!(tokens) }
    };
    (0..40).map(case).collect()
}

/// Asks in one of three ways: for the whole answer, for a stream, or without waiting for the answer.
fn request(server: &Server, Case { body, tokens }: &Case, way: usize) {
    match way {
        0 => {
            let mut body = body.clone();
            body["stream"] = true.into();
            let mut connection = server.send("POST", "/v1/completions", &body.to_string());
            // The first bytes of the answer, and gone.
            assert_eq!(connection.read(&mut [0; 12]).unwrap(), 12);
        }
        1 | 2 => {
            let events = server.stream(body);
            let ids = events.iter().flat_map(|event| {
                event["choices"][0]["token_ids"].as_array().unwrap().iter().cloned()
            });
            assert_eq!(&Value::Array(ids.collect()), tokens, "{body}");
        }
        _ => {
            let (status, answer) = server.complete(body);
            assert_eq!((status, &answer["choices"][0]["token_ids"]), (200, tokens), "{body}");
        }
    }
}

#[test]
fn clients_side_by_side_get_what_generate_gives_and_memory_is_flat() {
    let seconds = env::var("MIXLAB_SERVE_SECONDS").map_or(4.0, |s| s.parse().unwrap());
    let server = Server::start(&[]);
    let (cases, answered) = (cases(&server), AtomicUsize::new(0));
    let start = Instant::now();
    let early = thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (server, cases, answered) = (&server, &cases, &answered);
            scope.spawn(move || {
                for turn in 0.. {
                    request(
                        server,
                        &cases[(client * 11 + turn * 3) % cases.len()],
                        (client + turn) % 8,
                    );
                    answered.fetch_add(1, Ordering::Relaxed);
                    if start.elapsed().as_secs_f64() > seconds {
                        break;
                    }
                }
            });
        }
        thread::sleep(Duration::from_secs_f64(seconds / 2.0));
        server.memory()
    });
    server.wait_for([0, 0]);
    let (late, answered) = (server.memory(), answered.into_inner());
    println!(
        "{answered} answers in {:.1} s; memory {early} then {late} bytes",
        start.elapsed().as_secs_f64()
    );
    assert!(answered >= 2 * CLIENTS, "{answered} answers");
    assert!(late < early + SLACK, "memory grew from {early} to {late} bytes");
}

//! What single clients get.

use std::io::Read;
use std::thread;

use mixlab_burn::inference::Sampling;
use serde_json::{Value, json};

use crate::process::{SEQ, Server};

/// So many tokens that no test waits for the last.
const LONG: usize = 200_000;

fn endless(arguments: &[&str]) -> Server {
    Server::of(r#"{"type": "mamba"}"#, LONG, arguments)
}

fn greedy() -> Sampling {
    Sampling { temperature: 0.0, ..Sampling::default() }
}

/// A field of the only choice of each object, as one text.
fn joined(events: &[Value], index: u64) -> String {
    let choices = events.iter().flat_map(|event| event["choices"].as_array().unwrap());
    choices.filter(|c| c["index"] == index).map(|c| c["text"].as_str().unwrap()).collect()
}

#[test]
fn malformed_requests_get_4xx_and_an_error_object() {
    let server = Server::start(&[]);
    let long = vec![1; SEQ];
    let cases = [
        ("{", 400, Value::Null),
        ("[]", 400, Value::Null),
        (r#"{"prompt": "a", "n": -1}"#, 400, Value::Null),
        (r#"{"prompt": "a", "temperature": "warm"}"#, 400, Value::Null),
        (r#"{"prompt": "a", "temperature": -1}"#, 400, Value::Null),
        (r#"{"prompt": "a", "top_p": 0}"#, 400, Value::Null),
        (r#"{"prompt": "a", "tokens": 3}"#, 400, Value::Null),
        (r#"{"prompt": "a", "model": "large"}"#, 404, Value::Null),
        (r#"{}"#, 400, "prompt".into()),
        (r#"{"prompt": ""}"#, 400, "prompt".into()),
        (r#"{"prompt": []}"#, 400, "prompt".into()),
        (r#"{"prompt": [[1], []]}"#, 400, "prompt".into()),
        (r#"{"prompt": 3}"#, 400, "prompt".into()),
        (r#"{"prompt": [1, 64]}"#, 400, "prompt".into()),
        (r#"{"prompt": [1, "a"]}"#, 400, "prompt".into()),
        (&format!(r#"{{"prompt": {long:?}}}"#), 400, "prompt".into()),
        (r#"{"prompt": "a", "max_tokens": 0}"#, 400, "max_tokens".into()),
        (r#"{"prompt": "a", "n": 0}"#, 400, "n".into()),
        (r#"{"prompt": ["a", "b"], "n": 200}"#, 400, "n".into()),
        (r#"{"prompt": "a", "stop": 3}"#, 400, "stop".into()),
        (r#"{"prompt": "a", "stop": ["1", "2", "3", "4", "5"]}"#, 400, "stop".into()),
        (r#"{"prompt": "a", "echo": true}"#, 400, "echo".into()),
    ];
    for (body, expected, param) in cases {
        let (status, text) = server.ask("POST", "/v1/completions", body);
        let error = &serde_json::from_str::<Value>(&text).unwrap()["error"];
        assert_eq!((status, &error["param"]), (expected, &param), "{body}: {text}");
        assert_eq!(error["type"], "invalid_request_error", "{body}: {text}");
        assert!(!error["message"].as_str().unwrap().is_empty(), "{body}: {text}");
    }
    for (method, path, expected) in
        [("GET", "/v1/completions", 405), ("POST", "/v1/chat", 404), ("GET", "/v1/models/x", 404)]
    {
        let (status, text) = server.ask(method, path, "");
        assert_eq!(status, expected, "{text}");
        assert_eq!(
            serde_json::from_str::<Value>(&text).unwrap()["error"]["type"],
            "invalid_request_error"
        );
    }
    let (status, text) = server.ask("POST", "/v1/completions", &" ".repeat((4 << 20) + 1));
    assert_eq!(status, 413, "{text}");
    assert!(text.starts_with(r#"{"error":"#), "{text}");
    assert_eq!(server.rows(), [0, 0]);
}

#[test]
fn a_stream_has_the_text_of_the_whole_answer() {
    let server = Server::start(&[]);
    let body = json!({"prompt": ["Once", "upon a"], "n": 2, "max_tokens": 24, "seed": 3, "model": "small"});
    let (status, whole) = server.complete(&body);
    assert_eq!(
        (status, &whole["object"], &whole["model"]),
        (200, &json!("text_completion"), &json!("small"))
    );
    assert_eq!(
        whole["usage"],
        json!({"prompt_tokens": 10, "completion_tokens": 96, "total_tokens": 106})
    );
    let mut streamed = body.clone();
    streamed["stream_options"] = json!({"include_usage": true});
    let events = server.stream(&streamed);
    assert_eq!(events.last().unwrap()["usage"], whole["usage"]);
    let choices = whole["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 4);
    for (index, choice) in (0..).zip(choices) {
        assert_eq!((&choice["index"], &choice["finish_reason"]), (&json!(index), &json!("length")));
        assert_eq!(joined(&events, index), choice["text"], "{index}");
        assert_eq!(choice["text"].as_str().unwrap().len(), 24);
    }
    // The seed of a row is that of the request and its number.
    assert_ne!(choices[0]["text"], choices[1]["text"]);
    let second = json!({"prompt": "Once", "max_tokens": 24, "seed": 4});
    assert_eq!(server.complete(&second).1["choices"][0]["text"], choices[1]["text"]);
}

#[test]
fn a_row_ends_before_a_stop_text_and_at_the_length_of_the_model() {
    let server = Server::start(&[]);
    let body = json!({"prompt": "Once", "max_tokens": 40, "seed": 3});
    let text = server.complete(&body).1["choices"][0]["text"].as_str().unwrap().to_owned();
    let stop = &text[9..12];
    let mut stopped = body.clone();
    stopped["stop"] = json!([stop, "no such text"]);
    let (_, answer) = server.complete(&stopped);
    let at = text.find(stop).unwrap();
    assert_eq!(answer["choices"][0]["text"], text[..at]);
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(joined(&server.stream(&stopped), 0), text[..at]);

    let prompt = vec![3; SEQ - 5];
    let long =
        json!({"prompt": prompt, "max_tokens": 50, "temperature": 0, "return_token_ids": true});
    let choice = &server.complete(&long).1["choices"][0];
    let prompt: Vec<u16> = vec![3; SEQ - 5];
    assert_eq!(choice["token_ids"], json!(server.generated(&prompt, 50, greedy())));
    assert_eq!(
        (choice["token_ids"].as_array().unwrap().len(), &choice["finish_reason"]),
        (5, &json!("length"))
    );
}

#[test]
fn the_model_and_its_health_are_told() {
    let server = Server::start(&[]);
    let get =
        |path: &str| -> Value { serde_json::from_str(&server.ask("GET", path, "").1).unwrap() };
    assert_eq!(get("/v1/models")["data"][0]["id"], "small");
    assert_eq!(get("/v1/models/small")["object"], "model");
    assert_eq!(get("/health"), json!({"status": "ok", "rows_running": 0, "rows_waiting": 0}));
}

#[test]
fn a_full_queue_answers_429_and_a_client_that_goes_away_frees_its_row() {
    let server = endless(&["--max-rows", "1", "--max-waiting", "1"]);
    let body =
        |stream: bool| json!({"prompt": [1], "max_tokens": LONG, "stream": stream}).to_string();
    let mut first = server.send("POST", "/v1/completions", &body(true));
    first.read_exact(&mut [0; 12]).unwrap();
    server.wait_for([1, 0]);
    let second = server.send("POST", "/v1/completions", &body(false));
    server.wait_for([1, 1]);
    let (status, text) = server.ask("POST", "/v1/completions", &body(false));
    assert_eq!(status, 429, "{text}");
    assert!(text.contains("rate_limit_error"), "{text}");
    // The second one takes the place of the first, and then nobody does.
    drop(first);
    server.wait_for([1, 0]);
    drop(second);
    server.wait_for([0, 0]);
    assert_eq!(server.complete(&json!({"prompt": [1], "max_tokens": 2})).0, 200);
}

#[test]
fn a_server_that_is_told_to_end_answers_those_who_have_asked() {
    let mut server = endless(&[]);
    let body = json!({"prompt": [1], "max_tokens": 3000, "stream": true}).to_string();
    let mut connection = server.send("POST", "/v1/completions", &body);
    connection.read_exact(&mut [0; 12]).unwrap();
    server.terminate();
    let reader = thread::spawn(move || {
        let mut rest = String::new();
        connection.read_to_string(&mut rest).unwrap();
        rest
    });
    assert_eq!(server.wait(), Some(0));
    let rest = reader.join().unwrap();
    assert!(
        rest.contains(r#""finish_reason":"length""#) && rest.contains("data: [DONE]"),
        "{rest}"
    );
    assert!(std::net::TcpStream::connect(&server.address).is_err());
}

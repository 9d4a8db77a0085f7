//! Errors as clients of OpenAI's API expect them.

use serde_json::{Value, json};

/// Why a request has no answer.
#[derive(Debug)]
pub struct ApiError {
    /// Status of the answer.
    pub status: u16,
    message: String,
    /// The field of the request that is wrong.
    param: Option<&'static str>,
}

impl ApiError {
    /// An error that is not about a field.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None }
    }

    /// A request whose field `param` is wrong.
    pub fn field(param: &'static str, message: impl Into<String>) -> Self {
        Self { status: 400, message: message.into(), param: Some(param) }
    }

    /// The object that says so.
    pub fn body(&self) -> Value {
        let (kind, code) = match self.status {
            429 => ("rate_limit_error", Some("queue_full")),
            404 => ("invalid_request_error", Some("not_found")),
            400..=499 => ("invalid_request_error", None),
            _ => ("server_error", None),
        };
        let Self { message, param, .. } = self;
        json!({"error": {"message": message, "type": kind, "param": param, "code": code}})
    }
}

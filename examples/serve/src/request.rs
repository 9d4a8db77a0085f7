//! What a client asks for: the fields of `/v1/completions`, checked.

use mixlab_burn::data::text::TextTokenizer;
use mixlab_burn::inference::Sampling;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::ApiError;

/// The fields, as they are written; `null` is as good as none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    prompt: Option<Value>,
    model: Option<String>,
    max_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f64>,
    top_k: Option<usize>,
    min_p: Option<f64>,
    repetition_penalty: Option<f64>,
    n: Option<usize>,
    seed: Option<i64>,
    stop: Option<Value>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    return_token_ids: Option<bool>,
    #[serde(rename = "user")]
    _user: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamOptions {
    include_usage: Option<bool>,
}

/// A request that can be carried out.
#[derive(Debug)]
pub struct Request {
    /// Token ids that rows begin with.
    pub prompts: Vec<Vec<u16>>,
    /// Rows for each prompt.
    pub n: usize,
    /// Tokens that each row gets at most.
    pub max_tokens: usize,
    /// How each of them is drawn.
    pub sampling: Sampling,
    /// Row `i` of a prompt draws with `seed + i`.
    pub seed: Option<i64>,
    /// Texts that end a row.
    pub stop: Vec<String>,
    /// Whether tokens are sent as they come.
    pub stream: bool,
    /// Whether a stream ends with the number of tokens.
    pub include_usage: bool,
    /// Whether choices have their token ids.
    pub return_token_ids: bool,
}

/// The model that is served, as far as requests depend on it.
pub struct Served {
    /// What it is called.
    pub name: String,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// Token ids are below it.
    pub vocab: usize,
    /// Tokens of prompt and completion at most.
    pub seq_len: usize,
    /// Rows of one request at most.
    pub max_rows: usize,
    /// Without one, prompts are token ids.
    pub tokenizer: Option<TextTokenizer>,
}

/// Fields of OpenAI that clients send, which nothing here acts on.
const ABSENT: [&str; 7] = [
    "best_of",
    "echo",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "presence_penalty",
    "suffix",
];

/// Whether a field of [`ABSENT`] asks for nothing.
fn is_neutral(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// OpenAI's default.
const MAX_TOKENS: usize = 16;

impl Request {
    /// Reads and checks the body of a request to `model`.
    ///
    /// # Errors
    /// With the first field that is wrong.
    pub fn parse(body: &[u8], model: &Served) -> Result<Self, ApiError> {
        let refused = |error: serde_json::Error| {
            ApiError::new(400, format!("the request is no valid JSON object: {error}"))
        };
        let mut fields: Map<String, Value> = serde_json::from_slice(body).map_err(refused)?;
        for name in ABSENT {
            if fields.remove(name).is_some_and(|value| !is_neutral(&value)) {
                return Err(ApiError::field(name, format!("this server has no `{name}`")));
            }
        }
        let body: Body = serde_json::from_value(fields.into()).map_err(refused)?;
        if let Some(name) = body.model.as_ref().filter(|name| **name != model.name) {
            let message =
                format!("`{name}` is not served here\n  hint: the model is `{}`", model.name);
            return Err(ApiError::new(404, message));
        }
        let sampling = body.sampling()?;
        let prompts = model.prompts(body.prompt.unwrap_or_default())?;
        let stop = texts(body.stop.unwrap_or_default())?;
        if model.tokenizer.is_none() && !stop.is_empty() {
            return Err(ApiError::field("stop", "there is no tokenizer, so no text to look for"));
        }
        let n = at_least_one("n", body.n.unwrap_or(1))?;
        let max_tokens = at_least_one("max_tokens", body.max_tokens.unwrap_or(MAX_TOKENS))?;
        if prompts.len().saturating_mul(n) > model.max_rows {
            let message = format!(
                "`{n}` rows for each of `{}` prompts are more than the `{}` that may wait",
                prompts.len(),
                model.max_rows
            );
            return Err(ApiError::field("n", message));
        }
        Ok(Self {
            prompts,
            n,
            max_tokens,
            sampling,
            seed: body.seed,
            stop,
            stream: body.stream.unwrap_or(false),
            include_usage: body.stream_options.is_some_and(|o| o.include_usage == Some(true)),
            return_token_ids: body.return_token_ids.unwrap_or(model.tokenizer.is_none()),
        })
    }
}

impl Body {
    fn sampling(&self) -> Result<Sampling, ApiError> {
        let sampling = Sampling {
            temperature: self.temperature.unwrap_or(1.0),
            top_k: self.top_k.unwrap_or(0),
            top_p: self.top_p.unwrap_or(1.0),
            min_p: self.min_p.unwrap_or(0.0),
            repetition_penalty: self.repetition_penalty.unwrap_or(1.0),
        };
        let refused =
            |error: mixlab_burn::inference::SessionError| ApiError::new(400, error.to_string());
        sampling.check().map_err(refused).map(|()| sampling)
    }
}

impl Served {
    /// The prompts of a request: a text, ids, or a list of either.
    fn prompts(&self, prompt: Value) -> Result<Vec<Vec<u16>>, ApiError> {
        let prompts = match prompt {
            Value::Array(items) if !items.iter().any(Value::is_number) => items,
            one => vec![one],
        };
        if prompts.is_empty() {
            return Err(ApiError::field("prompt", "there is no prompt"));
        }
        prompts.iter().map(|prompt| self.prompt(prompt)).collect()
    }

    fn prompt(&self, prompt: &Value) -> Result<Vec<u16>, ApiError> {
        let wrong = |message: String| ApiError::field("prompt", message);
        let ids = match (prompt, &self.tokenizer) {
            (Value::String(text), Some(tokenizer)) => {
                tokenizer.encode(text, self.vocab).map_err(|error| wrong(error.to_string()))?
            }
            (Value::String(_), None) => {
                let hint = "give token ids, or start the server with `--tokenizer FILE`";
                return Err(wrong(format!("there is no tokenizer for text\n  hint: {hint}")));
            }
            (Value::Array(ids), _) => {
                ids.iter().map(|id| self.id(id)).collect::<Result<Vec<u16>, _>>()?
            }
            _ => return Err(wrong("a prompt is a text or a list of token ids".into())),
        };
        if ids.is_empty() {
            return Err(wrong("a prompt has one token or more".into()));
        }
        if ids.len() >= self.seq_len {
            let Self { seq_len, .. } = self;
            let tokens = ids.len();
            let message = format!(
                "`{tokens}` tokens leave no room for more: the model sees `{seq_len}` at once\n  hint: give fewer"
            );
            return Err(wrong(message));
        }
        Ok(ids)
    }

    fn id(&self, id: &Value) -> Result<u16, ApiError> {
        let known = id.as_u64().and_then(|id| u16::try_from(id).ok());
        known.filter(|id| usize::from(*id) < self.vocab).ok_or_else(|| {
            let message = format!("`{id}` is no token id\n  hint: use 0 to `{}`", self.vocab - 1);
            ApiError::field("prompt", message)
        })
    }
}

/// OpenAI takes no more.
const STOPS: usize = 4;

fn texts(stop: Value) -> Result<Vec<String>, ApiError> {
    let wrong = || ApiError::field("stop", format!("give a text, or a list of {STOPS} at most"));
    let texts = match stop {
        Value::Null => vec![],
        Value::String(text) => vec![text],
        Value::Array(texts) if texts.len() <= STOPS => texts
            .into_iter()
            .map(|text| text.as_str().map(str::to_owned).ok_or_else(wrong))
            .collect::<Result<_, _>>()?,
        _ => return Err(wrong()),
    };
    Ok(texts)
}

fn at_least_one(name: &'static str, value: usize) -> Result<usize, ApiError> {
    if value == 0 {
        Err(ApiError::field(name, format!("`{name}` is 0\n  hint: use 1 or more")))
    } else {
        Ok(value)
    }
}

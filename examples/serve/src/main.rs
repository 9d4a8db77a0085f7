//! Serves a trained model over HTTP, with the completions API of OpenAI.
//!
//! ```sh
//! cargo run --release -p serve -- --config c.json --safetensors-load model.st --tokenizer data/tokenizer.json
//! curl localhost:8000/v1/completions -d '{"prompt": "Once upon", "max_tokens": 20}'
//! ```
//!
//! [`engine`] has the model, in the main thread: it continues the rows of all requests in one batch,
//! which rows join and leave between steps. [`http`] answers each request in a thread of its own: it
//! puts the rows that are asked for into a [`queue`] of bounded length, and writes the tokens that come
//! back through a channel. Where a write fails the client has gone away, and its rows end.

mod answer;
mod choice;
mod engine;
mod error;
mod http;
mod queue;
mod request;

use std::io::Write;
use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::{process, thread};

use anyhow::Context;
use burn::tensor::backend::AutodiffBackend;
use clap::Parser;
use mixlab_burn::blocks::Builtin;
use mixlab_burn::data::text::TextTokenizer;
use mixlab_burn::inference::Session;
use mixlab_burn::ops::Backend;
use mixlab_burn::plan::Plan;
use mixlab_cli::backend::{self, Compute, Job, Place};

use crate::engine::{Engine, Row};
use crate::http::{Server, now};
use crate::queue::Queue;
use crate::request::Served;

/// Serve a trained model over HTTP, with the completions API of OpenAI.
#[derive(Parser)]
struct Options {
    /// Config that the weights were trained with
    #[arg(long, value_name = "FILE")]
    config: String,
    /// Override a value of the config
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Trained weights
    #[arg(long, value_name = "FILE")]
    safetensors_load: PathBuf,
    /// tokenizer.json for text [default: beside the weights or the config; without one, token ids only]
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    #[command(flatten)]
    compute: Compute,
    /// Address to listen at
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port to listen at; 0 for a free one
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// Rows in one step at most
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    max_rows: u16,
    /// Rows that may wait for a place; more are refused with status 429
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    max_waiting: u16,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    backend::use_threads(&options.compute)?;
    let plan = Arc::new(Plan::<Builtin>::read(&options.config, &options.set)?.plan);
    let tokenizer = tokenizer(&options)?.map(|path| TextTokenizer::open(&path)).transpose()?;
    let address = (options.host, options.port);
    let listener = TcpListener::bind(address)
        .with_context(|| format!("cannot listen at `{}:{}`", options.host, options.port))?;
    backend::run(&options.compute, Serve { options: &options, plan, tokenizer, listener })
}

/// The tokenizer that is named, or that lies beside the weights or the config.
fn tokenizer(options: &Options) -> anyhow::Result<Option<PathBuf>> {
    if options.tokenizer.is_some() {
        return Ok(options.tokenizer.clone());
    }
    let beside = [options.safetensors_load.as_path(), Path::new(&options.config)];
    let mut places = beside.iter().map(|file| file.with_file_name("tokenizer.json"));
    Ok(places.find(|path| path.is_file()))
}

/// What is served, ready to go to a backend.
struct Serve<'a> {
    options: &'a Options,
    plan: Arc<Plan>,
    tokenizer: Option<TextTokenizer>,
    listener: TcpListener,
}

impl Job for Serve<'_> {
    fn run<A>(self, device: A::Device, place: &Place) -> anyhow::Result<()>
    where
        A: AutodiffBackend<InnerBackend: Backend> + Backend,
    {
        let Self { options, plan, tokenizer, listener } = self;
        let session = Session::<A::InnerBackend, Builtin>::load(
            plan.clone(),
            &options.safetensors_load,
            &device,
        )?;
        let address = listener.local_addr()?;
        let queue = Arc::new(Queue::<Row>::new(options.max_waiting.into()));
        let running = Arc::new(AtomicUsize::new(0));
        let model = Served {
            name: plan.name.clone(),
            since: now(),
            vocab: plan.vocab,
            seq_len: plan.seq_len,
            max_rows: queue.most(),
            tokenizer,
        };
        let server = Server { model, queue: queue.clone(), running: running.clone() };
        let http = tiny_http::Server::from_listener(listener, None);
        let http = Arc::new(http.map_err(|error| anyhow::anyhow!("cannot listen: {error}"))?);
        end_on_signal(http.clone())?;
        println!("serving `{}` on {place} at http://{address}", plan.name);
        std::io::stdout().flush()?;
        let answering = thread::Builder::new().name("http".into()).spawn(move || {
            server.run(&http);
            server.queue.close();
        })?;
        // Ends when the queue is closed.
        Engine::new(&session, &queue, options.max_rows.into(), &running).run();
        answering.join().expect("the server does not panic");
        Ok(())
    }
}

/// Ends the server on Ctrl-C or SIGTERM when those that have asked are answered; the second one ends
/// the process.
fn end_on_signal(http: Arc<tiny_http::Server>) -> anyhow::Result<()> {
    let told = AtomicBool::new(false);
    ctrlc::set_handler(move || {
        if told.swap(true, Ordering::Relaxed) {
            process::exit(130);
        }
        eprintln!("note: answers to who has asked; Ctrl-C again ends at once");
        http.unblock();
    })
    .context("cannot listen for Ctrl-C")
}

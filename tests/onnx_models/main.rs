//! Exports models of configs, given ones or ones that are drawn by chance, and compares each file with its
//! model: `tests/onnx/models.py` has ONNX check the same files.
//!
//! ```text
//! onnx-models FOLDER COUNT [FIRST]     random configs of the seeds FIRST, FIRST + 1 …
//! onnx-models FOLDER CONFIG.json …     the configs of files, on rows of at most 32 tokens
//! ```

mod custom;
mod draw;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData, backend::Backend};
use burn_flex::Flex;
use draw::Chance;
use mixlab_burn::blocks::Builtin;
use mixlab_burn::inference::Session;
use mixlab_burn::model::Model;
use mixlab_burn::onnx::{
    OnnxError, Options, Profile, Traced, parity, trace_genai, trace_model, trace_stateful,
};
use mixlab_burn::plan::Plan;
use serde_json::Value;

/// The largest difference that passes, as a share of the largest logit.
const TOLERANCE: f32 = 1e-4;
/// The difference that most files have to be within.
const CLOSE: f32 = 1e-5;
/// Tokens in a row of a model that is given.
const SHORT: usize = 32;
/// Configs that are drawn for one that can be planned.
const DRAWS: usize = 100;

/// Moves all weights off their start values, so that gates and scales matter.
struct Moved<'a>(&'a mut Chance);

impl<B: Backend> ModuleMapper<B> for Moved<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        param.map(|value| {
            let shape = value.dims();
            let count = shape.iter().product::<usize>();
            let noise = (0..count).map(|_| 0.1 * self.0.normal()).collect();
            let noise = Tensor::from_data(TensorData::new(noise, shape), &value.device());
            value + noise
        })
    }
}

/// The first config of the stream `chance` that can be planned.
fn planned(chance: &mut Chance, name: &str) -> Result<(Arc<Plan>, Value), String> {
    let mut last = String::new();
    for _ in 0..DRAWS {
        let config = draw::config(chance, name);
        match Plan::parse(&config.to_string(), name, &[]) {
            Ok(planned) => return Ok((Arc::new(planned.plan), config)),
            Err(error) => last = error.to_string(),
        }
    }
    Err(format!("no config of {DRAWS} can be planned; the last: {last}"))
}

/// One kind of file.
type Kind = (&'static str, Profile, fn(&Arc<Plan>) -> Result<Traced, OnnxError>);

const KINDS: [Kind; 5] = [
    ("portable", Profile::Portable, trace_model),
    ("modern", Profile::Modern, trace_model),
    ("portable-stateful", Profile::Portable, trace_stateful),
    ("modern-stateful", Profile::Modern, trace_stateful),
    ("genai-stateful", Profile::Genai, |plan| trace_genai(plan).map(|(traced, _)| traced)),
];

/// A plan, and the stream that its weights come from.
type Drawn = (Arc<Plan>, Chance);

/// The config of one seed, which is written to `folder`.
fn random(seed: usize, folder: &Path) -> Result<Drawn, String> {
    let mut chance = Chance::new(seed as i64 + 1);
    let name = format!("random{seed}");
    let (plan, config) = planned(&mut chance, &name)?;
    std::fs::write(folder.join(format!("{name}.json")), format!("{config:#}"))
        .map_err(|error| error.to_string())?;
    Ok((plan, chance))
}

/// The config of a file, with short rows.
fn given(path: &str) -> Result<Drawn, String> {
    let read = |overrides: &[String]| {
        let planned = Plan::<Builtin>::read(path, overrides).map_err(|error| error.to_string())?;
        Ok::<_, String>(Arc::new(planned.plan))
    };
    let plan = read(&[])?;
    let short = plan.seq_len.min(SHORT);
    let overrides = [format!("seq_len={short}"), format!("training.batch_tokens={short}")];
    Ok((read(&overrides)?, Chance::new(1)))
}

/// Exports a model in all ways; the largest difference of each file.
fn check((plan, mut chance): Drawn, folder: &Path) -> Result<Vec<(String, f32)>, String> {
    let device = Default::default();
    let model = Model::<Flex>::init(plan.clone(), &device).map(&mut Moved(&mut chance));
    let session = Session::new(model, &device);
    let kinds =
        KINDS.iter().filter(|(kind, ..)| plan.is_streaming() || !kind.ends_with("stateful"));
    let mut found = Vec::new();
    for (kind, profile, trace) in kinds {
        let path = folder.join(format!("{}-{kind}.onnx", plan.name));
        let failed = |error: String| format!("{kind}: {error}");
        let traced = match trace(&plan) {
            // It takes keys of one shape, and says so.
            Err(OnnxError::Model(why)) if why.starts_with("onnxruntime-genai takes") => continue,
            traced => traced.map_err(|error| failed(error.to_string()))?,
        };
        let options = Options { profile: *profile, ..Options::default() };
        traced
            .write(session.model(), &path, &options)
            .map_err(|error| failed(error.to_string()))?;
        let compared = parity(&session, &path).map_err(|error| failed(error.to_string()))?;
        found.push((kind.to_string(), compared.worst()));
    }
    Ok(found)
}

/// What the configs in `folder` have: block types, fields, operations, each with how often.
fn coverage(folder: &Path, seeds: std::ops::Range<usize>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for seed in seeds {
        let Ok(text) = std::fs::read_to_string(folder.join(format!("random{seed}.json"))) else {
            continue;
        };
        let config: Value = serde_json::from_str(&text).expect("it was written as JSON");
        count(&config, &mut counts);
    }
    counts
}

fn count(value: &Value, counts: &mut BTreeMap<String, usize>) {
    match value {
        Value::Array(all) => all.iter().for_each(|one| count(one, counts)),
        Value::Object(fields) => {
            for (name, value) in fields {
                count(value, counts);
                let word = match (name.as_str(), value) {
                    ("type" | "op", Value::String(kind)) => kind.clone(),
                    (name, Value::Bool(true) | Value::Number(_)) => name.into(),
                    _ => continue,
                };
                *counts.entry(word).or_insert(0) += 1;
            }
        }
        _ => {}
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((folder, rest @ [_, ..])) = arguments.split_first() else {
        eprintln!("usage: onnx-models FOLDER COUNT [FIRST], or onnx-models FOLDER CONFIG.json ...");
        return ExitCode::from(2);
    };
    let folder = Path::new(folder);
    if rest[0].ends_with(".json") {
        return report(rest.iter().map(|path| (path.clone(), check_given(path, folder))));
    }
    let number = |text: &String| text.parse::<usize>().expect("a number");
    let first = rest.get(1).map_or(0, number);
    let seeds = first..first + number(&rest[0]);
    let code = report(seeds.clone().map(|seed| {
        (format!("random{seed}"), random(seed, folder).and_then(|drawn| check(drawn, folder)))
    }));
    let words = coverage(folder, seeds);
    let words: Vec<String> = words.iter().map(|(word, n)| format!("{word} {n}")).collect();
    println!("drawn: {}", words.join(", "));
    code
}

fn check_given(path: &str, folder: &Path) -> Result<Vec<(String, f32)>, String> {
    check(given(path)?, folder)
}

/// Prints what was found of each model, and says whether all files are as their models.
fn report(models: impl Iterator<Item = (String, Result<Vec<(String, f32)>, String>)>) -> ExitCode {
    let (mut all, mut failed, mut count) = (Vec::new(), 0, 0);
    for (name, found) in models {
        count += 1;
        let passes = |found: &(String, f32)| found.1 <= TOLERANCE;
        let line = match &found {
            Ok(found) => {
                let each = found.iter().map(|(kind, worst)| format!("{kind} {worst:.1e}"));
                each.collect::<Vec<_>>().join(", ")
            }
            Err(error) => error.clone(),
        };
        let good = found.as_ref().is_ok_and(|found| found.iter().all(passes));
        failed += usize::from(!good);
        println!("{}\t{name}\t{line}", if good { "ok" } else { "FAIL" });
        all.extend(found.into_iter().flatten().map(|(_, worst)| worst));
    }
    let close = all.iter().filter(|worst| **worst <= CLOSE).count();
    let worst = all.iter().copied().fold(0.0, f32::max);
    let files = all.len();
    println!(
        "{count} models, {files} files: {close} within {CLOSE:.0e}, largest difference {worst:.1e}, \
         {failed} failed"
    );
    ExitCode::from(u8::from(failed > 0))
}

//! Exports models of configs that are drawn by chance, and compares each file with its model:
//! `tests/onnx/random_models.py` has ONNX check the same files.
//!
//! ```text
//! onnx-random-models FOLDER COUNT [FIRST]     configs of the seeds FIRST, FIRST + 1 …
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
use mixlab_burn::inference::Session;
use mixlab_burn::model::Model;
use mixlab_burn::onnx::{Options, Profile, Traced, parity, trace_model, trace_stateful};
use mixlab_burn::plan::Plan;
use serde_json::Value;

/// The largest difference that passes, as a share of the largest logit.
const TOLERANCE: f32 = 1e-4;
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
type Kind = (&'static str, Profile, fn(&Arc<Plan>) -> Result<Traced, mixlab_burn::onnx::OnnxError>);

const KINDS: [Kind; 4] = [
    ("portable", Profile::Portable, trace_model),
    ("modern", Profile::Modern, trace_model),
    ("portable-stateful", Profile::Portable, trace_stateful),
    ("modern-stateful", Profile::Modern, trace_stateful),
];

/// Exports the model of one seed in all ways; the largest difference of each file.
fn check(seed: usize, folder: &Path) -> Result<Vec<(String, f32)>, String> {
    let mut chance = Chance::new(seed as i64 + 1);
    let name = format!("random{seed}");
    let (plan, config) = planned(&mut chance, &name)?;
    std::fs::write(folder.join(format!("{name}.json")), format!("{config:#}"))
        .map_err(|error| error.to_string())?;
    let device = Default::default();
    let model = Model::<Flex>::init(plan.clone(), &device).map(&mut Moved(&mut chance));
    let session = Session::new(model, &device);
    let kinds =
        KINDS.iter().filter(|(kind, ..)| plan.is_streaming() || !kind.ends_with("stateful"));
    let mut found = Vec::new();
    for (kind, profile, trace) in kinds {
        let path = folder.join(format!("{name}-{kind}.onnx"));
        let failed = |error: String| format!("{kind}: {error}");
        let traced = trace(&plan).map_err(|error| failed(error.to_string()))?;
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
    let number = |at: usize| arguments.get(at).map(|text| text.parse::<usize>().expect("a number"));
    let (Some(folder), Some(many)) = (arguments.first().map(Path::new), number(1)) else {
        eprintln!("usage: onnx-random-models FOLDER COUNT [FIRST]");
        return ExitCode::from(2);
    };
    let first = number(2).unwrap_or(0);
    let (mut all, mut failed) = (Vec::new(), 0);
    for seed in first..first + many {
        let line = match check(seed, folder) {
            Ok(found) => {
                let worst = found.iter().find(|(_, worst)| worst.is_nan() || *worst > TOLERANCE);
                let line = worst.map(|(kind, worst)| format!("{kind} differs by {worst:.1e}"));
                all.extend(found.into_iter().map(|(_, worst)| worst));
                line
            }
            Err(error) => Some(error),
        };
        if let Some(line) = line {
            failed += 1;
            println!("FAIL\trandom{seed}\t{line}");
        }
    }
    let words = coverage(folder, first..first + many);
    let words: Vec<String> = words.iter().map(|(word, n)| format!("{word} {n}")).collect();
    println!("drawn: {}", words.join(", "));
    let close = all.iter().filter(|worst| **worst <= 1e-5).count();
    let worst = all.iter().copied().fold(0.0, f32::max);
    println!(
        "{many} models, {} files: {close} within 1e-5, largest difference {worst:.1e}, {failed} failed",
        all.len()
    );
    ExitCode::from(u8::from(failed > 0))
}

//! What a run writes. Everything is opened before the first step, and what was trained is written
//! whatever ends the run.

use std::path::{Path, PathBuf};

use anyhow::Context;
use burn::tensor::backend::Backend;
use mixlab_burn::blocks::Block;
use mixlab_burn::files::Replacement;
use mixlab_burn::model::Model;
use mixlab_burn::weights;

use super::metrics::Metrics;
use crate::{cli, outputs};

/// The open outputs of a run.
pub struct Outputs {
    weights: Option<Weights>,
    /// The metrics file, if there is one.
    pub metrics: Metrics,
}

struct Weights {
    /// As it was given.
    path: PathBuf,
    place: Replacement,
}

impl Outputs {
    /// Opens what `options` names; `shards` are read by this run.
    pub fn open(options: &cli::Arch, shards: Vec<PathBuf>) -> anyhow::Result<Self> {
        let cli::Arch { safetensors, safetensors_load, metrics, .. } = options;
        let inputs = [options.config.paths(), safetensors_load.iter().cloned().collect(), shards];
        let named = [("--safetensors", safetensors), ("--metrics", metrics)];
        let named: Vec<_> =
            named.iter().filter_map(|(flag, path)| Some((*flag, path.as_deref()?))).collect();
        outputs::check(&inputs.concat(), &named)?;
        let reserve = |path: &PathBuf| {
            Ok::<_, weights::WeightError>(Weights {
                place: weights::reserve(path)?,
                path: path.clone(),
            })
        };
        let weights = safetensors.as_ref().map(reserve).transpose()?;
        Ok(Self { weights, metrics: Metrics::open(metrics.as_deref())? })
    }

    /// Writes the weights, elsewhere if that is no longer possible where it should be.
    pub fn export<B: Backend, K: Block>(&mut self, model: &Model<B, K>) -> anyhow::Result<()> {
        let Some(Weights { path, place }) = self.weights.take() else { return Ok(()) };
        let metadata = model.plan().metadata();
        let failed = match weights::write(model, place, &metadata) {
            Ok(count) => {
                println!("exported safetensors to {} ({count} tensors)", path.display());
                return Ok(());
            }
            Err(error) => error,
        };
        let elsewhere = elsewhere(&path);
        let saved = weights::save(model, &elsewhere, &metadata);
        Err(failed).context(match saved {
            Ok(_) => format!("the weights are in `{}` instead", elsewhere.display()),
            Err(error) => format!("the weights are lost: {error}"),
        })
    }

    /// Writes what a run has trained that failed after `steps`, and says where it is. What a run
    /// leaves whose numbers `broke` down replaces no weights of an earlier one.
    pub fn rescue<B: Backend, K: Block>(&mut self, model: &Model<B, K>, steps: usize, broke: bool) {
        let Some(Weights { path, .. }) = &self.weights else { return };
        if weights::values(model).iter().flatten().any(|value| !value.is_finite()) {
            eprintln!("note: the weights are not finite any more, and are not written");
            return;
        }
        let mut beside = path.clone().into_os_string();
        beside.push(".failed");
        let beside = PathBuf::from(beside);
        let (place, written) = match broke && path.is_file() {
            true => {
                let saved = weights::save(model, &beside, &model.plan().metadata());
                (beside, saved.map(drop).map_err(anyhow::Error::from))
            }
            false => (path.clone(), self.export(model)),
        };
        match written {
            Ok(()) => {
                let place = place.display();
                eprintln!("note: the weights after `{steps}` steps are in `{place}`")
            }
            Err(error) => eprintln!("warning: {}", crate::error::message(&error)),
        }
    }
}

/// A place for weights that cannot be written to `path`.
fn elsewhere(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    std::env::temp_dir().join(format!("mixlab-{}-{name}", std::process::id()))
}

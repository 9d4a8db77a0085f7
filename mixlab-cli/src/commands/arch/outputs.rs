//! What a run writes. Everything is opened before the first step, and what was trained is written
//! whatever ends the run.

use std::path::{Path, PathBuf};

use anyhow::Context;
use burn::tensor::backend::Backend;
use mixlab_burn::blocks::Block;
use mixlab_burn::files::Replacement;
use mixlab_burn::model::Model;
use mixlab_burn::weights::{self, Quantization};

use super::export::Exported;
use super::metrics::Metrics;
use crate::commands::onnx::Prepared;
use crate::trace::Trace;
use crate::{cli, outputs};

/// The open outputs of a run.
pub struct Outputs {
    weights: Option<Weights>,
    /// The metrics file, if there is one.
    pub metrics: Metrics,
    /// The trace, if there is one.
    pub trace: Trace,
    quantization: Option<Quantization>,
    onnx: Option<Onnx>,
}

struct Onnx {
    path: PathBuf,
    place: Replacement,
    file: Prepared,
}

struct Weights {
    /// As it was given.
    path: PathBuf,
    place: Replacement,
}

impl Onnx {
    fn reserve(path: PathBuf, file: Prepared) -> anyhow::Result<Self> {
        let place = Replacement::begin(&path).map_err(|error| outputs::unwritable(&path, error))?;
        Ok(Self { path, place, file })
    }
}

impl Outputs {
    /// Opens what `options` names; besides the files that they name this run reads `read`.
    pub fn open(
        options: &cli::Arch,
        read: Vec<PathBuf>,
        quantization: Option<Quantization>,
        onnx: Option<Prepared>,
    ) -> anyhow::Result<Self> {
        let cli::Arch { safetensors, export_onnx, start, metrics, trace, .. } = options;
        let start = start.safetensors_load.iter().cloned().collect();
        let inputs = [options.config.paths(), start, read];
        let named = [
            ("--safetensors", safetensors),
            ("--export-onnx", export_onnx),
            ("--metrics", metrics),
            ("--trace", trace),
            ("--checkpoint-dir", &options.checkpoints.saving.checkpoint_dir),
        ];
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
        let onnx = export_onnx.clone().zip(onnx).map(|(path, file)| Onnx::reserve(path, file));
        Ok(Self {
            weights,
            onnx: onnx.transpose()?,
            metrics: Metrics::open(metrics.as_deref())?,
            trace: Trace::open(trace.as_deref())?,
            quantization,
        })
    }

    /// Writes the ONNX file of the trained model, if one was asked for.
    pub fn export_onnx<B: Backend, K: Block>(&mut self, model: &Model<B, K>) -> anyhow::Result<()> {
        let Some(Onnx { path, place, file }) = self.onnx.take() else { return Ok(()) };
        // The writer takes the place for itself.
        drop(place);
        file.write(model, &path)
    }

    /// Writes the weights, elsewhere if that is no longer possible where it should be.
    pub fn export<B: Backend, K: Block>(
        &mut self,
        model: &Model<B, K>,
    ) -> anyhow::Result<Option<Exported>> {
        let Some(Weights { path, place }) = self.weights.take() else { return Ok(None) };
        let failed = match Exported::write(model, place, self.quantization) {
            Ok(exported) => {
                println!("{}", exported.line(&path));
                return Ok(Some(exported));
            }
            Err(error) => error,
        };
        let elsewhere = elsewhere(&path);
        let saved = self.save(model, &elsewhere);
        Err(failed).context(match saved {
            Ok(_) => format!("the weights are in `{}` instead", elsewhere.display()),
            Err(error) => format!("the weights are lost: {error}"),
        })
    }

    fn save<B: Backend, K: Block>(
        &self,
        model: &Model<B, K>,
        path: &Path,
    ) -> Result<Exported, weights::WeightError> {
        Exported::write(model, weights::reserve(path)?, self.quantization)
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
        let (place, written) = if broke && path.is_file() {
            let saved = self.save(model, &beside);
            (beside, saved.map(drop).map_err(anyhow::Error::from))
        } else {
            (path.clone(), self.export(model).map(drop))
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
    const MOST: usize = 200;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = &name[..name.floor_char_boundary(MOST)];
    std::env::temp_dir().join(format!("mixlab-{}-{name}", std::process::id()))
}

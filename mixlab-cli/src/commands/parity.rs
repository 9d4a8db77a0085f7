//! `parity`: whether an exported file computes what its model computes.

use std::path::Path;
use std::sync::Arc;

use anyhow::bail;
use burn::tensor::backend::AutodiffBackend;
use mixlab_burn::blocks::Block;
use mixlab_burn::inference::Session;
use mixlab_burn::model::Model;
use mixlab_burn::onnx::{Options, Parity, WeightType, parity, trace_model, weight_type};
use mixlab_burn::ops::Backend;
use mixlab_burn::plan::Plan;
use mixlab_burn::weights;

use crate::backend::{self, Job, Place};
use crate::cli;

pub fn run<K: Block>(options: &cli::Parity) -> anyhow::Result<()> {
    let (plan, _) = super::planned::<K>(&options.config, None)?;
    backend::run(&options.compute, Compare { options, plan })
}

struct Compare<'a, K> {
    options: &'a cli::Parity,
    plan: Arc<Plan<K>>,
}

impl<K: Block> Job for Compare<'_, K> {
    fn run<A>(self, device: A::Device, _: &Place) -> anyhow::Result<()>
    where
        A: AutodiffBackend<InnerBackend: Backend> + Backend,
    {
        let cli::Parity { safetensors_load, onnx, tolerance, .. } = self.options;
        let model = Model::<A::InnerBackend, K>::new(self.plan.clone(), &device);
        let mut model = weights::load(model, safetensors_load)?;
        let options = Options { weights: weight_type(onnx)?, ..Options::default() };
        if options.weights != WeightType::F32 {
            model = trace_model(&self.plan)?.rounded(model, &options)?;
        }
        compare(&Session::new(model, &device), onnx, tolerance)?;
        Ok(())
    }
}

/// Compares the file at `path` with the model of `session`, and prints what was found.
pub fn compare<B: Backend, K: Block>(
    session: &Session<B, K>,
    path: &Path,
    tolerance: &cli::Tolerance,
) -> anyhow::Result<Parity> {
    let found = parity(session, path)?;
    println!("{:>5} {:>7}  largest difference", "rows", "tokens");
    for (rows, tokens, difference) in &found.whole {
        println!("{rows:>5} {tokens:>7}  {difference:.1e}");
    }
    if let Some(pieces) = found.pieces {
        println!("read in pieces: {pieces:.1e}");
    }
    let Parity { greedy, behind, .. } = found;
    if behind == 0.0 {
        println!("{greedy} greedy tokens: all the same");
    } else {
        println!("{greedy} greedy tokens: behind the best by {behind:.1e} at most");
    }
    let (worst, most) = (found.worst(), tolerance.tolerance);
    if worst.is_nan() || worst > most {
        bail!(
            "`{}` differs from its model by {worst:.1e} of the largest logit, more than {most:.1e}\n  \
             hint: name the config and the weights that the file was written of; products of less than 32 bits, \
             as with training.compute_dtype, differ by more",
            path.display()
        );
    }
    Ok(found)
}

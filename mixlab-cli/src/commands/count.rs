//! `count`: parameters, operations and FLOPs of a config, without allocating its weights.

use std::io::Write;

use anyhow::Context;
use mixlab_burn::blocks::Block;
use mixlab_burn::data::replace::replace_file;
use mixlab_burn::program::{Counts, describe, diagram};

use crate::cli;
use crate::report::flops;

const MIB: f64 = 1_048_576.0;

pub fn run<K: Block>(options: &cli::Count) -> anyhow::Result<()> {
    let (plan, _) = super::planned::<K>(&options.config, None)?;
    let counts = Counts::of(&plan)?;
    let unique = counts.parameters;
    if counts.expanded == unique {
        println!("Total parameters: {unique}");
    } else {
        let expanded = counts.expanded;
        println!("Total parameters: {unique} (unique) / {expanded} (with sharing expanded)");
    }
    println!("Total size (float32, in MB): {:.2}", (4 * unique) as f64 / MIB);
    println!("Total size (int8 quantized, in MB): {:.2}", unique as f64 / MIB);
    println!("Number of blocks: {}", counts.blocks);
    println!("Number of IR ops: {}", counts.ops);
    println!("Forward FLOPs: {}", flops(counts.forward_flops));
    println!("Training step FLOPs: {}", flops(counts.training_flops()));
    println!("FLOPs per token: {}", flops(counts.flops_per_token()));
    println!("Total size (bfloat16, in MB): {:.2}", (2 * unique) as f64 / MIB);
    if options.ops {
        print!("\n{}", describe(&plan)?);
    }
    if let Some(path) = &options.diagram {
        let failed = || format!("cannot write `{}`", path.display());
        let drawn = diagram(&plan);
        replace_file(path, |file| file.write_all(drawn.as_bytes())).with_context(failed)?;
        println!("drew {}", path.display());
    }
    Ok(())
}

//! `count`: parameters, operations and FLOPs of a config, without allocating its weights.

use std::io::Write;

use mixlab_burn::blocks::Block;
use mixlab_burn::files::replace_file;
use mixlab_burn::model::Part;
use mixlab_burn::plan::Plan;
use mixlab_burn::program::{Counts, describe, diagram};
use mixlab_burn::train::Schedule;

use crate::report::flops;
use crate::{cli, outputs};

const MIB: f64 = 1_048_576.0;

pub fn run<K: Block>(options: &cli::Count) -> anyhow::Result<()> {
    let (plan, _) = super::planned::<K>(&options.config, None)?;
    if let Some(path) = &options.diagram {
        outputs::check(&options.config.paths(), &[("--diagram", path)])?;
    }
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
    println!("Learning rate: {}", Schedule::new(&plan.training));
    if options.blocks {
        print!("\n{}", by_part(&plan, &counts));
    }
    let described = || describe(&plan, [plan.batch(), plan.seq_len]);
    if options.ops {
        print!("\n{}", described()?);
    }
    if let Some(path) = &options.diagram {
        let drawn = diagram(&plan, &described()?);
        replace_file(path, |file| file.write_all(drawn.as_bytes()))
            .map_err(|error| outputs::unwritable(path, error))?;
        println!("drew {}", path.display());
    }
    Ok(())
}

/// One line a part of the model: parameters, operations, FLOPs, what it is.
fn by_part<K: Block>(plan: &Plan<K>, counts: &Counts) -> String {
    let mut table = format!("{:>14}{:>8}{:>16}  block\n", "parameters", "ops", "forward");
    for cost in &counts.parts {
        let name = match cost.part {
            None => "(no operation reads them)".into(),
            Some(Part::Embedding) => "embedding".into(),
            Some(Part::Head) => "head".into(),
            Some(Part::Block(index)) => format!("{index}  {}", plan.steps[index].label),
        };
        let (parameters, ops, flops) = (cost.parameters, cost.ops, flops(cost.flops));
        table += &format!("{parameters:>14}{ops:>8}{flops:>16}  {name}\n");
    }
    table
}

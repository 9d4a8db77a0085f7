//! What it takes to write the checkpoint of a large model, beyond the memory that the run holds.

use std::fs;
use std::sync::Arc;

use burn::backend::Autodiff;
use burn_flex::Flex;
use mixlab_burn::blocks::Builtin;
use mixlab_burn::data::Batch;
use mixlab_burn::model::Model;
use mixlab_burn::plan::Plan;
use mixlab_burn::program::Counts;
use mixlab_burn::runs::{About, Writer};
use mixlab_burn::train::Trainer;
use serde_json::json;

/// Parameters, unless the environment says otherwise.
const PARAMETERS: usize = 200_000_000;
/// Those of a block of the model.
const BLOCK: usize = 4 * 1024 * 1024 + 2 * 1024 * 2734;

fn plan() -> Arc<Plan> {
    let wanted = std::env::var("MIXLAB_CHECKPOINT_PARAMETERS");
    let wanted = wanted.map_or(PARAMETERS, |text| text.parse().expect("it is a number"));
    let blocks = vec![r#"{"type": "plain", "heads": 8}"#; wanted.div_ceil(BLOCK)];
    let json = format!(
        r#"{{"name": "large", "model_dim": 1024, "vocab_size": 64, "seq_len": 8,
            "blocks": [{}], "training": {{"batch_tokens": 8, "optimizer": "adamw"}}}}"#,
        blocks.join(", ")
    );
    Arc::new(Plan::parse(&json, "large.json", &[]).unwrap().plan)
}

/// A number of KiB in `/proc/self/status`, in bytes.
fn status(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    1024 * line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap()
}

/// The memory is the process's: no other test may run beside it.
#[test]
#[cfg(target_os = "linux")]
#[ignore = "takes 4 GB of memory and 5 GB of disk; run it by `-- --ignored a_large_checkpoint`"]
fn a_large_checkpoint_takes_less_than_a_fifth_of_what_the_run_holds() {
    let plan = plan();
    let parameters = Counts::of(&plan).unwrap().parameters;
    let model = Model::<Autodiff<Flex>, Builtin>::init(plan.clone(), &Default::default());
    let mut trainer = Trainer::new(model, &Default::default());
    let tokens: Vec<u16> = (0..9).collect();
    trainer.step(Batch::from_tokens(&tokens, 8).unwrap()).unwrap();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (nothing, metadata) = (json!({}), plan.metadata());
    let about = About { config: nothing.clone(), data: nothing.clone(), place: nothing, metadata };
    // Weights and two moments, of which a tenth may wait for the disk, as on the command line.
    let held = 3 * 4 * parameters;
    let mut writer = Writer::start(folder.path(), None, held / 10, about).unwrap();
    // Takes the peak back to what is held now.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS:");
    writer.write(trainer.snapshot());
    writer.finish().into_iter().for_each(|outcome| drop(outcome.unwrap()));
    let peak = status("VmHWM:");
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    eprintln!(
        "{parameters} parameters: {:.2} GiB of weights and moments, {:.2} held before, {:.2} at most while writing",
        gib(held as u64),
        gib(before),
        gib(peak)
    );
    assert!((peak - before) * 5 < held as u64, "writing took {:.2} GiB", gib(peak - before));
}

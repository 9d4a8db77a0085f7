//! The program as a user runs it, on weights that were trained on other text.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;

use burn::backend::Autodiff;
use burn_flex::Flex;
use mixlab_burn::Plan;
use mixlab_burn::data::shard::Layout;
use mixlab_burn::data::{Loader, LoaderConfig};
use mixlab_burn::train::{Run, Trainer, train};
use mixlab_burn::weights::{load, save, values};

const HERE: &str = env!("CARGO_MANIFEST_DIR");

fn plan() -> Plan {
    Plan::load(format!("{HERE}/model.json")).unwrap()
}

/// Weights after a run on the letters of the golden data.
fn pretrained(path: &Path) {
    let (plan, device) = (plan(), Default::default());
    let mut trainer = Trainer::new(plan.init::<Autodiff<Flex>>(&device), &device);
    let batches = Loader::new(&LoaderConfig {
        patterns: vec![format!("{HERE}/../../tests/golden/data/char64/train_*.bin")],
        batch_tokens: plan.training.batch_tokens,
        seq_len: plan.seq_len,
        chunk: 0,
        seed: plan.training.seed,
        vocab_size: plan.vocab,
        layout: Layout::Header,
    });
    let run =
        Run { batches: batches.unwrap(), validation: Vec::new(), log_every: 10, val_every: 10 };
    train(&mut trainer, run, |_| ControlFlow::Continue(())).unwrap();
    save(trainer.model(), path, &plan.metadata()).unwrap();
}

#[test]
fn the_last_blocks_learn_and_every_other_weight_stays() {
    let folder = tempfile::tempdir().unwrap();
    let [base, tuned] = ["base", "tuned"].map(|name| folder.path().join(name));
    pretrained(&base);
    let output = Command::new(env!("CARGO_BIN_EXE_finetune"))
        .arg(&base)
        .arg(format!("{HERE}/../../tests/golden/data/char64_even/train_*.bin"))
        .arg(&tuned)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let read = |path| values(&load(plan().init::<Flex>(&Default::default()), path).unwrap());
    let (before, after) = (read(&base), read(&tuned));
    let same: Vec<bool> =
        before.iter().zip(&after).map(|(before, after)| before == after).collect();
    // Embedding and final norm, seven weights of attention and four of a feed-forward layer; twice.
    assert_eq!(same, [[true; 13].as_slice(), &[false; 11]].concat());
    assert_eq!(text.matches("as it was").count(), 13, "{text}");
    assert_eq!(text.matches(" trained").count(), 11, "{text}");

    let losses: Vec<f32> =
        text.lines().filter_map(|line| line.split_once("loss ")?.1.parse().ok()).collect();
    assert!(losses.last().unwrap() < losses.first().unwrap(), "{text}");
}

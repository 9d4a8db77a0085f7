//! Makes Rust of ONNX files with burn-onnx: `convert FOLDER...`, each with a `model.onnx`, beside which
//! `model.rs` and `model.bpk` are put. Prints for each the folder and, after a tab, why there is no code.

use std::any::Any;
use std::panic::{catch_unwind, set_hook};

fn main() {
    set_hook(Box::new(|_| {}));
    for folder in std::env::args().skip(1) {
        let made = catch_unwind(|| {
            let mut model = burn_onnx::ModelGen::new();
            model.input(&format!("{folder}/model.onnx")).out_dir(&folder).partition(false);
            model.run_from_cli();
        });
        let reason = made.err().map(|panic| text(&*panic)).unwrap_or_default();
        println!("{folder}\t{}", reason.replace('\n', " "));
    }
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
    text.unwrap_or_else(|| "a panic without a text".into())
}

//! Runs the modules that burn-onnx made on the ids beside each file, and writes their logits there.
//! `import.py` lists the modules in `models.rs` of the folder MODELS.

// What burn-onnx makes of a Scan names it.
extern crate alloc;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use burn::backend::Flex;
use burn::tensor::{DType, Int, Tensor, TensorData};

type Ids = Tensor<Flex, 2, Int>;
type Logits = Tensor<Flex, 3>;

mod models {
    include!(concat!(env!("MODELS"), "/models.rs"));
}

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    models::all();
}

/// Runs the module that `load` loads on all ids in `folder`, and prints the folder and, after a tab, its panic.
pub fn run<F: Fn(Ids) -> Logits>(folder: &str, load: impl FnOnce() -> F) {
    let panic = catch_unwind(AssertUnwindSafe(|| answer(Path::new(folder), load()))).err().map(|panic| text(&*panic));
    println!("{folder}\t{}", panic.unwrap_or_default().replace('\n', " "));
}

fn answer(folder: &Path, forward: impl Fn(Ids) -> Logits) {
    for file in folder.read_dir().expect("it was written").flatten() {
        let name = file.file_name().into_string().expect("ours are ASCII");
        let Some(size) = name.strip_prefix("ids_") else { continue };
        let shape: Vec<usize> = size.split('_').map(|n| n.parse().expect("a number")).collect();
        let bytes = std::fs::read(file.path()).expect("it is there");
        let ids = bytes.chunks(8).map(|b| i64::from_le_bytes(b.try_into().expect("eight bytes")));
        let ids = TensorData::new(ids.collect(), shape);
        let logits = forward(Tensor::from_data(ids, (&Default::default(), DType::I64)));
        let logits: Vec<f32> = logits.into_data().convert::<f32>().into_vec().expect("converted");
        let bytes: Vec<u8> = logits.iter().flat_map(|x| x.to_le_bytes()).collect();
        std::fs::write(folder.join(format!("found_{size}")), bytes).expect("there is room");
    }
}

/// What a panic says.
fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
    text.unwrap_or_else(|| "a panic without a text".into())
}

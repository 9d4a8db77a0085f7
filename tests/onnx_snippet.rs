//! Prints the likeliest token after 1, 2 and 3.

use ort::session::Session;
use ort::value::Tensor;

fn main() -> ort::Result<()> {
    let mut session = Session::builder()?.commit_from_file("model.onnx")?;
    let ids = Tensor::from_array(([1, 3], vec![1i64, 2, 3]))?;
    let outputs = session.run(ort::inputs!["input_ids" => ids])?;
    let (shape, logits) = outputs["logits"].try_extract_tensor::<f32>()?;
    let last = &logits[logits.len() - shape[2] as usize..];
    let best = (0..last.len()).max_by(|a, b| last[*a].total_cmp(&last[*b]));
    println!("{}", best.expect("there is a vocabulary"));
    Ok(())
}

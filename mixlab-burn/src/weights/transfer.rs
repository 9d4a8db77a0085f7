//! Weights of another model, as far as they fit.

use std::path::Path;

use burn::module::Module;
use burn::tensor::backend::Backend;

use super::safetensors::{check, read};
use super::source::Bytes;
use super::{WeightError, fill, layout};

/// What of a file became weights of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transfer {
    /// Weights that were loaded.
    pub loaded: usize,
    /// Weights of the model that stayed as they were, each with the reason.
    pub kept: Vec<String>,
    /// Tensors of the file that no weight took.
    pub unused: Vec<String>,
}

/// Replaces weights of `module` by those in the file at `path`, where tensor `old` of each pair
/// `(old, new)` of `renames` serves as the weight `new`. With `partial` the weights that the file does
/// not have, or in another shape, stay as they are.
///
/// # Errors
/// If the file is not safetensors, a rename names nothing, or without `partial` a weight is missing;
/// or if a number that would be loaded is not finite.
pub fn transfer<B: Backend, M: Module<B>>(
    module: M,
    path: &Path,
    renames: &[(String, String)],
    partial: bool,
) -> Result<(M, Transfer), WeightError> {
    let bytes = Bytes::open(path)?;
    let file = super::safetensors::open(path, &bytes)?;
    let wrong = |tensor: &str, problem: String| {
        let (path, tensor) = (path.to_owned(), tensor.to_owned());
        WeightError::Tensor { path, tensor, problem }
    };
    let weights = layout(&module);
    let names: Vec<String> = weights.iter().enumerate().map(|(i, w)| w.file_name(i)).collect();
    for (index, (old, new)) in renames.iter().enumerate() {
        if let Some((earlier, _)) = renames[..index].iter().find(|(_, earlier)| earlier == new) {
            return Err(wrong(old, format!("should become `{new}`, as `{earlier}` should")));
        }
        if file.tensor(old).is_err() {
            return Err(wrong(old, format!("is missing, and should become `{new}`")));
        }
        if !names.contains(new) {
            return Err(wrong(
                old,
                format!("should become `{new}`, which the model does not have"),
            ));
        }
    }
    let mut done = Transfer::default();
    let mut used = Vec::new();
    let mut found = Vec::new();
    for (weight, name) in weights.iter().zip(&names) {
        let renamed = renames.iter().find(|(_, new)| new == name);
        let source = renamed.map_or(name, |(old, _)| old);
        found.push(match read(&file, source, weight) {
            Ok(values) => {
                check(&values, path, source)?;
                used.push(source.clone());
                Some(values)
            }
            Err(problem) if partial => {
                done.kept.push(format!("{name} ({source} {problem})"));
                None
            }
            Err(problem) => return Err(wrong(source, problem)),
        });
    }
    done.loaded = used.len();
    let of_used = |name: &str| {
        used.iter().any(|used| name == used || name.strip_suffix(".scale") == Some(used))
    };
    done.unused = file.names().into_iter().filter(|n| !of_used(n)).map(str::to_owned).collect();
    done.unused.sort();
    Ok((fill(module, |index, _| found[index].take()), done))
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use std::sync::Arc;

    use burn_flex::Flex;

    use super::*;
    use crate::model::Model;
    use crate::plan::Plan;
    use crate::weights::{Clip, Levels, Quantization, load, save, save_quantized, values};

    fn model(dim: usize, blocks: &str) -> Model<Flex> {
        let json = format!(
            r#"{{"model_dim": {dim}, "vocab_size": 37, "seq_len": 8, "blocks": [{blocks}]}}"#
        );
        let plan = Plan::parse(&json, "test.json", &[]).unwrap().plan;
        Model::init(Arc::new(plan), &Default::default())
    }

    const PLAIN: &str = r#"{"type": "plain", "heads": 2}"#;
    const SWIGLU: &str = r#"{"type": "swiglu"}"#;

    #[test]
    fn what_fits_is_loaded_and_the_rest_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.st");
        let source = model(16, PLAIN);
        save(&source, &path, &source.plan().metadata()).unwrap();
        let other = model(16, &format!("{SWIGLU}, {PLAIN}"));
        let (refused, all) = (transfer(other.clone(), &path, &[], false), values(&other));
        assert!(refused.err().unwrap().to_string().contains("`w3_ffn_norm_scale` is missing"));
        let (loaded, done) = transfer(other.clone(), &path, &[], true).unwrap();
        assert_eq!((done.loaded, done.kept.len()), (3, all.len() - 3));
        assert!(done.kept[0].starts_with("w3_ffn_norm_scale"), "{:?}", done.kept);
        assert!(done.unused.contains(&"w4_wq".to_owned()));
        assert_eq!(values(&loaded)[..3], values(&source)[..3]);
        assert_eq!(values(&loaded)[3..], all[3..]);
        let renames = [("w4_wq".to_owned(), "w8_wq".to_owned())];
        let (loaded, done) = transfer(other.clone(), &path, &renames, true).unwrap();
        assert_eq!((done.loaded, &values(&loaded)[8]), (4, &values(&source)[4]));
        let twice = [("w4_wq".to_owned(), "w8_wq".to_owned()), ("w5_wk".into(), "w8_wq".into())];
        let error = transfer(other.clone(), &path, &twice, true).err().unwrap().to_string();
        assert!(error.contains("`w5_wk` should become `w8_wq`, as `w4_wq` should"), "{error}");
        for (old, new, part) in [("w99_x", "w8_wq", "is missing"), ("w4_wq", "w99_x", "`w99_x`")] {
            let error = transfer(other.clone(), &path, &[(old.into(), new.into())], true);
            let error = error.err().unwrap().to_string();
            assert!(error.contains(part) && error.contains("hint: "), "{error}");
        }
        let (_, done) = transfer(model(8, PLAIN), &path, &[], true).unwrap();
        assert_eq!(done.loaded, 0);
        assert!(done.kept[0].contains("has shape [37, 16], the model [37, 8]"), "{:?}", done.kept);
    }

    #[test]
    fn numbers_that_are_not_finite_are_refused_where_they_would_be_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.st");
        let source = fill(model(16, PLAIN), |_, weight| {
            (weight.name == "wq").then(|| vec![f32::NAN; weight.len()])
        });
        save(&source, &path, &source.plan().metadata()).unwrap();
        for partial in [false, true] {
            let error = transfer(model(16, PLAIN), &path, &[], partial).err().unwrap().to_string();
            assert!(error.contains("tensor `w4_wq` holds `NaN`"), "{error}");
        }
        assert!(transfer(model(16, SWIGLU), &path, &[], true).is_ok());
    }

    #[test]
    fn quantized_files_of_every_layout_load_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.st");
        // Columns that do not fill their last byte with six bits each.
        let source = model(20, &format!("{PLAIN}, {SWIGLU}"));
        let flat = values(&source);
        for (levels, packed) in [(Levels::Int8, false), (Levels::Int6, false), (Levels::Int6, true)]
        {
            let clip = Clip::Quantile;
            let quantization = Quantization { levels, clip, legacy_floor: false, packed };
            let said =
                save_quantized(&source, &path, &source.plan().metadata(), &quantization).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().len() as usize, said.bytes);
            let blank = Model::<Flex>::new(source.plan().clone(), &Default::default());
            let loaded = values(&load(blank, &path).unwrap());
            let (mut error, mut norm) = (0.0, 0.0);
            for (a, b) in flat.concat().iter().zip(loaded.concat()) {
                error += f64::from(a - b).powi(2);
                norm += f64::from(*a).powi(2);
            }
            let most = if levels == Levels::Int8 { 0.01 } else { 0.03 };
            let relative = (error / norm).sqrt();
            assert!(
                relative < most && said.error < most && said.error > 0.0,
                "{relative} {said:?}"
            );
            if !packed {
                assert!(said.bytes * 4 > said.float_bytes, "{said:?}");
            }
        }
    }
}

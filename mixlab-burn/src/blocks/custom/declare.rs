//! The weights that a `custom` block declares.

use super::fault::Fault;
use super::plan::Planner;
use super::shape::{Extent, Size};
use super::weights::MAX_RANK;
use crate::config::CustomWeight;
use crate::weights::Weight;

/// A weight as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    /// Its name in weight files.
    pub name: String,
    /// Its shape in weight files.
    pub shape: Vec<usize>,
}

/// Elements that a weight or a value may have, as counted with 32 bits by GPU kernels.
pub const MAX_ELEMENTS: usize = i32::MAX as usize;

impl Planner<'_, '_> {
    /// All declared weights, `None` in place of those that cannot be.
    pub(super) fn weights(&mut self) -> Vec<Option<Declared>> {
        let declared = &self.spec.weights;
        declared.iter().enumerate().map(|(index, weight)| self.weight(index, weight)).collect()
    }

    fn weight(&mut self, index: usize, weight: &CustomWeight) -> Option<Declared> {
        let path = format!("weights[{index}]");
        if [".name", ".shape"].iter().any(|field| self.scope.is_bad(&format!("{path}{field}"))) {
            self.failed = true;
            return None;
        }
        self.warn_of_name(&path, index, weight);
        let shape = self.weight_shape(&path, weight)?;
        let (name, rank) = (&weight.name, shape.len());
        if rank > MAX_RANK {
            let message = format!("`{name}` has `{rank}` axes");
            let hint = format!("a weight has at most {MAX_RANK}; declare a matrix, and reshape it");
            self.refuse(&format!("{path}.shape"), Fault::new(message, hint));
            return None;
        }
        let stored = Weight::new(name.clone(), shape.clone());
        if !stored.is_trainable() {
            let message = format!("`{name}` has `{rank}` axes, and no optimizer group takes it");
            let hint = "declare a matrix, and reshape it; operations see a weight of more than two axes as one row anyway";
            self.refuse(&format!("{path}.shape"), Fault::new(message, hint));
            return None;
        }
        Some(Declared { name: name.clone(), shape })
    }

    fn warn_of_name(&mut self, path: &str, index: usize, weight: &CustomWeight) {
        let name = &weight.name;
        if name == "x" {
            let message = "a weight called `x` cannot be read: `x` is the residual stream";
            self.scope.warn(&format!("{path}.name"), message);
        }
        if self.spec.weights[..index].iter().any(|earlier| earlier.name == *name) {
            let message = format!("`{name}` is declared again: operations see only the last one");
            self.scope.warn(&format!("{path}.name"), message);
        }
    }

    /// The sizes of a weight, which exists before there is any batch: `B` is 1.
    fn weight_shape(&mut self, path: &str, weight: &CustomWeight) -> Option<Vec<usize>> {
        let extent = Extent { batch: 1, seq: self.extent.seq };
        let mut shape = Vec::new();
        let mut elements = 1usize;
        for (axis, text) in weight.shape.iter().enumerate() {
            let field = format!("{path}.shape[{axis}]");
            if self.scope.is_bad(&field) {
                continue;
            }
            let size = Size::parse(text, &self.symbols).map(|size| size.at(extent));
            match size.and_then(|size| positive(text, size)) {
                Ok(size) => {
                    elements = elements.saturating_mul(size);
                    shape.push(size);
                }
                Err(fault) => self.refuse(&field, fault),
            }
        }
        if elements > MAX_ELEMENTS {
            let message = format!("`{}` has more than `{MAX_ELEMENTS}` elements", weight.name);
            self.refuse(&format!("{path}.shape"), Fault::new(message, "declare a smaller weight"));
            return None;
        }
        let complete = shape.len() == weight.shape.len();
        self.failed |= !complete;
        complete.then_some(shape)
    }
}

fn positive(text: &str, size: i64) -> Result<usize, Fault> {
    match usize::try_from(size) {
        Ok(size) if size > 0 => Ok(size),
        _ => Err(Fault::new(
            format!("`{}` is `{size}`", text.trim()),
            "the sizes of a weight are at least 1",
        )),
    }
}

//! The weights that a `custom` block declares.

use std::collections::HashSet;

use super::fault::Fault;
use super::plan::Planner;
use super::shape::{Extent, Size};
use super::weights::MAX_RANK;
use crate::config::{CustomWeight, Reported};
use crate::plan::MAX_ELEMENTS;
use crate::weights::Weight;

/// A weight as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    /// Its name in weight files.
    pub name: String,
    /// Its shape in weight files.
    pub shape: Vec<usize>,
}

impl Planner<'_, '_> {
    /// All declared weights, as far as they can be.
    pub(super) fn weights(&mut self) -> Vec<Result<Declared, Reported>> {
        let mut seen = HashSet::new();
        let declared = self.spec.weights.iter().enumerate();
        let declared = declared.map(|(index, weight)| {
            let path = format!("weights[{index}]");
            self.warn_of_name(&path, &weight.name, !seen.insert(&weight.name));
            self.weight(&path, weight)
        });
        declared.collect()
    }

    fn weight(&mut self, path: &str, weight: &CustomWeight) -> Result<Declared, Reported> {
        [".name", ".shape"].iter().try_for_each(|field| self.check(&format!("{path}{field}")))?;
        let shape = self.weight_shape(path, weight)?;
        let (name, rank) = (&weight.name, shape.len());
        if rank > MAX_RANK {
            let message = format!("`{name}` has `{rank}` axes");
            let hint = format!("a weight has at most {MAX_RANK}; declare a matrix, and reshape it");
            return Err(self.refuse(&format!("{path}.shape"), Fault::new(message, hint)));
        }
        let stored = Weight::new(name.clone(), shape.clone());
        if !stored.is_trainable() {
            let message = format!("`{name}` has `{rank}` axes, and no optimizer group takes it");
            let hint = "declare a matrix, and reshape it; operations see a weight of more than two axes as one row anyway";
            return Err(self.refuse(&format!("{path}.shape"), Fault::new(message, hint)));
        }
        Ok(Declared { name: name.clone(), shape })
    }

    fn warn_of_name(&mut self, path: &str, name: &str, again: bool) {
        if name == "x" {
            let message = "a weight called `x` cannot be read: `x` is the residual stream";
            self.scope.warn(&format!("{path}.name"), message);
        }
        if again {
            let message = format!("`{name}` is declared again: operations see only the last one");
            self.scope.warn(&format!("{path}.name"), message);
        }
    }

    /// The sizes of a weight, which exists before there is any batch: `B` is 1.
    fn weight_shape(&mut self, path: &str, weight: &CustomWeight) -> Result<Vec<usize>, Reported> {
        let extent = Extent { batch: 1, seq: self.extent.seq };
        let mut shape = Vec::new();
        let mut elements = 1usize;
        let mut sound = Ok(());
        for (axis, text) in weight.shape.iter().enumerate() {
            let field = format!("{path}.shape[{axis}]");
            if let Err(reported) = self.check(&field) {
                sound = Err(reported);
                continue;
            }
            let size = Size::parse(text, &self.symbols).map(|size| size.at(extent));
            match size.and_then(|size| positive(text, size)) {
                Ok(size) => {
                    elements = elements.saturating_mul(size);
                    shape.push(size);
                }
                Err(fault) => sound = Err(self.refuse(&field, fault)),
            }
        }
        if elements > MAX_ELEMENTS {
            let message = format!("`{}` has more than `{MAX_ELEMENTS}` elements", weight.name);
            let fault = Fault::new(message, "declare a smaller weight");
            return Err(self.refuse(&format!("{path}.shape"), fault));
        }
        sound.map(|()| shape)
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

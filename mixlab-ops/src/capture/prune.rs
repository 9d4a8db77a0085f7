//! Which operations belong to a program.

use std::collections::HashSet;

use burn_ir::TensorId;

use super::recording::Recorded;

/// Drops the operations that only serve to give parameters their first values, and those of the
/// first `built` ones whose results nothing reads.
///
/// Walks backwards: when an operation is met, all that read its results have been.
pub(super) fn without_initialization(
    operations: Vec<Recorded>,
    is_parameter: impl Fn(TensorId) -> bool,
    mut read: HashSet<TensorId>,
    built: usize,
) -> Vec<Recorded> {
    let mut initial: HashSet<TensorId> = HashSet::new();
    let mut kept = Vec::with_capacity(operations.len());
    for (place, recorded) in operations.into_iter().enumerate().rev() {
        let operation = &recorded.operation;
        let needed = operation.outputs().any(|out| read.contains(&out.id) && !is_parameter(out.id));
        let initializes =
            operation.outputs().any(|out| is_parameter(out.id) || initial.contains(&out.id));
        if !needed && initializes {
            initial.extend(operation.inputs().map(|input| input.id));
        } else if needed || place >= built {
            read.extend(operation.inputs().map(|input| input.id));
            kept.push(recorded);
        }
    }
    kept.reverse();
    kept
}

/// Drops the operations whose results nothing reads, neither an output nor an operation that is
/// kept.
pub(super) fn without_dead(operations: Vec<Recorded>, outputs: HashSet<TensorId>) -> Vec<Recorded> {
    let built = operations.len();
    without_initialization(operations, |_| false, outputs, built)
}

#[cfg(test)]
mod tests {
    use burn_backend::DType;
    use burn_ir::{
        BaseOperationIr, CreationOpIr, FloatOperationIr, OperationIr, TensorIr, UnaryOpIr,
    };

    use super::*;

    fn tensor(id: u64) -> TensorIr {
        TensorIr::uninit(TensorId::new(id), [1].into(), DType::F32)
    }

    fn recorded(operation: OperationIr) -> Recorded {
        Recorded { operation, own: None, scope: None }
    }

    fn zeros(out: u64) -> Recorded {
        let zeros = BaseOperationIr::Zeros(CreationOpIr { out: tensor(out) });
        recorded(OperationIr::BaseFloat(zeros))
    }

    fn exp(input: u64, out: u64) -> Recorded {
        let exp = UnaryOpIr { input: tensor(input), out: tensor(out) };
        recorded(OperationIr::Float(DType::F32, FloatOperationIr::Exp(exp)))
    }

    fn results(operations: &[Recorded]) -> Vec<u64> {
        let outputs = operations.iter().flat_map(|recorded| recorded.operation.outputs());
        outputs.map(|out| out.id.value()).collect()
    }

    fn ids(ids: &[u64]) -> HashSet<TensorId> {
        ids.iter().copied().map(TensorId::new).collect()
    }

    #[test]
    fn the_chain_that_makes_a_parameter_is_dropped() {
        let operations = vec![zeros(0), exp(0, 1), exp(1, 2)];
        let kept = without_initialization(operations, |id| id.value() == 1, ids(&[2]), 2);
        assert_eq!(results(&kept), [2]);
    }

    #[test]
    fn what_a_parameter_and_the_forward_both_read_stays() {
        let operations = vec![zeros(0), exp(0, 1), exp(0, 2)];
        let kept = without_initialization(operations, |id| id.value() == 1, ids(&[2]), 2);
        assert_eq!(results(&kept), [0, 2]);
    }

    #[test]
    fn unread_operations_stay_only_if_they_are_part_of_the_forward() {
        let operations = vec![zeros(0), zeros(1), exp(1, 2), exp(1, 3)];
        let kept = without_initialization(operations.clone(), |_| false, ids(&[2]), 2);
        assert_eq!(results(&kept), [1, 2, 3]);
        assert_eq!(results(&without_dead(operations, ids(&[2]))), [1, 2]);
    }
}

//! Parameters that an operation does not have, and that had no effect in mixlab 0.10.1.
//!
//! It collects the integers of `params` into one list and the numbers into another, whatever the
//! operation, which reads them by position. So a name of one of these lists shifts what an operation
//! reads of that list, and any other name does nothing.

use super::ParamKind;
use crate::blocks::custom::ops::Row;
use crate::config::nearest;

/// Names that give an integer there.
const INTEGERS: [&str; 12] =
    ["shape", "axes", "axis", "start", "end", "step", "head_dim", "B", "T", "D", "Da", "Db"];
/// Names that give a number there.
const NUMBERS: [&str; 3] = ["scalar", "eps", "base"];
/// The operations that it has.
const OPERATIONS: [&str; 25] = [
    "matmul",
    "add",
    "sub",
    "mul",
    "div",
    "scalar_mul",
    "square",
    "exp",
    "tanh",
    "sigmoid",
    "relu",
    "silu",
    "gelu",
    "softmax",
    "reshape",
    "transpose",
    "slice",
    "concat",
    "embed",
    "rmsnorm",
    "rope",
    "outer",
    "scan",
    "scan_tv",
    "matrix_scan",
];

/// Whether `key` is none of the parameters of `row`, did nothing there, and is no slip of the pen.
pub fn is_idle(row: &Row, key: &str) -> bool {
    let own = row.params.iter().any(|param| param.name == key);
    let reads =
        |numbers| row.params.iter().any(|param| (param.kind == ParamKind::Float) == numbers);
    let shifts = INTEGERS.contains(&key) && reads(false) || NUMBERS.contains(&key) && reads(true);
    let slip = nearest(key, row.params.iter().map(|param| param.name)).is_some();
    OPERATIONS.contains(&row.name()) && !own && !shifts && !slip
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_shifts_or_resembles_a_parameter_is_not_idle() {
        let idle = |op: &str, key: &str| is_idle(Row::find(op).unwrap(), key);
        for (op, key) in [("div", "eps"), ("rmsnorm", "axis"), ("softmax", "eps"), ("scan", "note")]
        {
            assert!(idle(op, key), "{op} {key}");
        }
        for (op, key) in [
            ("softmax", "axis"),
            ("softmax", "axs"),
            ("softmax", "D"),
            ("rmsnorm", "scalar"),
            ("rope", "scalar"),
            ("matrix_scan", "D"),
            ("mean", "eps"),
        ] {
            assert!(!idle(op, key), "{op} {key}");
        }
    }

    #[test]
    fn all_of_its_operations_are_here() {
        for name in OPERATIONS {
            assert_eq!(Row::find(name).map(Row::name), Some(name));
        }
    }
}

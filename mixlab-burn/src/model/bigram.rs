//! Hashed bigram ids: which row of the bigram table a token and its predecessor share.

use burn::tensor::{DType, ElementConversion, Int, IntDType, Tensor, backend::Backend};

use crate::data::batch::Batch;

/// Factors of a token and of its predecessor; odd.
const FACTORS: [i64; 2] = [36_313, 27_191];

/// Ids `[B, T]` for a table of `vocab` rows: `((36313·x) XOR (27191·previous)) mod (vocab − 1)`; a
/// token without a predecessor gets the last row.
///
/// The predecessor of a row's first token is the batch's `prev`, so that no row reads another.
pub fn bigram_ids(batch: &Batch, vocab: usize) -> Vec<i32> {
    let (modulus, [x, y]) = (vocab as i64 - 1, FACTORS);
    let rows = batch.x.chunks(batch.seq).zip(&batch.prev);
    let ids = rows.flat_map(|(row, first)| {
        let previous = std::iter::once(first).chain(row);
        row.iter().zip(previous).map(move |(token, previous)| match *previous {
            ..0 => modulus as i32,
            p => (((x * i64::from(*token)) ^ (y * i64::from(p))) % modulus) as i32,
        })
    });
    ids.collect()
}

/// [`bigram_ids`] of rows `[B, T]` after the tokens `before` `[B, 1]`, on their device; a token is
/// negative where there is none, and none comes before without `before`.
pub(crate) fn bigrams_after<B: Backend>(
    ids: Tensor<B, 2, Int>,
    before: Option<Tensor<B, 2, Int>>,
    vocab: usize,
) -> Tensor<B, 2, Int> {
    let dtype = if ids.dtype() == DType::I64 { IntDType::I64 } else { IntDType::I32 };
    let ids = ids.cast(dtype);
    let [rows, columns] = ids.dims();
    let before = before.map_or_else(
        || Tensor::full([rows, 1], -1, (&ids.device(), DType::from(dtype))),
        |x| x.cast(dtype),
    );
    let previous = Tensor::cat(vec![before, ids.clone()], 1).narrow(1, 0, columns);
    let none = previous.clone().lower_elem(0);
    let modulus = vocab as i64 - 1;
    let hash = if dtype == IntDType::I64 { hash } else { hash_by_halves };
    hash([ids, previous], modulus).mask_fill(none, modulus)
}

fn hash<B: Backend>([ids, previous]: [Tensor<B, 2, Int>; 2], modulus: i64) -> Tensor<B, 2, Int> {
    let mixed = (ids * FACTORS[0]).bitwise_xor(previous * FACTORS[1]);
    mixed.remainder_scalar(modulus)
}

/// [`hash`] in 32 bits with a sign, where the product of a token may have one bit too many: all bits
/// but the last are mixed first, and then doubled modulo `modulus`.
fn hash_by_halves<B: Backend>(tokens: [Tensor<B, 2, Int>; 2], modulus: i64) -> Tensor<B, 2, Int> {
    let last = tokens.clone().map(|x| x.bitwise_and_scalar(1.elem()));
    let halves =
        tokens.map(|x| x.bitwise_right_shift_scalar(1.elem())).into_iter().zip(last.clone());
    // Half of the product of an odd factor `f` and `2h + l`, rounded down: `f·h + l·(f / 2)`.
    let halves = halves.zip(FACTORS).map(|((half, last), f)| half * f + last * (f / 2));
    let both = |[x, y]: [Tensor<B, 2, Int>; 2]| x.bitwise_xor(y);
    let rest = both(halves.collect::<Vec<_>>().try_into().expect("two")).remainder_scalar(modulus);
    let doubled = rest.clone() - (-rest + modulus);
    (doubled + both(last)).remainder_scalar(modulus)
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use burn::tensor::TensorData;
    use burn_flex::Flex;

    use super::*;

    fn ids(x: &[i32], vocab: usize) -> Vec<i32> {
        let batch = Batch { batch: 1, seq: x.len(), x: x.into(), y: x.into(), prev: vec![-1] };
        bigram_ids(&batch, vocab)
    }

    #[test]
    fn ids_are_those_of_the_specification() {
        assert_eq!(ids(&[10, 20, 30, 40, 50], 97), [96, 50, 2, 58, 26]);
        assert_eq!(ids(&[1023, 65535, 7, 7], 4096), [4095, 2938, 2279, 1918]);
    }

    #[test]
    fn a_row_starts_from_the_token_before_it() {
        let batch = Batch {
            batch: 2,
            seq: 2,
            x: vec![10, 20, 30, 40],
            y: vec![20, 30, 40, 50],
            prev: vec![-1, 20],
        };
        assert_eq!(bigram_ids(&batch, 97), [96, 50, 2, 58]);
    }
    #[test]
    fn a_device_computes_the_same_ids_in_32_and_in_64_bits() {
        // Tokens of both ends, whose products need 32 bits, and tables of both ends.
        let tokens: Vec<i32> = (0..40).chain(59_130..59_150).chain(65_500..65_536).collect();
        let (half, rows) = (tokens.len() / 2, 2);
        let batch = Batch {
            batch: rows,
            seq: half,
            x: tokens.clone(),
            y: tokens.clone(),
            prev: vec![-1, 65_535],
        };
        let device = Default::default();
        for vocab in [2, 3, 97, 4096, 65_536, (1 << 30) + 1, i32::MAX as usize] {
            let expected = bigram_ids(&batch, vocab);
            for dtype in [IntDType::I32, IntDType::I64] {
                let tensor = |values: &[i32], columns| {
                    let data = TensorData::new(values.to_vec(), [rows, columns]);
                    Tensor::<Flex, 2, Int>::from_data(data, &device).cast(dtype)
                };
                let ids = bigrams_after(tensor(&tokens, half), Some(tensor(&batch.prev, 1)), vocab);
                let found = ids.into_data().convert::<i32>().into_vec::<i32>().unwrap();
                assert_eq!(found, expected, "{vocab} {dtype:?}");
            }
        }
    }

    #[test]
    fn a_row_that_nothing_comes_before_begins_with_the_last_row_of_the_table() {
        let ids = Tensor::<Flex, 2, Int>::from_ints([[10, 20, 30, 40, 50]], &Default::default());
        let found = bigrams_after(ids, None, 97).into_data().convert::<i32>();
        assert_eq!(found.into_vec::<i32>().unwrap(), [96, 50, 2, 58, 26]);
    }
}

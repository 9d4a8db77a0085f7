//! Hashed bigram ids: which row of the bigram table a token and its predecessor share.

use crate::data::batch::Batch;

/// Ids `[B, T]` for a table of `vocab` rows: `((36313·x) XOR (27191·previous)) mod (vocab − 1)`; a
/// token without a predecessor gets the last row.
///
/// The predecessor of a row's first token is the batch's `prev`, so that no row reads another.
pub fn bigram_ids(batch: &Batch, vocab: usize) -> Vec<i32> {
    let modulus = vocab as i64 - 1;
    let rows = batch.x.chunks(batch.seq).zip(&batch.prev);
    let ids = rows.flat_map(|(row, first)| {
        let previous = std::iter::once(first).chain(row);
        row.iter().zip(previous).map(move |(token, previous)| match *previous {
            ..0 => modulus as i32,
            p => (((36_313 * i64::from(*token)) ^ (27_191 * i64::from(p))) % modulus) as i32,
        })
    });
    ids.collect()
}

#[cfg(test)]
mod tests {
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
}

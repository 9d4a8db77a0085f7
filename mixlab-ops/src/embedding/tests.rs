use super::Embedding;
use crate::testing::{Host, check, noise};

/// Ids of 32 bits that number no row of a table of `v`.
fn strays(v: i64) -> [i64; 4] {
    [-1, v, i64::from(i32::MIN), i64::from(i32::MAX)]
}

fn naive(table: &Host, ids: &[i64]) -> Vec<f64> {
    let width = table.shape[1];
    let row = |id: &i64| match usize::try_from(*id) {
        Ok(id) if id < table.shape[0] => table.data[id * width..][..width].to_vec(),
        _ => vec![0.0; width],
    };
    ids.iter().flat_map(row).collect()
}

#[test]
fn rows_are_read_and_gradients_of_equal_ids_add_up() {
    for (v, d, ids) in [(1, 1, vec![0]), (7, 5, vec![3, 3, 0, 6, 3]), (63, 257, vec![62, 0, 1, 0])]
    {
        check(Embedding, [noise(&[v, d], 1)], &ids, |[table]| naive(table, &ids));
    }
}

#[test]
fn an_id_that_numbers_no_row_reads_zeros_and_writes_nothing() {
    for (v, d) in [(1, 1), (7, 5)] {
        let ids: Vec<i64> = [0].into_iter().chain(strays(v)).chain([0, v - 1]).collect();
        check(Embedding, [noise(&[v as usize, d], 1)], &ids, |[table]| naive(table, &ids));
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn the_kernels_equal_the_references() {
    use super::EmbeddingGradient;
    use crate::testing::kernels::same;
    for (v, d, n) in [(1, 1, 1), (7, 5, 40), (63, 257, 300), (3, 64, 700), (300, 4, 1100)] {
        let mut ids: Vec<i64> = (0..n).map(|i| (i * i + 3 * i) % v).collect();
        ids.extend(strays(v));
        let size = v as usize;
        let mut grad = noise(&[ids.len(), d], 3);
        // Many rows add up: keep the sums near 1.
        grad.data.iter_mut().for_each(|g| *g /= (n as f64 / v as f64).sqrt().max(1.0));
        same(Embedding, &[noise(&[size, d], 2)], &ids);
        same(EmbeddingGradient, &[noise(&[size, d], 2), grad], &ids);
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn the_kernels_sort_ids_of_three_digits() {
    use super::EmbeddingGradient;
    use crate::testing::kernels::same_f32;
    let v = 70_000;
    let ids: Vec<i64> = (0..600).map(|i| (i * i * 131) % v).chain([v - 1, 0]).collect();
    same_f32(EmbeddingGradient, &[noise(&[v as usize, 1], 2), noise(&[ids.len(), 1], 3)], &ids);
}

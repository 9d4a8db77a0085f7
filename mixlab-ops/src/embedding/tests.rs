use super::Embedding;
use crate::testing::{check, noise};

#[test]
fn rows_are_read_and_gradients_of_equal_ids_add_up() {
    for (v, d, ids) in [(1, 1, vec![0]), (7, 5, vec![3, 3, 0, 6, 3]), (63, 257, vec![62, 0, 1, 0])]
    {
        let op = Embedding { count: ids.len() };
        check(op, [noise(&[v, d], 1)], &ids, |[table]| {
            let row = |id: &i64| table.data[*id as usize * d..][..d].to_vec();
            ids.iter().flat_map(row).collect()
        });
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn the_kernels_equal_the_references() {
    use super::EmbeddingGradient;
    use crate::testing::kernels::same;
    for (v, d, n) in [(1, 1, 1), (7, 5, 40), (63, 257, 300), (3, 64, 700)] {
        let ids: Vec<i64> = (0..n).map(|i| (i * i + 3 * i) % v).collect();
        let size = v as usize;
        let mut grad = noise(&[n as usize, d], 3);
        // Many rows add up: keep the sums near 1.
        grad.data.iter_mut().for_each(|g| *g /= (n as f64 / v as f64).sqrt().max(1.0));
        same(EmbeddingGradient, &[noise(&[size, d], 2), grad], &ids);
    }
}

use burn::tensor::{DType, Tensor};
use burn_flex::Flex;

use super::{Dropout, dropout};
use crate::Backend;
use crate::testing::{Host, check, noise, with_references};

const OP: Dropout = Dropout { rate: 0.3, seed: 0x1234_5678_9abc_def0, step: 7, site: 2, row: 0 };

fn ones<B: Backend>(op: &Dropout, shape: [usize; 2]) -> Vec<f32> {
    let x = Tensor::<B, 2>::ones(shape, (&Default::default(), DType::F32));
    dropout(x, op).into_data().to_vec().unwrap()
}

/// 1 where an element is kept, else 0.
fn kept(op: &Dropout, shape: [usize; 2]) -> Vec<f64> {
    ones::<Flex>(op, shape).iter().map(|y| f64::from(u8::from(*y != 0.0))).collect()
}

#[test]
fn values_and_gradients_are_those_of_the_mask() {
    for (shape, row) in [([1, 1], 0), ([5, 7], 3), ([33, 64], u32::MAX - 4)] {
        let op = Dropout { row, ..OP };
        let mask = op.mask(shape[0], shape[1]);
        check(op, [noise(&shape, 1)], &[], |[x]: &[Host; 1]| {
            let each = x.data.iter().zip(&mask);
            each.map(|(x, dropped)| if *dropped { 0.0 } else { x / (1.0 - 0.3f32) as f64 })
                .collect()
        });
    }
}

#[test]
fn the_body_for_the_cpu_has_the_bits_of_the_reference() {
    for shape in [[1, 1], [9, 5], [40, 130]] {
        assert_eq!(ones::<Flex>(&OP, shape), with_references(|| ones::<Flex>(&OP, shape)));
    }
}

#[test]
fn a_dropped_element_is_zero_whatever_it_was() {
    let x = Tensor::<Flex, 1>::from_floats([f32::NAN; 64], &Default::default());
    let y = dropout(x, &OP).into_data().to_vec::<f32>().unwrap();
    assert!(y.contains(&0.0) && y.iter().any(|y| y.is_nan()));
    assert!(y.iter().all(|y| *y == 0.0 || y.is_nan()));
}

#[test]
fn rows_have_the_same_mask_wherever_the_batch_is_cut() {
    let whole = ones::<Flex>(&OP, [12, 10]);
    for cut in [1, 5, 11] {
        let first = ones::<Flex>(&OP, [cut, 10]);
        let rest = ones::<Flex>(&Dropout { row: cut as u32, ..OP }, [12 - cut, 10]);
        assert_eq!([first, rest].concat(), whole);
    }
}

#[test]
fn the_part_that_is_kept_is_that_of_the_rate() {
    for rate in [0.0, 0.01, 0.1, 0.5, 0.9] {
        const COUNT: usize = 1000 * 301;
        let mask = kept(&Dropout { rate, ..OP }, [1000, 301]);
        let found = mask.iter().sum::<f64>() / COUNT as f64;
        let expected = 1.0 - f64::from(rate);
        let deviation = (expected * (1.0 - expected) / COUNT as f64).sqrt();
        assert!((found - expected).abs() <= 4.0 * deviation, "{found} kept at rate {rate}");
    }
}

/// Correlation of two masks of one rate.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let product = |(a, b): (&f64, &f64)| (a - mean_a) * (b - mean_b);
    let square = |x: &[f64], mean: f64| x.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
    a.iter().zip(b).map(product).sum::<f64>() / (square(a, mean_a) * square(b, mean_b)).sqrt()
}

#[test]
fn masks_of_other_sites_steps_seeds_rows_and_columns_are_independent() {
    let shape = [500, 200];
    let count = (shape[0] * shape[1]) as f64;
    let mask = kept(&OP, shape);
    let other = |op: Dropout| kept(&op, shape);
    let others = [
        ("site", other(Dropout { site: OP.site + 1, ..OP })),
        ("step", other(Dropout { step: OP.step + 1, ..OP })),
        // What a sum of the two would confuse.
        ("site and step", other(Dropout { site: OP.step, step: OP.site, ..OP })),
        ("seed", other(Dropout { seed: OP.seed + 1, ..OP })),
        ("high half of the seed", other(Dropout { seed: OP.seed + (1 << 32), ..OP })),
        ("row", other(Dropout { row: OP.row + 1, ..OP })),
        ("column", [&mask[1..], &mask[..1]].concat()),
        ("block of columns", [&mask[4..], &mask[..4]].concat()),
    ];
    for (what, other) in others {
        let found = correlation(&mask, &other);
        assert!(found.abs() <= 4.0 / count.sqrt(), "correlation {found} with another {what}");
    }
}

#[test]
#[should_panic(
    expected = "`mixlab.dropout` does not take (f32 [1, 1]): `rate` should be in 0..1, and is `1`"
)]
fn a_rate_that_keeps_nothing_is_refused() {
    ones::<Flex>(&Dropout { rate: 1.0, ..OP }, [1, 1]);
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn the_kernels_equal_the_references() {
    use crate::testing::kernels::{outputs, same};
    for (shape, row) in
        [(&[1, 1][..], 0), (&[5, 7], 3), (&[3, 11, 6], u32::MAX - 4), (&[130, 64], 9)]
    {
        let op = Dropout { row, ..OP };
        same(op, &[noise(shape, 3)], &[]);
        let ones = Host { data: vec![1.0; shape.iter().product()], shape: shape.to_vec() };
        let [columns] = shape[shape.len() - 1..] else { unreachable!() };
        let mask = op.mask(ones.data.len() / columns, columns);
        for got in outputs(op, &[ones]) {
            let dropped: Vec<bool> = got[0].iter().map(|y| *y == 0.0).collect();
            assert_eq!(dropped, mask);
        }
    }
}

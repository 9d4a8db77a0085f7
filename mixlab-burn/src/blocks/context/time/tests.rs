use burn::tensor::{Tensor, TensorData};
use burn_flex::Flex;

use super::Flow;
use crate::blocks::Memory;

const BATCH: usize = 2;
const WIDTH: usize = 6;

/// Numbers in `[-1, 1)`.
fn noise(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(((state >> 40) as f32) / 8_388_608.0 - 1.0)
    };
    (0..count).map(|_| draw()).collect()
}

fn matrix(values: &[f64], rows: usize) -> Tensor<Flex, 2> {
    let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
    Tensor::from_data(TensorData::new(values, [rows, WIDTH]), &Default::default())
}

fn gate(channel: usize) -> f64 {
    f64::from(0.5 + 0.04 * channel as f32)
}

fn gates() -> Tensor<Flex, 1> {
    let gates: Vec<f32> = (0..WIDTH).map(|c| gate(c) as f32).collect();
    Tensor::from_floats(gates.as_slice(), &Default::default())
}

/// The averages in f64, with weights relative to the largest: `seq` tokens of each row.
fn expected(key: &[f64], value: &[f64], seq: usize) -> Vec<f64> {
    let mut y = vec![0.0; key.len()];
    for (batch, channel) in (0..BATCH * WIDTH).map(|n| (n / WIDTH, n % WIDTH)) {
        let (mut max, mut sum, mut total) = (f64::MIN, 0.0, 0.0);
        for t in 0..seq {
            let at = (batch * seq + t) * WIDTH + channel;
            let faded = max + gate(channel).ln();
            let next = faded.max(key[at]);
            let (kept, weight) = ((faded - next).exp(), (key[at] - next).exp());
            (max, sum, total) = (next, kept * sum + weight * value[at], kept * total + weight);
            y[at] = sum / total;
        }
    }
    y
}

#[test]
fn averages_are_exact_in_long_rows_whose_keys_lie_far_apart() {
    const SEQ: usize = 600;
    let rows = BATCH * SEQ;
    for spread in [1.0, 30.0, 60.0, 200.0] {
        let key = noise(rows * WIDTH, 1).into_iter().map(|k| f64::from((k * spread) as f32));
        let (key, value) = (key.collect::<Vec<_>>(), noise(rows * WIDTH, 2));
        let mut flow = Flow::new(BATCH, SEQ);
        let y = flow.average(matrix(&key, rows), matrix(&value, rows), gates());
        let got = y.into_data().to_vec::<f32>().unwrap();
        for (i, (got, expected)) in got.iter().zip(expected(&key, &value, SEQ)).enumerate() {
            let error = (f64::from(*got) - expected).abs();
            assert!(error < 2e-5, "spread {spread}, element {i}: {got} instead of {expected}");
        }
    }
}

#[test]
fn a_door_keeps_one_state_for_each_place_and_each_passage() {
    let x = || Tensor::<Flex, 2>::ones([BATCH, WIDTH], &Default::default());
    let mut flow = Flow::new(BATCH, 1);
    flow.go_on(Memory::new());
    for (index, owner) in [(0, 0), (1, 0)] {
        flow.enter(index, owner);
        flow.shift(x());
        flow.scan(x(), gates());
    }
    let memory = flow.into_memory().unwrap();
    assert_eq!(memory.doors().collect::<Vec<_>>(), [(0, 0), (0, 1), (1, 0), (1, 1)]);
    assert_eq!(memory.past(), 1);
}

#[test]
fn without_a_memory_nothing_is_kept() {
    let mut flow = Flow::<Flex>::new(BATCH, 1);
    let made = flow.through(|_, before| {
        assert!(before.is_none());
        (1, || panic!("made although nobody keeps it"))
    });
    assert_eq!(made, 1);
    assert!(flow.into_memory().is_none());
}

//! Each op, forward and backward, against the limit of the device: the bytes that it must move over
//! what a plain copy moves, or its operations over what the largest product reaches.
//!
//! ```sh
//! cargo bench -p mixlab-ops --features cuda      # or wgpu, or nothing for burn-flex
//! cargo bench -p mixlab-ops --features cuda -- scan attention
//! ```
//!
//! Words after `--` choose the rows whose name contains one of them. Inputs are random; each row is
//! the median of seven stretches of at least 20 ms, after a warm-up; `spread` is the slowest over the
//! fastest.

use std::time::{Duration, Instant};

use burn::tensor::{DType, Distribution, Int, Shape, Tensor, TensorMetadata};
use burn_backend::tensor::{FloatTensor, IntTensor};
use mixlab_ops::{
    Activation, AdamW, Attention, Backend, CrossEntropy, CrossEntropyGradient, Dropout, Embedding,
    Gate, Linear, MatrixScan, Op, Orthogonalize, Precision, Rates, Retention, RmsNorm, Rope, Scan,
    ScanTv, Spec, SquareSum, Tape, Xsa, adamw, lift, lower,
};

/// Sizes that fill the device many times over.
struct Sizes {
    batch: usize,
    time: usize,
    width: usize,
    vocab: usize,
    product: usize,
}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
const SIZES: Sizes = Sizes { batch: 8, time: 2048, width: 2048, vocab: 50304, product: 8192 };
#[cfg(not(any(feature = "cuda", feature = "wgpu")))]
const SIZES: Sizes = Sizes { batch: 2, time: 512, width: 512, vocab: 4096, product: 1024 };

#[cfg(feature = "cuda")]
type Device = burn_cubecl::CubeBackend<cubecl::cuda::CudaRuntime, f32, i32, u8>;
#[cfg(all(feature = "wgpu", not(feature = "cuda")))]
type Device = burn_cubecl::CubeBackend<cubecl::wgpu::WgpuRuntime, f32, i32, u32>;
#[cfg(not(any(feature = "cuda", feature = "wgpu")))]
type Device = burn_flex::Flex;

/// What bounds an op.
#[derive(Clone, Copy)]
enum Limit {
    /// Its inputs and outputs, each moved once.
    Bytes,
    /// So many multiplications and additions forward; twice as many backward for a product, and two
    /// and a half times for attention, which computes its scores again.
    Operations { forward: f64, backward: f64 },
}

struct Bench<B: Backend> {
    device: B::Device,
    wanted: Vec<String>,
    /// Bytes a second of a copy, read and written.
    copy: f64,
    /// Operations a second of the largest product in bf16.
    product: f64,
}

fn main() {
    let wanted = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let mut bench =
        Bench::<Device> { device: Default::default(), wanted, copy: 0.0, product: f64::NAN };
    bench.ceilings();
    println!("| op | inputs | ms | spread | rate | of the limit |");
    println!("|---|---|---:|---:|---:|---:|");
    bench.streams();
    bench.heads();
    bench.products();
    bench.updates();
}

impl<B: Backend> Bench<B> {
    /// Measures what the device can do.
    fn ceilings(&mut self) {
        let x = self.float(&[1 << if SIZES.product > 4096 { 29 } else { 24 }], DType::F32);
        let bytes = 8.0 * x.shape().num_elements() as f64;
        let (time, _) = self.time(|| drop(B::float_add_scalar(x.clone(), 1f32.into())));
        self.copy = bytes / time.as_secs_f64();
        println!("copy: {:.0} GB/s", self.copy / 1e9);
        let n = SIZES.product;
        let [a, b] = [(); 2].map(|()| self.float(&[n, n], self.half()));
        let op = Linear { precision: self.precision(), output: None };
        let (time, _) = self.time(|| drop(B::execute(&op, [a.clone(), b.clone()], vec![])));
        self.product = 2.0 * (n as f64).powi(3) / time.as_secs_f64();
        println!("product {n}³ in {}: {:.1} TFLOP/s\n", self.precision(), self.product / 1e12);
    }

    fn half(&self) -> DType {
        B::half(&self.device).unwrap_or(DType::F32)
    }

    fn precision(&self) -> Precision {
        if self.half() == DType::BF16 { Precision::Bf16 } else { Precision::F32 }
    }

    /// f32, and the half precision that the device has.
    fn types(&self) -> Vec<DType> {
        let mut types = vec![DType::F32, self.half()];
        types.dedup();
        types
    }

    /// Ops over `[B, T, C]` and `[N, D]`.
    fn streams(&self) {
        let Sizes { batch, time, width, vocab, .. } = SIZES;
        let rows = batch * time;
        for dtype in self.types() {
            let stream = self.float(&[batch, time, width], dtype);
            let gate = self.uniform(&[width], DType::F32);
            self.op(&Scan, [stream.clone(), gate], vec![], Limit::Bytes);
            let gates = self.uniform(&[batch, time, width], dtype);
            self.op(&ScanTv, [stream, gates], vec![], Limit::Bytes);
            let update = self.float(&[batch, time / 4, 64, 64], dtype);
            let gate = self.uniform(&[batch, time / 4, 64], dtype);
            self.op(&MatrixScan, [update, gate], vec![], Limit::Bytes);
            let matrix = || self.float(&[rows, width], dtype);
            let norm = RmsNorm { eps: 1e-5, dtype: None };
            let scale = self.float(&[width], DType::F32);
            self.op(&norm, [matrix(), scale], vec![], Limit::Bytes);
            let gate = Gate { kind: Activation::Silu };
            self.op(&gate, [matrix(), matrix()], vec![], Limit::Bytes);
            let dropout = Dropout { rate: 0.1, seed: 1, step: 0, site: 0, row: 0 };
            self.op(&dropout, [matrix()], vec![], Limit::Bytes);
            self.cross_entropy([rows, vocab], dtype);
        }
        let table = self.float(&[vocab, width], DType::F32);
        let embedding = Embedding;
        self.op(&embedding, [table], vec![self.ids(rows, vocab)], Limit::Bytes);
    }

    /// The losses alone, and as a training step has them, with the gradient of their mean.
    fn cross_entropy(&self, shape: [usize; 2], dtype: DType) {
        let (logits, ids) = (self.float(&shape, dtype), self.ids(shape[0], shape[1]));
        let what = format!("{shape:?} {dtype:?}").to_lowercase();
        let bytes = (shape[0] * shape[1] * dtype.size()) as f64;
        let op = CrossEntropy::default();
        self.row("cross_entropy", &what, Limit::Bytes, bytes, || {
            drop(B::execute(&op, [logits.clone()], vec![ids.clone()]));
        });
        let op = op.recorded(&[Spec { shape: shape.into(), dtype }]);
        let ahead = op.ahead.expect("the gradient comes with the losses");
        let g = lower(Tensor::<B, 1>::full([shape[0]], ahead, &self.device));
        // Nobody else holds the logits; what comes out are the next ones.
        let mut logits = Some(logits);
        self.row("cross_entropy, forward and backward", &what, Limit::Bytes, 2.0 * bytes, || {
            let inputs = [logits.take().expect("given back below")];
            let dz = B::execute(&op, inputs, vec![ids.clone()]).pop().expect("the gradient");
            logits = B::execute(&CrossEntropyGradient { ahead }, [dz, g.clone()], vec![]).pop();
        });
    }

    /// Ops over `[B, H, T, hd]`.
    fn heads(&self) {
        let (heads, time, hd) = (16, SIZES.time, 64);
        let scale = 1.0 / (hd as f32).sqrt();
        for dtype in self.types() {
            let head = |batch| self.float(&[batch, heads, time, hd], dtype);
            let rope = Rope { dims: hd, base: 1e4, start: 0, inverse: false };
            self.op(&rope, [head(SIZES.batch)], vec![], Limit::Bytes);
            self.op(&Xsa, [head(SIZES.batch), head(SIZES.batch)], vec![], Limit::Bytes);
            let precisions: &[Precision] = match dtype {
                DType::F32 => &[Precision::Tf32, Precision::F32],
                _ => &[Precision::Tf32],
            };
            let sizes = [1, SIZES.batch];
            for (batch, &precision) in
                sizes.into_iter().flat_map(|b| precisions.iter().map(move |p| (b, p)))
            {
                // Two products of which causality leaves half.
                let forward = 2.0 * (batch * heads * time * time * hd) as f64;
                let limit = Limit::Operations { forward, backward: 2.5 * forward };
                let qkv = [head(batch), head(batch), head(batch)];
                let [q, k, v] = qkv.clone();
                self.op(&Attention { causal: true, scale, precision }, qkv, vec![], limit);
                let decay = self.uniform(&[heads], DType::F32);
                self.op(&Retention { scale, precision }, [q, k, v, decay], vec![], limit);
            }
        }
    }

    fn products(&self) {
        let n = SIZES.product / 8;
        let all = [Precision::Bf16, Precision::Tf32, Precision::F32];
        for precision in
            all.into_iter().filter(|p| *p != Precision::Bf16 || self.half() == DType::BF16)
        {
            for [rows, depth, columns] in [[16 * n, n, 4 * n], [8 * n, 3 * n / 4, SIZES.vocab]] {
                let forward = 2.0 * (rows * depth * columns) as f64;
                let limit = Limit::Operations { forward, backward: 2.0 * forward };
                let dtype = if precision == Precision::Bf16 { DType::BF16 } else { DType::F32 };
                let inputs =
                    [self.float(&[rows, depth], dtype), self.float(&[depth, columns], DType::F32)];
                self.op(&Linear { precision, output: None }, inputs, vec![], limit);
            }
        }
    }

    /// What the optimizer does.
    fn updates(&self) {
        let count = SIZES.vocab * SIZES.width / 2;
        let grad = self.float(&[count], DType::F32);
        let [factor, bias] = [(); 2].map(|()| lower(Tensor::<B, 1>::ones([2], &self.device)));
        // One large tensor, and as many small ones as a launch takes.
        for (tensors, count) in [(1, count), (16, SIZES.width)] {
            let rates = vec![Rates { lr: 1e-3, decay: 0.0, beta1: 0.9, bias: 1 }; tensors];
            let op = AdamW { rates, beta2: 0.95, epsilon: 1e-8 };
            let x = || self.float(&[count], DType::F32);
            let squares = || lower(lift::<B, 1>(x()).square());
            let grad = x();
            let mut state: Vec<_> = (0..tensors).map(|_| [x(), x(), squares()]).collect();
            let bytes = 7.0 * 4.0 * (tensors * count) as f64;
            self.row("adamw", &format!("{tensors} × [{count}]"), Limit::Bytes, bytes, || {
                let old = core::mem::take(&mut state).into_iter();
                let old = old.map(|[weight, m, v]| [weight, grad.clone(), m, v]);
                state = adamw::<B>(&op, [&factor, &bias], old.collect());
            });
        }
        let parts = lower(Tensor::<B, 1>::zeros([128], &self.device));
        let sum = || drop(B::execute(&SquareSum, [parts.clone(), grad.clone()], vec![]));
        self.row("square_sum", &format!("[{count}]"), Limit::Bytes, 4.0 * count as f64, sum);
        let n = SIZES.product / 8;
        let batch = self.float(&[8, n, n], DType::F32);
        for precision in [Precision::F32, self.precision()] {
            let op = Orthogonalize { steps: 5, precision };
            let forward = 8.0 * 5.0 * 6.0 * (n as f64).powi(3);
            let limit = Limit::Operations { forward, backward: 0.0 };
            let what = format!("[8, {n}, {n}] {precision}");
            let run = || drop(B::execute(&op, [batch.clone()], vec![]));
            self.row("orthogonalize", &what, limit, forward, run);
        }
    }

    /// A row for the forward of `op`, and one for its gradient if that is written by hand.
    fn op<O: Op<N>, const N: usize>(
        &self,
        op: &O,
        inputs: [FloatTensor<B>; N],
        ints: Vec<IntTensor<B>>,
        limit: Limit,
    ) {
        let name = O::NAME.trim_start_matches("mixlab.");
        let size = |x: &FloatTensor<B>| (x.shape().num_elements() * x.dtype().size()) as f64;
        let what: Vec<_> = inputs
            .iter()
            .map(|x| format!("{:?} {:?}", x.shape().to_vec(), x.dtype()).to_lowercase())
            .collect();
        let what = what.join(", ");
        let outputs = B::execute(op, inputs.clone(), ints.clone());
        // A table of which some rows are read counts for these.
        let read: f64 = match name {
            "embedding" => size(&outputs[0]),
            _ => inputs.iter().map(size).sum(),
        };
        let work = match limit {
            Limit::Bytes => read + outputs.iter().map(size).sum::<f64>(),
            Limit::Operations { forward, .. } => forward,
        };
        self.row(name, &what, limit, work, || {
            drop(B::execute(op, inputs.clone(), ints.clone()));
        });
        if !O::GRADIENT {
            return;
        }
        let grad = self.float(&outputs[0].shape().to_vec(), outputs[0].dtype());
        let kept = core::array::from_fn(|i| O::KEEPS[i].then(|| inputs[i].clone()));
        let outputs = outputs.into_iter().skip(usize::from(!O::KEEPS_OUTPUT)).collect();
        let tape = Tape::<B, N> { inputs: kept, ints, outputs };
        let kept = tape.inputs.iter().flatten().chain(&tape.outputs).map(size).sum::<f64>();
        let written: f64 = inputs.iter().map(size).sum();
        let work = match limit {
            Limit::Bytes if name == "embedding" => size(&grad) + written,
            Limit::Bytes => kept + size(&grad) + written,
            Limit::Operations { backward, .. } => backward,
        };
        self.row(&format!("{name} backward"), &what, limit, work, || {
            drop(op.gradient::<B>(tape.clone(), grad.clone()));
        });
    }

    /// Times `run`, which does `work` (bytes or operations), and prints its row.
    fn row(&self, name: &str, what: &str, limit: Limit, work: f64, run: impl FnMut()) {
        if !self.wanted.is_empty() && !self.wanted.iter().any(|w| name.contains(w)) {
            return;
        }
        let (time, spread) = self.time(run);
        let rate = work / time.as_secs_f64();
        let (rate, share) = match limit {
            Limit::Bytes => (format!("{:.0} GB/s", rate / 1e9), rate / self.copy),
            Limit::Operations { .. } => {
                (format!("{:.1} TFLOP/s", rate / 1e12), rate / self.product)
            }
        };
        let ms = time.as_secs_f64() * 1e3;
        println!("| {name} | {what} | {ms:.3} | {spread:.2} | {rate} | {:.0} % |", share * 100.0);
    }

    /// Median time of one `run`, and the slowest stretch over the fastest.
    fn time(&self, mut run: impl FnMut()) -> (Duration, f64) {
        let mut stretch = |count: u32| {
            B::sync(&self.device).expect("the device answers");
            let start = Instant::now();
            (0..count).for_each(|_| run());
            B::sync(&self.device).expect("the device answers");
            start.elapsed() / count
        };
        stretch(2);
        let once = stretch(3).max(Duration::from_nanos(100));
        let count = (Duration::from_millis(20).as_nanos() / once.as_nanos()).clamp(1, 2000) as u32;
        let mut times: Vec<_> = (0..7).map(|_| stretch(count)).collect();
        times.sort();
        (times[3], times[6].as_secs_f64() / times[0].as_secs_f64())
    }

    fn random(&self, shape: &[usize], dtype: DType, how: Distribution) -> FloatTensor<B> {
        let count: usize = shape.iter().product();
        let flat = Tensor::<B, 1>::random([count], how, &self.device).cast(dtype);
        B::float_reshape(lower(flat), Shape::from(shape.to_vec()))
    }

    fn float(&self, shape: &[usize], dtype: DType) -> FloatTensor<B> {
        self.random(shape, dtype, Distribution::Normal(0.0, 1.0))
    }

    fn uniform(&self, shape: &[usize], dtype: DType) -> FloatTensor<B> {
        self.random(shape, dtype, Distribution::Uniform(0.05, 0.95))
    }

    fn ids(&self, count: usize, below: usize) -> IntTensor<B> {
        let high = Distribution::Uniform(0.0, below as f64);
        Tensor::<B, 1, Int>::random([count], high, &self.device).into_primitive()
    }
}

use burn::tensor::{DType, Tensor};
use burn_flex::Flex;

use super::{Insert, Leading, insert};
use crate::testing::{Host, check, noise};
use crate::{Op, Spec, lower};

fn naive([buffer, new]: &[Host; 2], start: usize) -> Vec<f64> {
    let (room, steps, width) = (buffer.shape[2], new.shape[2], buffer.shape[3]);
    let element = |i: usize| {
        let (row, step) = (i / width / room, i / width % room);
        match step.checked_sub(start) {
            Some(t) if t < steps => new.data[(row * steps + t) * width + i % width],
            _ => buffer.data[i],
        }
    };
    (0..buffer.data.len()).map(element).collect()
}

#[test]
fn new_steps_replace_those_of_the_buffer() {
    for (buffer, steps, start) in [([1, 1, 1, 1], 1, 0), ([2, 3, 7, 5], 3, 4), ([2, 3, 7, 5], 7, 0)]
    {
        let [b, h, _, hd] = buffer;
        let inputs = [noise(&buffer, 1), noise(&[b, h, steps, hd], 2)];
        check(Insert { start }, inputs, &[], |inputs| naive(inputs, start));
    }
}

type Buffer = Tensor<Flex, 4>;

fn address(x: &Buffer) -> *const f32 {
    lower(x.clone()).storage::<f32>().as_ptr()
}

#[test]
fn a_buffer_is_written_in_place_unless_another_reads_it() {
    let device = Default::default();
    let new = || Buffer::ones([1, 2, 1, 3], &device);
    let buffer = Buffer::zeros([1, 2, 4, 3], &device);
    let place = address(&buffer);
    let buffer = insert(buffer, new(), 1);
    assert_eq!(address(&buffer), place);
    let fork = buffer.clone();
    let written = insert(buffer, new(), 2);
    assert_ne!(address(&written), place);
    assert_eq!(fork.sum().into_scalar(), 6.0);
    assert_eq!(written.sum().into_scalar(), 12.0);
}

#[test]
fn steps_may_come_as_a_view() {
    let device = Default::default();
    let stream = Tensor::<Flex, 1>::from_floats([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], &device);
    // [B, T, H, hd] seen as [B, H, T, hd].
    let new: Buffer = stream.reshape([1, 2, 2, 2]).swap_dims(1, 2);
    let buffer = insert(Buffer::zeros([1, 2, 3, 2], &device), new, 1);
    let expected = [0.0, 0.0, 1.0, 2.0, 5.0, 6.0, 0.0, 0.0, 3.0, 4.0, 7.0, 8.0];
    assert_eq!(buffer.into_data().to_vec::<f32>().unwrap(), expected);
}

#[test]
fn leading_steps_are_those_of_every_head() {
    for (buffer, steps) in [([1, 1, 1, 1], 1), ([2, 3, 7, 5], 3), ([2, 1, 7, 4], 7)] {
        let row = buffer[2] * buffer[3];
        let expected = |[x]: &[Host; 1]| {
            let rows = x.data.chunks_exact(row);
            rows.flat_map(|row| row[..steps * buffer[3]].to_vec()).collect()
        };
        check(Leading { steps }, [noise(&buffer, 1)], &[], expected);
    }
}

#[test]
fn no_steps_and_more_than_there_are_are_refused() {
    let buffer = Spec::new([1, 2, 4, 3], DType::F32);
    for steps in [0, 5] {
        let error =
            Leading { steps }.outputs(core::array::from_ref(&buffer), &[]).unwrap_err().to_string();
        assert!(error.contains(&format!("`{steps}` steps")), "{error}");
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod kernels {
    use super::{Leading, noise};
    use crate::testing::kernels::same;

    #[test]
    fn leading_steps_are_those_of_the_reference() {
        for (buffer, steps) in [([1, 1, 1, 1], 1), ([2, 3, 7, 5], 3), ([2, 1, 128, 64], 77)] {
            same(Leading { steps }, &[noise(&buffer, 1)], &[]);
        }
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn they_lie_in_the_buffer() {
        use super::{Buffer, address};
        type Plain = burn_cubecl::CubeBackend<cubecl::wgpu::WgpuRuntime, f32, i32, u32>;
        let buffer = burn::tensor::Tensor::<Plain, 4>::zeros([1, 2, 8, 3], &Default::default());
        let held = crate::lower(buffer.clone());
        drop(buffer);
        assert!(held.can_mut());
        let view = crate::leading::<Plain>(crate::lift(held.clone()), 5);
        assert!(!held.can_mut(), "the view has memory of its own");
        drop(view);
        assert!(held.can_mut());
        // As on the CPU.
        let buffer = Buffer::zeros([1, 2, 8, 3], &Default::default());
        assert_eq!(address(&crate::leading(buffer.clone(), 5)), address(&buffer));
    }
}

//! Jobs on CUDA, and what its driver knows of the cards.

use super::{Job, no_device};

/// How many devices there are.
///
/// # Errors
/// If the driver is not there, or does not tell.
pub fn count() -> anyhow::Result<usize> {
    listed().map_err(|why| no_device("cuda", &why))
}

/// How many devices there are, or why that cannot be known.
#[cfg(feature = "cuda")]
fn listed() -> Result<usize, String> {
    use cudarc::driver::{result, sys};
    // SAFETY: only looks whether the driver library can be opened.
    if !unsafe { sys::is_culib_present() } {
        return Err("the NVIDIA driver library `libcuda.so` is not installed".into());
    }
    result::init().map_err(|e| format!("the NVIDIA driver does not start: {e}"))?;
    let count = result::device::get_count().map_err(|e| format!("no device is listed: {e}"))?;
    Ok(count as usize)
}

#[cfg(not(feature = "cuda"))]
fn listed() -> Result<usize, String> {
    Ok(0)
}

/// Bytes of memory of a device.
#[cfg(feature = "cuda")]
pub fn memory(device: usize) -> Option<u64> {
    use cudarc::driver::result;
    let device = result::device::get(device.try_into().ok()?).ok()?;
    // SAFETY: the device is one that the driver has just named.
    unsafe { result::device::total_mem(device) }.ok().map(|bytes| bytes as u64)
}

#[cfg(not(feature = "cuda"))]
pub fn memory(_: usize) -> Option<u64> {
    None
}

/// Begins with the context of a device, which its driver takes a while for and the job needs only
/// when it has planned. Whoever asks for it next waits for it, and is told what failed.
#[cfg(feature = "cuda")]
fn wake(device: usize) {
    use cudarc::driver::result;
    std::thread::spawn(move || {
        let device = result::device::get(device.try_into().ok()?).ok()?;
        // SAFETY: the device is one that the driver has just named.
        unsafe { result::primary_ctx::retain(device) }.is_ok().then_some(())
    });
}

/// Runs `job` on a device.
#[cfg(feature = "cuda")]
pub fn run(device: usize, job: impl Job) -> anyhow::Result<()> {
    use crate::{drivers, failure::watched};
    let count = count()?;
    if device >= count {
        return Err(no_device("cuda", &format!("`--device {device}` of `{count}` devices")));
    }
    wake(device);
    drivers::configure();
    let place = super::Place { kind: "cuda", device: device.to_string(), gpu: true };
    let cuda = burn_cuda::CudaDevice::new(device);
    watched(&place, || job.run::<burn::backend::Autodiff<mixlab_burn::ops::Cuda>>(cuda, &place))
}

#[cfg(not(feature = "cuda"))]
pub fn run(_: usize, _: impl Job) -> anyhow::Result<()> {
    Err(super::missing("cuda", "cuda"))
}

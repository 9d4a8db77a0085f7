//! Jobs on GPUs through the graphics interfaces of wgpu.

use super::{Job, missing};

/// A graphics interface.
#[derive(Clone, Copy, Debug)]
pub enum Graphics {
    Metal,
    Vulkan,
    /// Whichever wgpu finds.
    Any,
}

impl Graphics {
    /// What `--backend` calls it, as does the feature that compiles it.
    fn name(self) -> &'static str {
        match self {
            Self::Metal => "metal",
            Self::Vulkan => "vulkan",
            Self::Any => "wgpu",
        }
    }
}

/// Whether wgpu lists hardware for `graphics`. Opens no device, and asks no other interface. Where
/// Linux has no graphics device no driver is asked: that takes time, and Mesa complains on stderr
/// where there is no desktop.
#[cfg(feature = "wgpu")]
pub fn has_gpu(graphics: Graphics) -> bool {
    use burn_wgpu::graphics::{AutoGraphicsApi, GraphicsApi, Metal, Vulkan};
    use wgpu::{DeviceType, Instance, InstanceDescriptor};
    let nodes = ["/dev/dri", "/dev/nvidiactl", "/dev/dxg"];
    if cfg!(target_os = "linux") && !nodes.iter().any(|node| std::path::Path::new(node).exists()) {
        return false;
    }
    let backends = match graphics {
        Graphics::Metal => Metal::backend(),
        Graphics::Vulkan => Vulkan::backend(),
        Graphics::Any => AutoGraphicsApi::backend(),
    };
    let backends = backends.into();
    let request =
        InstanceDescriptor { backends, ..InstanceDescriptor::new_without_display_handle() };
    let adapters = Instance::new(request).enumerate_adapters(backends);
    let kinds = cubecl::future::block_on(adapters).into_iter().map(|a| a.get_info().device_type);
    kinds
        .into_iter()
        .any(|kind| matches!(kind, DeviceType::DiscreteGpu | DeviceType::IntegratedGpu))
}

#[cfg(not(feature = "wgpu"))]
pub fn has_gpu(_: Graphics) -> bool {
    false
}

/// Runs `job` on the device of that number, by the most able adapter if it is 0.
#[cfg(feature = "wgpu")]
pub fn run(graphics: Graphics, device: usize, job: impl Job) -> anyhow::Result<()> {
    use super::{Place, no_device};
    use crate::{drivers, failure::watched};
    use burn_wgpu::{Wgpu, WgpuDevice, graphics as api, init_setup};
    let device = match device {
        0 => WgpuDevice::DefaultDevice,
        n => WgpuDevice::DiscreteGpu(n),
    };
    let kind = graphics.name();
    let compiled = match graphics {
        Graphics::Metal => cfg!(feature = "metal"),
        Graphics::Vulkan => cfg!(feature = "vulkan"),
        Graphics::Any => true,
    };
    if !compiled {
        return Err(missing(kind, kind));
    }
    drivers::configure();
    drivers::make_folder();
    // wgpu reports a missing adapter by a panic; its text would only repeat what is said below.
    let setup = without_panic(|| match graphics {
        Graphics::Metal => init_setup::<api::Metal>(&device, Default::default()),
        Graphics::Vulkan => init_setup::<api::Vulkan>(&device, Default::default()),
        Graphics::Any => init_setup::<api::AutoGraphicsApi>(&device, Default::default()),
    });
    let Some(setup) = setup else {
        return Err(no_device(kind, &format!("no {graphics:?} adapter for {device:?}")));
    };
    let place = Place { kind, device: setup.adapter.get_info().name, gpu: true };
    watched(&place, || job.run::<burn::backend::Autodiff<Wgpu>>(device, &place))
}

#[cfg(not(feature = "wgpu"))]
pub fn run(graphics: Graphics, _: usize, _: impl Job) -> anyhow::Result<()> {
    Err(missing(graphics.name(), graphics.name()))
}

/// What `f` returns, or nothing if it panics, and then without a word. Other threads are heard: the
/// loader already runs.
#[cfg(feature = "wgpu")]
fn without_panic<T>(f: impl FnOnce() -> T + std::panic::UnwindSafe) -> Option<T> {
    use std::{panic, sync::Arc, thread};
    let here = thread::current().id();
    let hook = Arc::new(panic::take_hook());
    let others = hook.clone();
    panic::set_hook(Box::new(move |info| {
        if thread::current().id() != here {
            others(info);
        }
    }));
    let result = panic::catch_unwind(f);
    panic::set_hook(Box::new(move |info| hook(info)));
    result.ok()
}

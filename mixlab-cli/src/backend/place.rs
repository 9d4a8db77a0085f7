//! Where a job runs, and how much memory there is.

use std::fmt;

use super::cuda;

/// Where a job runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The backend, as `--backend` calls it.
    pub kind: &'static str,
    /// What computes: a number, or a name.
    pub device: String,
    /// Whether it is a GPU, whose kernels are compiled when they are first needed.
    pub gpu: bool,
}

/// How messages call the place: `cuda:0`, or `vulkan (NVIDIA H100)`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            "cuda" => write!(f, "cuda:{}", self.device),
            kind => write!(f, "{kind} ({})", self.device),
        }
    }
}

impl Place {
    /// Bytes of memory that tensors may take here, if they are known.
    pub fn memory(&self) -> Option<u64> {
        match self.kind {
            "cuda" => self.device.parse().ok().and_then(cuda::memory),
            _ if !self.gpu => crate::memory::of_the_machine(),
            _ => None,
        }
    }
}

//! Where there is no timer that interrupts what runs.

use super::format::Packed;
use crate::error::Request;

/// Never made.
pub enum Sampling {}

impl Sampling {
    /// Refuses.
    pub fn start() -> anyhow::Result<Self> {
        let message = "`--cpuprofile` needs Linux or macOS\n  hint: leave it out; `--memprofile` and `--trace` work everywhere";
        Err(Request(message.into()).into())
    }

    /// Nothing.
    pub fn profile(self) -> Packed {
        match self {}
    }
}

//! How a command ends that did not do what it was asked for, and with which exit code.

/// A request that cannot be carried out as it was made; exits with code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Request(pub String);

/// A run that was interrupted by a signal; exits with code [`Interrupted::CODE`].
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

impl Interrupted {
    /// 128 and the number of SIGINT, as shells count.
    pub const CODE: u8 = 130;
}

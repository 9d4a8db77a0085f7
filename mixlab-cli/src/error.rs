//! How a command ends that did not do what it was asked for: its exit code and its message.

use mixlab_burn::inference::SessionError;

/// A request that cannot be carried out as it was made; exits with code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Request(pub String);

/// The answer of a session to what a user asked for: some refusals are about the request.
pub fn answer<T>(result: Result<T, SessionError>) -> anyhow::Result<T> {
    use SessionError::{Sampling, Size, Stride, TooLong};
    result.map_err(|error| match error {
        Sampling { .. } | Size { .. } | Stride { .. } | TooLong { .. } => {
            Request(error.to_string()).into()
        }
        error => error.into(),
    })
}

/// A run that was interrupted by a signal; exits with code [`Interrupted::CODE`].
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Work that was stopped or that somebody else is at: another try may do it. Exits with code
/// [`Stopped::CODE`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Stopped(pub String);

impl Stopped {
    /// `EX_TEMPFAIL`, which schedulers take for an invitation to try again.
    pub const CODE: u8 = 75;
}

impl Interrupted {
    /// 128 and the number of SIGINT, as shells count.
    pub const CODE: u8 = 130;
}

/// An error as it is printed: each layer says what it adds, no cause is said twice, and hints come
/// last.
pub fn message(error: &anyhow::Error) -> String {
    let (mut said, mut hints) = (String::new(), String::new());
    for layer in error.chain() {
        let text = layer.to_string();
        let (what, hint) = text.split_at(text.find("\n  hint: ").unwrap_or(text.len()));
        if !said.contains(what) {
            let colon = if said.is_empty() { "" } else { ": " };
            said += &format!("{colon}{what}");
        }
        if !hints.contains(hint) {
            hints += hint;
        }
    }
    printable(&(said + &hints))
}

/// Text with the control characters escaped that a terminal would obey: file names may have them.
pub fn printable(text: &str) -> String {
    let escaped = |c: char| match c {
        '\n' | '\t' => c.to_string(),
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    text.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once_and_hints_come_last() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read `x`: {source}\n  hint: look for it")]
        struct Unread {
            source: std::io::Error,
        }
        let unread = || Unread { source: std::io::Error::other("no such file") };
        let plain = anyhow::Error::from(unread());
        assert_eq!(message(&plain), "cannot read `x`: no such file\n  hint: look for it");
        let outer = plain.context("cannot load\n  hint: try again");
        let expected =
            "cannot load: cannot read `x`: no such file\n  hint: try again\n  hint: look for it";
        assert_eq!(message(&outer), expected);
        assert_eq!(message(&anyhow::anyhow!("a\u{1b}[2Jb\nc")), "a\\u{1b}[2Jb\nc");
    }
}

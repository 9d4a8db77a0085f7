//! Races: several configs, each trained on the same terms and ranked by what it reached.
//!
//! A folder is the queue ([`Queue`]): `race.json` says what is to be run, and each run has a folder
//! of its own, called by its number, with its config and, at last, `result.json`. Whoever wants to
//! do a run takes its lock, which the system frees when the process ends, however it ends. So a race
//! that was killed goes on where it stood, several workers share it, and no run is done twice.
//!
//! [`Ranking`] is the table of what is there so far, and [`compare`] says how sure a difference is.

mod compare;
mod configs;
mod error;
mod outcome;
mod queue;
mod ranking;

pub use compare::{Comparison, SEEDS_AT_MOST, compare};
pub use configs::configs;
pub use error::RaceError;
pub use outcome::{Finished, Outcome};
pub use queue::{Entry, Queue, Settings, Take, Taken};
pub use ranking::{Failure, Ranking, Standing};

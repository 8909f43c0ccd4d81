//! Measured runs, the same for everybody who repeats them.
//!
//!   seed ─▶ fleet ─▶ the program, as processes ─▶ turns ─▶ summaries ─▶ JSON, plot
//!                          ╰── a link that is slow ──▶ a server
//!
//! Invariant of all of it: a round takes each setting in turn, never all rounds of one setting in a row, so that
//! what else the machine does falls on all of them alike.
//!
//! What is not here: how anything is backed up or restored (it runs the program), and how it is printed
//! (`lifeboat-cli`).

pub mod arguments;
mod backing_up;
mod capturing;
mod error;
pub mod fleet;
mod link;
pub mod machine;
mod place;
pub mod plot;
pub mod process;
mod program;
mod random;
mod report;
mod restoring;
pub mod rows;
mod session;
pub mod setting;
pub mod statistics;
mod stock;
pub mod table;
pub mod target;
pub mod tree;
mod turn;
mod work;

pub use backing_up::{BackupRequest, back_up};
pub use capturing::{CaptureRequest, SITES_MAX, capture};
pub use error::Error;
pub(crate) use error::at;
pub use link::{Link, LinkOptions};
pub use place::Place;
pub use program::quoted;
pub use random::Random;
pub use report::{About, Report, Shown};
pub use restoring::{FLOOR, RecoverRequest, RestoreRequest, recover, restore};
pub use session::{Measured, Places, Session, Tell};
pub use stock::Source;
pub use turn::{Run, Summary, Turn};
pub use work::{MARK, Work};

/// Any failure ends one of the benches in `benches/`.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

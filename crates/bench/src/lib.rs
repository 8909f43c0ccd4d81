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

mod error;
pub mod fleet;
mod link;
pub mod machine;
pub mod process;
mod random;
pub mod table;
pub mod target;
pub mod tree;

pub use error::Error;
pub(crate) use error::at;
pub use link::{Link, LinkOptions};
pub use random::Random;

/// Any failure ends one of the benches in `benches/`.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

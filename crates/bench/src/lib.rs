//! Measured runs, the same for everybody who repeats them.
//!
//! What is not here: what is measured (`lifeboat-engine`), and how it is printed (`lifeboat-cli`).

mod link;
pub mod machine;
pub mod process;
pub mod table;
pub mod target;

pub use link::{Link, LinkOptions};

/// Any failure ends a measured run.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

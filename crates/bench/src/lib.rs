//! Measured runs, the same for everybody who repeats them.
//!
//! What is not here: what is measured (`lifeboat-engine`), and how it is printed (`lifeboat-cli`).

mod link;

pub use link::{Link, LinkOptions};

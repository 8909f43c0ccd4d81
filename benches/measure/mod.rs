//! What benches share: plain tables, the facts of the machine, costs of whole processes, aims.

pub mod machine;
pub mod process;
pub mod table;
pub mod target;

/// Any failure ends a bench.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

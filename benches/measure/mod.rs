//! What every bench needs: plain tables, and the facts of the machine.

pub mod machine;
pub mod table;

/// Any failure ends a bench.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

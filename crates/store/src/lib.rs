//! A bucket: named, write-once objects in S3, a directory or memory.
//!
//! One small trait ([`Store`]); behaviour is added by wrapping (retry, limit, meter, cache), and
//! one conformance suite runs on every implementation. Every object is written once by
//! create-if-absent: nothing in the repository is ever overwritten.
//!
//! What is not here: what the names mean and what is inside the objects (`lifeboat-repo`).

mod error;
mod object;

pub use error::Error;
pub use object::{Listed, NameError, ObjectName, Store};

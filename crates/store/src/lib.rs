//! A bucket: named, write-once objects in S3, a directory or memory.
//!
//!   open(url) ─▶ Retry( Limit( Meter( S3Store | DirectoryStore )))      of S3: Limit( Hedge( Meter( … )))      Cache, Pace or Remember may stand around it
//!
//! One small trait ([`Store`]); behaviour is added by wrapping (retry, limit, hedge, meter, cache, pace, remember), and
//! one conformance suite runs on every implementation. Every object is written once by
//! create-if-absent: nothing in the repository is ever overwritten.
//!
//! What is not here: what the names mean and what is inside the objects (`lifeboat-repo`).

mod address;
mod cache;
pub mod directory;
mod error;
mod hedge;
mod limit;
mod memory;
mod meter;
mod object;
mod open;
mod pace;
mod probe;
mod remember;
mod retry;
mod s3;

pub use address::{Address, S3Address};
pub use cache::{Cache, CacheOptions, CachePredicate};
pub use directory::DirectoryStore;
pub use error::Error;
pub use hedge::Hedge;
pub use limit::{Limit, Limits};
pub use memory::MemoryStore;
pub use meter::{Meter, Meters, Operation, Usage};
pub use object::{Listed, NameError, ObjectName, Store};
pub use open::{OpenOptions, Opened, open, wrap};
pub use pace::{Allowance, Pace};
pub use probe::{Capabilities, probe};
pub use remember::{Remember, Remembered};
pub use retry::{Retry, RetryPolicy};
pub use s3::{S3Credentials, S3Options, S3Store};

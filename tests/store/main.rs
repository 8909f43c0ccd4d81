//! Every store keeps the same promises: in memory, in a directory, and in a real S3 server.
//!
//! The S3 tests start SeaweedFS once (see `lifeboat_testkit::s3_server`); without it they are
//! skipped loudly, and fail when `CI=true`.

// A helper of a test may panic and print as its test may.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod crash;
mod directory;
mod memory;
mod s3;
mod s3_trouble;

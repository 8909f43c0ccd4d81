//! What tests need and the product must not: stores that fail, a disk that forgets, real servers.
//!
//! Only tests use this crate. What is not here: the tests themselves (`tests/<area>/main.rs`).

pub mod conformance;
pub mod crash_disk;
pub mod crash_runner;
pub mod fault_store;
pub mod killing_store;
pub mod memory;
pub mod oracle;
pub mod pausing_store;
pub mod postgres;
pub mod s3_proxy;
pub mod s3_server;
pub mod small_disk;
pub mod world;

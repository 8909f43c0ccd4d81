//! Following a real server's changes.

// The helpers of a test program are tests as well; clippy only knows those with the attribute.
#![allow(clippy::unwrap_used)]

mod changes;
mod identities;
mod publications;
mod refusals;
mod resuming;
mod structure;
mod support;
mod trouble;

//! The PostgreSQL source against a real server.

// The helpers of a test program are tests as well; clippy only knows those with the attribute.
#![allow(clippy::unwrap_used)]

mod asking;
mod catalogue;
mod classes;
mod inspecting;
mod load;
mod privileges;
mod streams;
mod support;

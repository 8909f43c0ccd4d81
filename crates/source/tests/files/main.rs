//! Claims about the files source and target, made through their public interface alone.

// Helpers of a test program are tests as well; what was not checked is said on stderr.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout)]

mod edges;
mod kill;
mod merge;
mod random;
mod resume;
mod round_trip;
mod scratch;
mod support;

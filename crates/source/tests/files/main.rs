//! Claims about the files source and target, made through their public interface alone.

mod edges;
mod kill;
mod merge;
mod random;
mod round_trip;
mod support;

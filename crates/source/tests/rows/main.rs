//! Writing one site's rows back into a database that others use, on a real server.

// The helpers of a test program are tests as well; clippy only knows those with the attribute.
#![allow(clippy::unwrap_used)]

mod beside;
mod conflicts;
mod export;
mod fence;
mod large_objects;
mod later;
mod locks;
mod look;
mod narrow;
mod nasty;
mod roles;
mod round_trip;
mod support;
mod trouble;

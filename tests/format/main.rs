//! The bytes in the bucket: what was written once is read for ever, and nothing else is believed.
//!
//! `vectors/v1` holds one object of every kind, made from the values of `sample` with fixed keys and
//! nonces; `docs/format.md` works through them. Kinds that came later lie beside it, such as those of
//! `vectors/v1-recoveries`. `vectors.sha256` lists them, and `tests/tidy` keeps
//! that list true. A new one is added by `LIFEBOAT_WRITE_VECTORS=1 cargo test --test format golden`, which
//! never replaces one that is there.
//!
//! What is not here: rules of single modules, which are tested beside them in `crates/format`.

#![allow(clippy::unwrap_used)] // every function here is part of a test

mod audits;
mod damage;
mod drills;
mod frozen;
mod golden;
mod lifecycle;
mod log_highest;
mod log_pruning;
mod properties;
mod recoveries;
mod sample;
mod vectors;

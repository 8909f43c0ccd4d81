//! Capture and replay on a real PostgreSQL: what a base and the change log give is what the database held.
#![allow(clippy::unwrap_used)] // every function here is part of a test

mod again;
mod born;
mod bystanders;
mod compacted;
mod damage;
mod died;
mod drifted;
mod failed_over;
mod guarded;
mod host;
mod incident;
mod index;
mod killed;
mod large;
mod load;
mod losses;
mod moments;
mod outage;
mod own;
mod partitions;
mod proved;
mod pruned;
mod replayed;
mod restored;
mod s3;
mod spilled;
mod world;

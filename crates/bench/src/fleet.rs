//! Fleets from a seed: the same bytes wherever they are made.
//!
//! | data | what a site is made of |
//! |---|---|
//! | mix | half rows of JSON in files of up to 50 MB, 35 % random bytes in files of up to 96 MB, the rest small files |
//! | text | rows of JSON in files of up to 50 MB, which compress |
//! | random | random bytes in files of up to 96 MB, which do not |
//! | small | files of 2 to 40 KB of random bytes, 100 to a directory |
//! | one | one file of random bytes |
//! | sqlite | one database, `notes.db`, of rows that compress a little |
//!
//! Sizes of sites: all equal, or falling as those of tenants do: the k-th has 1/k of the first (zipf).

mod content;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::{Error, at};

pub use content::{DATABASE, open_database, update_row};

/// What sites are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    Mix,
    Text,
    Random,
    Small,
    One,
    Sqlite,
}

impl Data {
    pub fn name(self) -> &'static str {
        match self {
            Self::Mix => "mix",
            Self::Text => "text",
            Self::Random => "random",
            Self::Small => "small",
            Self::One => "one",
            Self::Sqlite => "sqlite",
        }
    }
}

/// How the bytes are spread over the sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skew {
    Equal,
    Zipf,
}

impl Skew {
    pub fn name(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Zipf => "zipf",
        }
    }
}

/// A fleet before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub sites: usize,
    /// Of all sites together.
    pub bytes: u64,
    pub data: Data,
    pub skew: Skew,
    pub seed: u64,
}

impl Shape {
    /// What was asked for, as JSON has it.
    pub fn json(&self) -> Value {
        let Self { bytes, data, skew, seed, .. } = self;
        json!({ "bytes": bytes, "data": data.name(), "skew": skew.name(), "seed": seed })
    }
}

/// The smallest site: what is less is no site.
pub const SITE_BYTES_MIN: u64 = 4096;

impl Shape {
    /// The id of each site and its bytes, the largest first.
    pub fn sizes(&self) -> Vec<(String, u64)> {
        let weight = |number: usize| match self.skew {
            Skew::Equal => 1.0,
            Skew::Zipf => 1.0 / (number + 1) as f64,
        };
        let whole: f64 = (0..self.sites).map(weight).sum();
        let bytes = |number: usize| ((self.bytes as f64 * weight(number) / whole) as u64).max(SITE_BYTES_MIN);
        (0..self.sites).map(|number| (site_id(number), bytes(number))).collect()
    }
}

/// The id of the `number`-th site.
pub fn site_id(number: usize) -> String {
    format!("site-{number:05}")
}

/// Makes each site as a directory below `root`, on all cores.
///
/// # Errors
/// When the disk does not take them, or when it is stopped.
pub fn make(root: &Path, shape: &Shape, stop: &AtomicBool) -> Result<(), Error> {
    fs::create_dir_all(root).map_err(at(root))?;
    let (sizes, next) = (shape.sizes(), AtomicUsize::new(0));
    let work = || loop {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some((site, bytes)) = sizes.get(number) else { return Ok(()) };
        content::make_site(&root.join(site), shape, (number as u64, *bytes))?;
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let made: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        made.into_iter().try_for_each(|thread| thread.join().unwrap_or(Err(Error::Panicked)))
    })
}

#[cfg(test)]
mod tests;

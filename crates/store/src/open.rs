//! From a repository's URL to a store that retries, limits and counts.
//!
//!   Retry( Limit( Hedge( Meter( S3 ))))      Retry( Limit( Meter( directory )))
//!
//! Retry stands outside so that nobody holds a connection while waiting, the hedge within the limit so that it does not
//! take waiting for slowness, and the meter inside so that it counts every attempt.

use std::fmt;
use std::sync::Arc;

use crate::{
    Address, DirectoryStore, Error, Hedge, Limit, Limits, Meter, Meters, Retry, RetryPolicy, S3Options, S3Store, Store,
};

/// How to open a store.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    pub retry: RetryPolicy,
    pub limits: Limits,
    pub s3: S3Options,
    /// Make the directory if it is missing: for `init` alone.
    pub create_root: bool,
}

/// An open store and its counters.
#[derive(Clone)]
pub struct Opened {
    pub store: Arc<dyn Store>,
    pub meters: Arc<Meters>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("store", &self.store.describe()).finish_non_exhaustive()
    }
}

/// Opens the store at `url`. For S3 this finds the credentials; no request is made to the bucket.
///
/// # Errors
/// [`Error::BadAddress`] for a malformed URL, [`Error::Refused`] for a directory that is not there or
/// credentials that cannot be found.
pub async fn open(url: &str, options: &OpenOptions) -> Result<Opened, Error> {
    match Address::parse(url)? {
        Address::Directory { path } => {
            let make = options.create_root;
            let opening = tokio::task::spawn_blocking(move || {
                if make { DirectoryStore::create_root(&path) } else { DirectoryStore::open(&path) }
            });
            Ok(wrap(opening.await.map_err(|_| Error::Cancelled)??, options))
        }
        Address::S3(address) => {
            let metered = Meter::new(S3Store::open(address, options.s3.clone()).await?);
            let meters = metered.meters();
            Ok(Opened { store: limited(Hedge::new(metered), options), meters })
        }
    }
}

/// Puts the usual wrappers around any store.
pub fn wrap(store: impl Store + 'static, options: &OpenOptions) -> Opened {
    let metered = Meter::new(store);
    let meters = metered.meters();
    Opened { store: limited(metered, options), meters }
}

fn limited(store: impl Store + 'static, options: &OpenOptions) -> Arc<dyn Store> {
    Arc::new(Retry::new(Limit::new(store, options.limits), options.retry))
}

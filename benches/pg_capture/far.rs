//! A store that is far away: each answer takes as long as over a network.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lifeboat_store::{Error, Listed, ObjectName, Store};

#[derive(Debug)]
pub struct Far<S> {
    pub store: S,
    pub latency: Duration,
}

impl<S> Far<S> {
    async fn wait(&self) {
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
    }
}

#[async_trait]
impl<S: Store> Store for Far<S> {
    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), Error> {
        self.wait().await;
        self.store.create(name, body).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, Error> {
        self.wait().await;
        self.store.get(name).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, Error> {
        self.wait().await;
        self.store.get_range(name, range).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Vec<Listed>, Error> {
        self.wait().await;
        self.store.list(prefix, after, limit).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), Error> {
        self.wait().await;
        self.store.delete(name).await
    }

    fn forget(&self, prefix: &str) -> bool {
        self.store.forget(prefix)
    }

    fn describe(&self) -> String {
        self.store.describe()
    }
}

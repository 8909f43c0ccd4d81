//! Remembers what a store has answered about names that begin with a prefix, for all who read through it.
//!
//! Objects are written once: what was read of one stays true. A listing stays as it was when somebody asked first, until
//! something is created or deleted this way; so what several readers see of a sequence that grows is one moment of it.
//! Of several who ask the same at one time one asks, and the others wait for it. Errors are not remembered.
//!
//! Memory is bounded: what has no room is asked of the store again. What is not here: copies that outlive the process
//! ([`crate::Cache`]), and ranges, which hardly two readers share.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::OnceCell;

use crate::{Error, Listed, ObjectName, Store};

/// About what an answer takes beside its content, and each name in a listing.
const ANSWER_BYTES: usize = 256;

/// What was answered; shared by several [`Remember`].
#[derive(Debug)]
pub struct Remembered {
    prefix: String,
    bytes_max: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    bodies: HashMap<ObjectName, Arc<OnceCell<Bytes>>>,
    listings: HashMap<Question, Arc<OnceCell<Vec<Listed>>>>,
}

/// Prefix, after, limit.
type Question = (String, Option<ObjectName>, usize);

impl Remembered {
    pub fn new(prefix: impl Into<String>, bytes_max: usize) -> Self {
        Self { prefix: prefix.into(), bytes_max, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn body(&self, name: &ObjectName) -> Option<Arc<OnceCell<Bytes>>> {
        if !name.as_str().starts_with(&self.prefix) {
            return None;
        }
        let mut held = self.held();
        let has_room = held.bytes < self.bytes_max;
        match held.bodies.get(name) {
            Some(cell) => Some(Arc::clone(cell)),
            None => has_room.then(|| Arc::clone(held.bodies.entry(name.clone()).or_default())),
        }
    }

    fn listing(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Option<Arc<OnceCell<Vec<Listed>>>> {
        if !prefix.starts_with(&self.prefix) {
            return None;
        }
        let mut held = self.held();
        let (has_room, question) = (held.bytes < self.bytes_max, (prefix.to_owned(), after.cloned(), limit));
        match held.listings.get(&question) {
            Some(cell) => Some(Arc::clone(cell)),
            None => has_room.then(|| Arc::clone(held.listings.entry(question).or_default())),
        }
    }

    fn took(&self, bytes: usize) {
        self.held().bytes += ANSWER_BYTES + bytes;
    }

    fn changed(&self, name: &ObjectName) {
        if name.as_str().starts_with(&self.prefix) {
            let mut held = self.held();
            held.listings.clear();
            held.bodies.remove(name);
        }
    }
}

/// Asks the store within once for what is remembered.
#[derive(Debug)]
pub struct Remember<S> {
    store: S,
    remembered: Arc<Remembered>,
}

impl<S: Store> Remember<S> {
    pub fn new(store: S, remembered: Arc<Remembered>) -> Self {
        Self { store, remembered }
    }
}

#[async_trait]
impl<S: Store> Store for Remember<S> {
    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), Error> {
        let created = self.store.create(name, body).await;
        self.remembered.changed(name);
        created
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, Error> {
        let Some(cell) = self.remembered.body(name) else { return self.store.get(name).await };
        let ask = || async {
            let body = self.store.get(name).await?;
            self.remembered.took(body.len());
            Ok::<_, Error>(body)
        };
        cell.get_or_try_init(ask).await.cloned()
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, Error> {
        self.store.get_range(name, range).await
    }

    async fn holds(&self, name: &ObjectName, body: &Bytes) -> Result<bool, Error> {
        // What is asked is what the store has: no memory answers for it.
        self.store.holds(name, body).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Vec<Listed>, Error> {
        let Some(cell) = self.remembered.listing(prefix, after, limit) else {
            return self.store.list(prefix, after, limit).await;
        };
        let ask = || async {
            let listed = self.store.list(prefix, after, limit).await?;
            self.remembered.took(listed.len() * ANSWER_BYTES);
            Ok::<_, Error>(listed)
        };
        cell.get_or_try_init(ask).await.cloned()
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), Error> {
        let deleted = self.store.delete(name).await;
        self.remembered.changed(name);
        deleted
    }

    fn describe(&self) -> String {
        self.store.describe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryStore, Meter};

    fn name(text: &str) -> ObjectName {
        ObjectName::new(text).unwrap()
    }

    async fn create(store: &impl Store, text: &str) {
        store.create(&name(text), Bytes::from(text.to_owned())).await.unwrap();
    }

    #[tokio::test]
    async fn what_two_readers_ask_of_the_prefix_is_asked_once_and_all_else_each_time() {
        let store = Arc::new(MemoryStore::new());
        for text in ["log/a", "log/b", "sites/a"] {
            create(&store, text).await;
        }
        let meter = Arc::new(Meter::new(Arc::clone(&store)));
        let remembered = Arc::new(Remembered::new("log/", 1 << 20));
        let readers = [1, 2].map(|_| Remember::new(Arc::clone(&meter), Arc::clone(&remembered)));
        let ask = async || {
            for reader in &readers {
                assert_eq!(reader.get(&name("log/a")).await.unwrap(), "log/a");
                assert_eq!(reader.get(&name("sites/a")).await.unwrap(), "sites/a");
                reader.get(&name("log/none")).await.unwrap_err();
                assert_eq!(reader.get_range(&name("log/a"), 0..3).await.unwrap(), "log");
            }
        };
        ask().await;
        let used = meter.meters().snapshot();
        assert_eq!((used.gets, used.range_gets), (1 + 2 + 2, 2), "what is not there may come");
        let listed = async |reader: &Remember<_>| reader.list("log/", None, 9).await.unwrap().len();
        assert_eq!([listed(&readers[0]).await, listed(&readers[1]).await], [2, 2]);
        // The sequence goes on: who has begun to read it sees it as it was. Who goes on with it himself does not.
        create(&store, "log/c").await;
        assert_eq!(listed(&readers[1]).await, 2);
        assert_eq!(meter.meters().snapshot().lists, 1);
        create(&readers[0], "log/d").await;
        assert_eq!(listed(&readers[1]).await, 4);
    }

    #[tokio::test]
    async fn what_has_no_room_is_asked_again_and_is_as_right() {
        let store = Meter::new(MemoryStore::new());
        create(&store, "log/a").await;
        let meters = store.meters();
        let reader = Remember::new(store, Arc::new(Remembered::new("log/", 1)));
        assert_eq!(reader.list("log/", None, 9).await.unwrap().len(), 1);
        for _ in 0..3 {
            assert_eq!(reader.get(&name("log/a")).await.unwrap(), "log/a");
        }
        assert_eq!(meters.snapshot().gets, 3);
    }
}

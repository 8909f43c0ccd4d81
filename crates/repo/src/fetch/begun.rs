//! Reads that are begun early, while the store is still asked for what comes before them.
//!
//! A restore opens its intent and keeps its undo before it stages anything: some round trips, in which the first chunks can be on
//! their way. They wait in memory, bounded; nothing is written because of them, and what is not taken is dropped.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lifeboat_store::{ObjectName, Store};
use tokio::task::JoinHandle;

/// So much is read early at most: a small site whole, of a large one what is needed first.
const BYTES_MAX: u64 = 16 << 20;

type Reading = JoinHandle<Result<Bytes, lifeboat_store::Error>>;

/// Reads under way or done, by what they read.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    reads: Mutex<HashMap<(ObjectName, u64, u64), Reading>>,
    /// An object that was read whole: a short manifest, in which a tiny site's chunks lie.
    whole: Option<(ObjectName, Bytes)>,
}

impl Begun {
    pub(crate) fn with_whole(name: ObjectName, bytes: Bytes) -> Self {
        Self { whole: Some((name, bytes)), reads: Mutex::default() }
    }

    /// Begins the first of these reads. Must run on a runtime.
    pub(crate) fn begin(&self, store: &Arc<dyn Store>, reads: impl Iterator<Item = (ObjectName, Range<u64>)>) {
        let mut left = BYTES_MAX;
        for (name, bytes) in reads.filter(|(name, _)| !self.has_whole(name)) {
            let Some(rest) = left.checked_sub(bytes.end - bytes.start) else { return };
            left = rest;
            let store = Arc::clone(store);
            let key = (name.clone(), bytes.start, bytes.end);
            let reading = tokio::spawn(async move { store.get_range(&name, bytes).await });
            self.reads().insert(key, reading);
        }
    }

    /// The bytes of a read that was begun; `None`: it was not, or it failed, and is to be made now.
    pub(crate) async fn take(&self, name: &ObjectName, bytes: &Range<u64>) -> Option<Bytes> {
        if let Some((_, whole)) = self.whole.as_ref().filter(|(whole, _)| whole == name) {
            let (from, till) = (usize::try_from(bytes.start).ok()?, usize::try_from(bytes.end).ok()?);
            return (from <= till && till <= whole.len()).then(|| whole.slice(from..till));
        }
        let reading = self.reads().remove(&(name.clone(), bytes.start, bytes.end))?;
        reading.await.ok()?.ok()
    }

    fn has_whole(&self, name: &ObjectName) -> bool {
        self.whole.as_ref().is_some_and(|(whole, _)| whole == name)
    }

    fn reads(&self) -> MutexGuard<'_, HashMap<(ObjectName, u64, u64), Reading>> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.reads().values().for_each(JoinHandle::abort);
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_store::MemoryStore;

    use super::*;

    fn name(text: &str) -> ObjectName {
        ObjectName::new(text).unwrap()
    }

    #[tokio::test]
    async fn a_read_that_was_begun_is_taken_once_and_one_that_failed_is_left_to_be_made() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        store.create(&name("pack"), Bytes::from_static(b"0123456789")).await.unwrap();
        let begun = Begun::default();
        begun.begin(&store, [(name("pack"), 2..5), (name("gone"), 0..3)].into_iter());
        assert_eq!(begun.take(&name("pack"), &(2..6)).await, None, "another read");
        assert_eq!(begun.take(&name("pack"), &(2..5)).await, Some(Bytes::from_static(b"234")));
        assert_eq!(begun.take(&name("pack"), &(2..5)).await, None);
        assert_eq!(begun.take(&name("gone"), &(0..3)).await, None);
    }

    #[tokio::test]
    async fn what_was_read_whole_is_not_read_again_however_often_it_is_asked_for() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new()); // which does not even have it
        let begun = Begun::with_whole(name("manifest"), Bytes::from_static(b"0123456789"));
        begun.begin(&store, [(name("manifest"), 2..5)].into_iter());
        for _ in 0..2 {
            assert_eq!(begun.take(&name("manifest"), &(2..5)).await, Some(Bytes::from_static(b"234")));
        }
        assert_eq!(begun.take(&name("manifest"), &(8..11)).await, None, "longer than it is");
    }

    #[tokio::test]
    async fn no_more_is_begun_than_may_wait_in_memory() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let begun = Begun::default();
        begun.begin(&store, (0..4).map(|number| (name(&format!("pack-{number}")), 0..(6 << 20))));
        assert_eq!(begun.reads().len(), 2);
    }
}

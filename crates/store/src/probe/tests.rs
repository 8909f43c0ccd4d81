use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;

use super::*;
use crate::{Listed, MemoryStore};

/// What a store does wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// The second create wins and says so.
    Overwrites,
    /// The second create is refused and wins all the same.
    RefusesAndOverwrites,
    /// Check and write are two steps.
    Racy,
    /// Keeps the framing of the transfer.
    Framing,
    IgnoresRange,
    Unordered,
    IgnoresLimit,
    IgnoresAfter,
    ListsLate,
    KeepsDeleted,
    ReadsLate,
}

#[derive(Debug)]
struct Faulty {
    store: MemoryStore,
    fault: Fault,
}

#[async_trait]
impl Store for Faulty {
    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), Error> {
        let exists = self.store.objects().contains_key(name);
        if self.fault == Fault::Racy {
            tokio::task::yield_now().await;
        }
        if exists && self.fault == Fault::RefusesAndOverwrites {
            self.store.replace(name, body);
            return Err(Error::AlreadyExists { name: name.to_string() });
        }
        if exists && self.fault != Fault::Overwrites {
            return Err(Error::AlreadyExists { name: name.to_string() });
        }
        let framed = [b"10000;chunk-signature=0\r\n", &body[..]].concat();
        self.store.replace(name, if self.fault == Fault::Framing { framed.into() } else { body });
        Ok(())
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, Error> {
        match self.fault {
            Fault::ReadsLate => Err(Error::NotFound { name: name.to_string() }),
            _ => self.store.get(name).await,
        }
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, Error> {
        match self.fault {
            Fault::IgnoresRange => self.store.get(name).await,
            _ => self.store.get_range(name, range).await,
        }
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Vec<Listed>, Error> {
        match self.fault {
            Fault::Unordered => {
                let mut found = self.store.list(prefix, after, limit).await?;
                found.reverse();
                Ok(found)
            }
            Fault::IgnoresLimit => self.store.list(prefix, after, usize::MAX).await,
            Fault::IgnoresAfter => self.store.list(prefix, None, limit).await,
            Fault::ListsLate => Ok(Vec::new()),
            _ => self.store.list(prefix, after, limit).await,
        }
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), Error> {
        match self.fault {
            Fault::KeepsDeleted => Ok(()),
            _ => self.store.delete(name).await,
        }
    }

    fn describe(&self) -> String {
        "a server".into()
    }
}

#[tokio::test]
async fn a_store_that_breaks_a_promise_is_refused_by_name_of_what_it_did() {
    async fn check(fault: Fault, want: &str) {
        let store = Faulty { store: MemoryStore::new(), fault };
        match probe(&store).await {
            Err(Error::Unfit { detail, hint }) => {
                assert!(detail.contains(want) && detail.contains("a server"), "{fault:?}: {detail}");
                assert!(hint.contains("S3"), "{hint}");
            }
            other => panic!("{fault:?}: {other:?}"),
        }
    }
    check(Fault::Overwrites, "accepted a second create").await;
    check(Fault::RefusesAndOverwrites, "changed the object all the same").await;
    check(Fault::Racy, "let 2 succeed instead of one").await;
    check(Fault::Framing, "changed the object").await;
    check(Fault::IgnoresRange, "other bytes than those of the range").await;
    check(Fault::Unordered, "out of order").await;
    check(Fault::IgnoresLimit, "exactly the next one").await;
    check(Fault::IgnoresAfter, "exactly the next one").await;
    check(Fault::ListsLate, "incompletely").await;
    check(Fault::KeepsDeleted, "deleted").await;
    check(Fault::ReadsLate, "no read-after-write").await;
}

#[tokio::test]
async fn nothing_is_left_behind_by_a_probe_that_passes_or_fails() {
    for fault in [Fault::None, Fault::Racy, Fault::Framing, Fault::IgnoresRange, Fault::Unordered, Fault::ReadsLate] {
        let store = Faulty { store: MemoryStore::new(), fault };
        let outcome = probe(&store).await;
        assert_eq!(outcome.is_ok(), fault == Fault::None, "{fault:?}: {outcome:?}");
        assert!(store.store.objects().is_empty(), "{fault:?}: {:?}", store.store.objects().keys());
    }
}

#[tokio::test]
async fn what_a_good_store_can_is_recorded_by_name() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let capabilities = probe(store.as_ref()).await.unwrap();
    assert_eq!(capabilities.to_list(), ["create-if-absent", "read-after-write", "ordered-list"]);
}

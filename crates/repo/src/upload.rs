//! Putting one object into the store so that a commit may name it.

use bytes::Bytes;
use lifeboat_store::{ObjectName, Store};

use crate::Error;

/// Creates an object and reads it back: what the store gives is what it was given.
///
/// Servers exist that answer 200 and store something else; comparing costs one read and finds
/// them before a commit relies on it.
pub(crate) async fn create_and_read_back(store: &dyn Store, name: &ObjectName, body: Bytes) -> Result<(), Error> {
    store.create(name, body.clone()).await?;
    read_back(store, name, &body).await
}

/// Proves that the store holds exactly `body` under `name`.
pub(crate) async fn read_back(store: &dyn Store, name: &ObjectName, body: &Bytes) -> Result<(), Error> {
    if !store.holds(name, body).await? {
        return Err(Error::NotReadBack { object: name.to_string() });
    }
    Ok(())
}

/// A name made by `lifeboat_format::names`, which makes nothing a store would refuse.
pub(crate) fn object_name(text: String) -> Result<ObjectName, Error> {
    ObjectName::new(text).map_err(|error| Error::Bug(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use lifeboat_store::{Listed, MemoryStore};

    use super::*;

    /// Answers that all is well, and stores something else.
    #[derive(Debug)]
    struct Careless(MemoryStore);

    #[async_trait::async_trait]
    impl Store for Careless {
        async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), lifeboat_store::Error> {
            let mut other = body.to_vec();
            other.last_mut().into_iter().for_each(|byte| *byte ^= 1);
            self.0.create(name, other.into()).await
        }

        async fn get(&self, name: &ObjectName) -> Result<Bytes, lifeboat_store::Error> {
            self.0.get(name).await
        }

        async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, lifeboat_store::Error> {
            self.0.get_range(name, range).await
        }

        async fn list(
            &self,
            prefix: &str,
            after: Option<&ObjectName>,
            limit: usize,
        ) -> Result<Vec<Listed>, lifeboat_store::Error> {
            self.0.list(prefix, after, limit).await
        }

        async fn delete(&self, name: &ObjectName) -> Result<(), lifeboat_store::Error> {
            self.0.delete(name).await
        }

        fn describe(&self) -> String {
            self.0.describe()
        }
    }

    #[tokio::test]
    async fn a_store_that_keeps_other_bytes_is_found_out() {
        let (name, body) = (ObjectName::new("a/b").unwrap(), Bytes::from_static(b"hello"));
        create_and_read_back(&MemoryStore::new(), &name, body.clone()).await.unwrap();
        let outcome = create_and_read_back(&Careless(MemoryStore::new()), &name, body).await;
        assert!(matches!(outcome, Err(Error::NotReadBack { .. })), "{outcome:?}");
    }
}

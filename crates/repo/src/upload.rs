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

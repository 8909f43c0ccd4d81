//! The one trait of this crate, and the names it takes.

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use crate::Error;

/// The name of an object relative to the repository's root: `/`-separated segments of
/// `[a-z0-9._-]`, none of them empty, `.` or `..`. Safe as an S3 key and as a relative path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an object name: name=`{0}`")]
pub struct NameError(pub String);

impl ObjectName {
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
        let good =
            |segment: &str| !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(plain);
        if text.len() > 512 || !text.split('/').all(good) {
            return Err(NameError(text.escape_debug().to_string()));
        }
        Ok(Self(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub name: ObjectName,
    /// Bytes.
    pub len: u64,
}

/// A bucket of write-once objects.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// Creates an object that must not exist, durably: when this returns `Ok`, the object and its
    /// name survive a power loss. Of several racing creators exactly one wins; the others get
    /// [`Error::AlreadyExists`]. After any other error the object may or may not exist.
    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), Error>;

    /// The whole object.
    async fn get(&self, name: &ObjectName) -> Result<Bytes, Error>;

    /// Exactly the bytes `range` of the object, which must lie within it; a shorter object is
    /// [`Error::Truncated`].
    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, Error>;

    /// The first `limit` objects whose names begin with `prefix` and sort after `after`, in byte
    /// order of their names. `prefix` ends with `/` or is empty (the whole repository).
    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Vec<Listed>, Error>;

    /// Removes an object; one that is already gone is no error.
    async fn delete(&self, name: &ObjectName) -> Result<(), Error>;

    /// The store as a person would name it, without secrets: for messages.
    fn describe(&self) -> String;
}

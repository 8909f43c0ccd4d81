//! The one trait of this crate, and the names it takes.

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use lifeboat_model::Timestamp;

use crate::Error;

/// The name of an object relative to the repository's root: `/`-separated segments of
/// `[a-z0-9._-]`, at most 255 bytes each, none of them empty, `.` or `..`. Safe as an S3 key and as
/// a relative path. The first segment is not `tmp`, which a directory keeps for unfinished files.
/// No name may go on where another ends (`a` and `a/b`): a directory could not hold both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an object name: name=`{0}`")]
pub struct NameError(pub String);

impl ObjectName {
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
        let good = |segment: &str| {
            (1..=255).contains(&segment.len()) && segment != "." && segment != ".." && segment.bytes().all(plain)
        };
        if text.len() > 512 || !text.split('/').all(good) || text.split('/').next() == Some("tmp") {
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

/// Whether any object name can begin with `prefix`: a listing under another is empty, and never
/// reaches a file system or a server.
pub(crate) fn is_prefix(prefix: &str) -> bool {
    debug_assert!(prefix.is_empty() || prefix.ends_with('/'), "a prefix ends with `/`: prefix=`{prefix}`");
    prefix.is_empty() || prefix.strip_suffix('/').is_some_and(|name| ObjectName::new(name).is_ok())
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub name: ObjectName,
    /// Bytes.
    pub len: u64,
    /// When it was created, by the store's clock, to the second at best; `None`: the store does not say.
    pub modified: Option<Timestamp>,
}

/// A bucket of write-once objects.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// Creates an object that must not exist, durably: when this returns `Ok`, the object and its
    /// name survive a power loss. Of several racing creators exactly one wins; the others get
    /// [`Error::AlreadyExists`]. After any other error the object may or may not exist.
    ///
    /// Bodies beyond 64 MiB may be sent in parts, whose completion some servers decide less strictly:
    /// what a race is decided by is smaller.
    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), Error>;

    /// The whole object.
    async fn get(&self, name: &ObjectName) -> Result<Bytes, Error>;

    /// Exactly the bytes `range` of the object, which must lie within it; a shorter object is
    /// [`Error::Truncated`].
    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, Error>;

    /// Whether the store gives exactly `body` when the object is read from it, now and whole.
    ///
    /// One read as [`Store::get`] is; what is compared need not be in memory all at once.
    async fn holds(&self, name: &ObjectName, body: &Bytes) -> Result<bool, Error> {
        Ok(self.get(name).await? == *body)
    }

    /// The first `limit` objects whose names begin with `prefix` and sort after `after`, in byte
    /// order of their names. `prefix` ends with `/` or is empty (the whole repository).
    ///
    /// Some servers keep directories and sort segment by segment: there `a/b` may come before `a-b`
    /// or `a.b`. Where segments beside each other have one length, as numbers and handles have, both
    /// orders are the same; elsewhere a caller pages by the last name it got and sorts by itself.
    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Vec<Listed>, Error>;

    /// Removes an object; one that is already gone is no error.
    async fn delete(&self, name: &ObjectName) -> Result<(), Error>;

    /// Lets go of what is remembered of names and listings that begin with `prefix`; `false`: nothing ever is, and asking
    /// again gives the same. Whoever wraps a store passes it on.
    fn forget(&self, _prefix: &str) -> bool {
        false
    }

    /// The store as a person would name it, without secrets: for messages.
    fn describe(&self) -> String;
}

#[async_trait]
impl<S: Store + ?Sized> Store for std::sync::Arc<S> {
    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), Error> {
        (**self).create(name, body).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, Error> {
        (**self).get(name).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, Error> {
        (**self).get_range(name, range).await
    }

    async fn holds(&self, name: &ObjectName, body: &Bytes) -> Result<bool, Error> {
        (**self).holds(name, body).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Vec<Listed>, Error> {
        (**self).list(prefix, after, limit).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), Error> {
        (**self).delete(name).await
    }

    fn forget(&self, prefix: &str) -> bool {
        (**self).forget(prefix)
    }

    fn describe(&self) -> String {
        (**self).describe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_safe_as_a_key_and_as_a_path() {
        let check = |text: &str, want: bool| assert_eq!(ObjectName::new(text).is_ok(), want, "{text:?}");
        check("lifeboat.json", true);
        check("sites/0a/x_y-z.1/commit/0", true);
        check("a/tmp", true);
        check("...", true);
        check(&"a".repeat(255), true);
        check(&"a".repeat(256), false);
        check(&["a".repeat(200), "b".repeat(200), "c".repeat(111)].join("/"), false);
        for bad in
            ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "A", "a b", "a\\b", "a\0", "\u{e9}", "a%2f"]
        {
            check(bad, false);
        }
        check("tmp", false);
        check("tmp/a", false);
        check("tmp.a", true);
    }

    #[test]
    fn only_what_a_name_can_begin_with_is_a_prefix() {
        let check = |text: &str, want: bool| assert_eq!(is_prefix(text), want, "{text:?}");
        check("", true);
        check("sites/", true);
        check("../", false);
        check("/", false);
        check("tmp/", false);
    }
}

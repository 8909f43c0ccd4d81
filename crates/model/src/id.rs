//! Typed identifiers: one type per kind of thing, so that none is taken for another.

use std::fmt;

/// Why a text is not a valid id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    #[error("an id must not be empty")]
    Empty,
    #[error("an id is at most {max} bytes long: len=`{len}`")]
    TooLong { len: usize, max: usize },
    #[error("an id must not hold control characters: id=`{0}`")]
    ControlCharacter(String),
    #[error("not {expected} hex digits: id=`{text}`")]
    NotHex { text: String, expected: usize },
    #[error("a source name is lower-case letters, digits, `-` and `_`, starting with a letter or digit: name=`{0}`")]
    NotASourceName(String),
}

/// One tenant: the text form of its id in the operator's systems.
///
/// 1 to 512 bytes of UTF-8 without control characters. Whether it is safe as a path segment is
/// asked where it becomes one, see [`SiteId::is_path_segment`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId(String);

impl SiteId {
    pub const BYTES_MAX: usize = 512;

    pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
        let text = text.into();
        if text.is_empty() {
            return Err(IdError::Empty);
        }
        if text.len() > Self::BYTES_MAX {
            return Err(IdError::TooLong { len: text.len(), max: Self::BYTES_MAX });
        }
        if text.chars().any(char::is_control) {
            return Err(IdError::ControlCharacter(text.escape_debug().to_string()));
        }
        Ok(Self(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the id can stand for `{site}` in a path: one plain segment that climbs nowhere and
    /// cannot be mistaken for Lifeboat's own staging names.
    pub fn is_path_segment(&self) -> bool {
        self.0 != "."
            && self.0 != ".."
            && !self.0.contains('/')
            && self.0.len() <= 255
            && !self.0.starts_with(".lifeboat-")
    }
}

impl fmt::Display for SiteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of one source in the configuration; it is the source's identity in the repository.
///
/// 1 to 64 bytes of `[a-z0-9_-]`, starting with a letter or digit, so that it is safe in an
/// object name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceName(String);

impl SourceName {
    pub const BYTES_MAX: usize = 64;

    pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
        let text = text.into();
        let first_ok = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let rest_ok = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        if !first_ok || !rest_ok || text.len() > Self::BYTES_MAX {
            return Err(IdError::NotASourceName(text));
        }
        Ok(Self(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            pub const LEN: usize = $len;

            /// Reads the lower-case hex form that `Display` writes.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let error = || IdError::NotHex { text: text.escape_debug().to_string(), expected: $len * 2 };
                let digits = text.as_bytes();
                if digits.len() != $len * 2 {
                    return Err(error());
                }
                let mut bytes = [0u8; $len];
                for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
                    *byte = hex_digit(pair[0]).zip(hex_digit(pair[1])).map(|(h, l)| h << 4 | l).ok_or_else(error)?;
                }
                Ok(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

byte_id!(
    /// A site's name in the bucket: the first 16 bytes of HMAC-SHA-256(repository name key, site id).
    SiteHandle, 16);
byte_id!(
    /// A chunk's name: keyed BLAKE3 of its plain bytes under the site's id key.
    ChunkId, 32);
byte_id!(
    /// The random name of one object (pack, manifest, index segment, commit nonce).
    ObjectId, 16);
byte_id!(
    /// One snapshot of one site.
    SnapshotId, 8);
byte_id!(
    /// One restore of one site; also names its undo.
    RestoreId, 8);
byte_id!(
    /// One recovery: the answer to an incident, of many sites.
    RecoveryId, 8);
byte_id!(
    /// One hold on a site's points.
    HoldId, 8);
byte_id!(
    /// A row's primary key under the repository's own key: equal for equal keys, and telling nothing else.
    RowKeyHash, 16);

impl SiteHandle {
    /// The pseudo-site whose keys and objects belong to the repository itself.
    pub const REPOSITORY: Self = Self([0; 16]);
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id!(
    /// A commit's place in its site's sequence; the first is 1.
    Generation, u64);
number_id!(
    /// Which of a site's successive keys sealed an object; the first is 1, never re-used.
    KeyNumber, u32);
number_id!(
    /// One recorded execution of a backup; the first is 1.
    RunNumber, u64);
number_id!(
    /// An entry's place in the audit log; the first is 1, and there are no gaps.
    AuditNumber, u64);
number_id!(
    /// A stretch of a source's history without a gap; the first is 1.
    EpochId, u32);
number_id!(
    /// A segment's place in its epoch; the first is 1, and there are no gaps.
    SegmentNumber, u64);
number_id!(
    /// A commit's place in its epoch's own sequence; the first is 1.
    LogCommitNumber, u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_through_their_text() {
        let id = SnapshotId([0, 1, 2, 0xab, 0xcd, 0xef, 0x7f, 0xff]);
        assert_eq!(SnapshotId::parse(&id.to_string()), Ok(id));
        for bad in ["", "00", "zz01020304050607", "0001020304050607ff", "000102030405060G", "ééééééé0"] {
            assert!(SnapshotId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_site_id_that_could_climb_is_no_path_segment() {
        let check = |text: &str, want: bool| {
            assert_eq!(SiteId::new(text).map(|id| id.is_path_segment()), Ok(want), "{text}");
        };
        check("acme", true);
        check("ACME Ltd. (größe)", true);
        check("..", false);
        check(".", false);
        check("a/b", false);
        check(".lifeboat-stage-1", false);
        assert!(SiteId::new("").is_err());
        assert!(SiteId::new("a\nb").is_err());
    }

    #[test]
    fn a_source_name_is_safe_in_an_object_name() {
        for good in ["app", "notes-2", "0_a"] {
            assert!(SourceName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "App", "a/b", "-a", "a.b", "é"] {
            assert!(SourceName::new(bad).is_err(), "{bad}");
        }
    }
}

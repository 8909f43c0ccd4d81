//! Paths inside a part: raw bytes, relative, and unable to climb out.

use std::fmt;

/// A path of an entry relative to the root of its part.
///
/// Raw bytes, because file names need not be UTF-8. Never absolute; no empty, `.` or `..`
/// component, no NUL. The root itself is the empty path. Ordered so that a directory comes before
/// what is in it and a whole directory is contiguous: components are compared one after another.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EntryPath(Vec<u8>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("not a path inside a part: path=`{0}`")]
pub struct PathError(pub String);

impl EntryPath {
    pub fn root() -> Self {
        Self(Vec::new())
    }

    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, PathError> {
        let bytes = bytes.into();
        let bad =
            |component: &[u8]| component.is_empty() || component == b"." || component == b".." || component.len() > 255;
        if !bytes.is_empty() && (bytes.contains(&0) || bytes.split(|&b| b == b'/').any(bad)) {
            return Err(PathError(display(&bytes)));
        }
        Ok(Self(bytes))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// This path with one more component, which must be a plain file name.
    pub fn join(&self, name: &[u8]) -> Result<Self, PathError> {
        let mut bytes = self.0.clone();
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        if name.is_empty() || name.contains(&b'/') {
            return Err(PathError(display(name)));
        }
        bytes.extend_from_slice(name);
        Self::new(bytes)
    }

    /// The directory that holds this entry; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|&b| b == b'/').unwrap_or(0);
        Some(Self(self.0[..end].to_vec()))
    }

    /// The last component; empty for the root.
    pub fn file_name(&self) -> &[u8] {
        let start = self.0.iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1);
        &self.0[start..]
    }

    /// Whether this is `ancestor` or lies beneath it.
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        ancestor.is_root()
            || self.0 == ancestor.0
            || (self.0.starts_with(&ancestor.0) && self.0.get(ancestor.0.len()) == Some(&b'/'))
    }

    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/').filter(|component| !component.is_empty())
    }
}

/// Bytes as text: UTF-8 as it is, anything else and control characters as `\xNN`.
fn display(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || character == '\\' {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

impl Ord for EntryPath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // `/` must sort below every other byte, else `a-b` would fall between `a` and `a/x`.
        let rank = |b: &u8| if *b == b'/' { 0 } else { u16::from(*b) + 1 };
        self.0.iter().map(rank).cmp(other.0.iter().map(rank))
    }
}

impl PartialOrd for EntryPath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&display(&self.0))
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryPath({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_climbs_is_refused() {
        for bad in ["/etc", "..", "a/../b", "a//b", "a/", "./a", "a/.", "a\0b", "/"] {
            assert!(EntryPath::new(bad).is_err(), "{bad:?}");
        }
        for good in ["", "a", "a/b", "..a", "a/...", "\u{e9}"] {
            assert!(EntryPath::new(good).is_ok(), "{good:?}");
        }
        assert!(EntryPath::new(b"\xff\xfe".to_vec()).is_ok());
    }

    #[test]
    fn a_directory_sorts_before_and_beside_what_it_holds() {
        let mut paths: Vec<EntryPath> =
            ["a-b", "a/x", "a", "", "b", "a/x/y", "a!"].iter().filter_map(|p| EntryPath::new(*p).ok()).collect();
        paths.sort();
        let texts: Vec<String> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["", "a", "a/x", "a/x/y", "a!", "a-b", "b"]);
    }

    #[test]
    fn names_that_are_not_text_are_shown_escaped() {
        let path = EntryPath::new(b"caf\xe9\n".to_vec());
        assert_eq!(path.map(|p| p.to_string()), Ok("caf\\xe9\\n".to_owned()));
    }
}

//! What a snapshot remembers of a large object besides its bytes: an extended attribute of its entry.

use lifeboat_model::{Entry, EntryKind, Xattr};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Where the entries of large objects lie in a part; behind it follows the number.
const DIRECTORY: &str = ".lifeboat/large-objects/";
/// The extended attribute with the [`LargeObjectDefinition`].
const XATTR: &[u8] = b"lifeboat.large-object";

/// Who may do what with an object, and pass it on; everybody where there is no name.
pub(in crate::postgres) type Grants = Vec<(Option<String>, String, bool)>;

/// What a large object has besides its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LargeObjectDefinition {
    pub owner: String,
    /// `None`: as is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<Grants>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// BLAKE3 of the bytes, in hex.
    pub blake3: String,
}

/// One large object of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedLargeObject {
    pub oid: u32,
    pub size: u64,
    /// BLAKE3 of the bytes.
    pub digest: [u8; 32],
    pub definition: LargeObjectDefinition,
}

/// The entry path of a large object.
pub fn large_object_path(oid: u32) -> String {
    format!("{DIRECTORY}{oid}")
}

/// The large object that an entry path names; `None`: it names none.
pub fn large_object_of_path(path: &[u8]) -> Option<u32> {
    std::str::from_utf8(path.strip_prefix(DIRECTORY.as_bytes())?).ok()?.parse().ok()
}

impl LargeObjectDefinition {
    pub(super) fn to_xattr(&self) -> Xattr {
        // Strings, numbers and lists of them always serialise.
        Xattr { name: XATTR.to_vec(), value: serde_json::to_vec(self).unwrap_or_default() }
    }
}

impl WantedLargeObject {
    /// From an entry of a snapshot; `None`: it is of no large object.
    pub fn of(entry: &Entry) -> Result<Option<Self>, Error> {
        let Some(oid) = large_object_of_path(entry.path.as_bytes()).filter(|_| entry.kind == EntryKind::File) else {
            return Ok(None);
        };
        let damaged = |detail: String| Error::Damaged {
            path: entry.path.to_string(),
            detail: format!("its description in the snapshot cannot be read: {detail}"),
            hint: "the snapshot may be of a newer version: try a newer lifeboat".into(),
        };
        let json = entry.metadata.xattrs.iter().find(|xattr| xattr.name == XATTR);
        let json = json.ok_or_else(|| damaged("there is none".into()))?;
        let definition: LargeObjectDefinition =
            serde_json::from_slice(&json.value).map_err(|error| damaged(error.to_string()))?;
        let digest = blake3::Hash::from_hex(&definition.blake3).map_err(|error| damaged(error.to_string()))?;
        Ok(Some(Self { oid, size: entry.metadata.size, digest: *digest.as_bytes(), definition }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_s_entry_path_leads_back_to_its_number_and_no_other_path_does() {
        assert_eq!(large_object_of_path(large_object_path(4_294_967_295).as_bytes()), Some(4_294_967_295));
        for other in ["public.issues", ".lifeboat/part.json", ".lifeboat/large-objects/", ".lifeboat/large-objects/1/2"]
        {
            assert_eq!(large_object_of_path(other.as_bytes()), None, "{other}");
        }
    }
}

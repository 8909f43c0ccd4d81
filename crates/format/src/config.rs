//! `lifeboat.json`: what a reader must know before any key, in plain JSON.
//!
//! The last member, `sha256`, is the hash of every byte of the file before it, and what follows it
//! is fixed, so that any changed byte is told from a file that is merely unknown.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use lifeboat_model::{ObjectId, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, FORMAT_VERSION, Result};

const FORMAT_NAME: &str = "lifeboat repository";
const HASH_KEY: &str = "  \"sha256\": \"";
const HASH_END: &str = "\"\n}\n";

/// Features this version can read, and write beside.
const READ_FEATURES: [&str; 0] = [];
const WRITE_FEATURES: [&str; 0] = [];

/// What the repository says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryConfig {
    pub repository: ObjectId,
    pub created: Timestamp,
    /// Features that a reader must know; [`RepositoryConfig::decode`] refuses others.
    pub read_features: Vec<String>,
    /// Features that a writer must know; see [`RepositoryConfig::check_writable`].
    pub write_features: Vec<String>,
    /// What the store was found to honour when the repository was made.
    pub capabilities: BTreeMap<String, bool>,
}

#[derive(Serialize, Deserialize)]
struct File {
    format: String,
    version: u32,
    repository: String,
    created: String,
    features: Features,
    algorithms: Algorithms,
    capabilities: BTreeMap<String, bool>,
}

#[derive(Serialize, Deserialize)]
struct Features {
    read: Vec<String>,
    write: Vec<String>,
}

/// For a person and a later version; version 1 has exactly these.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
struct Algorithms {
    chunk_id: String,
    compression: String,
    key_derivation: String,
    seal: String,
    signature: String,
}

impl Algorithms {
    fn of_this_version() -> Self {
        Self {
            chunk_id: "blake3-keyed".to_owned(),
            compression: "zstd".to_owned(),
            key_derivation: "hkdf-sha-256".to_owned(),
            seal: "aes-256-gcm".to_owned(),
            signature: "ed25519".to_owned(),
        }
    }
}

/// The one field that every version has had and will have.
#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

impl RepositoryConfig {
    pub fn new(repository: ObjectId, created: Timestamp) -> Self {
        let (read_features, write_features) = (Vec::new(), Vec::new());
        Self { repository, created, read_features, write_features, capabilities: BTreeMap::new() }
    }

    pub fn encode(&self) -> Result<Vec<u8>> {
        let file = File {
            format: FORMAT_NAME.to_owned(),
            version: FORMAT_VERSION.into(),
            repository: self.repository.to_string(),
            created: self.created.to_string(),
            features: Features { read: self.read_features.clone(), write: self.write_features.clone() },
            algorithms: Algorithms::of_this_version(),
            capabilities: self.capabilities.clone(),
        };
        let json = serde_json::to_string_pretty(&file).map_err(|error| Error::misuse(error.to_string()))?;
        let body = json.strip_suffix("\n}").ok_or_else(|| Error::misuse("a JSON object that does not end"))?;
        let hashed = format!("{body},\n");
        let hash = HEXLOWER.encode(&Sha256::digest(hashed.as_bytes()));
        Ok(format!("{hashed}{HASH_KEY}{hash}{HASH_END}").into_bytes())
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = |detail: String| Error::damaged("lifeboat.json", detail);
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not text".to_owned()))?;
        check_hash(text)?;
        let json = |error: serde_json::Error| damaged(format!("not the expected JSON: {error}"));
        let VersionOnly { version } = serde_json::from_str(text).map_err(json)?;
        if version != u32::from(FORMAT_VERSION) {
            let supported = FORMAT_VERSION.into();
            return Err(Error::NewerVersion { what: "the repository", found: version, supported });
        }
        let file: File = serde_json::from_str(text).map_err(json)?;
        if file.format != FORMAT_NAME {
            return Err(damaged(format!("it describes something else: format=`{}`", file.format.escape_debug())));
        }
        if let Some(feature) = unknown(&file.features.read, &READ_FEATURES) {
            return Err(Error::UnknownFeature { feature, writing: false });
        }
        if file.algorithms != Algorithms::of_this_version() {
            return Err(Error::UnknownFeature { feature: "other algorithms".to_owned(), writing: false });
        }
        Ok(Self {
            repository: ObjectId::parse(&file.repository).map_err(|error| damaged(error.to_string()))?,
            created: Timestamp::parse(&file.created).map_err(|error| damaged(error.to_string()))?,
            read_features: file.features.read,
            write_features: file.features.write,
            capabilities: file.capabilities,
        })
    }

    /// Whether this version may add to the repository.
    pub fn check_writable(&self) -> Result<()> {
        match unknown(&self.write_features, &WRITE_FEATURES) {
            Some(feature) => Err(Error::UnknownFeature { feature, writing: true }),
            None => Ok(()),
        }
    }
}

fn unknown(features: &[String], known: &[&str]) -> Option<String> {
    features.iter().find(|feature| !known.contains(&feature.as_str())).cloned()
}

/// The rule of the last member; it holds for every version.
fn check_hash(text: &str) -> Result<()> {
    let parts = text.strip_suffix(HASH_END).and_then(|text| text.rsplit_once(HASH_KEY));
    let (hashed, hash) = parts
        .ok_or_else(|| Error::damaged("lifeboat.json", "it does not end with its hash: it was cut off or edited"))?;
    match HEXLOWER.encode(&Sha256::digest(hashed.as_bytes())) == hash {
        true => Ok(()),
        false => Err(Error::damaged("lifeboat.json", "its hash does not match: a byte was changed")),
    }
}

#[cfg(test)]
mod tests;

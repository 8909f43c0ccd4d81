//! `[repository]`: where the bucket is, what opens it, and where its cache lies.

use std::fmt;
use std::path::{Path, PathBuf};

use lifeboat_store::Address;

use super::ConfigError;
use super::reader::{Field, Table};
use super::values;

const URL_EXAMPLE: &str = "\"file:///var/backups/lifeboat\"";
const KEY_EXAMPLE: &str = "\"file:lifeboat.key\"";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryConfig {
    /// `file:///DIR` or `s3://BUCKET/PREFIX?…`; holds no secret.
    pub url: String,
    /// The directory, where the address is one.
    pub directory: Option<PathBuf>,
    pub key: KeyRef,
    /// The directory of the catalog.
    pub catalog: PathBuf,
}

/// Where a secret is; never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRef {
    File(PathBuf),
    Env(String),
}

impl fmt::Display for KeyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Env(name) => write!(f, "env:{name}"),
        }
    }
}

pub(super) fn read(root: &mut Table<'_, '_>, directory: &Path) -> Result<RepositoryConfig, ConfigError> {
    let mut table = root.require_table("repository", "url and key")?;
    let (url, at) = address(&table.require("url", URL_EXAMPLE)?)?;
    let key = key(&table.require("key", KEY_EXAMPLE)?, directory)?;
    let catalog = match table.take("catalog") {
        Some(field) => values::path(&field, directory, "\"lifeboat.catalog\"")?,
        None => directory.join("lifeboat.catalog"),
    };
    table.finish()?;
    Ok(RepositoryConfig { url, directory: at, key, catalog })
}

fn address(field: &Field<'_, '_>) -> Result<(String, Option<PathBuf>), ConfigError> {
    let text = field.text("an address", URL_EXAMPLE)?;
    let directory = directory_of(text).map_err(|(detail, hint)| {
        field.error(format!("not an address of a repository, {detail}: key=`{}`", field.key), hint)
    })?;
    Ok((text.to_owned(), directory))
}

/// The directory behind an address; whether it leads anywhere is asked when it is opened.
pub(crate) fn directory_of(url: &str) -> Result<Option<PathBuf>, (String, String)> {
    match Address::parse(url) {
        Ok(Address::Directory { path }) => Ok(Some(path)),
        Ok(_) => Ok(None),
        Err(lifeboat_store::Error::BadAddress { detail, hint }) => Err((detail, hint)),
        Err(other) => Err((other.to_string(), format!("for example `url = {URL_EXAMPLE}`"))),
    }
}

fn key(field: &Field<'_, '_>, directory: &Path) -> Result<KeyRef, ConfigError> {
    let text = field.text("the place of a key", KEY_EXAMPLE)?;
    parse_key(text, directory).map_err(|(detail, hint)| field.error(format!("{detail}: key=`{}`", field.key), hint))
}

/// Reads `file:PATH` or `env:NAME`. Its complaints never repeat the text: it may be the secret.
pub(crate) fn parse_key(text: &str, directory: &Path) -> Result<KeyRef, (&'static str, &'static str)> {
    if let Some(path) = text.strip_prefix("file:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return if path.is_empty() {
            Err(("`file:` names no file", "write key = \"file:lifeboat.key\""))
        } else {
            Ok(KeyRef::File(directory.join(path)))
        };
    }
    if let Some(name) = text.strip_prefix("env:") {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        return if !name.is_empty() && name.bytes().all(plain) && !name.as_bytes()[0].is_ascii_digit() {
            Ok(KeyRef::Env(name.to_owned()))
        } else {
            Err(("`env:` names no environment variable", "write key = \"env:LIFEBOAT_KEY\""))
        };
    }
    Err((
        "a secret must not stand in the configuration",
        "put the key into a file of mode 0600 and write key = \"file:lifeboat.key\", or key = \"env:NAME\"",
    ))
}

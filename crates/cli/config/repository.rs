//! `[repository]`: where the bucket is, what opens it, and where its cache lies.

use std::fmt;
use std::path::{Path, PathBuf};

use super::ConfigError;
use super::reader::{Field, Table};
use super::values;

const URL_EXAMPLE: &str = "\"file:///var/backups/lifeboat\"";
const KEY_EXAMPLE: &str = "\"file:lifeboat.key\"";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryConfig {
    /// `file:///DIR` or `s3://BUCKET/PREFIX?…`; holds no secret.
    pub url: String,
    pub key: KeyRef,
    /// The directory of the catalog.
    pub catalog: PathBuf,
}

impl RepositoryConfig {
    /// The directory behind a `file://` address.
    pub fn directory(&self) -> Option<&Path> {
        self.url.strip_prefix("file://").map(Path::new)
    }
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
    let url = address(&table.require("url", URL_EXAMPLE)?)?;
    let key = key(&table.require("key", KEY_EXAMPLE)?, directory)?;
    let catalog = match table.take("catalog") {
        Some(field) => values::path(&field, directory, "\"lifeboat.catalog\"")?,
        None => directory.join("lifeboat.catalog"),
    };
    table.finish()?;
    Ok(RepositoryConfig { url, key, catalog })
}

fn address(field: &Field<'_, '_>) -> Result<String, ConfigError> {
    let text = field.text("an address", URL_EXAMPLE)?;
    check_address(text).map_err(|(detail, hint)| field.error(format!("{detail}: key=`{}`", field.key), hint))?;
    Ok(text.strip_suffix('/').filter(|rest| !rest.ends_with('/')).unwrap_or(text).to_owned())
}

/// The form of an address only; whether it leads anywhere is asked when it is opened.
pub(crate) fn check_address(text: &str) -> Result<(), (&'static str, &'static str)> {
    const EXAMPLES: &str = "use file:///var/backups/lifeboat or s3://bucket/prefix?region=us-east-1";
    if let Some(path) = text.strip_prefix("file://") {
        return if path.starts_with('/') && !path.trim_matches('/').is_empty() {
            Ok(())
        } else {
            Err((
                "a file address needs an absolute directory",
                "three slashes and a directory: file:///var/backups/lifeboat",
            ))
        };
    }
    let Some(rest) = text.strip_prefix("s3://") else { return Err(("not an address of a repository", EXAMPLES)) };
    let bucket = rest.split(['/', '?']).next().unwrap_or_default();
    if bucket.contains('@') {
        return Err((
            "the address holds credentials",
            "leave them out; they come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or an AWS profile",
        ));
    }
    if bucket.is_empty() {
        return Err(("the address names no bucket", EXAMPLES));
    }
    Ok(())
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

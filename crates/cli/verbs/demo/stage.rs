//! Where the demo plays: a directory of its own, with a configuration like anybody's.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use lifeboat_format::SecretKey;
use lifeboat_repo::Repository;

use crate::config::Config;
use crate::open::Open;
use crate::{CliError, Context, key_file};

/// The demo's directory; removed at the end, on any way out, unless it is to be kept.
pub struct Stage {
    root: PathBuf,
    keeps: bool,
}

impl Stage {
    pub fn set(keep: Option<PathBuf>) -> Result<Self, CliError> {
        let keeps = keep.is_some();
        let root = match keep {
            Some(root) => std::path::absolute(&root).map_err(|io| failed("cannot use the directory", &root, &io))?,
            None => std::env::temp_dir().join(format!("lifeboat-demo-{:016x}", random()?)),
        };
        match std::fs::DirBuilder::new().mode(0o700).create(&root) {
            Ok(()) => Ok(Self { root, keeps }),
            Err(io) if io.kind() == io::ErrorKind::AlreadyExists => {
                Err(CliError::usage(format!("the directory exists already: --keep=`{}`", root.display()))
                    .with_hint("name one that does not exist: the demo never writes into what is there"))
            }
            Err(io) if io.kind() == io::ErrorKind::NotFound => {
                let message = format!("the directory's parent does not exist: --keep=`{}`", root.display());
                Err(CliError::usage(message).with_hint("make the parent first, or name a place that exists"))
            }
            Err(io) => Err(failed("cannot make the directory", &root, &io)),
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory, when it stays.
    pub fn kept(&self) -> Option<&Path> {
        self.keeps.then_some(self.root.as_path())
    }

    /// Makes the repository, its key and the configuration, as `init` does, and opens it all. `URL` in
    /// the configuration stands for the repository's.
    pub async fn open(&self, config: &str, context: &Context) -> Result<Open, CliError> {
        let path = self.root.join("lifeboat.toml");
        let repository = self.root.join("lifeboat-repository");
        let url = super::super::init::file_url(&repository)?;
        let quoted = serde_json::Value::from(url.as_str()).to_string();
        let text = config.replace("\"URL\"", &quoted);
        std::fs::write(&path, &text).map_err(|io| failed("cannot write the configuration", &path, &io))?;
        let key = SecretKey::generate()?;
        key_file::write_new_secret(&self.root.join("lifeboat.key"), &key.to_base64())?;
        let store = context.open_store(&url, true).await?.store;
        Repository::init(store, &key).await?;
        context.open_with(Config::parse(&path, &text)?, &key).await
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.keeps
            && let Err(error) = std::fs::remove_dir_all(&self.root)
        {
            tracing::warn!(path = %self.root.display(), %error, "the demo's directory could not be removed");
        }
    }
}

pub(super) fn failed(what: &str, path: &Path, io: &io::Error) -> CliError {
    CliError::operator(format!("{what}: path=`{}`, reason=`{io}`", path.display()))
        .with_hint("the demo needs about 1 GB; name a place that has it with --keep DIR, or set TMPDIR")
}

pub(super) fn random() -> Result<u64, CliError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| CliError::bug(format!("no random bytes: {error}")))?;
    Ok(u64::from_le_bytes(bytes))
}

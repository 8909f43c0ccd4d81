//! The files of a cache: one a copy, `<sha-256 of namespace and name>`, head and bytes.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::ObjectName;

/// Bytes of the digest before the copy's own.
const HEAD_LEN: usize = 32;

#[derive(Debug)]
pub struct Shelf {
    dir: PathBuf,
    bytes_max: u64,
    /// Bytes of all copies as far as known; `None` until the directory was looked through.
    bytes: Mutex<Option<u64>>,
}

impl Shelf {
    pub fn new(dir: &Path, namespace: &str, bytes_max: u64) -> Self {
        let folder = HEXLOWER.encode(&Sha256::digest(namespace.as_bytes())[..8]);
        Self { dir: dir.join(folder), bytes_max, bytes: Mutex::new(None) }
    }

    /// The copy, if there is one and it is whole.
    pub fn get(&self, name: &ObjectName) -> Option<Bytes> {
        let path = self.path(name);
        let mut file = fs::File::open(&path).ok()?;
        let mut stored = Vec::new();
        let is_whole = file.read_to_end(&mut stored).is_ok()
            && stored.len() >= HEAD_LEN
            && stored[..HEAD_LEN] == digest(name, &stored[HEAD_LEN..]);
        if !is_whole {
            tracing::warn!(object = %name, path = %path.display(), "damaged copy in the cache: thrown away");
            self.remove(name);
            return None;
        }
        Some(Bytes::from(stored).slice(HEAD_LEN..))
    }

    pub fn put(&self, name: &ObjectName, body: &Bytes) {
        let len = (HEAD_LEN + body.len()) as u64;
        // One copy must not push out all others.
        if len > self.bytes_max / 4 {
            return;
        }
        if let Err(error) = self.write(name, body, len) {
            tracing::debug!(object = %name, %error, "not kept in the cache");
        }
    }

    pub fn remove(&self, name: &ObjectName) {
        let path = self.path(name);
        let len = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        if fs::remove_file(&path).is_ok() {
            let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
            *bytes = bytes.map(|bytes| bytes.saturating_sub(len));
        }
    }

    fn write(&self, name: &ObjectName, body: &Bytes, len: u64) -> io::Result<()> {
        let path = self.path(name);
        if path.exists() {
            return Ok(());
        }
        self.make_room(len)?;
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let temp = self.dir.join(format!("new-{}", HEXLOWER.encode(&random)));
        // No sync: a copy that a crash tore does not match its digest.
        let written =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temp).and_then(|mut file| {
                file.write_all(&digest(name, body))?;
                file.write_all(body)?;
                fs::rename(&temp, &path)
            });
        if written.is_err() {
            let _ = fs::remove_file(&temp);
        }
        written
    }

    /// Counts `len` in, and removes the oldest copies when there is not enough room for it.
    fn make_room(&self, len: u64) -> io::Result<()> {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let used = match *bytes {
            Some(used) => used,
            None => {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
                self.copies()?.iter().map(|copy| copy.len).sum()
            }
        };
        let mut used = used + len;
        if used > self.bytes_max {
            let mut copies = self.copies()?;
            copies.sort_by_key(|copy| copy.modified);
            // A little more than needed, so that not every copy looks through the directory.
            let wanted = self.bytes_max / 10 * 9;
            used = copies.iter().map(|copy| copy.len).sum::<u64>() + len;
            for copy in copies {
                if used <= wanted {
                    break;
                }
                if fs::remove_file(&copy.path).is_ok() {
                    used = used.saturating_sub(copy.len);
                }
            }
        }
        *bytes = Some(used);
        Ok(())
    }

    fn copies(&self) -> io::Result<Vec<Copy>> {
        let mut copies = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            // Gone since: another process keeps the same directory.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_file() {
                let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                copies.push(Copy { path: entry.path(), len: metadata.len(), modified });
            }
        }
        Ok(copies)
    }

    fn path(&self, name: &ObjectName) -> PathBuf {
        self.dir.join(HEXLOWER.encode(&Sha256::digest(name.as_str().as_bytes())))
    }
}

struct Copy {
    path: PathBuf,
    len: u64,
    modified: SystemTime,
}

/// Over the name too: a file moved onto another's place is not taken for it.
fn digest(name: &ObjectName, body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update((name.as_str().len() as u64).to_le_bytes());
    hash.update(name.as_str().as_bytes());
    hash.update(body);
    hash.finalize().into()
}

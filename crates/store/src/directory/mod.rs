//! A bucket in a directory.
//!
//! ```text
//! write tmp/<random> ─▶ sync it ─▶ make and sync parents ─▶ link to its name ─▶ sync the directory
//! ```
//!
//! The link is the create-if-absent: unlike a rename it never replaces, so of several racing
//! creators, also in other processes, exactly one wins. A crash at any step leaves the object either
//! absent or whole, and at most a file in `tmp/`, which is swept a day later.
//!
//! Invariant (named-after-durable): an object gets its name only after its bytes are durable, and
//! its create returns only after the name is.
//! What is not here: network file systems that lose a lock or a reply (the probe at `init` finds
//! those that do not even refuse a second create), and removal of empty directories.

mod disk;
mod faults;
mod listing;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use data_encoding::HEXLOWER;

pub use disk::{Disk, DiskEntry, EntryKind, FilePart, NewFile, RootDir, Stat};

use crate::object::is_prefix;
use crate::{Error, Listed, ObjectName, Store};
use faults::Faults;

/// Holds unfinished files; no object name begins with it.
const TEMP_DIR: &str = "tmp";
/// Leading part of our file names there: anything else in `tmp/` is not ours to sweep.
const TEMP_PREFIX: &str = "new-";
/// A create that began longer ago than this is dead.
const TEMP_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// What is compared at a time: fits the processor's cache, and its opening costs little.
const COMPARE_BYTES: usize = 1 << 20;
/// Directories remembered as durable; forgetting them costs a few syncs, never correctness.
const KNOWN_DIRS_MAX: usize = 65_536;

/// A store in one directory of a file system.
#[derive(Clone)]
pub struct DirectoryStore(Arc<Inner>);

struct Inner {
    disk: Arc<dyn Disk>,
    faults: Faults,
    /// Directories whose own name, and those above, this process has seen made durable.
    known: Mutex<HashSet<String>>,
}

impl fmt::Debug for DirectoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectoryStore").field("root", &self.describe()).finish()
    }
}

impl DirectoryStore {
    /// Opens a root that exists. One that does not is refused: it may be an unmounted disk, and
    /// a directory made in its place would hide that.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let faults = Faults::new(path);
        let disk = RootDir::open(path).map_err(|io| faults.of_root(&io))?;
        let store = Self::on_disk(Arc::new(disk), path);
        store.0.sweep_temp();
        Ok(store)
    }

    /// Makes the root (and what is missing above it) durably and opens it; for `init` alone.
    pub fn create_root(path: &Path) -> Result<Self, Error> {
        make_root(path).map_err(|io| Faults::new(path).of_root(&io))?;
        let store = Self::open(path)?;
        store.0.make_temp_dir()?;
        Ok(store)
    }

    /// A store on any disk; tests give one that forgets what was not synced.
    pub fn on_disk(disk: Arc<dyn Disk>, path: &Path) -> Self {
        let faults = Faults::new(path);
        Self(Arc::new(Inner { disk, faults, known: Mutex::default() }))
    }

    /// Runs on a thread that may block. The work goes on when the caller stops waiting.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(result) => result,
            Err(join) if join.is_panic() => std::panic::resume_unwind(join.into_panic()),
            // The runtime is going down: nobody waits for an answer any more.
            Err(_) => Err(Error::Cancelled),
        }
    }
}

#[async_trait]
impl Store for DirectoryStore {
    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), Error> {
        let name = name.clone();
        self.run(move |inner| inner.create(&name, &body)).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, Error> {
        let name = name.clone();
        self.run(move |inner| Ok(inner.read(&name, None)?.bytes.into())).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, Error> {
        let name = name.clone();
        self.run(move |inner| {
            let part = inner.read(&name, Some(range.clone()))?;
            if part.file_len < range.end {
                let name = name.to_string();
                return Err(Error::Truncated { name, wanted: range.end, len: part.file_len });
            }
            Ok(part.bytes.into())
        })
        .await
    }

    async fn holds(&self, name: &ObjectName, body: &Bytes) -> Result<bool, Error> {
        let (name, body) = (name.clone(), body.clone());
        self.run(move |inner| inner.holds(&name, &body)).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Vec<Listed>, Error> {
        if !is_prefix(prefix) {
            return Ok(Vec::new());
        }
        let (prefix, after) = (prefix.to_owned(), after.cloned());
        self.run(move |inner| {
            let found = listing::list(inner.disk.as_ref(), &prefix, after.as_ref(), limit);
            found.map_err(|(path, io)| inner.faults.of("list", &path, &io))
        })
        .await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), Error> {
        let name = name.clone();
        self.run(move |inner| inner.delete(&name)).await
    }

    fn describe(&self) -> String {
        self.0.faults.root()
    }
}

impl Inner {
    fn create(&self, name: &ObjectName, body: &[u8]) -> Result<(), Error> {
        let temp = self.write_temp(body)?;
        let named = self.give_name(&temp, name);
        // Best effort: what stays is swept a day later.
        let _ = self.disk.remove_file(&temp);
        named
    }

    /// The bytes, durable, under a name that nobody can guess.
    fn write_temp(&self, body: &[u8]) -> Result<String, Error> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| self.faults.no_random(&error))?;
        let temp = format!("{TEMP_DIR}/{TEMP_PREFIX}{}", HEXLOWER.encode(&random));
        let mut file = match self.disk.create_file(&temp) {
            Err(io) if io.kind() == io::ErrorKind::NotFound => {
                self.make_temp_dir()?;
                self.disk.create_file(&temp)
            }
            other => other,
        }
        .map_err(|io| self.faults.of("create", &temp, &io))?;
        let written = file.write_all(body).and_then(|()| file.sync());
        drop(file);
        written.map_err(|io| {
            let _ = self.disk.remove_file(&temp);
            self.faults.of("write", &temp, &io)
        })?;
        Ok(temp)
    }

    /// Links the temporary file to the object's name and makes the name durable.
    fn give_name(&self, temp: &str, name: &ObjectName) -> Result<(), Error> {
        let path = name.as_str();
        let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
        self.make_parents(dir)?;
        let linked = match self.disk.link(temp, path) {
            Err(io) if io.kind() == io::ErrorKind::NotFound => {
                // Somebody removed a directory that this process has seen.
                self.known().clear();
                self.make_parents(dir)?;
                self.disk.link(temp, path)
            }
            other => other,
        };
        let exists = match linked {
            Ok(()) => false,
            Err(io) if io.kind() == io::ErrorKind::AlreadyExists => true,
            Err(io) => return Err(self.faults.of_link(path, &io)),
        };
        // The loser syncs too: whoever is told that an object exists may build on it, and the winner
        // may have died between its link and its sync.
        self.disk.sync_dir(dir).map_err(|io| self.faults.of("sync", dir, &io))?;
        if exists {
            return Err(match self.disk.stat(path) {
                Ok(stat) if stat.kind != EntryKind::File => self.faults.not_a_file(path),
                _ => Error::AlreadyExists { name: name.to_string() },
            });
        }
        Ok(())
    }

    /// Makes a directory and those above it, durably.
    ///
    /// A directory that exists is synced into its parent once by this process as well: another
    /// creator may have made it and died, or not yet come to its sync.
    fn make_parents(&self, dir: &str) -> Result<(), Error> {
        if dir.is_empty() || self.known().contains(dir) {
            return Ok(());
        }
        let parent = dir.rsplit_once('/').map_or("", |(parent, _)| parent);
        self.make_parents(parent)?;
        match self.disk.make_dir(dir) {
            Err(io) if io.kind() != io::ErrorKind::AlreadyExists => return Err(self.faults.of("make", dir, &io)),
            _ => {}
        }
        self.disk.sync_dir(parent).map_err(|io| self.faults.of("sync", parent, &io))?;
        let mut known = self.known();
        if known.len() >= KNOWN_DIRS_MAX {
            known.clear();
        }
        known.insert(dir.to_owned());
        Ok(())
    }

    fn make_temp_dir(&self) -> Result<(), Error> {
        match self.disk.make_dir(TEMP_DIR) {
            Err(io) if io.kind() != io::ErrorKind::AlreadyExists => Err(self.faults.of("make", TEMP_DIR, &io)),
            _ => Ok(()),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        // A set of hints: one that a panic left behind is as good as any.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, name: &ObjectName, range: Option<Range<u64>>) -> Result<FilePart, Error> {
        self.disk.read(name.as_str(), range).map_err(|io| match io.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::IsADirectory => Error::NotFound { name: name.to_string() },
            _ => self.faults.of("read", name.as_str(), &io),
        })
    }

    fn holds(&self, name: &ObjectName, body: &[u8]) -> Result<bool, Error> {
        let (body_len, mut from) = (body.len() as u64, 0u64);
        for piece in body.chunks(COMPARE_BYTES) {
            let till = from + piece.len() as u64;
            let part = self.read(name, Some(from..till))?;
            if part.file_len != body_len || part.bytes != piece {
                return Ok(false);
            }
            from = till;
        }
        // Nothing was read of an object without bytes.
        Ok(from > 0 || self.read(name, None)?.file_len == body_len)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), Error> {
        let path = name.as_str();
        match self.disk.remove_file(path) {
            Err(io) if io.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|io| self.faults.of("delete", path, &io))?,
        }
        // A destroyed key must not come back with the power.
        let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
        self.disk.sync_dir(dir).map_err(|io| self.faults.of("sync", dir, &io))
    }

    /// Removes what creates that died more than a day ago left behind; nothing depends on it.
    fn sweep_temp(&self) {
        let Ok(entries) = self.disk.read_dir(TEMP_DIR) else { return };
        let now = SystemTime::now();
        for entry in entries.iter().filter(|entry| entry.kind == EntryKind::File && is_ours(&entry.name)) {
            let path = format!("{TEMP_DIR}/{}", entry.name);
            let age = self.disk.stat(&path).ok().and_then(|stat| now.duration_since(stat.modified).ok());
            if age.is_some_and(|age| age > TEMP_AGE_MAX) {
                let _ = self.disk.remove_file(&path);
            }
        }
    }
}

fn is_ours(name: &str) -> bool {
    name.strip_prefix(TEMP_PREFIX)
        .is_some_and(|random| random.len() == 32 && random.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// `mkdir -p`, closed to others, every new name durable.
fn make_root(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if path.is_dir() {
        return Ok(());
    }
    let parent: PathBuf = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    make_root(&parent)?;
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(io) if io.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        other => other?,
    }
    std::fs::File::open(&parent)?.sync_all()
}

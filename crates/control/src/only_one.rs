//! One daemon of a repository on a host: a lock beside its catalog, which says whose it is.
//!
//! `lifeboat.catalog/daemon.lock` holds the process id of the one that has the lock. The kernel lets go of it when that
//! process ends, however it ends; what is written in the file is for people alone. Daemons of other hosts have catalogs of
//! their own: they do work twice at worst, and what they publish the bucket keeps apart.
//!
//! Invariant (one-daemon): while one lives, no other one of the same catalog begins.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::Error;

/// The lock, held until it is dropped.
#[derive(Debug)]
pub struct OnlyDaemon {
    _lock: File,
}

impl OnlyDaemon {
    /// # Errors
    /// [`Error::DaemonRuns`] while another process has it.
    pub fn claim(catalog: &Path) -> Result<Self, Error> {
        let file = catalog.join("daemon.lock");
        let failed = |io: std::io::Error| Error::of_io(&file, &io);
        match DirBuilder::new().mode(0o700).create(catalog) {
            Err(io) if io.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed(io)),
            _ => {}
        }
        let options = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(&file);
        let mut lock = options.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = lock.read_to_string(&mut pid);
                return Err(Error::DaemonRuns { pid: pid.trim().to_owned(), file: file.display().to_string() });
            }
            Err(TryLockError::Error(io)) => return Err(failed(io)),
        }
        lock.set_len(0).and_then(|()| lock.rewind()).map_err(failed)?;
        writeln!(lock, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _lock: lock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Explains invariant: one-daemon
    #[test]
    fn a_second_daemon_of_a_catalog_is_told_who_the_first_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = dir.path().join("lifeboat.catalog");
        let first = OnlyDaemon::claim(&catalog).unwrap();
        let refused = OnlyDaemon::claim(&catalog).unwrap_err();
        assert!(
            matches!(&refused, Error::DaemonRuns { pid, .. } if *pid == std::process::id().to_string()),
            "{refused}"
        );
        drop(first);
        OnlyDaemon::claim(&catalog).unwrap();
    }
}

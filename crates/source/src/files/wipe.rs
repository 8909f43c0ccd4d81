//! Removing what was staged, and nothing else.

use lifeboat_model::PartProblem;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::{Errno, Result};

use crate::beneath::{self, DIRECTORY, Mounts, Names};

/// Where in the staging directory of a merge its files lie.
pub(crate) const FILES: &[u8] = b"files";

/// Removes the tree `name` in `dir`, with no recursion: a directory found inside is moved up beside
/// the others until all are empty, so that depth costs neither descriptors nor stack. Mount points
/// are never entered. Returns what would not go.
pub(crate) fn remove_tree(dir: impl AsFd, name: &[u8]) -> Result<Vec<PartProblem>> {
    let mut kept = Vec::new();
    let top = match beneath::open(&dir, name, DIRECTORY, Mounts::Stay) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(kept),
        Err(errno) => return Err(errno),
    };
    let mut moved = 0u64;
    loop {
        let before = kept.len();
        let listing = reopen(&top)?;
        let names = Names::read(&listing)?;
        let mut progress = false;
        for (name, kind) in names.iter() {
            progress |= remove_one(&top, name, kind, &mut moved, &mut kept)?;
        }
        if !progress || kept.len() > before {
            break;
        }
    }
    if kept.is_empty() {
        rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?;
    }
    Ok(kept)
}

/// Empties one child of `top`; its own directories move up to be children of `top`.
fn remove_one(
    top: &OwnedFd,
    name: &[u8],
    kind: FileType,
    moved: &mut u64,
    kept: &mut Vec<PartProblem>,
) -> Result<bool> {
    if kind != FileType::Directory {
        match rustix::fs::unlinkat(top, name, AtFlags::empty()) {
            Ok(()) => return Ok(true),
            // Not a directory to the listing, one to the kernel: a listing without kinds.
            Err(Errno::ISDIR) => {}
            Err(errno) => return Err(errno),
        }
    }
    let child = match opened(top, name) {
        Ok(child) => child,
        Err(Errno::XDEV) => {
            keep(kept, name, "another file system is mounted here");
            return Ok(false);
        }
        Err(errno) => return Err(errno),
    };
    for (inner, kind) in Names::read(&child)?.iter() {
        let result = match kind {
            FileType::Directory => Err(Errno::ISDIR),
            _ => rustix::fs::unlinkat(&child, inner, AtFlags::empty()),
        };
        match result {
            Ok(()) => {}
            Err(Errno::ISDIR) => match move_up(&child, inner, top, moved) {
                Ok(()) => {}
                Err(Errno::BUSY) => keep(kept, inner, "another file system is mounted here"),
                Err(errno) => return Err(errno),
            },
            Err(errno) => return Err(errno),
        }
    }
    match rustix::fs::unlinkat(top, name, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::BUSY) if !kept.is_empty() => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Opens a directory of ours, which may be closed to ourselves: it was given its final mode before
/// the run was killed.
fn opened(dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    match beneath::open(dir, name, DIRECTORY, Mounts::Stay) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(dir, name, Mode::RWXU, AtFlags::empty())?;
            beneath::open(dir, name, DIRECTORY, Mounts::Stay)
        }
        result => result,
    }
}

fn move_up(from: &OwnedFd, name: &[u8], top: &OwnedFd, moved: &mut u64) -> Result<()> {
    loop {
        *moved += 1;
        match beneath::rename_noreplace(from, name, top, format!(".moved-{moved}").as_bytes()) {
            Err(Errno::EXIST) => {}
            // To move a directory is to write into it: its `..` changes.
            Err(Errno::ACCESS) => rustix::fs::chmodat(from, name, Mode::RWXU, AtFlags::empty())?,
            result => return result,
        }
    }
}

/// Removes the staging directory of a merge: files, empty directories and the one with the staged files only, because
/// that is all that was ever put there.
pub(crate) fn remove_flat(dir: impl AsFd, name: &[u8]) -> Result<Vec<PartProblem>> {
    let mut kept = Vec::new();
    let top = match beneath::open(&dir, name, DIRECTORY, Mounts::Stay) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(kept),
        Err(errno) => return Err(errno),
    };
    for (inner, _) in Names::read(reopen(&top)?)?.iter() {
        if inner == FILES {
            kept.extend(remove_flat(&top, FILES)?);
            continue;
        }
        let mut result = rustix::fs::unlinkat(&top, inner, AtFlags::empty());
        if result == Err(Errno::ISDIR) {
            result = rustix::fs::unlinkat(&top, inner, AtFlags::REMOVEDIR);
        }
        match result {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::NOTEMPTY) => keep(&mut kept, inner, "a directory that was not put here by a restore"),
            Err(errno) => return Err(errno),
        }
    }
    if kept.is_empty() {
        rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?;
    }
    Ok(kept)
}

fn reopen(dir: &OwnedFd) -> Result<OwnedFd> {
    rustix::fs::openat(dir, c".", DIRECTORY, Mode::empty())
}

fn keep(kept: &mut Vec<PartProblem>, name: &[u8], reason: &str) {
    kept.push(PartProblem { entry: crate::error::shown(name), reason: reason.into() });
}

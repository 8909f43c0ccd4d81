//! A directory tree in the byte order of whole names, read only as far as asked.
//!
//! A subdirectory is sorted as `name/`, because that is what all names below it begin with: so
//! `a-b` comes before `a/b`, as in every S3 listing.

use std::io;

use super::TEMP_DIR;
use super::disk::{Disk, DiskEntry, EntryKind};
use crate::{Listed, ObjectName};

/// A failure and the path it happened at.
pub type Failure = (String, io::Error);

pub fn list(disk: &dyn Disk, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Vec<Listed>, Failure> {
    let after = after.map_or("", ObjectName::as_str);
    let mut listing = Listing { disk, after, limit, found: Vec::new() };
    listing.walk(prefix)?;
    Ok(listing.found)
}

struct Listing<'a> {
    disk: &'a dyn Disk,
    /// Only names greater than this; empty: all.
    after: &'a str,
    limit: usize,
    found: Vec<Listed>,
}

impl Listing<'_> {
    /// `dir` ends with `/` or is empty.
    fn walk(&mut self, dir: &str) -> Result<(), Failure> {
        if self.found.len() >= self.limit || self.is_behind(dir) {
            return Ok(());
        }
        let path = dir.trim_end_matches('/');
        let mut names: Vec<String> = match self.disk.read_dir(path) {
            Ok(entries) => entries.into_iter().filter_map(|entry| sort_name(dir, entry)).collect(),
            Err(io) if io.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(io) => return Err((path.to_owned(), io)),
        };
        names.sort_unstable();
        for name in names {
            if self.found.len() >= self.limit {
                break;
            }
            let full = format!("{dir}{name}");
            if name.ends_with('/') { self.walk(&full)? } else { self.add(full)? }
        }
        Ok(())
    }

    /// Whether every name below `dir` sorts at or before `after`.
    fn is_behind(&self, dir: &str) -> bool {
        dir < self.after && !self.after.starts_with(dir)
    }

    fn add(&mut self, full: String) -> Result<(), Failure> {
        if full.as_str() <= self.after {
            return Ok(());
        }
        // What is not an object name was put there by somebody else.
        let Ok(name) = ObjectName::new(full) else { return Ok(()) };
        match self.disk.stat(name.as_str()) {
            Ok(stat) if stat.kind == EntryKind::File => {
                self.found.push(Listed { name, len: stat.len, modified: Some(stat.modified.into()) });
            }
            Ok(_) => {}
            // Deleted since the directory was read.
            Err(io) if io.kind() == io::ErrorKind::NotFound => {}
            Err(io) => return Err((name.to_string(), io)),
        }
        Ok(())
    }
}

fn sort_name(dir: &str, entry: DiskEntry) -> Option<String> {
    match entry.kind {
        EntryKind::File => Some(entry.name),
        EntryKind::Dir if dir.is_empty() && entry.name == TEMP_DIR => None,
        EntryKind::Dir => Some(entry.name + "/"),
        EntryKind::Other => None,
    }
}

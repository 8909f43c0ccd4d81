//! The hashes of one file while a version of it is read: as they were, and as they become.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use lifeboat_model::{PageHash, SiteId};

use super::{FileUpdate, HASHES_PER_CHUNK, PageIndex};
use crate::Error;

/// Where hashes come from: what is on its way to the disk, and what is there.
pub(super) struct Before<'b> {
    pub pending: &'b BTreeMap<SiteId, FileUpdate>,
    pub index: &'b mut dyn PageIndex,
}

#[derive(Debug, Default)]
pub(super) struct Hashes {
    before: BTreeMap<u32, Vec<PageHash>>,
    /// Chunks in which something is new.
    now: BTreeMap<u32, Vec<PageHash>>,
}

impl Hashes {
    /// Of a page that the file had.
    pub fn before(&mut self, site: &SiteId, number: u32, from: &mut Before<'_>) -> Result<PageHash, Error> {
        let (chunk, at) = place_of(number);
        let hashes = self.chunk(site, chunk, from)?;
        let missing = || Error::Bug(format!("no hash of a page is kept: site=`{site}`, page=`{number}`"));
        hashes.get(at).copied().ok_or_else(missing)
    }

    pub fn set(&mut self, site: &SiteId, number: u32, hash: PageHash, from: &mut Before<'_>) -> Result<(), Error> {
        let (chunk, at) = place_of(number);
        if !self.now.contains_key(&chunk) {
            let before = self.chunk(site, chunk, from)?.clone();
            self.now.insert(chunk, before);
        }
        let hashes = self.now.entry(chunk).or_default();
        if hashes.len() <= at {
            hashes.resize(at + 1, PageHash([0; 16]));
        }
        hashes[at] = hash;
        Ok(())
    }

    pub fn into_new(self) -> BTreeMap<u32, Vec<PageHash>> {
        self.now
    }

    fn chunk(&mut self, site: &SiteId, chunk: u32, from: &mut Before<'_>) -> Result<&Vec<PageHash>, Error> {
        let entry = match self.before.entry(chunk) {
            Entry::Occupied(known) => return Ok(known.into_mut()),
            Entry::Vacant(entry) => entry,
        };
        let pending = from.pending.get(site);
        Ok(entry.insert(match pending.and_then(|update| update.chunks.get(&chunk)) {
            Some(hashes) => hashes.clone(),
            // Of a file that was gone in between, nothing on disk means anything.
            None if pending.is_some_and(|update| update.file.is_none()) => Vec::new(),
            None => from.index.hashes(site, chunk)?,
        }))
    }
}

/// In which chunk a page's hash is, and where; the first page is 1.
fn place_of(number: u32) -> (u32, usize) {
    let place = number.saturating_sub(1);
    (place / HASHES_PER_CHUNK, (place % HASHES_PER_CHUNK) as usize)
}

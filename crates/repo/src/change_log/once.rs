//! What many sites want of one log at the same time is read once.
//!
//!   footer, decoded once ─▶ the blocks of these sites ─▶ those that lie close together ─▶ one request for all of them
//!
//! A run of blocks is kept until each of its sites had its own. Memory is bounded, half of it for footers and half for
//! runs: the oldest goes first. Who still waits for a run that went reads its block alone, and nobody reads that run
//! again: so no byte is read for all of them twice. A footer that went is read again, and until then blocks are read alone.
//!
//! Invariant (asked-sites): no block of a site that is not asked for is handed to anybody, nor asked for but in a gap.
//!
//! What is not here: which sites are wanted (`engine`), opening a block, which proves whose it is (`blocks`).

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lifeboat_model::{BlockRef, SegmentFooter, SiteId};
use tokio::sync::OnceCell;

mod shelf;

use shelf::Shelf;

/// So far apart two blocks are still cheaper in one request than in two.
const GAP_BYTES_MAX: u64 = 16 << 10;
/// So much is asked for in one request.
const RUN_BYTES_MAX: u64 = 4 << 20;
/// About what a footer or a run takes, and each block in it.
const ENTRY_BYTES: usize = 512;
const BLOCK_BYTES: usize = 160;
/// Runs of which is known that they went.
const GONE_MAX: usize = 1 << 14;

/// Of the logs of one repository, by whoever restores several sites; shared by all of its readers.
pub struct ReadOnce {
    sites: BTreeSet<SiteId>,
    held: Mutex<Held>,
}

/// The segment's object, and where in it the run begins.
type RunKey = (String, u64);

struct Held {
    footers: Shelf<String, Arc<SegmentFooter>>,
    runs: Shelf<RunKey, Run>,
    /// Runs that went while somebody waited for them.
    gone: HashSet<RunKey>,
}

struct Run {
    bytes: Arc<OnceCell<Bytes>>,
    /// Sites that did not have theirs yet.
    waiting: BTreeSet<SiteId>,
}

/// Bytes of a segment that hold blocks of several of the sites.
pub(super) struct Claim {
    key: RunKey,
    pub range: Range<u64>,
    pub bytes: Arc<OnceCell<Bytes>>,
}

impl ReadOnce {
    /// For these sites; never holds more than about `bytes_max`.
    pub fn new(sites: BTreeSet<SiteId>, bytes_max: usize) -> Self {
        let (footers, runs) = (Shelf::new(bytes_max / 2), Shelf::new(bytes_max / 2));
        Self { sites, held: Mutex::new(Held { footers, runs, gone: HashSet::new() }) }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_asked(&self, site: &SiteId) -> bool {
        self.sites.contains(site)
    }

    pub(super) fn footer(&self, object: &str) -> Option<Arc<SegmentFooter>> {
        self.held().footers.get(&object.to_owned()).cloned()
    }

    /// Keeps of a footer what is of these sites, and gives it.
    pub(super) fn keep(&self, object: String, mut footer: SegmentFooter) -> Arc<SegmentFooter> {
        footer.blocks.retain(|block| self.sites.contains(&block.site));
        let bytes = ENTRY_BYTES + footer.blocks.len() * BLOCK_BYTES;
        let footer = Arc::new(footer);
        let _ = self.held().footers.insert(object, (Arc::clone(&footer), bytes), |_| true);
        footer
    }

    /// Of a footer that turned out wrong.
    pub(super) fn forget(&self, object: &str) {
        self.held().footers.remove(&object.to_owned());
    }

    /// The run that a block lies in; `None`: it is read alone.
    pub(super) fn claim(&self, object: &str, footer: &SegmentFooter, block: &BlockRef) -> Option<Claim> {
        let (range, waiting) = run_of(&footer.blocks, block)?;
        let key = (object.to_owned(), range.start);
        let mut held = self.held();
        if let Some(run) = held.runs.get(&key) {
            return Some(Claim { key, range, bytes: Arc::clone(&run.bytes) });
        }
        if held.gone.contains(&key) {
            return None;
        }
        let len = usize::try_from(range.end - range.start).ok()? + ENTRY_BYTES + waiting.len() * BLOCK_BYTES;
        let bytes = Arc::new(OnceCell::new());
        let run = Run { bytes: Arc::clone(&bytes), waiting };
        // One that is on its way just now is wanted.
        let gone = held.runs.insert(key.clone(), (run, len), |run| run.bytes.initialized())?;
        if held.gone.len() + gone.len() > GONE_MAX {
            held.gone.clear();
        }
        held.gone.extend(gone);
        Some(Claim { key, range, bytes })
    }

    #[cfg(test)]
    pub(super) fn runs_held(&self) -> usize {
        self.held().runs.len()
    }

    /// A site had its block.
    pub(super) fn release(&self, claim: &Claim, site: &SiteId) {
        let mut held = self.held();
        let Some(run) = held.runs.get_mut(&claim.key) else { return };
        run.waiting.remove(site);
        if run.waiting.is_empty() {
            held.runs.remove(&claim.key);
        }
    }
}

/// The blocks that are read with this one: their range, and whose they are. `None`: it is read alone.
fn run_of(blocks: &[BlockRef], wanted: &BlockRef) -> Option<(Range<u64>, BTreeSet<SiteId>)> {
    let mut ordered: Vec<&BlockRef> = blocks.iter().collect();
    ordered.sort_unstable_by_key(|block| block.place.offset);
    let (mut range, mut first, mut till) = (0..0, 0, 0);
    for (at, block) in ordered.iter().enumerate() {
        let place = block.place.offset..block.place.offset.saturating_add(block.place.len);
        let joins = at > 0
            && place.start.saturating_sub(range.end) <= GAP_BYTES_MAX
            && place.end.saturating_sub(range.start) <= RUN_BYTES_MAX;
        match joins {
            true => range.end = range.end.max(place.end),
            // The run that has the wanted one has ended.
            false if place.start > wanted.place.offset => break,
            false => (range, first) = (place, at),
        }
        till = at + 1;
    }
    let sites = || ordered[first..till].iter().map(|block| block.site.clone()).collect();
    (till - first > 1 && range.contains(&wanted.place.offset)).then(|| (range, sites()))
}

#[cfg(test)]
mod tests;

//! What many sites want of one log at the same time is read once.
//!
//!   footer, decoded once ─▶ the blocks of these sites ─▶ those that lie close together ─▶ one request for all of them
//!
//! A run of blocks is kept until each of its sites had its own. Memory is bounded: what does not fit any more, each reads for
//! itself.
//!
//! Invariant (asked-sites): no block of a site that is not asked for is handed to anybody, nor asked for but in a gap.
//!
//! What is not here: which sites are wanted (`engine`), opening a block, which proves whose it is (`read`).

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lifeboat_model::{BlockRef, SegmentFooter, SiteId};
use tokio::sync::OnceCell;

/// So far apart two blocks are still cheaper in one request than in two.
const GAP_BYTES_MAX: u64 = 16 << 10;
/// So much is asked for in one request.
const RUN_BYTES_MAX: u64 = 4 << 20;
/// About what a footer takes, and each block in it.
const FOOTER_BYTES: usize = 512;
const BLOCK_BYTES: usize = 160;

/// Of the logs of one repository, by whoever restores several sites; shared by all of its readers.
pub struct ReadOnce {
    sites: BTreeSet<SiteId>,
    bytes_max: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    bytes: usize,
    footers: HashMap<String, Arc<SegmentFooter>>,
    runs: HashMap<(String, u64), Run>,
}

struct Run {
    bytes: Arc<OnceCell<Bytes>>,
    len: usize,
    /// Sites that did not have theirs yet.
    waiting: usize,
}

/// Bytes of a segment that hold blocks of several of the sites.
pub(super) struct Claim {
    key: (String, u64),
    pub range: Range<u64>,
    pub bytes: Arc<OnceCell<Bytes>>,
}

impl ReadOnce {
    /// For these sites; never holds more than about `bytes_max`.
    pub fn new(sites: BTreeSet<SiteId>, bytes_max: usize) -> Self {
        Self { sites, bytes_max, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn footer(&self, object: &str) -> Option<SegmentFooter> {
        let found = self.held().footers.get(object).cloned();
        found.map(|footer| SegmentFooter::clone(&footer))
    }

    /// Keeps of a footer what is of these sites, and gives it.
    pub(super) fn keep(&self, object: String, mut footer: SegmentFooter) -> SegmentFooter {
        footer.blocks.retain(|block| self.sites.contains(&block.site));
        let bytes = FOOTER_BYTES + footer.blocks.len() * BLOCK_BYTES;
        let mut held = self.held();
        if held.bytes + bytes <= self.bytes_max && !held.footers.contains_key(&object) {
            held.bytes += bytes;
            held.footers.insert(object, Arc::new(footer.clone()));
        }
        footer
    }

    /// The run that a block lies in; `None`: it lies alone, or there is no room.
    pub(super) fn claim(&self, object: &str, footer: &SegmentFooter, block: &BlockRef) -> Option<Claim> {
        let (range, sites) = run_of(&footer.blocks, block)?;
        let (key, len) = ((object.to_owned(), range.start), usize::try_from(range.end - range.start).ok()?);
        let mut held = self.held();
        if let Some(run) = held.runs.get(&key) {
            return Some(Claim { key, range, bytes: Arc::clone(&run.bytes) });
        }
        if held.bytes + len > self.bytes_max {
            return None;
        }
        held.bytes += len;
        let bytes = Arc::new(OnceCell::new());
        held.runs.insert(key.clone(), Run { bytes: Arc::clone(&bytes), len, waiting: sites });
        Some(Claim { key, range, bytes })
    }

    #[cfg(test)]
    pub(super) fn runs_held(&self) -> usize {
        self.held().runs.len()
    }

    /// A site had its block.
    pub(super) fn release(&self, claim: &Claim) {
        let mut held = self.held();
        let Some(run) = held.runs.get_mut(&claim.key) else { return };
        run.waiting = run.waiting.saturating_sub(1);
        if run.waiting == 0 {
            let len = run.len;
            held.runs.remove(&claim.key);
            held.bytes -= len;
        }
    }
}

/// The blocks that are read with this one: their range, and how many they are. `None`: it is read alone.
fn run_of(blocks: &[BlockRef], wanted: &BlockRef) -> Option<(Range<u64>, usize)> {
    let mut places: Vec<Range<u64>> =
        blocks.iter().map(|block| block.place.offset..block.place.offset.saturating_add(block.place.len)).collect();
    places.sort_unstable_by_key(|place| place.start);
    let (mut range, mut count) = (0..0, 0);
    for place in places {
        let joins = count > 0
            && place.start.saturating_sub(range.end) <= GAP_BYTES_MAX
            && place.end.saturating_sub(range.start) <= RUN_BYTES_MAX;
        match joins {
            true => (range.end, count) = (range.end.max(place.end), count + 1),
            // The run that has the wanted one has ended.
            false if place.start > wanted.place.offset => break,
            false => (range, count) = (place, 1),
        }
    }
    (count > 1 && range.contains(&wanted.place.offset)).then_some((range, count))
}

//! What the log has beyond the hashes: a capture was killed between the two, or another host went on.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use lifeboat_model::{FileState, FileStep, PagesChange, RowChange, SegmentFooter, SiteChange, SiteId, TransactionHead};
use lifeboat_repo::{Appender, ChangeLog, ListedSegment, SegmentBlock};
use lifeboat_source::sqlite::capture::page_hash;

use super::hashes::{Before, Hashes};
use super::{FileUpdate, PageIndex, PagesPlace};
use crate::Error;

/// Takes the pages of segments after `place` into the hashes.
pub(super) async fn catch_up(
    log: &ChangeLog,
    appender: &Appender,
    place: PagesPlace,
    index: &mut dyn PageIndex,
) -> Result<(), Error> {
    let newest = appender.known();
    if newest.number <= place.segment {
        return Ok(());
    }
    let segments = log.segments(place.epoch, place.segment.next()..=newest.number).await?;
    let found: Vec<(ListedSegment, SegmentFooter)> = log.footers(segments).await?.try_collect().await?;
    let mut blocks: BTreeMap<SiteId, Vec<SegmentBlock>> = BTreeMap::new();
    for (segment, footer) in found {
        for block in footer.blocks {
            blocks.entry(block.site.clone()).or_default().push(SegmentBlock { segment, block });
        }
    }
    let states: BTreeMap<SiteId, FileState> =
        index.files()?.into_iter().map(|known| (known.site, known.state)).collect();
    let mut updates = BTreeMap::new();
    for (site, blocks) in blocks {
        let mut follower =
            Follower { known: states.get(&site).copied(), site, updates, head: None, hashes: Hashes::default() };
        let read = log.read_blocks(blocks, |head, SiteChange { change, .. }| match change {
            RowChange::Pages(change) => follower.take(head, &change, index),
            _ => Err(Error::Bug("rows in a change log of files".into())),
        });
        read.await??;
        updates = follower.updates;
    }
    index.commit(&PagesPlace::of(newest, place.is_filled), &updates)
}

/// One site's file, version after version.
struct Follower {
    site: SiteId,
    known: Option<FileState>,
    updates: BTreeMap<SiteId, FileUpdate>,
    head: Option<TransactionHead>,
    /// Of the version that is open.
    hashes: Hashes,
}

impl Follower {
    fn take(&mut self, head: &TransactionHead, change: &PagesChange, index: &mut dyn PageIndex) -> Result<(), Error> {
        if self.head != Some(*head) {
            // What was open had no end, and never came to be.
            (self.head, self.hashes) = (Some(*head), Hashes::default());
        }
        let mut before = Before { pending: &self.updates, index };
        for page in &change.pages {
            self.hashes.set(&self.site, page.number, page_hash(page.number, &page.bytes), &mut before)?;
        }
        let Some(step) = change.step else { return Ok(()) };
        let hashes = std::mem::take(&mut self.hashes);
        let FileStep { before, after } = step;
        if before == after {
            return Ok(()); // it was only seen, and stays as unknown as it was
        }
        // On top of another state than the one that is known, its pages say nothing: it is read as a new file.
        let fits = step.is_image() || before == self.known;
        self.known = after.filter(|_| fits);
        let update = self.updates.entry(self.site.clone()).or_default();
        match self.known {
            // Without a stamp it is looked at in any case.
            Some(state) => {
                update.chunks.extend(hashes.into_new());
                update.file = Some((state, Vec::new()));
            }
            None => *update = FileUpdate::default(),
        }
        Ok(())
    }
}

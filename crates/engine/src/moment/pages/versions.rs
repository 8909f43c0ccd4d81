//! A file's versions in the log: which there are, and their pages over an image.

use std::collections::BTreeSet;

use lifeboat_model::{FileStep, Lsn, RowChange, SiteChange, TransactionHead};
use lifeboat_repo::{ChangeLog, SegmentBlock};
use lifeboat_source::sqlite::capture::PageImage;

use super::{FileVersion, Limit};
use crate::Error;

/// What one version did.
#[derive(Debug, Clone, Copy)]
pub(super) struct VersionFacts {
    pub head: TransactionHead,
    pub step: FileStep,
}

/// Versions in order; none without its end.
pub(super) struct Versions(Vec<VersionFacts>);

impl Versions {
    pub async fn read(log: &ChangeLog, blocks: Vec<SegmentBlock>) -> Result<Self, Error> {
        let mut versions = Vec::new();
        let read = log.read_blocks(blocks, |head, SiteChange { change, .. }| {
            let RowChange::Pages(change) = change else { return Err(no_pages()) };
            versions.extend(change.step.map(|step| VersionFacts { head: *head, step }));
            Ok(())
        });
        read.await??;
        Ok(Self(versions))
    }

    /// Those that belong to a moment. As everywhere, the first one that is later ends it, in the order of the log.
    pub fn until(mut self, limit: Limit) -> Self {
        let is_later = |version: &VersionFacts| match limit {
            Limit::End => false,
            Limit::Time(time) => version.head.committed_at > time,
            Limit::Position(lsn) => version.head.commit > lsn,
        };
        let end = self.0.iter().position(is_later).unwrap_or(self.0.len());
        self.0.truncate(end);
        self
    }

    pub fn last(&self) -> Option<&VersionFacts> {
        self.0.last()
    }

    /// Place of the newest version whose pages are the whole file.
    pub fn newest_image(&self) -> Option<usize> {
        self.0.iter().rposition(|version| version.step.is_image())
    }

    pub fn from(&self, place: Option<usize>) -> Vec<VersionFacts> {
        self.0.get(place.unwrap_or(0)..).unwrap_or_default().to_vec()
    }
}

impl VersionFacts {
    pub fn version(&self) -> FileVersion {
        let TransactionHead { id, commit: position, committed_at: read_at } = self.head;
        FileVersion { position, id, read_at }
    }
}

/// Puts the pages of `versions`, which are in order, over an image.
pub(super) async fn apply(
    log: &ChangeLog,
    blocks: Vec<SegmentBlock>,
    versions: &[VersionFacts],
    image: &mut PageImage<'_>,
) -> Result<(), Error> {
    let wanted: BTreeSet<Lsn> = versions.iter().map(|version| version.head.commit).collect();
    let images: BTreeSet<Lsn> =
        versions.iter().filter(|version| version.step.is_image()).map(|version| version.head.commit).collect();
    let read = log.read_blocks(blocks, |head, SiteChange { change, sequence, .. }| {
        let RowChange::Pages(change) = change else { return Err(no_pages()) };
        if !wanted.contains(&head.commit) {
            return Ok(());
        }
        if sequence == 0 && images.contains(&head.commit) {
            image.clear()?;
        }
        for page in &change.pages {
            image.put(page.number, &page.bytes)?;
        }
        if let Some(after) = change.step.and_then(|step| step.after) {
            image.become_state(&after)?; // whether it is that one is asked of the last version
        }
        Ok::<(), Error>(())
    });
    read.await??;
    Ok(())
}

fn no_pages() -> Error {
    Error::Bug("rows in a change log of files".into())
}

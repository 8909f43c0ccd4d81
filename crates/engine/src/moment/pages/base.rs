//! Snapshots that versions of a file may go on top of, and their content.

use std::fs::File;

use lifeboat_model::{
    EntryKind, EntryPath, ManifestRef, Mark, PartStatus, PointInTime, SiteId, SnapshotId, SourceName, Timestamp,
};

use super::{Filling, Limit, Window, scratch};
use crate::{Engine, Error};

/// A snapshot of a file.
#[derive(Debug, Clone)]
pub(super) struct FileBase {
    pub snapshot: SnapshotId,
    /// The file was read between these.
    pub cut_from: Timestamp,
    pub cut_till: Timestamp,
    /// Taken after the moment: it may still be the file as it was.
    pub is_later: bool,
    /// The site had no such file.
    pub is_absent: bool,
    manifest: ManifestRef,
}

/// The snapshots that are not after the moment, newest first, down to the first one that is older than the epoch; and
/// last the next one after the moment: where nothing was written in between, it is the file too.
pub(super) async fn bases(
    engine: &Engine,
    id: &SiteId,
    source: &SourceName,
    window: &Window,
) -> Result<Vec<FileBase>, Error> {
    let site = match engine.site(id).await {
        Ok(site) => site,
        // It was never backed up: the log alone knows it.
        Err(Error::NoSuchSite { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let (mut bases, mut later) = (Vec::new(), None);
    for record in site.state().snapshots.iter().rev() {
        let Some(part) = record.parts.iter().find(|part| part.source == *source) else { continue };
        let is_absent = part.status == PartStatus::Absent;
        let is_usable =
            matches!(record.mark, Mark::Good | Mark::Suspect) && (is_absent || part.status == PartStatus::Complete);
        let is_later = match window.till {
            Limit::End => false,
            Limit::Time(time) => part.cut_from > time,
            Limit::Position(lsn) => part.cut_from > super::time_of(lsn),
        };
        if !is_usable {
            continue;
        }
        let (cut_from, cut_till, manifest) = (part.cut_from, part.cut_till, record.manifest);
        let base = FileBase { snapshot: record.id, cut_from, cut_till, is_later, is_absent, manifest };
        match is_later {
            true => later = Some(base),
            false => bases.push(base),
        }
        if part.cut_till < window.epoch.facts.begun_at {
            break; // if this one is not the file that was first seen, none before it is
        }
    }
    bases.extend(later);
    Ok(bases)
}

impl FileBase {
    /// Makes `file` the snapshot's content, and gives the size of its pages.
    pub async fn read_into(
        &self,
        engine: &Engine,
        id: &SiteId,
        source: &SourceName,
        file: &File,
    ) -> Result<u32, Error> {
        file.set_len(0).map_err(scratch)?;
        let (path, page_size) = self.database(engine, id, source).await?;
        let mut filling = Filling { file, at: 0 };
        let at = PointInTime::Snapshot(self.snapshot);
        crate::look::cat(engine, id, &at, (source, &path), &mut |bytes| filling.write(bytes)).await?;
        Ok(page_size)
    }

    async fn database(&self, engine: &Engine, id: &SiteId, source: &SourceName) -> Result<(EntryPath, u32), Error> {
        let site = engine.site(id).await?;
        let manifest = site.manifest(&self.manifest).await?;
        let entries = match manifest.part(source) {
            Some((number, _)) => manifest.entries(&site, number).await?,
            None => Vec::new(),
        };
        let database = entries.into_iter().find_map(|entry| match entry.kind {
            EntryKind::Database { page_size, .. } => Some((entry.path, page_size)),
            _ => None,
        });
        database.ok_or_else(|| Error::Damaged {
            site: id.clone(),
            detail: format!("a complete part without its database: snapshot=`{}`, source=`{source}`", self.snapshot),
        })
    }
}

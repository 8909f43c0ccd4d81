//! Whether a site has changed, by metadata alone: no content is read and no database opened.

use lifeboat_model::{Entry, PartRecord, PartStatus, SiteId, SourceKind};

use lifeboat_source::postgres::describe::DESCRIPTION_PATH;

use super::fingerprint::Fingerprinter;
use crate::fleet::AnySource;
use crate::{Engine, Error, SourceHealth};

/// The digest of the site's sources as they are now; `None` when a source has failed or an entry
/// cannot be read, so that nothing can be concluded.
pub(super) fn fingerprint_now(
    engine: &Engine,
    site: &SiteId,
    health: &[SourceHealth],
) -> Result<Option<[u8; 32]>, Error> {
    if health.iter().any(|source| source.failure.is_some()) {
        return Ok(None);
    }
    let mut digest = Fingerprinter::default();
    for source in engine.fleet.sources() {
        engine.check_cancelled()?;
        if probe_part(source, site, &mut digest).is_none() {
            return Ok(None);
        }
    }
    Ok(Some(digest.finish()))
}

/// Digests one part as it is now, and says whether the site has it; `None`: metadata do not tell, or cannot be read.
pub(crate) fn probe_part(source: &AnySource, site: &SiteId, digest: &mut Fingerprinter) -> Option<bool> {
    match source {
        AnySource::Sqlite(sqlite) => {
            let stamp = sqlite.stamp(site).ok()?;
            digest.part(source.name(), stamp.is_some());
            stamp.iter().for_each(|stamp| digest.database(stamp));
            Some(stamp.is_some())
        }
        // Whether rows were written, only reading them tells.
        AnySource::Postgres(_) => None,
        AnySource::Files(_) => {
            let reader = source.as_source().open(site).ok()?;
            digest.part(source.name(), reader.is_some());
            let Some(mut reader) = reader else { return Some(false) };
            while let Some(entry) = reader.next_entry().ok()? {
                digest.entry(&entry);
            }
            reader.finish().is_ok_and(|summary| summary.problems.is_empty()).then_some(true)
        }
    }
}

/// The digest that the sources had when a snapshot was taken, from its entries. Of a database's part
/// rows and structure count: where it was cut changes each time.
pub(super) fn fingerprint_of<'e, E: IntoIterator<Item = &'e Entry>>(
    parts: impl IntoIterator<Item = (&'e PartRecord, E)>,
) -> [u8; 32] {
    let mut digest = Fingerprinter::default();
    for (part, entries) in parts {
        digest.part(&part.source, part.status != PartStatus::Absent);
        let counts = |entry: &&Entry| part.kind != SourceKind::Postgres || entry.path.as_bytes() != DESCRIPTION_PATH;
        entries.into_iter().filter(counts).for_each(|entry| digest.entry(entry));
    }
    digest.finish()
}

//! Keeping the undo: what a restore is going to replace or remove becomes a snapshot of its own,
//! with only the difference in it, durable before the switch.

use std::collections::HashSet;

use lifeboat_model::{
    Entry, EntryKind, EntryPath, Fault, Faulty, Mark, PartIdentity, PartRecord, PartStatus, Position, SnapshotId,
    SourceKind, SourceName, Timestamp,
};
use lifeboat_repo::ManifestPart;
use lifeboat_repo::{Ingest, IngestOptions, NewPart, NewSnapshot, StoredContent};
use lifeboat_source::sqlite::Live;
use lifeboat_source::{PartReader, Source};

use super::Facts;
use super::facts::LivePart;
use super::files::{FilesWork, absent};
use super::intent::Intent;
use super::part::PartWork;
use super::rows::RowsWork;
use super::undo_files::Kept;
use crate::backup::{Parent, PartIngest};
use crate::fleet::AnySource;
use crate::process::random_id;
use crate::{Engine, Error, this_process};

/// How the position of an undo begins that is of a restore of some rows.
const NARROWED: &str = "some rows of: ";
/// No name of a table has it unquoted.
const SEPARATOR: &str = "\u{1f}";

/// Publishes the undo of this restore; `None` when it replaces and removes nothing.
///
/// A restore that goes on after a kill adds to the undo of its first attempt, whose entries win:
/// they are what was there before anything was touched. Rows are no such entries when somebody wrote them
/// in between ([`are_rows_others`]). `reuse`: name chunks that are stored already;
/// a restore that leaves out damaged ones relies on none of them.
pub(super) async fn keep_undo(
    engine: &Engine,
    facts: &mut Facts,
    parts: &[PartWork],
    intent: &mut Intent,
    reuse: bool,
) -> Result<Option<SnapshotId>, Error> {
    let earlier = Earlier::load(facts, intent).await?;
    let is_kept = parts.iter().all(|part| !changes_something(part, &earlier));
    if is_kept && (earlier.own.is_some() || earlier.parts.is_empty()) {
        return Ok(earlier.own);
    }
    // An undo must be nameable by the next one, so its chunks never lie in its manifest. Where nothing stands there is
    // nothing to store, and no need to know what is stored.
    let reuse = reuse && parts.iter().any(stands);
    let options = IngestOptions { inline: false, reuse, ..engine.ingest };
    let ingest = match Ingest::start(&facts.site, options).await {
        // The index only spares storing twice; who needs a restore must not be stopped by it.
        Err(error) if error.fault() == Fault::Damage => {
            tracing::warn!(site = %facts.site.id(), %error, "the index is damaged: the undo stores everything anew");
            Ingest::start(&facts.site, IngestOptions { reuse: false, ..options }).await?
        }
        started => started?,
    };
    ingest.adopt(facts.manifest.head());
    earlier.heads.iter().for_each(|head| ingest.adopt(head));
    let cut_from = Timestamp::now();
    let kept = tokio::task::block_in_place(|| {
        let reading = PartIngest::new(engine, &facts.site, &ingest);
        let mut kept = earlier.unworked(parts);
        for part in parts {
            kept.extend(keep_part(&reading, part, &earlier)?);
        }
        Ok::<_, Error>(kept)
    })?;
    let new = NewSnapshot {
        id: SnapshotId(random_id()?),
        mark: Mark::Undo,
        mark_reason: Some(format!("what restore {} replaced and removed", intent.restore)),
        cut_from,
        cut_till: Timestamp::now(),
        parent: Some(facts.record.id),
        restore: Some(intent.restore),
        moment: facts.replayed.as_ref().map(|replayed| replayed.moment.to_string()),
        is_scan: false,
        parts: kept,
    };
    let prepared = ingest.finish(&facts.site, new).await?;
    let (_, reading) = facts.site.publish_unread(&this_process(), &prepared).await?;
    intent.unread.push(reading);
    engine.memory.note_site(&facts.site);
    Ok(Some(prepared.record.id))
}

/// Whether rows are neither those that a killed attempt has kept nor those that it was to open: somebody
/// wrote them since. Rows switch at once, so then nothing says whether it had switched.
pub(super) async fn are_rows_others(engine: &Engine, facts: &Facts, intent: &Intent) -> Result<bool, Error> {
    let earlier = Earlier::load(facts, intent).await?;
    for part in &facts.parts {
        let (LivePart::Rows(live), Some((_, kept))) = (&part.live, earlier.part(&part.source)) else { continue };
        if super::rows::holds(kept.iter(), live) || super::rows::is_same(part, live) {
            continue;
        }
        // Of some rows, or of tables with columns that the point did not know, only a comparison tells.
        let compared = match tokio::task::block_in_place(|| super::rows::compare(engine, facts, part)) {
            Err(error) if error.fault() == Fault::Operator => None,
            compared => compared?,
        };
        if compared.is_none_or(|found| found.tables().iter().any(|table| table.writes() > 0)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What an earlier attempt of the same restore has kept.
#[derive(Default)]
struct Earlier {
    /// The undo that this very restore has already.
    own: Option<SnapshotId>,
    heads: Vec<lifeboat_repo::ManifestHead>,
    parts: Vec<(ManifestPart, Vec<Entry>)>,
}

impl Earlier {
    async fn load(facts: &Facts, intent: &Intent) -> Result<Self, Error> {
        let state = facts.site.state();
        let record = state.undo_of(intent.restore);
        let own = record.map(|record| record.id);
        // Of one that it took the place of, with the same aim: the files are as that one has left them.
        let taken = intent.takes_over.and_then(|taken| state.undo_of(taken));
        let taken = taken.filter(|record| record.parent == Some(facts.record.id));
        let Some(record) = record.or(taken).cloned() else { return Ok(Self::default()) };
        let manifest = facts.site.manifest(&record.manifest).await?;
        let mut parts = Vec::new();
        for (number, part) in manifest.head().parts.iter().enumerate() {
            if own.is_none() && part.record.kind == SourceKind::Postgres {
                continue; // its rows are in its own undo, and were never half switched
            }
            parts.push((part.clone(), manifest.entries(&facts.site, number).await?));
        }
        Ok(Self { own, heads: vec![manifest.head().clone()], parts })
    }

    fn part(&self, source: &SourceName) -> Option<&(ManifestPart, Vec<Entry>)> {
        self.parts.iter().find(|(part, _)| part.record.source == *source)
    }

    /// Parts that this attempt does not touch any more.
    fn unworked(&self, parts: &[PartWork]) -> Vec<NewPart> {
        let worked: HashSet<&SourceName> = parts.iter().map(source_of).collect();
        let unworked = self.parts.iter().filter(|(part, _)| !worked.contains(&part.record.source));
        unworked
            .map(|(part, entries)| NewPart { part: part.clone(), entries: entries.iter().map(again).collect() })
            .collect()
    }
}

/// An entry of an earlier undo, named again.
fn again(entry: &Entry) -> (Entry, StoredContent) {
    let content = match entry.kind {
        _ if entry.kind.has_content() => StoredContent::Same(entry.extents.clone()),
        _ => StoredContent::None,
    };
    (Entry { extents: Vec::new(), ..entry.clone() }, content)
}

fn source_of(part: &PartWork) -> &SourceName {
    match part {
        PartWork::Files(work) => work.source(),
        PartWork::Database(work) => work.source(),
        PartWork::Rows(work) => work.source(),
        PartWork::Copy(work) => work.source(),
    }
}

fn changes_something(part: &PartWork, earlier: &Earlier) -> bool {
    let known = earlier.part(source_of(part));
    match part {
        PartWork::Database(work) => work.replaced().is_some() && known.is_none(),
        PartWork::Rows(work) => work.replaced().is_some() && known.is_none(),
        PartWork::Copy(_) => false, // it replaces nothing
        PartWork::Files(work) => {
            let kept = merged(work, known);
            match known {
                Some((part, _)) if is_absent(part) => kept.has_strangers,
                _ => !kept.fresh.is_empty(),
            }
        }
    }
}

fn merged<'a>(work: &FilesWork, known: Option<&'a (ManifestPart, Vec<Entry>)>) -> Kept<'a> {
    super::undo_files::merge(known.map_or(&[], |(_, kept)| kept), work.before(), work.wanted_entries())
}

fn is_absent(part: &ManifestPart) -> bool {
    part.record.status == PartStatus::Absent
}

/// Whether the part may have content that the undo has to hold.
fn stands(part: &PartWork) -> bool {
    match part {
        PartWork::Files(work) => work.existed(),
        PartWork::Database(work) => work.replaced().is_some_and(|live| !matches!(live, Live::Absent { .. })),
        PartWork::Rows(_) => true,
        PartWork::Copy(_) => false,
    }
}

/// What stands now where this part will be changed; `None`: the part stays as it is.
fn keep_part(reading: &PartIngest<'_>, part: &PartWork, earlier: &Earlier) -> Result<Option<NewPart>, Error> {
    let source = source_of(part).clone();
    let known = earlier.part(&source);
    match part {
        // A database is kept whole, so what was kept first is all there is to keep. Of rows it still is what
        // is there, or all has happened.
        PartWork::Database(_) | PartWork::Rows(_) if known.is_some() => {
            Ok(known
                .map(|(part, entries)| NewPart { part: part.clone(), entries: entries.iter().map(again).collect() }))
        }
        PartWork::Rows(work) => keep_rows(reading, work, &source),
        PartWork::Copy(_) => Ok(None),
        PartWork::Database(work) => match work.replaced() {
            None => Ok(None),
            Some(Live::Absent { .. }) => {
                Ok(Some(new_part(source, SourceKind::Sqlite, PartStatus::Absent, work.target().identity(), Vec::new())))
            }
            Some(Live::Unusable { .. }) => {
                let entry = reading.read_raw(work.raw_live()?)?;
                Ok(Some(new_part(
                    source,
                    SourceKind::Sqlite,
                    PartStatus::Complete,
                    work.target().identity(),
                    vec![entry],
                )))
            }
            Some(Live::Database { .. }) => {
                let Some(reader) = work.target().read_live()? else { return Err(changed_meanwhile(&source)) };
                let (entries, summary) = reading.read_part(reader, &Parent::default())?;
                refuse_problems(&source, &summary.problems)?;
                Ok(Some(new_part(source, SourceKind::Sqlite, PartStatus::Complete, work.target().identity(), entries)))
            }
        },
        PartWork::Files(work) => {
            let kept = merged(work, known);
            if kept.fresh.is_empty() && known.is_none() {
                return Ok(None);
            }
            let mut entries: Vec<_> = kept.earlier.iter().map(|entry| again(entry)).collect();
            // Absent is what all of it was, as long as nobody but this restore has put anything there.
            let was_absent = known.map_or(!work.existed(), |(part, _)| is_absent(part) && !kept.has_strangers);
            if !was_absent {
                let Some(reader) = work.target().scan()? else { return Err(changed_meanwhile(&source)) };
                entries.extend(keep_files(reading, reader, kept.fresh, &source)?);
            }
            entries.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
            let status = if was_absent { PartStatus::Absent } else { PartStatus::Complete };
            Ok(Some(new_part(source, SourceKind::Files, status, &work.target().identity()?, entries)))
        }
    }
}

/// All rows of the site as they are, which the switch then demands to find.
fn keep_rows(reading: &PartIngest<'_>, work: &RowsWork, source: &SourceName) -> Result<Option<NewPart>, Error> {
    let Some(live) = work.replaced() else { return Ok(None) };
    let Some(AnySource::Postgres(rows)) = reading.engine.fleet.source(source) else {
        return Err(Error::Bug("rows without their source".into()));
    };
    rows.end_cut(); // what was read before is of another moment
    // Where there is nothing, nothing is read: the switch finds out whether it still is so.
    let reader = if live.is_absent() { None } else { rows.open(reading.site)? };
    let (entries, status) = match reader {
        None => (Vec::new(), PartStatus::Absent),
        Some(reader) => (reading.read_part(reader, &Parent::default())?.0, PartStatus::Complete),
    };
    let identity = rows.identity(reading.site)?;
    rows.end_cut();
    if !super::rows::holds(entries.iter().map(|(entry, _)| entry), live) {
        return Err(changed_meanwhile(source));
    }
    let mut part = new_part(source.clone(), SourceKind::Postgres, status, &identity, entries);
    part.part.position = work.undo_position();
    Ok(Some(part))
}

/// Says in the undo of which tables the restore wrote only some rows: what it left there is in no
/// snapshot, so that later changes to them cannot be told.
pub(super) fn narrowed_position(tables: impl Iterator<Item = String>) -> Position {
    let tables: Vec<String> = tables.collect();
    Position(if tables.is_empty() { String::new() } else { format!("{NARROWED}{}", tables.join(SEPARATOR)) })
}

/// The tables that [`narrowed_position`] named.
pub(super) fn narrowed_tables(position: &Position) -> Vec<String> {
    let tables = position.0.strip_prefix(NARROWED).map(|tables| tables.split(SEPARATOR));
    tables.into_iter().flatten().map(ToOwned::to_owned).collect()
}

fn keep_files(
    reading: &PartIngest<'_>,
    mut reader: Box<dyn PartReader>,
    before: Vec<Entry>,
    source: &SourceName,
) -> Result<Vec<(Entry, StoredContent)>, Error> {
    let paths: HashSet<EntryPath> = before.iter().map(|entry| entry.path.clone()).collect();
    let mut kept = Vec::new();
    let mut problems = Vec::new();
    for entry in before {
        match &entry.kind {
            EntryKind::File => match reading.read_entry(reader.as_mut(), entry, &mut problems)? {
                Some(entry) => kept.push(entry),
                None => return Err(changed_meanwhile(source)),
            },
            // Its first name may stay as it is and so not be in the undo: kept as a file of its own.
            EntryKind::HardLink { to } if !paths.contains(to) => {
                let file = Entry { kind: EntryKind::File, ..entry };
                match reading.read_entry(reader.as_mut(), file, &mut problems)? {
                    Some(entry) => kept.push(entry),
                    None => return Err(changed_meanwhile(source)),
                }
            }
            EntryKind::Absent => kept.push((absent(entry.path), StoredContent::None)),
            _ => kept.push((entry, StoredContent::None)),
        }
    }
    refuse_problems(source, &problems)?;
    Ok(kept)
}

fn refuse_problems(source: &SourceName, problems: &[lifeboat_model::PartProblem]) -> Result<(), Error> {
    match problems.first() {
        None => Ok(()),
        Some(problem) => Err(Error::Conflict {
            detail: format!(
                "what is there now cannot be kept for an undo: part=`{source}`, entry=`{}`, {}",
                problem.entry, problem.reason
            ),
            hint: "nothing was changed; stop writes to the site (hooks.freeze), then run the same command again".into(),
        }),
    }
}

fn changed_meanwhile(source: &SourceName) -> Error {
    Error::Conflict {
        detail: format!("the site was written to while the restore looked at it: part=`{source}`"),
        hint: "nothing was changed; stop writes to the site (hooks.freeze), then run the same command again".into(),
    }
}

fn new_part(
    source: SourceName,
    kind: SourceKind,
    status: PartStatus,
    identity: &PartIdentity,
    entries: Vec<(Entry, StoredContent)>,
) -> NewPart {
    let now = Timestamp::now();
    let record = PartRecord { source, kind, status, entries: 0, logical_bytes: 0, cut_from: now, cut_till: now };
    let part = ManifestPart {
        record,
        identity: identity.clone(),
        position: Position(String::new()),
        problems: Vec::new(),
        left_out: Vec::new(),
    };
    NewPart { part, entries }
}

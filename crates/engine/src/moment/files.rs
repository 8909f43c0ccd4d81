//! Files at a moment between looks at them: what any of the looks around it saw that was there then.
//!
//! ```text
//!   whole ─▶ rows          the newest whole look before what the oldest rows are as of: what it saw stays
//!     whole, holes ─▶ moment    later ones: what they saw counts too, and one with problems removes nothing
//!                   ─ moment ─▶    looks that were under way
//!              moment ◀─ the first look after it, and where that has holes the next whole one
//! ```
//!
//! A look is a snapshot, or a scan between two snapshots. A path that two looks saw alike is as they saw it. Where they
//! differ, the later one counts if its file had not changed since the moment, or was last written before it, and not
//! before what the earlier one saw. What only an earlier one saw may have been there still, and stays: no row comes
//! back without its attachment. What only a later one saw counts if it was written before the moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lifeboat_model::{
    Entry, EntryKind, EntryPath, Extent, FileTime, PartRecord, PartStatus, SnapshotId, SnapshotRecord, SourceKind,
    SourceName, Timestamp,
};
use lifeboat_repo::{Manifest, Site};

use super::{Replayed, is_base};
use crate::Error;

/// A snapshot or scan that has a part of files, with holes or without.
#[derive(Clone, Copy)]
struct Look<'s> {
    record: &'s SnapshotRecord,
    part: &'s PartRecord,
}

/// Whether a snapshot or scan says anything of a source's files.
pub(crate) fn is_look(record: &SnapshotRecord, source: &SourceName) -> bool {
    look_at(record, source).is_some()
}

fn look_at<'s>(record: &'s SnapshotRecord, source: &SourceName) -> Option<Look<'s>> {
    let part = record.parts.iter().find(|part| part.source == *source)?;
    let is_seen = match part.status {
        PartStatus::Complete | PartStatus::Absent => is_base(record) || record.is_scan,
        PartStatus::Incomplete { .. } => record.is_scan,
        PartStatus::Failed { .. } => false,
    };
    is_seen.then_some(Look { record, part })
}

impl Look<'_> {
    fn is_whole(&self) -> bool {
        matches!(self.part.status, PartStatus::Complete | PartStatus::Absent)
    }
}

/// A file that is looked at each second may be as it was a while before; clocks of servers differ, too.
pub(super) const ROWS_LAG: Duration = Duration::from_secs(30);

/// A moment, and what its rows need of the files.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    /// The snapshot that all of it begins with; where clocks differ it may be later than the moment.
    pub base: SnapshotId,
    /// The oldest rows are as of then: their files are those of then and since.
    pub rows_from: Timestamp,
    pub at: Timestamp,
}

/// The looks that tell of one moment.
struct Around<'s> {
    before: Look<'s>,
    /// Those that add to it, in their order.
    later: Vec<Look<'s>>,
    /// When the first one after the moment began.
    after_from: Option<Timestamp>,
}

/// Chooses the looks.
fn around<'s>(mut looks: Vec<Look<'s>>, moment: Moment) -> Option<Around<'s>> {
    let Moment { base, rows_from, at } = moment;
    looks.sort_by_key(|look| (look.part.cut_from, look.record.generation));
    let whole_till = |time: Timestamp| looks.iter().rposition(|look| look.is_whole() && look.part.cut_till <= time);
    let before = whole_till(rows_from).or_else(|| looks.iter().position(|look| look.record.id == base))?;
    // Where rows are much older than the moment, the looks in between tell nothing that they need.
    let newest = whole_till(at.saturating_sub(ROWS_LAG).max(rows_from)).filter(|newest| *newest > before);
    let rest = &looks[newest.unwrap_or(before) + 1..];
    let mut later: Vec<Look<'s>> = newest.map(|newest| looks[newest]).into_iter().collect();
    let last_holes = rest.iter().rposition(|look| !look.is_whole() && look.part.cut_till <= at);
    let is_needed = |(number, look): &(usize, &Look<'_>)| {
        look.part.cut_from < at && (look.is_whole() || look.part.cut_till > at || Some(*number) == last_holes)
    };
    later.extend(rest.iter().enumerate().filter(is_needed).map(|(_, look)| *look));
    let after: Vec<Look<'s>> = rest.iter().filter(|look| look.part.cut_from >= at).copied().collect();
    if let Some(first) = after.first() {
        later.push(*first);
        // One with holes may have missed what the next whole one has.
        later.extend(after.iter().find(|look| look.is_whole()).filter(|_| !first.is_whole()));
    }
    let after_from = after.first().map(|look| look.part.cut_from);
    Some(Around { before: looks[before], later, after_from })
}

/// Whether a site is files and nothing else, and was scanned between the snapshots around a moment.
pub(super) fn are_all_scanned(site: &Site, at: Timestamp) -> bool {
    let (mut before, mut after) = (None, None);
    for record in site.state().snapshots.iter().filter(|record| is_base(record) || record.is_scan) {
        match record.cut_till <= at {
            true => before = Some(record),
            false => after = after.or(Some(record)),
        }
    }
    let is_scanned = [before, after].into_iter().flatten().any(|record| record.is_scan);
    let mut snapshots = site.state().snapshots.iter().rev().filter(|record| is_base(record));
    let base = snapshots.find(|record| record.cut_till <= at);
    is_scanned && base.is_some_and(|base| base.parts.iter().all(|part| part.kind == SourceKind::Files))
}

/// Puts a part of files to the moment, by the looks around it.
pub(super) async fn replace_part(
    site: &Site,
    moment: Moment,
    number: usize,
    manifest: &mut Manifest,
    replayed: &mut Replayed,
) -> Result<(), Error> {
    let source = manifest.head().parts[number].record.source.clone();
    let looks = site.state().snapshots.iter().filter_map(|record| look_at(record, &source)).collect();
    let Some(around) = around(looks, moment) else { return Ok(()) };
    let newest = around.later.iter().rev().find(|look| look.part.cut_till <= moment.at);
    let from = newest.unwrap_or(&around.before).part.cut_till;
    if around.after_from.is_none() {
        replayed.unscanned.push(source.clone());
        let note = format!("files are those of {from}: they were not looked at since");
        replayed.notes.push((source.clone(), note));
    }
    let is_base = around.before.record.id == moment.base;
    if is_base && around.later.is_empty() {
        return Ok(());
    }
    let before = match is_base {
        true => manifest.entries(site, number).await?,
        false => entries_of(site, &around.before, &source, manifest).await?,
    };
    let mut union = Union { entries: by_path(before), uncertain: BTreeSet::new() };
    for look in &around.later {
        union.add(entries_of(site, look, &source, manifest).await?, moment.at);
    }
    if let Some(till) = around.after_from.filter(|_| !union.uncertain.is_empty()) {
        let note = format!(
            "{} files changed between {from} and {till}: each is the newest one written before the moment, and what was \
             removed in between is kept",
            union.uncertain.len()
        );
        replayed.notes.push((source, note));
    }
    let status = match &manifest.head().parts[number].record.status {
        PartStatus::Absent if !union.entries.is_empty() => PartStatus::Complete,
        status => status.clone(),
    };
    manifest.replace_part(number, status, union.finish());
    Ok(())
}

/// What a look saw as it was; its content can be read through `manifest` from here on.
async fn entries_of(
    site: &Site,
    look: &Look<'_>,
    source: &SourceName,
    manifest: &mut Manifest,
) -> Result<Vec<Entry>, Error> {
    let other = site.manifest(&look.record.manifest).await?;
    let Some((number, part)) = other.part(source) else { return Ok(Vec::new()) };
    let torn: BTreeSet<&str> = part.problems.iter().map(|problem| problem.entry.as_str()).collect();
    let mut entries = other.entries(site, number).await?;
    if !torn.is_empty() {
        entries.retain(|entry| entry.kind == EntryKind::Directory || !torn.contains(entry.path.to_string().as_str()));
    }
    manifest.adopt(&other);
    Ok(entries)
}

fn by_path(entries: Vec<Entry>) -> BTreeMap<EntryPath, Entry> {
    entries.into_iter().map(|entry| (entry.path.clone(), entry)).collect()
}

struct Union {
    entries: BTreeMap<EntryPath, Entry>,
    /// Paths at which the looks differ.
    uncertain: BTreeSet<EntryPath>,
}

impl Union {
    /// Adds what a later look saw.
    fn add(&mut self, later: Vec<Entry>, at: Timestamp) {
        let entries = &mut self.entries;
        let seen_later: BTreeSet<EntryPath> = later.iter().map(|entry| entry.path.clone()).collect();
        let removed = entries.values().filter(|entry| is_file(entry) && !seen_later.contains(&entry.path));
        self.uncertain.extend(removed.map(|entry| entry.path.clone()));
        let mut directories = Vec::new();
        for entry in later {
            let was = entries.get(&entry.path);
            let is_same = was.is_some_and(|was| was.kind == entry.kind && is_same_content(was, &entry));
            if is_same || entry.kind == EntryKind::Absent {
                continue;
            }
            if entry.kind == EntryKind::Directory {
                directories.push(entry); // needed where something in it is
                continue;
            }
            self.uncertain.insert(entry.path.clone());
            // A path that was a directory stays one: what is in it would have no place.
            let fits = was.is_none_or(is_file);
            if fits && was_so(was, &entry, at) {
                entries.insert(entry.path.clone(), entry);
            }
        }
        let needed: BTreeSet<EntryPath> = entries.keys().flat_map(ancestors).collect();
        for directory in directories.into_iter().filter(|directory| needed.contains(&directory.path)) {
            entries.entry(directory.path.clone()).or_insert(directory);
        }
    }

    fn finish(mut self) -> Vec<Entry> {
        drop_dangling_links(&mut self.entries);
        self.entries.into_values().collect()
    }
}

/// Wherever it is stored: small files lie in each look's own manifest.
fn is_same_content(one: &Entry, other: &Entry) -> bool {
    let what = |extent: &Extent| match extent {
        Extent::Chunk(chunk) => (Some(chunk.id), u64::from(chunk.raw_len)),
        Extent::Hole { len } => (None, *len),
    };
    one.extents.iter().map(what).eq(other.extents.iter().map(what))
}

fn is_file(entry: &Entry) -> bool {
    entry.kind != EntryKind::Directory
}

/// Whether a later look's file is what was there at the moment.
///
/// A file whose status did not change since was so already. Of the others the newest one written before the moment
/// counts: a restore in between brings older files back, which were not there then.
fn was_so(was: Option<&Entry>, later: &Entry, at: Timestamp) -> bool {
    let is_before = |time: FileTime| micros(time) <= at.0;
    let (modified, changed) = (later.metadata.modified, later.metadata.changed);
    is_before(changed) || (is_before(modified) && was.is_none_or(|was| was.metadata.modified <= modified))
}

/// A further name whose file is not there any more, or is another one now, is a name of nothing.
fn drop_dangling_links(entries: &mut BTreeMap<EntryPath, Entry>) {
    let is_file = |path: &EntryPath| entries.get(path).is_some_and(|entry| entry.kind == EntryKind::File);
    let dangling: Vec<EntryPath> = entries
        .values()
        .filter(|entry| matches!(&entry.kind, EntryKind::HardLink { to } if !is_file(to)))
        .map(|entry| entry.path.clone())
        .collect();
    for path in dangling {
        entries.remove(&path);
    }
}

fn ancestors(path: &EntryPath) -> Vec<EntryPath> {
    std::iter::successors(path.parent(), EntryPath::parent).collect()
}

fn micros(time: FileTime) -> i64 {
    time.seconds.saturating_mul(1_000_000).saturating_add(i64::from(time.nanoseconds / 1_000))
}

#[cfg(test)]
mod tests;

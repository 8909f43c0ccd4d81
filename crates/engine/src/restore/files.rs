//! A directory tree at work: staged, verified, switched, proven in place.
//!
//! What is done to many files is done side by side; only directories, and what depends on another entry, go in order.
//! What is not here: the chunks of files being staged (`stage`), reading what is live to compare it (`compare`).

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use lifeboat_model::{Check, Entry, EntryKind, EntryPath, PartProblem, PartReceipt, RestoreId, SiteId, SourceName};
use lifeboat_repo::SiteKeys;
use lifeboat_source::files::{Action, FilesTarget, MergePlan, Removal, Scope, has_other_rights, plan_merge};

use super::facts::{Facts, LivePart, PartFacts, all_entries};
use super::part::Opened;
use super::plan::database_step;
use super::{RestoreRequest, RestoreTarget};
use crate::parallel::in_parallel;
use crate::{Engine, Error};

mod compare;
mod stage;

pub(super) use compare::{by_content, equals, merge_by_content};
use stage::Slot;

pub(super) struct FilesWork {
    site: SiteId,
    source: SourceName,
    keys: SiteKeys,
    target: FilesTarget,
    plan: MergePlan,
    wanted: Arc<[Entry]>,
    live: Arc<[Entry]>,
    scope: Scope,
    /// Whether the part existed when the plan was made.
    existed: bool,
    /// The files to be staged.
    slots: Vec<Slot>,
    /// Threads for what is done to many files.
    workers: usize,
    /// Directories of the part into which this restore writes databases: that moves their times.
    around: Vec<Entry>,
    /// Entries that differ and stay, and what cannot come back for them.
    kept: u64,
    blocked: Vec<String>,
    /// Entries left out because they are damaged in the repository.
    left_out: Vec<(EntryPath, String)>,
    bytes: AtomicU64,
    checks: Vec<Check>,
}

impl FilesWork {
    pub(super) fn new(
        engine: &Engine,
        facts: &Facts,
        part: &PartFacts,
        request: &RestoreRequest,
        restore: RestoreId,
    ) -> Result<Self, Error> {
        let LivePart::Files(live) = &part.live else { return Err(Error::Bug("files expected".into())) };
        if let RestoreTarget::Export(directory) = &request.target {
            std::fs::create_dir_all(directory).map_err(|io| super::request::cannot_make(directory, io))?;
        }
        let target = FilesTarget::open(part.file_place()?.clone(), restore, part.excluded.clone())?;
        let live_entries = live.clone().unwrap_or_default();
        let keys = facts.site.keys().clone();
        let mut plan = merge_by_content(engine, facts, part, (&target, &live_entries))?;
        let around = around_databases(facts, part, &live_entries, &plan);
        for directory in &around {
            if let Err(at) = plan.directories.binary_search_by(|known| known.path.cmp(&directory.path)) {
                plan.directories.insert(at, directory.clone());
            }
        }
        let (wanted, kept) = match part.keeps_later {
            true => {
                let missing = super::later::missing(&part.wanted, &live_entries).entries;
                (missing.into(), super::later::kept_files(engine, facts, part)?.len() as u64)
            }
            false => (part.wanted.clone(), 0),
        };
        Ok(Self {
            site: facts.site.id().clone(),
            source: part.source.clone(),
            keys,
            target,
            plan,
            wanted,
            kept,
            blocked: super::later::blocked(part).collect(),
            live: live_entries,
            scope: if part.keeps_later { Scope::Listed } else { part.scope },
            existed: live.is_some(),
            slots: Vec::new(),
            workers: engine.fetch.workers,
            around,
            left_out: Vec::new(),
            bytes: AtomicU64::new(0),
            checks: Vec::new(),
        })
    }

    pub(super) fn source(&self) -> &SourceName {
        &self.source
    }

    pub(super) fn existed(&self) -> bool {
        self.existed
    }

    pub(super) fn wanted_entries(&self) -> &[Entry] {
        &self.wanted
    }

    pub(super) fn target(&self) -> &FilesTarget {
        &self.target
    }

    /// What stands now at every path that will change: the undo. All names of a file that has several, for an undo can
    /// only make them one file again when it lists them.
    pub(super) fn before(&self) -> Vec<Entry> {
        let changed =
            self.plan.actions.iter().map(Action::path).chain(self.plan.removals.iter().map(|removal| &removal.path));
        let mut changed: HashSet<&EntryPath> =
            changed.chain(self.plan.directories.iter().map(|entry| &entry.path)).collect();
        changed.extend(self.other_names(&changed));
        let mut before: Vec<Entry> = changed
            .into_iter()
            .map(|path| find(&self.live, path).cloned().unwrap_or_else(|| absent(path.clone())))
            .collect();
        before.sort_by(|a, b| a.path.cmp(&b.path));
        before
    }

    /// The live names of the files that have one of these names among several.
    fn other_names(&self, changed: &HashSet<&EntryPath>) -> Vec<&EntryPath> {
        let names = self.live.iter().filter_map(|entry| match &entry.kind {
            EntryKind::HardLink { to } => Some((to, &entry.path)),
            _ => None,
        });
        let names: Vec<_> = names.collect();
        let split = names.iter().filter(|(first, name)| changed.contains(first) || changed.contains(name));
        let split: HashSet<&EntryPath> = split.map(|(first, _)| *first).collect();
        let all = names.into_iter().filter(|(first, _)| split.contains(first));
        all.flat_map(|(first, name)| [first, name]).collect()
    }

    pub(super) fn entry_of(&self, slot: u64) -> String {
        let entry = self.slots.get(slot as usize).and_then(|slot| self.entry_at(slot).ok());
        format!("{}/{}", self.source, entry.map(|entry| entry.path.to_string()).unwrap_or_default())
    }

    pub(super) fn leave_out(&mut self, slot: u64, detail: &str) {
        let entry = self.slots.get(slot as usize).and_then(|slot| self.entry_at(slot).ok());
        let path = entry.map(|entry| entry.path.clone());
        if let Some(path) = path.filter(|path| !self.left_out.iter().any(|(known, _)| known == path)) {
            self.left_out.push((path, detail.to_owned()));
        }
    }

    /// Every chunk was checked as it was written; here, that every file has all of them, on disk.
    pub(super) fn verify(&mut self, read: bool) -> Result<(), Error> {
        if self.is_idle() {
            return Ok(());
        }
        let not_verified = |detail: String| Error::NotVerified { site: self.site.clone(), detail };
        if let Some(slot) = self.slots.iter().find(|slot| slot.remaining.load(Ordering::Acquire) != 0) {
            return Err(not_verified(format!("a file was not written whole: entry=`{}`", self.entry_at(slot)?.path)));
        }
        if read {
            in_parallel(self.workers, self.slots.len(), |number| {
                let entry = self.entry_at(&self.slots[number])?;
                match equals(self.target.staged_content(entry)?, &self.keys, entry)? {
                    true => Ok(()),
                    false => Err(not_verified(format!("a file reads back otherwise: entry=`{}`", entry.path))),
                }
            })?;
            let detail = format!("{} files read back before the switch", self.slots.len());
            self.checks.push(Check { name: format!("{}: read back", self.source), passed: true, detail });
        }
        self.each(|actions| Ok(self.target.prepare(actions)?))?;
        self.target.seal(&self.plan.directories)?;
        self.target.check_writable(&self.plan.written_directories(&self.live))?;
        Ok(())
    }

    pub(super) fn lock_switch(&mut self) -> Result<(), Error> {
        if self.is_idle() { Ok(()) } else { Ok(self.target.lock_switch()?) }
    }

    pub(super) fn add(&mut self) -> Result<(), Error> {
        if self.is_idle() {
            return Ok(());
        }
        self.target.make_writable(&self.plan.written_directories(&self.live))?;
        self.each(|actions| Ok(self.target.switch(actions)?))
    }

    /// Takes the actions in three turns: directories, and what makes way for them, in order; then all that needs nothing
    /// but its directory, side by side; then, in order, what needs another entry.
    fn each(&self, take: impl Fn(&[Action]) -> Result<(), Error> + Sync) -> Result<(), Error> {
        let turns = |turn: Turn| self.plan.actions.iter().filter(move |action| Turn::of(action) == turn);
        turns(Turn::Directories).try_for_each(|action| take(std::slice::from_ref(action)))?;
        let alone: Vec<&Action> = turns(Turn::Alone).collect();
        in_parallel(self.workers, alone.len(), |number| take(std::slice::from_ref(alone[number])))?;
        turns(Turn::Last).try_for_each(|action| take(std::slice::from_ref(action)))?;
        // The one rename of a fresh part needs no action.
        take(&[])
    }

    pub(super) fn remove(&mut self) -> Result<(), Error> {
        if self.is_idle() {
            return Ok(());
        }
        let kept = self.remove_extras()?;
        self.target.finish_directories(&self.plan.directories)?;
        self.target.finish_again(&self.around)?;
        self.target.sync()?;
        if !kept.is_empty() {
            self.checks.push(Check {
                name: format!("{}: extra entries removed", self.source),
                passed: false,
                detail: list(&kept),
            });
        }
        Ok(())
    }

    /// Files side by side, then directories, children before parents.
    fn remove_extras(&self) -> Result<Vec<PartProblem>, Error> {
        let is_directory =
            |path: &EntryPath| find(&self.live, path).is_none_or(|live| live.kind == EntryKind::Directory);
        let (directories, files): (Vec<Removal>, Vec<Removal>) =
            self.plan.removals.iter().cloned().partition(|removal| is_directory(&removal.path));
        let kept = in_parallel(self.workers, files.len(), |number| {
            Ok::<_, Error>(self.target.remove(std::slice::from_ref(&files[number]))?)
        })?;
        let mut kept: Vec<PartProblem> = kept.into_iter().flatten().collect();
        kept.extend(self.target.remove(&directories)?);
        Ok(kept)
    }

    /// Looks at the part once more: nothing must be left to change.
    pub(super) fn finish(&mut self) -> Result<Opened, Error> {
        if !self.is_idle() {
            self.target.finish_again(&self.around)?; // a database's last connection takes its log away
        }
        let now = self.live_now()?;
        let left_out: HashSet<&EntryPath> = self.left_out.iter().map(|(path, _)| path).collect();
        let unset = self.target.unset_metadata();
        let expected = match left_out.is_empty() {
            true => self.wanted.clone(),
            false => self.wanted.iter().filter(|entry| !left_out.contains(&entry.path)).cloned().collect(),
        };
        let rest = plan_merge(&now, &expected, self.scope, &mut |is, was| {
            is.metadata.modified == was.metadata.modified
                || unset.iter().any(|problem| problem.entry == was.path.to_string())
        });
        let missing = not_as_wanted(&rest, &now, &unset);
        let passed = missing.is_empty();
        let detail = match passed {
            true => format!("{} entries are as the snapshot has them", rest.unchanged),
            false => format!("not as the snapshot has them: {}", missing.join(", ")),
        };
        let mut checks = std::mem::take(&mut self.checks);
        let name = |what: &str| format!("{}: {what}", self.source);
        checks.push(Check {
            name: name("chunks"),
            passed: true,
            detail: format!("{} bytes equal to their chunk ids", self.bytes.load(Ordering::Relaxed)),
        });
        checks.push(Check { name: name("entries in place"), passed, detail });
        if !unset.is_empty() {
            checks.push(Check {
                name: name("metadata"),
                passed: false,
                detail: format!("could not be set: {}", list(&unset)),
            });
        }
        checks.extend(self.made_above());
        let blocked = self.blocked.iter().cloned();
        checks.extend(blocked.map(|detail| Check { name: name("entries in the way"), passed: false, detail }));
        for (path, detail) in &self.left_out {
            checks.push(Check {
                name: name("damaged entry left out"),
                passed: false,
                detail: format!("entry=`{path}`, {detail}"),
            });
        }
        self.target.clean_up()?;
        let receipt = PartReceipt {
            source: self.source.clone(),
            entries: rest.unchanged,
            rows: 0,
            files: self.slots.len() as u64,
            removed: self.plan.removals.len() as u64,
            kept: self.kept,
            bytes: self.bytes.load(Ordering::Relaxed),
            digest_ok: passed && self.left_out.is_empty(),
            transaction: None,
        };
        Ok(Opened { receipt, checks })
    }

    /// What is not as it was, and in no snapshot either.
    fn made_above(&self) -> Vec<Check> {
        let note = |path| Check {
            name: format!("{}: note", self.source),
            passed: true,
            detail: format!(
                "made anew, with the owner and mode of the part, for its own are in no snapshot: path=`{path}`"
            ),
        };
        self.target.made_above().into_iter().map(note).collect()
    }

    /// The part as it is after the switch; empty when the whole part was removed.
    fn live_now(&self) -> Result<Vec<Entry>, Error> {
        if self.plan.removals.iter().any(|removal| removal.path.is_root()) {
            let again = FilesTarget::open(self.target.place().clone(), RestoreId([0; 8]), Vec::new())?;
            return again.scan()?.map(all_entries).transpose().map(Option::unwrap_or_default);
        }
        self.target.scan()?.map(all_entries).transpose().map(Option::unwrap_or_default)
    }

    pub(super) fn discard(&mut self) -> Result<(), Error> {
        for slot in &self.slots {
            slot.file.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        self.target.clean_up()?;
        Ok(())
    }

    /// Nothing is to be changed, so not even a staging directory is made.
    pub(super) fn is_idle(&self) -> bool {
        self.plan.actions.is_empty() && self.plan.removals.is_empty() && self.plan.directories.is_empty()
    }
}

/// What a restore has left to change, five names of it at most. What could not be set is told elsewhere, and the times of
/// directories the application may have moved by now.
fn not_as_wanted(rest: &MergePlan, now: &[Entry], unset: &[PartProblem]) -> Vec<String> {
    let is_unset = |entry: &Entry| unset.iter().any(|problem| problem.entry == entry.path.to_string());
    let entries = rest.actions.iter().filter(|action| match action {
        Action::SetMetadata { entry } => !is_unset(entry),
        _ => true,
    });
    let directories = rest.directories.iter().filter(|wanted| {
        let is = find(now, &wanted.path).filter(|is| is.kind == EntryKind::Directory);
        is.is_some_and(|is| has_other_rights(is, wanted)) && !is_unset(wanted)
    });
    let paths = entries.map(Action::path).chain(directories.map(|entry| &entry.path));
    paths.take(5).map(ToString::to_string).collect()
}

/// When an action is taken.
#[derive(PartialEq, Eq, Clone, Copy)]
enum Turn {
    Directories,
    Alone,
    Last,
}

impl Turn {
    fn of(action: &Action) -> Self {
        match action {
            Action::Remove(_) => Self::Directories,
            Action::Put { entry, .. } => match entry.kind {
                EntryKind::Directory => Self::Directories,
                EntryKind::HardLink { .. } => Self::Last,
                _ => Self::Alone,
            },
            // Files with several names share it.
            Action::SetMetadata { .. } => Self::Last,
        }
    }
}

/// An entry of a list in path order.
fn find<'a>(entries: &'a [Entry], path: &EntryPath) -> Option<&'a Entry> {
    entries.binary_search_by(|entry| entry.path.cmp(path)).ok().map(|at| &entries[at])
}

/// The directories of a part that hold a database which this restore writes or removes, as they are
/// to be afterwards.
fn around_databases(facts: &Facts, part: &PartFacts, live: &[Entry], plan: &MergePlan) -> Vec<Entry> {
    let inside = facts.parts.iter().filter_map(|other| match &other.live {
        LivePart::Database { live, stamp } if database_step(other, live, stamp.as_deref()).writes() => {
            let database = other.place.as_ref()?.path();
            let inside = database.parent()?.strip_prefix(part.place.as_ref()?.path()).ok()?;
            EntryPath::new(inside.as_os_str().as_bytes()).ok()
        }
        _ => None,
    });
    let stays = |entry: &&Entry| !plan.removals.iter().any(|removal| removal.path == entry.path);
    let find = |path: &EntryPath| {
        let wanted = part.wanted.iter().find(|entry| entry.path == *path);
        wanted.or_else(|| live.iter().filter(stays).find(|entry| entry.path == *path)).cloned()
    };
    let mut around: Vec<Entry> =
        inside.filter_map(|path| find(&path)).filter(|entry| entry.kind == EntryKind::Directory).collect();
    around.sort_by(|a, b| a.path.cmp(&b.path));
    around.dedup_by(|a, b| a.path == b.path);
    around
}

pub(super) fn absent(path: EntryPath) -> Entry {
    let metadata = lifeboat_model::EntryMetadata {
        mode: 0,
        uid: 0,
        gid: 0,
        modified: Default::default(),
        changed: Default::default(),
        inode: 0,
        size: 0,
        xattrs: Vec::new(),
    };
    Entry { path, kind: EntryKind::Absent, metadata, extents: Vec::new() }
}

fn list(problems: &[PartProblem]) -> String {
    let named: Vec<String> =
        problems.iter().take(5).map(|problem| format!("{} ({})", problem.entry, problem.reason)).collect();
    let more = problems.len().saturating_sub(named.len());
    if more > 0 { format!("{} and {more} more", named.join(", ")) } else { named.join(", ") }
}

/// Says of an undo whether a file is what the restore left.
pub(super) fn is_as_left(live: Option<&Entry>, left: Option<&Entry>) -> bool {
    match (live, left) {
        (None, None) => true,
        (Some(live), Some(left)) => match (&live.kind, &left.kind) {
            (EntryKind::Directory, EntryKind::Directory) | (EntryKind::Fifo, EntryKind::Fifo) => true,
            (EntryKind::Symlink { target: is }, EntryKind::Symlink { target: was }) => is == was,
            (EntryKind::File, EntryKind::File) => {
                live.metadata.size == left.metadata.size && live.metadata.modified == left.metadata.modified
            }
            (EntryKind::HardLink { .. }, EntryKind::File | EntryKind::HardLink { .. })
            | (EntryKind::File, EntryKind::HardLink { .. }) => live.metadata.modified == left.metadata.modified,
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests;

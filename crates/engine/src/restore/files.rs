//! A directory tree at work: staged, verified, switched, proven in place.

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lifeboat_model::{
    Check, Entry, EntryKind, EntryPath, Extent, PartProblem, PartReceipt, RestoreId, SiteId, SourceName,
};
use lifeboat_repo::SiteKeys;
use lifeboat_repo::Wanted;
use lifeboat_source::Read;
use lifeboat_source::files::{Action, FilesTarget, MergePlan, Scope, StagedFile, plan_merge};

use super::facts::{Facts, LivePart, PartFacts, all_entries};
use super::part::{Destination, Opened};
use super::plan::{database_step, looks_untouched, merge_of};
use super::{RestoreRequest, RestoreTarget};
use crate::{Engine, Error};

/// Files below this are written whole: comparing stretches would cost more than it saves.
const DELTA_BYTES_MIN: u64 = 1 << 20;

pub(super) struct FilesWork {
    site: SiteId,
    source: SourceName,
    keys: SiteKeys,
    target: FilesTarget,
    plan: MergePlan,
    wanted: Vec<Entry>,
    live: HashMap<EntryPath, Entry>,
    scope: Scope,
    /// Whether the part existed when the plan was made.
    existed: bool,
    slots: Vec<Slot>,
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

/// One file being staged: opened with its first chunk, finished with its last.
struct Slot {
    entry: Entry,
    remaining: AtomicU64,
    file: Mutex<Option<Arc<StagedFile>>>,
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
        let live_entries = live.as_deref().unwrap_or_default();
        let keys = facts.site.keys().clone();
        let mut plan = merge_by_content(engine, facts, part, (&target, live_entries))?;
        let around = around_databases(facts, part, live_entries, &plan);
        for directory in &around {
            if let Err(at) = plan.directories.binary_search_by(|known| known.path.cmp(&directory.path)) {
                plan.directories.insert(at, directory.clone());
            }
        }
        let (wanted, kept) = match part.keeps_later {
            true => {
                let missing = super::later::missing(&part.wanted, live_entries).entries;
                (missing, super::later::kept_files(engine, facts, part)?.len() as u64)
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
            live: live_entries.iter().map(|entry| (entry.path.clone(), entry.clone())).collect(),
            scope: if part.keeps_later { Scope::Listed } else { part.scope },
            existed: live.is_some(),
            slots: Vec::new(),
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

    pub(super) fn target(&self) -> &FilesTarget {
        &self.target
    }

    /// What stands now at every path that will change: the undo.
    pub(super) fn before(&self) -> Vec<Entry> {
        let changed =
            self.plan.actions.iter().map(Action::path).chain(self.plan.removals.iter().map(|removal| &removal.path));
        let changed: HashSet<&EntryPath> =
            changed.chain(self.plan.directories.iter().map(|entry| &entry.path)).collect();
        let mut before: Vec<Entry> = changed
            .into_iter()
            .map(|path| self.live.get(path).cloned().unwrap_or_else(|| absent(path.clone())))
            .collect();
        before.sort_by(|a, b| a.path.cmp(&b.path));
        before
    }

    pub(super) fn begin(&mut self) -> Result<(), Error> {
        self.bytes = AtomicU64::new(0);
        self.slots.clear();
        if self.is_idle() {
            return Ok(());
        }
        let left_out: HashSet<&EntryPath> = self.left_out.iter().map(|(path, _)| path).collect();
        let dropped = |action: &Action| match action {
            Action::Put { entry, .. } => {
                left_out.contains(&entry.path)
                    || matches!(&entry.kind, EntryKind::HardLink { to } if left_out.contains(to))
            }
            _ => false,
        };
        self.plan.actions.retain(|action| !dropped(action));
        // Slots are numbered again: each is the place of a file among those to be staged.
        for action in &mut self.plan.actions {
            if let Action::Put { entry, slot: Some(slot), .. } = action {
                *slot = self.slots.len() as u64;
                let remaining = AtomicU64::new(entry.chunks().count() as u64);
                self.slots.push(Slot { entry: entry.clone(), remaining, file: Mutex::new(None) });
            }
        }
        self.target.begin()?;
        for (number, slot) in self.slots.iter().enumerate() {
            if slot.remaining.load(Ordering::Relaxed) == 0 {
                self.target.stage_file(number as u64, &slot.entry)?.finish()?;
            }
        }
        Ok(())
    }

    pub(super) fn wanted(&self) -> Result<Vec<(Wanted, Destination)>, Error> {
        let mut wanted = Vec::new();
        for (slot, staged) in (0u64..).zip(&self.slots) {
            let live = self
                .live
                .get(&staged.entry.path)
                .filter(|live| live.kind == EntryKind::File && staged.entry.metadata.size >= DELTA_BYTES_MIN);
            let live = live.and_then(|live| self.target.live_file(&live.path).ok());
            let mut offset = 0;
            for extent in &staged.entry.extents {
                if let Extent::Chunk(chunk) = extent {
                    let destination = Destination { slot, offset };
                    let good = live.as_ref().map(|live| -> Result<bool, Error> {
                        let mut bytes = vec![0; chunk.raw_len as usize];
                        let same =
                            live.read_at(offset, &mut bytes)? == bytes.len() && self.keys.chunk_id(&bytes) == chunk.id;
                        if same {
                            self.deliver(destination, &bytes)?;
                        }
                        Ok(same)
                    });
                    if !good.transpose()?.unwrap_or(false) {
                        wanted.push((Wanted { chunk: *chunk, tag: 0 }, destination));
                    }
                }
                offset += extent.len();
            }
        }
        Ok(wanted)
    }

    pub(super) fn deliver(&self, destination: Destination, bytes: &[u8]) -> Result<(), Error> {
        let slot = self.slots.get(destination.slot as usize).ok_or_else(|| Error::Bug("no such slot".into()))?;
        let file = {
            let mut open = slot.file.lock().unwrap_or_else(PoisonError::into_inner);
            match &*open {
                Some(file) => file.clone(),
                None => open.insert(Arc::new(self.target.stage_file(destination.slot, &slot.entry)?)).clone(),
            }
        };
        file.write_at(destination.offset, bytes)?;
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if slot.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
            file.finish()?;
            slot.file.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        Ok(())
    }

    pub(super) fn entry_of(&self, slot: u64) -> String {
        let path = self.slots.get(slot as usize).map(|slot| slot.entry.path.to_string());
        format!("{}/{}", self.source, path.unwrap_or_default())
    }

    pub(super) fn leave_out(&mut self, slot: u64, detail: &str) {
        if let Some(slot) = self.slots.get(slot as usize)
            && !self.left_out.iter().any(|(path, _)| *path == slot.entry.path)
        {
            self.left_out.push((slot.entry.path.clone(), detail.to_owned()));
        }
    }

    /// Every chunk was checked as it was written; here, that every file has all of them, on disk.
    pub(super) fn verify(&mut self, read: bool) -> Result<(), Error> {
        if self.is_idle() {
            return Ok(());
        }
        let not_verified = |detail: String| Error::NotVerified { site: self.site.clone(), detail };
        if let Some(slot) = self.slots.iter().find(|slot| slot.remaining.load(Ordering::Acquire) != 0) {
            return Err(not_verified(format!("a file was not written whole: entry=`{}`", slot.entry.path)));
        }
        if read {
            for (number, slot) in (0u64..).zip(&self.slots) {
                let content = self.target.staged_content(number, &slot.entry)?;
                if !equals(content, &self.keys, &slot.entry)? {
                    return Err(not_verified(format!("a file reads back otherwise: entry=`{}`", slot.entry.path)));
                }
            }
            let detail = format!("{} files read back before the switch", self.slots.len());
            self.checks.push(Check { name: format!("{}: read back", self.source), passed: true, detail });
        }
        self.target.prepare(&self.plan.actions)?;
        self.target.seal(&self.plan.directories)?;
        Ok(())
    }

    pub(super) fn add(&mut self) -> Result<(), Error> {
        if self.is_idle() {
            return Ok(());
        }
        self.target.switch(&self.plan.actions)?;
        Ok(())
    }

    pub(super) fn remove(&mut self) -> Result<(), Error> {
        if self.is_idle() {
            return Ok(());
        }
        let kept = self.target.remove(&self.plan.removals)?;
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

    /// Looks at the part once more: nothing must be left to change.
    pub(super) fn finish(&mut self) -> Result<Opened, Error> {
        if !self.is_idle() {
            self.target.finish_again(&self.around)?; // a database's last connection takes its log away
        }
        let now = self.live_now()?;
        let left_out: HashSet<&EntryPath> = self.left_out.iter().map(|(path, _)| path).collect();
        let unset = self.target.unset_metadata();
        let expected: Vec<Entry> =
            self.wanted.iter().filter(|entry| !left_out.contains(&entry.path)).cloned().collect();
        let rest = plan_merge(&now, &expected, self.scope, &mut |is, was| {
            is.metadata.modified == was.metadata.modified
                || unset.iter().any(|problem| problem.entry == was.path.to_string())
        });
        let missing = rest.actions.iter().filter(|action| match action {
            Action::SetMetadata { entry } => !unset.iter().any(|problem| problem.entry == entry.path.to_string()),
            _ => true,
        });
        let missing: Vec<String> = missing.map(|action| action.path().to_string()).take(5).collect();
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
        };
        Ok(Opened { receipt, checks })
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

/// The merge of a part, with files compared by content where their metadata leaves it open.
pub(super) fn merge_by_content(
    engine: &Engine,
    facts: &Facts,
    part: &PartFacts,
    (target, live): (&FilesTarget, &[Entry]),
) -> Result<MergePlan, Error> {
    by_content(engine, facts, target, |same| merge_of(part, live, same))
}

/// A merge that asks for files' content where their metadata leaves it open.
pub(super) fn by_content(
    engine: &Engine,
    facts: &Facts,
    target: &FilesTarget,
    merge: impl FnOnce(&mut dyn FnMut(&Entry, &Entry) -> bool) -> MergePlan,
) -> Result<MergePlan, Error> {
    let keys = facts.site.keys();
    let mut failure = None;
    let plan = merge(&mut |live, wanted| {
        looks_untouched(live, wanted)
            || engine.check_cancelled().map_err(|error| failure = Some(error)).is_ok()
                && has_content(target, keys, live, wanted).unwrap_or(false)
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(plan),
    }
}

/// Whether a live file holds exactly the content a snapshot names.
fn has_content(target: &FilesTarget, keys: &SiteKeys, live: &Entry, wanted: &Entry) -> Result<bool, Error> {
    equals(target.content(live)?, keys, wanted)
}

/// Reads content to its end and compares it with an entry's extents, by chunk id.
pub(super) fn equals(
    mut content: Box<dyn lifeboat_source::Content>,
    keys: &SiteKeys,
    wanted: &Entry,
) -> Result<bool, Error> {
    let mut extents = wanted.extents.iter();
    let mut chunk: Vec<u8> = Vec::new();
    let mut hole = 0u64;
    for extent in extents.by_ref() {
        chunk.clear();
        let mut need = extent.len();
        let mut zeros = true;
        while need > 0 {
            if hole > 0 {
                let len = hole.min(need);
                if matches!(extent, Extent::Chunk(_)) {
                    chunk.resize(chunk.len() + len as usize, 0);
                }
                (hole, need) = (hole - len, need - len);
                continue;
            }
            let from = chunk.len();
            chunk.resize(from + need.min(1 << 20) as usize, 0);
            match content.read(&mut chunk[from..])? {
                Read::Data(len) => {
                    chunk.truncate(from + len);
                    zeros &= chunk[from..].iter().all(|byte| *byte == 0);
                    if matches!(extent, Extent::Hole { .. }) {
                        chunk.clear();
                    }
                    need -= len as u64;
                }
                Read::Hole(len) => {
                    chunk.truncate(from);
                    hole = len;
                }
                Read::End => return Ok(false),
            }
        }
        let same = match extent {
            Extent::Chunk(place) => keys.chunk_id(&chunk) == place.id,
            Extent::Hole { .. } => zeros,
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(hole == 0 && matches!(content.read(&mut [0; 1])?, Read::End))
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

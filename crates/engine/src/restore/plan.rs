//! What a restore would do: plain data, pure to compute, printed before anything is written.

use lifeboat_model::{
    Check, Entry, EntryKind, Mark, ObjectId, PartReceipt, PartStatus, Receipt, RestoreId, SiteId, SnapshotId,
    SourceKind, SourceName, Timestamp,
};
use lifeboat_source::files::{Action, MergePlan, Over, Scope, plan_merge};
use lifeboat_source::sqlite::Live;
use sha2::{Digest, Sha256};

use super::facts::{Compared, Facts, LivePart, PartFacts, RowConflict};
use super::limits::RowsLimit;
use super::part::Opened;
use super::{Approval, RestoreRequest, RestoreTarget};
use crate::Error;
use crate::moment::Replayed;

/// The plan of one restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePlan {
    pub site: SiteId,
    pub snapshot: SnapshotId,
    pub mark: Mark,
    pub mark_reason: Option<String>,
    /// The moment the site is put back to.
    pub at: Timestamp,
    /// What was put on top of the snapshot to come to it.
    pub replayed: Option<Replayed>,
    pub manifest: ObjectId,
    pub parts: Vec<PartPlan>,
    /// Parts of the snapshot that stay as they are, and why.
    pub left_out: Vec<(SourceName, String)>,
    /// What a person has to decide; a plain yes is not enough.
    pub conflicts: Vec<Conflict>,
    /// Bytes of content to be read from the repository at most, and requests for them.
    pub read_bytes: u64,
    pub read_requests: u64,
    /// Whether what is replaced or removed is kept for `undo`.
    pub keeps_undo: bool,
    /// Only what is missing now comes back.
    pub keeps_later: bool,
    /// Sixteen hex digits over everything a person approves: site, point, objects, targets, options
    /// and conflicts, and counts where they are exact; never times or upper limits.
    pub hash: String,
    /// The same without the counts: what must still hold when the plan runs.
    pub(crate) ground: String,
}

/// What happens to one part. Counts are exact where nothing is live, else upper limits: a file
/// whose metadata differs may still have the same content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartPlan {
    pub source: SourceName,
    pub kind: SourceKind,
    pub place: String,
    pub add: u64,
    pub replace: u64,
    pub metadata: u64,
    pub remove: u64,
    pub keep: u64,
    /// Where later work is kept: what differs from the point and stays, and what the point does not have.
    pub kept: u64,
    pub newer: u64,
    /// Entries that differ and stay.
    pub kept_entries: Vec<String>,
    pub write_bytes: u64,
    pub changes: Vec<(Change, String)>,
    /// What a person should know, without having to decide.
    pub notes: Vec<String>,
    /// Of rows: the most that may be done to each table.
    pub limits: Vec<RowsLimit>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Add,
    Replace,
    Metadata,
    Remove,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    pub source: SourceName,
    pub detail: String,
    /// The primary keys of the rows that it concerns, where they are told.
    pub keys: Vec<String>,
    /// What a person can do, where the database refuses it whatever is approved.
    pub way_out: Option<&'static str>,
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)?;
        f.write_str(&named_keys(&self.keys))
    }
}

/// The first of some rows' keys, to stand behind a message.
pub(super) fn named_keys(keys: &[String]) -> String {
    let more = if keys.len() > KEYS_NAMED_MAX { ", …" } else { "" };
    match keys {
        [] => String::new(),
        keys => format!(", keys=`{}{more}`", keys.iter().take(KEYS_NAMED_MAX).cloned().collect::<Vec<_>>().join(", ")),
    }
}

/// Keys that an error names; a plan shows more.
const KEYS_NAMED_MAX: usize = 5;
/// One ranged read fetches about this much, as long as nobody allows more memory; see `lifeboat_repo`.
const READ_BYTES: u64 = 2 << 20;

/// Makes the plan. Pure: the same facts and request give the same plan.
pub(super) fn plan(facts: &Facts, request: &RestoreRequest) -> RestorePlan {
    let parts: Vec<PartPlan> = facts.parts.iter().map(plan_part).collect();
    let mut conflicts: Vec<Conflict> = facts.parts.iter().flat_map(|part| conflicts(part, request)).collect();
    let of_log = facts.replayed.iter().flat_map(|replayed| replayed.conflicts.iter().cloned());
    conflicts.extend(of_log.map(|(source, detail)| Conflict { source, detail, keys: Vec::new(), way_out: None }));
    let read_bytes = parts.iter().map(|part| part.write_bytes).sum();
    let mut plan = RestorePlan {
        site: request.site.clone(),
        snapshot: facts.record.id,
        mark: facts.record.mark,
        mark_reason: facts.record.mark_reason.clone(),
        at: facts.at,
        replayed: facts.replayed.clone(),
        manifest: facts.record.manifest.id,
        parts,
        left_out: facts.left_out.clone(),
        conflicts,
        read_bytes,
        read_requests: read_bytes.div_ceil(READ_BYTES),
        keeps_undo: request.target == RestoreTarget::InPlace,
        keeps_later: request.keep_later,
        hash: String::new(),
        ground: String::new(),
    };
    plan.ground = ground(&plan, facts, request);
    plan.hash = with_counts(&plan);
    plan
}

impl RestorePlan {
    /// Whether nothing has to be done.
    pub fn is_empty(&self) -> bool {
        self.parts
            .iter()
            .all(|part| part.changes.is_empty() && part.add + part.replace + part.metadata + part.remove == 0)
    }

    /// Why no approval helps: the database would refuse the rows all the same.
    pub fn barred(&self) -> Option<Error> {
        let (conflict, way_out) = self.conflicts.iter().find_map(|conflict| Some((conflict, conflict.way_out?)))?;
        Some(Error::Conflict {
            detail: format!("the restore has a conflict: part=`{}`, {conflict}", conflict.source),
            hint: format!("{way_out}; --dry-run shows all that is in the way"),
        })
    }

    /// What a restore says of itself where it puts back no snapshot.
    pub(super) fn moment(&self) -> Option<String> {
        self.replayed.as_ref().map(|replayed| replayed.moment.to_string())
    }

    pub(super) fn check_approval(&self, approval: &Approval) -> Result<(), Error> {
        match approval {
            Approval::Hash(hash) if *hash == self.hash => Ok(()),
            Approval::Hash(hash) => Err(Error::PlanChanged { approved: hash.clone(), now: self.hash.clone() }),
            Approval::Yes => match (self.barred(), self.conflicts.first()) {
                (Some(barred), _) => Err(barred),
                (None, None) => Ok(()),
                (None, Some(conflict)) => Err(Error::Conflict {
                    detail: format!("the restore has a conflict: part=`{}`, {conflict}", conflict.source),
                    hint: format!(
                        "look at it with --dry-run; to go on all the same, approve this very plan: --plan {}",
                        self.hash
                    ),
                }),
            },
        }
    }

    /// What a person should know of the moment, also afterwards.
    fn moment_notes(&self) -> impl Iterator<Item = Check> {
        let notes = self.replayed.iter().flat_map(|replayed| &replayed.notes);
        notes.map(|(source, note)| Check { name: format!("{source}: note"), passed: true, detail: note.clone() })
    }

    pub(super) fn receipt(&self, restore: RestoreId, opened: Vec<Opened>, undo: Option<SnapshotId>) -> Receipt {
        let (parts, checks): (Vec<PartReceipt>, Vec<Vec<Check>>) =
            opened.into_iter().map(|part| (part.receipt, part.checks)).unzip();
        Receipt {
            restore,
            site: self.site.clone(),
            at: self.at,
            snapshot: self.snapshot,
            parts,
            bytes_read: 0, // counted by the caller
            requests: 0,
            duration: std::time::Duration::ZERO,
            checks: checks.into_iter().flatten().chain(self.moment_notes()).collect(),
            undo,
        }
    }
}

fn plan_part(part: &PartFacts) -> PartPlan {
    let mut plan = PartPlan {
        source: part.source.clone(),
        kind: part.kind,
        place: part.shown_place(),
        add: 0,
        replace: 0,
        metadata: 0,
        remove: 0,
        keep: 0,
        kept: 0,
        newer: 0,
        kept_entries: Vec::new(),
        write_bytes: 0,
        changes: Vec::new(),
        notes: Vec::new(),
        limits: Vec::new(),
    };
    match &part.live {
        LivePart::Files(live) => plan_files(part, live.as_deref().unwrap_or_default(), &mut plan),
        LivePart::Database { live, stamp } => plan_database(part, live, stamp.as_deref(), &mut plan),
        LivePart::Rows(live) => super::limits::plan_rows(part, live, &mut plan),
        LivePart::Copy { .. } => super::copy::plan_copy(part, &mut plan),
    }
    if let PartStatus::Incomplete { problems } = part.status {
        let what = match part.live {
            LivePart::Rows(_) | LivePart::Copy { .. } => {
                "entries are not whole): rows are, what they refer to may be missing"
            }
            _ => "entries could not be read): nothing is removed from it",
        };
        plan.notes.push(format!("the snapshot of this part is incomplete ({problems} {what}"));
    }
    plan
}

/// The exact or the estimated merge of a files part.
pub(super) fn merge_of(
    part: &PartFacts,
    live: &[Entry],
    same_content: &mut dyn FnMut(&Entry, &Entry) -> bool,
) -> MergePlan {
    if part.keeps_later {
        return super::later::merge(part, live);
    }
    let mut merge = plan_merge(live, &part.wanted, part.scope, same_content);
    if part.scope == Scope::Whole && matches!(part.status, PartStatus::Incomplete { .. }) {
        // What could not be read then is not extra now.
        merge.removals.clear();
    }
    merge
}

/// Whether nothing says that a live file was written to since the snapshot.
pub(super) fn looks_untouched(live: &Entry, wanted: &Entry) -> bool {
    let (is, was) = (&live.metadata, &wanted.metadata);
    is.size == was.size && is.modified == was.modified && is.changed == was.changed && is.inode == was.inode
}

/// Whether a live entry has the wanted metadata already.
fn has_metadata(live: &Entry, wanted: &Entry) -> bool {
    let (is, was) = (&live.metadata, &wanted.metadata);
    is.mode == was.mode
        && is.uid == was.uid
        && is.gid == was.gid
        && is.modified == was.modified
        && is.xattrs == was.xattrs
}

fn plan_files(part: &PartFacts, live: &[Entry], plan: &mut PartPlan) {
    let merge = match &part.compared {
        Some(Compared::Files(merge)) => merge.clone(),
        _ => merge_of(part, live, &mut looks_untouched),
    };
    plan.keep = merge.unchanged;
    if part.keeps_later {
        super::later::plan_files(part, live, plan);
    }
    for action in &merge.actions {
        let change = match action {
            Action::Put { over: Over::Nothing, .. } => Change::Add,
            Action::Put { .. } => Change::Replace,
            Action::SetMetadata { .. } => Change::Metadata,
            Action::Remove(_) => Change::Remove,
        };
        if let Action::Put { entry, .. } = action {
            plan.write_bytes += entry.chunks().map(|chunk| u64::from(chunk.raw_len)).sum::<u64>();
        }
        plan.count(change, action.path().to_string());
    }
    for removal in &merge.removals {
        plan.count(Change::Remove, removal.path.to_string());
    }
    // Directories whose own metadata differs; those that only get their time back after a change in
    // them are no change of their own.
    let put: std::collections::HashSet<_> = merge.actions.iter().map(Action::path).collect();
    let place = |wanted: &Entry| live.binary_search_by(|live| live.path.cmp(&wanted.path)).ok();
    let as_is = |wanted: &Entry| place(wanted).is_some_and(|at| has_metadata(&live[at], wanted));
    for directory in merge.directories.iter().filter(|entry| !put.contains(&entry.path) && !as_is(entry)) {
        plan.count(Change::Metadata, directory.path.to_string());
    }
}

/// What is to be done with a part that is one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DatabaseStep {
    Keep,
    Put,
    Remove,
    /// It differs, or may, and later work is kept.
    Stay,
}

impl DatabaseStep {
    pub fn writes(self) -> bool {
        matches!(self, Self::Put | Self::Remove)
    }
}

pub(super) fn database_step(part: &PartFacts, live: &Live, stamp: Option<&[u8]>) -> DatabaseStep {
    let is_live = !matches!(live, Live::Absent { .. });
    match part.wanted.iter().find(|entry| entry.kind != EntryKind::Absent) {
        Some(Entry { kind: EntryKind::Database { stamp: then, .. }, .. }) if stamp == Some(then) => DatabaseStep::Keep,
        Some(_) if matches!(part.compared, Some(Compared::Database { is_same: true })) => DatabaseStep::Keep,
        Some(_) if part.keeps_later && is_live => DatabaseStep::Stay,
        Some(_) => DatabaseStep::Put,
        None if is_live && part.keeps_later => DatabaseStep::Keep,
        None if is_live => DatabaseStep::Remove,
        None => DatabaseStep::Keep,
    }
}

fn plan_database(part: &PartFacts, live: &Live, stamp: Option<&[u8]>, plan: &mut PartPlan) {
    let path = part.place.as_ref().map(lifeboat_source::Place::path).unwrap_or_default();
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match (database_step(part, live, stamp), live) {
        (DatabaseStep::Keep, _) => plan.keep = part.wanted.len() as u64,
        (DatabaseStep::Put, Live::Absent { .. }) => plan.count(Change::Add, name),
        (DatabaseStep::Put, Live::Database { .. }) => {
            plan.notes.push("written into the live file through SQLite: applications may keep it open".into());
            plan.count(Change::Replace, name);
        }
        (DatabaseStep::Put, Live::Unusable { reason, .. }) => {
            plan.notes.push(format!(
                "the live file is no usable database ({reason}): replaced only if no process has it open"
            ));
            plan.count(Change::Replace, name);
        }
        (DatabaseStep::Remove, _) => plan.count(Change::Remove, name),
        (DatabaseStep::Stay, _) => {
            plan.kept = 1;
            plan.notes.push(format!(
                "the live database differs from the point and stays as it is: rows within a file are not put together \
                 (--beside shows the point's next to it): {name}"
            ));
            plan.kept_entries.push(name);
        }
    }
    if database_step(part, live, stamp) == DatabaseStep::Put {
        plan.write_bytes = part.wanted.iter().map(|entry| entry.metadata.size).sum();
    }
}

impl PartPlan {
    fn count(&mut self, change: Change, path: String) {
        match change {
            Change::Add => self.add += 1,
            Change::Replace => self.replace += 1,
            Change::Metadata => self.metadata += 1,
            Change::Remove => self.remove += 1,
        }
        self.changes.push((change, if path.is_empty() { ".".to_owned() } else { path }));
    }
}

/// What a person has to decide about one part.
fn conflicts(part: &PartFacts, request: &RestoreRequest) -> Vec<Conflict> {
    let conflict = |detail: String| Conflict { source: part.source.clone(), detail, keys: Vec::new(), way_out: None };
    if request.target != RestoreTarget::InPlace {
        return Vec::new(); // what is there is equal already, or the facts had not been gathered
    }
    let mut found = Vec::new();
    let (then, now) = (&part.identity_then, &part.identity_now);
    if then.machine != now.machine {
        found.push(conflict("the snapshot was taken on another machine".into()));
    } else if then.filesystem != now.filesystem {
        let detail = "the part lies on another file system than when the snapshot was taken (is a disk not mounted?)";
        found.push(conflict(format!("{detail}: then=`{}`, now=`{}`", then.filesystem, now.filesystem)));
    }
    if then.path != now.path {
        found.push(conflict(format!("the part was at another path: then=`{}`, now=`{}`", then.path, now.path)));
    }
    found.extend(super::undo::changed_since(part).into_iter().map(conflict));
    let of_rows = |found: &RowConflict| Conflict {
        keys: found.keys.clone(),
        way_out: Some(found.way_out),
        ..conflict(found.detail.clone())
    };
    found.extend(part.row_conflicts.iter().map(of_rows));
    found.extend(super::limits::other_rules(part).map(conflict));
    found.extend(super::later::blocked(part).map(conflict));
    found
}

/// The ground, and the exact counts where there are some.
fn with_counts(plan: &RestorePlan) -> String {
    let limits = plan.parts.iter().flat_map(|part| part.limits.iter().map(move |limit| (&part.source, limit)));
    let exact: Vec<_> = limits.filter(|(_, limit)| limit.counted.is_some()).collect();
    if exact.is_empty() {
        return plan.ground.clone();
    }
    let exact = match plan.keeps_later {
        // What stays is counted, and nobody's decision: the site may go on working.
        true => {
            format!("{:?}", exact.iter().map(|(part, limit)| (part, &limit.table, limit.write)).collect::<Vec<_>>())
        }
        false => format!("{exact:?}"),
    };
    let digest = Sha256::digest(format!("{}{exact}", plan.ground));
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn ground(plan: &RestorePlan, facts: &Facts, request: &RestoreRequest) -> String {
    let mut digest = Sha256::new();
    let mut field = |text: &dyn std::fmt::Debug| {
        let text = format!("{text:?}");
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text.as_bytes());
    };
    field(&"lifeboat restore plan 1");
    field(&(&plan.site, plan.snapshot, plan.manifest, request.point_name()));
    field(&(&request.only, &request.target, request.skip_damaged, request.verify_read));
    if request.keep_later {
        field(&"keep later");
    }
    for part in &facts.parts {
        field(&(&part.source, part.shown_place(), &part.identity_now));
    }
    // Of a moment: where the logs are cut, and the rows that gives, from whatever base.
    field(&plan.moment());
    for part in facts.replayed.iter().flat_map(|replayed| &replayed.parts) {
        field(&(&part.source, part.epoch, part.till));
    }
    field(&plan.left_out);
    field(&plan.conflicts);
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

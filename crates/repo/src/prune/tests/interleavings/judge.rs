//! What must hold after every step, by a look at the store itself.
//!
//!   commit ─▶ what it names is there, and was never condemned      delete ─▶ condemned, a grace and a run ago
//!
//! It asks nothing of how pruning works: it reads commits and index segments, and knows of each manifest which packs its
//! writer put there.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use lifeboat_format::names::{self, ParsedName};
use lifeboat_format::{IndexSegment, ObjectKind, SiteKeys, decode_commit};
use lifeboat_model::{CommitEvent, ObjectId, SiteState, Timestamp};
use lifeboat_store::{ObjectName, Operation};

/// Pieces of content, a bit each.
pub type Pieces = u32;

#[derive(Debug)]
pub struct Judge {
    keys: SiteKeys,
    grace: Duration,
    facts: Mutex<Facts>,
}

#[derive(Debug, Default, Clone)]
pub struct Facts {
    /// By the true clock, and the newest recorded run.
    pub now: Micros,
    pub run: u64,
    /// What each manifest's writer put where.
    pub packs_of: HashMap<ObjectId, BTreeSet<ObjectId>>,
    pub pieces_of: HashMap<ObjectId, Pieces>,
    indexed: HashMap<ObjectId, BTreeSet<ObjectId>>,
    /// Manifests, index segments and packs that are there.
    there: HashSet<ObjectId>,
    /// What the newest commit names.
    pub named: BTreeSet<ObjectId>,
    /// Ever, when, and after which run.
    condemned: HashMap<ObjectId, (Micros, u64)>,
    is_held: bool,
    state: Option<SiteState>,
    pub deleted: u64,
    /// What was found wrong first.
    pub fault: Option<String>,
    pub states: HashSet<u64>,
    pub trace: Vec<(char, Operation, char)>,
    /// Who makes the steps that are seen now.
    pub actor: char,
}

/// Since the epoch.
pub type Micros = i64;

impl Judge {
    pub fn new(keys: SiteKeys, grace: Duration, facts: Facts) -> Self {
        Self { keys, grace, facts: Mutex::new(facts) }
    }

    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn now(&self) -> Timestamp {
        Timestamp(self.facts().now)
    }

    pub fn saw(&self, operation: Operation, name: &str) {
        let what = match names::parse_object_name(name) {
            Some(ParsedName::Object(_, ObjectKind::Manifest, _)) => 'm',
            Some(ParsedName::Object(_, ObjectKind::Index, _)) => 'i',
            Some(ParsedName::Object(..)) => 'p',
            Some(ParsedName::Commit(..)) => 'c',
            Some(ParsedName::Run(_)) => 'r',
            _ => '-',
        };
        let mut facts = self.facts();
        let actor = facts.actor;
        facts.trace.push((actor, operation, what));
    }

    pub fn created(&self, name: &ObjectName, body: &Bytes) {
        match names::parse_object_name(name.as_str()) {
            Some(ParsedName::Object(_, kind, id)) => {
                self.facts().there.insert(id);
                if kind == ObjectKind::Index {
                    let segment = IndexSegment::decode(&self.keys, id, body).unwrap();
                    self.facts().indexed.insert(id, segment.packs.iter().map(|row| row.id).collect());
                }
            }
            Some(ParsedName::Commit(_, generation)) => {
                let commit = decode_commit(&self.keys, generation, body).unwrap();
                self.committed(commit.event, commit.state);
            }
            Some(ParsedName::Run(number)) => self.facts().run = number.0,
            _ => {}
        }
    }

    fn committed(&self, event: CommitEvent, state: SiteState) {
        let mut facts = self.facts();
        if let CommitEvent::Condemned(what) = &event {
            if facts.is_held {
                facts.fail(format!("condemned although the site is held: {what:?}"));
            }
            if let Some(id) = what.objects.ids().find(|id| facts.condemned.contains_key(*id)) {
                facts.fail(format!("condemned twice: object=`{id}`"));
            }
            let when = (facts.now, facts.run);
            facts.condemned.extend(what.objects.ids().map(|id| (*id, when)));
        }
        facts.is_held = !state.holds.is_empty();
        facts.named = facts.named_by(&state);
        if let Some(id) = facts.named.iter().find(|id| facts.condemned.contains_key(*id)).copied() {
            facts.fail(format!("a commit names what was condemned: object=`{id}`, event=`{event:?}`"));
        }
        let missing = facts.named.iter().find(|id| !facts.there.contains(*id)).copied();
        if let Some(id) = missing {
            facts.fail(format!("a commit names what is not there: object=`{id}`, event=`{event:?}`"));
        }
        facts.state = Some(state);
        facts.note_state();
    }

    pub fn deleting(&self, name: &ObjectName) {
        let id = match names::parse_object_name(name.as_str()) {
            Some(ParsedName::Probe(_)) => return,
            Some(ParsedName::Object(_, _, id)) => id,
            other => return self.facts().fail(format!("deleted: {name} {other:?}")),
        };
        let mut facts = self.facts();
        let (now, run) = (facts.now, facts.run);
        if facts.named.contains(&id) {
            facts.fail(format!("what a point or the index names is deleted: object=`{id}`"));
        }
        match facts.condemned.get(&id).copied() {
            None => facts.fail(format!("deleted, and never condemned: object=`{id}`")),
            Some((at, then)) if Timestamp(now).since(Timestamp(at)) < self.grace || run <= then => {
                facts.fail(format!(
                    "deleted before its time: object=`{id}`, condemned=`{at} {then}`, now=`{now} {run}`"
                ));
            }
            Some(_) => {}
        }
        facts.there.remove(&id);
        facts.deleted += 1;
        facts.note_state();
    }
}

impl Facts {
    /// Only the first is of use: what comes after it may be its consequence.
    pub fn fail(&mut self, fault: String) {
        self.fault.get_or_insert(fault);
    }

    /// Manifests, index segments, and the packs that those name.
    pub fn named_by(&self, state: &SiteState) -> BTreeSet<ObjectId> {
        let records = state.snapshots.iter().chain(&state.forgotten);
        let mut named = BTreeSet::new();
        for id in records.map(|record| record.manifest.id) {
            named.insert(id);
            named.extend(&self.packs_of[&id]);
        }
        for index in &state.indexes {
            named.insert(index.id);
            named.extend(self.indexed.get(&index.id).into_iter().flatten());
        }
        named
    }

    /// What the site looks like, whatever its ids are.
    fn note_state(&mut self) {
        let Some(state) = &self.state else { return };
        let of = |id: &ObjectId| self.pieces_of.get(id).copied().unwrap_or(0);
        let mut points: Vec<(bool, Pieces)> = Vec::new();
        points.extend(state.snapshots.iter().map(|record| (false, of(&record.manifest.id))));
        points.extend(state.forgotten.iter().map(|record| (true, of(&record.manifest.id))));
        points.sort_unstable();
        let mut waiting: BTreeMap<Pieces, u32> = BTreeMap::new();
        for id in state.condemned.iter().flat_map(|condemned| condemned.objects.ids()) {
            *waiting.entry(of(id)).or_default() += 1;
        }
        let mut hasher = DefaultHasher::new();
        (points, waiting, state.indexes.len(), state.holds.len()).hash(&mut hasher);
        self.states.insert(hasher.finish());
    }
}

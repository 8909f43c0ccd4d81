//! What there is of a site, and what its points need.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt};
use lifeboat_format::ObjectKind;
use lifeboat_format::names::{self, ParsedName};
use lifeboat_model::{Condemned, Fault, Faulty, Generation, Mark, ObjectId, SiteState, SnapshotRecord, Timestamp};

use crate::{Error, Site, TrustedNow};

/// Manifests read at once.
const READS_MAX: usize = 8;

/// What a plan is made from.
#[derive(Debug, Clone)]
pub struct PruneFacts {
    pub state: SiteState,
    /// Forgotten points whose time to undelete has passed.
    pub expired: Vec<SnapshotRecord>,
    /// What their manifests name.
    pub expired_packs: BTreeSet<ObjectId>,
    /// What the manifests of all others name; read only where something has expired, or a pack is in no index segment.
    pub needed_packs: BTreeSet<ObjectId>,
    /// What the index segments name.
    pub indexed: Vec<ObjectId>,
    /// Objects that no commit names, nor what it names, and none condemned.
    pub unnamed: Vec<FoundObject>,
    /// Names below the site's prefix that no repository makes: never touched.
    pub foreign: Vec<String>,
    /// When the commits were made that condemned what waits, by the store's clock.
    condemned_at: BTreeMap<Generation, Timestamp>,
    lens: BTreeMap<ObjectId, u64>,
}

/// A manifest, an index segment or a pack that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundObject {
    pub kind: ObjectKind,
    pub id: ObjectId,
    pub len: u64,
    /// By the store's clock.
    pub modified: Option<Timestamp>,
}

/// What a manifest that cannot be read means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unreadable {
    Stops,
    NamesNothing,
}

impl PruneFacts {
    /// Bytes of an object; 0: it is not there.
    pub fn len_of(&self, id: &ObjectId) -> u64 {
        self.lens.get(id).copied().unwrap_or(0)
    }

    /// Since when nothing may begin to read what waits: by the later of the clocks that its writer had asked, and by the
    /// store's when its commit came, which may be long after. `None`: the store does not say, or has lost the commit.
    pub(super) fn waits_since(&self, condemned: &Condemned) -> Option<Timestamp> {
        self.condemned_at.get(&condemned.generation).map(|at| condemned.at.max(*at))
    }
}

/// What is below a site's prefix.
#[derive(Default)]
pub(crate) struct Found {
    pub objects: Vec<FoundObject>,
    /// What no repository makes.
    foreign: Vec<String>,
    /// When commits were made that have condemned something.
    condemned_at: BTreeMap<Generation, Timestamp>,
}

impl Site {
    /// Looks at everything of the site. Damage of what stays is an error: nothing is deleted while it is open.
    pub async fn prune_facts(&mut self, clock: &TrustedNow) -> Result<PruneFacts, Error> {
        // What is listed afterwards and named by no commit of before may be under way; its age tells.
        self.refresh().await?;
        let state = self.state().clone();
        let Found { objects, foreign, condemned_at } = self.found().await?;
        let has_expired = |record: &&SnapshotRecord| record.forgotten.is_some_and(|mark| clock.now >= mark.till);
        let (expired, stays): (Vec<_>, Vec<_>) =
            state.forgotten.iter().cloned().partition(|record| has_expired(&record));
        let mut indexed = Vec::new();
        for index in &state.indexes {
            indexed.extend(self.read_index(index).await?.packs.iter().map(|row| row.id));
        }
        let lens: BTreeMap<ObjectId, u64> = objects.iter().map(|found| (found.id, found.len)).collect();
        let named = named_objects(&state, &indexed);
        let mut unnamed: Vec<FoundObject> = objects.into_iter().filter(|found| !named.contains(&found.id)).collect();
        // A pack may be in no segment and needed all the same: of a chunk that two backups have stored at once, a merged
        // index knows one place.
        let (mut expired_packs, mut needed_packs) = (BTreeSet::new(), BTreeSet::new());
        if !expired.is_empty() || unnamed.iter().any(|found| found.kind == ObjectKind::Pack) {
            needed_packs = self.packs_named(state.snapshots.iter().chain(&stays), Unreadable::Stops).await?;
            // What a manifest named that is lost, nobody can say: the index does, and what no commit names is found as such.
            expired_packs = self.packs_named(&expired, Unreadable::NamesNothing).await?;
            unnamed.retain(|found| !needed_packs.contains(&found.id));
        }
        // Of points that are incomplete it is known.
        let whole = state.snapshots.iter().filter(|record| record.mark != Mark::Incomplete);
        let whole_packs = match needed_packs.iter().all(|id| lens.contains_key(id)) {
            true => BTreeSet::new(),
            false => self.packs_named(whole, Unreadable::Stops).await?,
        };
        if let Some(missing) = whole_packs.iter().find(|id| !lens.contains_key(id)) {
            let object = names::pack(&self.handle(), missing);
            return Err(Error::Damaged { object, detail: "it is missing, and points need it".into() });
        }
        Ok(PruneFacts { state, expired, expired_packs, needed_packs, indexed, unnamed, foreign, condemned_at, lens })
    }

    async fn packs_named(
        &self,
        records: impl IntoIterator<Item = &SnapshotRecord>,
        unreadable: Unreadable,
    ) -> Result<BTreeSet<ObjectId>, Error> {
        let reads = records.into_iter().map(async |record| match self.manifest(&record.manifest).await {
            Ok(manifest) => Ok(manifest.head().packs.iter().map(|row| row.id).collect::<Vec<_>>()),
            Err(error) if error.fault() == Fault::Damage && unreadable == Unreadable::NamesNothing => Ok(Vec::new()),
            Err(error) => Err(error),
        });
        let mut reads = futures_util::stream::iter(reads).buffer_unordered(READS_MAX);
        let mut packs = BTreeSet::new();
        while let Some(some) = reads.try_next().await? {
            packs.extend(some);
        }
        Ok(packs)
    }

    pub(crate) async fn found(&self) -> Result<Found, Error> {
        let condemns: BTreeSet<Generation> = self.state().condemned.iter().map(|some| some.generation).collect();
        let prefix = names::site_prefix(&self.handle());
        let (mut found, mut after) = (Found::default(), None);
        loop {
            let page = self.repository.store().list(&prefix, after.as_ref(), 1000).await?;
            let Some(last) = page.last() else { return Ok(found) };
            after = Some(last.name.clone());
            for listed in page {
                match names::parse_object_name(listed.name.as_str()) {
                    Some(ParsedName::Object(_, kind, id)) => {
                        found.objects.push(FoundObject { kind, id, len: listed.len, modified: listed.modified });
                    }
                    Some(ParsedName::Commit(_, generation)) if condemns.contains(&generation) => {
                        found.condemned_at.extend(listed.modified.map(|at| (generation, at)));
                    }
                    Some(_) => {}
                    None => found.foreign.push(listed.name.to_string()),
                }
            }
        }
    }
}

/// Everything that a commit names or has condemned.
fn named_objects(state: &SiteState, indexed: &[ObjectId]) -> BTreeSet<ObjectId> {
    let records = state.snapshots.iter().chain(&state.forgotten);
    let mut named: BTreeSet<ObjectId> = indexed.iter().copied().collect();
    named.extend(records.map(|record| record.manifest.id));
    named.extend(state.indexes.iter().map(|index| index.id));
    named.extend(state.condemned.iter().flat_map(|condemned| condemned.objects.ids()));
    named
}

//! The state of a site, with what is forgotten and what is condemned.
//!
//! Forgotten snapshots stand among the others, in the order of their commits: a reader of before there was forgetting
//! takes them for what they were.

use lifeboat_model::{
    Condemnation, Condemned, DrillFailed, Hold, IndexRef, KeyNumber, ObjectId, Proven, RestoreIntent, Shred, Shredded,
    SiteId, SiteObjects, SiteState, SnapshotRecord,
};

use crate::cbor::{In, Out, Wire, WireResult, wire_lists, wire_map};

wire_map!(SiteObjects { 0: manifests, 1: indexes, 2: packs });
wire_map!(Condemnation { 0: snapshots, 1: objects, 2: indexes, 3: at, 4: run });
wire_map!(Condemned { 0: generation, 1: at, 2: run, 3: objects });
wire_map!(Shred { 0: key, 1: objects, 2: at, 3: run, 4: reason });
wire_map!(Shredded { 0: generation, 1: at });
wire_lists!(ObjectId, Condemned);

/// The state as it is stored.
struct Stored {
    site: SiteId,
    key: KeyNumber,
    snapshots: Vec<SnapshotRecord>,
    holds: Vec<Hold>,
    intent: Option<RestoreIntent>,
    indexes: Vec<IndexRef>,
    proven: Option<Proven>,
    drill_failed: Option<DrillFailed>,
    condemned: Option<Vec<Condemned>>,
    shredded: Option<Shredded>,
}

wire_map!(Stored {
    0: site,
    1: key,
    2: snapshots,
    3: holds,
    4: intent,
    5: indexes,
    6: proven,
    7: drill_failed,
    8: condemned,
    9: shredded,
});

impl Wire for SiteState {
    fn put(&self, out: &mut Out<'_>) {
        let Self {
            site,
            key,
            mut snapshots,
            forgotten,
            holds,
            intent,
            indexes,
            proven,
            drill_failed,
            condemned,
            shredded,
        } = self.clone();
        if !forgotten.is_empty() {
            snapshots.extend(forgotten);
            snapshots.sort_by_key(|record| record.generation);
        }
        let condemned = (!condemned.is_empty()).then_some(condemned);
        let stored = Stored { site, key, snapshots, holds, intent, indexes, proven, drill_failed, condemned, shredded };
        stored.put(out);
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        let Stored { site, key, snapshots, holds, intent, indexes, proven, drill_failed, condemned, shredded } =
            Wire::take(input)?;
        let (forgotten, snapshots) = snapshots.into_iter().partition(|record| record.forgotten.is_some());
        let condemned = condemned.unwrap_or_default();
        Ok(Self { site, key, snapshots, forgotten, holds, intent, indexes, proven, drill_failed, condemned, shredded })
    }
}

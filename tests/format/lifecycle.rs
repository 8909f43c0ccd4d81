//! The vectors of points that end: forgotten, undeleted, condemned, deleted, and a site that is erased.
//!
//! A reader of before takes a forgotten point for what it was, and skips what waits to be deleted. An event of these it
//! refuses as one of a newer version.

use lifeboat_format::*;
use lifeboat_model::*;

use crate::sample::{self, NOON};
use crate::vectors::{Folder, Vector, site_keys, site_keys_of};

const DAY: i64 = 86_400_000_000;

pub fn all() -> Vec<Vector> {
    vec![
        commit("commit-forgot.bin", forgot(), 1, |state| state),
        commit("commit-undeleted.bin", undeleted(), 1, |state| {
            let snapshots = vec![sample::snapshot(), sample::undo()];
            SiteState { snapshots, forgotten: Vec::new(), ..state }
        }),
        commit("commit-condemned.bin", CommitEvent::Condemned(Box::new(condemnation())), 1, |state| SiteState {
            forgotten: Vec::new(),
            condemned: vec![condemned()],
            ..state
        }),
        commit("commit-deleted.bin", CommitEvent::Deleted { till: Generation(6) }, 1, |state| state),
        commit("commit-shredded.bin", CommitEvent::Shredded(Box::new(shred())), 2, |_| SiteState {
            condemned: vec![condemned()],
            shredded: Some(Shredded { generation: Generation(7), at: NOON }),
            ..SiteState::new(sample::site(), KeyNumber(2))
        }),
    ]
}

fn forgotten() -> Forgotten {
    Forgotten { at: NOON, till: Timestamp(NOON.0 + 7 * DAY) }
}

fn forgot() -> CommitEvent {
    let reason = "no rule keeps it".to_owned();
    CommitEvent::Forgot { snapshots: vec![sample::undo().id], forgotten: forgotten(), reason }
}

fn undeleted() -> CommitEvent {
    CommitEvent::Undeleted { snapshots: vec![sample::undo().id] }
}

fn objects() -> SiteObjects {
    let ids = |first: u8| vec![ObjectId([first; 16]), ObjectId([first + 1; 16])];
    SiteObjects { manifests: ids(0xd0), indexes: ids(0xd2), packs: ids(0xd4) }
}

fn condemnation() -> Condemnation {
    Condemnation {
        snapshots: vec![sample::undo().id],
        objects: objects(),
        indexes: vec![sample::index_ref()],
        at: NOON,
        run: RunNumber(12),
    }
}

fn condemned() -> Condemned {
    Condemned { generation: Generation(7), at: NOON, run: RunNumber(12), objects: objects() }
}

fn shred() -> Shred {
    let reason = "asked by the customer".to_owned();
    Shred { key: KeyNumber(2), objects: objects(), at: NOON, run: RunNumber(12), reason }
}

/// The state of the others, in which one of the points is forgotten.
fn commit(name: &'static str, event: CommitEvent, key: u32, after: impl Fn(SiteState) -> SiteState) -> Vector {
    let usual = sample::commit(event);
    let forgotten = vec![SnapshotRecord { forgotten: Some(forgotten()), generation: Generation(6), ..sample::undo() }];
    let state = SiteState { snapshots: vec![sample::snapshot()], forgotten, ..usual.state.clone() };
    let commit = Commit { state: after(state), ..usual };
    let keys = move || match key {
        1 => site_keys(),
        number => site_keys_of(&sample::site(), KeyNumber(number)),
    };
    Vector::new(
        Folder::Lifecycle,
        name,
        move || encode_commit(&keys(), &commit),
        move |bytes| Ok(format!("{:?}", decode_commit(&keys(), Generation(7), bytes)?)),
    )
}

#[test]
fn the_vectors_of_points_that_end_hold_what_is_new() {
    let said: Vec<String> = all().iter().map(|vector| (vector.read)(&vector.stored()).unwrap()).collect();
    let has = |at: usize, what: String, times: usize| {
        assert_eq!(said[at].matches(&what).count(), times, "{what} in {}", said[at]);
    };
    has(0, format!("{:?}", forgotten()), 2);
    has(1, format!("forgotten: {:?}", Some(forgotten())), 0);
    has(2, format!("{:?}", objects()), 2);
    has(3, "Deleted { till: Generation(6) }".to_owned(), 1);
    has(4, format!("{:?}", Some(Shredded { generation: Generation(7), at: NOON })), 1);
    has(4, "snapshots: []".to_owned(), 1);
}

//! The vectors of drills: a case that is rehearsed, and what a site's sequence says of one that came out well.
//!
//! A reader of before skips what was proven, and refuses the plan as one of a newer version: it must not restore in place
//! what was only to be rehearsed.

use std::time::Duration;

use lifeboat_format::*;
use lifeboat_model::*;

use crate::recoveries;
use crate::sample::{self, NOON};
use crate::vectors::{Folder, Vector, repository_keys, site_keys};

const DRILL: RecoveryId = RecoveryId([0x76; 8]);
const PLAN: ObjectId = ObjectId([0x77; 16]);

pub fn all() -> Vec<Vector> {
    vec![
        Vector::new(
            Folder::Drills,
            "drill-plan.bin",
            || encode_recovery_plan(repository_keys().object_keys(), PLAN, &plan()),
            |bytes| {
                let plan = decode_recovery_plan(repository_keys().object_keys(), DRILL, bytes)?;
                Ok(format!("{plan:?} {}", recovery_plan_hash(&plan)))
            },
        ),
        commit("commit-proven.bin", DrillEnd::Proven(proven())),
        commit("commit-drill-failed.bin", DrillEnd::Failed(failed())),
    ]
}

fn plan() -> RecoveryPlan {
    let usual = recoveries::plan();
    let mut case = usual.cases[1].clone();
    case.aim = CaseAim::Rehearsal(PointInTime::Snapshot(case.snapshot));
    RecoveryPlan { id: DRILL, asked: "drill of 1 sites".to_owned(), undoes: None, cases: vec![case], ..usual }
}

fn proven() -> Proven {
    Proven { at: NOON, moment: Timestamp(NOON.0 - 3_600_000_000), took: Duration::from_millis(1_234), drill: DRILL }
}

fn failed() -> DrillFailed {
    DrillFailed { at: Timestamp(NOON.0 + 3_600_000_000), drill: DRILL }
}

fn commit(name: &'static str, end: DrillEnd) -> Vector {
    let snapshot = sample::state().snapshots[0].id;
    let usual = sample::commit(CommitEvent::StateChanged { snapshot, state: PointState::Proven, drill: Some(end) });
    let drill_failed = matches!(end, DrillEnd::Failed(_)).then(failed);
    let commit = Commit { state: SiteState { proven: Some(proven()), drill_failed, ..usual.state.clone() }, ..usual };
    Vector::new(
        Folder::Drills,
        name,
        move || encode_commit(&site_keys(), &commit),
        |bytes| Ok(format!("{:?}", decode_commit(&site_keys(), Generation(7), bytes)?)),
    )
}

#[test]
fn the_vectors_of_drills_hold_what_is_new() {
    let said = |vector: &Vector| (vector.read)(&vector.stored()).unwrap();
    let [plan, well, ill] = [&all()[0], &all()[1], &all()[2]].map(said);
    assert!(plan.contains("Rehearsal(Snapshot("), "{plan}");
    let count = |text: &str, what: String| text.matches(&what).count();
    assert_eq!(count(&well, format!("{:?}", proven())), 2, "in the event and in the state: {well}");
    assert_eq!((count(&ill, format!("{:?}", proven())), count(&ill, format!("{:?}", failed()))), (1, 2), "{ill}");
}

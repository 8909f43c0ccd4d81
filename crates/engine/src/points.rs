//! Which points a site has, and which one a person means.

use lifeboat_model::{Mark, PointInTime, SiteState, SnapshotRecord, Timestamp};

use crate::Error;

/// One line of `points`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    pub snapshot: SnapshotRecord,
    /// When a later run saw the site unchanged since: this point is good up to here.
    pub unchanged_till: Option<Timestamp>,
}

/// Every point of a site, oldest first. `seen` are the times at which runs found the site as a
/// snapshot has it.
pub fn points(state: &SiteState, seen: &[(lifeboat_model::SnapshotId, Timestamp)]) -> Vec<Point> {
    let till = |record: &SnapshotRecord| {
        let times = seen.iter().filter(|(id, at)| *id == record.id && *at > record.cut_till);
        times.map(|(_, at)| *at).max()
    };
    state.snapshots.iter().map(|record| Point { snapshot: record.clone(), unchanged_till: till(record) }).collect()
}

/// The snapshot that a person's point in time means, or a refusal that names the way out.
pub fn choose_point<'s>(state: &'s SiteState, at: &PointInTime) -> Result<&'s SnapshotRecord, Error> {
    let site = &state.site;
    match at {
        PointInTime::Latest => state.latest().ok_or_else(|| Error::NoPoint {
            site: site.clone(),
            asked: "latest".into(),
            hint: match state.snapshots.iter().rev().find(|record| record.mark != Mark::Undo && !record.is_scan) {
                Some(record) if record.is_birth() => format!(
                    "it was first seen in the change log, and was never backed up; `lifeboat points {site}` lists the moments \
                     that it can be put back to with --at"
                ),
                Some(record) => format!(
                    "no point of this site is good; the newest one can be asked for by name: --at snapshot:{}",
                    record.id
                ),
                None => match state.shredded {
                    Some(shredded) => format!("it was erased at {}; `lifeboat backup {site}` begins anew", shredded.at),
                    None => format!("make one with `lifeboat backup {site}`"),
                },
            },
        }),
        PointInTime::Time(time) => state.latest_at(*time).ok_or_else(|| Error::NoPoint {
            site: site.clone(),
            asked: time.to_string(),
            hint: match state
                .snapshots
                .iter()
                .filter(|record| record.mark == Mark::Good)
                .map(|record| record.cut_till)
                .min()
            {
                Some(oldest) => format!("the oldest restorable time is {oldest}; see `lifeboat points {site}`"),
                None => format!("no point of this site is good; see `lifeboat points {site}`"),
            },
        }),
        PointInTime::Snapshot(id) => match state.snapshot(*id) {
            Some(record) if record.mark == Mark::Undo => Err(Error::NoSuchThing {
                detail: format!("the snapshot is an undo, which holds only a difference: snapshot=`{id}`"),
                hint: match record.restore {
                    Some(restore) => format!("bring it back with `lifeboat undo {restore}`"),
                    None => "bring it back with `lifeboat undo`".into(),
                },
            }),
            Some(record) => Ok(record),
            None => Err(Error::NoSuchThing {
                detail: format!("the site has no such snapshot: site=`{site}`, snapshot=`{id}`"),
                hint: format!("see `lifeboat points {site}`"),
            }),
        },
        PointInTime::Position(_)
        | PointInTime::Before(_)
        | PointInTime::BeforeNote(_)
        | PointInTime::Without { .. } => Err(Error::NoPoint {
            site: site.clone(),
            asked: at.to_string(),
            hint: format!("no source of this site is captured; `lifeboat points {site}` lists its snapshots"),
        }),
    }
}

//! From what a site's newest commit says to what a decision about its points needs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lifeboat_engine::EpochSeen;
use lifeboat_model::{Mark, SiteState, SnapshotRecord, SourceName, Timestamp};

use super::{PointFacts, SiteFacts};

/// A cut takes no longer, and clocks differ by no more: around the begin of an epoch a snapshot may be a base of it or not.
const DOUBT: Duration = Duration::from_secs(2 * 3_600);

/// The epochs of each captured source, oldest first.
pub type Epochs = BTreeMap<SourceName, Vec<EpochSeen>>;

/// What is to be known of a site and its points.
pub fn facts(state: &SiteState, epochs: &Epochs) -> (Vec<PointFacts>, SiteFacts) {
    let points = state.snapshots.iter().map(|record| PointFacts {
        id: record.id,
        at: record.cut_till,
        mark: record.mark,
        is_scan: record.is_scan,
        restore: record.restore,
        bases: bases(record, epochs),
    });
    let site = SiteFacts {
        is_held: !state.holds.is_empty(),
        open: state.intent.as_ref().map(|open| open.restore),
        restoring: state.intent.as_ref().map(|open| open.snapshot),
    };
    (points.collect(), site)
}

/// What a moment may be made from this snapshot with. Where it is in doubt whether one is a base of an epoch, it is a base of
/// that doubt: so the newest of those that surely are, and the newest of those that may be, are both kept.
fn bases(record: &SnapshotRecord, epochs: &Epochs) -> BTreeSet<String> {
    if record.is_scan {
        return record.parts.iter().map(|part| format!("scans of {}", part.source)).collect();
    }
    if !matches!(record.mark, Mark::Good | Mark::Suspect) {
        return BTreeSet::new();
    }
    let of_part = |source: &SourceName, at: Timestamp| {
        let all = epochs.get(source).map(Vec::as_slice).unwrap_or_default();
        let ends = all.iter().skip(1).map(|next| Some(next.epoch.facts.begun_at)).chain([None]);
        // Of what is older no change is kept any more.
        let is_kept = |seen: &EpochSeen| seen.begins.is_none_or(|begins| record.cut_from >= begins.bases_since);
        let joins = all.iter().zip(ends).filter(|(seen, _)| is_kept(seen)).filter_map(move |(seen, end)| {
            let begun = seen.epoch.facts.begun_at;
            let is_sure = at >= begun.saturating_add(DOUBT) && end.is_none_or(|end| at < end);
            // A file's snapshot of before the epoch joins it too, where nothing was written in between.
            let may = !is_sure && end.is_none_or(|end| at < end.saturating_add(DOUBT));
            match (is_sure, may) {
                (true, _) => Some(format!("{source}, epoch {}", seen.epoch.id)),
                (false, true) => Some(format!("{source}, perhaps epoch {}", seen.epoch.id)),
                (false, false) => None,
            }
        });
        joins.collect::<Vec<_>>()
    };
    record.parts.iter().flat_map(|part| of_part(&part.source, part.cut_till)).collect()
}

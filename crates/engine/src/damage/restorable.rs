//! Whether a last good moment can be restored: a log may have a gap there, or no base of the site.
//!
//! What is told has to be of use as it stands: where the moment cannot be had, the nearest earlier one is told.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt};
use lifeboat_model::{Mark, SiteId, SourceName, Timestamp};
use lifeboat_repo::Site;

use super::{Incident, LastGood};
use crate::bases::{Certainty, EpochSeen, Window, epochs, windows_in};
use crate::{Engine, Error};

/// Sites whose stretches are read whole: those that people are shown.
const LOOKED_AT_MAX: usize = 10;
/// Sites that are asked at once.
const AT_ONCE: usize = 16;

/// What a restore gives of a last good moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restorable {
    /// Nobody looked.
    Unknown,
    Exact,
    /// The nearest moment before it that can be had, as `--at` takes it.
    Earlier {
        at: String,
        time: Timestamp,
    },
    /// There is no point of the site before it.
    Never,
}

/// Says of each site of the incidents what can be had.
pub(super) async fn look(engine: &Engine, incidents: &mut [Incident]) -> Result<(), Error> {
    let mut seen: BTreeMap<SourceName, Vec<EpochSeen>> = BTreeMap::new();
    for source in incidents.iter().map(|incident| incident.source.clone()).collect::<BTreeSet<_>>() {
        let of_source = epochs(engine, &source).await?;
        seen.insert(source, of_source);
    }
    let sites = incidents.iter().flat_map(|incident| incident.sites.iter().map(|site| (&incident.source, &site.site)));
    let mut is_listed = BTreeSet::new();
    let order: Vec<(&SourceName, &SiteId)> = sites.filter(|place| is_listed.insert(*place)).collect();
    let asked = order.iter().enumerate().map(|(place, (source, id))| {
        let certainty = if place < LOOKED_AT_MAX { Certainty::Whole } else { Certainty::Ends };
        let epochs = seen.get(*source).map(Vec::as_slice).unwrap_or_default();
        async move {
            engine.check_cancelled()?;
            let known = engine.repository.site(id, engine.memory.known_head(id)).await?;
            let Some(site) = known else { return Ok(None) };
            let windows = windows_in(engine, &site, (source, epochs), certainty).await?;
            Ok::<_, Error>(Some((((*source).clone(), (*id).clone()), (site, windows))))
        }
    });
    let found: Vec<_> = futures_util::stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
    let found: BTreeMap<_, _> = found.into_iter().flatten().collect();
    for incident in incidents {
        for damage in &mut incident.sites {
            damage.restorable = match found.get(&(incident.source.clone(), damage.site.clone())) {
                Some((site, windows)) => nearest(site, windows, &damage.last_good),
                None => Restorable::Never,
            };
        }
    }
    Ok(())
}

fn nearest(site: &Site, windows: &[Window], last_good: &LastGood) -> Restorable {
    let time = last_good.time();
    if windows.iter().any(|window| window.from <= time && time <= window.till) {
        return Restorable::Exact;
    }
    let window = windows.iter().map(|window| window.till).filter(|till| *till < time).max();
    let snapshots = site.state().snapshots.iter().filter(|record| record.mark == Mark::Good && record.cut_till <= time);
    match (window, snapshots.max_by_key(|record| record.cut_till)) {
        (Some(till), record) if record.is_none_or(|record| record.cut_till <= till) => {
            Restorable::Earlier { at: till.to_string(), time: till }
        }
        (_, Some(record)) => Restorable::Earlier { at: format!("snapshot:{}", record.id), time: record.cut_till },
        _ => Restorable::Never,
    }
}

//! Bases that grow old: of a site that is captured and does not change, a snapshot is published anew all the same.
//!
//! Changes go on top of a snapshot, so that a change log must be kept from the oldest one that a moment is made from. Were
//! that of a site which nobody wrote to since last year, all of the log since last year had to be kept for it.

use std::collections::BTreeSet;
use std::time::Duration;

use lifeboat_model::{SiteHandle, SnapshotRecord, SourceKind, SourceName, Timestamp};

use crate::{Engine, Error};

/// Which sources are captured, and what time it is.
pub(super) struct OldBases {
    captured: BTreeSet<SourceName>,
    now: Timestamp,
}

impl OldBases {
    pub async fn look(engine: &Engine) -> Result<Self, Error> {
        let can_be = engine.fleet.sources().iter().any(|source| source.as_source().kind() != SourceKind::Files);
        let captured = match can_be {
            true => engine.repository.captured_sources().await?.into_iter().collect(),
            false => BTreeSet::new(),
        };
        Ok(Self { captured, now: Timestamp::now() })
    }

    /// Whether the site's newest snapshot is too old a base of one of its parts.
    pub fn is_old(&self, newest: &SnapshotRecord, (site, age_max): (SiteHandle, Duration)) -> bool {
        let age_max = spread(age_max, site);
        let is_old = |cut_from: Timestamp| self.now > cut_from && self.now.since(cut_from) > age_max;
        newest.parts.iter().any(|part| self.captured.contains(&part.source) && is_old(part.cut_from))
    }
}

/// Half of it to all of it, by the site: not all of a fleet come due in the same night.
fn spread(age_max: Duration, site: SiteHandle) -> Duration {
    let share = u32::from(u16::from_le_bytes([site.0[0], site.0[1]]));
    age_max / 2 + (age_max / 2).mul_f64(f64::from(share) / f64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_come_due_between_half_of_the_time_and_all_of_it() {
        const WEEK: Duration = Duration::from_secs(7 * 86_400);
        let of =
            |first: u8, second: u8| spread(WEEK, SiteHandle([first, second, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9]));
        assert_eq!((of(0, 0), of(255, 255)), (WEEK / 2, WEEK));
        let middle = of(0, 128);
        assert!(middle > WEEK * 7 / 10 && middle < WEEK * 8 / 10, "{middle:?}");
    }
}

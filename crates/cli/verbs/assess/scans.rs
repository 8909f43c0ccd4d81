//! Sources of files that are scanned between two backups: when that was done last, as this host remembers it.

use std::time::Duration;

use lifeboat_control::ScanNote;
use lifeboat_control::alarms::ScanFacts;
use lifeboat_model::SourceName;

use crate::open::Open;

/// One that is later has stopped, whatever the interval.
const LATE_MIN: Duration = Duration::from_secs(900);

/// A source that is scanned, or that a policy wants to be.
pub struct ScanStatus {
    pub source: SourceName,
    pub facts: ScanFacts,
}

pub fn all(open: &Open) -> Vec<ScanStatus> {
    let every = open.config.capture.scan.unwrap_or_default();
    let own = open.engine.repository.config().repository.0;
    let one = |source: &SourceName| {
        let read = ScanNote::read(&open.config.repository.catalog, source, own);
        ScanStatus { source: source.clone(), facts: facts(read, every) }
    };
    open.config.scanned().map(|source| one(&source.name)).collect()
}

fn facts(read: Result<Option<ScanNote>, lifeboat_control::Error>, every: Duration) -> ScanFacts {
    let late_after = (every * 3).max(LATE_MIN);
    match read {
        Ok(None) => ScanFacts { late_after, ..ScanFacts::default() },
        Ok(Some(ScanNote { scanned_at, sites, failed })) => {
            ScanFacts { scanned_at: Some(scanned_at), sites, failed, late_after, trouble: None }
        }
        Err(error) => ScanFacts { late_after, trouble: Some(error.to_string()), ..ScanFacts::default() },
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_model::Timestamp;

    use super::*;

    #[test]
    fn a_source_is_late_after_three_rounds_and_never_before_a_quarter_of_an_hour() {
        let check = |every_minutes: u64, want_minutes: u64| {
            let note = ScanNote { scanned_at: Timestamp(7), sites: 3, failed: 1 };
            let facts = facts(Ok(Some(note)), Duration::from_secs(every_minutes * 60));
            assert_eq!((facts.late_after.as_secs(), facts.failed), (want_minutes * 60, 1));
        };
        check(1, 15);
        check(5, 15);
        check(60, 180);
    }
}

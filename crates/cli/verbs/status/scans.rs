//! Sources of files that are scanned between two backups: when that was done last, as this host remembers it.

use std::time::Duration;

use lifeboat_control::ScanNote;
use lifeboat_model::{SourceName, Timestamp};
use serde_json::json;

use crate::open::Open;
use crate::output::{Output, ago, count, duration};

/// One that is later has stopped, whatever the interval.
const LATE_MIN: Duration = Duration::from_secs(900);

/// A source that is scanned, or that a policy wants to be.
pub struct ScanStatus {
    source: SourceName,
    /// `None`: never from here.
    note: Option<ScanNote>,
    /// What is not as promised.
    pub problem: Option<String>,
}

pub fn all(open: &Open, now: Timestamp) -> Vec<ScanStatus> {
    let every = open.config.capture.scan.unwrap_or_default();
    let own = open.engine.repository.config().repository.0;
    let one = |source: &SourceName| {
        let (note, trouble) = match ScanNote::read(&open.config.repository.catalog, source, own) {
            Ok(note) => (note, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let problem = trouble.or_else(|| problem(note.as_ref(), every, now));
        ScanStatus { source: source.clone(), note, problem }
    };
    open.config.scanned().map(|source| one(&source.name)).collect()
}

fn problem(note: Option<&ScanNote>, every: Duration, now: Timestamp) -> Option<String> {
    let Some(note) = note else { return Some("its files were never scanned: run `lifeboat capture`".into()) };
    let since = now.since(note.scanned_at);
    if since > (every * 3).max(LATE_MIN) {
        return Some(format!("its files were not scanned for {}: is `lifeboat capture` running?", duration(since)));
    }
    (note.failed > 0).then(|| format!("{} sites could not be scanned", count(note.failed)))
}

pub fn tell(scans: &[ScanStatus], now: Timestamp, output: &Output) {
    for ScanStatus { source, note, problem } in scans {
        output.event(
            "scans",
            json!({
                "source": source.as_str(),
                "scanned_at": note.map(|note| note.scanned_at.to_string()),
                "sites": note.map(|note| note.sites),
                "failed": note.map(|note| note.failed),
                "problem": problem,
            }),
        );
        if let Some(note) = note {
            output.line(format!(
                "{source}: files of {} sites, last scanned {}",
                count(note.sites),
                ago(note.scanned_at, now)
            ));
        }
        if let Some(problem) = problem {
            output.line(format!("  {source}: {problem}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_is_not_scanned_any_more_is_not_as_promised() {
        let note = |minutes: i64, failed| ScanNote { scanned_at: Timestamp(-minutes * 60_000_000), sites: 3, failed };
        let check = |note: Option<ScanNote>, every: u64, want: Option<&str>| {
            let got = problem(note.as_ref(), Duration::from_secs(every * 60), Timestamp(0));
            assert_eq!(got.is_some(), want.is_some(), "{note:?} {got:?}");
            assert!(want.is_none_or(|part| got.unwrap_or_default().contains(part)));
        };
        check(None, 5, Some("never"));
        check(Some(note(4, 0)), 5, None);
        check(Some(note(14, 0)), 1, None);
        check(Some(note(16, 0)), 1, Some("not scanned for"));
        check(Some(note(170, 0)), 60, None);
        check(Some(note(190, 0)), 60, Some("not scanned for"));
        check(Some(note(1, 2)), 5, Some("2 sites"));
    }
}

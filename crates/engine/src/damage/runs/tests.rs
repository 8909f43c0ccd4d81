//! Nights as a few words, and what they say is gone.

use lifeboat_model::{Generation, ObjectId, RunSite, RunSource, WriterIdentity};

use super::*;

/// A run at this hour: `site` and what became of it; `failed`: why the source had failed.
fn run(hour: i64, sites: &[(&str, RunOutcome)], failed: Option<&str>) -> Run {
    let at = Timestamp(hour * 3_600_000_000);
    let site = |(name, outcome): &(&str, RunOutcome)| RunSite {
        site: SiteId::new(*name).unwrap(),
        generation: Generation(1),
        snapshot: matches!(outcome, RunOutcome::Published | RunOutcome::Unchanged)
            .then_some(SnapshotId([hour as u8; 8])),
        seen_at: at,
        outcome: outcome.clone(),
    };
    Run {
        number: RunNumber(hour as u64),
        nonce: ObjectId([0; 16]),
        started_at: at,
        finished_at: at,
        writer: WriterIdentity { host: "h".into(), machine: "m".into(), boot: "b".into(), pid: 1, started: 1 },
        sources: vec![RunSource {
            source: SourceName::new("app").unwrap(),
            sites: sites.len() as u64,
            root: None,
            failure: failed.map(str::to_owned),
        }],
        sites: sites.iter().map(site).collect(),
    }
}

#[test]
fn what_is_gone_is_told_with_the_last_run_that_saw_it() {
    use RunOutcome::{Published, Unchanged, Vanished};
    let check = |runs: &[Run], want: &[(&str, RunDamageKind, i64, Option<u8>)]| {
        let found = compare(runs, Timestamp(2 * 3_600_000_000));
        let got: Vec<_> = found
            .iter()
            .map(|one| {
                let good = one.last_good.map(|(snapshot, _)| snapshot.0[0]);
                (one.site.as_str(), one.kind, one.found_at.0 / 3_600_000_000, good)
            })
            .collect();
        assert_eq!(got, want);
    };
    let both = || run(1, &[("acme", Published), ("beta", Published)], None);
    check(&[both()], &[]);
    check(
        &[both(), run(2, &[("acme", Unchanged), ("beta", Vanished)], None)],
        &[("beta", RunDamageKind::Vanished, 2, Some(1))],
    );
    // Told since the first run that missed it.
    let vanished = |hour| run(hour, &[("acme", Unchanged), ("beta", Vanished)], None);
    check(&[both(), vanished(2), vanished(3)], &[("beta", RunDamageKind::Vanished, 2, Some(1))]);
    // Back again is not gone.
    check(&[both(), vanished(2), run(3, &[("acme", Unchanged), ("beta", Published)], None)], &[]);
    // Gone before the time that was asked for.
    check(&[vanished(1), vanished(2)], &[]);
    // A source that lost many at once has failed, and lists nothing to vanish.
    check(
        &[both(), run(2, &[("acme", Unchanged)], Some("it lists 1 site"))],
        &[("beta", RunDamageKind::NotSeen, 2, Some(1))],
    );
    check(&[both(), run(2, &[("acme", Unchanged)], None)], &[]);
    // What such a run repeats of the one before, it has not seen.
    let mut repeats = run(2, &[("acme", Unchanged), ("beta", Published)], Some("it lists 1 site"));
    repeats.sites[1] = both().sites[1].clone();
    let mut again = repeats.clone();
    again.sources[0].failure = None;
    check(&[both(), repeats.clone()], &[("beta", RunDamageKind::NotSeen, 2, Some(1))]);
    check(&[both(), repeats.clone(), again], &[("beta", RunDamageKind::NotSeen, 2, Some(1))]);
    check(&[both(), repeats, run(3, &[("acme", Unchanged), ("beta", Unchanged)], None)], &[]);
}

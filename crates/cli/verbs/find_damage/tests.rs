//! What people and programs read of an incident.

use lifeboat_engine::{LastGood, TableDamage};
use lifeboat_model::{ChangeCounts, EpochId, Lsn, SiteId, SnapshotId, SourceName, TransactionHead, TransactionId};

use super::*;
use crate::output::Manner;
use crate::testing::captured;

fn head(id: u64) -> TransactionHead {
    let committed_at = Timestamp::parse("2022-04-05T07:38:00Z").unwrap();
    TransactionHead { id: TransactionId(id), commit: Lsn(id), committed_at: Timestamp(committed_at.0 + id as i64) }
}

fn deletes(deletes: u64) -> ChangeCounts {
    ChangeCounts { inserts: 0, updates: 0, deletes }
}

fn report(sites: u64) -> DamageReport {
    let site = |number: u64| SiteDamage {
        site: SiteId::new(format!("customer-with-a-long-name-{number:03}")).unwrap(),
        counts: deletes(1_000),
        transactions: 1,
        tables: vec![
            TableDamage { table: "a_table_with_a_long_name".into(), counts: deletes(900) },
            TableDamage { table: "issues".into(), counts: deletes(100) },
        ],
        gone: Vec::new(),
        last_good: LastGood { before: head(5_000 + number) },
        restorable: Restorable::Exact,
    };
    let incident = Incident {
        source: SourceName::new("app").unwrap(),
        epoch: EpochId(1),
        transactions: sites,
        first: head(5_000),
        last: head(5_000 + sites),
        counts: deletes(1_000 * sites),
        unrouted: 0,
        sites: (0..sites).map(site).collect(),
        emptied: Vec::new(),
        dropped: vec!["old_issues".into()],
        altered: Vec::new(),
        notes: vec![IncidentNote { at: Timestamp(0), prefix: "deploy".into(), text: "n ".repeat(90), is_own: true }],
        others: 2,
    };
    let runs = vec![RunDamage {
        site: SiteId::new("customer-with-a-long-name-001").unwrap(),
        kind: RunDamageKind::Vanished,
        found_at: head(0).committed_at,
        reason: "no source lists it any more".into(),
        last_good: Some((SnapshotId([1; 8]), head(0).committed_at)),
    }];
    DamageReport { incidents: vec![incident], runs, runs_looked: 3, ..DamageReport::default() }
}

fn said(report: &DamageReport, json: bool, shows_all: bool) -> String {
    let (streams, captured) = captured("");
    let output = Output::new(streams, Manner { json, ..Manner::default() });
    let request = DamageRequest { since: Timestamp(0), source: None };
    tell_events(report, &output);
    tell_people(report, &request, (&output, shows_all));
    captured.stdout()
}

#[test]
fn people_read_lines_of_eighty_characters_with_the_moment_before_all_of_it() {
    let text = said(&report(40), false, false);
    assert!(text.starts_with("1. app: 1 table or column dropped for every site, 40 sites lost 40,000 rows"), "{text}");
    assert!(
        text.contains("   last good  --at before-xid:5000\n              --at 2022-04-05T07:38:00.004999Z\n"),
        "{text}"
    );
    assert!(text.contains("and 30 more sites"), "{text}");
    assert!(text.contains("snapshot:0101010101010101"), "{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{} characters: {line}", line.chars().count());
    }
    let all = said(&report(40), false, true);
    assert_eq!(all.matches("before-xid:").count(), 41);
}

#[test]
fn programs_read_each_site_with_what_a_restore_takes() {
    let text = said(&report(3), true, false);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 5);
    assert_eq!((lines[0]["event"].as_str(), lines[0]["sites"].as_u64()), (Some("incident"), Some(3)));
    let site = &lines[2];
    assert_eq!(site["site"], "customer-with-a-long-name-001");
    assert_eq!((site["at"].as_str(), site["transaction"].as_u64()), (Some("before-xid:5001"), Some(5_001)));
    assert_eq!(site["last_good"], "2022-04-05T07:38:00.005Z");
    assert_eq!(site["tables"][0], json!({ "table": "a_table_with_a_long_name", "deleted": 900, "updated": 0 }));
    assert_eq!(lines[4]["at"], "snapshot:0101010101010101");
}

#[test]
fn nothing_found_says_no_more_than_was_looked_at() {
    let log = LogLooked {
        source: SourceName::new("app").unwrap(),
        segments: 1,
        transactions: 1,
        till: None,
        gaps: Vec::new(),
    };
    let check = |logs: &[LogLooked], runs_looked: u64, want: &str| {
        let report = DamageReport { logs: logs.to_vec(), runs_looked, ..DamageReport::default() };
        let text = said(&report, false, false);
        assert_eq!(text, want);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    };
    const CAPTURED: &str = "Nothing that is captured was removed or rewritten since 1970-01-01T00:00:00Z.\n";
    check(&[], 0, "Nobody has looked since 1970-01-01T00:00:00Z: no run and no server's log.\n");
    check(
        &[],
        1_300,
        "No site vanished or shrank beyond its limit since 1970-01-01T00:00:00Z.\n\
         1,300 runs compared: what was removed in a site only a server's log can tell.\n",
    );
    check(std::slice::from_ref(&log), 0, CAPTURED);
    check(std::slice::from_ref(&log), 1, &format!("{CAPTURED}No site vanished or shrank beyond its limit in 1 run.\n"));
}

#[test]
fn a_time_or_a_duration_says_how_far_to_look_back() {
    let now = head(0).committed_at;
    assert_eq!(since("2h", now).unwrap(), Timestamp(now.0 - 7_200_000_000));
    assert!(since("latest", now).unwrap_err().message.contains("not a time"));
    assert!(since("2022-04-05T07:38:00", now).unwrap_err().message.contains("zone"));
}

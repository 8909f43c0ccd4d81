//! Histories as a few words, and the incidents in them.

use lifeboat_model::{Lsn, TransactionId};

use super::*;

/// One transaction: second of its commit, and `site/table` with deletes and updates.
fn suspect(second: i64, rows: &[(&str, u64, u64)]) -> Suspect {
    let at = Timestamp(second * 1_000_000);
    let head =
        TransactionHead { id: TransactionId(1_000 + second as u64), commit: Lsn(second as u64), committed_at: at };
    let mut suspect = Suspect {
        epoch: EpochId(1),
        head,
        sites: BySite::new(),
        unrouted: 0,
        emptied: BTreeSet::new(),
        dropped: BTreeSet::new(),
        altered: BTreeSet::new(),
        own: BySite::new(),
    };
    for (place, deletes, updates) in rows {
        let (site, table) = place.split_once('/').unwrap();
        let counts = ChangeCounts { inserts: 0, updates: *updates, deletes: *deletes };
        suspect.sites.entry(SiteId::new(site).unwrap()).or_default().insert(table.into(), counts);
    }
    suspect
}

fn note(second: i64, text: &str) -> Note {
    let (commit, at) = (Lsn(second as u64), Timestamp(second * 1_000_000));
    Note { epoch: EpochId(1), commit, at, prefix: "deploy".into(), text: text.into() }
}

/// Of each incident its transactions' seconds, and `site:deleted@before-xid`.
fn told(suspects: Vec<Suspect>, notes: &[Note]) -> Vec<(u64, String)> {
    let source = SourceName::new("app").unwrap();
    let of_site =
        |site: &SiteDamage| format!("{}:{}@{}", site.site, site.counts.deletes, site.last_good.before.commit.0);
    let incidents = incidents(&source, suspects, notes).into_iter();
    incidents.map(|one| (one.transactions, one.sites.iter().map(of_site).collect::<Vec<_>>().join(" "))).collect()
}

fn check(suspects: Vec<Suspect>, notes: &[Note], want: &[(u64, &str)]) {
    let got = told(suspects, notes);
    let got: Vec<(u64, &str)> = got.iter().map(|(count, text)| (*count, text.as_str())).collect();
    assert_eq!(got, want);
}

// Explains invariant: before-the-first
#[test]
fn a_site_is_good_just_before_the_first_transaction_that_took_from_it() {
    let script = vec![
        suspect(10, &[("acme/issues", 500, 0)]),
        suspect(12, &[("beta/issues", 300, 0)]),
        suspect(14, &[("acme/comments", 900, 0)]),
    ];
    check(script.clone(), &[], &[(3, "acme:1400@10 beta:300@12")]);
    let incident = &incidents(&SourceName::new("app").unwrap(), script, &[])[0];
    assert_eq!(incident.last_good().at(), "before-xid:1010");
    assert_eq!(incident.last_good().time(), Timestamp(9_999_999), "no commit at that very moment is taken");
}

#[test]
fn ordinary_work_between_the_statements_of_a_script_is_no_part_of_it() {
    let mixed = vec![
        suspect(9, &[("gamma/comments", 3, 0)]),
        suspect(10, &[("acme/issues", 500, 0)]),
        suspect(11, &[("gamma/comments", 20, 1)]),
        suspect(12, &[("beta/issues", 300, 0)]),
        suspect(13, &[("beta/comments", 1, 0)]),
    ];
    check(mixed.clone(), &[], &[(3, "acme:500@10 beta:301@12"), (2, "gamma:23@9")]);
    let first = &incidents(&SourceName::new("app").unwrap(), mixed, &[])[0];
    assert_eq!(first.others, 1, "gamma lost rows meanwhile, and it is said");
}

#[test]
fn what_is_far_in_time_is_another_incident_unless_it_says_the_same() {
    let two = || vec![suspect(10, &[("acme/issues", 500, 0)]), suspect(50, &[("beta/issues", 400, 0)])];
    check(two(), &[], &[(1, "acme:500@10"), (1, "beta:400@50")]);
    check(two(), &[note(10, "one"), note(50, "other")], &[(1, "acme:500@10"), (1, "beta:400@50")]);
    check(two(), &[note(10, "cleanup"), note(50, "cleanup")], &[(2, "acme:500@10 beta:400@50")]);
}

#[test]
fn a_small_site_deleted_like_a_large_one_is_of_the_same_incident() {
    let whole = |site: &str, second, rows| {
        let places = ["sites", "users", "issues", "comments"].map(|table| format!("{site}/{table}"));
        suspect(second, &places.each_ref().map(|place| (place.as_str(), rows, 0)))
    };
    let cascade = suspect(12, &[("gamma/issues", 1, 0), ("gamma/comments", 30, 0)]);
    check(
        vec![whole("acme", 10, 5_000), whole("tiny", 11, 1), cascade],
        &[],
        &[(2, "acme:20000@10 tiny:4@11"), (1, "gamma:31@12")],
    );
}

#[test]
fn rewriting_counts_for_less_and_emptying_a_table_for_more_than_any_number_of_rows() {
    let mut truncate = suspect(201, &[]);
    truncate.emptied.insert("issues".into());
    let history = vec![
        suspect(100, &[("acme/issues", 0, 900)]),
        suspect(200, &[("beta/issues", 400, 0)]),
        truncate,
        suspect(202, &[("acme/issues", 0, 1)]),
    ];
    let incidents = incidents(&SourceName::new("app").unwrap(), history, &[]);
    let firsts: Vec<u64> = incidents.iter().map(|incident| incident.first.commit.0).collect();
    assert_eq!(firsts, [201, 200, 100, 202]);
    assert_eq!(incidents[0].emptied, ["issues"]);
}

#[test]
fn what_was_said_shortly_before_stands_beside_with_its_own_words_first() {
    let notes = [note(100, "long before"), note(1_100, "release 7"), note(1_130, "cleanup.sql"), note(1_140, "later")];
    let history = vec![suspect(1_130, &[("acme/issues", 500, 0)])];
    let incident = &incidents(&SourceName::new("app").unwrap(), history, &notes)[0];
    let said: Vec<(&str, bool)> = incident.notes.iter().map(|note| (note.text.as_str(), note.is_own)).collect();
    assert_eq!(said, [("cleanup.sql", true), ("release 7", false)]);
}

#[test]
fn what_took_nothing_is_no_incident() {
    let mut altered = suspect(1, &[]);
    altered.altered.insert("issues".into());
    check(vec![altered], &[], &[]);
    check(Vec::new(), &[], &[]);
}

/// A day of ordinary work: each minute a site loses a comment.
fn ordinary_day() -> Vec<Suspect> {
    (1..=100).map(|minute| suspect(minute * 60, &[("gamma/comments", 2, 1)])).collect()
}

#[test]
fn a_small_site_of_a_script_is_found_by_a_table_that_ordinary_work_leaves_alone() {
    let mut history = ordinary_day();
    history.extend([
        // Statement by statement, table by table, site by site.
        suspect(10_000, &[("acme/comments", 9_000, 0)]),
        suspect(10_001, &[("acme/sites", 1, 0)]),
        suspect(10_004, &[("tiny/comments", 3, 0)]),
        suspect(10_005, &[("tiny/sites", 1, 0)]),
        suspect(10_006, &[("gamma/comments", 2, 0)]),
        suspect(10_007, &[("beta/comments", 7_000, 0)]),
        suspect(10_008, &[("beta/sites", 1, 0)]),
    ]);
    let incident = incident_of(&history);
    let told: Vec<String> =
        incident.sites.iter().map(|site| format!("{}:{}", site.site, site.counts.deletes)).collect();
    assert_eq!(told, ["acme:9001", "beta:7001", "tiny:4"]);
    assert_eq!(incident.others, 1, "gamma only lost a comment, as every minute");
    // With nothing to compare with, nobody can tell.
    let few = incident_of(&history[95..]);
    assert_eq!((few.sites.len(), few.others), (2, 2));
}

fn incident_of(history: &[Suspect]) -> Incident {
    incidents(&SourceName::new("app").unwrap(), history.to_vec(), &[]).remove(0)
}

#[test]
fn what_a_script_took_from_a_site_right_before_is_of_the_incident_and_what_was_long_before_is_not() {
    let history = vec![
        suspect(80, &[("beta/labels", 1, 0)]),
        suspect(97, &[("beta/labels", 1, 0)]),
        suspect(98, &[("gamma/labels", 1, 0)]),
        suspect(99, &[("beta/labels", 1, 0)]),
        suspect(100, &[("beta/issues", 4_000, 0)]),
        suspect(101, &[("beta/sites", 1, 0)]),
        suspect(110, &[("beta/labels", 1, 0)]),
    ];
    check(history, &[], &[(4, "beta:4003@97"), (3, "beta:2@80 gamma:1@98")]);
}

#[test]
fn a_site_that_went_in_one_transaction_is_good_just_before_it_and_not_seconds_earlier() {
    let whole = ["sites", "issues", "comments"].map(|table| format!("beta/{table}"));
    let history = vec![
        suspect(99, &[("beta/comments", 1, 0)]),
        suspect(100, &whole.each_ref().map(|place| (place.as_str(), 900, 0))),
        suspect(101, &[("beta/comments", 1, 0)]),
    ];
    check(history, &[], &[(1, "beta:2700@100"), (2, "beta:2@99")]);
}

//! The catalog as the bucket's memory, and as a file that anything may happen to.

use std::os::unix::fs::MetadataExt;

use lifeboat_model::{
    DrillFailed, ManifestRef, Mark, ObjectId, PartRecord, PartStatus, PointState, RecoveryId, RestoreId, SourceKind,
    SourceName,
};

use super::*;

const REPOSITORY: &str = "repository-1";

fn open(directory: &Path) -> Opened {
    Catalog::open(directory, REPOSITORY).unwrap()
}

fn site(name: &str) -> SiteId {
    SiteId::new(name).unwrap()
}

fn handle(byte: u8) -> SiteHandle {
    SiteHandle([byte; 16])
}

fn head(generation: u64, byte: u8) -> Head {
    Head { generation: Generation(generation), hash: [byte; 32] }
}

fn summary() -> SiteSummary {
    SiteSummary {
        latest: Some(SnapshotId([7; 8])),
        latest_at: Some(Timestamp(1_700_000_000_000_000)),
        logical_bytes: 123,
        entries: 4,
        good: 3,
        incomplete: 2,
        suspect: 1,
        undo: 5,
        holds: 6,
        has_intent: true,
        proven: Some(Proven {
            at: Timestamp(11),
            moment: Timestamp(10),
            took: std::time::Duration::from_millis(70),
            drill: RecoveryId([8; 8]),
        }),
        drill_failed: Some(DrillFailed { at: Timestamp(12), drill: RecoveryId([9; 8]) }),
        standing: Some(Standing {
            first_at: Some(Timestamp(3)),
            newest: Some(NewestSnapshot { at: Timestamp(8), mark: Mark::Suspect, reason: Some("it shrank".into()) }),
            read_back_till: Some(Timestamp(5)),
            intent_opened_at: None,
        }),
    }
}

fn audit_mark(number: u64, byte: u8) -> AuditMark {
    AuditMark { number: lifeboat_model::AuditNumber(number), hash: [byte; 32] }
}

#[test]
fn the_mark_of_the_audit_log_never_sinks_and_is_there_after_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let mut catalog = open(dir.path()).catalog;
    assert_eq!(catalog.audit_mark().unwrap(), None);
    for (number, byte, want) in [(3, 1, (3, 1)), (2, 2, (3, 1)), (3, 2, (3, 1)), (4, 3, (4, 3))] {
        catalog.note_audit(&audit_mark(number, byte)).unwrap();
        assert_eq!(catalog.audit_mark().unwrap(), Some(audit_mark(want.0, want.1)));
    }
    drop(catalog);
    assert_eq!(open(dir.path()).catalog.audit_mark().unwrap(), Some(audit_mark(4, 3)));
}

fn site_head(name: &str, number: u8, head: Head) -> SiteHead {
    SiteHead { site: site(name), handle: handle(number), head, summary: summary() }
}

fn run_seen(number: u64, sites: Vec<(SiteHandle, RunSite)>) -> RunSeen {
    RunSeen { number: RunNumber(number), finished_at: Timestamp(9), sites }
}

fn run_site(name: &str, outcome: RunOutcome) -> RunSite {
    RunSite {
        site: site(name),
        generation: Generation(1),
        snapshot: Some(SnapshotId([9; 8])),
        seen_at: Timestamp(5),
        outcome,
    }
}

#[test]
fn what_is_noted_is_there_after_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lifeboat.catalog");
    let opened = open(&path);
    assert!(opened.is_new && opened.set_aside.is_none());
    let mut catalog = opened.catalog;
    assert_eq!(catalog.note_head(&site_head("acme", 1, head(3, 3))).unwrap(), Noted::Current);
    catalog.note_head(&site_head("globex", 2, head(1, 1))).unwrap();
    let failed = RunOutcome::Failed { reason: "no".into() };
    catalog.note_run(&run_seen(4, vec![(handle(1), run_site("acme", failed.clone()))])).unwrap();
    drop(catalog);

    let opened = open(&path);
    assert!(!opened.is_new);
    let catalog = opened.catalog;
    assert_eq!(catalog.head(handle(1)).unwrap(), Some(head(3, 3)));
    assert_eq!(catalog.head(handle(9)).unwrap(), None);
    assert_eq!(catalog.last_run().unwrap(), Some(RunNumber(4)));
    let rows = catalog.sites().unwrap();
    assert_eq!(rows.iter().map(|row| row.site.as_str()).collect::<Vec<_>>(), ["acme", "globex"]);
    let run = SiteRun { run: RunNumber(4), seen_at: Timestamp(5), snapshot: Some(SnapshotId([9; 8])), outcome: failed };
    let want =
        SiteRow { site: site("acme"), handle: handle(1), head: head(3, 3), summary: summary(), last_run: Some(run) };
    assert_eq!(rows[0], want);
    assert_eq!(catalog.site(&site("acme")).unwrap(), Some(want));
    assert_eq!(rows[1].last_run, None);
    assert_eq!(catalog.site(&site("none")).unwrap(), None);
}

#[test]
fn a_high_water_mark_never_sinks() {
    let mut catalog = Catalog::in_memory(REPOSITORY).unwrap();
    let mut check = |noted: Head, want: Noted, after: Head| {
        assert_eq!(catalog.note_head(&site_head("acme", 1, noted)).unwrap(), want, "{noted:?}");
        assert_eq!(catalog.head(handle(1)).unwrap(), Some(after));
    };
    check(head(5, 1), Noted::Current, head(5, 1));
    check(head(4, 2), Noted::Older { known: head(5, 1) }, head(5, 1));
    check(head(5, 2), Noted::Forked { known: head(5, 1) }, head(5, 1));
    check(head(5, 1), Noted::Current, head(5, 1));
    check(head(6, 2), Noted::Current, head(6, 2));
}

#[test]
fn an_older_run_never_replaces_a_newer_one() {
    let mut catalog = Catalog::in_memory(REPOSITORY).unwrap();
    catalog.note_head(&site_head("acme", 1, head(1, 1))).unwrap();
    let note = |catalog: &mut Catalog, number: u64, outcome: RunOutcome| {
        catalog.note_run(&run_seen(number, vec![(handle(1), run_site("acme", outcome))])).unwrap();
    };
    note(&mut catalog, 7, RunOutcome::Unchanged);
    note(&mut catalog, 6, RunOutcome::Published);
    let run = catalog.sites().unwrap()[0].last_run.clone().unwrap();
    assert_eq!((run.run, run.outcome), (RunNumber(7), RunOutcome::Unchanged));
    assert_eq!(catalog.last_run().unwrap(), Some(RunNumber(7)));
}

#[test]
fn a_fingerprint_comes_back_as_it_was_or_not_at_all() {
    let mut catalog = Catalog::in_memory(REPOSITORY).unwrap();
    let part = |kind, status| PartRecord {
        source: SourceName::new("notes").unwrap(),
        kind,
        status,
        entries: 1,
        logical_bytes: u64::MAX,
        cut_from: Timestamp(-3),
        cut_till: Timestamp(4),
    };
    let snapshot = SnapshotRecord {
        id: SnapshotId([1; 8]),
        generation: Generation(u64::MAX),
        manifest: ManifestRef { id: ObjectId([2; 16]), len: 3, head_offset: 4, head_len: 5 },
        mark: Mark::Good,
        mark_reason: Some("\"no\"".into()),
        state: PointState::Proven,
        cut_from: Timestamp(1),
        cut_till: Timestamp(2),
        parent: None,
        entries: 6,
        logical_bytes: 7,
        added_bytes: 8,
        parts: vec![
            part(SourceKind::Sqlite, PartStatus::Complete),
            part(SourceKind::Files, PartStatus::Incomplete { problems: 9 }),
            part(SourceKind::Files, PartStatus::Failed { reason: "x".into() }),
            part(SourceKind::Files, PartStatus::Absent),
        ],
        restore: Some(RestoreId([3; 8])),
        moment: None,
        is_scan: true,
        forgotten: None,
    };
    let fingerprint = SiteFingerprint { head: head(5, 1), digest: [4; 32], snapshot };
    assert_eq!(catalog.fingerprint(handle(1)).unwrap(), None);
    catalog.note_fingerprint(handle(1), &fingerprint).unwrap();
    assert_eq!(catalog.fingerprint(handle(1)).unwrap().as_ref(), Some(&fingerprint));
    let later = SiteFingerprint { head: head(6, 1), ..fingerprint };
    catalog.note_fingerprint(handle(1), &later).unwrap();
    assert_eq!(catalog.fingerprint(handle(1)).unwrap(), Some(later));
    catalog.connection.execute("UPDATE fingerprint SET snapshot = '{}'", []).unwrap();
    assert_eq!(catalog.fingerprint(handle(1)).unwrap(), None);
    catalog.clear().unwrap();
}

#[test]
fn nobody_else_can_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lifeboat.catalog");
    let mut catalog = open(&path).catalog;
    catalog.note_head(&site_head("acme", 1, head(1, 1))).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    for file in std::fs::read_dir(&path).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600, "{:?}", file.path());
    }
}

#[test]
fn whatever_is_there_instead_is_moved_aside_and_begun_anew() {
    let check = |name: &str, spoil: &dyn Fn(&Path), reason: &str| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lifeboat.catalog");
        let mut catalog = open(&path).catalog;
        catalog.note_head(&site_head("acme", 1, head(1, 1))).unwrap();
        drop(catalog);
        spoil(&path.join(FILE));
        let spoilt = std::fs::read(path.join(FILE)).unwrap();
        for number in 1..=2 {
            let opened = open(&path);
            let aside = opened.set_aside.unwrap_or_else(|| panic!("{name}: was not set aside"));
            assert!(aside.reason.contains(reason), "{name}: {}", aside.reason);
            assert!(aside.to.ends_with(format!("catalog.sqlite.aside-{number}")), "{:?}", aside.to);
            assert!(std::fs::read(&aside.to).unwrap() == spoilt, "{name}: it was changed");
            assert!(opened.is_new && opened.catalog.sites().unwrap().is_empty());
            drop(opened.catalog);
            assert!(open(&path).set_aside.is_none(), "{name}: the new one is good");
            std::fs::write(path.join(FILE), &spoilt).unwrap();
        }
    };
    let sql = |file: &Path, sql: &str| {
        let connection = Connection::open(file).unwrap();
        connection.execute_batch(sql).unwrap();
        connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE").unwrap();
    };
    check("garbage", &|file| std::fs::write(file, [0x5a; 5000]).unwrap(), "not a database");
    check(
        "a torn file",
        &|file| {
            truncate(file, 100);
        },
        "",
    );
    check("newer", &|file| sql(file, "PRAGMA user_version = 99"), "it is of version 99");
    check("foreign", &|file| sql(file, "PRAGMA application_id = 7"), "another program's database");
    check("no owner", &|file| sql(file, "DROP TABLE repository"), "no such table");
}

#[test]
fn one_that_was_begun_anew_knows_that_it_does_not_know_every_site() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lifeboat.catalog");
    let mut catalog = open(&path).catalog;
    catalog.note_head(&site_head("acme", 1, head(1, 1))).unwrap();
    assert!(!catalog.is_whole().unwrap());
    catalog.note_whole().unwrap();
    drop(catalog);
    let mut catalog = open(&path).catalog;
    assert!(catalog.is_whole().unwrap());
    catalog.clear().unwrap();
    assert!(!catalog.is_whole().unwrap());
    // Of before there was such a mark.
    catalog.connection.execute_batch("DROP TABLE whole").unwrap();
    drop(catalog);
    assert!(!open(&path).catalog.is_whole().unwrap());
}

#[test]
fn a_catalog_of_another_repository_is_refused_and_stays_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lifeboat.catalog");
    drop(open(&path).catalog);
    for _ in 0..2 {
        let refused = Catalog::open(&path, "another").map(|_| ()).unwrap_err();
        assert!(matches!(&refused, Error::OtherRepository { file } if file.ends_with(FILE)), "{refused}");
    }
    assert!(open(&path).set_aside.is_none());
}

fn truncate(file: &Path, len: u64) {
    std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(len).unwrap();
}

#[test]
fn a_page_of_garbage_is_an_error_or_harmless_and_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lifeboat.catalog");
    let mut catalog = open(&path).catalog;
    for number in 0..100 {
        catalog.note_head(&site_head(&format!("site-{number}"), number, head(1, 1))).unwrap();
    }
    drop(catalog);
    let good = std::fs::read(path.join(FILE)).unwrap();
    for at in (0..good.len()).step_by(257) {
        let mut bytes = good.clone();
        let end = (at + 64).min(bytes.len());
        bytes[at..end].fill(0xff);
        std::fs::write(path.join(FILE), &bytes).unwrap();
        let _ = std::fs::remove_file(path.join("catalog.sqlite-wal"));
        if let Ok(opened) = Catalog::open(&path, REPOSITORY) {
            let mut catalog = opened.catalog;
            let _ = catalog.sites();
            let _ = catalog.note_head(&site_head("acme", 200, head(1, 1)));
        }
    }
}

#[test]
fn what_is_in_the_way_is_an_error_and_not_a_loss() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lifeboat.catalog");
    std::fs::write(&path, "a file").unwrap();
    assert!(matches!(Catalog::open(&path, REPOSITORY), Err(Error::Unusable { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"a file");
    let inside = dir.path().join("none/lifeboat.catalog");
    let error = Catalog::open(&inside, REPOSITORY).err().unwrap();
    assert!(error.to_string().contains("none/lifeboat.catalog"), "{error}");
}

#[test]
fn two_processes_share_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lifeboat.catalog");
    let threads: Vec<_> = (0..8u8)
        .map(|number| {
            let path = path.clone();
            std::thread::spawn(move || {
                for round in 1..=20 {
                    let mut catalog = Catalog::open(&path, REPOSITORY).unwrap().catalog;
                    catalog.note_head(&site_head(&format!("site-{number}"), number, head(round, 1))).unwrap();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let rows = open(&path).catalog.sites().unwrap();
    assert_eq!((rows.len(), rows.iter().all(|row| row.head.generation == Generation(20))), (8, true));
}

#[test]
fn a_rebuild_names_the_marks_that_the_bucket_no_longer_reaches() {
    let mut catalog = Catalog::in_memory(REPOSITORY).unwrap();
    for (number, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        catalog.note_head(&site_head(name, number as u8, head(5, 1))).unwrap();
    }
    catalog.note_run(&run_seen(3, vec![])).unwrap();
    catalog.note_audit(&audit_mark(5, 1)).unwrap();
    let content = Content {
        sites: vec![site_head("a", 0, head(6, 2)), site_head("b", 1, head(4, 1)), site_head("c", 2, head(5, 9))],
        runs: vec![run_seen(2, vec![(handle(0), run_site("a", RunOutcome::Published))])],
        audit: Some(audit_mark(4, 1)),
    };
    let lost: Vec<String> = catalog
        .marks()
        .unwrap()
        .lost(&content)
        .into_iter()
        .map(|lost| match lost {
            Lost::Site { row, found } => format!("{} {:?}", row.site, found.map(|found| found.generation.0)),
            Lost::Run { known, found } => format!("run {known} {:?}", found.map(|found| found.0)),
            Lost::Audit { known, found } => format!("audit {known} {:?}", found.map(|found| found.0)),
        })
        .collect();
    assert_eq!(lost, ["b Some(4)", "c Some(5)", "d None", "run 3 Some(2)", "audit 5 Some(4)"]);
    catalog.replace(&content).unwrap();
    let marks = catalog.marks().unwrap();
    // Another process goes on while the bucket is read.
    catalog.note_head(&site_head("a", 0, head(7, 3))).unwrap();
    assert_eq!(marks.lost(&content), []);
    assert_eq!(catalog.sites().unwrap().len(), 3);
    assert!(catalog.sites().unwrap()[0].last_run.is_some());
    assert_eq!(catalog.audit_mark().unwrap(), Some(audit_mark(4, 1)));
    catalog.clear().unwrap();
    assert_eq!((catalog.sites().unwrap().len(), catalog.last_run().unwrap()), (0, None));
    assert_eq!(catalog.audit_mark().unwrap(), None);
}

#[test]
fn footers_are_remembered_the_newest_of_them_and_gone_with_a_rebuild() {
    let dir = tempfile::tempdir().unwrap();
    let mut catalog = open(dir.path()).catalog;
    for number in 0..1_000_u32 {
        catalog.note_footer_within(&format!("log/app/{number}"), &[number as u8; 100], 20_000).unwrap();
    }
    let known = |catalog: &Catalog| {
        (0..1_000_u32).filter(|number| catalog.footer(&format!("log/app/{number}")).unwrap().is_some()).count()
    };
    assert!((50..=200).contains(&known(&catalog)), "{}", known(&catalog));
    assert_eq!(catalog.footer("log/app/999").unwrap(), Some(vec![231; 100]), "the newest one stays");
    assert_eq!(catalog.footer("log/app/0").unwrap(), None);
    catalog.note_footer_within("log/app/999", b"another", 20_000).unwrap();
    catalog.note_footer_within("log/app/large", &[0; 10_000], 20_000).unwrap();
    drop(catalog);
    let mut catalog = open(dir.path()).catalog;
    assert_eq!(catalog.footer("log/app/999").unwrap(), Some(b"another".to_vec()));
    assert_eq!(catalog.footer("log/app/large").unwrap(), None, "one must not push out all others");
    catalog.replace(&Content::default()).unwrap();
    assert_eq!(known(&catalog), 0);
}

#[test]
fn damage_is_remembered_until_a_check_that_reaches_as_far_finds_it_gone() {
    use CheckReach::{All, Share, Structure};
    let dir = tempfile::tempdir().unwrap();
    let mut catalog = open(&dir.path().join("catalog")).catalog;
    let acme = site("acme");
    let mut at = 0;
    let mut check = |reach: CheckReach, findings: u64, want: (Option<i64>, Option<(i64, u64)>)| {
        at += 1;
        let note = CheckNote { at: Timestamp(at), reach, findings, first: "object=`x`".into() };
        catalog.note_check(CheckScope::Site(&acme), &note).unwrap();
        let seen = catalog.checks().unwrap().sites.remove(&acme).unwrap();
        let damage = seen.damage.map(|damage| (damage.found_at.0, damage.findings));
        assert_eq!((seen.read_at.map(|at| at.0), damage), want, "{reach:?} {findings}");
    };
    let half = |turn| Share { percent: 50, turn };
    check(Structure, 0, (None, None));
    check(All, 0, (Some(2), None));
    // Found by looking at names alone, and gone by the same look.
    check(Structure, 3, (Some(2), Some((3, 3))));
    check(Structure, 0, (Some(2), None));
    // Found by reading: no lesser look says that it is over.
    check(half(1), 1, (Some(2), Some((5, 1))));
    check(Structure, 0, (Some(2), Some((5, 1))));
    check(half(1), 0, (Some(2), Some((5, 1))));
    check(half(1), 0, (Some(2), Some((5, 1))));
    // A turn that was left out is a share that nobody read.
    check(half(3), 0, (Some(2), Some((5, 1))));
    check(half(4), 0, (Some(9), None));
    check(All, 2, (Some(9), Some((11, 2))));
    check(All, 1, (Some(9), Some((11, 1))));
    check(All, 0, (Some(13), None));
    let log = SourceName::new("app").unwrap();
    let note = CheckNote { at: Timestamp(1), reach: All, findings: 1, first: "f".into() };
    catalog.note_check(CheckScope::Log(&log), &note).unwrap();
    // What the bucket says is forgotten, and this is not of it.
    catalog.clear().unwrap();
    let seen = catalog.checks().unwrap();
    assert!(seen.logs[&log].damage.is_some() && seen.sites.contains_key(&acme));
}

#[test]
fn the_catalog_that_is_there_is_found_without_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("catalog");
    assert!(Catalog::open_existing(&place).unwrap().is_none());
    drop(open(&place));
    let found = Catalog::open_existing(&place).unwrap().unwrap();
    assert_eq!(found.repository().unwrap(), REPOSITORY);
    std::fs::write(dir.path().join("catalog").join("catalog.sqlite"), "no database").unwrap();
    drop(found);
    assert!(Catalog::open_existing(&place).unwrap().is_none());
}

#[test]
fn a_site_is_new_since_the_first_look_until_it_is_new_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let mut catalog = Catalog::open(directory.path(), "r").unwrap().catalog;
    let mut check = |sites: &[&str], all_answer: bool, now: i64, want: &[i64]| {
        let sites = sites.iter().map(|site| SiteId::new(*site).unwrap()).collect();
        let found = catalog.new_sites(&sites, all_answer, Timestamp(now)).unwrap();
        assert_eq!(found.values().map(|at| at.0).collect::<Vec<i64>>(), want);
    };
    check(&["a"], true, 10, &[10]);
    check(&["a", "b"], true, 20, &[10, 20]);
    check(&["b"], true, 30, &[20]);
    check(&["a", "b"], true, 40, &[40, 20]);
    // While a source is away, nobody is forgotten.
    check(&["a"], false, 50, &[40]);
    check(&["a", "b"], true, 60, &[40, 20]);
    // A clock that was ahead is not believed for ever.
    check(&["a"], true, 15, &[15]);
}

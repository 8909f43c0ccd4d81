//! Scans of files between two backups: what they publish, what they leave alone, and which moments they make restorable.

use std::sync::Arc;
use std::time::Duration;

use lifeboat_engine::{
    AnySource, Engine, Fleet, RestorePoint, ScanReport, ScanRequest, Scanner, SiteOutcome, choose_point, this_process,
};
use lifeboat_model::{
    CommitEvent, Mark, PointInTime, RestoreId, RestoreIntent, RestoreOutcome, SnapshotRecord, SourceName, Timestamp,
};
use lifeboat_source::PathTemplate;
use lifeboat_source::files::FilesSource;
use lifeboat_store::{MemoryStore, Store};
use lifeboat_testkit::fault_store::{FaultStore, Faults};
use lifeboat_testkit::world::{World, backup_all, restore_request, run_restore, site_id};

struct Scans {
    world: World,
    engine: Engine,
    faults: Arc<Faults>,
}

fn request(watches: bool, walk_all_every: Duration) -> ScanRequest {
    ScanRequest { source: SourceName::new("files").unwrap(), every: ScanRequest::EVERY, walk_all_every, watches }
}

/// Every round walks every site.
fn walker() -> Scanner {
    Scanner::new(request(false, Duration::ZERO))
}

impl Scans {
    /// Two sites of files and a database, backed up once.
    async fn new() -> Self {
        let store = FaultStore::new(MemoryStore::new());
        let faults = store.faults();
        let store: Arc<dyn Store> = Arc::new(store);
        let world = World::new(store.clone()).await;
        world.make_site("acme", 1, 100);
        world.make_site("beta", 2, 100);
        let engine = world.engine(store).await.unwrap();
        backup_all(&engine).await.unwrap();
        Self { world, engine, faults }
    }

    /// The same of files and nothing else.
    async fn of_files_alone() -> Self {
        let Self { world, faults, engine } = Self::new().await;
        let template = PathTemplate::parse(&format!("{}/srv/{{site}}/files", world.root.display())).unwrap();
        let files = FilesSource::new(SourceName::new("files").unwrap(), template, Vec::new());
        let engine = Engine { fleet: Fleet::new(vec![AnySource::Files(files)]), ..engine };
        std::fs::write(world.site_dir("acme").join("files/first.txt"), "of the first night").unwrap();
        backup_all(&engine).await.unwrap();
        Self { world, engine, faults }
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.world.site_dir("acme").join("files").join(path)
    }

    async fn round(&self, scanner: &mut Scanner) -> ScanReport {
        scanner.round(&self.engine).await.unwrap()
    }

    async fn snapshots(&self) -> Vec<SnapshotRecord> {
        self.engine.site(&site_id("acme")).await.unwrap().state().snapshots.clone()
    }
}

fn published(report: &ScanReport) -> Vec<&str> {
    assert!(report.failed.is_empty(), "{report:?}");
    report.published.iter().map(|site| site.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_has_the_files_of_a_site_that_changed_and_is_never_taken_for_the_site() {
    let scans = Scans::new().await;
    std::fs::write(scans.path("new.txt"), "since the night").unwrap();
    // Whoever opened what stands here now would fail, and the scan with it.
    let database = scans.world.site_dir("acme").join("notes.db");
    std::fs::rename(&database, database.with_extension("away")).unwrap();
    std::fs::create_dir(&database).unwrap();
    let report = scans.round(&mut walker()).await;
    assert_eq!((published(&report), report.walked), (vec!["acme"], 2));
    let records = scans.snapshots().await;
    let [night, scan] = records.as_slice() else { panic!("{records:#?}") };
    assert_eq!((scan.is_scan, scan.mark, scan.parent), (true, Mark::Incomplete, Some(night.id)));
    assert_eq!(scan.parts.iter().map(|part| part.source.as_str()).collect::<Vec<_>>(), ["files"]);
    // The large file was not stored again, and not read either: it is named by its parent's chunks.
    assert!(scan.added_bytes < 100_000, "{scan:#?}");
    std::fs::remove_dir(&database).unwrap();
    std::fs::rename(database.with_extension("away"), &database).unwrap();

    let site = scans.engine.site(&site_id("acme")).await.unwrap();
    assert_eq!(choose_point(site.state(), &PointInTime::Latest).unwrap().id, night.id);
    assert_eq!(choose_point(site.state(), &PointInTime::Time(Timestamp::now())).unwrap().id, night.id);
    // The next night is compared with the one before.
    let nights = backup_all(&scans.engine).await.unwrap();
    let SiteOutcome::Published(next) = &nights.sites[0].outcome else { panic!("{nights:#?}") };
    assert_eq!((next.parent, next.mark, next.is_scan), (Some(night.id), Mark::Good, false));
    assert!(matches!(nights.sites[1].outcome, SiteOutcome::Unchanged(_)), "{nights:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_that_did_not_change_publish_nothing_and_soon_ask_for_nothing() {
    let scans = Scans::new().await;
    let before = scans.snapshots().await;
    let mut scanner = walker();
    assert_eq!(published(&scans.round(&mut scanner).await), [""; 0]);
    let asked = scans.faults.count();
    for _ in 0..3 {
        let report = scans.round(&mut scanner).await;
        assert_eq!((published(&report), report.walked), (vec![], 2));
    }
    assert_eq!(scans.faults.count(), asked);
    // Its database is no matter.
    scans.world.write_rows("acme", 7, 150);
    assert_eq!(published(&scans.round(&mut scanner).await), [""; 0]);
    assert_eq!((scans.faults.count(), scans.snapshots().await), (asked, before));
    // A mode alone is a change, and stores no content.
    std::fs::set_permissions(scans.path("a.txt"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(published(&scans.round(&mut scanner).await), ["acme"]);
}

// Explains invariant: hints-only-hint
#[tokio::test(flavor = "multi_thread")]
async fn hints_name_the_sites_to_walk_and_what_they_miss_is_found_when_all_are_walked() {
    let scans = Scans::new().await;
    std::fs::write(scans.path("before.txt"), "written before anybody watched").unwrap();
    let mut scanner = Scanner::new(request(true, Duration::from_millis(1_500)));
    let report = scans.round(&mut scanner).await;
    assert_eq!((published(&report), report.walked, &report.unwatched), (vec!["acme"], 2, &None));
    let report = scans.round(&mut scanner).await;
    assert_eq!(report.walked, 0);
    std::fs::write(scans.path("deep/er/new.txt"), "with a hint").unwrap();
    scanner.listen(&scans.engine);
    let report = scans.round(&mut scanner).await;
    assert_eq!((published(&report), report.walked), (vec!["acme"], 1));
    // By a name elsewhere: nothing is told of the directory that is watched.
    std::fs::hard_link(scans.path("deep/er/new.txt"), scans.world.root.join("elsewhere")).unwrap();
    scans.round(&mut scanner).await;
    std::fs::write(scans.world.root.join("elsewhere"), "without a hint: nobody is told").unwrap();
    assert_eq!(scans.round(&mut scanner).await.walked, 0);
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    let report = scans.round(&mut scanner).await;
    assert_eq!((published(&report), report.walked), (vec!["acme"], 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_being_restored_is_scanned_when_that_is_over() {
    let scans = Scans::new().await;
    let mut scanner = Scanner::new(request(true, ScanRequest::WALK_ALL_EVERY));
    scans.round(&mut scanner).await;
    let mut site = scans.engine.site(&site_id("acme")).await.unwrap();
    let restore = RestoreId([5; 8]);
    let intent = RestoreIntent {
        restore,
        snapshot: site.state().snapshots[0].id,
        parts: Vec::new(),
        opened_at: Timestamp::now(),
        owner: this_process(),
        takes_over: None,
        moment: None,
        keeps_later: false,
    };
    site.commit(&this_process(), |_, _| Ok(CommitEvent::RestoreOpened(intent.clone()))).await.unwrap();
    std::fs::write(scans.path("half.txt"), "half restored").unwrap();
    let from = scans.faults.count();
    for _ in 0..2 {
        let report = scans.round(&mut scanner).await;
        assert_eq!((published(&report), report.walked), (vec![], 1));
    }
    // Nothing was read or stored for it meanwhile.
    let calls = scans.faults.calls().split_off(from);
    assert!(!calls.iter().any(|call| call.name.contains("/manifest/")), "{calls:#?}");
    let closed = CommitEvent::RestoreClosed { restore, outcome: RestoreOutcome::Completed };
    site.commit(&this_process(), |_, _| Ok(closed.clone())).await.unwrap();
    assert_eq!(published(&scans.round(&mut scanner).await), ["acme"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_was_never_backed_up_waits_and_a_source_that_has_failed_is_not_scanned() {
    let scans = Scans::new().await;
    let mut scanner = walker();
    scans.world.make_site("new", 3, 5);
    let report = scans.round(&mut scanner).await;
    assert_eq!((published(&report), report.walked), (vec![], 3));
    backup_all(&scans.engine).await.unwrap();
    std::fs::rename(scans.world.root.join("srv"), scans.world.root.join("not-mounted")).unwrap();
    assert!(walker().round(&scans.engine).await.is_err());
    std::fs::create_dir(scans.world.root.join("srv")).unwrap();
    let error = walker().round(&scans.engine).await.unwrap_err().to_string();
    assert!(error.contains("more than a fifth vanished"), "{error}");
}

/// Files have times of their own, to the microsecond: the moment must lie clearly between.
async fn moment() -> Timestamp {
    tokio::time::sleep(Duration::from_millis(20)).await;
    let now = Timestamp::now();
    tokio::time::sleep(Duration::from_millis(20)).await;
    now
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_and_went_between_two_nights_is_restorable_as_the_scans_saw_it() {
    let scans = Scans::of_files_alone().await;
    let (mut scanner, file, fleeting) = (walker(), scans.path("first.txt"), scans.path("new/fleeting.txt"));
    let mut moments = Vec::new();
    let mut note = |at: Timestamp, text: Option<&str>, is_there: bool| {
        moments.push((at, text.map(str::to_owned), is_there));
    };
    note(moment().await, Some("of the first night"), false);
    std::fs::create_dir(scans.path("new")).unwrap();
    std::fs::write(&fleeting, "between two nights").unwrap();
    std::fs::write(&file, "of the morning").unwrap();
    note(moment().await, Some("of the morning"), true);
    scans.round(&mut scanner).await;
    note(moment().await, Some("of the morning"), true);
    std::fs::remove_file(&file).unwrap();
    std::fs::remove_dir_all(scans.path("new")).unwrap();
    scans.round(&mut scanner).await;
    note(moment().await, None, false);
    std::fs::write(&file, "of the evening").unwrap();
    note(moment().await, Some("of the evening"), false);
    scans.round(&mut scanner).await;
    std::fs::write(&file, "of the second night").unwrap();
    backup_all(&scans.engine).await.unwrap();
    note(moment().await, Some("of the second night"), false);
    let mut last = scans.round(&mut scanner).await;
    assert!(last.published.is_empty(), "{:?}", std::mem::take(&mut last));
    for (at, text, is_there) in moments {
        let request = restore_request("acme", RestorePoint::At(PointInTime::Time(at)));
        run_restore(&scans.engine, &request).await.unwrap_or_else(|error| panic!("{at}: {error}"));
        let found = std::fs::read_to_string(&file).ok();
        assert_eq!((found, fleeting.exists()), (text, is_there), "{at}");
    }
}

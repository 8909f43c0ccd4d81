//! The change log of a source while everything goes wrong: two writers, kills, lost answers, bytes that rot.

use std::sync::Arc;

use lifeboat_format::SecretKey;
use lifeboat_model::{
    ChangedColumn, ChangedTable, ChangedValue, EpochFacts, EpochId, EpochReason, Fault, Faulty, Lsn, RowChange,
    SegmentNumber, SiteId, SourceKind, SourceName, Timestamp, TransactionHead, TransactionId, WriterIdentity,
};
use lifeboat_repo::{Appender, ChangeLog, Error, Repository, SegmentDraft};
use lifeboat_store::{MemoryStore, ObjectName, Retry, RetryPolicy, Store};
use lifeboat_testkit::fault_store::{Damage, Failure, FaultStore};

pub fn source() -> SourceName {
    SourceName::new("app").unwrap()
}

pub fn sites() -> [SiteId; 2] {
    [SiteId::new("acme").unwrap(), SiteId::new("beta").unwrap()]
}

pub fn writer() -> WriterIdentity {
    WriterIdentity { host: "h".into(), machine: "m".into(), boot: "b".into(), pid: 1, started: 1 }
}

pub fn facts() -> EpochFacts {
    EpochFacts {
        source: source(),
        kind: SourceKind::Postgres,
        system_identifier: "1".into(),
        timeline: 1,
        slot: "slot".into(),
        database: "app".into(),
        begins: Lsn(100),
        snapshot: "1:1:".into(),
        begun_at: Timestamp(1),
        why: EpochReason::First,
        note: String::new(),
        sound_till: None,
        partly: Vec::new(),
    }
}

/// One transaction with a row of each site; `by` tells one writer's from another's.
pub fn draft(commit: u64, by: &str) -> SegmentDraft {
    let columns = ["id", "by"].map(|name| ChangedColumn { name: name.into(), type_name: "text".into() }).to_vec();
    let table = Arc::new(ChangedTable { name: "issues".into(), columns, key: vec![0] });
    let head = TransactionHead { id: TransactionId(commit), commit: Lsn(commit), committed_at: Timestamp(1) };
    let mut draft = SegmentDraft::new();
    for (sequence, site) in sites().iter().enumerate() {
        let row = [commit.to_string(), by.to_owned()].map(|text| ChangedValue::Text(text.into_bytes())).to_vec();
        draft.push(site, (&head, sequence as u64), &table, &RowChange::Insert { row }).unwrap();
    }
    draft
}

/// A repository in memory, with an epoch and as many segments.
pub async fn new_log(segments: u64) -> (Arc<MemoryStore>, SecretKey) {
    let (store, master) = (Arc::new(MemoryStore::new()), SecretKey::generate().unwrap());
    let (repository, _) = Repository::init(store.clone(), &master).await.unwrap();
    let log = ChangeLog::open(&repository, &source()).await.unwrap();
    let mut appender = log.begin_epoch(facts(), &writer()).await.unwrap();
    for number in 1..=segments {
        appender.append(draft(100 + number, "first"), Lsn(100 + number)).await.unwrap();
    }
    (store, master)
}

pub async fn open(store: Arc<dyn Store>, master: &SecretKey) -> Result<ChangeLog, Error> {
    ChangeLog::open(&Repository::open(store, master).await?, &source()).await
}

async fn appender(store: Arc<dyn Store>, master: &SecretKey) -> Result<Appender, Error> {
    Ok(open(store, master).await?.appender().await?.unwrap())
}

/// Everything the log says of both sites: commit and writer of each row.
pub async fn read_all(store: Arc<dyn Store>, master: &SecretKey) -> Result<Vec<String>, Error> {
    let log = open(store, master).await?;
    let Some(newest) = log.newest() else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    let Some(segment) = newest.segment else { return Ok(all) };
    let segments = log.segments(newest.epoch, SegmentNumber(1)..=segment.number).await?;
    for site in sites() {
        let read = log.read_site(&site, segments.clone(), |head, change| {
            all.push(format!("{site} {} {:?}", head.commit.0, change.change));
            Ok::<(), String>(())
        });
        read.await?.unwrap();
    }
    for segment in &segments {
        let footer = log.footer(segment).await?;
        all.push(format!("{:?}", log.shared(segment, &footer).await?));
    }
    Ok(all)
}

// Explains invariant: one-log
#[tokio::test(flavor = "multi_thread")]
async fn of_two_writers_one_wins_each_segment_and_the_other_stops() {
    for round in 0..20 {
        let (store, master) = new_log(1).await;
        let mut one = appender(store.clone(), &master).await.unwrap();
        let mut two = appender(store.clone(), &master).await.unwrap();
        let one = tokio::spawn(async move { one.append(draft(102, "one"), Lsn(102)).await.map(|_| ()).map(|()| one) });
        let two = tokio::spawn(async move { two.append(draft(102, "two"), Lsn(102)).await.map(|_| ()).map(|()| two) });
        let (by_one, by_two) = tokio::join!(one, two);
        let (won, lost) = match (by_one.unwrap(), by_two.unwrap()) {
            (Ok(won), Err(lost)) => ((won, "one"), lost),
            (Err(lost), Ok(won)) => ((won, "two"), lost),
            (one, two) => panic!("round {round}: {} and {} won", one.is_ok(), two.is_ok()),
        };
        assert!(
            matches!(&lost, Error::LogFenced { epoch: EpochId(1), number: SegmentNumber(2), .. }),
            "round {round}: {lost}"
        );
        assert_eq!((lost.fault(), lost.fault().exit_code()), (Fault::Fenced, 12));
        let (mut winner, name) = won;
        winner.append(draft(103, name), Lsn(103)).await.unwrap();
        let all = read_all(store, &master).await.unwrap();
        let bytes = format!("{:?}", name.as_bytes());
        let of_winner = all.iter().filter(|line| line.contains(&bytes)).count();
        assert_eq!(of_winner, 4, "round {round}: two sites in two segments: {all:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_begin_an_epoch_one_wins() {
    let (store, master) = new_log(1).await;
    let (one, two) = (open(store.clone(), &master).await.unwrap(), open(store.clone(), &master).await.unwrap());
    let begin = |log: ChangeLog| tokio::spawn(async move { log.begin_epoch(facts(), &writer()).await.map(|_| ()) });
    let (one, two) = tokio::join!(begin(one), begin(two));
    let results = [one.unwrap(), two.unwrap()];
    let newest = open(store, &master).await.unwrap().newest().unwrap().epoch;
    // Either they met, or one came after the other and began one more.
    let won = results.iter().filter(|result| result.is_ok()).count() as u32;
    assert_eq!(EpochId(1 + won), newest, "{results:?}");
    for lost in results.into_iter().filter_map(Result::err) {
        assert!(matches!(lost, Error::LogFenced { .. }), "{lost}");
    }
}

/// What one process of a capture does: begins an epoch if there is none, and appends two segments.
async fn capture(store: Arc<dyn Store>, master: &SecretKey) -> Result<(), Error> {
    let log = open(store, master).await?;
    let mut appender = match log.appender().await? {
        Some(appender) => appender,
        None => log.begin_epoch(facts(), &writer()).await?,
    };
    // What is there already is not appended again.
    for commit in [101, 102] {
        if appender.complete_till() < Lsn(commit) {
            appender.append(draft(commit, "first"), Lsn(commit)).await?;
        }
    }
    Ok(())
}

pub async fn new_repository() -> (Arc<MemoryStore>, SecretKey) {
    let (store, master) = (Arc::new(MemoryStore::new()), SecretKey::generate().unwrap());
    Repository::init(store.clone(), &master).await.unwrap();
    (store, master)
}

/// The rows that `capture` leaves, however often it had to be run.
async fn expect_captured(store: Arc<dyn Store>, master: &SecretKey, context: &str) {
    let all = read_all(store, master).await.unwrap_or_else(|error| panic!("{context}: {error}"));
    let rows: Vec<_> = all.iter().filter_map(|line| line.split(" Insert").next()?.split_once(' ')).collect();
    let rows: Vec<_> = rows.into_iter().filter(|(site, _)| *site == "acme" || *site == "beta").collect();
    assert_eq!(rows, [("acme", "101"), ("acme", "102"), ("beta", "101"), ("beta", "102")], "{context}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_killed_at_any_operation_leaves_a_log_that_can_be_read_and_goes_on_exactly_once() {
    let mut operation = 1;
    loop {
        for failure in [Failure::KillBefore, Failure::KillAfter] {
            let (memory, master) = new_repository().await;
            let store = FaultStore::new(memory.clone());
            let faults = store.faults();
            faults.at(operation, failure);
            let ended = capture(Arc::new(store), &master).await;
            if !faults.is_killed() {
                ended.unwrap();
                assert!(operation > 15, "there are {operation} operations");
                println!("killed at {} operations", operation - 1);
                return;
            }
            let context = format!("killed at operation {operation}: {:?}", faults.calls().last());
            assert!(ended.is_err(), "{context}");
            read_all(memory.clone(), &master).await.unwrap_or_else(|error| panic!("{context}: {error}"));
            capture(memory.clone(), &master).await.unwrap_or_else(|error| panic!("{context}: {error}"));
            expect_captured(memory, &master, &context).await;
        }
        operation += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_at_any_operation_is_told_from_another_writer() {
    let quick = std::time::Duration::from_millis(1);
    let policy = RetryPolicy { delay_first: quick, delay_max: quick, ..RetryPolicy::default() };
    for retries in [false, true] {
        for operation in 1.. {
            let (memory, master) = new_repository().await;
            let store = FaultStore::new(memory.clone());
            let faults = store.faults();
            faults.at(operation, Failure::Unclear);
            let store: Arc<dyn Store> = if retries { Arc::new(Retry::new(store, policy)) } else { Arc::new(store) };
            let ended = capture(store, &master).await;
            if faults.count() < operation {
                break;
            }
            let context = format!("retries: {retries}, operation {operation}: {:?}", faults.calls()[operation - 1]);
            match ended {
                Ok(()) => {}
                Err(error) => assert!(!retries && error.fault() == Fault::Retry, "{context}: {error}"),
            }
            capture(memory.clone(), &master).await.unwrap_or_else(|error| panic!("{context}: {error}"));
            expect_captured(memory, &master, &context).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_byte_of_a_segment_that_rots_is_damage() {
    let (memory, master) = new_log(2).await;
    let log = open(memory.clone(), &master).await.unwrap();
    let all = read_all(memory.clone(), &master).await.unwrap();
    for segment in log.segments(EpochId(1), SegmentNumber(1)..=SegmentNumber(2)).await.unwrap() {
        let name = ObjectName::new(log.object_of(&segment)).unwrap();
        for at in 0..segment.len as usize {
            let store = FaultStore::new(memory.clone());
            store.faults().damage(&name, Damage::Flip { at, mask: 0x10 });
            let error = read_all(Arc::new(store), &master).await.expect_err(&format!("{name}: byte {at}"));
            assert_eq!(error.fault(), Fault::Damage, "{name}: byte {at}: {error}");
            assert!(error.to_string().contains(name.as_str()), "{name}: byte {at}: {error}");
        }
    }
    for damage in [Damage::Drop, Damage::Truncate { len: 300 }] {
        let first = log.segments(EpochId(1), SegmentNumber(1)..=SegmentNumber(1)).await.unwrap()[0];
        let store = FaultStore::new(memory.clone());
        store.faults().damage(&ObjectName::new(log.object_of(&first)).unwrap(), damage.clone());
        let error = read_all(Arc::new(store), &master).await.expect_err(&format!("{damage:?}"));
        assert_eq!(error.fault(), Fault::Damage, "{damage:?}: {error}");
    }
    assert_eq!(read_all(memory, &master).await.unwrap(), all);
}

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_model::{AuditAccount, AuditAction, AuditRecord, AuditSites, Fault, Faulty, SiteId};
use lifeboat_store::{MemoryStore, ObjectName, Store};

use super::*;
use crate::tests::{new_repository, writer};

fn record(command: &str) -> AuditRecord {
    AuditRecord {
        account: AuditAccount::default(),
        action: AuditAction::Read,
        command: command.to_owned(),
        options: Vec::new(),
        closes: None,
        sites: AuditSites::one(SiteId::new("acme").unwrap()),
        targets: Vec::new(),
        exit_code: None,
        details: String::new(),
    }
}

fn name(number: u64) -> ObjectName {
    ObjectName::new(names::audit_entry(AuditNumber(number))).unwrap()
}

/// A repository with so many entries, and the newest one.
async fn written(count: u64) -> (Arc<dyn Store>, Repository, Option<AuditHead>) {
    let (store, _, repository) = new_repository().await;
    let mut head = None;
    for number in 1..=count {
        let appended = repository.append_audit(&writer(), record(&format!("cat {number}")), head).await.unwrap();
        assert_eq!((appended.head.number, appended.lost), (AuditNumber(number), None));
        head = Some(appended.head);
    }
    (store, repository, head)
}

/// The objects that a proof of the log names.
async fn named(repository: &Repository, known: Option<AuditHead>) -> Vec<String> {
    let report = repository.verify_audit(known).await.unwrap();
    report.findings.into_iter().map(|finding| finding.object).collect()
}

async fn replace(store: &Arc<dyn Store>, number: u64, body: Vec<u8>) {
    store.delete(&name(number)).await.unwrap();
    store.create(&name(number), body.into()).await.unwrap();
}

#[tokio::test]
async fn what_was_written_is_read_back_newest_first_and_proven() {
    let (_, repository, head) = written(5).await;
    let report = repository.verify_audit(head).await.unwrap();
    assert_eq!((report.entries, report.newest, report.findings), (5, head, Vec::new()));
    assert_eq!(named(&repository, None).await, Vec::<String>::new());
    let page = repository.audit_reader(1_000).next_page().await.unwrap().unwrap();
    let commands: Vec<String> = page.into_iter().map(|seen| seen.entry.unwrap().record.command).collect();
    assert_eq!(commands, ["cat 5", "cat 4", "cat 3", "cat 2", "cat 1"]);
    let (mut reader, mut pages) = (repository.audit_reader(2), Vec::new());
    while let Some(page) = reader.next_page().await.unwrap() {
        pages.push(page.iter().filter_map(|seen| seen.number).map(|number| number.0).collect::<Vec<_>>());
    }
    assert_eq!(pages, [vec![5, 4], vec![3, 2], vec![1]]);
    let (_, empty, _) = written(0).await;
    assert_eq!(empty.verify_audit(None).await.unwrap(), AuditReport::default());
}

// Explains invariant: audit-chain
#[tokio::test]
async fn an_entry_that_was_changed_moved_or_taken_away_is_named() {
    for number in 1..=5 {
        let (store, repository, head) = written(5).await;
        let body = store.get(&name(number)).await.unwrap().to_vec();
        let check = async |what: &str| {
            assert_eq!(named(&repository, head).await, [name(number).to_string()], "{what} {number}");
        };
        let mut edited = body.clone();
        edited[150] ^= 1;
        replace(&store, number, edited).await;
        check("edited").await;
        // By somebody who has the key: sealed again, and no longer what the next entry, or the host, says.
        let mut entry = decode(&repository, number, &body);
        entry.record.command = "ls".to_owned();
        let sealed = encode_audit_entry(repository.keys().object_keys(), &entry).unwrap();
        replace(&store, number, sealed).await;
        check("written again").await;
        let other = store.get(&name(if number == 1 { 2 } else { 1 })).await.unwrap();
        replace(&store, number, other.to_vec()).await;
        check("copied over").await;
        store.delete(&name(number)).await.unwrap();
        check("removed").await;
        let without = named(&repository, None).await;
        assert_eq!(without.is_empty(), number == 5, "only a memory finds the newest one gone");
    }
}

#[tokio::test]
async fn what_somebody_puts_there_is_named_and_stops_nobody() {
    let (store, repository, head) = written(3).await;
    let copy = store.get(&name(1)).await.unwrap();
    store.create(&name(4), copy).await.unwrap();
    let appended = repository.append_audit(&writer(), record("restore"), head).await.unwrap();
    assert_eq!(appended.head.number, AuditNumber(5));
    assert_eq!(named(&repository, Some(appended.head)).await, [name(4).to_string()]);
    let foreign = ObjectName::new("audit/zero").unwrap();
    store.create(&foreign, "x".into()).await.unwrap();
    assert_eq!(named(&repository, None).await, [name(4).to_string(), foreign.to_string()]);
    let far = name(u64::MAX);
    store.create(&far, "x".into()).await.unwrap();
    let error = repository.append_audit(&writer(), record("restore"), head).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Damage);
    assert!(error.to_string().contains(far.as_str()), "{error}");
}

#[tokio::test]
async fn a_store_that_lost_its_newest_entries_gets_none_in_their_place() {
    let (store, repository, head) = written(4).await;
    store.delete(&name(4)).await.unwrap();
    store.delete(&name(3)).await.unwrap();
    let appended = repository.append_audit(&writer(), record("restore"), head).await.unwrap();
    assert_eq!((appended.head.number, appended.lost), (AuditNumber(5), Some(AuditNumber(2))));
    let report = repository.verify_audit(Some(appended.head)).await.unwrap();
    let finding = report.findings.first().unwrap();
    assert_eq!((report.findings.len(), &finding.object), (1, &name(4).to_string()));
    assert!(finding.detail.contains("from=`3`, till=`4`"), "{finding:?}");
    for number in [1, 2, 5] {
        store.delete(&name(number)).await.unwrap();
    }
    let report = repository.verify_audit(Some(appended.head)).await.unwrap();
    assert!(report.findings[0].detail.contains("from=`1`, till=`5`"), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_append_at_once_everybody_is_in_the_log_once() {
    let (store, _, repository) = new_repository().await;
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let repository = repository.clone();
            tokio::spawn(async move {
                let mut known = None;
                for number in 0..10 {
                    let record = record(&format!("{task} {number}"));
                    known = Some(repository.append_audit(&writer(), record, known).await.unwrap().head);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(store.list(names::AUDIT_PREFIX, None, 1_000).await.unwrap().len(), 80);
    assert_eq!(named(&repository, None).await, Vec::<String>::new());
    let page = repository.audit_reader(1_000).next_page().await.unwrap().unwrap();
    let mut commands: Vec<String> = page.into_iter().map(|seen| seen.entry.unwrap().record.command).collect();
    commands.sort();
    commands.dedup();
    assert_eq!(commands.len(), 80);
}

/// Takes the first entry it is given, and says that it was there already: an answer lost, and the request sent again.
#[derive(Debug)]
struct Unclear(MemoryStore, AtomicBool);

#[async_trait::async_trait]
impl Store for Unclear {
    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), lifeboat_store::Error> {
        self.0.create(name, body).await?;
        match name.as_str().starts_with(names::AUDIT_PREFIX) && !self.1.swap(true, Ordering::Relaxed) {
            true => Err(lifeboat_store::Error::AlreadyExists { name: name.to_string() }),
            false => Ok(()),
        }
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, lifeboat_store::Error> {
        self.0.get(name).await
    }

    async fn get_range(&self, name: &ObjectName, range: std::ops::Range<u64>) -> Result<Bytes, lifeboat_store::Error> {
        self.0.get_range(name, range).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectName>,
        limit: usize,
    ) -> Result<Vec<lifeboat_store::Listed>, lifeboat_store::Error> {
        self.0.list(prefix, after, limit).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), lifeboat_store::Error> {
        self.0.delete(name).await
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}

#[tokio::test]
async fn an_entry_of_ours_after_an_unclear_failure_is_not_written_twice() {
    let (_, _, repository) = new_repository().await;
    let repository = repository.over(Arc::new(Unclear(MemoryStore::new(), AtomicBool::new(false))));
    let appended = repository.append_audit(&writer(), record("cat"), None).await.unwrap();
    assert_eq!(appended.head.number, AuditNumber(1));
    let report = repository.verify_audit(Some(appended.head)).await.unwrap();
    assert_eq!((report.entries, report.findings), (1, Vec::new()));
}

fn decode(repository: &Repository, number: u64, body: &[u8]) -> AuditEntry {
    lifeboat_format::decode_audit_entry(repository.keys().object_keys(), AuditNumber(number), body).unwrap()
}

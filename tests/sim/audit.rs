//! The audit log over a store that fails at any one operation, or dies there: what was said to be written is there once, and
//! the chain holds.

use std::sync::Arc;
use std::time::Duration;

use lifeboat_format::SecretKey;
use lifeboat_model::{AuditAccount, AuditAction, AuditRecord, AuditSites, WriterIdentity};
use lifeboat_repo::Repository;
use lifeboat_store::{Error, MemoryStore, Retry, RetryPolicy, Store};
use lifeboat_testkit::fault_store::{Failure, FaultStore};

fn record(command: &str) -> AuditRecord {
    AuditRecord {
        account: AuditAccount::default(),
        action: AuditAction::Began,
        command: command.to_owned(),
        options: Vec::new(),
        closes: None,
        sites: AuditSites::default(),
        targets: Vec::new(),
        exit_code: None,
        details: String::new(),
    }
}

fn writer() -> WriterIdentity {
    WriterIdentity { host: "h".into(), machine: "m".into(), boot: "b".into(), pid: 1, started: 1 }
}

/// Commands in the log, oldest first; the chain must be whole.
async fn commands(repository: &Repository, context: &str) -> Vec<String> {
    let report = repository.verify_audit(None).await.unwrap();
    assert_eq!(report.findings, [], "{context}");
    let page = repository.audit_reader(10).next_page().await.unwrap().unwrap_or_default();
    page.into_iter().rev().map(|seen| seen.entry.unwrap().record.command).collect()
}

#[tokio::test]
async fn an_entry_is_there_once_whatever_operation_fails_and_a_log_is_whole_wherever_its_writer_dies() {
    let quick = Duration::from_millis(1);
    let policy = RetryPolicy { delay_first: quick, delay_max: quick, ..RetryPolicy::default() };
    let unavailable = || Failure::Error(Error::Unavailable { detail: "503 SlowDown".into(), after: None });
    let mut tried = 0;
    for operation in 1..=5 {
        for failure in [unavailable(), Failure::Unclear, Failure::KillBefore, Failure::KillAfter] {
            let context = format!("{failure:?} at operation {operation}");
            let memory = Arc::new(MemoryStore::new());
            let (repository, _) = Repository::init(memory.clone(), &SecretKey::generate().unwrap()).await.unwrap();
            repository.append_audit(&writer(), record("first"), None).await.unwrap();
            let dies = matches!(failure, Failure::KillBefore | Failure::KillAfter);
            let store = FaultStore::new(memory);
            let faults = store.faults();
            faults.at(operation, failure);
            let failing: Arc<dyn Store> = Arc::new(Retry::new(store, policy));
            let appended = repository.over(failing).append_audit(&writer(), record("second"), None).await;
            let fell = faults.count() >= operation;
            assert!(appended.is_ok() || (dies && fell), "{context}: {appended:?}");
            repository.append_audit(&writer(), record("third"), None).await.unwrap();
            let found = commands(&repository, &context).await;
            // Who died may have written its entry without learning of it: never twice, and never half.
            let all = ["first", "second", "third"];
            assert!(found == all || (appended.is_err() && found == ["first", "third"]), "{context}: {found:?}");
            tried += usize::from(fell);
        }
    }
    println!("the audit log: {tried} failures");
    assert!(tried >= 16, "{tried}");
}

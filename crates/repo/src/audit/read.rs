//! The audit log read back, newest first, and proven.
//!
//! ```text
//! n ─previous─▶ n-1 ─previous─▶ … ─▶ 1 ─▶ zeros      each opens, under its own number, and is what the later one says
//! ▲ what the host remembers: not older, and the same object
//! ```

use futures_util::{StreamExt, TryStreamExt, stream};
use lifeboat_format::{commit_hash, decode_audit_entry, names};
use lifeboat_model::{AuditEntry, AuditNumber, Fault, Faulty};
use lifeboat_store::ObjectName;

use super::AuditHead;
use crate::{Error, Repository};

/// Entries named by one listing, at most, and read at once.
const LISTED_MAX: usize = 1_000;
const READ_AT_ONCE: usize = 16;

/// An object below the log's prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenAudit {
    pub object: String,
    /// What its name says; `None`: no entry has such a name.
    pub number: Option<AuditNumber>,
    /// SHA-256 of it, where it could be read.
    pub hash: Option<[u8; 32]>,
    /// What it says, or why it says nothing.
    pub entry: Result<AuditEntry, String>,
}

/// The log, from its newest entry back.
pub struct AuditReader {
    repository: Repository,
    /// Entries of a page.
    listed: usize,
    after: Option<ObjectName>,
    is_at_end: bool,
}

/// One thing that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditFinding {
    pub object: String,
    pub detail: String,
}

/// What a proof of the log has come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// Entries that opened.
    pub entries: u64,
    /// The newest entry there.
    pub newest: Option<AuditHead>,
    pub findings: Vec<AuditFinding>,
}

impl Repository {
    /// Reads pages of so many entries, or of as many as one listing names.
    pub fn audit_reader(&self, page: usize) -> AuditReader {
        let listed = page.clamp(1, LISTED_MAX);
        AuditReader { repository: self.clone(), listed, after: None, is_at_end: false }
    }

    /// Proves the whole log; what is not as it was written is named. `known`: the newest entry that was ever seen.
    pub async fn verify_audit(&self, known: Option<AuditHead>) -> Result<AuditReport, Error> {
        let (mut proof, mut reader) = (Proof::new(known), self.audit_reader(LISTED_MAX));
        while let Some(page) = reader.next_page().await? {
            page.into_iter().for_each(|seen| proof.see(seen));
        }
        Ok(proof.end())
    }
}

impl AuditReader {
    /// The next entries, newest first; `None`: there are no more.
    pub async fn next_page(&mut self) -> Result<Option<Vec<SeenAudit>>, Error> {
        if self.is_at_end {
            return Ok(None);
        }
        let listed = self.repository.store().list(names::AUDIT_PREFIX, self.after.as_ref(), self.listed).await?;
        self.is_at_end = listed.len() < self.listed;
        self.after = listed.last().map(|last| last.name.clone());
        let read = stream::iter(&listed).map(|listed| self.read(&listed.name)).buffered(READ_AT_ONCE);
        let page: Vec<SeenAudit> = read.try_collect().await?;
        Ok((!page.is_empty()).then_some(page))
    }

    async fn read(&self, name: &ObjectName) -> Result<SeenAudit, Error> {
        let object = name.to_string();
        let Some(number) = names::parse_audit_entry(&object) else {
            let entry = Err("no entry of the audit log has such a name".to_owned());
            return Ok(SeenAudit { object, number: None, hash: None, entry });
        };
        let number_said = Some(number);
        match self.repository.store().get(name).await {
            Ok(body) => {
                let entry = decode_audit_entry(self.repository.keys().object_keys(), number, &body);
                let hash = Some(commit_hash(&body));
                Ok(SeenAudit { object, number: number_said, hash, entry: entry.map_err(|error| error.to_string()) })
            }
            Err(error) if error.fault() == Fault::Damage => {
                Ok(SeenAudit { object, number: number_said, hash: None, entry: Err(error.to_string()) })
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The proof under way, from the newest entry back.
struct Proof {
    known: Option<AuditHead>,
    /// Behind the first entry that was seen: the one that must come now, and its hash, where the one after it said.
    next: Option<(AuditNumber, Option<[u8; 32]>)>,
    report: AuditReport,
}

impl Proof {
    fn new(known: Option<AuditHead>) -> Self {
        Self { known, next: None, report: AuditReport::default() }
    }

    fn see(&mut self, seen: SeenAudit) {
        let SeenAudit { object, number, hash, entry } = seen;
        let Some(number) = number else {
            return self.find(object, entry.err().unwrap_or_default());
        };
        let promised = self.step_to(number);
        if self.next.is_none() {
            self.report.newest = hash.map(|hash| AuditHead { number, hash });
        }
        let previous = match entry {
            Ok(entry) => {
                self.report.entries += 1;
                if let Some((promised, by)) = promised.into_iter().find(|(promised, _)| Some(*promised) != hash) {
                    let digits: String = promised.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
                    self.find(object, format!("it is another object than {by}: wanted=`{digits}…`"));
                } else if number.0 == 1 && entry.previous != [0; 32] {
                    self.find(object, "it is the first entry, and names one before it".to_owned());
                }
                Some(entry.previous)
            }
            Err(detail) => {
                self.find(object, detail);
                None
            }
        };
        self.next = Some((AuditNumber(number.0 - 1), previous));
    }

    /// Goes to an entry, past those that are missing before it. The hashes that it must have, and who says so.
    fn step_to(&mut self, number: AuditNumber) -> Vec<([u8; 32], &'static str)> {
        let (due, by_next) = match (self.next, self.known) {
            (Some((next, hash)), _) => (next, hash.filter(|_| next == number)),
            // What was there once must be there, or a later one.
            (None, Some(known)) => (known.number, None),
            (None, None) => (number, None),
        };
        if due > number {
            self.missing(AuditNumber(number.0 + 1), due);
        }
        let by_host = self.known.filter(|known| known.number == number).map(|known| known.hash);
        let by_host = by_host.map(|hash| (hash, "the one this host has seen there"));
        by_host.into_iter().chain(by_next.map(|hash| (hash, "the one the next entry follows"))).collect()
    }

    fn missing(&mut self, from: AuditNumber, till: AuditNumber) {
        let detail = match till.0 - from.0 {
            0 => "the entry is missing".to_owned(),
            others => format!("the entry is missing, and {others} before it: from=`{from}`, till=`{till}`"),
        };
        self.find(names::audit_entry(till), detail);
    }

    fn find(&mut self, object: String, detail: String) {
        self.report.findings.push(AuditFinding { object, detail });
    }

    fn end(mut self) -> AuditReport {
        let due = self.next.map(|(next, _)| next).or(self.known.map(|known| known.number));
        if let Some(due) = due.filter(|due| due.0 > 0) {
            self.missing(AuditNumber(1), due);
        }
        self.report
    }
}

//! What the program writes into the audit log: one module, which every verb that acts or shows data goes through.
//!
//!   acting    begin ─▶ (changes) ─▶ end, which names the first entry      what cannot be logged is not begun
//!   reading   show ─▶ (data)                                              a credential that may not write is told, loudly
//!
//! An entry is written while the verb plans, and waited for before anything is changed or shown: it costs a restore no
//! time. Backups are not here, for runs are
//! their record; that a person takes a loss for meant is.
//!
//! Invariant (logged-first): no verb changes or shows anything of a site before its entry is in the bucket.
//! Invariant (no-values): an entry has names of options and never what was typed behind them, and nothing that a tenant
//! stored.
//! What is not here: the chain (`lifeboat-repo`), and how the log is shown (`verbs/audit`).

mod account;
mod asked;

use std::sync::Arc;

use lifeboat_engine::this_process;
use lifeboat_model::{AuditAction, AuditNumber, AuditRecord, AuditSites, AuditTarget, Fault, SiteId};
use lifeboat_repo::{Appended, Error as RepoError, ReadingBack, Repository, audit_sites};

pub use asked::Asked;

use crate::config::Config;
use crate::memory::CatalogMemory;
use crate::open::Open;
use crate::output::{Outcome, Output};
use crate::{CliError, Context, exit};

/// One command in the audit log.
pub struct Audited {
    repository: Repository,
    memory: Option<Arc<CatalogMemory>>,
    output: Output,
    /// What all entries of it have in common.
    record: AuditRecord,
    /// The entry that says that it began.
    began: Option<AuditNumber>,
    /// The entry that the store has accepted, and that is being read back.
    reading: Option<ReadingBack>,
    /// The store has less of the log than was seen before.
    has_lost: bool,
}

impl Audited {
    pub fn new(open: &Open, context: &Context) -> Self {
        Self::with(open.engine.repository.clone(), Some(Arc::clone(&open.memory)), context)
    }

    /// Of a verb that works with keys alone. What this host remembers helps, and is not needed.
    pub fn of_keys(repository: &Repository, config: &Config, context: &Context) -> Self {
        let memory =
            CatalogMemory::open(&config.repository.catalog, repository.clone(), context.output.clone()).map(Arc::new);
        Self::with(repository.clone(), memory.ok(), context)
    }

    fn with(repository: Repository, memory: Option<Arc<CatalogMemory>>, context: &Context) -> Self {
        let Asked { command, options } = context.asked.clone();
        let record = AuditRecord {
            account: account::account(|name| context.env(name)),
            action: AuditAction::Read,
            command,
            options,
            closes: None,
            sites: AuditSites::default(),
            targets: Vec::new(),
            exit_code: None,
            details: String::new(),
        };
        Self { repository, memory, output: context.output.clone(), record, began: None, reading: None, has_lost: false }
    }

    /// Whose it is.
    pub fn sites<'s>(mut self, sites: impl IntoIterator<Item = &'s SiteId>) -> Self {
        self.record.sites = audit_sites(sites);
        self
    }

    /// What it is about beside that: in this and in every later entry.
    pub fn about(&mut self, target: AuditTarget) {
        if !self.record.targets.contains(&target) {
            self.record.targets.push(target);
        }
    }

    /// What there is to say of it, in Lifeboat's own words: in this and in every later entry.
    pub fn details(&mut self, text: String) {
        self.record.details = text;
    }

    /// Before anything is shown. A credential that may not write may still read: that it goes on unlogged is told.
    pub async fn show(&mut self, action: AuditAction) -> Result<(), CliError> {
        self.show_early(action).await?;
        self.read_back().await.map_err(|error| not_logged(&error))
    }

    /// The same, without waiting until the entry is read back, which [`Self::end`] does.
    pub async fn show_early(&mut self, action: AuditAction) -> Result<(), CliError> {
        use lifeboat_store::Error::{Full, Refused};
        match self.append(AuditRecord { action, ..self.record.clone() }).await {
            Ok((_, reading)) => {
                self.reading = Some(reading);
                Ok(())
            }
            Err(RepoError::Store(error @ (Refused { .. } | Full { .. }))) => {
                self.output.warn(
                    &format!("NOT IN THE AUDIT LOG: what is shown now is recorded nowhere: {error}"),
                    Some("give this credential the right to create objects below `audit/`"),
                );
                Ok(())
            }
            Err(error) => Err(not_logged(&error)),
        }
    }

    /// Something that has to be in the log before it is done, in one entry.
    pub async fn note(&mut self, action: AuditAction) -> Result<(), CliError> {
        let noted = self.append(AuditRecord { action, ..self.record.clone() }).await;
        self.reading = Some(noted.map_err(|error| not_logged(&error))?.1);
        self.read_back().await.map_err(|error| not_logged(&error))
    }

    /// Before anything is changed; a second time it does nothing. What the store has accepted is read back meanwhile.
    pub async fn begin(&mut self) -> Result<(), CliError> {
        if self.began.is_none() {
            let record = AuditRecord { action: AuditAction::Began, ..self.record.clone() };
            let (appended, reading) = self.append(record).await.map_err(|error| not_logged(&error))?;
            (self.began, self.reading) = (Some(appended.head.number), Some(reading));
        }
        Ok(())
    }

    /// The same, before something that cannot be taken back: a bucket that has lost entries of this log may have lost commits.
    pub async fn begin_for_good(&mut self) -> Result<(), CliError> {
        self.begin().await?;
        match self.has_lost {
            false => Ok(()),
            true => {
                Err(CliError::new(Fault::Damage, "nothing is deleted while the audit log lacks its newest entries")
                    .with_hint(
                        "`lifeboat audit verify` names them; bring them back from the store's own versions or copies",
                    ))
            }
        }
    }

    /// How it ended, where it began: `done` says what it was, if it ended well or partly. The result as it was given.
    pub async fn end(mut self, done: AuditAction, result: Result<Outcome, CliError>) -> Result<Outcome, CliError> {
        if let Err(error) = self.read_back().await {
            let message = format!("the audit log may not hold with what this began: {error}");
            self.output.warn(&message, Some("look at it with `lifeboat audit verify`"));
        }
        let Some(began) = self.began else { return result };
        let exit_code = result.as_ref().map_or_else(CliError::exit_code, |outcome| outcome.exit_code);
        let record = AuditRecord {
            action: if matches!(exit_code, 0 | exit::PARTLY) { done } else { AuditAction::Ended },
            closes: Some(began),
            exit_code: Some(exit_code.into()),
            ..self.record.clone()
        };
        let ended = async { self.append(record).await?.1.done().await };
        if let Err(error) = ended.await {
            // What was done is done: the entry with which it began stays open, and so it will be asked about.
            self.output.warn(
                &format!("the audit log does not say how this ended: began=`{began}`: {error}"),
                Some("`lifeboat audit list` shows it as open"),
            );
        }
        result
    }

    /// Waits until the store has given the entry back as it was written.
    async fn read_back(&mut self) -> Result<(), RepoError> {
        match self.reading.take() {
            Some(reading) => reading.done().await,
            None => Ok(()),
        }
    }

    async fn append(&mut self, record: AuditRecord) -> Result<(Appended, ReadingBack), RepoError> {
        let known = self.memory.as_ref().and_then(|memory| memory.audit_head());
        let (appended, reading) = self.repository.append_audit_unread(&this_process(), record, known).await?;
        if let Some(memory) = &self.memory {
            memory.note_audit(appended.head);
        }
        self.has_lost |= appended.lost.is_some();
        if let (Some(found), Some(known)) = (appended.lost, known) {
            self.output.warn(
                &format!(
                    "THE AUDIT LOG HAS LOST ITS NEWEST ENTRIES: newest there=`{found}`, seen before=`{}`",
                    known.number
                ),
                Some("`lifeboat audit verify` names them; bring them back from the store's own versions or copies"),
            );
        }
        Ok((appended, reading))
    }
}

/// Why a verb does not go on.
fn not_logged(error: &RepoError) -> CliError {
    let cause = CliError::of(error);
    let message = format!("nothing was done, for it cannot be written into the audit log: {}", cause.message);
    let hint = cause.hint.unwrap_or_else(|| "look at the log with `lifeboat audit verify`".into());
    CliError::new(cause.fault, message).with_hint(hint)
}

//! The journal of a recovery: followed, and written to.
//!
//! Every entry is created only if it is absent, so that whoever writes has decided from all that came before. Who loses
//! the race reads what the other one wrote, and decides again.

use lifeboat_model::{
    ObjectId, Receipt, RecoveryEntry, RecoveryEvent, RecoveryId, RecoveryPlan, RecoveryState, SignedReceipt, Timestamp,
};
use lifeboat_repo::{Repository, SigningKey, is_signed, recovery_plan_hash, sign_receipt};

use crate::process::random_id;
use crate::{Engine, Error, this_process};

/// The recoveries of a repository.
#[derive(Clone)]
pub struct Recoveries {
    repository: Repository,
}

/// A recovery as its journal has it.
pub struct Journal {
    repository: Repository,
    plan: RecoveryPlan,
    hash: String,
    state: RecoveryState,
}

impl Recoveries {
    pub fn of(engine: &Engine) -> Self {
        Self { repository: engine.repository.clone() }
    }

    /// Stores a new plan.
    pub async fn create(&self, plan: &RecoveryPlan) -> Result<(), Error> {
        Ok(self.repository.create_recovery(plan).await?)
    }

    /// Every one there is.
    pub async fn list(&self) -> Result<Vec<RecoveryId>, Error> {
        Ok(self.repository.recoveries().await?)
    }

    /// # Errors
    /// When there is no such recovery, or what is stored of it is damaged.
    pub async fn open(&self, id: RecoveryId) -> Result<Journal, Error> {
        let Some(plan) = self.repository.recovery_plan(id).await? else {
            return Err(Error::NoSuchThing {
                detail: format!("there is no such recovery: recovery=`{id}`"),
                hint: "`lifeboat recover status` lists those there are".into(),
            });
        };
        let mut journal = Journal::of(&self.repository, plan);
        for entry in self.repository.recovery_entries(id, 0).await? {
            journal.take(&entry)?;
        }
        Ok(journal)
    }

    /// The same, where anything was written into it since then; else it costs one listing and one read.
    pub async fn open_since(&self, id: RecoveryId, since: Timestamp) -> Result<Option<Journal>, Error> {
        match self.repository.newest_recovery_entry(id).await? {
            Some(entry) if entry.written_at >= since => self.open(id).await.map(Some),
            _ => Ok(None),
        }
    }
}

impl Journal {
    fn of(repository: &Repository, plan: RecoveryPlan) -> Self {
        let (hash, state) = (recovery_plan_hash(&plan), RecoveryState::of(&plan));
        Self { repository: repository.clone(), plan, hash, state }
    }

    pub fn plan(&self) -> &RecoveryPlan {
        &self.plan
    }

    /// What a person approves.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    pub fn state(&self) -> &RecoveryState {
        &self.state
    }

    /// Reads what others wrote meanwhile; whether there was anything.
    pub async fn refresh(&mut self) -> Result<bool, Error> {
        let before = self.state.number;
        while let Some(entry) = self.repository.recovery_entry(self.plan.id, self.state.number + 1).await? {
            self.take(&entry)?;
        }
        Ok(self.state.number > before)
    }

    /// Writes what `decide` makes of the newest state: nothing when it wants nothing. `run`: of a runner, its run.
    ///
    /// # Errors
    /// What `decide` refuses, and what cannot follow the state.
    pub async fn append(
        &mut self,
        run: Option<u64>,
        mut decide: impl FnMut(&RecoveryState) -> Result<Vec<RecoveryEvent>, Error>,
    ) -> Result<(), Error> {
        loop {
            let events = decide(&self.state)?;
            if events.is_empty() {
                return Ok(());
            }
            let entry = RecoveryEntry {
                number: self.state.number + 1,
                nonce: ObjectId(random_id()?),
                written_at: Timestamp::now(),
                writer: this_process(),
                run,
                events,
            };
            let mut after = self.state.clone();
            after.apply(&entry).map_err(|error| Error::NotNow { detail: error.to_string() })?;
            if self.repository.append_recovery_entry(self.plan.id, &entry).await? {
                self.state = after;
                return Ok(());
            }
            self.refresh().await?;
        }
    }

    /// The key that signs the recovery's receipts.
    pub async fn signing_key(&self) -> Result<SigningKey, Error> {
        Ok(self.repository.signing_key().await?)
    }

    /// A receipt, signed as one of this recovery.
    pub fn sign(&self, key: &SigningKey, receipt: Receipt) -> SignedReceipt {
        sign_receipt(key, self.plan.id, receipt)
    }

    /// Whether the receipt was signed as one of this recovery, and nothing of it was changed.
    pub fn is_signed(&self, key: &SigningKey, receipt: &SignedReceipt) -> bool {
        is_signed(key, self.plan.id, receipt)
    }

    fn take(&mut self, entry: &RecoveryEntry) -> Result<(), Error> {
        self.state.apply(entry).map_err(|error| Error::BadJournal {
            recovery: self.plan.id,
            detail: format!("entry=`{}`: {error}", entry.number),
        })
    }
}

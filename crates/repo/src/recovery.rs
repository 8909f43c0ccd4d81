//! Recoveries of many sites: a plan that is written once, and a journal of what happened, which anybody with the bucket
//! and the key can read and go on with.
//!
//!   plan ─▶ entry 1 ─▶ entry 2 ─▶ …      each created only if it is absent: of two writers one decides anew
//!
//! What is not here: what entries mean (`lifeboat_model::RecoveryState`), who writes them (`control`).

use futures_util::{StreamExt, TryStreamExt, stream};
use lifeboat_format::{
    SigningKey, decode_recovery_entry, decode_recovery_plan, encode_recovery_entry, encode_recovery_plan, names,
    receipt_bytes,
};
use lifeboat_model::{ObjectId, Receipt, RecoveryEntry, RecoveryId, RecoveryPlan, SignedReceipt};
use lifeboat_store::ObjectName;

use crate::upload::{create_and_read_back, object_name};
use crate::{Error, Repository, random_id};

/// Entries named by one listing, and read at once.
const LISTED: usize = 1_000;
const READ_AT_ONCE: usize = 16;

impl Repository {
    pub async fn create_recovery(&self, plan: &RecoveryPlan) -> Result<(), Error> {
        let body = encode_recovery_plan(self.keys().object_keys(), ObjectId(random_id()?), plan)?;
        create_and_read_back(self.store().as_ref(), &object_name(names::recovery_plan(plan.id))?, body.into()).await
    }

    /// `None`: there is no such recovery.
    pub async fn recovery_plan(&self, id: RecoveryId) -> Result<Option<RecoveryPlan>, Error> {
        let name = object_name(names::recovery_plan(id))?;
        match self.store().get(&name).await {
            Err(lifeboat_store::Error::NotFound { .. }) => Ok(None),
            body => {
                let plan = decode_recovery_plan(self.keys().object_keys(), id, &body?);
                plan.map(Some).map_err(Error::of_object(&name))
            }
        }
    }

    /// Every recovery there is a plan of, by their ids: two requests each.
    pub async fn recoveries(&self) -> Result<Vec<RecoveryId>, Error> {
        let mut found = Vec::new();
        let mut after: Option<ObjectName> = None;
        while let Some(listed) =
            self.store().list(names::RECOVERIES_PREFIX, after.as_ref(), 1).await?.into_iter().next()
        {
            after = Some(listed.name.clone());
            let id = match names::parse_object_name(listed.name.as_str()) {
                Some(names::ParsedName::RecoveryPlan(id) | names::ParsedName::RecoveryEntry(id, _)) => id,
                _ => continue,
            };
            found.push(id);
            // `zz` sorts behind everything a recovery's prefix holds.
            after = Some(object_name(format!("{}zz", names::recovery_prefix(id)))?);
        }
        Ok(found)
    }

    /// The entries after number `after`, in order.
    pub async fn recovery_entries(&self, id: RecoveryId, after: u64) -> Result<Vec<RecoveryEntry>, Error> {
        let prefix = names::recovery_entries_prefix(id);
        let mut last = object_name(names::recovery_entry(id, after))?;
        let mut entries = Vec::new();
        loop {
            let listed = self.store().list(&prefix, Some(&last), LISTED).await?;
            let read = stream::iter(&listed).map(|listed| self.read_entry(id, &listed.name)).buffered(READ_AT_ONCE);
            entries.extend(read.try_collect::<Vec<_>>().await?);
            match listed.last() {
                Some(newest) if listed.len() == LISTED => last = newest.name.clone(),
                _ => return Ok(entries),
            }
        }
    }

    /// The newest entry, by listings and one read; `None`: there is none yet.
    pub async fn newest_recovery_entry(&self, id: RecoveryId) -> Result<Option<RecoveryEntry>, Error> {
        let prefix = names::recovery_entries_prefix(id);
        let mut newest: Option<ObjectName> = None;
        loop {
            let listed = self.store().list(&prefix, newest.as_ref(), LISTED).await?;
            let is_all = listed.len() < LISTED;
            newest = listed.into_iter().next_back().map(|last| last.name).or(newest);
            if is_all {
                break;
            }
        }
        match newest {
            None => Ok(None),
            Some(name) => self.read_entry(id, &name).await.map(Some),
        }
    }

    /// One entry by its number, without a listing; `None`: nobody has written it yet.
    pub async fn recovery_entry(&self, id: RecoveryId, number: u64) -> Result<Option<RecoveryEntry>, Error> {
        match self.read_entry(id, &object_name(names::recovery_entry(id, number))?).await {
            Err(Error::Store(lifeboat_store::Error::NotFound { .. })) => Ok(None),
            read => read.map(Some),
        }
    }

    async fn read_entry(&self, id: RecoveryId, name: &ObjectName) -> Result<RecoveryEntry, Error> {
        let Some(names::ParsedName::RecoveryEntry(_, number)) = names::parse_object_name(name.as_str()) else {
            let detail = "no entry of a recovery has such a name".into();
            return Err(Error::Damaged { object: name.to_string(), detail });
        };
        let body = self.store().get(name).await?;
        decode_recovery_entry(self.keys().object_keys(), id, number, &body).map_err(Error::of_object(name))
    }

    /// Writes an entry under its number; `false`: another one is there.
    pub async fn append_recovery_entry(&self, id: RecoveryId, entry: &RecoveryEntry) -> Result<bool, Error> {
        let name = object_name(names::recovery_entry(id, entry.number))?;
        let body = encode_recovery_entry(self.keys().object_keys(), id, entry)?;
        match create_and_read_back(self.store().as_ref(), &name, body.into()).await {
            Ok(()) => Ok(true),
            // Ours, if the first answer was lost on its way.
            Err(Error::Store(lifeboat_store::Error::AlreadyExists { .. })) => {
                Ok(self.read_entry(id, &name).await?.nonce == entry.nonce)
            }
            Err(error) => Err(error),
        }
    }

    /// The key that signs receipts: one request.
    pub async fn signing_key(&self) -> Result<SigningKey, Error> {
        let name = object_name(names::SIGNING_KEY.to_owned())?;
        let body = self.store().get(&name).await?;
        self.keys().open_signing_key(&body).map_err(Error::of_object(&name))
    }
}

/// Signs a receipt as one of this recovery.
pub fn sign_receipt(key: &SigningKey, id: RecoveryId, receipt: Receipt) -> SignedReceipt {
    let signature = key.sign(&receipt_bytes(id, &receipt));
    SignedReceipt { receipt, signature }
}

/// Whether this very receipt was signed as one of this recovery.
pub fn is_signed(key: &SigningKey, id: RecoveryId, signed: &SignedReceipt) -> bool {
    key.verifies(&receipt_bytes(id, &signed.receipt), &signed.signature)
}

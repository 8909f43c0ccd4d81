//! Erasing a site: its keys are destroyed, and what they have sealed nobody can open any more.
//!
//!   new key ─▶ commit "shredded", the first that it seals ─▶ destroy all older keys, both copies ─▶ prove that they are gone
//!
//! Killed between the commit and the end, it is finished by running it again, and by every prune.
//!
//! Invariant (erased-for-good): a number of a key is never given again: what comes to the site later is sealed by a key that
//! opens nothing of before.
//! What is not here: what cannot be reached from here, such as copies and versions that the store keeps of keys.

use lifeboat_format::{ObjectKind, names};
use lifeboat_model::{CommitEvent, Faulty, KeyNumber, Shred, SiteHandle, SiteObjects, WriterIdentity};
use lifeboat_store::ObjectName;

use crate::upload::object_name;
use crate::{Error, Repository, Site, TrustedNow};

/// What an erased site was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erased {
    /// The objects that held its keys, gone from the store.
    pub destroyed: Vec<String>,
    /// Objects that can be opened no more, and are deleted by a later prune.
    pub objects: u64,
    pub bytes: u64,
}

/// What erasing a site would take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErasePlan {
    pub keys: Vec<String>,
    pub objects: SiteObjects,
    pub bytes: u64,
}

impl Site {
    /// What there is to erase. Nothing needs to be readable.
    pub async fn erase_plan(&self) -> Result<ErasePlan, Error> {
        let found = self.found().await?.objects;
        let mut plan = ErasePlan { keys: self.keys_below(self.next_key().await?).await?, ..ErasePlan::default() };
        for one in found {
            plan.bytes += one.len;
            match one.kind {
                ObjectKind::Manifest => plan.objects.manifests.push(one.id),
                ObjectKind::Index => plan.objects.indexes.push(one.id),
                _ => plan.objects.packs.push(one.id),
            }
        }
        // What is missing from the store, and named: the state wants every name accounted for.
        let named = self.state().snapshots.iter().chain(&self.state().forgotten);
        plan.objects.manifests.extend(named.map(|record| record.manifest.id));
        plan.objects.indexes.extend(self.state().indexes.iter().map(|index| index.id));
        for ids in [&mut plan.objects.manifests, &mut plan.objects.indexes] {
            ids.sort_unstable();
            ids.dedup();
        }
        Ok(plan)
    }

    /// Erases the site, or finishes to.
    pub async fn erase(&mut self, reason: &str, clock: &TrustedNow, writer: &WriterIdentity) -> Result<Erased, Error> {
        self.refresh().await?;
        let plan = self.erase_plan().await?;
        let next = self.next_key().await?;
        let keys = self.repository.make_site_keys(self.handle(), next).await?;
        let before = std::mem::replace(&mut self.keys, keys);
        let newest = self.head().generation;
        let what = Shred {
            key: next,
            objects: plan.objects.clone(),
            at: clock.later,
            run: clock.run,
            reason: reason.to_owned(),
        };
        // Whoever commits meanwhile does so by the key of before: then all is looked at again.
        let committed = match self.commit_if_newest(newest, writer, CommitEvent::Shredded(Box::new(what))).await {
            Ok(committed) => committed,
            Err(error) => {
                self.keys = before;
                return Err(error);
            }
        };
        if !committed {
            self.keys = before;
            return Err(Error::ChangedMeanwhile { site: self.id().clone() });
        }
        let destroyed = self.destroy_old_keys().await?;
        Ok(Erased { destroyed, objects: plan.objects.len() as u64, bytes: plan.bytes })
    }

    /// Destroys what an erasure has left of the older keys; of a site that was never erased, nothing.
    pub async fn destroy_old_keys(&self) -> Result<Vec<String>, Error> {
        if self.state().shredded.is_none() {
            return Ok(Vec::new());
        }
        let old = self.keys_below(self.state().key).await?;
        for name in &old {
            self.repository.store().delete(&object_name(name.clone())?).await?;
        }
        if let Some(left) = self.keys_below(self.state().key).await?.into_iter().next() {
            return Err(Error::NotErased { site: self.id().clone(), object: left });
        }
        self.repository.forget_keys(self.handle());
        Ok(old)
    }

    /// Keys that an erasure was to destroy, and that are there still: what they have sealed can be opened yet.
    pub async fn keys_left(&self) -> Result<Vec<String>, Error> {
        match self.state().shredded {
            Some(_) => self.keys_below(self.state().key).await,
            None => Ok(Vec::new()),
        }
    }

    /// A number that no key has, not even one that an erasure made which came to nothing: a capture may have sealed by that.
    async fn next_key(&self) -> Result<KeyNumber, Error> {
        let made = self.keys_below(KeyNumber(u32::MAX)).await?;
        let newest = made.iter().filter_map(|name| names::parse_key_number(name)).map(|(_, number)| number).max();
        Ok(newest.unwrap_or(self.state().key).max(self.state().key).next())
    }

    /// Both places of every key with a lower number.
    async fn keys_below(&self, number: KeyNumber) -> Result<Vec<String>, Error> {
        let site = self.handle();
        let mut found = Vec::new();
        for prefix in [names::site_keys_prefix(&site), names::site_key_copies_prefix(&site)] {
            let listed = self.repository.list_all(&prefix).await?;
            let is_old = |name: &ObjectName| {
                names::parse_key_number(name.as_str()).is_some_and(|(of, found)| of == site && found < number)
            };
            found.extend(listed.into_iter().filter(is_old).map(|name| name.to_string()));
        }
        Ok(found)
    }
}

impl Repository {
    /// The number of the newest key of a site, by one listing; `None`: it has none.
    pub(crate) async fn newest_key(&self, site: SiteHandle) -> Result<Option<KeyNumber>, Error> {
        let listed = self.list_all(&names::site_keys_prefix(&site)).await?;
        Ok(listed.iter().filter_map(|name| names::parse_key_number(name.as_str())).map(|(_, number)| number).max())
    }

    /// Whether a key that cannot be had was destroyed on purpose: the site says so, which goes on under a newer one.
    pub(crate) async fn is_erased(&self, site: SiteHandle, number: KeyNumber, error: &Error) -> Result<bool, Error> {
        if error.fault() != lifeboat_model::Fault::Damage
            || self.newest_key(site).await?.is_none_or(|newest| newest <= number)
        {
            return Ok(false);
        }
        match Site::open_handle(self.clone(), site, None).await {
            Ok(site) => Ok(site.is_some_and(|site| site.state().key > number)),
            Err(error) if error.fault() == lifeboat_model::Fault::Damage => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn list_all(&self, prefix: &str) -> Result<Vec<ObjectName>, Error> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.store().list(prefix, after.as_ref(), 1000).await?;
            let Some(last) = page.last() else { return Ok(all) };
            after = Some(last.name.clone());
            all.extend(page.into_iter().map(|listed| listed.name));
        }
    }
}

#[cfg(test)]
mod tests;

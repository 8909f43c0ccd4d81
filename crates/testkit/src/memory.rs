//! What a host remembers of the bucket, as its catalog would, in a map.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lifeboat_engine::{Fingerprint, HeadMemory};
use lifeboat_model::{Run, RunNumber, SiteId};
use lifeboat_repo::{KnownHead, Site};

/// Remembers, and can be taken back to what it knew before.
#[derive(Debug, Default)]
pub struct MapMemory {
    known: Mutex<Known>,
}

/// What is remembered.
#[derive(Debug, Clone, Default)]
pub struct Known {
    heads: BTreeMap<SiteId, KnownHead>,
    fingerprints: BTreeMap<SiteId, Fingerprint>,
    newest_run: Option<RunNumber>,
}

impl MapMemory {
    pub fn known(&self) -> Known {
        self.lock().clone()
    }

    pub fn set(&self, known: Known) {
        *self.lock() = known;
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeadMemory for MapMemory {
    fn known_head(&self, site: &SiteId) -> Option<KnownHead> {
        self.lock().heads.get(site).copied()
    }

    fn sites(&self) -> Vec<SiteId> {
        self.lock().heads.keys().cloned().collect()
    }

    fn note_site(&self, site: &Site) {
        let head = site.head();
        let mut known = self.lock();
        let newer = known.heads.get(site.id()).is_none_or(|before| before.generation <= head.generation);
        // A site that has no commit yet is nothing to remember.
        if newer && head.generation.0 > 0 {
            known.heads.insert(site.id().clone(), head);
        }
    }

    fn fingerprint(&self, site: &SiteId) -> Option<Fingerprint> {
        self.lock().fingerprints.get(site).cloned()
    }

    fn note_fingerprint(&self, site: &SiteId, fingerprint: &Fingerprint) {
        self.lock().fingerprints.insert(site.clone(), fingerprint.clone());
    }

    fn newest_run(&self) -> Option<RunNumber> {
        self.lock().newest_run
    }

    fn note_run(&self, run: &Run) {
        self.lock().newest_run = Some(run.number);
    }
}

//! Storing one site's content: chunks in, packs and a manifest out.
//!
//!   submit ─batches, bounded queue▸ workers: name ▸ known? ▸ compress ▸ encrypt ▸ pack ─full▸ upload, read back
//!   finish ─▶ last packs ─▶ index segment ─▶ manifest          the caller commits
//!
//! Each worker fills a pack of its own, so that none waits for another. A site whose content is
//! tiny gets no pack: its chunks lie in the manifest, and are never a source of dedup.
//!
//! What is not here: reading content and cutting it (`lifeboat-engine`), the commit (`site`).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use lifeboat_format::{ManifestHead, ManifestPart};
use lifeboat_model::{
    ChunkId, Commit, CommitEvent, Entry, Extent, IndexRef, Mark, ObjectId, RestoreId, SiteObjects, SiteState,
    SnapshotId, SnapshotRecord, Timestamp,
};

use crate::index::KnownChunks;
use crate::{Error, Site};

mod batch;
mod finish;
mod pack;
mod shared;

use batch::Batch;
use pack::Packer;
use shared::{Claim, Shared};

#[derive(Debug, Clone, Copy)]
pub struct IngestOptions {
    /// Threads that hash, compress and encrypt.
    pub workers: usize,
    /// Packs under upload at once.
    pub uploads_max: usize,
    /// Whether the chunks of a tiny site may lie in its manifest, where no other snapshot can name
    /// them.
    pub inline: bool,
    /// Whether chunks that are stored already are named again; otherwise nothing that is stored is
    /// relied on, and all is stored anew.
    pub reuse: bool,
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(2, usize::from),
            uploads_max: 4,
            inline: true,
            reuse: true,
        }
    }
}

/// The place of a submitted chunk in the order of submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkNumber(u64);

/// Where the content of an entry comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredContent {
    /// The entry has no content.
    None,
    /// As the parent snapshot has it.
    Same(Vec<Extent>),
    /// As submitted.
    Fresh(Vec<FreshExtent>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreshExtent {
    Chunk(ChunkNumber),
    Hole { len: u64 },
}

/// One part of the snapshot to be made. `record.entries` and `record.logical_bytes` are counted here.
pub struct NewPart {
    pub part: ManifestPart,
    /// In path order, extents empty.
    pub entries: Vec<(Entry, StoredContent)>,
}

/// What the caller decides of the snapshot to be made.
pub struct NewSnapshot {
    pub id: SnapshotId,
    pub mark: Mark,
    pub mark_reason: Option<String>,
    pub cut_from: Timestamp,
    pub cut_till: Timestamp,
    pub parent: Option<SnapshotId>,
    pub restore: Option<RestoreId>,
    pub moment: Option<String>,
    pub is_scan: bool,
    pub parts: Vec<NewPart>,
}

/// Everything is durable and read back; only the commit is missing.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub record: SnapshotRecord,
    pub index: Option<IndexRef>,
    /// Every pack that the manifest or the index names.
    pub(crate) packs: BTreeSet<ObjectId>,
}

impl Prepared {
    /// Publishes it as `judge` has it, unless something it names was condemned.
    pub(crate) fn decide(
        &self,
        mut judge: impl FnMut(&SiteState, &[Commit]) -> Result<SnapshotRecord, Error>,
    ) -> impl FnMut(&SiteState, &[Commit]) -> Result<CommitEvent, Error> {
        move |state, seen| {
            self.refuse_condemned(state, seen)?;
            Ok(CommitEvent::Published { snapshot: Box::new(judge(state, seen)?), index: self.index })
        }
    }

    fn refuse_condemned(&self, state: &SiteState, seen: &[Commit]) -> Result<(), Error> {
        let now = state.condemned.iter().map(|condemned| &condemned.objects);
        // What was condemned and deleted meanwhile is in no state any more.
        let meanwhile = seen.iter().filter_map(|commit| match &commit.event {
            CommitEvent::Condemned(what) => Some(&what.objects),
            _ => None,
        });
        let is_named = |id: &ObjectId| {
            self.packs.contains(id) || self.record.manifest.id == *id || self.index.is_some_and(|index| index.id == *id)
        };
        let ids = now.chain(meanwhile).flat_map(SiteObjects::ids);
        match ids.copied().find(|id| is_named(id)) {
            Some(object) => Err(Error::CondemnedMeanwhile { site: state.site.clone(), object }),
            None => Ok(()),
        }
    }
}

/// A running ingest. Dropping it without `finish` leaves only objects that no commit names.
pub struct Ingest {
    shared: Arc<Shared>,
    batches: Sender<Batch>,
    /// What was submitted last, until it is enough to be sent.
    open: Mutex<Batch>,
    workers: Vec<JoinHandle<Vec<(u64, ChunkId)>>>,
}

impl Ingest {
    /// Loads what the site has already and starts the workers.
    pub async fn start(site: &Site, options: IngestOptions) -> Result<Self, Error> {
        let known = if options.reuse { site.known_chunks().await? } else { KnownChunks::default() };
        let shared = Arc::new(Shared::new(site, known, &options));
        // Two batches a worker: one under work, one waiting. A batch is hardly longer than a chunk, 4 MiB at most.
        let (batches, queue) = crossbeam_channel::bounded(options.workers.max(1));
        let workers = (0..options.workers.max(1)).map(|_| start_worker(shared.clone(), queue.clone())).collect();
        Ok(Self { shared, batches, open: Mutex::default(), workers })
    }

    /// Lets entries with [`StoredContent::Same`] refer to what this manifest's packs hold.
    pub fn adopt(&self, parent: &ManifestHead) {
        self.shared.adopt(&parent.packs);
    }

    /// Takes one chunk; blocks while the workers are behind.
    pub fn submit(&self, chunk: &[u8]) -> Result<ChunkNumber, Error> {
        self.shared.check()?;
        let mut open = lock(&self.open);
        let number = open.push(chunk);
        if open.is_full() {
            self.send(&mut open)?;
        }
        Ok(ChunkNumber(number))
    }

    /// Sends what there is to the workers.
    fn send(&self, open: &mut Batch) -> Result<(), Error> {
        if open.is_empty() {
            return Ok(());
        }
        let mut next = self.shared.spare_batch();
        next.restart(open.next());
        self.batches.send(std::mem::replace(open, next)).map_err(|_| self.shared.take_failure())
    }

    /// Bytes that this ingest has added to the store so far.
    pub fn added_bytes(&self) -> u64 {
        self.shared.added_bytes()
    }
}

fn start_worker(shared: Arc<Shared>, queue: Receiver<Batch>) -> JoinHandle<Vec<(u64, ChunkId)>> {
    std::thread::spawn(move || {
        let mut named = Vec::new();
        let mut packer = match Packer::new(shared.clone()) {
            Ok(packer) => packer,
            Err(error) => {
                shared.fail(error);
                queue.iter().for_each(drop);
                return named;
            }
        };
        for batch in queue {
            if shared.has_failed() {
                continue; // drain, so that no submitter blocks for ever
            }
            if let Err(error) = store_batch(&shared, &mut packer, &batch, &mut named) {
                shared.fail(error);
            }
            shared.give_back(batch);
        }
        if let Err(error) = packer.close() {
            shared.fail(error);
        }
        named
    })
}

/// Names every chunk of the batch and stores those that are stored nowhere yet.
fn store_batch(
    shared: &Shared,
    packer: &mut Packer,
    batch: &Batch,
    named: &mut Vec<(u64, ChunkId)>,
) -> Result<(), Error> {
    for (number, plain) in batch.chunks() {
        let id = shared.keys.chunk_id(plain);
        named.push((number, id));
        if let Claim::Store { kept } = shared.claim(id, plain) {
            kept.iter().try_for_each(|(id, plain)| packer.store(id, plain))?;
            packer.store(&id, plain)?;
        }
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! What the workers of one ingest share: which chunks are known, and whether something has failed.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use lifeboat_format::{PackRow, SiteKeys};
use lifeboat_model::{ChunkId, ChunkRef, ObjectId};
use lifeboat_store::{ObjectName, Store};
use tokio::sync::Semaphore;

use super::batch::Batch;
use super::{IngestOptions, lock};
use crate::index::KnownChunks;
use crate::upload::create_and_read_back;
use crate::{Error, Site};

/// Content up to this many plain bytes, all of a site's together, lies in the manifest.
pub(super) const TINY_BYTES_MAX: usize = 256 << 10;

/// Plain chunks with their names.
type Kept = Vec<(ChunkId, Vec<u8>)>;

/// What to do with a chunk.
pub(super) enum Claim {
    /// It is stored, or another worker is storing it.
    Known,
    /// It is kept in memory while the site still looks tiny.
    Kept,
    /// It is the caller's to store, and so are those that were kept until now.
    Store { kept: Kept },
}

pub(super) struct Shared {
    pub(super) keys: SiteKeys,
    store: Arc<dyn Store>,
    runtime: tokio::runtime::Handle,
    /// `None`: a worker has it in hand.
    chunks: Mutex<HashMap<ChunkId, Option<ChunkRef>>>,
    packs: Mutex<HashMap<ObjectId, PackRow>>,
    /// Chunks stored by this ingest.
    fresh: Mutex<Vec<ChunkRef>>,
    /// Chunks of a site that still looks tiny; `None` once it does not.
    tiny: Mutex<Option<Kept>>,
    /// Memory to be used again: fresh pages cost more than what is done with them. As many as were
    /// under way at once, which their queues limit.
    spare_batches: Mutex<Vec<Batch>>,
    spare_packs: Mutex<Vec<Vec<u8>>>,
    uploads: Arc<Semaphore>,
    uploads_max: u32,
    added: AtomicU64,
    failed: AtomicBool,
    failure: Mutex<Option<Error>>,
}

impl Shared {
    pub(super) fn new(site: &Site, known: KnownChunks, options: &IngestOptions) -> Self {
        let uploads_max = u32::try_from(options.uploads_max.clamp(1, 64)).unwrap_or(1);
        Self {
            keys: site.keys.clone(),
            store: site.repository.store().clone(),
            runtime: tokio::runtime::Handle::current(),
            chunks: Mutex::new(known.chunks.into_iter().map(|(id, place)| (id, Some(place))).collect()),
            packs: Mutex::new(known.packs),
            fresh: Mutex::new(Vec::new()),
            tiny: Mutex::new(options.inline.then(Vec::new)),
            spare_batches: Mutex::default(),
            spare_packs: Mutex::default(),
            uploads: Arc::new(Semaphore::new(uploads_max as usize)),
            uploads_max,
            added: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
        }
    }

    pub(super) fn claim(&self, id: ChunkId, plain: &[u8]) -> Claim {
        match lock(&self.chunks).entry(id) {
            Slot::Occupied(_) => return Claim::Known,
            Slot::Vacant(vacant) => vacant.insert(None),
        };
        let mut tiny = lock(&self.tiny);
        match tiny.as_mut() {
            Some(kept) if kept.iter().map(|(_, plain)| plain.len()).sum::<usize>() + plain.len() <= TINY_BYTES_MAX => {
                kept.push((id, plain.to_vec()));
                Claim::Kept
            }
            _ => Claim::Store { kept: tiny.take().unwrap_or_default() },
        }
    }

    /// Memory for a batch, used before where there is some.
    pub(super) fn spare_batch(&self) -> Batch {
        lock(&self.spare_batches).pop().unwrap_or_default()
    }

    pub(super) fn give_back(&self, batch: Batch) {
        lock(&self.spare_batches).push(batch);
    }

    /// Memory for a pack, used before where there is some.
    pub(super) fn spare_pack(&self) -> Vec<u8> {
        lock(&self.spare_packs).pop().unwrap_or_default()
    }

    /// The chunks kept because the site is tiny; from now on there are none.
    pub(super) fn take_tiny(&self) -> Kept {
        lock(&self.tiny).take().unwrap_or_default()
    }

    pub(super) fn stored(&self, place: ChunkRef) {
        lock(&self.chunks).insert(place.id, Some(place));
        lock(&self.fresh).push(place);
    }

    /// Where a chunk of the tiny site lies: in the manifest, not in the index.
    pub(super) fn stored_inline(&self, place: ChunkRef) {
        lock(&self.chunks).insert(place.id, Some(place));
    }

    pub(super) fn place_of(&self, id: &ChunkId) -> Option<ChunkRef> {
        lock(&self.chunks).get(id).copied().flatten()
    }

    pub(super) fn fresh(&self) -> Vec<ChunkRef> {
        lock(&self.fresh).clone()
    }

    pub(super) fn adopt(&self, rows: &[PackRow]) {
        lock(&self.packs).extend(rows.iter().map(|row| (row.id, *row)));
    }

    pub(super) fn packs(&self) -> HashMap<ObjectId, PackRow> {
        lock(&self.packs).clone()
    }

    pub(super) fn added_bytes(&self) -> u64 {
        self.added.load(Ordering::Relaxed)
    }

    pub(super) fn count_added(&self, bytes: u64) {
        self.added.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Starts the upload of a sealed pack, from a worker's thread; blocks while too many are under way.
    pub(super) fn upload(self: &Arc<Self>, name: ObjectName, row: PackRow, body: Bytes) {
        self.adopt(std::slice::from_ref(&row));
        self.count_added(body.len() as u64);
        let Ok(permit) = self.runtime.block_on(self.uploads.clone().acquire_owned()) else { return };
        let shared = self.clone();
        self.runtime.spawn(async move {
            if let Err(error) = create_and_read_back(shared.store.as_ref(), &name, body.clone()).await {
                shared.fail(error);
            }
            // A store in memory keeps it.
            if let Ok(mut buffer) = body.try_into_mut() {
                buffer.clear();
                lock(&shared.spare_packs).push(buffer.into());
            }
            drop(permit);
        });
    }

    /// Waits until every upload has ended, well or not.
    pub(super) async fn uploads_done(&self) -> Result<(), Error> {
        let all = self.uploads.acquire_many(self.uploads_max).await;
        drop(all);
        self.check()
    }

    pub(super) fn fail(&self, error: Error) {
        lock(&self.failure).get_or_insert(error);
        self.failed.store(true, Ordering::Release);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// The first failure, once; the others say only that there was one.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.has_failed() { Err(self.take_failure()) } else { Ok(()) }
    }

    pub(super) fn take_failure(&self) -> Error {
        lock(&self.failure).take().unwrap_or(Error::Cancelled)
    }
}

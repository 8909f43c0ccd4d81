//! Reading chunks: few large ranged reads, decoded and checked in parallel, handed on by number.
//!
//!   wanted ─plan▸ fetches ─N ranged GETs▸ bounded queue ─decode workers▸ deliver
//!
//! Memory is bounded by [`FetchLimits::bytes_in_flight_max`], not by the site, and taken only as far as workers would wait
//! otherwise ([`ahead`]). Nothing is handed on
//! that is not equal to its chunk id; what is damaged is handed on as damage, never as zeros.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use bytes::BytesMut;
use futures_util::StreamExt;
use lifeboat_format::{Decompressor, ManifestHead, ObjectOpener, SiteKeys};
use lifeboat_model::{ChunkRef, Fault, Faulty, ObjectId};
use lifeboat_store::{ObjectName, Store};

use crate::{Error, LocalPack};

mod ahead;
mod begun;
mod plan;

use ahead::Ahead;
pub(crate) use begun::Begun;
pub use plan::{Fetch, plan_fetches};

/// One chunk that the caller wants, once, however often it writes it.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    pub chunk: ChunkRef,
    /// The caller's own number for it, given back at delivery.
    pub tag: u64,
}

/// What arrives for one wanted chunk, on a decode worker's thread.
pub type Delivery<'a> = Result<&'a [u8], ChunkDamage>;

/// Why a chunk cannot be had: which object, where in it, and what is wrong.
#[derive(Debug, Clone)]
pub struct ChunkDamage {
    pub object: String,
    pub offset: u64,
    pub detail: String,
}

#[derive(Debug, Clone, Copy)]
pub struct FetchLimits {
    /// Ranged reads under way at once.
    pub requests_max: usize,
    /// Bytes read and not yet decoded.
    pub bytes_in_flight_max: usize,
    /// Decode workers.
    pub workers: usize,
}

impl Default for FetchLimits {
    /// 48 MiB fill a link of 600 MB/s and 50 ms, and leave more than half of 128 MB to everything else. One worker more
    /// than there are cores, as each waits for the disk now and then.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self { requests_max: 64, bytes_in_flight_max: 48 << 20, workers: cores + 1 }
    }
}

impl FetchLimits {
    /// So long that the asking costs little, so short that there can be many at once: of a far store it is the number of
    /// requests under way that gives the speed.
    #[doc(hidden)] // for benches, which plan as a restore does
    pub fn fetch_bytes_max(&self) -> u64 {
        (self.bytes_in_flight_max as u64 / 24).clamp(FETCH_BYTES_MIN, FETCH_BYTES_MAX)
    }
}

const FETCH_BYTES_MIN: u64 = 1 << 20;
const FETCH_BYTES_MAX: u64 = 8 << 20;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FetchStats {
    pub requests: u64,
    pub bytes_read: u64,
    pub chunks: u64,
    pub damaged: u64,
}

/// How to open every pack a manifest names, without reading a pack's own header.
#[derive(Clone)]
pub(crate) struct Openers {
    by_pack: HashMap<ObjectId, (ObjectName, ObjectOpener)>,
    /// Those that lie on this host.
    local: HashMap<ObjectId, LocalPack>,
    keys: SiteKeys,
}

impl Openers {
    /// `keys_of` gives the site's key of a number; `manifest` is the object the head came from, in
    /// which a tiny site's chunks lie.
    pub(crate) fn new(keys: &SiteKeys, head: &ManifestHead, manifest: (ObjectId, ObjectOpener)) -> Result<Self, Error> {
        let mut by_pack = HashMap::with_capacity(head.packs.len() + 1);
        for row in &head.packs {
            let name = crate::upload::object_name(lifeboat_format::names::pack(&keys.handle(), &row.id))?;
            let opener = ObjectOpener::from_pack_row(keys, row).map_err(Error::of_object(&name))?;
            by_pack.insert(row.id, (name, opener));
        }
        let name = crate::upload::object_name(lifeboat_format::names::manifest(&keys.handle(), &manifest.0))?;
        by_pack.insert(manifest.0, (name, manifest.1));
        Ok(Self { by_pack, local: HashMap::new(), keys: keys.clone() })
    }

    /// Takes over how to open another manifest's packs.
    pub(crate) fn adopt(&mut self, other: &Self) {
        let others = other.by_pack.iter().map(|(id, opener)| (*id, opener.clone()));
        self.by_pack.extend(others);
        self.local.extend(other.local.iter().map(|(id, pack)| (*id, pack.clone())));
    }

    pub(crate) fn adopt_local(&mut self, pack: LocalPack) {
        self.local.insert(pack.id, pack);
    }

    pub(crate) fn get(&self, pack: ObjectId) -> Result<(&ObjectName, &ObjectOpener), Error> {
        let (name, opener) = self.by_pack.get(&pack).ok_or_else(|| Error::Damaged {
            object: pack.to_string(),
            detail: "a chunk names a pack that its manifest does not list".into(),
        })?;
        Ok((name, opener))
    }
}

/// How much at once, and when to stop.
#[derive(Debug, Clone, Copy)]
pub struct FetchControl<'a> {
    pub limits: FetchLimits,
    /// Set by whoever wants it to end early.
    pub cancel: &'a AtomicBool,
}

/// How one reading of chunks is done, and how it is stopped.
pub(crate) struct FetchContext<'a> {
    pub store: &'a dyn Store,
    pub openers: &'a Openers,
    /// Reads that were begun before.
    pub begun: &'a Begun,
    pub limits: FetchLimits,
    pub cancel: &'a AtomicBool,
}

/// Bytes that arrived, on their way to a decode worker.
struct Job<'a> {
    name: &'a ObjectName,
    opener: &'a ObjectOpener,
    fetch: Fetch,
    /// The bytes of the fetch, or why the object cannot give them.
    body: Result<BytesMut, String>,
    /// Its share of the byte budget, given back when the bytes are decoded.
    _permit: Option<tokio::sync::OwnedSemaphorePermit>,
}

/// Reads every wanted chunk and hands it to `deliver`, from several threads, in no set order.
///
/// `deliver` gets the tag and either the verified plain bytes or the damage. An error from it
/// stops everything and is the inner result; passing failures of the store stop it as well, for
/// only damage is delivered. Must run on a multi-threaded runtime.
pub(crate) fn fetch_chunks<E: Send>(
    context: &FetchContext<'_>,
    wanted: Vec<Wanted>,
    deliver: impl Fn(u64, Delivery<'_>) -> Result<(), E> + Sync,
) -> Result<Result<FetchStats, E>, Error> {
    let (local, mut wanted): (Vec<Wanted>, Vec<Wanted>) =
        wanted.into_iter().partition(|wanted| context.openers.local.contains_key(&wanted.chunk.pack));
    if let Err(error) = tokio::task::block_in_place(|| deliver_local(context, local, &deliver))? {
        return Ok(Err(error));
    }
    sort(&mut wanted);
    let counters = Counters::default();
    let stop = AtomicBool::new(false);
    let failed: Mutex<Option<E>> = Mutex::new(None);
    let ahead = Ahead::new(context.limits.bytes_in_flight_max);
    let (sender, receiver) = crossbeam_channel::unbounded::<Job<'_>>(); // the byte budget bounds it
    let outcome = tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            for _ in 0..context.limits.workers.max(1) {
                let receiver = receiver.clone();
                let (wanted, counters, stop, failed, deliver) = (&wanted, &counters, &stop, &failed, &deliver);
                let ahead = &ahead;
                scope.spawn(move || {
                    let mut decoder = Decoder::new(wanted, counters);
                    while let Some(job) = next_job(&receiver, ahead) {
                        if stop.load(Ordering::Relaxed) {
                            continue;
                        }
                        if let Err(error) = decoder.decode(job, deliver) {
                            stop.store(true, Ordering::Relaxed);
                            lock(failed).get_or_insert(error);
                        }
                    }
                });
            }
            let reading = Reading { context, wanted: &wanted, counters: &counters, stop: &stop, ahead: &ahead };
            tokio::runtime::Handle::current().block_on(reading.all(sender))
        })
    });
    if let Some(error) = lock(&failed).take() {
        return Ok(Err(error));
    }
    outcome.map(|()| Ok(counters.stats()))
}

/// In the order of their places, which is that of reading.
pub(crate) fn sort(wanted: &mut [Wanted]) {
    wanted.sort_unstable_by_key(|wanted| (wanted.chunk.pack, wanted.chunk.offset));
}

/// Hands on what lies on this host, in the order of its place there.
fn deliver_local<E>(
    context: &FetchContext<'_>,
    mut wanted: Vec<Wanted>,
    deliver: &impl Fn(u64, Delivery<'_>) -> Result<(), E>,
) -> Result<Result<(), E>, Error> {
    wanted.sort_unstable_by_key(|wanted| (wanted.chunk.pack, wanted.chunk.offset));
    let mut buffer = Vec::new();
    for Wanted { chunk, tag } in wanted {
        if context.cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let Some(pack) = context.openers.local.get(&chunk.pack) else { continue };
        let delivered = match pack.read(&context.openers.keys, &chunk, &mut buffer)? {
            Ok(plain) => deliver(tag, Ok(plain)),
            Err(detail) => {
                deliver(tag, Err(ChunkDamage { object: "a file on this host".into(), offset: chunk.offset, detail }))
            }
        };
        if let Err(error) = delivered {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Waits for bytes to decode; `None`: all are.
fn next_job<'a>(receiver: &crossbeam_channel::Receiver<Job<'a>>, ahead: &Ahead) -> Option<Job<'a>> {
    receiver.try_recv().ok().or_else(|| {
        let (began, unasked) = (Instant::now(), ahead.unasked());
        let job = receiver.recv().ok();
        ahead.was_awaited(began.elapsed(), unasked);
        job
    })
}

/// The reading side.
struct Reading<'a, 'b> {
    context: &'b FetchContext<'a>,
    wanted: &'b [Wanted],
    counters: &'b Counters,
    stop: &'b AtomicBool,
    ahead: &'b Ahead,
}

impl<'a> Reading<'a, '_> {
    async fn all(&self, sender: crossbeam_channel::Sender<Job<'a>>) -> Result<(), Error> {
        let limits = self.context.limits;
        let stopped = || self.stop.load(Ordering::Relaxed) || self.context.cancel.load(Ordering::Relaxed);
        let fetches = plan_fetches(self.wanted, limits.fetch_bytes_max());
        let reads = fetches.into_iter().take_while(|_| !stopped()).map(|fetch| {
            let sender = &sender;
            async move {
                let permit = self.ahead.take(fetch.bytes.end - fetch.bytes.start).await;
                for job in self.one(fetch, permit).await? {
                    // The workers outlive the sender; a send fails only if all of them panicked.
                    sender.send(job).map_err(|_| Error::Bug("every decode worker has stopped".into()))?;
                }
                Ok::<(), Error>(())
            }
        });
        let mut reads = futures_util::stream::iter(reads).buffer_unordered(limits.requests_max.max(1));
        while let Some(read) = reads.next().await {
            if let Err(error) = read {
                self.stop.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
        if self.context.cancel.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// One fetch; where the object is too short for all of it, chunk by chunk, so that what is still
    /// there arrives.
    async fn one(
        &self,
        fetch: Fetch,
        permit: Option<tokio::sync::OwnedSemaphorePermit>,
    ) -> Result<Vec<Job<'a>>, Error> {
        let (name, opener) = self.context.openers.get(fetch.pack)?;
        let body = self.context.read(name, self.counters, fetch.bytes.clone()).await?;
        if body.is_ok() || fetch.wanted.len() == 1 {
            return Ok(vec![Job { name, opener, fetch, body, _permit: permit }]);
        }
        let mut jobs = Vec::new();
        for number in fetch.wanted.clone() {
            let chunk = self.wanted[number].chunk;
            let bytes = chunk.offset..chunk.offset.saturating_add(u64::from(chunk.stored_len));
            let body = self.context.read(name, self.counters, bytes.clone()).await?;
            let fetch = Fetch { pack: fetch.pack, bytes, wanted: number..number + 1 };
            jobs.push(Job { name, opener, fetch, body, _permit: None });
        }
        Ok(jobs)
    }
}

impl FetchContext<'_> {
    /// The inner error is damage of the object, the outer one anything else.
    async fn read(
        &self,
        name: &ObjectName,
        counters: &Counters,
        bytes: Range<u64>,
    ) -> Result<Result<BytesMut, String>, Error> {
        counters.requests.fetch_add(1, Ordering::Relaxed);
        let read = match self.begun.take(name, &bytes).await {
            Some(body) => Ok(body),
            None => self.store.get_range(name, bytes).await,
        };
        match read {
            Ok(body) => {
                counters.bytes_read.fetch_add(body.len() as u64, Ordering::Relaxed);
                Ok(Ok(body.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]))))
            }
            Err(error) if error.fault() == Fault::Damage => Ok(Err(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }
}

#[derive(Default)]
struct Counters {
    requests: AtomicU64,
    bytes_read: AtomicU64,
    chunks: AtomicU64,
    damaged: AtomicU64,
}

impl Counters {
    fn stats(&self) -> FetchStats {
        FetchStats {
            requests: self.requests.load(Ordering::Relaxed),
            bytes_read: self.bytes_read.load(Ordering::Relaxed),
            chunks: self.chunks.load(Ordering::Relaxed),
            damaged: self.damaged.load(Ordering::Relaxed),
        }
    }
}

/// The state of one decode worker.
struct Decoder<'a> {
    wanted: &'a [Wanted],
    counters: &'a Counters,
    /// `Err`: the compressor could not be set up, which every chunk then says.
    decompressor: Result<Decompressor, String>,
    plain: Vec<u8>,
}

impl<'a> Decoder<'a> {
    fn new(wanted: &'a [Wanted], counters: &'a Counters) -> Self {
        let decompressor = Decompressor::new().map_err(|error| error.to_string());
        Self { wanted, counters, decompressor, plain: Vec::new() }
    }

    fn decode<E>(&mut self, job: Job<'_>, deliver: &impl Fn(u64, Delivery<'_>) -> Result<(), E>) -> Result<(), E> {
        let wanted = &self.wanted[job.fetch.wanted.clone()];
        let mut body = job.body;
        // The same chunk wanted twice lies side by side: it is decoded once.
        for same in wanted.chunk_by(|a, b| a.chunk == b.chunk) {
            let chunk = same[0].chunk;
            self.counters.chunks.fetch_add(1, Ordering::Relaxed);
            let opened = match &mut body {
                Ok(body) => self.open(job.opener, &chunk, &job.fetch, body),
                Err(detail) => Err(detail.clone()),
            };
            match opened {
                Ok(plain) => same.iter().try_for_each(|w| deliver(w.tag, Ok(plain)))?,
                Err(detail) => {
                    self.counters.damaged.fetch_add(1, Ordering::Relaxed);
                    let damage = ChunkDamage { object: job.name.to_string(), offset: chunk.offset, detail };
                    same.iter().try_for_each(|w| deliver(w.tag, Err(damage.clone())))?;
                }
            }
        }
        Ok(())
    }

    /// The verified plain bytes, either in the body itself or in the worker's own buffer.
    fn open<'b>(
        &'b mut self,
        opener: &ObjectOpener,
        chunk: &ChunkRef,
        fetch: &Fetch,
        body: &'b mut BytesMut,
    ) -> Result<&'b [u8], String> {
        let decompressor = self.decompressor.as_mut().map_err(|detail| detail.clone())?;
        let start = usize::try_from(chunk.offset - fetch.bytes.start).unwrap_or(usize::MAX);
        let frame = body
            .get_mut(start..start.saturating_add(chunk.stored_len as usize))
            .ok_or_else(|| "the chunk lies beyond its object".to_owned())?;
        opener.open_chunk_borrowed(chunk, frame, decompressor, &mut self.plain).map_err(|error| error.to_string())
    }
}

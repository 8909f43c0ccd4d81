//! The site that all actors share, and its repository: made once, copied for every schedule.
//!
//!   piece ─two▸ pack      three packs are shared by the first points, and wanted again by later ones
//!
//! Content is a handful of pieces, each one chunk; a point is a set of them, written as a backup writes it, without its threads.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lifeboat_format::{
    Compressor, Decompressor, ManifestPart, ManifestSummary, ManifestWriter, ObjectKind, ObjectOpener, ObjectWriter,
    SecretKey, SiteKeys, names,
};
use lifeboat_model::{
    ChunkRef, Entry, EntryKind, EntryPath, Extent, Generation, Mark, ObjectId, PartIdentity, PartRecord, PartStatus,
    PointState, Position, RunNumber, SiteId, SnapshotId, SnapshotRecord, SourceKind, SourceName,
};
use lifeboat_store::{MemoryStore, ObjectName};

use super::judge::{Facts, Judge, Micros, Pieces};
use super::steps::{Gate, StepStore};
use crate::tests::{content, metadata, new_repository_in, seed_ids, writer};
use crate::upload::{create_and_read_back, object_name};
use crate::{Error, Prepared, PruneRules, Repository, Site, random_id};

pub const DAY: Micros = 86_400_000_000;
pub const HOUR: Micros = DAY / 24;
pub const RULES: PruneRules = PruneRules { grace: Duration::from_secs(86_400), unnamed: Duration::from_secs(86_400) };
/// What the first points consist of: packs of pieces 0 and 1, 2 and 3, 4 and 5 are shared.
const FIRST: [Pieces; 3] = [0b0011_1111, 0b0100_0011, 0b1000_1100];
const BEGIN: Micros = 1_700_000_000_000_000;
/// No piece is longer.
const PIECE_LEN: usize = 120;

/// A repository with the first points.
pub struct Scene {
    objects: BTreeMap<ObjectName, Bytes>,
    repository: Repository,
    keys: SiteKeys,
    facts: Facts,
}

/// One copy of it.
pub struct World {
    pub store: Arc<MemoryStore>,
    pub judge: Arc<Judge>,
    pub repository: Repository,
}

pub fn site_id() -> SiteId {
    SiteId::new("acme").unwrap()
}

impl Scene {
    pub async fn new() -> Self {
        seed_ids(Some(0));
        let store = Arc::new(MemoryStore::new());
        store.set_clock(lifeboat_model::Timestamp(BEGIN));
        let repository = new_repository_in(store.clone(), &SecretKey::generate().unwrap()).await;
        let site = repository.site_for_backup(&site_id(), None).await.unwrap();
        let keys = site.keys().clone();
        let mut facts = Facts::default();
        facts.now = BEGIN;
        let judge = Judge::new(keys.clone(), RULES.grace, facts);
        let judged = StepStore { store: store.clone(), gate: Gate::open(), judge: Arc::new(judge) };
        let judge = judged.judge.clone();
        let world = World { store: store.clone(), judge: judge.clone(), repository: repository.over(Arc::new(judged)) };
        for pieces in FIRST {
            world.back_up(&world.repository, pieces).await.unwrap();
        }
        world.record_run(&world.repository).await.unwrap();
        judge.facts().trace.clear();
        let facts = judge.facts().clone();
        assert_eq!(facts.fault, None);
        Self { objects: store.objects(), repository, keys, facts }
    }

    pub fn world(&self) -> World {
        let store = Arc::new(MemoryStore::new());
        store.set_clock(lifeboat_model::Timestamp(BEGIN));
        for (name, body) in &self.objects {
            store.replace(name, body.clone());
        }
        let judge = Judge::new(self.keys.clone(), RULES.grace, self.facts.clone());
        World { repository: self.repository.over(store.clone()), store, judge: Arc::new(judge) }
    }
}

impl World {
    /// The repository as one actor has it.
    pub fn through(&self, gate: &Arc<Gate>) -> Repository {
        let store = StepStore { store: self.store.clone(), gate: gate.clone(), judge: self.judge.clone() };
        self.repository.over(Arc::new(store))
    }

    pub async fn open(&self, repository: &Repository) -> Result<Site, Error> {
        repository.site(&site_id(), None).await.map(|site| site.unwrap())
    }

    pub fn advance(&self, by: Micros) {
        let mut facts = self.judge.facts();
        facts.now += by;
        self.store.set_clock(lifeboat_model::Timestamp(facts.now));
    }

    /// Says that a backup ran, as every backup does at its end.
    pub async fn record_run(&self, repository: &Repository) -> Result<(), Error> {
        let now = self.judge.now();
        let run = lifeboat_model::Run {
            number: repository.newest_run().await?.unwrap_or(RunNumber(0)).next(),
            nonce: ObjectId([0; 16]),
            started_at: now,
            finished_at: now,
            writer: writer(),
            sources: Vec::new(),
            sites: Vec::new(),
        };
        assert!(repository.record_run(run).await?, "nobody else records runs");
        Ok(())
    }

    /// Publishes these pieces: what is known is named again, the rest stored in small packs.
    pub async fn back_up(&self, repository: &Repository, pieces: Pieces) -> Result<(), Error> {
        let mut site = repository.site_for_backup(&site_id(), None).await?;
        let known = site.known_chunks().await?;
        let (mut places, mut packs) = (BTreeMap::new(), known.packs);
        let mut missing = Vec::new();
        for piece in pieces_in(pieces) {
            match known.chunks.get(&site.keys().chunk_id(&plain(piece))) {
                Some(place) => drop(places.insert(piece, *place)),
                None => missing.push(piece),
            }
        }
        let mut fresh = Vec::new();
        for some in missing.chunk_by(|a, b| a / 2 == b / 2) {
            let (stored, row) = self.store_pack(&site, some).await?;
            packs.insert(row.id, row);
            fresh.extend(&stored);
            places.extend(some.iter().copied().zip(stored));
        }
        let index = if fresh.is_empty() { None } else { Some(site.write_index(&fresh, &packs).await?) };
        let named: BTreeSet<ObjectId> = places.values().map(|place| place.pack).collect();
        let rows = named.iter().map(|id| packs[id]).collect();
        let record = self.write_manifest(&site, pieces, &places, rows).await?;
        let prepared = Prepared { record: record.clone(), index, packs: named };
        site.publish(&writer(), &prepared, |_, _| Ok(record.clone())).await.map(drop)
    }

    async fn store_pack(
        &self,
        site: &Site,
        pieces: &[u32],
    ) -> Result<(Vec<ChunkRef>, lifeboat_format::PackRow), Error> {
        let pack = ObjectId(random_id()?);
        let mut object = ObjectWriter::new(site.keys(), ObjectKind::Pack, pack)?;
        let (mut stored, mut compressor) = (Vec::new(), Compressor::new()?);
        for piece in pieces {
            let (bytes, id) = (plain(*piece), site.keys().chunk_id(&plain(*piece)));
            let placed = object.push_chunk(&id, &bytes, &mut compressor)?;
            let (offset, stored_len, raw_len) = (placed.offset, placed.stored_len, bytes.len() as u32);
            stored.push(ChunkRef { id, pack, offset, stored_len, raw_len });
        }
        let (body, row) = object.finish()?;
        self.judge.facts().pieces_of.insert(pack, pieces.iter().map(|piece| 1 << piece).sum());
        let name = object_name(names::pack(&site.handle(), &pack))?;
        create_and_read_back(site.repository().store().as_ref(), &name, body.into()).await?;
        Ok((stored, row))
    }

    async fn write_manifest(
        &self,
        site: &Site,
        pieces: Pieces,
        places: &BTreeMap<u32, ChunkRef>,
        packs: Vec<lifeboat_format::PackRow>,
    ) -> Result<SnapshotRecord, Error> {
        let now = self.judge.now();
        let (id, mut compressor) = (SnapshotId(random_id()?), Compressor::new()?);
        let mut manifest = ManifestWriter::new(site.keys(), ObjectId(random_id()?))?;
        for (piece, place) in places {
            let entry = Entry {
                path: EntryPath::new(format!("{piece:02}")).unwrap(),
                kind: EntryKind::File,
                metadata: metadata(u64::from(place.raw_len)),
                extents: vec![Extent::Chunk(*place)],
            };
            manifest.push_entry(0, &entry, &mut compressor)?;
        }
        let record = PartRecord {
            source: SourceName::new("files").unwrap(),
            kind: SourceKind::Files,
            status: PartStatus::Complete,
            entries: places.len() as u64,
            logical_bytes: places.values().map(|place| u64::from(place.raw_len)).sum(),
            cut_from: now,
            cut_till: now,
        };
        let identity = PartIdentity { machine: "m".into(), filesystem: "f".into(), path: "p".into() };
        let part = ManifestPart {
            record: record.clone(),
            identity,
            position: Position("1".into()),
            problems: vec![],
            left_out: vec![],
        };
        let named = packs.iter().map(|row| row.id).collect();
        let summary = ManifestSummary { site: site_id(), snapshot: id, parts: vec![part], packs };
        let (body, reference) = manifest.finish(summary, &mut compressor)?;
        {
            let mut facts = self.judge.facts();
            facts.packs_of.insert(reference.id, named);
            facts.pieces_of.insert(reference.id, pieces);
        }
        let name = object_name(names::manifest(&site.handle(), &reference.id))?;
        create_and_read_back(site.repository().store().as_ref(), &name, body.into()).await?;
        Ok(SnapshotRecord {
            id,
            generation: Generation(0),
            manifest: reference,
            mark: Mark::Good,
            mark_reason: None,
            state: PointState::ReadBack,
            cut_from: now,
            cut_till: now,
            parent: None,
            entries: record.entries,
            logical_bytes: record.logical_bytes,
            added_bytes: 0,
            parts: vec![record],
            restore: None,
            moment: None,
            is_scan: false,
            forgotten: None,
        })
    }

    /// Reads a point chunk by chunk, and compares it with what was backed up.
    pub async fn read(&self, site: &Site, record: &SnapshotRecord) -> Result<(), String> {
        let said = |error: Error| format!("a live point does not restore: {error}");
        let manifest = site.manifest(&record.manifest).await.map_err(said)?;
        let entries = manifest.entries(site, 0).await.map_err(said)?;
        let rows: HashMap<_, _> = manifest.head().packs.iter().map(|row| (row.id, row)).collect();
        let mut found = 0;
        for entry in &entries {
            let piece: u32 = entry.path.to_string().parse().unwrap();
            for chunk in entry.chunks() {
                let name = object_name(names::pack(&site.handle(), &chunk.pack)).unwrap();
                let range = chunk.offset..chunk.offset + u64::from(chunk.stored_len);
                let frame = site.repository().store().get_range(&name, range).await;
                let mut frame = frame.map_err(|error| said(error.into()))?.to_vec();
                let opener = ObjectOpener::from_pack_row(site.keys(), rows[&chunk.pack]).unwrap();
                let mut got = Vec::new();
                let opened = opener.open_chunk(chunk, &mut frame, &mut Decompressor::new().unwrap(), &mut got);
                opened.map_err(|error| said(error.into()))?;
                if got != plain(piece) {
                    return Err(format!("a live point has other bytes: piece=`{piece}`"));
                }
                found |= 1 << piece;
            }
        }
        let want = self.judge.facts().pieces_of[&record.manifest.id];
        if found != want {
            Err(format!("a live point lacks content: found=`{found:b}`, want=`{want:b}`"))
        } else {
            Ok(())
        }
    }
}

fn pieces_in(pieces: Pieces) -> impl Iterator<Item = u32> {
    (0..Pieces::BITS).filter(move |piece| pieces >> piece & 1 == 1)
}

fn plain(piece: u32) -> Vec<u8> {
    content(u64::from(piece) + 1, PIECE_LEN - piece as usize)
}

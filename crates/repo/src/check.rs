//! Checking one site: everything its commits say is there, follows, and opens.
//!
//!   structure   every commit chained and derived ▸ every manifest and index opens ▸ every object
//!               they name is there with its length
//!   read data   every byte of every named object: each frame opens, each chunk has its id
//!
//! Invariant (damage-is-named): a finding names object, offset where there is one, what it costs,
//! and nothing is changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::StreamExt;
use lifeboat_format::{
    Decompressor, FrameKind, ObjectKind, ObjectOpener, PackRow, commit_hash, decode_commit, names, scan_pack,
};
use lifeboat_model::{
    ChunkRef, Commit, CommitEvent, Entry, Fault, Faulty, Generation, ObjectId, PointState, SiteState, SnapshotId,
    SnapshotRecord, WriterIdentity,
};

use crate::upload::object_name;
use crate::{Error, Manifest, Site};

/// How much a check reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckDepth {
    /// Commits, manifests and indexes; packs by name and length.
    Structure,
    /// And this share of the packs, byte by byte: `1..=100` per cent. Which ones moves with `turn`,
    /// so that repeated partial checks come round to all of them.
    ReadData { percent: u8, turn: u64 },
}

/// What a check found.
#[derive(Debug, Clone, Default)]
pub struct CheckReport {
    pub commits: u64,
    pub snapshots: u64,
    pub objects: u64,
    pub bytes_read: u64,
    pub findings: Vec<Finding>,
    /// Objects under the site's prefix that no commit names: left by killed or running writers.
    pub unnamed_objects: u64,
    /// Snapshots of which every object was read.
    pub read_back: Vec<SnapshotId>,
}

/// One damaged thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub object: String,
    /// Byte offset in the object, where it is known.
    pub offset: Option<u64>,
    pub detail: String,
    /// Entries whose content it holds, as `<snapshot> <part>/<entry>`; the first few.
    pub entries: Vec<String>,
    /// Snapshots that cannot be restored whole because of it.
    pub snapshots: Vec<SnapshotId>,
}

/// A finding names this many entries at most.
const ENTRIES_NAMED_MAX: usize = 10;
/// Packs read at once.
const READS_MAX: usize = 4;

impl Site {
    /// Checks everything the site's commits name.
    pub async fn check(&self, depth: CheckDepth) -> Result<CheckReport, Error> {
        let mut check = Check { site: self, report: CheckReport::default(), named: Named::default() };
        check.keys().await?;
        check.commits().await?;
        check.manifests().await?;
        check.indexes().await?;
        check.presence().await?;
        if let CheckDepth::ReadData { percent, turn } = depth {
            check.packs(percent, turn).await?;
        }
        check.report.findings.sort_by(|a, b| (&a.object, a.offset).cmp(&(&b.object, b.offset)));
        Ok(check.report)
    }

    /// Remembers in the site's sequence that a snapshot was read back whole.
    pub async fn mark_read_back(&mut self, snapshot: SnapshotId, writer: &WriterIdentity) -> Result<(), Error> {
        if self.state().snapshot(snapshot).is_some_and(|record| record.state < PointState::ReadBack) {
            let event = CommitEvent::StateChanged { snapshot, state: PointState::ReadBack, drill: None };
            self.commit(writer, |_, _| Ok(event.clone())).await?;
        }
        Ok(())
    }
}

/// What the manifests name, and on whose behalf.
#[derive(Default)]
struct Named {
    packs: BTreeMap<ObjectId, NamedPack>,
    objects: BTreeSet<String>,
}

struct NamedPack {
    row: PackRow,
    snapshots: BTreeSet<SnapshotId>,
    /// Chunk offset → entries that hold it, the first few.
    chunks: HashMap<u64, (ChunkRef, Vec<String>)>,
}

struct Check<'a> {
    site: &'a Site,
    report: CheckReport,
    named: Named,
}

impl Check<'_> {
    /// Both places of the site's key hold it.
    async fn keys(&mut self) -> Result<(), Error> {
        for left in self.site.keys_left().await? {
            self.find(left, None, "the site was erased, and this key of it was not destroyed: shred it again".into());
        }
        let (handle, number) = (self.site.handle(), self.site.state().key);
        for name in [names::site_key(&handle, number), names::site_key_copy(&handle, number)] {
            match self.site.repository.read_site_keys(handle, number, name.clone()).await {
                Ok(_) => {}
                Err(error) if error.fault() == Fault::Damage => self.find(name, None, error.to_string()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Every commit down to the first: sealed, chained, and with the state its event leads to.
    async fn commits(&mut self) -> Result<(), Error> {
        let newest = self.site.head();
        let mut before: Option<(SiteState, [u8; 32])> = None;
        // The commits before an erasure can be read no more.
        let first = self.site.state().shredded.map_or(1, |shredded| shredded.generation.0);
        for number in first..=newest.generation.0 {
            let generation = Generation(number);
            let name = object_name(names::commit(&self.site.handle(), generation))?;
            self.named.objects.insert(name.to_string());
            let body = match self.site.repository.store().get(&name).await {
                Ok(body) => body,
                Err(error) if error.fault() == Fault::Damage => {
                    self.find(name.to_string(), None, error.to_string());
                    before = None;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            self.report.commits += 1;
            self.report.bytes_read += body.len() as u64;
            let commit = match decode_commit(&self.site.keys, generation, &body) {
                Ok(commit) => commit,
                Err(error) => {
                    self.find(name.to_string(), None, error.to_string());
                    before = None;
                    continue;
                }
            };
            if let Some(detail) = follows(before.as_ref(), &commit, self.site) {
                self.find(name.to_string(), None, detail);
            }
            before = Some((commit.state, commit_hash(&body)));
        }
        Ok(())
    }

    async fn manifests(&mut self) -> Result<(), Error> {
        let SiteState { snapshots, forgotten, .. } = self.site.state().clone();
        for record in snapshots.into_iter().chain(forgotten) {
            self.report.snapshots += 1;
            let name = names::manifest(&self.site.handle(), &record.manifest.id);
            self.named.objects.insert(name.clone());
            match self.manifest(&record).await {
                Ok(()) => {}
                Err(error) if error.fault() == Fault::Damage => {
                    let finding = Finding {
                        object: name,
                        offset: None,
                        detail: error.to_string(),
                        entries: Vec::new(),
                        snapshots: vec![record.id],
                    };
                    self.report.findings.push(finding);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads a manifest whole, with the chunks that lie in it, and notes what it names.
    async fn manifest(&mut self, record: &SnapshotRecord) -> Result<(), Error> {
        let manifest = self.site.manifest(&record.manifest).await?;
        self.read_whole(manifest.object().as_str(), ObjectKind::Manifest, record.manifest.id).await?;
        for row in &manifest.head().packs {
            let named = self.named.packs.entry(row.id).or_insert_with(|| NamedPack::new(*row));
            named.snapshots.insert(record.id);
        }
        for (number, part) in manifest.head().parts.iter().enumerate() {
            for entry in manifest.entries(self.site, number).await? {
                let label = format!("{} {}/{}", record.id, part.record.source, entry.path);
                self.note_entry(&manifest, &entry, &label);
            }
        }
        Ok(())
    }

    fn note_entry(&mut self, manifest: &Manifest, entry: &Entry, label: &str) {
        for chunk in entry.chunks() {
            if chunk.pack == manifest.id() {
                continue; // read with the manifest
            }
            if let Some(named) = self.named.packs.get_mut(&chunk.pack) {
                let (_, entries) = named.chunks.entry(chunk.offset).or_insert_with(|| (*chunk, Vec::new()));
                if entries.len() < ENTRIES_NAMED_MAX {
                    entries.push(label.to_owned());
                }
            }
        }
    }

    async fn indexes(&mut self) -> Result<(), Error> {
        for index in self.site.state().indexes.clone() {
            let name = names::index(&self.site.handle(), &index.id);
            self.named.objects.insert(name.clone());
            match self.site.read_index(&index).await {
                Ok(segment) => {
                    for row in segment.packs {
                        // Chunks may be reused that no manifest names any more.
                        self.named.packs.entry(row.id).or_insert_with(|| NamedPack::new(row));
                    }
                }
                Err(error) if error.fault() == Fault::Damage => self.find(name, None, error.to_string()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Every pack that is named is there, with the length it was sealed with.
    async fn presence(&mut self) -> Result<(), Error> {
        let lens = self.listing().await?;
        let handle = self.site.handle();
        let names: BTreeMap<String, ObjectId> =
            self.named.packs.keys().map(|id| (names::pack(&handle, id), *id)).collect();
        for (name, id) in &names {
            let named = &self.named.packs[id];
            let detail = match lens.get(name) {
                Some(len) if *len == named.row.len => continue,
                Some(len) => format!("its length is wrong: is=`{len}`, was=`{}`", named.row.len),
                None => "it is missing".to_owned(),
            };
            let finding = named.finding(name, None, detail, None);
            self.report.findings.push(finding);
        }
        let key = names::site_key_copies_prefix(&handle);
        let waits_to_be_deleted = |name: &str| match names::parse_object_name(name) {
            Some(names::ParsedName::Object(_, _, id)) => self.site.state().is_condemned(&id),
            Some(names::ParsedName::Commit(_, generation)) => {
                self.site.state().shredded.is_some_and(|shredded| generation < shredded.generation)
            }
            _ => false,
        };
        let unnamed = lens.keys().filter(|name| {
            !names.contains_key(*name)
                && !self.named.objects.contains(*name)
                && !name.starts_with(&key)
                && !waits_to_be_deleted(name)
        });
        self.report.unnamed_objects = unnamed.count() as u64;
        Ok(())
    }

    async fn listing(&mut self) -> Result<BTreeMap<String, u64>, Error> {
        let prefix = names::site_prefix(&self.site.handle());
        let mut lens = BTreeMap::new();
        let mut after = None;
        loop {
            let page = self.site.repository.store().list(&prefix, after.as_ref(), 1000).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.name.clone());
            self.report.objects += page.len() as u64;
            lens.extend(page.into_iter().map(|listed| (listed.name.to_string(), listed.len)));
        }
        Ok(lens)
    }

    /// Reads packs byte by byte.
    async fn packs(&mut self, percent: u8, turn: u64) -> Result<(), Error> {
        let share = u64::from(percent.clamp(1, 100));
        let chosen = |number: u64| percent >= 100 || (number * share + turn * share) % 100 < share;
        let site = self.site;
        let handle = site.handle();
        let missing: BTreeSet<String> = self.report.findings.iter().map(|finding| finding.object.clone()).collect();
        let packs: Vec<&NamedPack> =
            (0u64..).zip(self.named.packs.values()).filter(|(n, _)| chosen(*n)).map(|(_, p)| p).collect();
        let skipped = packs.len() < self.named.packs.len();
        let reads = packs.into_iter().map(|named| {
            let name = names::pack(&handle, &named.row.id);
            let gone = missing.contains(&name);
            async move { if gone { Ok((0, Vec::new())) } else { read_pack(site, named, &name).await } }
        });
        let mut reads = futures_util::stream::iter(reads).buffer_unordered(READS_MAX);
        let mut findings = Vec::new();
        let mut bytes = 0;
        while let Some(read) = reads.next().await {
            let (len, found) = read?;
            bytes += len;
            findings.extend(found);
        }
        drop(reads);
        self.report.bytes_read += bytes;
        self.report.findings.extend(findings);
        if !skipped {
            let damaged: BTreeSet<SnapshotId> =
                self.report.findings.iter().flat_map(|f| f.snapshots.iter().copied()).collect();
            let all = self.site.state().snapshots.iter().map(|record| record.id);
            self.report.read_back = all.filter(|id| !damaged.contains(id)).collect();
        }
        Ok(())
    }

    /// Opens every frame of a manifest.
    async fn read_whole(&mut self, name: &str, kind: ObjectKind, id: ObjectId) -> Result<(), Error> {
        let body = self.site.repository.store().get(&object_name(name.to_owned())?).await?;
        self.report.bytes_read += body.len() as u64;
        match open_all(self.site, &body, kind, id, &HashMap::new()).into_iter().next() {
            None => Ok(()),
            Some((offset, detail)) => {
                Err(Error::Damaged { object: name.to_owned(), detail: format!("offset=`{offset}`, {detail}") })
            }
        }
    }

    fn find(&mut self, object: String, offset: Option<u64>, detail: String) {
        self.report.findings.push(Finding { object, offset, detail, entries: Vec::new(), snapshots: Vec::new() });
    }
}

impl NamedPack {
    fn new(row: PackRow) -> Self {
        Self { row, snapshots: BTreeSet::new(), chunks: HashMap::new() }
    }

    /// `at`: the chunk that is damaged; `None`: all of them.
    fn finding(&self, name: &str, offset: Option<u64>, detail: String, at: Option<u64>) -> Finding {
        let hit = self.chunks.iter().filter(|(offset, _)| at.is_none_or(|at| at == **offset));
        let mut entries: Vec<String> = hit.flat_map(|(_, (_, entries))| entries.iter().cloned()).collect();
        entries.sort();
        let touches = |id: &SnapshotId| entries.iter().any(|entry| entry.starts_with(&id.to_string()));
        let snapshots = self.snapshots.iter().copied().filter(|id| at.is_none() || touches(id)).collect();
        entries.truncate(ENTRIES_NAMED_MAX);
        Finding { object: name.to_owned(), offset, detail, entries, snapshots }
    }
}

/// Why a commit does not follow from the one before.
fn follows(before: Option<&(SiteState, [u8; 32])>, commit: &Commit, site: &Site) -> Option<String> {
    let first = (SiteState::new(site.id().clone(), commit.state.key), [0; 32]);
    let (state, hash) = match before {
        Some((state, hash)) => (state, *hash),
        None if commit.generation == Generation(1) => (&first.0, first.1),
        None => return None, // the one before is damaged, and named
    };
    if commit.previous != hash {
        return Some("it does not follow from the commit before it".into());
    }
    match state.apply(&commit.event, commit.generation) {
        Ok(next) if next == commit.state => None,
        Ok(next) => {
            let is_same = tells_nothing_newer(&commit.event) && as_before_drills_and_pruning(next) == commit.state;
            (!is_same).then(|| "its state is not what its event leads to".into())
        }
        Err(error) => Some(format!("its event cannot have happened: {error}")),
    }
}

/// Whether a writer can have written it that knows of no drills, and nothing of forgetting.
fn tells_nothing_newer(event: &CommitEvent) -> bool {
    !matches!(
        event,
        CommitEvent::StateChanged { drill: Some(_), .. }
            | CommitEvent::Forgot { .. }
            | CommitEvent::Undeleted { .. }
            | CommitEvent::Condemned(_)
            | CommitEvent::Deleted { .. }
            | CommitEvent::Shredded(_)
    )
}

/// What such a writer makes of a state. It loses how drills ended and what waits to be deleted, and brings back what was
/// forgotten: nothing that a restore needs.
fn as_before_drills_and_pruning(state: SiteState) -> SiteState {
    let back = state.forgotten.iter().cloned().map(|record| SnapshotRecord { forgotten: None, ..record });
    let mut snapshots: Vec<SnapshotRecord> = state.snapshots.iter().cloned().chain(back).collect();
    snapshots.sort_by_key(|record| record.generation);
    SiteState { snapshots, forgotten: Vec::new(), condemned: Vec::new(), proven: None, drill_failed: None, ..state }
}

async fn read_pack(site: &Site, named: &NamedPack, name: &str) -> Result<(u64, Vec<Finding>), Error> {
    let body = match site.repository.store().get(&object_name(name.to_owned())?).await {
        Ok(body) => body,
        Err(error) if error.fault() == Fault::Damage => {
            return Ok((0, vec![named.finding(name, None, error.to_string(), None)]));
        }
        Err(error) => return Err(error.into()),
    };
    let wanted: HashMap<u64, ChunkRef> = named.chunks.iter().map(|(offset, (chunk, _))| (*offset, *chunk)).collect();
    let damage = tokio::task::block_in_place(|| open_all(site, &body, ObjectKind::Pack, named.row.id, &wanted));
    let findings = damage.into_iter().map(|(offset, detail)| named.finding(name, Some(offset), detail, Some(offset)));
    Ok((body.len() as u64, findings.collect()))
}

/// Opens every frame of an object and gives what is wrong, by offset. `wanted`: the chunks that
/// must be there, as manifests name them.
fn open_all(
    site: &Site,
    body: &[u8],
    kind: ObjectKind,
    id: ObjectId,
    wanted: &HashMap<u64, ChunkRef>,
) -> Vec<(u64, String)> {
    let mut damage: Vec<(u64, String)> = Vec::new();
    let opener = match ObjectOpener::from_header(&site.keys, body, kind, id) {
        Ok(opener) => opener,
        Err(error) => return vec![(0, error.to_string())],
    };
    let mut decompressor = match Decompressor::new() {
        Ok(decompressor) => decompressor,
        Err(error) => return vec![(0, error.to_string())],
    };
    let scan = scan_pack(body);
    damage.extend(scan.damage.iter().map(|damage| (damage.offset, damage.detail.clone())));
    let mut seen: BTreeSet<u64> = BTreeSet::new();
    let mut plain = Vec::new();
    for frame in &scan.frames {
        let len = frame.header.stored_len();
        let bytes = usize::try_from(frame.offset)
            .ok()
            .and_then(|from| body.get(from..from.checked_add(usize::try_from(len).ok()?)?));
        let Some(bytes) = bytes else {
            damage.push((frame.offset, "it ends before its length".into()));
            continue;
        };
        let mut bytes = bytes.to_vec();
        let opened = match (frame.header.kind, wanted.get(&frame.offset)) {
            (FrameKind::Chunk, known) => {
                seen.insert(frame.offset);
                let own = ChunkRef {
                    id: frame.header.id,
                    pack: id,
                    offset: frame.offset,
                    stored_len: u32::try_from(len).unwrap_or(u32::MAX),
                    raw_len: frame.header.raw_len,
                };
                opener.open_chunk(known.unwrap_or(&own), &mut bytes, &mut decompressor, &mut plain)
            }
            (kind, _) => opener
                .open_frame(kind, frame.offset, &mut bytes)
                .and_then(|opened| opened.plain_into(&mut decompressor, &mut plain)),
        };
        if let Err(error) = opened {
            damage.push((frame.offset, error.to_string()));
        }
    }
    damage.extend(
        wanted.keys().filter(|offset| !seen.contains(offset)).map(|offset| (*offset, "the chunk is not there".into())),
    );
    damage.sort();
    damage.dedup_by_key(|(offset, _)| *offset);
    damage
}

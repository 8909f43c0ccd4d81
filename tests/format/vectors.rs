//! The golden vectors: how each is made, and everything a reader gets out of it.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::path::PathBuf;
use std::sync::LazyLock;

use lifeboat_format::*;
use lifeboat_model::*;

use crate::{audits, drills, lifecycle, log_highest, log_pruning, recoveries, sample};

pub const REPOSITORY: ObjectId = ObjectId([0xa0; 16]);
pub const PACK: ObjectId = ObjectId([0xb0; 16]);
pub const MANIFEST: ObjectId = ObjectId([0xb1; 16]);
pub const INDEX: ObjectId = ObjectId([0xb2; 16]);

type Reader = dyn Fn(&[u8]) -> Result<String>;

/// Where a vector lies, with the list of all that lie there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folder {
    /// Those of the day version 1 was frozen.
    V1,
    /// Kinds of objects that came to version 1 since.
    Recoveries,
    /// What drills have added since.
    Drills,
    /// What forgetting, pruning and erasing have added since.
    Lifecycle,
    /// Who did what.
    Audit,
    /// What pruning change logs has added since.
    LogPruning,
    /// What marking segments has added since.
    LogMarks,
    /// What the search in a log has added since.
    LogHighest,
}

impl Folder {
    pub const ALL: [Self; 8] = [
        Self::V1,
        Self::Recoveries,
        Self::Drills,
        Self::Lifecycle,
        Self::Audit,
        Self::LogPruning,
        Self::LogMarks,
        Self::LogHighest,
    ];

    pub fn path(self) -> PathBuf {
        let name = match self {
            Self::V1 => "v1",
            Self::Recoveries => "v1-recoveries",
            Self::Drills => "v1-drills",
            Self::Lifecycle => "v1-lifecycle",
            Self::Audit => "v1-audit",
            Self::LogPruning => "v1-log-pruning",
            Self::LogMarks => "v1-log-marks",
            Self::LogHighest => "v1-log-highest",
        };
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/format/vectors").join(name)
    }
}

/// One golden vector.
pub struct Vector {
    pub folder: Folder,
    pub name: String,
    pub make: Box<dyn Fn() -> Vec<u8>>,
    /// Everything it says, as text, or why it says nothing.
    pub read: Box<Reader>,
}

impl Vector {
    pub fn new(
        folder: Folder,
        name: impl Into<String>,
        make: impl Fn() -> Result<Vec<u8>> + 'static,
        read: impl Fn(&[u8]) -> Result<String> + 'static,
    ) -> Self {
        Self { folder, name: name.into(), make: Box::new(move || make().unwrap()), read: Box::new(read) }
    }

    fn v1(
        name: impl Into<String>,
        make: impl Fn() -> Result<Vec<u8>> + 'static,
        read: impl Fn(&[u8]) -> Result<String> + 'static,
    ) -> Self {
        Self::new(Folder::V1, name, make, read)
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }

    pub fn stored(&self) -> Vec<u8> {
        let path = self.path();
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

/// 32 bytes that count up from `first`.
pub fn secret(first: u8) -> SecretKey {
    let mut bytes = [0; 32];
    bytes.iter_mut().zip(first..).for_each(|(byte, value)| *byte = value);
    SecretKey::from_bytes(bytes)
}

pub fn master() -> SecretKey {
    secret(0x00)
}

pub fn recovery() -> SecretKey {
    secret(0x20)
}

fn entropy() -> Entropy {
    Entropy::fixed_for_golden_vectors([0xee; 32])
}

pub fn repository_keys() -> &'static RepositoryKeys {
    static KEYS: LazyLock<RepositoryKeys> =
        LazyLock::new(|| RepositoryKeys::new(&secret(0x40), REPOSITORY).unwrap().with_entropy(entropy()));
    &KEYS
}

pub fn site_keys() -> SiteKeys {
    static KEYS: LazyLock<SiteKeys> = LazyLock::new(|| site_keys_of(&sample::site(), KeyNumber(1)));
    KEYS.clone()
}

pub fn site_keys_of(site: &SiteId, number: KeyNumber) -> SiteKeys {
    let keys = repository_keys();
    let handle = keys.site_handle(site);
    let sealed = keys.seal_site_key(handle, number, &secret(0x60)).unwrap();
    keys.open_site_key(handle, number, &sealed).unwrap()
}

pub fn all() -> Vec<Vector> {
    let mut vectors = vec![
        Vector::v1("lifeboat.json", || config().encode(), |bytes| text(RepositoryConfig::decode(bytes))),
        root_key("root-key-master.bin", master, CredentialKind::Master),
        root_key("root-key-recovery.bin", recovery, CredentialKind::Recovery),
        Vector::v1(
            "signing-key.bin",
            || repository_keys().seal_signing_key(&secret(0x80)),
            |bytes| {
                let key = repository_keys().open_signing_key(bytes)?;
                Ok(format!("{:02x?} {:02x?}", key.public_key(), key.sign(b"lifeboat")))
            },
        ),
        Vector::v1("site-key.bin", make_site_key, read_site_key),
        Vector::v1("pack.bin", || Ok(make_pack()?.0), |bytes| read_pack(&site_keys(), PACK, bytes)),
        Vector::v1("manifest.bin", || Ok(make_manifest()?.0), |bytes| read_manifest(&site_keys(), MANIFEST, bytes)),
        Vector::v1("index.bin", make_index, |bytes| text(IndexSegment::decode(&site_keys(), INDEX, bytes))),
        Vector::v1(
            "run.bin",
            || encode_run(repository_keys().object_keys(), &sample::run()),
            |bytes| text(decode_run(repository_keys().object_keys(), RunNumber(12), bytes)),
        ),
        commit("commit-first.bin", sample::first_commit()),
        Vector::v1(
            "epoch.bin",
            || encode_epoch(repository_keys().object_keys(), &sample::epoch()),
            |bytes| text(decode_epoch(repository_keys().object_keys(), &sample::log_source(), EpochId(2), bytes)),
        ),
        segment("segment-first.bin", 1),
        segment("segment-last.bin", 2),
        Vector::v1("segment-long.bin", make_long_segment, read_long_segment),
        Vector::v1("segment-pages.bin", make_segment_of_pages, |bytes| read_segment(&segment_of_pages(), bytes)),
        Vector::v1(
            "log-commit.bin",
            || encode_log_commit(repository_keys().object_keys(), &sample::log_commit()),
            |bytes| {
                let (keys, source) = (repository_keys().object_keys(), sample::log_source());
                text(decode_log_commit(keys, (&source, EpochId(2)), LogCommitNumber(3), bytes))
            },
        ),
    ];
    let events = sample::events().into_iter();
    vectors.extend(events.map(|(name, event)| commit(&format!("commit-{name}.bin"), sample::commit(event))));
    vectors.extend(recoveries::all());
    vectors.extend(drills::all());
    vectors.extend(lifecycle::all());
    vectors.extend(audits::all());
    vectors.extend(log_pruning::all());
    vectors.extend(log_highest::all());
    vectors
}

fn text<T: std::fmt::Debug>(value: Result<T>) -> Result<String> {
    value.map(|value| format!("{value:?}"))
}

fn config() -> RepositoryConfig {
    let mut config = RepositoryConfig::new(REPOSITORY, sample::NOON);
    config.capabilities.insert("conditional_create".to_owned(), true);
    config.capabilities.insert("read_after_write".to_owned(), true);
    config
}

fn root_key(name: &str, under: fn() -> SecretKey, kind: CredentialKind) -> Vector {
    let make = move || {
        let header = RootKeyHeader { kind, repository: REPOSITORY, created: sample::NOON, under: under().id() };
        seal_root_with(&secret(0x40), &under(), header, entropy())
    };
    Vector::v1(name, make, move |bytes| {
        let OpenedRoot { root, kind, repository, created } = open_root(bytes, &under())?;
        Ok(format!("{} {kind:?} {repository} {created}", root.to_base64().as_str()))
    })
}

fn make_site_key() -> Result<Vec<u8>> {
    let keys = repository_keys();
    keys.seal_site_key(keys.site_handle(&sample::site()), KeyNumber(1), &secret(0x60))
}

fn read_site_key(bytes: &[u8]) -> Result<String> {
    let keys = repository_keys();
    let site = keys.open_site_key(keys.site_handle(&sample::site()), KeyNumber(1), bytes)?;
    Ok(format!("{site:?} {} {:?}", site.chunk_id(b"lifeboat"), site.gear_table()))
}

fn commit(name: &str, commit: Commit) -> Vector {
    let generation = commit.generation;
    Vector::v1(
        name,
        move || encode_commit(&site_keys(), &commit),
        move |bytes| text(decode_commit(&site_keys(), generation, bytes)),
    )
}

fn segment(name: &str, number: u64) -> Vector {
    Vector::v1(name, move || make_segment(number), move |bytes| read_segment(&segment_name(number), bytes))
}

pub fn segment_name(number: u64) -> SegmentName {
    SegmentName { source: sample::log_source(), epoch: EpochId(2), number: SegmentNumber(number) }
}

/// One of the two segments of the sample: the first holds everything that a segment can.
pub fn make_segment(number: u64) -> Result<Vec<u8>> {
    let id = |what: u8| ObjectId([what | (number as u8) << 4; 16]);
    let mut compressor = Compressor::new()?;
    let mut blocks: BTreeMap<SiteId, BlockWriter> = BTreeMap::new();
    for (site, head, sequence, table, change) in &sample::changes()[number as usize - 1] {
        blocks.entry(site.clone()).or_default().push(head, *sequence, &sample::tables()[*table], change)?;
    }
    let head = SegmentHead {
        name: segment_name(number),
        id: id(0x0f),
        previous: if number == 1 { sample::epoch().nonce } else { ObjectId([0x1f; 16]) },
        span: sample::spans()[number as usize - 1],
        sealed_at: sample::NOON,
        followed_by: (number == 2).then_some(EpochId(3)),
    };
    let keys = repository_keys();
    let mut segment = SegmentWriter::new(keys.object_keys(), head);
    for (at, (site, block)) in blocks.into_iter().enumerate() {
        let block = block.seal(&site_keys_of(&site, KeyNumber(1)), id(at as u8), &mut compressor)?;
        segment.push_block(&site, block.unwrap())?;
    }
    if number == 1 {
        segment.push_shared(id(0x0a), &sample::shared())?;
        let hash = keys.row_key_hash(&sample::log_source(), "issues", &[sample::value("5")]);
        segment.push_unrouted(id(0x0b), &sample::unrouted(hash))?;
    }
    Ok(segment.finish()?.0)
}

/// Both segments of the sample as one that stands for them.
pub fn make_long_segment() -> Result<Vec<u8>> {
    let mut compressor = Compressor::new()?;
    let mut blocks: BTreeMap<SiteId, SealingBlock> = BTreeMap::new();
    for (site, head, sequence, table, change) in sample::changes().iter().flatten() {
        let block = match blocks.entry(site.clone()) {
            btree_map::Entry::Occupied(block) => block.into_mut(),
            btree_map::Entry::Vacant(new) => {
                let id = ObjectId([0x30 | new.key().as_str().as_bytes()[0] & 0x0f; 16]);
                new.insert(SealingBlock::new(&site_keys_of(site, KeyNumber(1)), id)?)
            }
        };
        block.push((head, *sequence), &sample::tables()[*table], change, &mut compressor)?;
    }
    let [first, last] = sample::spans();
    let bounds = first.bounds.zip(last.bounds).map(|(first, last)| SpanBounds {
        last_commit: last.last_commit,
        earliest: first.earliest.min(last.earliest),
        latest: first.latest.max(last.latest),
        lowest: first.lowest.min(last.lowest),
        highest: first.highest.max(last.highest),
        ..first
    });
    let head = SegmentHead {
        name: segment_name(2),
        id: ObjectId([0x3f; 16]),
        previous: sample::epoch().nonce,
        span: SegmentSpan { from: first.from, complete_till: last.complete_till, bounds, highest: None },
        sealed_at: sample::NOON,
        followed_by: Some(EpochId(3)),
    };
    let keys = repository_keys();
    let mut segment = SegmentWriter::new(keys.object_keys(), head).standing_for(SegmentNumber(1), ObjectId([0x2f; 16]));
    for (site, block) in blocks {
        segment.push_block(&site, block.finish(&mut compressor)?.unwrap())?;
    }
    segment.push_shared(ObjectId([0x3a; 16]), &sample::shared())?;
    let hash = keys.row_key_hash(&sample::log_source(), "issues", &[sample::value("5")]);
    segment.push_unrouted(ObjectId([0x3b; 16]), &sample::unrouted(hash))?;
    Ok(segment.finish()?.0)
}

pub fn read_long_segment(bytes: &[u8]) -> Result<String> {
    let own = repository_keys().object_keys();
    let (first, last) = (SegmentNumber(1), SegmentNumber(2));
    let long = LongSegment { id: ObjectId([0x3f; 16]), len: bytes.len() as u64, first, last };
    let tail = SegmentTail::parse(bytes, bytes.len() as u64)?;
    let end = frame(bytes, tail.footer_offset, tail.footer_len)?;
    read_blocks(&decode_long_footer(own, &segment_name(2), &long, (&tail, &end))?, bytes)
}

fn segment_of_pages() -> SegmentName {
    SegmentName { source: sample::file_source(), epoch: EpochId(1), number: SegmentNumber(1) }
}

/// A segment of a source of database files: versions of one, and another that came and went.
fn make_segment_of_pages() -> Result<Vec<u8>> {
    let mut compressor = Compressor::new()?;
    let mut blocks: BTreeMap<SiteId, BlockWriter> = BTreeMap::new();
    let mut bounds: Option<SpanBounds> = None;
    for (site, head, sequence, change) in &sample::page_changes() {
        blocks.entry(site.clone()).or_default().push(head, *sequence, &sample::file(), change)?;
        bounds = Some(bounds.map_or_else(|| SpanBounds::of(head), |bounds| bounds.with(head)));
    }
    let id = |what: u8| ObjectId([what | 0xd0; 16]);
    let head = SegmentHead {
        name: segment_of_pages(),
        id: id(0x0f),
        previous: ObjectId([0xc1; 16]),
        span: SegmentSpan { from: Lsn(0x0f00), complete_till: Lsn(0x9000), bounds, highest: None },
        sealed_at: sample::NOON,
        followed_by: None,
    };
    let mut segment = SegmentWriter::new(repository_keys().object_keys(), head);
    for (at, (site, block)) in blocks.into_iter().enumerate() {
        let block = block.seal(&site_keys_of(&site, KeyNumber(1)), id(at as u8), &mut compressor)?;
        segment.push_block(&site, block.unwrap())?;
    }
    Ok(segment.finish()?.0)
}

pub fn read_segment(name: &SegmentName, bytes: &[u8]) -> Result<String> {
    let own = repository_keys().object_keys();
    let tail = SegmentTail::parse(bytes, bytes.len() as u64)?;
    let footer = decode_footer(own, name, &tail, &frame(bytes, tail.footer_offset, tail.footer_len)?)?;
    read_blocks(&footer, bytes)
}

fn read_blocks(footer: &SegmentFooter, bytes: &[u8]) -> Result<String> {
    let own = repository_keys().object_keys();
    let at = |place: &ObjectPlace| frame(bytes, place.offset, place.len as u32);
    let mut found = format!("{footer:?}");
    for block in &footer.blocks {
        let mut bytes = at(&block.place)?;
        let mut reader = BlockReader::new(&site_keys_of(&block.site, KeyNumber(1)), block, &mut bytes)?;
        while let Some(changes) = reader.next_frame()? {
            found.push_str(&format!("{changes:?}"));
        }
    }
    if let Some(place) = &footer.shared {
        found.push_str(&format!("{:?}", decode_shared(own, place, &at(place)?)?));
    }
    if let Some(unrouted) = &footer.unrouted {
        found.push_str(&format!("{:?}", decode_unrouted(own, unrouted, &at(&unrouted.place)?)?));
    }
    Ok(found)
}

/// Content stored raw because it is short, compressed, and raw because it does not compress.
pub fn contents() -> [Vec<u8>; 3] {
    [b"hello, lifeboat\n".to_vec(), b"one site there and back\n".repeat(40), (0..=255).collect()]
}

pub fn make_pack() -> Result<(Vec<u8>, PackRow, Vec<ChunkRef>)> {
    let keys = site_keys();
    let mut compressor = Compressor::new()?;
    let mut writer = ObjectWriter::new(&keys, ObjectKind::Pack, PACK)?;
    let mut chunks = Vec::new();
    for plain in contents() {
        let id = keys.chunk_id(&plain);
        let Placed { offset, stored_len } = writer.push_chunk(&id, &plain, &mut compressor)?;
        chunks.push(ChunkRef { id, pack: PACK, offset, stored_len, raw_len: plain.len() as u32 });
    }
    let (bytes, row) = writer.finish()?;
    Ok((bytes, row, chunks))
}

pub fn make_manifest() -> Result<(Vec<u8>, ManifestRef)> {
    let keys = site_keys();
    let (_, pack, chunks) = make_pack()?;
    let mut compressor = Compressor::new()?;
    let mut writer = ManifestWriter::new(&keys, MANIFEST)?;
    let plain = b"a chunk inside the manifest\n";
    let inline = writer.push_chunk(&keys.chunk_id(plain), plain, &mut compressor)?;
    writer.push_entry(0, &sample::database(&chunks[1..]), &mut compressor)?;
    for entry in sample::tree(inline, chunks[0]) {
        writer.push_entry(1, &entry, &mut compressor)?;
    }
    let part = |record| ManifestPart {
        record,
        identity: sample::identity(),
        position: Position("listing 2022-04-05".to_owned()),
        problems: sample::problems(),
        left_out: sample::problems(),
    };
    let parts = sample::parts().into_iter().map(part).collect();
    let summary = ManifestSummary { site: sample::site(), snapshot: SnapshotId([0x51; 8]), parts, packs: vec![pack] };
    writer.finish(summary, &mut compressor)
}

fn make_index() -> Result<Vec<u8>> {
    let (_, pack, chunks) = make_pack()?;
    let row = |chunk: &ChunkRef| {
        let ChunkRef { id: chunk, offset, stored_len, raw_len, .. } = *chunk;
        IndexRow { chunk, pack: 0, offset, stored_len, raw_len }
    };
    let segment = IndexSegment { packs: vec![pack], chunks: chunks.iter().map(row).collect() };
    Ok(segment.encode(&site_keys(), INDEX, &mut Compressor::new()?)?.0)
}

/// The frame at a place, or damage when the object does not reach so far.
fn frame(bytes: &[u8], offset: u64, len: u32) -> Result<Vec<u8>> {
    let range = usize::try_from(offset).ok().and_then(|from| Some(from..from.checked_add(len as usize)?));
    let frame = range.and_then(|range| bytes.get(range));
    frame.map(<[u8]>::to_vec).ok_or(Error::Damaged { what: "object", detail: "too short".to_owned() })
}

pub fn read_pack(keys: &SiteKeys, id: ObjectId, bytes: &[u8]) -> Result<String> {
    let mut decompressor = Decompressor::new()?;
    let opener = ObjectOpener::from_header(keys, bytes, ObjectKind::Pack, id)?;
    let trailer = Trailer::parse(bytes, bytes.len() as u64)?;
    let mut table = frame(bytes, trailer.offset, trailer.stored_len)?;
    let rows = decode_pack_table(&opener, trailer.offset, &mut table, &mut decompressor)?;
    let mut plain = Vec::new();
    for row in &rows {
        let mut frame = frame(bytes, row.offset, row.stored_len)?;
        let mut out = Vec::new();
        opener.open_chunk(&row.in_pack(id), &mut frame, &mut decompressor, &mut out)?;
        plain.push(out);
    }
    if !scan_pack(bytes).is_clean() {
        return Err(Error::Damaged { what: "pack", detail: "the scan found damage".to_owned() });
    }
    Ok(format!("{rows:?} {plain:?}"))
}

pub fn read_manifest(keys: &SiteKeys, id: ObjectId, bytes: &[u8]) -> Result<String> {
    let mut decompressor = Decompressor::new()?;
    let opener = ObjectOpener::from_header(keys, bytes, ObjectKind::Manifest, id)?;
    let trailer = Trailer::parse(bytes, bytes.len() as u64)?;
    let mut head_frame = frame(bytes, trailer.offset, trailer.stored_len)?;
    let head = decode_manifest_head(&opener, trailer.offset, &mut head_frame, &mut decompressor)?;
    let mut found = format!("{head:?}");
    for page in &head.pages {
        let mut page_frame = frame(bytes, page.offset, page.stored_len)?;
        let entries = decode_page(&opener, &head, page, &mut page_frame, &mut decompressor)?;
        for chunk in entries.iter().flat_map(Entry::chunks).filter(|chunk| chunk.pack == id) {
            let (mut chunk_frame, mut out) = (frame(bytes, chunk.offset, chunk.stored_len)?, Vec::new());
            opener.open_chunk(chunk, &mut chunk_frame, &mut decompressor, &mut out)?;
            found.push_str(&format!("{out:?}"));
        }
        found.push_str(&format!("{entries:?}"));
    }
    if !scan_pack(bytes).is_clean() {
        return Err(Error::Damaged { what: "manifest", detail: "the scan found damage".to_owned() });
    }
    Ok(found)
}

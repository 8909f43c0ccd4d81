//! One value of everything the format can hold, the same for ever: what the golden vectors are made of.

use lifeboat_model::*;

/// The moment all samples happened.
pub const NOON: Timestamp = Timestamp(1_649_158_680_000_000);

pub fn site() -> SiteId {
    SiteId::new("acme").unwrap()
}

fn source(name: &str) -> SourceName {
    SourceName::new(name).unwrap()
}

pub fn path(text: impl Into<Vec<u8>>) -> EntryPath {
    EntryPath::new(text).unwrap()
}

pub fn writer() -> WriterIdentity {
    WriterIdentity {
        host: "db-3".to_owned(),
        machine: "4f1c".to_owned(),
        boot: "0b7a3f52-7d0e-4a5e-9f0a-3c3f7d9b1a11".to_owned(),
        pid: 4711,
        started: 123_456,
    }
}

pub fn identity() -> PartIdentity {
    PartIdentity { machine: "4f1c".to_owned(), filesystem: "fd01".to_owned(), path: "/srv/sites/acme".to_owned() }
}

pub fn parts() -> Vec<PartRecord> {
    let part = |name, kind, status| PartRecord {
        source: source(name),
        kind,
        status,
        entries: 9,
        logical_bytes: 12_000,
        cut_from: NOON,
        cut_till: Timestamp(NOON.0 + 1_500_000),
    };
    vec![
        part("notes", SourceKind::Sqlite, PartStatus::Complete),
        part("files", SourceKind::Files, PartStatus::Incomplete { problems: 2 }),
        part("old", SourceKind::Files, PartStatus::Absent),
        part("gone", SourceKind::Files, PartStatus::Failed { reason: "permission denied".to_owned() }),
    ]
}

pub fn snapshot() -> SnapshotRecord {
    SnapshotRecord {
        id: SnapshotId([0x51; 8]),
        generation: Generation(7),
        manifest: ManifestRef { id: ObjectId([0xb1; 16]), len: 4_096, head_offset: 3_000, head_len: 1_072 },
        mark: Mark::Incomplete,
        mark_reason: Some("2 entries could not be read".to_owned()),
        state: PointState::ReadBack,
        cut_from: NOON,
        cut_till: Timestamp(NOON.0 + 1_500_000),
        parent: Some(SnapshotId([0x50; 8])),
        entries: 18,
        logical_bytes: 24_000,
        added_bytes: 5_000,
        parts: parts(),
        restore: None,
    }
}

/// A snapshot of the fewest words: everything optional is left out.
pub fn undo() -> SnapshotRecord {
    SnapshotRecord {
        id: SnapshotId([0x52; 8]),
        mark: Mark::Undo,
        mark_reason: None,
        state: PointState::Written,
        parent: None,
        parts: Vec::new(),
        restore: Some(RestoreId([0x61; 8])),
        ..snapshot()
    }
}

pub fn hold() -> Hold {
    Hold {
        id: HoldId([0x71; 8]),
        reason: HoldReason::Shrank,
        note: "lost 80 % of its files since yesterday".to_owned(),
        placed_at: NOON,
    }
}

pub fn intent() -> RestoreIntent {
    RestoreIntent {
        restore: RestoreId([0x61; 8]),
        snapshot: SnapshotId([0x51; 8]),
        parts: vec![source("notes"), source("files")],
        opened_at: NOON,
        owner: writer(),
        takes_over: Some(RestoreId([0x60; 8])),
    }
}

pub fn index_ref() -> IndexRef {
    IndexRef { id: ObjectId([0xb2; 16]), len: 900, chunks: 3 }
}

pub fn state() -> SiteState {
    SiteState {
        site: site(),
        key: KeyNumber(1),
        snapshots: vec![snapshot(), undo()],
        holds: vec![
            hold(),
            Hold { reason: HoldReason::Vanished, ..hold() },
            Hold { reason: HoldReason::Asked, ..hold() },
        ],
        intent: Some(intent()),
        indexes: vec![index_ref()],
    }
}

/// Every event, each under the name of its golden vector.
pub fn events() -> Vec<(&'static str, CommitEvent)> {
    let snapshot_id = SnapshotId([0x51; 8]);
    vec![
        ("published", CommitEvent::Published { snapshot: Box::new(snapshot()), index: Some(index_ref()) }),
        ("published-undo", CommitEvent::Published { snapshot: Box::new(undo()), index: None }),
        ("state-changed", CommitEvent::StateChanged { snapshot: snapshot_id, state: PointState::Proven }),
        (
            "marked",
            CommitEvent::Marked { snapshot: snapshot_id, mark: Mark::Suspect, reason: "asked by a person".to_owned() },
        ),
        ("hold-placed", CommitEvent::HoldPlaced(hold())),
        ("hold-released", CommitEvent::HoldReleased { hold: HoldId([0x71; 8]) }),
        ("restore-opened", CommitEvent::RestoreOpened(intent())),
        (
            "restore-closed",
            CommitEvent::RestoreClosed { restore: RestoreId([0x61; 8]), outcome: RestoreOutcome::Completed },
        ),
        (
            "restore-abandoned",
            CommitEvent::RestoreClosed { restore: RestoreId([0x61; 8]), outcome: RestoreOutcome::Abandoned },
        ),
        (
            "restore-partial",
            CommitEvent::RestoreClosed { restore: RestoreId([0x61; 8]), outcome: RestoreOutcome::Partial },
        ),
        ("index-compacted", CommitEvent::IndexCompacted { index: index_ref() }),
    ]
}

/// The golden vector that holds an event: a new event or outcome without one does not compile.
pub fn vector_of(event: &CommitEvent) -> &'static str {
    match event {
        CommitEvent::Published { index: Some(_), .. } => "published",
        CommitEvent::Published { index: None, .. } => "published-undo",
        CommitEvent::StateChanged { .. } => "state-changed",
        CommitEvent::Marked { .. } => "marked",
        CommitEvent::HoldPlaced(_) => "hold-placed",
        CommitEvent::HoldReleased { .. } => "hold-released",
        CommitEvent::RestoreOpened(_) => "restore-opened",
        CommitEvent::RestoreClosed { outcome: RestoreOutcome::Completed, .. } => "restore-closed",
        CommitEvent::RestoreClosed { outcome: RestoreOutcome::Abandoned, .. } => "restore-abandoned",
        CommitEvent::RestoreClosed { outcome: RestoreOutcome::Partial, .. } => "restore-partial",
        CommitEvent::IndexCompacted { .. } => "index-compacted",
    }
}

pub fn commit(event: CommitEvent) -> Commit {
    Commit {
        generation: Generation(7),
        previous: [0xc0; 32],
        nonce: ObjectId([0xb3; 16]),
        written_at: NOON,
        writer: writer(),
        event,
        state: state(),
    }
}

/// A commit of the fewest words: the first of a site that has nothing yet.
pub fn first_commit() -> Commit {
    let event = CommitEvent::HoldReleased { hold: HoldId([0; 8]) };
    Commit {
        generation: Generation(1),
        previous: [0; 32],
        state: SiteState::new(site(), KeyNumber(1)),
        ..commit(event)
    }
}

pub fn run() -> Run {
    let site = |text: &str, snapshot, outcome| RunSite {
        site: SiteId::new(text).unwrap(),
        generation: Generation(7),
        snapshot,
        seen_at: NOON,
        outcome,
    };
    Run {
        number: RunNumber(12),
        nonce: ObjectId([0xb4; 16]),
        started_at: NOON,
        finished_at: Timestamp(NOON.0 + 60_000_000),
        writer: writer(),
        sources: vec![
            RunSource { source: source("files"), sites: 3, root: Some(identity()), failure: None },
            RunSource { source: source("notes"), sites: 0, root: None, failure: Some("no such directory".to_owned()) },
        ],
        sites: vec![
            site("acme", Some(SnapshotId([0x51; 8])), RunOutcome::Published),
            site("größe", Some(SnapshotId([0x50; 8])), RunOutcome::Unchanged),
            site("vanished", Some(SnapshotId([0x4f; 8])), RunOutcome::Vanished),
            site("zeta", None, RunOutcome::Failed { reason: "the disk is full".to_owned() }),
        ],
    }
}

fn metadata(size: u64) -> EntryMetadata {
    EntryMetadata {
        mode: 0o644,
        uid: 1_000,
        gid: 100,
        modified: FileTime { seconds: 1_649_000_000, nanoseconds: 123_456_789 },
        changed: FileTime { seconds: 1_649_000_001, nanoseconds: 0 },
        inode: 4_242,
        size,
        xattrs: Vec::new(),
    }
}

fn entry(at: impl Into<Vec<u8>>, kind: EntryKind, extents: Vec<Extent>) -> Entry {
    let size = extents.iter().map(Extent::len).sum();
    Entry { path: path(at), kind, metadata: metadata(size), extents }
}

/// An SQLite database of two chunks.
pub fn database(chunks: &[ChunkRef]) -> Entry {
    let kind = EntryKind::Database { page_size: 4_096, stamp: vec![0, 0, 0, 42] };
    entry("notes.sqlite", kind, chunks.iter().copied().map(Extent::Chunk).collect())
}

/// Every other kind of entry, in path order; files of `inline` and `packed` content.
pub fn tree(inline: ChunkRef, packed: ChunkRef) -> Vec<Entry> {
    let mut root = entry("", EntryKind::Directory, Vec::new());
    root.metadata.mode = 0o2750;
    let mut tagged = entry("a.txt", EntryKind::File, vec![Extent::Chunk(inline)]);
    tagged.metadata.xattrs = vec![
        Xattr { name: b"user.color".to_vec(), value: b"green".to_vec() },
        Xattr { name: b"user.empty".to_vec(), value: Vec::new() },
    ];
    let mut old = entry("before-1970", EntryKind::File, Vec::new());
    old.metadata.modified = FileTime { seconds: -1, nanoseconds: 999_999_999 };
    vec![
        root,
        tagged,
        old,
        entry("dir", EntryKind::Directory, Vec::new()),
        entry("dir/link", EntryKind::Symlink { target: b"../a.txt".to_vec() }, Vec::new()),
        entry("dir/same", EntryKind::HardLink { to: path("a.txt") }, Vec::new()),
        entry("gone", EntryKind::Absent, Vec::new()),
        entry(b"latin-\xe9".to_vec(), EntryKind::File, vec![Extent::Chunk(packed), Extent::Chunk(inline)]),
        entry("pipe", EntryKind::Fifo, Vec::new()),
        entry(
            "sparse",
            EntryKind::File,
            vec![Extent::Hole { len: 1 << 40 }, Extent::Chunk(packed), Extent::Hole { len: 4_096 }],
        ),
    ]
}

pub fn problems() -> Vec<PartProblem> {
    vec![
        PartProblem { entry: "dir/secret".to_owned(), reason: "permission denied".to_owned() },
        PartProblem { entry: String::new(), reason: "it changed while it was read".to_owned() },
    ]
}

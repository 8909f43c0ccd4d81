//! One value of everything the format can hold, the same for ever: what the golden vectors are made of.

use std::sync::Arc;

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
        moment: Some("2022-04-05T07:38:00Z".to_owned()),
        is_scan: false,
        forgotten: None,
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
        moment: Some("lsn:0/15D9A28".to_owned()),
        keeps_later: true,
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
        forgotten: Vec::new(),
        holds: vec![
            hold(),
            Hold { reason: HoldReason::Vanished, ..hold() },
            Hold { reason: HoldReason::Asked, ..hold() },
        ],
        intent: Some(intent()),
        indexes: vec![index_ref()],
        proven: None,
        drill_failed: None,
        condemned: Vec::new(),
        shredded: None,
    }
}

/// Every event, each under the name of its golden vector.
pub fn events() -> Vec<(&'static str, CommitEvent)> {
    let snapshot_id = SnapshotId([0x51; 8]);
    vec![
        ("published", CommitEvent::Published { snapshot: Box::new(snapshot()), index: Some(index_ref()) }),
        ("published-undo", CommitEvent::Published { snapshot: Box::new(undo()), index: None }),
        ("state-changed", CommitEvent::StateChanged { snapshot: snapshot_id, state: PointState::Proven, drill: None }),
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
        // Those that came later lie in a folder of their own.
        CommitEvent::Forgot { .. } => "forgot",
        CommitEvent::Undeleted { .. } => "undeleted",
        CommitEvent::Condemned(_) => "condemned",
        CommitEvent::Deleted { .. } => "deleted",
        CommitEvent::Shredded(_) => "shredded",
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

/// Rows of one site in a table.
fn table(name: &str, digest: RowsDigest, extents: Vec<Extent>) -> Entry {
    let definition = br#"{"name":"public.issues","columns":[],"primary_key":[],"order":""}"#.to_vec();
    entry(name, EntryKind::Table { rows: 3, digest, definition }, extents)
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
        table("public.issues", RowsDigest::InOrder([0x71; 32]), vec![Extent::Chunk(packed)]),
        table("public.labels", RowsDigest::AnyOrder([0x72; 32]), vec![Extent::Chunk(inline)]),
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

/// The source whose change log the samples are of.
pub fn log_source() -> SourceName {
    source("app")
}

pub fn other_site() -> SiteId {
    SiteId::new("beta").unwrap()
}

pub fn epoch() -> Epoch {
    Epoch {
        id: EpochId(2),
        nonce: ObjectId([0xc0; 16]),
        writer: writer(),
        facts: EpochFacts {
            source: log_source(),
            kind: SourceKind::Postgres,
            system_identifier: "7300000000000000001".to_owned(),
            timeline: 3,
            slot: "lifeboat_app".to_owned(),
            database: "app".to_owned(),
            begins: Lsn(0x0f00),
            snapshot: "900:910:905".to_owned(),
            begun_at: NOON,
            why: EpochReason::SlotLost,
            note: "wal_status was lost".to_owned(),
            sound_till: Some(Timestamp(1_650_000_000_000_000)),
            partly: vec!["public.visits".to_owned(), "public.\"odd one\"".to_owned()],
        },
    }
}

fn column(name: &str, type_name: &str) -> ChangedColumn {
    ChangedColumn { name: name.to_owned(), type_name: type_name.to_owned() }
}

/// One with a primary key, and one without.
pub fn tables() -> [Arc<ChangedTable>; 2] {
    let columns = vec![column("id", "bigint"), column("title", "text"), column("body", "text")];
    let issues = ChangedTable { name: "issues".to_owned(), columns, key: vec![0] };
    let columns = vec![column("at", "timestamp with time zone"), column("what", "text")];
    let audit = ChangedTable { name: r#"app."Audit Log""#.to_owned(), columns, key: Vec::new() };
    [Arc::new(issues), Arc::new(audit)]
}

pub fn value(text: &str) -> ChangedValue {
    ChangedValue::Text(text.as_bytes().to_vec())
}

/// Three transactions: the second one begins in the first segment and ends in the second.
pub fn heads() -> [TransactionHead; 3] {
    let head = |id, commit, seconds: i64| TransactionHead {
        id: TransactionId(id),
        commit: Lsn(commit),
        committed_at: Timestamp(NOON.0 + seconds * 1_000_000),
    };
    [head(905, 0x1000, 1), head(901, 0x2000, 3), head((1 << 32) + 7, 0x3000, 2)]
}

/// A site's change: its transaction, its sequence and the place of its table in [`tables`].
pub type Change = (SiteId, TransactionHead, u64, usize, RowChange);

/// The changes of each of the two segments, in order.
pub fn changes() -> [Vec<Change>; 2] {
    let [one, split, three] = heads();
    let row = |id: &str| vec![value(id), value("it's\t"), ChangedValue::Null];
    let kept = vec![value("8"), value(""), ChangedValue::Unchanged];
    let insert = |id| RowChange::Insert { row: row(id) };
    let logged = vec![value("2022-04-05 11:38:00+00"), value("deleted")];
    let first = vec![
        (site(), one, 0, 0, insert("7")),
        (other_site(), one, 1, 0, RowChange::Delete { key: vec![value("1")] }),
        (site(), one, 2, 0, RowChange::Update { row: kept.clone(), key_before: Some(vec![value("7")]) }),
        (site(), one, 3, 1, RowChange::Insert { row: logged.clone() }),
        (site(), split, 0, 0, insert("9")),
    ];
    let second = vec![
        (site(), split, 2, 0, RowChange::Update { row: kept, key_before: None }),
        (site(), split, 300, 1, RowChange::Delete { key: logged }),
        (other_site(), three, 0, 0, insert("2")),
    ];
    [first, second]
}

/// The source of database files whose pages are in [`page_changes`].
pub fn file_source() -> SourceName {
    source("notes")
}

/// What a database file is among the tables.
pub fn file() -> Arc<ChangedTable> {
    Arc::new(ChangedTable { name: "notes.db".to_owned(), columns: Vec::new(), key: Vec::new() })
}

/// Every step that a file can take, and a version that was never completed.
pub fn page_changes() -> Vec<(SiteId, TransactionHead, u64, RowChange)> {
    let head = |commit: u64| TransactionHead {
        id: TransactionId(commit),
        commit: Lsn(commit),
        committed_at: Timestamp(NOON.0 + commit as i64),
    };
    let state = |page_count, sum| FileState { page_size: 512, page_count, sum: PageSum::from_bytes([sum; 16]) };
    let page = |number: u32| ChangedPage { number, bytes: vec![number as u8; 512] };
    let pages = |numbers: &[u32], step: Option<(Option<FileState>, Option<FileState>)>| {
        let pages = numbers.iter().map(|number| page(*number)).collect();
        let step = step.map(|(before, after)| FileStep { before, after });
        RowChange::Pages(Box::new(PagesChange { pages, step }))
    };
    vec![
        (site(), head(0x1000), 0, pages(&[], Some((Some(state(3, 1)), Some(state(3, 1)))))),
        (site(), head(0x2000), 0, pages(&[1, 2], None)),
        (site(), head(0x3000), 0, pages(&[1, 2], None)),
        (site(), head(0x3000), 1, pages(&[4], Some((Some(state(3, 1)), Some(state(4, 2)))))),
        (other_site(), head(0x4000), 0, pages(&[1], Some((None, Some(state(1, 3)))))),
        (other_site(), head(0x5000), 0, pages(&[], Some((Some(state(1, 3)), None)))),
        (site(), head(0x6000), 0, pages(&[], Some((Some(state(4, 2)), Some(state(2, 0xff)))))),
    ]
}

pub fn spans() -> [SegmentSpan; 2] {
    let [one, split, three] = heads();
    let first = SpanBounds::of(&one).with(&split);
    let second = SpanBounds::of(&split).with(&three);
    [
        SegmentSpan { from: Lsn(0x0f00), complete_till: one.commit, bounds: Some(first), highest: None },
        SegmentSpan { from: one.commit, complete_till: Lsn(0x3100), bounds: Some(second), highest: None },
    ]
}

/// What belongs to no site in the first segment.
pub fn shared() -> SharedFacts {
    let [one, split, _] = heads();
    let count = |site, table, counts| SiteCount { site, table, counts };
    let counts = vec![
        count(0, 0, ChangeCounts { inserts: 1, updates: 1, deletes: 0 }),
        count(0, 1, ChangeCounts { inserts: 1, updates: 0, deletes: 0 }),
        count(1, 0, ChangeCounts { inserts: 0, updates: 0, deletes: 1 }),
    ];
    let rest = vec![count(0, 0, ChangeCounts { inserts: 1, updates: 0, deletes: 0 })];
    let [issues, audit] = tables();
    let place = |sequence| ChangePlace { commit: one.commit, sequence };
    let before = ChangedTable { columns: audit.columns[..1].to_vec(), ..(*audit).clone() };
    SharedFacts {
        sites: vec![site(), other_site()],
        tables: vec![issues.name.clone(), audit.name.clone()],
        transactions: vec![
            TransactionFacts { head: one, counts, unrouted: 2 },
            TransactionFacts { head: split, counts: rest, unrouted: 0 },
        ],
        truncations: vec![Truncation {
            place: place(4),
            tables: vec![0, 1],
            cascades: true,
            restarts_sequences: false,
        }],
        structure: vec![
            StructureChange { place: place(0), before: None, after: (*issues).clone() },
            StructureChange { place: place(3), before: Some(before), after: (*audit).clone() },
        ],
        notes: vec![LogNote { place: place(5), prefix: "deploy".to_owned(), content: b"v42 \xff".to_vec() }],
    }
}

/// Changes of the first segment whose site nobody could tell; `hash` is of the key `5`.
pub fn unrouted(hash: RowKeyHash) -> UnroutedChanges {
    let [one, ..] = heads();
    let change = |sequence, kind, change| UnroutedChange {
        place: ChangePlace { commit: one.commit, sequence },
        table: 0,
        kind,
        key: hash,
        change,
    };
    let row = RowChange::Insert { row: vec![value("5"), value("whose?"), ChangedValue::Null] };
    UnroutedChanges {
        tables: vec![(*tables()[0]).clone()],
        changes: vec![change(6, ChangeKind::Insert, Some(row)), change(7, ChangeKind::Delete, None)],
    }
}

pub fn log_commit() -> LogCommit {
    let long = |id, first, last| LongSegment {
        id: ObjectId([id; 16]),
        len: 40_000,
        first: SegmentNumber(first),
        last: SegmentNumber(last),
    };
    LogCommit {
        number: LogCommitNumber(3),
        previous: [0x11; 32],
        nonce: ObjectId([0xc9; 16]),
        written_at: NOON,
        writer: writer(),
        event: LogEvent::Compacted(long(0xc8, 101, 200)),
        state: LogState {
            source: log_source(),
            epoch: EpochId(2),
            long_segments: vec![long(0xc7, 1, 100), long(0xc8, 101, 200)],
            begins: None,
            marks: Vec::new(),
            condemned: Vec::new(),
        },
    }
}

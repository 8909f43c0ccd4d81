//! A disk in memory that forgets on power loss whatever was not synced: bytes, and names too.
//!
//! It runs the very same [`lifeboat_store::DirectoryStore`] as a real file system. Every change is
//! logged; [`CrashDisk::after_power_loss`] gives the disk as it would be found after the power went
//! following change `k`, so that a test can go through all of them.
//!
//! What it is stricter about than most file systems: syncing a file does not make its name durable,
//! and a directory keeps unsynced names apart from one another.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use lifeboat_store::directory::{Disk, DiskEntry, EntryKind, FilePart, NewFile, Stat};

/// One change that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    CreateFile { path: String },
    Write { node: usize, bytes: Vec<u8> },
    SyncFile { node: usize },
    Link { from: String, to: String },
    MakeDir { path: String },
    SyncDir { path: String },
    RemoveFile { path: String },
}

/// What survives of that which was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsynced {
    /// Nothing.
    Lost,
    /// A random part: each name or not, each file as it was, as it is, cut short, or as zeros.
    Some { seed: u64 },
}

/// A simulated disk; a clone is the same disk.
#[derive(Debug, Clone, Default)]
pub struct CrashDisk {
    state: Arc<Mutex<State>>,
    /// Syncs that say "done" and do nothing.
    lying: Option<fn(&Change) -> bool>,
}

#[derive(Debug, Default)]
struct State {
    /// What the disk held when this simulation began.
    start: Model,
    model: Model,
    log: Vec<Change>,
}

impl CrashDisk {
    pub fn new() -> Self {
        Self::default()
    }

    /// The same disk, on which from now on the syncs that `is_dropped` chooses do nothing: a test
    /// that passes on it all the same does not prove that the sync is needed.
    pub fn without_syncs(self, is_dropped: fn(&Change) -> bool) -> Self {
        Self { lying: Some(is_dropped), ..self }
    }

    /// Changes so far; each is a point where the power can go.
    pub fn changes(&self) -> usize {
        self.lock().log.len()
    }

    pub fn log(&self) -> Vec<Change> {
        self.lock().log.clone()
    }

    /// The disk as found after the power went when `changes` of the changes were done.
    pub fn after_power_loss(&self, changes: usize, unsynced: Unsynced) -> CrashDisk {
        let state = self.lock();
        let mut model = state.start.clone();
        for change in &state.log[..changes] {
            model.apply(change).expect("what succeeded once succeeds again in the same order");
        }
        let found = model.after_power_loss(unsynced);
        let state = State { start: found.clone(), model: found, log: Vec::new() };
        CrashDisk { state: Arc::new(Mutex::new(state)), lying: None }
    }

    fn change(&self, change: Change) -> io::Result<()> {
        if matches!(change, Change::SyncFile { .. } | Change::SyncDir { .. })
            && self.lying.is_some_and(|is_dropped| is_dropped(&change))
        {
            return Ok(());
        }
        let mut state = self.lock();
        state.model.apply(&change)?;
        state.log.push(change);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for CrashDisk {
    fn create_file(&self, path: &str) -> io::Result<Box<dyn NewFile>> {
        self.change(Change::CreateFile { path: path.to_owned() })?;
        let node = self.lock().model.find(path)?;
        Ok(Box::new(OpenFile { disk: self.clone(), node }))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(Change::Link { from: from.to_owned(), to: to.to_owned() })
    }

    fn make_dir(&self, path: &str) -> io::Result<()> {
        self.change(Change::MakeDir { path: path.to_owned() })
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.change(Change::SyncDir { path: path.to_owned() })
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        self.change(Change::RemoveFile { path: path.to_owned() })
    }

    fn read(&self, path: &str, range: Option<Range<u64>>) -> io::Result<FilePart> {
        let state = self.lock();
        let Node::File { now, .. } = &state.model.nodes[state.model.find(path)?] else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        let file_len = now.len() as u64;
        let range = range.unwrap_or(0..file_len);
        let till = range.end.min(file_len);
        let bytes = now[range.start.min(till) as usize..till as usize].to_vec();
        Ok(FilePart { bytes, file_len })
    }

    fn read_dir(&self, path: &str) -> io::Result<Vec<DiskEntry>> {
        let state = self.lock();
        let model = &state.model;
        let entry = |(name, node): (&String, &usize)| DiskEntry { name: name.clone(), kind: model.kind(*node) };
        Ok(model.dir(model.find(path)?)?.now.iter().map(entry).collect())
    }

    fn stat(&self, path: &str) -> io::Result<Stat> {
        let state = self.lock();
        let node = state.model.find(path)?;
        let len = match &state.model.nodes[node] {
            Node::File { now, .. } => now.len() as u64,
            Node::Dir(_) => 0,
        };
        Ok(Stat { kind: state.model.kind(node), len, modified: SystemTime::now() })
    }
}

struct OpenFile {
    disk: CrashDisk,
    node: usize,
}

impl NewFile for OpenFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.change(Change::Write { node: self.node, bytes: bytes.to_vec() })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.change(Change::SyncFile { node: self.node })
    }
}

/// The tree: everything twice, as programs see it now and as it is safe.
#[derive(Debug, Clone)]
struct Model {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone)]
enum Node {
    File { now: Vec<u8>, safe: Vec<u8> },
    Dir(Names),
}

#[derive(Debug, Clone, Default)]
struct Names {
    now: BTreeMap<String, usize>,
    safe: BTreeMap<String, usize>,
}

const ROOT: usize = 0;

impl Default for Model {
    fn default() -> Self {
        Self { nodes: vec![Node::Dir(Names::default())] }
    }
}

impl Model {
    fn apply(&mut self, change: &Change) -> io::Result<()> {
        match change {
            Change::CreateFile { path } => self.add(path, Node::File { now: Vec::new(), safe: Vec::new() }),
            Change::MakeDir { path } => self.add(path, Node::Dir(Names::default())),
            Change::Write { node, bytes } => {
                if let Node::File { now, .. } = &mut self.nodes[*node] {
                    now.extend_from_slice(bytes);
                }
                Ok(())
            }
            Change::SyncFile { node } => {
                if let Node::File { now, safe } = &mut self.nodes[*node] {
                    safe.clone_from(now);
                }
                Ok(())
            }
            Change::SyncDir { path } => {
                let node = self.find(path)?;
                let names = self.dir_mut(node)?;
                names.safe.clone_from(&names.now);
                Ok(())
            }
            Change::Link { from, to } => {
                let node = self.find(from)?;
                self.name(to, node)
            }
            Change::RemoveFile { path } => {
                let node = self.find(path)?;
                if self.kind(node) == EntryKind::Dir {
                    return Err(io::ErrorKind::IsADirectory.into());
                }
                let (dir, last) = self.parent(path)?;
                self.dir_mut(dir)?.now.remove(last);
                Ok(())
            }
        }
    }

    fn add(&mut self, path: &str, node: Node) -> io::Result<()> {
        self.name(path, self.nodes.len())?;
        self.nodes.push(node);
        Ok(())
    }

    fn name(&mut self, path: &str, node: usize) -> io::Result<()> {
        let (dir, last) = self.parent(path)?;
        let names = self.dir_mut(dir)?;
        if names.now.contains_key(last) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        names.now.insert(last.to_owned(), node);
        Ok(())
    }

    fn find(&self, path: &str) -> io::Result<usize> {
        let segments = path.split('/').filter(|segment| !segment.is_empty());
        segments.into_iter().try_fold(ROOT, |at, segment| {
            self.dir(at)?.now.get(segment).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    fn parent<'a>(&self, path: &'a str) -> io::Result<(usize, &'a str)> {
        let (dir, last) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.find(dir)?, last))
    }

    fn dir(&self, node: usize) -> io::Result<&Names> {
        match &self.nodes[node] {
            Node::Dir(names) => Ok(names),
            Node::File { .. } => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn dir_mut(&mut self, node: usize) -> io::Result<&mut Names> {
        match &mut self.nodes[node] {
            Node::Dir(names) => Ok(names),
            Node::File { .. } => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn kind(&self, node: usize) -> EntryKind {
        match &self.nodes[node] {
            Node::File { .. } => EntryKind::File,
            Node::Dir(_) => EntryKind::Dir,
        }
    }

    fn after_power_loss(&self, unsynced: Unsynced) -> Model {
        let mut dice = match unsynced {
            Unsynced::Lost => None,
            Unsynced::Some { seed } => Some(Dice(seed)),
        };
        let nodes = self.nodes.iter().map(|node| match node {
            Node::File { now, safe } => {
                let kept = dice.as_mut().map_or_else(|| safe.clone(), |dice| dice.bytes(now, safe));
                Node::File { now: kept.clone(), safe: kept }
            }
            Node::Dir(names) => {
                let kept = dice.as_mut().map_or_else(|| names.safe.clone(), |dice| dice.names(names));
                Node::Dir(Names { now: kept.clone(), safe: kept })
            }
        });
        // Nodes that no name leads to any more stay in the list and are never found.
        Model { nodes: nodes.collect() }
    }
}

/// Chance that repeats itself from its seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn bytes(&mut self, now: &[u8], safe: &[u8]) -> Vec<u8> {
        if now == safe {
            return safe.to_vec();
        }
        match self.roll(4) {
            0 => safe.to_vec(),
            1 => now.to_vec(),
            2 => now[..self.roll(now.len() as u64 + 1) as usize].to_vec(),
            _ => vec![0; now.len()],
        }
    }

    fn names(&mut self, names: &Names) -> BTreeMap<String, usize> {
        let mut kept = BTreeMap::new();
        let all: std::collections::BTreeSet<&String> = names.now.keys().chain(names.safe.keys()).collect();
        for name in all {
            let (now, safe) = (names.now.get(name), names.safe.get(name));
            let chosen = if now == safe || self.roll(2) == 0 { safe } else { now };
            if let Some(node) = chosen {
                kept.insert(name.clone(), *node);
            }
        }
        kept
    }
}

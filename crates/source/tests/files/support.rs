//! Trees on disk, snapshots of them in memory, and a restore as the engine drives one.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use lifeboat_model::{Entry, EntryKind, EntryPath, FileTime, PartProblem, RestoreId};
use lifeboat_source::files::{Action, FilesTarget, MergePlan, Scope, plan_merge};
use lifeboat_source::{Content, ContentCheck, Error, PartReader, Place, Read};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

pub const ID: RestoreId = RestoreId([7; 8]);

/// A tree in memory.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    pub entries: Vec<Entry>,
    pub contents: Vec<Vec<u8>>,
    /// Bytes of holes in each file.
    pub holes: Vec<u64>,
    pub problems: Vec<PartProblem>,
    pub left_out: Vec<PartProblem>,
}

impl Tree {
    pub fn paths(&self) -> Vec<String> {
        self.entries.iter().map(|entry| entry.path.to_string()).collect()
    }

    pub fn get(&self, path: &str) -> &Entry {
        let found = self.entries.iter().find(|entry| entry.path.to_string() == path);
        found.unwrap_or_else(|| panic!("no `{path}` among {:?}", self.paths()))
    }

    pub fn content(&self, path: &EntryPath) -> &[u8] {
        let at = self.entries.iter().position(|entry| entry.path == *path).unwrap();
        &self.contents[at]
    }

    /// What must be equal after a restore: everything but the evidence.
    pub fn comparable(&self) -> Vec<(Entry, Vec<u8>)> {
        let plain = |entry: &Entry| {
            let mut entry = entry.clone();
            entry.metadata.inode = 0;
            entry.metadata.changed = FileTime::default();
            entry
        };
        self.entries.iter().map(plain).zip(self.contents.iter().cloned()).collect()
    }
}

pub fn read_content(content: &mut dyn Content) -> (Vec<u8>, u64) {
    let (mut bytes, mut holes) = (Vec::new(), 0);
    let mut buffer = vec![0u8; 10_000];
    loop {
        match content.read(&mut buffer).unwrap() {
            Read::Data(count) => bytes.extend_from_slice(&buffer[..count]),
            Read::Hole(len) => {
                holes += len;
                bytes.resize(bytes.len() + usize::try_from(len).unwrap(), 0);
            }
            Read::End => return (bytes, holes),
        }
    }
}

pub fn read_all(mut reader: Box<dyn PartReader>) -> Tree {
    let mut tree = Tree::default();
    while let Some(entry) = reader.next_entry().unwrap() {
        let (mut bytes, mut holes) = (Vec::new(), 0);
        if entry.kind == EntryKind::File {
            match reader.open_content(&entry) {
                Ok(mut content) => {
                    (bytes, holes) = read_content(&mut *content);
                    assert!(matches!(content.check().unwrap(), ContentCheck::Stable(_)), "{entry:?}");
                }
                Err(Error::Gone { .. }) => continue,
                Err(error) => panic!("{error}"),
            }
        }
        if let Some(last) = tree.entries.last() {
            assert!(last.path < entry.path, "{} came before {}", last.path, entry.path);
        }
        tree.entries.push(entry);
        tree.contents.push(bytes);
        tree.holes.push(holes);
    }
    let summary = reader.finish().unwrap();
    (tree.problems, tree.left_out) = (summary.problems, summary.left_out);
    tree
}

pub fn target(root: &Path) -> FilesTarget {
    FilesTarget::open(Place::at(root).unwrap(), ID, Vec::new()).unwrap()
}

pub fn read(root: &Path) -> Tree {
    read_all(target(root).scan().unwrap().unwrap())
}

pub fn plan(target: &FilesTarget, wanted: &Tree, scope: Scope) -> MergePlan {
    let live = target.scan().unwrap().map(read_all).unwrap_or_default();
    plan_merge(&live.entries, &wanted.entries, scope, &mut |is, want| {
        live.content(&first_name(&live, is)) == wanted.content(&want.path)
    })
}

/// The path whose content the tree holds for a live file that may be a further name.
fn first_name(live: &Tree, entry: &Entry) -> EntryPath {
    match &live.entries.iter().find(|e| e.path == entry.path).unwrap().kind {
        EntryKind::HardLink { to } => to.clone(),
        _ => entry.path.clone(),
    }
}

/// The steps of a restore, each of which may be the last one of a killed run.
pub struct Steps {
    left: usize,
}

pub struct Killed;

impl Steps {
    pub fn unlimited() -> Self {
        Self { left: usize::MAX }
    }

    pub fn only(left: usize) -> Self {
        Self { left }
    }

    fn step(&mut self) -> Result<(), Killed> {
        self.left = self.left.checked_sub(1).ok_or(Killed)?;
        Ok(())
    }
}

pub fn stage(target: &FilesTarget, plan: &MergePlan, wanted: &Tree, steps: &mut Steps) -> Result<(), Killed> {
    for action in &plan.actions {
        if let Action::Put { entry, .. } = action
            && entry.kind == EntryKind::File
        {
            steps.step()?;
            let file = target.stage_file(entry).unwrap();
            write_sparsely(|offset, bytes| file.write_at(offset, bytes).unwrap(), wanted.content(&entry.path));
            steps.step()?;
            file.finish().unwrap();
        }
    }
    Ok(())
}

/// Leaves out blocks of zeros, last block first.
fn write_sparsely(write: impl Fn(u64, &[u8]), content: &[u8]) {
    for (block, bytes) in content.chunks(4096).enumerate().rev() {
        if bytes.len() < 4096 || bytes.iter().any(|&b| b != 0) {
            write(block as u64 * 4096, bytes);
        }
    }
}

/// Everything after staging; one action a batch.
pub fn finish(target: &mut FilesTarget, plan: &MergePlan, steps: &mut Steps) -> Result<(), Killed> {
    for action in &plan.actions {
        steps.step()?;
        target.prepare(std::slice::from_ref(action)).unwrap();
    }
    steps.step()?;
    target.seal(&plan.directories).unwrap();
    let live = target.scan().unwrap().map(read_all).unwrap_or_default();
    let written = plan.written_directories(&live.entries);
    target.check_writable(&written).unwrap();
    steps.step()?;
    target.make_writable(&written).unwrap();
    if plan.actions.is_empty() {
        steps.step()?;
        target.switch(&[]).unwrap();
    }
    for action in &plan.actions {
        steps.step()?;
        target.switch(std::slice::from_ref(action)).unwrap();
    }
    for removal in &plan.removals {
        steps.step()?;
        let kept = target.remove(std::slice::from_ref(removal)).unwrap();
        assert_eq!(kept, []);
    }
    steps.step()?;
    target.finish_directories(&plan.directories).unwrap();
    steps.step()?;
    target.sync().unwrap();
    steps.step()?;
    assert_eq!(target.clean_up().unwrap(), []);
    Ok(())
}

pub fn restore_steps(root: &Path, wanted: &Tree, steps: &mut Steps) -> Result<MergePlan, Killed> {
    let mut target = target(root);
    let plan = plan(&target, wanted, Scope::Whole);
    steps.step()?;
    target.begin().unwrap();
    stage(&target, &plan, wanted, steps)?;
    finish(&mut target, &plan, steps)?;
    if is_root() {
        assert_eq!(target.unset_metadata(), []);
    }
    Ok(plan)
}

pub fn restore(root: &Path, wanted: &Tree) -> MergePlan {
    restore_steps(root, wanted, &mut Steps::unlimited()).ok().unwrap()
}

/// What was at every path that a restore changed: what an undo keeps.
pub fn undo_of(plan: &MergePlan, before: &Tree, wanted: &Tree) -> Tree {
    let mut paths: Vec<_> = plan.actions.iter().map(|action| action.path().clone()).collect();
    paths.extend(plan.removals.iter().map(|removal| removal.path.clone()));
    paths.extend(plan.directories.iter().map(|entry| entry.path.clone()));
    paths.sort();
    paths.dedup();
    let mut undo = Tree::default();
    for path in paths {
        match before.entries.iter().position(|entry| entry.path == path) {
            Some(at) => {
                undo.entries.push(before.entries[at].clone());
                undo.contents.push(before.contents[at].clone());
            }
            None => {
                let mut absent = wanted.entries.iter().find(|entry| entry.path == path).unwrap().clone();
                absent.kind = EntryKind::Absent;
                undo.entries.push(absent);
                undo.contents.push(Vec::new());
            }
        }
    }
    undo
}

pub fn restore_listed(root: &Path, wanted: &Tree) {
    let mut target = target(root);
    let plan = plan(&target, wanted, Scope::Listed);
    target.begin().unwrap();
    let mut steps = Steps::unlimited();
    assert!(stage(&target, &plan, wanted, &mut steps).is_ok());
    assert!(finish(&mut target, &plan, &mut steps).is_ok());
}

pub fn assert_restored(root: &Path, wanted: &Tree) {
    let got = read(root).comparable();
    let want = wanted.comparable();
    for (got, want) in got.iter().zip(&want) {
        assert_eq!(got.0, want.0);
        assert!(got.1 == want.1, "content of {}", got.0.path);
    }
    assert_eq!(got.len(), want.len(), "{:?}", read(root).paths());
    let beside: Vec<PathBuf> = fs::read_dir(root.parent().unwrap()).unwrap().map(|e| e.unwrap().path()).collect();
    let staging = |path: &&PathBuf| path.file_name().unwrap().as_bytes().starts_with(b".lifeboat-");
    assert_eq!(beside.iter().find(staging), None, "staging was left behind");
    assert!(!root.join(format!(".lifeboat-stage-{ID}")).exists(), "staging was left behind");
}

/// A directory in memory where there is one: hundreds of restores each wait for the disk otherwise.
pub fn quick_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

pub fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub fn fifo(path: &Path) {
    rustix::fs::mknodat(CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o640), 0).unwrap();
}

/// An access ACL as the kernel stores it: version 2, then (tag, permissions, id) each.
pub fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// A tree with every kind of thing in it.
pub fn build_everything(root: &Path) {
    let at = |path: &str| root.join(path);
    fs::create_dir_all(at("docs/deep/er")).unwrap();
    fs::create_dir(at("empty")).unwrap();
    fs::write(at("docs/plain.txt"), "plain text\n").unwrap();
    fs::write(at("docs/nothing"), "").unwrap();
    fs::write(at("docs/deep/er/big"), (0..30_000u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>()).unwrap();
    fs::write(at("docs-beside"), "sorts after docs/").unwrap();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9\n\\");
    fs::write(root.join(name), "latin-1").unwrap();
    symlink("docs/plain.txt", at("link")).unwrap();
    symlink("/nowhere/at all", at("dangling")).unwrap();
    fifo(&at("pipe"));
    fs::write(at("first-name"), "shared").unwrap();
    fs::hard_link(at("first-name"), at("docs/second-name")).unwrap();
    fs::hard_link(at("first-name"), at("third-name")).unwrap();
    let sparse = fs::File::create(at("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 1 << 17).unwrap();
    sparse.set_len(3 << 17).unwrap();
    fs::File::create(at("all-hole")).unwrap().set_len(1 << 17).unwrap();
    set_xattr(&at("docs/plain.txt"), "user.colour", b"green\0");
    set_xattr(&at("docs"), "user.empty", b"");
    let nobody = 0xffff_ffff;
    let access = acl(&[(1, 6, nobody), (2, 4, 1234), (4, 4, nobody), (16, 4, nobody), (32, 0, nobody)]);
    set_xattr(&at("docs/plain.txt"), "system.posix_acl_access", &access);
    set_xattr(&at("docs/deep"), "system.posix_acl_default", &access);
    set_mode(&at("docs/nothing"), 0o400);
    set_mode(&at("docs/deep/er"), 0o2751);
    set_mode(&at("empty"), 0o1777);
    if is_root() {
        std::os::unix::fs::chown(at("docs/nothing"), Some(1234), Some(4321)).unwrap();
        std::os::unix::fs::chown(at("empty"), Some(1000), None).unwrap();
        std::os::unix::fs::lchown(at("link"), Some(1234), Some(4321)).unwrap();
        std::os::unix::fs::chown(at("docs-beside"), Some(1), Some(1)).unwrap();
        set_mode(&at("docs-beside"), 0o4755);
        set_xattr(&at("third-name"), "trusted.secret", b"only root");
    } else {
        eprintln!("NOT root: owners, set-user-id and trusted attributes are not checked");
    }
    for (number, path) in ["docs/plain.txt", "docs/nothing", "link", "pipe", "sparse", "first-name"].iter().enumerate()
    {
        set_time(&at(path), 1_000_000_000 + number as i64, 123_456_789);
    }
    for path in ["docs/deep/er", "docs/deep", "docs", "empty", ""] {
        set_time(&at(path), 999_999_999, 1);
    }
    set_time(&at("dangling"), -5, 7);
}

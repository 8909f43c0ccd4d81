//! Opening and listing beneath a directory, with no way out of it.
//!
//! Everything below a directory that an operator vouched for is reached through here: no symbolic
//! link is followed, no `..` climbs, and on request no mount point is crossed.
//!
//! What is not here: what the opened things mean.

use std::mem::MaybeUninit;
use std::sync::Arc;

use lifeboat_model::EntryPath;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::{Errno, Result};

/// Whether a path may lead into a file system that is mounted below its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mounts {
    Cross,
    /// A mount point on the way is refused with `EXDEV`.
    Stay,
}

/// The kernel takes paths of up to 4,095 bytes; deeper ones are opened in steps.
const STEP_BYTES_MAX: usize = 4000;

pub(crate) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

const PASSAGE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens `path` (components separated by `/`; empty: `dir` itself) beneath `dir`.
///
/// `ELOOP`: a symbolic link stands somewhere on the way. `flags` should hold `NOFOLLOW`.
pub(crate) fn open(dir: impl AsFd, path: &[u8], flags: OFlags, mounts: Mounts) -> Result<OwnedFd> {
    open_with_mode(dir, path, flags, Mode::empty(), mounts)
}

pub(crate) fn open_with_mode(
    dir: impl AsFd,
    path: &[u8],
    flags: OFlags,
    mode: Mode,
    mounts: Mounts,
) -> Result<OwnedFd> {
    let mut here: Option<OwnedFd> = None;
    let mut rest = path;
    while rest.len() > STEP_BYTES_MAX {
        let cut = rest[..STEP_BYTES_MAX].iter().rposition(|&b| b == b'/').ok_or(Errno::NAMETOOLONG)?;
        let from = here.as_ref().map_or(dir.as_fd(), AsFd::as_fd);
        let step = open_step(from, &rest[..cut], PASSAGE, Mode::empty(), mounts)?;
        here = Some(step);
        rest = &rest[cut + 1..];
    }
    open_step(here.as_ref().map_or(dir.as_fd(), AsFd::as_fd), rest, flags, mode, mounts)
}

fn open_step(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode, mounts: Mounts) -> Result<OwnedFd> {
    if path.is_empty() {
        return rustix::fs::openat(dir, c".", flags, mode);
    }
    let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    if mounts == Mounts::Stay {
        resolve |= ResolveFlags::NO_XDEV;
    }
    match rustix::fs::openat2(dir, path, flags, mode, resolve) {
        Err(Errno::NOSYS) => open_by_component(dir, path, flags, mode, mounts),
        result => result,
    }
}

/// The same promise without `openat2` (kernels before 5.6, some sandboxes): one component a call.
fn open_by_component(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode, mounts: Mounts) -> Result<OwnedFd> {
    let device = |fd: BorrowedFd<'_>| stat_fd(fd).map(|stat| (stat.stx_dev_major, stat.stx_dev_minor));
    let start = device(dir)?;
    let mut here: Option<OwnedFd> = None;
    let mut components = path.split(|&b| b == b'/').peekable();
    while let Some(name) = components.next() {
        if name.is_empty() || name == b"." || name == b".." {
            return Err(Errno::XDEV);
        }
        let last = components.peek().is_none();
        let (flags, mode) = if last { (flags | OFlags::NOFOLLOW, mode) } else { (PASSAGE, Mode::empty()) };
        let next = rustix::fs::openat(here.as_ref().map_or(dir, AsFd::as_fd), name, flags, mode)?;
        if mounts == Mounts::Stay && device(next.as_fd())? != start {
            return Err(Errno::XDEV);
        }
        here = Some(next);
    }
    here.ok_or(Errno::NOENT)
}

/// A directory of a part, and a name in it: what the `*at` calls work on.
pub(crate) struct Spot<'a> {
    pub dir: Arc<OwnedFd>,
    pub name: &'a [u8],
}

/// Finds the directory that holds an entry; the last directory found is remembered, because
/// entries come in path order.
pub(crate) struct Finder {
    root: Arc<OwnedFd>,
    /// Those found last, the newest at the end: each of several threads works in a directory of its own.
    recent: std::sync::Mutex<Vec<(EntryPath, Arc<OwnedFd>)>>,
}

const RECENT_MAX: usize = 8;

impl Finder {
    pub fn new(root: Arc<OwnedFd>) -> Self {
        Self { root, recent: std::sync::Mutex::default() }
    }

    pub fn root(&self) -> &Arc<OwnedFd> {
        &self.root
    }

    /// `path` must not be the root.
    pub fn spot<'a>(&self, path: &'a EntryPath) -> Result<Spot<'a>> {
        let parent = path.parent().ok_or(Errno::INVAL)?;
        Ok(Spot { dir: self.directory(&parent)?, name: path.file_name() })
    }

    pub fn directory(&self, path: &EntryPath) -> Result<Arc<OwnedFd>> {
        if path.is_root() {
            return Ok(self.root.clone());
        }
        if let Some((_, dir)) = self.recent().iter().rev().find(|(known, _)| known == path) {
            return Ok(dir.clone());
        }
        let dir = Arc::new(open(&*self.root, path.as_bytes(), PASSAGE, Mounts::Stay)?);
        let mut recent = self.recent();
        if recent.len() >= RECENT_MAX {
            recent.remove(0);
        }
        recent.push((path.clone(), dir.clone()));
        Ok(dir)
    }

    /// To be called when directories are moved or removed.
    pub fn forget(&self) {
        self.recent().clear();
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, Vec<(EntryPath, Arc<OwnedFd>)>> {
        self.recent.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The path by which the calls that know no `*at` form reach a name in an open directory. The
/// directory is pinned by its descriptor, and the name is one component, so nothing can be swapped.
pub(crate) fn proc_path(dir: impl AsFd, name: &[u8]) -> Vec<u8> {
    use rustix::fd::AsRawFd;
    let mut path = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd()).into_bytes();
    if !name.is_empty() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}

/// Renames onto a name that must be free.
pub(crate) fn rename_noreplace(from: impl AsFd, name: &[u8], to: impl AsFd, new_name: &[u8]) -> Result<()> {
    match rustix::fs::renameat_with(&from, name, &to, new_name, RenameFlags::NOREPLACE) {
        // Not known to the file system (some network ones): the look before leaves a short race.
        Err(Errno::INVAL | Errno::NOSYS) => match stat_at(&to, new_name) {
            Err(Errno::NOENT) => rustix::fs::renameat(from, name, to, new_name),
            Ok(_) => Err(Errno::EXIST),
            Err(errno) => Err(errno),
        },
        result => result,
    }
}

const STATX: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::MNT_ID);

pub(crate) fn stat_fd(fd: impl AsFd) -> Result<Statx> {
    rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, STATX)
}

/// What the file system says of `name` itself, never of what a link points to.
pub(crate) fn stat_at(dir: impl AsFd, name: &[u8]) -> Result<Statx> {
    rustix::fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, STATX)
}

pub(crate) fn file_type(stat: &Statx) -> FileType {
    FileType::from_raw_mode(stat.stx_mode.into())
}

/// The names in one directory, sorted by their bytes, without `.` and `..`.
#[derive(Default)]
pub(crate) struct Names {
    bytes: Vec<u8>,
    items: Vec<(usize, u16, FileType)>,
}

impl Names {
    /// Reads a directory that was just opened.
    pub fn read(dir: impl AsFd) -> Result<Self> {
        let mut names = Self::default();
        let mut buffer = [MaybeUninit::<u8>::uninit(); 32 * 1024];
        let mut listing = RawDir::new(dir, &mut buffer);
        while let Some(item) = listing.next() {
            let item = item?;
            let name = item.file_name().to_bytes();
            // Names have at most 255 bytes on every file system; what is longer cannot be opened.
            if name == b"." || name == b".." || name.len() > 255 {
                continue;
            }
            names.items.push((names.bytes.len(), name.len() as u16, item.file_type()));
            names.bytes.extend_from_slice(name);
        }
        let bytes = &names.bytes;
        names.items.sort_unstable_by_key(|&(start, len, _)| &bytes[start..start + usize::from(len)]);
        Ok(names)
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// The name and what the listing says of its kind (may be [`FileType::Unknown`]).
    pub fn get(&self, at: usize) -> Option<(&[u8], FileType)> {
        self.items.get(at).map(|&(start, len, kind)| (&self.bytes[start..start + usize::from(len)], kind))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], FileType)> {
        (0..self.len()).filter_map(|at| self.get(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn fixture() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("in/deep")).unwrap();
        std::fs::write(dir.path().join("in/deep/file"), "x").unwrap();
        std::fs::write(dir.path().join("outside"), "secret").unwrap();
        symlink("..", dir.path().join("in/up")).unwrap();
        symlink("deep", dir.path().join("in/side")).unwrap();
        let fd = rustix::fs::open(dir.path().join("in"), DIRECTORY, Mode::empty()).unwrap();
        (dir, fd)
    }

    #[test]
    fn no_path_leads_out() {
        let (_dir, fd) = fixture();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let check = |path: &str, want: std::result::Result<(), &[Errno]>| {
            for (way, got) in [
                ("openat2", open(&fd, path.as_bytes(), flags, Mounts::Stay)),
                ("stepwise", open_by_component(fd.as_fd(), path.as_bytes(), flags, Mode::empty(), Mounts::Stay)),
            ] {
                match want {
                    Ok(()) => assert!(got.is_ok(), "{way} {path}: {got:?}"),
                    Err(errnos) => {
                        assert!(got.as_ref().is_err_and(|e| errnos.contains(e)), "{way} {path}: {got:?}");
                    }
                }
            }
        };
        check("deep/file", Ok(()));
        check("up/outside", Err(&[Errno::LOOP, Errno::NOTDIR]));
        check("side/file", Err(&[Errno::LOOP, Errno::NOTDIR]));
        check("side", Err(&[Errno::LOOP]));
        check("../outside", Err(&[Errno::XDEV]));
        check("deep/../../outside", Err(&[Errno::XDEV]));
        check("deep/none", Err(&[Errno::NOENT]));
    }

    #[test]
    fn a_path_longer_than_the_kernel_takes_is_opened_in_steps() {
        let (_dir, fd) = fixture();
        let name = [b'd'; 200];
        let mut path = Vec::new();
        let mut here = fd.try_clone().unwrap();
        for _ in 0..40 {
            rustix::fs::mkdirat(&here, &name[..], Mode::RWXU).unwrap();
            here = rustix::fs::openat(&here, &name[..], DIRECTORY, Mode::empty()).unwrap();
            path.extend_from_slice(&name);
            path.push(b'/');
        }
        path.pop();
        let opened = open(&fd, &path, DIRECTORY, Mounts::Stay).unwrap();
        assert_eq!(stat_fd(&opened).unwrap().stx_ino, stat_fd(&here).unwrap().stx_ino);
    }

    #[test]
    fn names_come_sorted_by_their_bytes() {
        let (dir, _) = fixture();
        let fd = rustix::fs::open(dir.path().join("in"), DIRECTORY, Mode::empty()).unwrap();
        let names = Names::read(&fd).unwrap();
        let listed: Vec<&[u8]> = names.iter().map(|(name, _)| name).collect();
        assert_eq!(listed, [&b"deep"[..], b"side", b"up"]);
    }
}

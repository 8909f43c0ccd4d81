//! Hints that something in a site's tree changed, from the kernel (inotify).
//!
//! ```text
//! directory of a site ─▶ watch ─▶ event ─▶ which site? ─▶ "maybe changed"
//!    a directory was made ─▶ watched too       queue overflowed ─▶ every site, maybe
//! ```
//!
//! A hint is no more than that: events may be lost where directories move, and file systems that other machines write
//! tell nothing. Whoever uses it walks every site now and then. Directories are reached as a walk reaches them: no
//! symbolic link is followed, no mount point crossed, nothing is watched outside a part.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem::MaybeUninit;
use std::sync::Arc;

use lifeboat_model::{EntryPath, SiteId};
use rustix::fd::OwnedFd;
use rustix::fs::FileType;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::FilesSource;
use super::exclude::{Excluded, is_staging};
use super::reader::{open_base, open_root};
use crate::Error;
use crate::beneath::{self, DIRECTORY, Mounts, Names, proc_path, stat_fd};

/// Writing, names that come and go, metadata: never opening or reading, or a busy tree would drown itself in events.
const EVENTS: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::EXCL_UNLINK);
/// Directories below each other that are watched; a deeper one is found when every site is walked.
const DEPTH_MAX: usize = 256;
/// File systems that other machines write, by the numbers of `statfs`: NFS, CIFS, SMB 2, AFS, Ceph, 9P, FUSE.
const REMOTE: [u64; 7] = [0x6969, 0xff53_4d42, 0xfe53_4d42, 0x5346_414f, 0x00c3_6400, 0x0102_1997, 0x6573_5546];

/// What changed since the hints were last taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Hint {
    Changed(BTreeSet<SiteId>),
    /// Something was not told: every site may have changed.
    Lost,
}

/// The directories of one source's sites, watched.
pub struct Watch {
    kernel: OwnedFd,
    directories: HashMap<i32, (Arc<Part>, EntryPath)>,
    /// The root that is watched of each site, by file system and inode.
    roots: BTreeMap<SiteId, RootId>,
    changed: BTreeSet<SiteId>,
    is_lost: bool,
}

type RootId = (u32, u32, u64);

/// A site's part, and what of it belongs to other sources.
struct Part {
    site: SiteId,
    excluded: Excluded,
}

impl Watch {
    pub fn new() -> Result<Self, Error> {
        let kernel = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(cannot_watch)?;
        Ok(Self {
            kernel,
            directories: HashMap::new(),
            roots: BTreeMap::new(),
            changed: BTreeSet::new(),
            is_lost: false,
        })
    }

    /// Watches these sites from here on, each as a whole. One that is new, or whose root is another one now, may have changed.
    pub fn cover(&mut self, source: &FilesSource, sites: &[SiteId]) -> Result<(), Error> {
        let listed: BTreeSet<&SiteId> = sites.iter().collect();
        self.roots.retain(|site, _| listed.contains(site));
        for id in sites {
            let Some(root) = root_of(source, id)? else {
                self.roots.remove(id);
                continue;
            };
            let stat = stat_fd(&root).map_err(cannot_watch)?;
            let now = (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
            if self.roots.insert(id.clone(), now) != Some(now) {
                refuse_remote(&root)?;
                self.changed.insert(id.clone());
                let excluded = Excluded::new(source.excluded(id)?);
                self.add((&Arc::new(Part { site: id.clone(), excluded }), &root), EntryPath::root())?;
            }
        }
        Ok(())
    }

    /// Takes in all that the kernel has to say.
    pub fn listen(&mut self, source: &FilesSource) -> Result<(), Error> {
        let mut made = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = Reader::new(&self.kernel, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::WOULDBLOCK) => break,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(cannot_watch(errno)),
            };
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                self.is_lost = true;
                continue;
            }
            if flags.contains(ReadFlags::IGNORED) {
                self.directories.remove(&event.wd());
                continue;
            }
            let Some((part, directory)) = self.directories.get(&event.wd()) else { continue };
            let name = event.file_name().map(|name| name.to_bytes());
            let path = name.and_then(|name| directory.join(name).ok());
            // What belongs to another source, and a restore's staging, is no change of the part.
            let is_other = path.as_ref().is_some_and(|path| part.excluded.holds(path)) || name.is_some_and(is_staging);
            if is_other {
                continue;
            }
            self.changed.insert(part.site.clone());
            if flags.contains(ReadFlags::ISDIR) && flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
                made.extend(path.map(|path| (Arc::clone(part), path)));
            }
        }
        for (part, path) in made {
            if let Some(root) = root_of(source, &part.site)? {
                self.add((&part, &root), path)?;
            }
        }
        Ok(())
    }

    /// The hints since they were last taken.
    pub fn take(&mut self) -> Hint {
        let changed = std::mem::take(&mut self.changed);
        if std::mem::take(&mut self.is_lost) { Hint::Lost } else { Hint::Changed(changed) }
    }

    /// Watches a directory and those below it. What is gone meanwhile is no matter.
    fn add(&mut self, (part, root): (&Arc<Part>, &OwnedFd), path: EntryPath) -> Result<(), Error> {
        let mut left = vec![(path, 0)];
        while let Some((path, depth)) = left.pop() {
            if part.excluded.holds(&path) || is_staging(path.file_name()) {
                continue;
            }
            let directory = match beneath::open(root, path.as_bytes(), DIRECTORY, Mounts::Stay) {
                Ok(directory) => directory,
                // Gone, a link, another file system, or nobody's to read: the walk says so where it matters.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::ACCESS) => continue,
                Err(errno) => return Err(cannot_watch(errno)),
            };
            // Pinned by its descriptor, so that nothing can be put in its place.
            let watched = inotify::add_watch(&self.kernel, proc_path(&directory, b""), EVENTS).map_err(cannot_watch)?;
            self.directories.insert(watched, (Arc::clone(part), path.clone()));
            let Ok(names) = Names::read(&directory) else { continue };
            let below = names.iter().filter(|(_, kind)| matches!(kind, FileType::Directory | FileType::Unknown));
            let below = below.filter_map(|(name, _)| path.join(name).ok());
            if depth < DEPTH_MAX {
                left.extend(below.map(|path| (path, depth + 1)));
            }
        }
        Ok(())
    }
}

fn root_of(source: &FilesSource, site: &SiteId) -> Result<Option<OwnedFd>, Error> {
    let place = source.place(site)?;
    // What is in the way, or gone, is told by whoever reads the part.
    let Ok(base) = open_base(&place) else { return Ok(None) };
    Ok(open_root(&base, &place).unwrap_or_default())
}

fn refuse_remote(root: &OwnedFd) -> Result<(), Error> {
    let kind = rustix::fs::fstatfs(root).map_err(cannot_watch)?.f_type as u64 & 0xffff_ffff;
    match REMOTE.contains(&kind) {
        false => Ok(()),
        true => Err(Error::Conflict {
            detail: "changes that other machines make on this file system are not told".into(),
            path: format!("statfs type {kind:#x}"),
            hint: "set `watch = false` in [capture] to stop being told; every site is walked at each scan".into(),
        }),
    }
}

fn cannot_watch(errno: Errno) -> Error {
    let hint = match errno {
        Errno::NOSPC => "raise `sysctl fs.inotify.max_user_watches`: one a directory",
        Errno::MFILE => "raise `sysctl fs.inotify.max_user_instances`, or the limit of open files",
        _ => "every site is walked at each scan meanwhile",
    };
    let detail = format!("the sites' directories cannot be watched: {}", std::io::Error::from(errno));
    Error::Conflict { detail, path: "inotify".into(), hint: hint.into() }
}

#[cfg(test)]
mod tests;

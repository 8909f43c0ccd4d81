//! Writing one part of one site, able to reach nothing else.
//!
//! | call                 | the part is absent (fresh)                 | the part exists (merge)             |
//! |----------------------|--------------------------------------------|-------------------------------------|
//! | `begin`, `resume`    | `<parent>/.lifeboat-<id>-<hash>/tree`      | `<root>/.lifeboat-stage-<id>/files` |
//! | `stage_file`         | the file at its final place in that tree   | a file named by a hash of its path  |
//! | `prepare`            | directories, links, FIFOs in that tree     | nothing                             |
//! | `seal`               | directory metadata; durable                | durable                             |
//! | `lock_switch`        | nothing                                    | the root, against other restores    |
//! | `switch`             | ONE rename of the tree to its name         | each path: rename over, or add      |
//! | `remove`             | (nothing to remove)                        | extra entries                       |
//! | `finish_directories` | nothing                                    | times, modes, owners, bottom-up     |
//! | `clean_up`           | the empty staging directory                | staging; the root's times kept      |
//!
//! The same calls with the same arguments serve both. A killed run is run again from `open`: after
//! the one rename a fresh target has become a merge that finds nothing left to do.
//!
//! Invariant (stage-first): before `switch`, nothing of the part is touched; a full disk, a lost
//! connection or a kill leaves it as it was.
//! What is not here: the staging directory itself (`staging`), what a killed run left in it (`resume`), the single
//! changes of a merge (`switch`), building a fresh tree (`build`).

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lifeboat_model::{Entry, EntryKind, EntryPath, PartIdentity, PartProblem, RestoreId};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::action::Action;
use super::apply::{Owner, Unset};
use super::content::FileContent;
use super::exclude::Excluded;
use super::reader::{FilesReader, open_base, open_root};
use super::staged::{LiveFile, STAGED_MODE, StagedFile};
use super::walk::entry;
use super::xattr::{self, Subject};
use crate::beneath::{self, Finder, Mounts, file_type, stat_fd};
use crate::error::shown;
use crate::identity::identity_of;
use crate::{Content, Error, PartReader, Place};

/// The tree's name in the staging directory of an absent part.
pub(super) const TREE: &[u8] = b"tree";

/// The target of a restore: one part of one site.
pub struct FilesTarget {
    pub(super) place: Place,
    pub(super) restore: RestoreId,
    excluded: Excluded,
    /// The part's root as it was when the target was opened.
    live: Option<Arc<OwnedFd>>,
    pub(super) work: Option<Work>,
    pub(super) unset: Arc<Unset>,
    /// The part's root, locked from just before the switch till the end.
    switching: Option<OwnedFd>,
}

/// What exists from `begin` to `clean_up`.
pub(super) struct Work {
    /// The root that is worked on: the live part, or the tree being built.
    pub finder: Finder,
    pub fresh: bool,
    /// Where things lie that are staged or in the making; of a fresh part, its tree.
    pub staging: OwnedFd,
    /// The staging directory itself, locked as long as it is open.
    _lock: Option<OwnedFd>,
    /// An earlier attempt left staged files.
    pub earlier: bool,
    /// The directory above the part.
    pub parent: Arc<OwnedFd>,
    /// Directories above the part that were missing, as (where, name).
    pub made: Vec<(Arc<OwnedFd>, Vec<u8>)>,
    pub owner: Owner,
    pub switched: AtomicBool,
    scratch: AtomicU64,
}

impl Work {
    /// A name in staging that nothing has yet.
    pub fn scratch_name(&self) -> Vec<u8> {
        format!("x{}", self.scratch.fetch_add(1, Ordering::Relaxed)).into_bytes()
    }
}

impl FilesTarget {
    /// Looks at the place and writes nothing. `excluded`: paths of the part that others own.
    pub fn open(place: Place, restore: RestoreId, excluded: Vec<EntryPath>) -> Result<Self, Error> {
        let live = match open_base(&place) {
            Ok(base) => open_root(&base, &place)?.map(Arc::new),
            Err(errno) => return Err(Self::no_base(&place, errno)),
        };
        let excluded = Excluded::new(excluded);
        Ok(Self { place, restore, excluded, live, work: None, unset: Arc::default(), switching: None })
    }

    /// Whether the part exists now: the restore is a merge.
    pub fn exists(&self) -> bool {
        self.live.is_some()
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    pub fn identity(&self) -> Result<PartIdentity, Error> {
        identity_of(&self.place.path())
    }

    /// Reads the live part; `None` when it is absent.
    pub fn scan(&self) -> Result<Option<Box<dyn PartReader>>, Error> {
        match self.visible_root() {
            Some(root) => {
                let reader = FilesReader::new(root.clone(), self.excluded.clone(), self.identity()?)?;
                Ok(Some(Box::new(reader)))
            }
            None => Ok(None),
        }
    }

    /// The content of a file of the live part; of the tree being built when the part is absent.
    pub fn content(&self, entry: &Entry) -> Result<Box<dyn Content>, Error> {
        Ok(Box::new(FileContent::open(&**self.root(&entry.path)?, &entry.path)?))
    }

    /// A live file to copy good stretches from.
    pub fn live_file(&self, path: &EntryPath) -> Result<LiveFile, Error> {
        let file = FileContent::open_ours(&**self.root(path)?, path)?.into_file();
        Ok(LiveFile { file, path: path.clone() })
    }

    /// What stands at a path now. Further names of a file are told as files.
    pub fn stat_entry(&self, path: &EntryPath) -> Result<Option<Entry>, Error> {
        let Some(root) = self.visible_root() else { return Ok(None) };
        let failed = |errno| Error::io("cannot look at the entry", path.as_bytes(), errno);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let at = match beneath::open(&**root, path.as_bytes(), flags, Mounts::Stay) {
            Ok(at) => at,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        let stat = stat_fd(&at).map_err(failed)?;
        let kind = match file_type(&stat) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Directory,
            FileType::Fifo => EntryKind::Fifo,
            FileType::Symlink => EntryKind::Symlink {
                target: rustix::fs::readlinkat(&at, c"", Vec::new()).map_err(failed)?.into_bytes(),
            },
            _ => return Ok(None),
        };
        let xattrs = match path.parent() {
            None => xattr::read_all(Subject::Open(root.as_fd())),
            Some(parent) => beneath::open(&**root, parent.as_bytes(), PASSAGE, Mounts::Stay)
                .and_then(|dir| xattr::read_all(Subject::Name { dir: dir.as_fd(), name: path.file_name() })),
        };
        Ok(Some(entry(path.clone(), kind, &stat, xattrs.map_err(failed)?)))
    }

    /// Makes an empty staging directory; what an earlier attempt of the same restore left in it is
    /// thrown away. Missing directories above the part are made.
    pub fn begin(&mut self) -> Result<(), Error> {
        self.start(None)
    }

    /// The same, but keeps what an earlier attempt had staged of these files, and the directories they lie in:
    /// [`Self::earlier`] opens them.
    pub fn resume<'a>(&mut self, files: impl Iterator<Item = &'a EntryPath>) -> Result<(), Error> {
        let files: HashSet<&EntryPath> = files.collect();
        let directories: HashSet<EntryPath> = files.iter().filter_map(|path| path.parent()).collect();
        let directories: HashSet<EntryPath> =
            directories.into_iter().flat_map(|path| std::iter::successors(Some(path), EntryPath::parent)).collect();
        self.start(Some(&|path, kind| match kind {
            FileType::Directory => directories.contains(path),
            _ => files.contains(path),
        }))
    }

    fn start(&mut self, kept: Option<&super::resume::Wanted<'_>>) -> Result<(), Error> {
        self.work = None;
        let mut made = Vec::new();
        let parent = self.make_parents(&mut made)?;
        let (staging, root) = match (&self.live, kept) {
            (Some(live), _) => {
                self.discard_attempt(&parent)?;
                (self.stage_in_part(live, kept.is_some())?, live.clone())
            }
            (None, Some(is_wanted)) => match self.keep_attempt(&parent, is_wanted)? {
                Some(kept) => kept,
                None => self.stage_beside(&parent)?,
            },
            (None, None) => {
                self.discard_attempt(&parent)?;
                self.stage_beside(&parent)?
            }
        };
        let owner = self.probe_owner(&staging.dir)?;
        self.work = Some(Work {
            finder: Finder::new(root),
            fresh: self.live.is_none(),
            staging: staging.dir,
            _lock: staging.lock,
            earlier: staging.earlier,
            parent,
            made,
            owner,
            switched: AtomicBool::new(false),
            scratch: AtomicU64::new(0),
        });
        Ok(())
    }

    /// Opens a new, empty staged file for `entry`; to be called from any thread.
    pub fn stage_file(&self, entry: &Entry) -> Result<StagedFile, Error> {
        let work = self.working()?;
        if entry.kind != EntryKind::File || entry.path.is_root() {
            return Err(self.misuse(&entry.path, "only files are staged"));
        }
        let (dir, name) = self.staged_place(work, entry);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || beneath::open_with_mode(dir, &name, flags, Mode::from_raw_mode(STAGED_MODE), Mounts::Stay);
        let file = match open() {
            Err(Errno::NOENT) if work.fresh => {
                if let Some(parent) = entry.path.parent() {
                    self.build_directories(work, &parent)?;
                }
                open()
            }
            // The same file staged again after a failure.
            Err(Errno::EXIST) => {
                self.unstage(work, entry, &name)?;
                open()
            }
            result => result,
        };
        let file = file.map_err(|errno| Error::io("cannot stage the file", entry.path.as_bytes(), errno))?;
        Ok(StagedFile::new(file, entry, work.owner, self.unset.clone()))
    }

    /// Where a file lies while it is staged.
    pub(super) fn staged_place<'a>(&self, work: &'a Work, entry: &Entry) -> (BorrowedFd<'a>, Vec<u8>) {
        match work.fresh {
            true => (work.finder.root().as_fd(), entry.path.as_bytes().to_vec()),
            false => (work.staging.as_fd(), staged_name(&entry.path)),
        }
    }

    fn unstage(&self, work: &Work, entry: &Entry, name: &[u8]) -> Result<(), Error> {
        let removed = match work.fresh {
            true => work
                .finder
                .spot(&entry.path)
                .and_then(|spot| rustix::fs::unlinkat(&*spot.dir, spot.name, AtFlags::empty())),
            false => rustix::fs::unlinkat(&work.staging, name, AtFlags::empty()),
        };
        removed.map_err(|errno| Error::io("cannot stage the file again", entry.path.as_bytes(), errno))
    }

    /// Reads a staged file back, before the switch.
    pub fn staged_content(&self, entry: &Entry) -> Result<Box<dyn Content>, Error> {
        let work = self.working()?;
        if work.fresh {
            return Ok(Box::new(FileContent::open_ours(&**work.finder.root(), &entry.path)?));
        }
        let path = EntryPath::new(staged_name(&entry.path)).map_err(|_| self.misuse(&entry.path, "no such name"))?;
        Ok(Box::new(FileContent::open_ours(&work.staging, &path)?))
    }

    /// Builds everything but file contents where that is possible before the switch. May be called
    /// in batches, in path order.
    pub fn prepare(&self, actions: &[Action]) -> Result<(), Error> {
        let work = self.working()?;
        if !work.fresh {
            return Ok(());
        }
        actions.iter().try_for_each(|action| self.build(work, action))
    }

    /// Makes everything staged complete and durable: the last step before the switch.
    pub fn seal(&self, directories: &[Entry]) -> Result<(), Error> {
        let work = self.working()?;
        if work.fresh {
            self.finish_built(work, directories)?;
        }
        self.sync()
    }

    /// Waits until everything written to the file system is durable.
    pub fn sync(&self) -> Result<(), Error> {
        let work = self.working()?;
        rustix::fs::syncfs(&**work.finder.root()).map_err(|errno| self.failed("cannot make the part durable", errno))
    }

    /// Keeps every other restore of this host out of the part until [`Self::clean_up`]: path by path, two switches at once
    /// would leave a mix. To be called before it is asked for the last time whether this restore may still go on.
    ///
    /// # Errors
    /// [`Error::Busy`] when another one is in the middle of its switch, however long it has stood still there.
    pub fn lock_switch(&mut self) -> Result<(), Error> {
        self.switching = match &self.live {
            Some(live) => Some(self.switch_lock(live)?),
            None => None, // one rename, onto a name that must be free
        };
        Ok(())
    }

    /// The same look, and nothing is kept.
    pub fn check_not_switching(&self) -> Result<(), Error> {
        self.live.as_ref().map_or(Ok(()), |live| self.switch_lock(live).map(drop))
    }

    /// The switch. Fresh: one rename, and a part that appeared meanwhile is a conflict. Merge: the
    /// actions in order. May be called in batches, and again from the first batch. `sync` makes it
    /// durable.
    pub fn switch(&self, actions: &[Action]) -> Result<(), Error> {
        let work = self.working()?;
        if !work.fresh {
            return actions.iter().try_for_each(|action| self.change(work, action));
        }
        if work.switched.load(Ordering::Acquire) {
            return Ok(());
        }
        let name = self.place.relative().file_name();
        // A directory that moves is written to: its own `..` changes.
        let moved = self.while_open(work.finder.root(), || {
            Ok(beneath::rename_noreplace(&work.staging, TREE, &work.parent, name))
        })?;
        match moved {
            Ok(()) => {
                work.switched.store(true, Ordering::Release);
                Ok(())
            }
            Err(Errno::EXIST | Errno::NOTEMPTY) => Err(Error::Conflict {
                detail: "the part appeared while it was being restored".into(),
                path: shown(self.place.path().as_os_str().as_bytes()),
                hint: "run the same restore again: it will merge into what is there now".into(),
            }),
            Err(errno) => Err(self.failed("cannot switch the restored part in", errno)),
        }
    }

    /// Directories above the part that had to be made: their own owner and mode are in no snapshot.
    pub fn made_above(&self) -> Vec<String> {
        let made = self.work.as_ref().map_or(0, |work| work.made.len());
        let path = self.place.path();
        let above = path.ancestors().skip(1).take(made);
        above.map(|path| shown(path.as_os_str().as_bytes())).collect()
    }

    /// Metadata that could not be set so far, by entry.
    pub fn unset_metadata(&self) -> Vec<PartProblem> {
        self.unset.list()
    }

    /// Removes all staging of this restore, also after a failure or when nothing was begun; what
    /// cannot be removed is returned by name.
    pub fn clean_up(&mut self) -> Result<Vec<PartProblem>, Error> {
        let mut kept = Vec::new();
        if let Some(live) = &self.live {
            kept.extend(self.discard_merge(live)?);
        }
        kept.extend(self.discard_fresh()?);
        (self.work, self.switching) = (None, None);
        Ok(kept)
    }

    /// The root a person sees: none before the switch of a fresh target.
    fn visible_root(&self) -> Option<&Arc<OwnedFd>> {
        match &self.work {
            Some(work) if work.fresh && !work.switched.load(Ordering::Acquire) => None,
            Some(work) => Some(work.finder.root()),
            None => self.live.as_ref(),
        }
    }

    fn root(&self, path: &EntryPath) -> Result<&Arc<OwnedFd>, Error> {
        let root = self.work.as_ref().map(|work| work.finder.root()).or(self.live.as_ref());
        root.ok_or_else(|| Error::Gone { path: path.to_string() })
    }

    pub(super) fn working(&self) -> Result<&Work, Error> {
        self.work.as_ref().ok_or_else(|| self.misuse(&EntryPath::root(), "the restore has not begun"))
    }

    pub(super) fn failed(&self, action: &'static str, errno: Errno) -> Error {
        Error::io(action, self.place.path().as_os_str().as_bytes(), errno)
    }

    pub(super) fn misuse(&self, path: &EntryPath, detail: &str) -> Error {
        Error::Conflict {
            detail: detail.to_owned(),
            path: path.to_string(),
            hint: "this is a fault of Lifeboat: please report it".into(),
        }
    }

    pub(super) fn misuse_at(&self, detail: String) -> Error {
        let path = shown(self.place.path().as_os_str().as_bytes());
        Error::Conflict { detail, path, hint: "look at it, move it away, then run the same restore again".into() }
    }

    pub(super) fn no_base(place: &Place, errno: Errno) -> Error {
        let base = shown(place.base().as_os_str().as_bytes());
        Error::SourceFailed {
            source_name: base.clone(),
            detail: format!("root=`{base}`: {}", std::io::Error::from(errno)),
            hint: format!("mount or create `{base}` first: nothing is restored onto a disk that is not there"),
        }
    }
}

pub(super) const PASSAGE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The name of a staged file of a merge: of its path alone, so that the next attempt finds it again.
pub(super) fn staged_name(path: &EntryPath) -> Vec<u8> {
    let digest = Sha256::digest(path.as_bytes());
    digest.iter().take(STAGED_NAME_LEN / 2).flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

pub(super) fn is_staged_name(name: &[u8]) -> bool {
    name.len() == STAGED_NAME_LEN && name.iter().all(u8::is_ascii_hexdigit)
}

const STAGED_NAME_LEN: usize = 32;

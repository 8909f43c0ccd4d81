//! What has to change for a live tree to become the wanted one: pure, and printable before anything
//! is touched.

use std::collections::{BTreeSet, HashMap, HashSet};

use lifeboat_model::{Entry, EntryKind, EntryPath};

use super::action::{Action, Over, Removal, Seen};
use super::apply::differs;

/// What a comparison covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The wanted entries are the whole part: what is live and not wanted is extra.
    Whole,
    /// Only the wanted entries are compared, [`EntryKind::Absent`] ones among them (an undo, or
    /// `--only`).
    Listed,
}

/// The changes, in the order in which a target takes them.
///
/// For undo, keep the live entry (or [`EntryKind::Absent`]) of every path in `actions`, `removals`
/// and `directories`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MergePlan {
    /// In path order.
    pub actions: Vec<Action>,
    /// Extra entries, to be removed last; children before parents.
    pub removals: Vec<Removal>,
    /// Directories to be finished: new, different, or with a changed child.
    pub directories: Vec<Entry>,
    /// Wanted entries that are there already.
    pub unchanged: u64,
}

impl MergePlan {
    /// The directories of the live tree in which something will be made, replaced or removed.
    pub fn written_directories(&self, live: &[Entry]) -> BTreeSet<EntryPath> {
        let removed = self.removals.iter().map(|removal| &removal.path);
        let parents = self.actions.iter().map(Action::path).chain(removed).filter_map(EntryPath::parent);
        let is_directory = |path: &EntryPath| {
            let at = live.binary_search_by(|entry| entry.path.cmp(path)).ok();
            at.is_some_and(|at| live[at].kind == EntryKind::Directory)
        };
        parents.collect::<BTreeSet<_>>().into_iter().filter(is_directory).collect()
    }
}

/// Compares the live tree with the wanted one, both in path order.
///
/// `same_content(live, wanted)` is asked for pairs of files of equal size and says whether they hold
/// the same bytes; the live entry is told as a file with its size, hard link or not.
pub fn plan_merge(
    live: &[Entry],
    wanted: &[Entry],
    scope: Scope,
    same_content: &mut dyn FnMut(&Entry, &Entry) -> bool,
) -> MergePlan {
    let mut planner = Planner::new(live, wanted, scope);
    for entry in wanted {
        planner.compare(entry, same_content);
    }
    if scope == Scope::Whole {
        for extra in live.iter().rev() {
            if !planner.wanted.contains_key(&extra.path) {
                planner.remove(extra, false);
            }
        }
    }
    planner.plan.removals.sort_by(|a, b| b.path.cmp(&a.path));
    planner.finish(wanted)
}

struct Planner<'a> {
    live: HashMap<&'a EntryPath, &'a Entry>,
    /// The live tree in path order, to find what lies beneath a directory.
    ordered: &'a [Entry],
    scope: Scope,
    wanted: HashMap<&'a EntryPath, &'a Entry>,
    /// How many live names an inode has in this part.
    names: HashMap<u64, u32>,
    /// Which wanted file keeps a live inode.
    claimed: HashMap<u64, &'a EntryPath>,
    gone: HashSet<&'a EntryPath>,
    touched: HashSet<EntryPath>,
    plan: MergePlan,
}

impl<'a> Planner<'a> {
    fn new(live: &'a [Entry], wanted: &'a [Entry], scope: Scope) -> Self {
        let mut names = HashMap::new();
        for entry in live.iter().filter(|entry| is_file(entry)) {
            *names.entry(entry.metadata.inode).or_insert(0) += 1;
        }
        Self {
            live: live.iter().map(|entry| (&entry.path, entry)).collect(),
            ordered: live,
            scope,
            wanted: wanted.iter().map(|entry| (&entry.path, entry)).collect(),
            names,
            claimed: HashMap::new(),
            gone: HashSet::new(),
            touched: HashSet::new(),
            plan: MergePlan::default(),
        }
    }

    fn compare(&mut self, wanted: &'a Entry, same_content: &mut dyn FnMut(&Entry, &Entry) -> bool) {
        let Some(live) = self.live.get(&wanted.path).copied() else {
            if wanted.kind != EntryKind::Absent {
                self.put(wanted, None);
            }
            return;
        };
        match (&live.kind, &wanted.kind) {
            (_, EntryKind::Absent) => {
                self.remove_beneath(live, false);
                self.remove(live, false);
            }
            (EntryKind::Directory, EntryKind::Directory) => {
                if differs(live, wanted) {
                    self.touched.insert(wanted.path.clone());
                } else {
                    self.plan.unchanged += 1;
                }
            }
            (EntryKind::File | EntryKind::HardLink { .. }, EntryKind::File) => {
                self.compare_files(live, wanted, same_content);
            }
            (EntryKind::File | EntryKind::HardLink { .. }, EntryKind::HardLink { to }) => {
                match self.claimed.get(&live.metadata.inode) {
                    Some(first) if *first == to => self.plan.unchanged += 1,
                    _ if !self.wanted.contains_key(to) && self.live_inode(to) == Some(live.metadata.inode) => {
                        self.plan.unchanged += 1;
                    }
                    _ => self.put(wanted, Some(live)),
                }
            }
            (EntryKind::Symlink { target: is }, EntryKind::Symlink { target: want }) if is == want => {
                self.metadata_only(live, wanted);
            }
            (EntryKind::Fifo, EntryKind::Fifo) => self.metadata_only(live, wanted),
            _ => self.put(wanted, Some(live)),
        }
    }

    fn compare_files(
        &mut self,
        live: &'a Entry,
        wanted: &'a Entry,
        same_content: &mut dyn FnMut(&Entry, &Entry) -> bool,
    ) {
        let inode = live.metadata.inode;
        let mut as_file = live.clone();
        if let EntryKind::HardLink { to } = &live.kind {
            // Its first name goes or becomes another file. An undo can only bring both names of the
            // one file back when it lists both, so this one is a change as well.
            if self.scope == Scope::Whole || self.wanted.contains_key(to) {
                return self.put(wanted, Some(live));
            }
            as_file.kind = EntryKind::File;
            as_file.metadata.size = self.live.get(to).map_or(0, |first| first.metadata.size);
        }
        let same = !self.claimed.contains_key(&inode)
            && as_file.metadata.size == wanted.metadata.size
            && same_content(&as_file, wanted);
        if !same {
            return self.put(wanted, Some(live));
        }
        let different = differs(live, wanted);
        // Metadata belongs to all names of a file at once: those of this part that are to be other
        // files must not be changed with it.
        if different && self.names.get(&inode).is_some_and(|names| *names > 1) {
            return self.put(wanted, Some(live));
        }
        self.claimed.insert(inode, &wanted.path);
        self.metadata_only(live, wanted);
    }

    fn metadata_only(&mut self, live: &Entry, wanted: &Entry) {
        if differs(live, wanted) {
            self.plan.actions.push(Action::SetMetadata { entry: wanted.clone() });
            // A file with a name elsewhere is replaced by a copy.
            self.touch_parent(&wanted.path);
        } else {
            self.plan.unchanged += 1;
        }
    }

    fn put(&mut self, wanted: &Entry, live: Option<&'a Entry>) {
        let over = match live {
            Some(live) => Over::Seen(Seen::of(live)),
            None => Over::Nothing,
        };
        if let Some(live) = live
            && live.kind == EntryKind::Directory
        {
            self.remove_beneath(live, true);
        }
        self.touch_parent(&wanted.path);
        if wanted.kind == EntryKind::Directory {
            self.touched.insert(wanted.path.clone());
        }
        self.plan.actions.push(Action::Put { entry: wanted.clone(), over });
    }

    /// Everything beneath a live directory that has to make way, deepest first.
    fn remove_beneath(&mut self, directory: &Entry, at_once: bool) {
        let from = self.ordered.partition_point(|entry| entry.path <= directory.path);
        let beneath: Vec<&'a Entry> =
            self.ordered[from..].iter().take_while(|entry| entry.path.starts_with(&directory.path)).collect();
        for entry in beneath.into_iter().rev() {
            self.remove(entry, at_once);
        }
    }

    fn remove(&mut self, live: &'a Entry, at_once: bool) {
        if !self.gone.insert(&live.path) {
            return;
        }
        let removal = Removal { path: live.path.clone(), seen: Some(Seen::of(live)) };
        self.touch_parent(&live.path);
        match at_once {
            true => self.plan.actions.push(Action::Remove(removal)),
            false => self.plan.removals.push(removal),
        }
    }

    fn touch_parent(&mut self, path: &EntryPath) {
        self.touched.extend(path.parent());
    }

    fn live_inode(&self, path: &EntryPath) -> Option<u64> {
        self.live.get(path).filter(|entry| is_file(entry)).map(|entry| entry.metadata.inode)
    }

    /// A touched directory gets the wanted metadata; one that nobody asked about keeps its own.
    fn finish(mut self, wanted: &[Entry]) -> MergePlan {
        let is_directory = |entry: &&Entry| entry.kind == EntryKind::Directory;
        let mut directories: Vec<Entry> =
            wanted.iter().filter(is_directory).filter(|entry| self.touched.contains(&entry.path)).cloned().collect();
        for path in &self.touched {
            let asked = self.wanted.contains_key(path) || self.gone.contains(path);
            if let Some(live) = self.live.get(path).filter(|live| !asked && live.kind == EntryKind::Directory) {
                directories.push((*live).clone());
            }
        }
        directories.sort_by(|a, b| a.path.cmp(&b.path));
        self.plan.directories = directories;
        self.plan
    }
}

fn is_file(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::File | EntryKind::HardLink { .. })
}

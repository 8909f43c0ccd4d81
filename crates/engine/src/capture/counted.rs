//! What a capture counts on: how tables and partitions were when their rows came into the index.
//!
//! ```text
//! stream   a partition comes empty ─▶ counted on        comes with rows, or goes with them ─▶ broken, there
//! looks    a table or partition has another file, and when the stream has come as far as the look it has told of no TRUNCATE of
//!          the whole table: somebody emptied the partition by itself ─▶ broken, since the last good look
//! ```
//!
//! Invariant (counted-after-logged): it is written down only when the log has what followed from it. Killed in between,
//! the same may be found once more, which costs a base or an epoch; never is it taken for known.

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_model::{Lsn, SiteId, Timestamp};
use lifeboat_source::postgres::capture::{Leaf, Partitions, Shape, StructureChange, StructureKind};

use super::CaptureIndex;
use crate::Error;

/// Keys of what is none of a table's; names of tables have a dot.
const LEAF: &str = "partition ";
const COLUMNS: &str = "columns ";
const LOOKED_AT: &str = "looked at";
const WISHED: &str = "base of ";

/// Why an epoch ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    pub detail: String,
    /// It may have been so since then; `None`: all before the end is whole.
    pub sound_till: Option<Timestamp>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct CountedOn {
    pub tables: BTreeMap<String, String>,
    leaves: BTreeMap<u32, KnownLeaf>,
    /// Columns by the number of their table, where nothing notes changes of structure.
    shapes: BTreeMap<u32, String>,
    /// When all was last as it should be, by the source's clock.
    pub looked_at: Option<Timestamp>,
    /// Sites that a base was wished for, and when.
    wished: BTreeMap<SiteId, Timestamp>,
    is_new: bool,
    /// Of the transaction that is open: partitions that came or went with rows, and tables that were dropped.
    unseen: Vec<(String, String)>,
    dropped: BTreeSet<String>,
    suspected: Option<Suspected>,
}

/// Partitions with another file, by table, and where the stream must have come to before it is certain.
#[derive(Debug, Clone)]
struct Suspected {
    roots: BTreeSet<String>,
    till: Lsn,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct KnownLeaf {
    /// The partitioned table.
    root: String,
    /// `None`: another one since the whole table was emptied, and not looked at yet.
    file: Option<u32>,
}

impl CountedOn {
    /// As an epoch begins.
    pub fn begin(tables: BTreeMap<String, String>, leaves: Vec<(String, Leaf)>, now: Timestamp) -> Self {
        let known = |(root, leaf): (String, Leaf)| (leaf.oid, KnownLeaf { root, file: Some(leaf.file) });
        let leaves = leaves.into_iter().map(known).collect();
        Self { tables, leaves, looked_at: Some(now), is_new: true, ..Self::default() }
    }

    pub fn load(index: &mut dyn CaptureIndex) -> Result<Self, Error> {
        let mut counted = Self::default();
        for (name, text) in index.counted_on()? {
            if name == LOOKED_AT {
                counted.looked_at = text.parse().ok().map(Timestamp);
            } else if let Some(site) = name.strip_prefix(WISHED).and_then(|site| SiteId::new(site).ok()) {
                counted.wished.extend(text.parse().ok().map(|at| (site, Timestamp(at))));
            } else if let Some(oid) = name.strip_prefix(COLUMNS).and_then(|oid| oid.parse().ok()) {
                counted.shapes.insert(oid, text);
            } else if let Some(oid) = name.strip_prefix(LEAF).and_then(|oid| oid.parse().ok()) {
                let known =
                    text.split_once(' ').and_then(|(file, root)| Some((file.parse::<u32>().ok()?, root.to_owned())));
                let known = known.map(|(file, root)| KnownLeaf { root, file: (file > 0).then_some(file) });
                counted.leaves.extend(known.map(|known| (oid, known)));
            } else {
                counted.tables.insert(name, text);
            }
        }
        Ok(counted)
    }

    /// Writes it down, if it is not written yet.
    pub fn keep(&mut self, index: &mut dyn CaptureIndex) -> Result<(), Error> {
        if self.is_new {
            let leaf = |(oid, known): (&u32, &KnownLeaf)| {
                (format!("{LEAF}{oid}"), format!("{} {}", known.file.unwrap_or(0), known.root))
            };
            let mut all = self.tables.clone();
            all.extend(self.leaves.iter().map(leaf));
            all.extend(self.shapes.iter().map(|(oid, columns)| (format!("{COLUMNS}{oid}"), columns.clone())));
            all.extend(self.looked_at.map(|at| (LOOKED_AT.to_owned(), at.0.to_string())));
            all.extend(self.wished.iter().map(|(site, at)| (format!("{WISHED}{site}"), at.0.to_string())));
            index.count_on(&all)?;
            self.is_new = false;
        }
        Ok(())
    }

    pub fn wish(&mut self, site: SiteId, at: Timestamp) {
        self.wished.insert(site, at);
        self.is_new = true;
    }

    pub fn wished(&self) -> Vec<(SiteId, Timestamp)> {
        self.wished.iter().map(|(site, at)| (site.clone(), *at)).collect()
    }

    pub fn wish_is_done(&mut self, site: &SiteId) {
        self.wished.remove(site);
        self.is_new = true;
    }

    /// All was as it should be then.
    pub fn looked(&mut self, at: Timestamp) {
        (self.looked_at, self.is_new) = (Some(at), true);
    }

    pub fn count_on(&mut self, tables: BTreeMap<String, String>) {
        (self.tables, self.is_new) = (tables, true);
    }

    /// Counts on tables that are new; those that are known keep their names, until the stream says that they changed.
    pub fn count_on_new(&mut self, tables: BTreeMap<String, String>) {
        let known: BTreeSet<String> = self.tables.values().map(|counted| number_of(counted).to_owned()).collect();
        self.tables.extend(tables.into_iter().filter(|(_, counted)| !known.contains(number_of(counted))));
        self.is_new = true;
    }

    /// The other name under which a table of this number is counted on.
    pub fn other_name(&self, number: u32, table: &str) -> Option<String> {
        let number = number.to_string();
        let is_other = |(name, counted): &(&String, &String)| number_of(counted) == number && *name != table;
        self.tables.iter().find(is_other).map(|(name, _)| name.clone())
    }

    /// The same; the table has the new name from here on.
    pub fn rename(&mut self, number: u32, table: &str) -> Option<String> {
        let before = self.other_name(number, table)?;
        let counted = self.tables.remove(&before)?;
        self.tables.insert(table.to_owned(), counted);
        self.is_new = true;
        Some(before)
    }

    /// A change of structure in the stream.
    pub fn note(&mut self, change: &StructureChange) {
        match &change.kind {
            StructureKind::Altered { leaves: Some(leaves), .. } => {
                self.note_leaves(change.root.as_ref().unwrap_or(&change.table), leaves);
            }
            StructureKind::Dropped { column: None, .. } => {
                self.dropped.insert(change.table.clone());
                let number = change.oid.to_string();
                self.tables.retain(|_, counted| number_of(counted) != number);
                self.is_new = true;
                if let Some(known) = self.leaves.get(&change.oid) {
                    self.unseen.push((known.root.clone(), "a partition was dropped".to_owned()));
                }
            }
            _ => {}
        }
    }

    fn note_leaves(&mut self, root: &str, leaves: &[Leaf]) {
        let goes = |(oid, known): (&u32, &KnownLeaf)| known.root == root && !leaves.iter().any(|leaf| leaf.oid == *oid);
        if self.leaves.iter().any(goes) {
            self.unseen.push((root.to_owned(), "a partition was detached".to_owned()));
        }
        for leaf in leaves.iter().filter(|leaf| !self.leaves.contains_key(&leaf.oid)).collect::<Vec<_>>() {
            if leaf.has_rows {
                self.unseen.push((root.to_owned(), "a partition was attached with rows".to_owned()));
            } else {
                self.know(root, leaf);
            }
        }
    }

    fn know(&mut self, root: &str, leaf: &Leaf) {
        self.leaves.insert(leaf.oid, KnownLeaf { root: root.to_owned(), file: Some(leaf.file) });
        self.is_new = true;
    }

    /// The stream says that the whole table was emptied: all of it has other files since.
    pub fn truncated(&mut self, root: &str) {
        for known in self.leaves.values_mut().filter(|known| known.root == root) {
            (known.file, self.is_new) = (None, true);
        }
        if let Some(suspected) = &mut self.suspected {
            suspected.roots.remove(root);
        }
    }

    /// The transaction is over: the partitioned table whose rows came or went unseen, and how. One that was dropped
    /// whole took its partitions with it.
    pub fn end_transaction(&mut self) -> Option<(String, String)> {
        let dropped = std::mem::take(&mut self.dropped);
        if !dropped.is_empty() {
            self.leaves.retain(|_, known| !dropped.contains(&known.root));
            self.is_new = true;
        }
        let mut unseen = std::mem::take(&mut self.unseen).into_iter();
        unseen.find(|(root, _)| !dropped.contains(root))
    }

    /// How the partitions are now, beside how they were; `is_known`: whether rows of the table are followed. What
    /// is certain is given; what may still be told by the stream is suspected.
    pub fn differs(&mut self, now: &Partitions, is_known: &dyn Fn(&str) -> bool) -> Option<String> {
        let found: BTreeMap<u32, &(String, Leaf)> = now.leaves.iter().map(|one| (one.1.oid, one)).collect();
        let mut suspected = BTreeSet::new();
        for (oid, known) in self.leaves.iter_mut().filter(|(_, known)| is_known(&known.root)) {
            match (found.get(oid), known.file) {
                (Some((_, leaf)), None) => (known.file, self.is_new) = (Some(leaf.file), true),
                (Some((_, leaf)), Some(file)) if leaf.file != file => drop(suspected.insert(known.root.clone())),
                // The stream says so where it happened.
                (None, _) if !now.are_noted => {
                    return Some(unseen(&known.root, "it or a partition was dropped or detached"));
                }
                _ => {}
            }
        }
        self.suspected = (!suspected.is_empty()).then_some(Suspected { roots: suspected, till: Lsn(u64::MAX) });
        let new = now.leaves.iter().filter(|(root, leaf)| is_known(root) && !self.leaves.contains_key(&leaf.oid));
        for (root, leaf) in new.filter(|_| !now.are_noted).collect::<Vec<_>>() {
            // Of a table that is new, whoever lets it join knows.
            if leaf.has_rows && !leaf.is_whole {
                return Some(unseen(root, "a partition is new and has rows already"));
            }
            self.know(root, leaf);
        }
        self.shapes_differ(now, is_known)
    }

    /// The same of names: two that were swapped, of tables or of columns, and a value that came into rows with a new column,
    /// are in no change of a row. Where structure is noted, the stream says so.
    fn shapes_differ(&mut self, now: &Partitions, is_known: &dyn Fn(&str) -> bool) -> Option<String> {
        if now.are_noted {
            self.is_new |= !self.shapes.is_empty();
            self.shapes.clear();
            return None;
        }
        let named: BTreeMap<&str, &String> =
            self.tables.iter().map(|(name, counted)| (number_of(counted), name)).collect();
        let renamed = now.shapes.iter().find_map(|shape| {
            let before = *named.get(shape.oid.to_string().as_str())?;
            (*before != shape.table && is_known(before)).then(|| before.clone())
        });
        if let Some(before) = renamed {
            return Some(format!("a table has another name than before: table=`{before}`"));
        }
        for Shape { table, oid, columns } in now.shapes.iter().filter(|shape| is_known(&shape.table)) {
            match self.shapes.get(oid) {
                Some(before) if before == columns => {}
                Some(before) if hides_change(before, columns) => {
                    return Some(unseen(table, "a column has another name, or came with a value in each row"));
                }
                _ => {
                    self.shapes.insert(*oid, columns.clone());
                    self.is_new = true;
                }
            }
        }
        None
    }

    /// Whether anything is suspected.
    pub fn is_suspicious(&self) -> bool {
        self.suspected.is_some()
    }

    /// What is suspected is certain when the stream has come to here.
    pub fn suspect_till(&mut self, till: Lsn) {
        if let Some(suspected) = &mut self.suspected {
            suspected.till = till;
        }
    }

    /// Up to where the stream is needed to be certain.
    pub fn suspected_till(&self) -> Option<Lsn> {
        self.suspected.as_ref().map(|suspected| suspected.till)
    }

    /// The stream has come so far: what is certain by now.
    pub fn decide(&mut self, reached: Lsn) -> Option<String> {
        let suspected = self.suspected.take_if(|suspected| suspected.till <= reached)?;
        suspected
            .roots
            .first()
            .map(|root| unseen(root, "a partition was emptied by itself, or the table was written anew"))
    }
}

/// Whether a column has another name, or is new and rows from before it hold something in it.
fn hides_change(before: &str, now: &str) -> bool {
    let columns = |text: &str| -> BTreeMap<String, (bool, String)> {
        let column = |line: &str| {
            let mut words = line.splitn(3, ' ');
            Some((words.next()?.to_owned(), (words.next()? == "1", words.next()?.to_owned())))
        };
        text.lines().filter_map(column).collect()
    };
    let (before, now) = (columns(before), columns(now));
    now.iter().any(|(number, (has_value, name))| match before.get(number) {
        Some((_, known)) => known != name,
        None => *has_value,
    })
}

/// In words.
pub(super) fn unseen(root: &str, what: &str) -> String {
    format!("{what}, which is in no change of a row: table=`{root}`")
}

/// A table that has another name now.
pub(super) fn renamed(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Option<String> {
    let names: BTreeMap<&str, &String> = now.iter().map(|(name, counted)| (number_of(counted), name)).collect();
    let is_other = |(name, counted): &(&String, &String)| names.get(number_of(counted)).is_some_and(|now| now != name);
    before.iter().find(is_other).map(|(name, _)| name.clone())
}

fn number_of(counted: &str) -> &str {
    counted.split(' ').next().unwrap_or_default()
}

/// A table that an index counts on, and that is not what it was. One that is new is none, nor is one that is
/// gone, under any name: the stream says when it was dropped.
pub(super) fn other_table(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Option<String> {
    let is_gone = |counted: &String| !now.values().any(|now| number_of(now) == number_of(counted));
    let is_other = |(table, counted): &(&String, &String)| match now.get(*table) {
        Some(now) => now != *counted,
        None => !is_gone(counted),
    };
    before.iter().find(is_other).map(|(table, _)| table.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "public.log";

    fn leaf(oid: u32, file: u32, has_rows: bool) -> Leaf {
        Leaf { oid, file, has_rows, is_whole: false }
    }

    fn counted() -> CountedOn {
        let leaves = vec![(ROOT.to_owned(), leaf(10, 100, true)), (ROOT.to_owned(), leaf(11, 101, true))];
        CountedOn::begin(BTreeMap::new(), leaves, Timestamp(1))
    }

    fn altered(leaves: Vec<Leaf>) -> StructureChange {
        let kind = StructureKind::Altered { tag: "ALTER TABLE".into(), columns: Vec::new(), leaves: Some(leaves) };
        StructureChange { oid: 1, table: ROOT.into(), root: None, kind }
    }

    fn dropped(oid: u32, table: &str) -> StructureChange {
        let kind = StructureKind::Dropped { tag: "DROP TABLE".into(), column: None };
        StructureChange { oid, table: table.into(), root: None, kind }
    }

    #[test]
    fn a_partition_that_comes_or_goes_with_rows_is_unseen_unless_its_table_goes_too() {
        let both = [leaf(10, 100, true), leaf(11, 101, true)];
        let with = |more: Leaf| altered([both[0], both[1], more].to_vec());
        let check = |changes: &[StructureChange], want: Option<&str>| {
            let mut counted = counted();
            changes.iter().for_each(|change| counted.note(change));
            assert_eq!(counted.end_transaction().map(|(_, what)| what).as_deref(), want, "{changes:?}");
        };
        check(&[altered(both.to_vec())], None);
        check(&[with(leaf(12, 102, false))], None);
        check(&[with(leaf(12, 102, true))], Some("a partition was attached with rows"));
        // Once it is counted on, it may have rows.
        check(&[with(leaf(12, 102, false)), with(leaf(12, 102, true))], None);
        check(&[altered(both[..1].to_vec())], Some("a partition was detached"));
        check(&[dropped(11, "public.log_2")], Some("a partition was dropped"));
        check(&[dropped(99, "public.other")], None);
        check(&[dropped(11, "public.log_2"), dropped(1, ROOT)], None);
    }

    #[test]
    fn a_look_finds_what_no_note_tells() {
        let check = |leaves: &[Leaf], are_noted: bool, want: Option<&str>| {
            let leaves = leaves.iter().map(|leaf| (ROOT.to_owned(), *leaf)).collect();
            let mut counted = counted();
            let certain = counted.differs(&Partitions { leaves, are_noted, shapes: Vec::new() }, &|_| true);
            counted.suspect_till(Lsn(50));
            assert_eq!(counted.decide(Lsn(49)), None);
            let found = certain.or_else(|| counted.decide(Lsn(50)));
            assert_eq!(found.is_some(), want.is_some(), "{found:?}");
            assert!(found.unwrap_or_default().contains(want.unwrap_or_default()));
        };
        let both = [leaf(10, 100, true), leaf(11, 101, true)];
        for are_noted in [true, false] {
            check(&both, are_noted, None);
            check(&[both[0], leaf(11, 999, false)], are_noted, Some("was emptied"));
            check(&[both[0], both[1], leaf(12, 102, false)], are_noted, None);
        }
        check(&both[..1], false, Some("was dropped or detached"));
        check(&[both[0], both[1], leaf(12, 102, true)], false, Some("has rows already"));
        // These two the stream tells in their place.
        check(&both[..1], true, None);
        check(&[both[0], both[1], leaf(12, 102, true)], true, None);
    }

    #[test]
    fn names_that_were_swapped_and_values_that_came_with_a_column_are_found_where_nothing_is_noted() {
        let look = |counted: &mut CountedOn, tables: &[(&str, u32, &str)], are_noted: bool| {
            let shape = |(table, oid, columns): &(&str, u32, &str)| Shape {
                table: (*table).to_owned(),
                oid: *oid,
                columns: (*columns).to_owned(),
            };
            let shapes = tables.iter().map(shape).collect();
            counted.differs(&Partitions { leaves: Vec::new(), are_noted, shapes }, &|_| true)
        };
        let columns = "1 0 id\n2 0 a\n3 0 b c";
        let tables = [("s.a", "7 x"), ("s.b", "8 x")].map(|(name, number)| (name.to_owned(), number.to_owned()));
        let counted = CountedOn { tables: tables.into(), ..CountedOn::default() };
        let check = |now: &[(&str, u32, &str)], want: Option<&str>| {
            let mut counted = counted.clone();
            assert_eq!(look(&mut counted, &[("s.a", 7, columns), ("s.b", 8, columns)], false), None);
            let found = look(&mut counted, now, false);
            assert!(
                found.is_some() == want.is_some()
                    && found.clone().unwrap_or_default().contains(want.unwrap_or_default()),
                "{found:?}"
            );
            assert_eq!(look(&mut counted, now, true), None, "the stream tells");
        };
        check(&[("s.a", 7, columns), ("s.b", 8, columns)], None);
        check(&[("s.b", 7, columns), ("s.a", 8, columns)], Some("table=`s.a`"));
        check(&[("s.a", 7, "1 0 id\n2 0 b c\n3 0 a")], Some("another name"));
        check(&[("s.a", 7, "1 0 id\n2 0 a\n3 0 b c\n4 1 d")], Some("with a value"));
        // A column that comes empty, or goes, the next row tells of.
        check(&[("s.a", 7, "1 0 id\n3 0 b c\n4 0 d")], None);
    }

    #[test]
    fn another_file_after_the_whole_table_was_emptied_is_none_to_wonder_at() {
        let now =
            Partitions { leaves: vec![(ROOT.to_owned(), leaf(10, 900, false))], are_noted: true, shapes: Vec::new() };
        let look = |counted: &mut CountedOn| {
            assert_eq!(counted.differs(&now, &|_| true), None);
            counted.suspect_till(Lsn(50));
        };
        // Told before the look, or between the look and where the stream is as far.
        let mut before = counted();
        before.truncated(ROOT);
        look(&mut before);
        assert!(!before.is_suspicious());
        let mut between = counted();
        look(&mut between);
        between.truncated(ROOT);
        assert_eq!(between.decide(Lsn(50)), None);
        look(&mut between);
        assert!(!between.is_suspicious());
    }
}

//! A restore that keeps what was written since: only what is missing comes back.
//!
//! ```text
//! rows        of the point, by primary key, that no live row is       (chosen by `lifeboat-source`)
//! files       whose path is free                                      (chosen here)
//! a database  that is gone: one that is there stays as it is, whole
//! ```
//!
//! Nothing live is changed or removed. What differs is listed as kept, for nobody has to decide about
//! it; what is in the way of something missing is a conflict.
//!
//! After it the site is what no snapshot says. So its undo says for each table what was left there, to
//! tell later what was changed since.

use std::collections::{BTreeMap, HashMap, HashSet};

use lifeboat_model::{Entry, EntryKind, EntryPath, Position, RestoreId, RowsDigest};
use lifeboat_source::files::{Action, FilesTarget, MergePlan, Over, Scope, plan_merge};
use lifeboat_source::postgres::describe::large_object_of_path;
use lifeboat_source::postgres::target::{LeftTable, LiveRows};

use super::facts::{Facts, LivePart, PartFacts};
use super::plan::PartPlan;
use super::rows::{has_object, is_present, is_same, live_object};
use crate::{Engine, Error};

/// How the position of an undo begins that is of a restore which kept later rows.
const KEPT_LATER: &str = "kept later: ";
/// No name of a table has it unquoted.
const SEPARATOR: &str = "\u{1f}";

/// What a restore left in each table to which rows came back; `None`: it could not be told.
pub(crate) type LeftRows = BTreeMap<String, Option<RowsDigest>>;

/// What comes back of some entries.
pub(super) struct Missing {
    pub entries: Vec<Entry>,
    /// What is no directory now, and how many entries were below it.
    pub blocked: BTreeMap<EntryPath, u64>,
}

/// The wanted entries whose paths are free.
///
/// A further name of a file that is live becomes a file of its own: the live one may hold something else by now.
pub(super) fn missing(wanted: &[Entry], live: &[Entry]) -> Missing {
    let there: HashMap<&EntryPath, &Entry> = live.iter().map(|entry| (&entry.path, entry)).collect();
    let files: HashMap<&EntryPath, &Entry> =
        wanted.iter().filter(|entry| entry.kind == EntryKind::File).map(|entry| (&entry.path, entry)).collect();
    let (mut entries, mut blocked) = (Vec::new(), BTreeMap::new());
    let free = wanted.iter().filter(|entry| entry.kind != EntryKind::Absent && !there.contains_key(&entry.path));
    for entry in free {
        let mut above = std::iter::successors(entry.path.parent(), EntryPath::parent);
        let nearest = above.find_map(|path| there.get(&path));
        if let Some(blocker) = nearest.filter(|nearest| nearest.kind != EntryKind::Directory) {
            *blocked.entry(blocker.path.clone()).or_insert(0) += 1;
            continue;
        }
        entries.push(match &entry.kind {
            EntryKind::HardLink { to } if there.contains_key(to) => match files.get(to) {
                Some(first) => Entry { path: entry.path.clone(), ..(*first).clone() },
                None => entry.clone(),
            },
            _ => entry.clone(),
        });
    }
    Missing { entries, blocked }
}

/// The merge of a files part: what is missing is added.
pub(super) fn merge(part: &PartFacts, live: &[Entry]) -> MergePlan {
    plan_merge(live, &missing(&part.wanted, live).entries, Scope::Listed, &mut |_, _| true)
}

/// The files that differ from the point, by content where their metadata leaves it open, and stay.
pub(super) fn kept_files(engine: &Engine, facts: &Facts, part: &PartFacts) -> Result<Vec<EntryPath>, Error> {
    let LivePart::Files(Some(live)) = &part.live else { return Ok(Vec::new()) };
    let target = FilesTarget::open(part.file_place()?.clone(), RestoreId([0; 8]), part.excluded.clone())?;
    let trees = (&target, &live[..], &part.wanted[..]);
    let whole =
        super::files::by_content(engine, facts, trees, |same| plan_merge(live, &part.wanted, Scope::Listed, same))?;
    let differs = |action: &&Action| match action {
        Action::Put { over, .. } => *over != Over::Nothing,
        Action::SetMetadata { .. } => true,
        Action::Remove(_) => false,
    };
    Ok(whole.actions.iter().filter(differs).map(|action| action.path().clone()).collect())
}

/// What is no directory any more, so that what was below it cannot come back.
pub(super) fn blocked(part: &PartFacts) -> impl Iterator<Item = String> {
    let live = match &part.live {
        LivePart::Files(Some(live)) if part.keeps_later => &live[..],
        _ => &[],
    };
    let blocked = if live.is_empty() { BTreeMap::new() } else { missing(&part.wanted, live).blocked };
    blocked.into_iter().map(|(path, entries)| {
        format!("it was a directory at the point and is none now, what was below cannot come back: entry=`{path}`, entries=`{entries}`")
    })
}

/// What a plan says of files that stay.
pub(super) fn plan_files(part: &PartFacts, live: &[Entry], plan: &mut PartPlan) {
    let missing = missing(&part.wanted, live);
    plan.kept_entries = part.kept_files.iter().map(ToString::to_string).collect();
    plan.kept = part.kept_files.len() as u64;
    let gone = missing.entries.len() as u64 + missing.blocked.values().sum::<u64>();
    plan.keep = (part.wanted.len() as u64).saturating_sub(gone + plan.kept);
    let wanted: HashSet<&EntryPath> = part.wanted.iter().map(|entry| &entry.path).collect();
    let is_newer = |entry: &&Entry| entry.kind != EntryKind::Directory && !wanted.contains(&entry.path);
    if part.scope == Scope::Whole {
        plan.newer = live.iter().filter(is_newer).count() as u64;
    }
    plan.notes.push(
        "only files that are missing now come back, those deleted on purpose since the point too; what is there stays"
            .into(),
    );
}

/// What a plan says of rows that stay.
pub(super) fn note_rows(part: &PartFacts, plan: &mut PartPlan) {
    plan.notes.push(match is_present(part) {
        true => {
            "only rows that are missing now come back, those deleted on purpose since the point too; what is there stays"
                .into()
        }
        false => "the point has no rows of the site: what is there stays".into(),
    });
}

/// Says in the undo what this restore leaves in each table to which rows come back.
pub(super) fn left_position(left: &[LeftTable]) -> Position {
    let hex = |digest: &Option<RowsDigest>| match digest {
        Some(RowsDigest::InOrder(bytes)) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        _ => String::new(),
    };
    let pairs = left.iter().flat_map(|left| [left.table.clone(), hex(&left.digest)]);
    Position(format!("{KEPT_LATER}{}", pairs.collect::<Vec<_>>().join(SEPARATOR)))
}

/// What [`left_position`] said; `None`: the restore kept no later rows, or everything was missing.
pub(super) fn left_of(position: &Position) -> Option<LeftRows> {
    let mut words = position.0.strip_prefix(KEPT_LATER)?.split(SEPARATOR);
    let mut left = LeftRows::new();
    while let (Some(table), Some(hex)) = (words.next(), words.next()) {
        left.insert(table.to_owned(), digest_of(hex).map(RowsDigest::InOrder));
    }
    Some(left)
}

fn digest_of(hex: &str) -> Option<[u8; 32]> {
    let byte = |at: usize| u8::from_str_radix(hex.get(at * 2..at * 2 + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..32).map(byte).collect();
    bytes?.try_into().ok().filter(|_| hex.len() == 64)
}

/// What was changed in rows since a restore that kept later ones, and that is to be undone.
pub(super) fn changed_rows(part: &PartFacts, live: &LiveRows, left: &LeftRows) -> Option<String> {
    // An undo that was killed after its switch has put the rows back: nobody else's change.
    if is_same(part, live) {
        return None;
    }
    let kept = |table: &str| {
        part.wanted.iter().find_map(|entry| match &entry.kind {
            EntryKind::Table { digest, .. } if super::rows::table_name(entry) == table => Some(*digest),
            _ => None,
        })
    };
    let tables = live.tables.iter().filter(|now| {
        let name = now.name.to_string();
        match left.get(&name) {
            Some(Some(digest)) => !now.digests.are(digest),
            Some(None) => false,
            None => kept(&name).map_or(now.rows > 0, |digest| !now.digests.are(&digest)),
        }
    });
    let mut changed: Vec<String> = tables.map(|now| now.name.to_string()).collect();
    changed.extend(left.keys().filter(|name| !live.tables.iter().any(|now| now.name.as_str() == *name)).cloned());
    let is_kept = |entry: &Entry| part.wanted.iter().any(|kept| kept.path == entry.path);
    let came_back = part.left_by_restore.iter().flatten().filter(|entry| !is_kept(entry));
    let came_back = came_back.filter(|entry| live_object(live, entry).is_some());
    let objects = part.wanted.iter().chain(came_back).filter(|entry| has_object(live, entry) == Some(false));
    changed.extend(
        objects
            .filter_map(|entry| large_object_of_path(entry.path.as_bytes()))
            .map(|oid| format!("large object {oid}")),
    );
    (!changed.is_empty()).then(|| format!("rows were changed since the restore: {}", changed.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry { kind, ..super::super::files::absent(EntryPath::new(path).unwrap()) }
    }

    #[test]
    fn what_is_free_comes_back_and_what_lies_below_a_file_is_named() {
        let file = |path: &str| entry(path, EntryKind::File);
        let directory = |path: &str| entry(path, EntryKind::Directory);
        let link = |path: &str, to: &str| {
            let mut linked = entry(path, EntryKind::File);
            linked.kind = EntryKind::HardLink { to: EntryPath::new(to).unwrap() };
            linked
        };
        let check = |live: &[Entry], wanted: &[Entry], want: &[&str], in_the_way: &[(&str, u64)]| {
            let found = missing(wanted, live);
            let shown = |entry: &Entry| match &entry.kind {
                EntryKind::HardLink { to } => format!("{} -> {to}", entry.path),
                _ => entry.path.to_string(),
            };
            assert_eq!(found.entries.iter().map(shown).collect::<Vec<_>>(), want);
            let blocked: Vec<(String, u64)> =
                found.blocked.iter().map(|(path, entries)| (path.to_string(), *entries)).collect();
            let in_the_way: Vec<(String, u64)> =
                in_the_way.iter().map(|(path, entries)| ((*path).to_owned(), *entries)).collect();
            assert_eq!(blocked, in_the_way);
        };
        check(&[file("a")], &[file("a"), file("b")], &["b"], &[]);
        check(&[directory("d")], &[directory("d"), file("d/a")], &["d/a"], &[]);
        check(&[], &[directory("d"), file("d/a")], &["d", "d/a"], &[]);
        check(&[file("d")], &[directory("d"), file("d/a"), directory("d/e"), file("d/e/b")], &[], &[("d", 3)]);
        // A first name that is live may be another file by now; one that is missing comes with it.
        check(&[file("a")], &[file("a"), link("b", "a")], &["b"], &[]);
        check(&[], &[file("a"), link("b", "a")], &["a", "b -> a"], &[]);
    }

    #[test]
    fn what_an_undo_says_of_rows_is_read_back() {
        let table = |name: &str, digest| LeftTable { table: name.into(), digest };
        let (known, unknown) = (Some(RowsDigest::InOrder([0xa7; 32])), None);
        let said = left_position(&[table("public.a", known), table("public.\"b c\"", unknown)]);
        let read = left_of(&said).unwrap();
        assert_eq!(
            read.into_iter().collect::<Vec<_>>(),
            [("public.\"b c\"".into(), unknown), ("public.a".into(), known)]
        );
        assert_eq!(left_of(&left_position(&[])), Some(LeftRows::new()));
        assert_eq!(left_of(&Position(String::new())), None);
        assert_eq!(left_of(&Position("some rows of: public.a".into())), None);
    }
}

//! Everything but one transaction: which later changes can stand without it, and which cannot.
//!
//! A change that comes later to a row the transaction wrote is in conflict: an update brings the whole row with
//! it, what the transaction wrote included. Nothing is guessed: such changes are counted, and a person decides.

use std::collections::{BTreeMap, HashMap};

use lifeboat_model::{ChangeKind, ChangedTable, ChangedValue, RowChange};

/// The rows that the transaction touched.
#[derive(Debug, Default)]
pub(super) struct Skipped {
    rows: HashMap<(String, Vec<ChangedValue>), ChangeKind>,
    /// By table: later changes of rows that the transaction had inserted, which are left out with them.
    left_out: BTreeMap<String, u64>,
    /// By table: later changes that hold what the transaction wrote, and are taken.
    tainted: BTreeMap<String, u64>,
    /// By table: rows that it deleted, and that were made again later.
    made_again: BTreeMap<String, u64>,
}

impl Skipped {
    /// Notes a change of the transaction itself.
    pub fn skip(&mut self, table: &ChangedTable, change: &RowChange) {
        let mut note = |key: Vec<ChangedValue>, kind| {
            self.rows.insert((table.name.clone(), key), kind);
        };
        match change {
            RowChange::Insert { row } => note(key_of(table, row), ChangeKind::Insert),
            RowChange::Delete { key } => note(key.clone(), ChangeKind::Delete),
            RowChange::Pages(_) => {} // of a file, which has no rows
            RowChange::Update { row, key_before } => {
                let key = key_of(table, row);
                match key_before {
                    // The row is known by another key from now on, as if it had been made under it.
                    Some(before) if *before != key => {
                        note(before.clone(), ChangeKind::Update);
                        note(key, ChangeKind::Insert);
                    }
                    _ => note(key, ChangeKind::Update),
                }
            }
        }
    }

    /// Whether a later change is to be taken all the same.
    pub fn allows(&mut self, table: &ChangedTable, change: &RowChange) -> bool {
        let key = match change {
            RowChange::Insert { row } => key_of(table, row),
            RowChange::Pages(_) => return true,
            RowChange::Delete { key } => key.clone(),
            RowChange::Update { row, key_before } => key_before.clone().unwrap_or_else(|| key_of(table, row)),
        };
        let place = (table.name.clone(), key);
        let Some(kind) = self.rows.get(&place).copied() else { return true };
        let counts = match (kind, change) {
            // Gone either way.
            (ChangeKind::Insert, RowChange::Delete { .. }) => {
                self.rows.remove(&place);
                return false;
            }
            (ChangeKind::Update, RowChange::Delete { .. }) => {
                self.rows.remove(&place);
                return true;
            }
            (ChangeKind::Insert, RowChange::Update { .. }) => &mut self.left_out,
            (ChangeKind::Delete, _) => &mut self.made_again,
            _ => &mut self.tainted,
        };
        *counts.entry(table.name.clone()).or_default() += 1;
        kind != ChangeKind::Insert
    }

    /// What a person has to decide.
    pub fn conflicts(&self) -> Vec<String> {
        let of = |counts: &BTreeMap<String, u64>, what: &str| -> Vec<String> {
            counts.iter().map(|(table, rows)| format!("table=`{table}`, {what}, changes=`{rows}`")).collect()
        };
        let mut conflicts = of(&self.left_out, "rows that the transaction made were changed later, and are left out");
        conflicts.extend(of(&self.tainted, "later changes of rows it wrote hold what it wrote, and are taken"));
        conflicts.extend(of(&self.made_again, "rows it deleted were made again later, and are as they were made"));
        conflicts
    }
}

fn key_of(table: &ChangedTable, row: &[ChangedValue]) -> Vec<ChangedValue> {
    match table.key.is_empty() {
        true => row.to_vec(),
        false => table.key.iter().filter_map(|at| row.get(*at)).cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_model::ChangedColumn;

    use super::*;

    fn text(value: &str) -> ChangedValue {
        ChangedValue::Text(value.as_bytes().to_vec())
    }

    fn table() -> ChangedTable {
        let column = |name: &str| ChangedColumn { name: name.into(), type_name: "text".into() };
        ChangedTable { name: "public.t".into(), columns: vec![column("id"), column("v")], key: vec![0] }
    }

    fn insert(id: &str) -> RowChange {
        RowChange::Insert { row: vec![text(id), text("v")] }
    }

    fn update(id: &str, before: Option<&str>) -> RowChange {
        RowChange::Update { row: vec![text(id), text("w")], key_before: before.map(|key| vec![text(key)]) }
    }

    fn delete(id: &str) -> RowChange {
        RowChange::Delete { key: vec![text(id)] }
    }

    #[test]
    fn later_changes_of_what_it_wrote_are_told_and_those_of_other_rows_stand() {
        let check = |skipped: RowChange, later: RowChange, taken: bool, conflicts: usize| {
            let (table, mut found) = (table(), Skipped::default());
            found.skip(&table, &skipped);
            assert_eq!(found.allows(&table, &later), taken, "{skipped:?}, then {later:?}");
            assert_eq!(found.conflicts().len(), conflicts, "{skipped:?}, then {later:?}");
        };
        check(insert("1"), update("2", None), true, 0);
        check(insert("1"), update("1", None), false, 1);
        check(insert("1"), delete("1"), false, 0);
        check(update("1", None), update("1", None), true, 1);
        check(update("1", None), delete("1"), true, 0);
        check(delete("1"), insert("1"), true, 1);
        // It moved the row to another key: what comes to that key comes to a row that is not there.
        check(update("2", Some("1")), update("2", None), false, 1);
        check(update("2", Some("1")), delete("2"), false, 0);
    }
}

//! A replay beside a plain map that does the same, over changes that come from a seed.

use std::collections::BTreeMap;

use lifeboat_model::{ChangedColumn, ChangedTable, ChangedValue, RowChange};

use super::super::capture::StructureColumn;
use super::super::describe::{ColumnDefinition, TableDefinition};
use super::{Replay, ReplayedTable, RowSum};

fn table(columns: &[&str], key: &[usize]) -> ChangedTable {
    let column = |name: &&str| ChangedColumn { name: (*name).into(), type_name: "text".into() };
    ChangedTable { name: "public.t".into(), columns: columns.iter().map(column).collect(), key: key.to_vec() }
}

fn definition(table: &ChangedTable) -> TableDefinition {
    let column = |column: &ChangedColumn| ColumnDefinition {
        name: column.name.clone(),
        type_name: column.type_name.clone(),
        not_null: false,
        is_identity: false,
        number: None,
    };
    TableDefinition {
        name: table.name.clone(),
        columns: table.columns.iter().map(column).collect(),
        primary_key: table.key.iter().map(|at| table.columns[*at].name.clone()).collect(),
        order: "t.id".into(),
        rule: None,
    }
}

fn text(value: impl ToString) -> ChangedValue {
    ChangedValue::Text(value.to_string().into_bytes())
}

fn finish(replay: Replay) -> (Vec<String>, ReplayedTable) {
    let mut bytes = Vec::new();
    let table = replay
        .finish(&mut |stretch| {
            bytes.extend_from_slice(stretch);
            Ok(())
        })
        .unwrap();
    let rows: Vec<String> = String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect();
    let mut sum = RowSum::default();
    rows.iter().for_each(|row| sum.add(format!("{row}\n").as_bytes()));
    assert_eq!((table.rows, table.sum), (rows.len() as u64, sum));
    (rows, table)
}

/// Small numbers that look random, and are the same every time.
struct Seed(u64);

impl Seed {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[test]
fn what_comes_out_is_what_a_plain_map_says_in_memory_and_over_the_disk() {
    for (seed, memory) in [(1, usize::MAX), (2, usize::MAX), (3, 20_000), (4, 2_000), (5, 0), (6, 0)] {
        let of = table(&["id", "name", "body"], &[0]);
        let mut replay = Replay::new(&definition(&of)).with_memory(memory);
        let (mut seed, mut model) = (Seed(seed), BTreeMap::<u64, (String, String)>::new());
        for id in 0..300 {
            let (name, body) = (format!("name {id}"), format!("body\\t{id}"));
            replay.base(format!("{id}\t{name}\t{body}\n").as_bytes()).unwrap();
            model.insert(id, (name, body));
        }
        for number in 0..3_000 {
            let id = seed.below(400);
            let name = format!("new {number}");
            let change = match seed.below(10) {
                0..=3 => {
                    let body = format!("body {number}");
                    let row = vec![text(id), text(&name), text(&body)];
                    let is_there = model.insert(id, (name, body)).is_some();
                    if is_there { RowChange::Update { row, key_before: None } } else { RowChange::Insert { row } }
                }
                4..=6 => {
                    let Some(row) = model.get_mut(&id) else { continue };
                    row.0.clone_from(&name);
                    RowChange::Update { row: vec![text(id), text(&name), ChangedValue::Unchanged], key_before: None }
                }
                7 => {
                    let to = seed.below(400);
                    if model.contains_key(&to) || !model.contains_key(&id) {
                        continue;
                    }
                    let (_, body) = model.remove(&id).unwrap();
                    model.insert(to, (name.clone(), body));
                    let row = vec![text(to), text(&name), ChangedValue::Unchanged];
                    RowChange::Update { row, key_before: Some(vec![text(id)]) }
                }
                8 if number % 700 == 0 => {
                    model.clear();
                    replay.truncate().unwrap();
                    continue;
                }
                _ => {
                    model.remove(&id);
                    RowChange::Delete { key: vec![text(id)] } // also of rows that are not there
                }
            };
            replay.change(&of, &change).unwrap();
        }
        let (mut rows, _) = finish(replay);
        rows.sort_by_key(|row| row.split('\t').next().unwrap().parse::<u64>().unwrap());
        let want: Vec<String> = model.iter().map(|(id, (name, body))| format!("{id}\t{name}\t{body}")).collect();
        assert_eq!(rows, want, "memory {memory}");
    }
}

#[test]
fn equal_rows_of_a_table_without_a_key_are_counted() {
    for memory in [usize::MAX, 0] {
        let of = table(&["a", "b"], &[]);
        let mut replay = Replay::new(&definition(&of)).with_memory(memory);
        replay.base(b"1\tx\n1\tx\n2\t\\N\n").unwrap();
        let whole = |a: &str, b: ChangedValue| vec![text(a), b];
        for change in [
            RowChange::Insert { row: whole("1", text("x")) },
            RowChange::Delete { key: whole("1", text("x")) },
            RowChange::Update { row: whole("3", text("y")), key_before: Some(whole("2", ChangedValue::Null)) },
            RowChange::Insert { row: whole("3", text("y")) },
            RowChange::Update { row: whole("4", ChangedValue::Unchanged), key_before: Some(whole("3", text("y"))) },
        ] {
            replay.change(&of, &change).unwrap_or_else(|error| panic!("{error} {change:?}"));
        }
        let (mut rows, _) = finish(replay);
        rows.sort();
        assert_eq!(rows, ["1\tx", "1\tx", "3\ty", "4\ty"], "memory {memory}");
    }
}

// Explains invariant: no-guessed-value
#[test]
fn a_value_that_is_unchanged_in_no_row_is_refused_and_never_made_up() {
    let of = table(&["id", "body"], &[0]);
    let mut replay = Replay::new(&definition(&of));
    let change = RowChange::Update { row: vec![text(1), ChangedValue::Unchanged], key_before: None };
    let error = replay.change(&of, &change).unwrap_err().to_string();
    assert!(error.contains("unchanged"), "{error}");
    let mut spilled = Replay::new(&definition(&of)).with_memory(0);
    spilled.base(b"7\tx\n").unwrap();
    spilled.change(&of, &change).unwrap();
    assert!(spilled.finish(&mut |_| Ok(())).is_err());
}

fn noted(columns: &[(i16, &str, Option<&str>)]) -> Vec<StructureColumn> {
    let column = |(number, name, missing): &(i16, &str, Option<&str>)| StructureColumn {
        number: *number,
        name: (*name).into(),
        type_name: "text".into(),
        missing: missing.map(str::to_owned),
    };
    columns.iter().map(column).collect()
}

fn numbered(table: &ChangedTable) -> TableDefinition {
    let mut definition = definition(table);
    for (number, column) in (1..).zip(&mut definition.columns) {
        column.number = Some(number);
    }
    definition
}

#[test]
fn rows_of_an_earlier_shape_come_out_in_the_last_one() {
    for memory in [usize::MAX, 0] {
        let first = table(&["id", "old", "body"], &[0]);
        let mut replay = Replay::new(&numbered(&first)).with_memory(memory);
        replay.base(b"1\tgone\tkept\n2\tgone\tkept too\n").unwrap();
        // One column was dropped, one renamed, and two added: one with a default.
        replay
            .restructure(&noted(&[(1, "number", None), (3, "text", None), (4, "added", Some("its\tdefault"))]))
            .unwrap();
        let last = [(1, "number", None), (3, "text", None), (4, "added", Some("its\tdefault")), (5, "none", None)];
        replay.restructure(&noted(&last)).unwrap();
        let second = table(&["number", "text", "added", "none"], &[0]);
        let row = vec![text(2), ChangedValue::Unchanged, text("set"), text("x")];
        replay.change(&second, &RowChange::Update { row, key_before: None }).unwrap();
        let (mut rows, table) = finish(replay);
        rows.sort();
        assert_eq!(rows, ["1\tkept\tits\\tdefault\t\\N", "2\tkept too\tset\tx"], "memory {memory}");
        let columns: Vec<&str> = table.definition.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(columns, ["number", "text", "added", "none"]);
    }
}

#[test]
fn a_column_that_nobody_noted_is_refused_and_never_filled() {
    let of = table(&["id", "other"], &[0]);
    let change = |names: &[&str], key: &[usize]| {
        let mut replay = Replay::new(&numbered(&of));
        let row = names.iter().map(text).collect();
        replay.change(&table(names, key), &RowChange::Insert { row }).is_ok()
    };
    assert!(change(&["id", "other"], &[0]));
    assert!(change(&["id"], &[0]), "one that is gone needs no value");
    assert!(!change(&["id", "renamed"], &[0]));
    assert!(!change(&["id", "other", "more"], &[0]));
    assert!(!change(&["id", "other"], &[1]), "another key");
    let mut keyless = Replay::new(&numbered(&table(&["id", "other"], &[])));
    assert!(keyless.restructure(&noted(&[(1, "id", None)])).is_err(), "rows without a key cannot be found again");
}

#[test]
fn a_base_that_is_not_rows_of_its_columns_is_damage() {
    let of = definition(&table(&["id", "body"], &[0]));
    assert!(Replay::new(&of).base(b"1\n").is_err());
    assert!(Replay::new(&of).base(b"1\t2\t3\n").is_err());
    let mut replay = Replay::new(&of);
    replay.base(b"1\tx").unwrap();
    assert!(replay.finish(&mut |_| Ok(())).is_err());
}

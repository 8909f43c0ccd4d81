//! Which columns a table's rows have, and how those of an earlier shape become those of the last.

use lifeboat_model::{ChangedTable, ChangedValue, RowChange};

use super::super::capture::StructureColumn;
use super::super::describe::{ColumnDefinition, TableDefinition};
use super::{Step, line};
use crate::Error;

/// Every shape that the table has had, the base's first.
pub(super) struct Shapes {
    base: TableDefinition,
    shapes: Vec<Shape>,
    /// In which shape a change's values are, as it was last asked.
    known: Option<(ChangedTable, u16)>,
}

struct Shape {
    columns: Vec<ColumnDefinition>,
    /// Places of the key's columns.
    key: Vec<usize>,
    /// For each column where rows of the shape before have it, or what they hold; of the first shape empty.
    from_before: Vec<From>,
}

enum From {
    Place(usize),
    Missing(Vec<u8>),
}

impl Shapes {
    /// `key`: the columns that rows are known by; none: by all of them.
    pub fn new(base: &TableDefinition, key: &[String]) -> Self {
        let place = |name: &String| base.columns.iter().position(|column| column.name == *name);
        let key = key.iter().filter_map(place).collect();
        let shape = Shape { columns: base.columns.clone(), key, from_before: Vec::new() };
        Self { base: base.clone(), shapes: vec![shape], known: None }
    }

    pub fn table(&self) -> &str {
        &self.base.name
    }

    pub fn has_key(&self) -> bool {
        !self.shapes[0].key.is_empty()
    }

    fn last(&self) -> (&Shape, u16) {
        // There is always the base's, and `restructure` keeps their number small.
        (&self.shapes[self.shapes.len() - 1], (self.shapes.len() - 1) as u16)
    }

    /// The rows that come out.
    pub fn definition(&self) -> TableDefinition {
        let columns = self.last().0.columns.clone();
        // Nobody has sorted them; the order is that in which the server would.
        TableDefinition { columns, ..self.base.clone() }
    }

    /// The key of a base's row; `None`: it is no row of the base's columns. Without a key it is the row.
    pub fn key_of_base(&self, row: &[u8]) -> Option<Vec<u8>> {
        let shape = &self.shapes[0];
        let values: Vec<&[u8]> = line::values(row, shape.columns.len()).collect();
        if values.len() != shape.columns.len() {
            return None;
        }
        Some(if shape.key.is_empty() { row.to_vec() } else { line::join(shape.key.iter().map(|at| values[*at])) })
    }

    /// The table has these columns from now on, as somebody noted who knows their numbers.
    pub fn restructure(&mut self, noted: &[StructureColumn]) -> Result<(), Error> {
        let before = self.last().0;
        let is_generated_by_us = |column: &ColumnDefinition| column.number.is_none();
        if before.columns.iter().any(is_generated_by_us) {
            return Ok(()); // of a time without numbers: only names are left, and changes have them too
        }
        let (mut columns, mut from_before) = (Vec::new(), Vec::new());
        for column in noted {
            let place = before.columns.iter().position(|known| known.number == Some(column.number));
            from_before.push(match (place, &column.missing) {
                (Some(place), _) => From::Place(place),
                (None, Some(value)) => {
                    let value = ChangedValue::Text(value.clone().into_bytes());
                    From::Missing(line::escaped(&value).unwrap_or_else(|| line::NULL.to_vec()))
                }
                (None, None) => From::Missing(line::NULL.to_vec()),
            });
            let known = place.and_then(|place| before.columns.get(place));
            columns.push(ColumnDefinition {
                name: column.name.clone(),
                type_name: column.type_name.clone(),
                not_null: known.is_some_and(|known| known.not_null),
                is_identity: known.is_some_and(|known| known.is_identity),
                number: Some(column.number),
            });
        }
        let same = |(a, b): (&ColumnDefinition, &ColumnDefinition)| (&a.name, &a.type_name) == (&b.name, &b.type_name);
        if columns.len() == before.columns.len() && columns.iter().zip(&before.columns).all(same) {
            return Ok(()); // of something else than its columns
        }
        let number = |at: &usize| before.columns.get(*at).and_then(|column| column.number);
        let place = |number: Option<i16>| columns.iter().position(|column| column.number == number);
        let key: Option<Vec<usize>> = before.key.iter().map(|at| place(number(at))).collect();
        let key = key.ok_or_else(|| self.altered("a column that its rows were known by is gone"))?;
        self.push(Shape { columns, key, from_before })
    }

    fn push(&mut self, shape: Shape) -> Result<(), Error> {
        self.known = None;
        if !self.has_key() {
            return Err(self.altered("its rows have no key"));
        }
        if self.shapes.len() >= usize::from(u16::MAX) {
            return Err(self.altered("it was altered too often"));
        }
        self.shapes.push(shape);
        Ok(())
    }

    /// A change says that the table has these columns. Some may have gone; what rows that were there hold in a
    /// new one, nobody can tell from the change.
    fn describe(&mut self, table: &ChangedTable) -> Result<(), Error> {
        let before = self.last().0;
        let names = |columns: &[ColumnDefinition]| columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
        let now: Vec<String> = table.columns.iter().map(|column| column.name.clone()).collect();
        let key_of = |names: &[String], key: &[usize]| -> Vec<Option<String>> {
            key.iter().map(|at| names.get(*at).cloned()).collect()
        };
        let was = names(&before.columns);
        if key_of(&now, &table.key) != key_of(&was, &before.key) {
            return Err(self.altered("its rows are known by another key since"));
        }
        let types = before.columns.iter().map(|column| &column.type_name);
        if was == now && types.eq(table.columns.iter().map(|column| &column.type_name)) {
            return Ok(());
        }
        let (mut columns, mut from_before) = (Vec::new(), Vec::new());
        for changed in &table.columns {
            let Some(place) = before.columns.iter().position(|column| column.name == changed.name) else {
                return Err(self.altered("it has a column that nobody noted"));
            };
            from_before.push(From::Place(place));
            columns.push(ColumnDefinition { type_name: changed.type_name.clone(), ..before.columns[place].clone() });
        }
        self.push(Shape { columns, key: table.key.clone(), from_before })
    }

    /// What a change does, in the words of `COPY`.
    pub fn step(&mut self, table: &ChangedTable, change: &RowChange) -> Result<Step, Error> {
        let shape = self.shape_of(table)?;
        let columns = self.shapes[usize::from(shape)].columns.len();
        let key = &self.shapes[usize::from(shape)].key;
        let as_key = |values: &[ChangedValue]| -> Option<Vec<u8>> {
            let values: Option<Vec<Vec<u8>>> = values.iter().map(line::escaped).collect();
            Some(line::join(values?.iter().map(Vec::as_slice)))
        };
        let (row, before) = match change {
            RowChange::Delete { key } => {
                return Ok(Step::Delete { key: as_key(key).ok_or_else(|| self.unusable("a key is not whole"))? });
            }
            RowChange::Insert { row } => (row, None),
            RowChange::Update { row, key_before } => (row, key_before.as_ref()),
            RowChange::Pages(_) => return Err(self.unusable("pages of a file among changes of rows")),
        };
        if row.len() != columns {
            return Err(self.unusable("a change has another number of values than the table has columns"));
        }
        let before = before.map(|key| as_key(key).ok_or_else(|| self.unusable("a key is not whole"))).transpose()?;
        let values: Vec<Option<Vec<u8>>> = row.iter().map(line::escaped).collect();
        let key: Option<Vec<&[u8]>> = match key.is_empty() {
            true => values.iter().map(Option::as_deref).collect(),
            false => key.iter().map(|at| values.get(*at)?.as_deref()).collect(),
        };
        // A value of a key that is stored apart and was not changed: the key is the one it was.
        let key = match (key, &before) {
            (Some(key), _) => line::join(key.into_iter()),
            (None, Some(before)) => before.clone(),
            (None, None) => return Err(self.unusable("a key is not whole")),
        };
        Ok(Step::Put { key, before, shape, values })
    }

    fn shape_of(&mut self, table: &ChangedTable) -> Result<u16, Error> {
        if let Some((known, shape)) = &self.known
            && known == table
        {
            return Ok(*shape);
        }
        self.describe(table)?;
        let shape = self.last().1;
        self.known = Some((table.clone(), shape));
        Ok(shape)
    }

    /// A row of an earlier shape as one of another, later one.
    pub fn carried(&self, row: Vec<u8>, from: u16, till: u16) -> Vec<u8> {
        (from..till).fold(row, |row, at| {
            let (before, after) = (&self.shapes[usize::from(at)], &self.shapes[usize::from(at) + 1]);
            let values: Vec<&[u8]> = line::values(&row, before.columns.len()).collect();
            line::join(after.from_before.iter().map(|from| match from {
                From::Place(place) => values.get(*place).copied().unwrap_or(line::NULL),
                From::Missing(value) => value.as_slice(),
            }))
        })
    }

    /// A row in the shape that comes out.
    pub fn last_of(&self, row: Vec<u8>, from: u16) -> Vec<u8> {
        self.carried(row, from, self.last().1)
    }

    pub fn columns_of(&self, shape: u16) -> usize {
        self.shapes[usize::from(shape)].columns.len()
    }

    fn altered(&self, what: &str) -> Error {
        Error::Conflict {
            path: self.base.name.clone(),
            detail: format!("the table was altered, and its changes cannot be replayed over that: {what}"),
            hint: "choose a time before it was altered, or one after the next snapshot (`lifeboat points` lists them)"
                .into(),
        }
    }

    pub fn unusable(&self, what: &str) -> Error {
        Error::Damaged {
            path: self.base.name.clone(),
            detail: format!("its changes cannot be replayed: {what}"),
            hint: "choose a point of a snapshot (`lifeboat points` lists them), and back the site up again".into(),
        }
    }
}

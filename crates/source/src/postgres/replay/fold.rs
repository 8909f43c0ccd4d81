//! The last state of each key, in memory.

use std::collections::HashMap;

use super::shape::Shapes;
use super::{Step, Stretches, line};
use crate::Error;

/// What a row costs besides its bytes, about.
const ROW_BYTES: usize = 96;

/// Rows in the order in which they came, found by their key; without one by all of their values, of
/// which there may be several that are equal.
pub(super) struct Fold {
    has_key: bool,
    rows: Vec<Option<Row>>,
    /// The newest last.
    places: HashMap<Vec<u8>, Vec<usize>>,
    bytes: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub shape: u16,
    /// Without its line end.
    pub line: Vec<u8>,
}

impl Fold {
    pub fn new(has_key: bool) -> Self {
        Self { has_key, rows: Vec::new(), places: HashMap::new(), bytes: 0 }
    }

    /// Bytes it takes, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A row of the base.
    pub fn base(&mut self, key: Vec<u8>, line: &[u8]) {
        self.add(key, Row { shape: 0, line: line.to_vec() });
    }

    /// A row behind all others.
    pub fn add(&mut self, key: Vec<u8>, row: Row) {
        self.bytes += key.len() + row.line.len() + ROW_BYTES;
        self.places.entry(key).or_default().push(self.rows.len());
        self.rows.push(Some(row));
    }

    /// Applies one change.
    pub fn step(&mut self, step: Step, shapes: &Shapes) -> Result<(), Error> {
        match step {
            Step::Truncate => *self = Self::new(self.has_key),
            Step::Delete { key } => drop(self.take(&key)),
            Step::Put { key, before, shape, values } => {
                let was = before.as_deref().unwrap_or(&key);
                // An insert into a table without a key replaces nothing, though an equal row be there.
                let replaces = self.has_key || before.is_some();
                let place = if replaces { self.take(was) } else { None };
                let line = filled(values, place.as_ref().map(|(_, row)| row), shape, shapes)?;
                let row = Row { shape, line };
                match place {
                    // It stays where it was.
                    Some((at, _)) => {
                        self.bytes += key.len() + row.line.len() + ROW_BYTES;
                        self.places.entry(key).or_default().push(at);
                        self.rows[at] = Some(row);
                    }
                    None => self.add(key, row),
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, key: &[u8]) -> Option<(usize, Row)> {
        let places = self.places.get_mut(key)?;
        let at = places.pop()?;
        if places.is_empty() {
            self.places.remove(key);
        }
        let row = self.rows.get_mut(at)?.take()?;
        self.bytes = self.bytes.saturating_sub(key.len() + row.line.len() + ROW_BYTES);
        Some((at, row))
    }

    /// The rows with their keys, in their order.
    pub fn into_rows(self) -> impl Iterator<Item = (Vec<u8>, Row)> {
        let mut keys: Vec<Option<Vec<u8>>> = vec![None; self.rows.len()];
        for (key, places) in self.places {
            places.iter().for_each(|at| keys[*at] = Some(key.clone()));
        }
        keys.into_iter().zip(self.rows).filter_map(|(key, row)| key.zip(row))
    }

    pub fn give(self, shapes: &Shapes, out: &mut Stretches<'_>) -> Result<(), Error> {
        self.rows.into_iter().flatten().try_for_each(|row| out.push(&shapes.last_of(row.line, row.shape)))
    }
}

/// The row that these values make, with what is unchanged taken from the row before.
fn filled(values: Vec<Option<Vec<u8>>>, before: Option<&Row>, shape: u16, shapes: &Shapes) -> Result<Vec<u8>, Error> {
    if values.iter().all(Option::is_some) {
        return Ok(line::join(values.iter().flatten().map(Vec::as_slice)));
    }
    let before = before.ok_or_else(|| shapes.unusable("a value is unchanged in a row that is not there"))?;
    let before = shapes.carried(before.line.clone(), before.shape, shape);
    let olds = line::values(&before, shapes.columns_of(shape));
    Ok(line::join(values.iter().zip(olds).map(|(new, old)| new.as_deref().unwrap_or(old))))
}

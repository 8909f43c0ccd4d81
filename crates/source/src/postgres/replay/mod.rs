//! Replay: a table's rows at a base and its changes since, to its rows at a later moment. Pure but for a
//! file on the way.
//!
//! ```text
//! base rows (COPY text) ─┐
//!                        ├─▶ last state of each key ─▶ rows (COPY text), their number, their sum
//! changes, in order ─────┘     in memory; beyond a budget in parts on disk, by a hash of the key
//! ```
//!
//! Rows come out in the order of the base, new ones behind: not in the order of a key, which only the
//! server knows. What proves them is therefore a [`RowSum`], which is the same in any order.
//!
//! Invariant (no-guessed-value): a value that the log calls unchanged is taken from the row's earlier
//! state, and without one the replay fails. Nothing is filled in.
//! What is not here: which base, which changes (`lifeboat-engine`); reading a log.

mod fold;
mod line;
mod shape;
mod spill;
mod sum;
#[cfg(test)]
mod tests;

use lifeboat_model::{ChangedTable, RowChange};

use super::capture::StructureColumn;
use super::describe::TableDefinition;
use crate::Error;
use fold::Fold;
use shape::Shapes;
use spill::Spill;

pub(super) use line::{Lines, put_escaped};
pub use sum::RowSum;

/// Bytes of rows and changes that are held in memory; beyond it they go to disk in parts.
const MEMORY_BYTES: usize = 64 << 20;

/// One table on its way from a base to a later moment.
pub struct Replay {
    name: String,
    shapes: Shapes,
    lines: Lines,
    rows: Rows,
    memory_bytes: usize,
}

enum Rows {
    Held(Fold),
    Spilled(Box<Spill>),
}

/// What a replay has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayedTable {
    /// Of the rows as they come out: the columns that the table had at the moment.
    pub definition: TableDefinition,
    pub rows: u64,
    pub sum: RowSum,
    /// Bytes of the rows.
    pub size: u64,
}

/// What became of a row, with every value as `COPY` writes it. `None`: unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Put { key: Vec<u8>, before: Option<Vec<u8>>, shape: u16, values: Vec<Option<Vec<u8>>> },
    Delete { key: Vec<u8> },
    Truncate,
}

impl Replay {
    /// From a table of a base, whose rows are known by their primary key.
    pub fn new(base: &TableDefinition) -> Self {
        Self::of(Shapes::new(base, &base.primary_key))
    }

    /// The same, with rows known by what the log's changes of it name them by.
    pub fn keyed_as(base: &TableDefinition, changed: &ChangedTable) -> Self {
        let names = changed.key.iter().filter_map(|at| changed.columns.get(*at));
        Self::of(Shapes::new(base, &names.map(|column| column.name.clone()).collect::<Vec<_>>()))
    }

    fn of(shapes: Shapes) -> Self {
        let rows = Rows::Held(Fold::new(shapes.has_key()));
        Self { name: shapes.table().to_owned(), shapes, lines: Lines::default(), rows, memory_bytes: MEMORY_BYTES }
    }

    /// The same with another budget.
    pub fn with_memory(self, memory_bytes: usize) -> Self {
        Self { memory_bytes, ..self }
    }

    /// Takes the next bytes of the base's rows; all of them come before the first change.
    pub fn base(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Self { shapes, lines, rows, .. } = self;
        lines.take(bytes, &mut |line| {
            let key = shapes.key_of_base(line).ok_or_else(|| Error::Damaged {
                path: shapes.table().to_owned(),
                detail: "a row of the base has another number of values than the table has columns".into(),
                hint: "run `lifeboat check` on the site".into(),
            })?;
            match rows {
                Rows::Held(fold) => fold.base(key, line),
                Rows::Spilled(spill) => spill.base(&key, line)?,
            }
            Ok(())
        })?;
        self.keep_small()
    }

    /// Takes the next change. `table` says what its values are of.
    pub fn change(&mut self, table: &ChangedTable, change: &RowChange) -> Result<(), Error> {
        let step = self.shapes.step(table, change)?;
        self.step(step)
    }

    /// Every row so far is gone.
    pub fn truncate(&mut self) -> Result<(), Error> {
        self.step(Step::Truncate)
    }

    /// The table has these columns from here on.
    pub fn restructure(&mut self, columns: &[StructureColumn]) -> Result<(), Error> {
        self.shapes.restructure(columns)
    }

    fn step(&mut self, step: Step) -> Result<(), Error> {
        match &mut self.rows {
            Rows::Held(fold) => fold.step(step, &self.shapes)?,
            Rows::Spilled(spill) => spill.step(&step)?,
        }
        self.keep_small()
    }

    fn keep_small(&mut self) -> Result<(), Error> {
        match &mut self.rows {
            Rows::Held(fold) if fold.bytes() > self.memory_bytes => {
                let mut spill = Spill::create(self.memory_bytes)?;
                for (key, row) in std::mem::replace(fold, Fold::new(self.shapes.has_key())).into_rows() {
                    spill.row(&key, &row)?;
                }
                self.rows = Rows::Spilled(Box::new(spill));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Gives the rows in stretches of `COPY` text, and says what they are.
    pub fn finish(self, give: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<ReplayedTable, Error> {
        self.lines.end(&self.name)?;
        let definition = self.shapes.definition();
        let mut out = Stretches { buffer: Vec::new(), rows: 0, size: 0, sum: RowSum::default(), give };
        match self.rows {
            Rows::Held(fold) => fold.give(&self.shapes, &mut out)?,
            Rows::Spilled(spill) => spill.give(&self.shapes, &mut out)?,
        }
        out.flush()?;
        Ok(ReplayedTable { definition, rows: out.rows, sum: out.sum, size: out.size })
    }
}

/// Collects rows on their way out.
struct Stretches<'g> {
    buffer: Vec<u8>,
    rows: u64,
    size: u64,
    sum: RowSum,
    give: &'g mut dyn FnMut(&[u8]) -> Result<(), Error>,
}

impl Stretches<'_> {
    const LEN: usize = 256 << 10;

    /// Takes a row without its line end.
    fn push(&mut self, row: &[u8]) -> Result<(), Error> {
        let from = self.buffer.len();
        self.buffer.extend_from_slice(row);
        self.buffer.push(b'\n');
        let line = &self.buffer[from..];
        self.sum.add(line);
        (self.rows, self.size) = (self.rows + 1, self.size + line.len() as u64);
        if self.buffer.len() >= Self::LEN { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        if !self.buffer.is_empty() {
            (self.give)(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

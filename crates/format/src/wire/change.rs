//! Changes of rows, as blocks hold them: the hot path of the change log, so arrays instead of maps.
//!
//! ```text
//! table    [name, [* [column, type]], [* place of a key column]]
//! change   [0, row] inserted · [1, row, key before / null] updated · [2, key] deleted
//! row      [* null / undefined / bytes]      undefined: not changed, and stored apart by the server
//! pages    [3, [* [number, bytes]], step / null]       of a database file, whose table has no columns
//! step     [before / null, after / null]     a state: [page size, page count, sum]
//! ```

use minicbor::Encoder;
use minicbor::data::Type;

use lifeboat_model::{
    ChangeCounts, ChangeKind, ChangePlace, ChangedColumn, ChangedPage, ChangedTable, ChangedValue, FileState, FileStep,
    PageSum, PagesChange, RowChange, SourceName, TransactionHead,
};

use super::variant::{Variant, put_variant};
use super::wire_codes;
use crate::cbor::{self, In, Out, Wire, WireResult, emit, malformed, wire_array, wire_lists};

wire_codes!(ChangeKind, "kind of change" { 0: Insert, 1: Update, 2: Delete });
wire_array!(ChangePlace { commit, sequence });
wire_array!(TransactionHead { id, commit, committed_at });
wire_array!(ChangeCounts { inserts, updates, deletes });
wire_array!(ChangedColumn { name, type_name });
wire_lists!(ChangedValue, ChangedColumn, ChangedTable);

impl Wire for ChangedTable {
    fn put(&self, out: &mut Out<'_>) {
        emit(out.array(3));
        self.name.put(out);
        self.columns.put(out);
        emit(out.array(self.key.len() as u64));
        self.key.iter().for_each(|place| (*place as u64).put(out));
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        let more = cbor::begin_array(input, 3)?;
        let (name, columns) = (Wire::take(input)?, Wire::take(input)?);
        let mut key = Vec::new();
        for _ in 0..cbor::array_len(input)? {
            key.push(usize::try_from(input.u64()?).unwrap_or(usize::MAX));
        }
        cbor::skip(input, more)?;
        let table = Self { name, columns, key };
        check_table(&table).or_else(malformed)?;
        Ok(table)
    }
}

/// What must hold for every table, written or read.
pub(crate) fn check_table(table: &ChangedTable) -> Result<(), String> {
    let ChangedTable { name, columns, key } = table;
    let doubled = |(at, place): (usize, &usize)| key[..at].contains(place);
    if key.iter().any(|place| *place >= columns.len()) || key.len() > columns.len() {
        return Err(format!("a key of columns that are not there: table=`{name}`, columns=`{}`", columns.len()));
    }
    if key.iter().enumerate().any(doubled) {
        return Err(format!("a column is twice in the key: table=`{name}`"));
    }
    Ok(())
}

/// Whether a change has as many values as its table says.
pub(crate) fn check_change(table: &ChangedTable, change: &RowChange) -> Result<(), String> {
    let columns = table.columns.len();
    let key_len = if table.key.is_empty() { columns } else { table.key.len() };
    let (row, key) = match change {
        RowChange::Insert { row } => (Some(row), None),
        RowChange::Update { row, key_before } => (Some(row), key_before.as_ref()),
        RowChange::Delete { key } => (None, Some(key)),
        RowChange::Pages(change) => return check_pages(table, change),
    };
    let row_len = row.map_or(columns, Vec::len);
    let given_len = key.map_or(key_len, Vec::len);
    if row_len != columns || given_len != key_len {
        let name = &table.name;
        return Err(format!(
            "a change of other columns than its table's: table=`{name}`, columns=`{columns}`, row=`{row_len}`, \
             key=`{given_len}`"
        ));
    }
    Ok(())
}

/// Whether pages can be those of one file: ascending, of one possible size, which is that of the step.
fn check_pages(table: &ChangedTable, change: &PagesChange) -> Result<(), String> {
    let PagesChange { pages, step } = change;
    let refused = |detail: &str| Err(format!("{detail}: file=`{}`, pages=`{}`", table.name, pages.len()));
    if !table.columns.is_empty() {
        return refused("pages of a table with columns");
    }
    let is_size = |size: u32| (512..=65_536).contains(&size) && size.is_power_of_two();
    let size = pages.first().map(|page| page.bytes.len());
    if pages.iter().any(|page| page.number == 0 || Some(page.bytes.len()) != size)
        || !pages.is_sorted_by(|a, b| a.number < b.number)
        || size.is_some_and(|size| !u32::try_from(size).is_ok_and(is_size))
    {
        return refused("pages that no file can have");
    }
    match step {
        None if pages.is_empty() => refused("a change of no page"),
        None => Ok(()),
        Some(FileStep { before: None, after: None }) => refused("a step from nothing to nothing"),
        Some(FileStep { after: None, .. }) if !pages.is_empty() => refused("pages of a file that is gone"),
        Some(FileStep { before, after }) => {
            let sizes_fit = before.iter().chain(after).all(|state| is_size(state.page_size));
            let after_size = after.map(|after| after.page_size as usize);
            match sizes_fit && (size.is_none() || after_size == size) {
                true => Ok(()),
                false => refused("a step of another page size than its pages"),
            }
        }
    }
}

wire_array!(ChangedPage { number, bytes });
wire_array!(FileState { page_size, page_count, sum });
wire_array!(FileStep { before, after });
wire_lists!(ChangedPage);

impl Wire for PageSum {
    fn put(&self, out: &mut Out<'_>) {
        self.to_bytes().put(out);
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        Wire::take(input).map(Self::from_bytes)
    }
}

impl Wire for ChangedValue {
    fn put(&self, out: &mut Out<'_>) {
        match self {
            Self::Null => emit(out.null()),
            Self::Unchanged => emit(out.undefined()),
            Self::Text(text) => emit(out.bytes(text)),
        };
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        match input.datatype()? {
            Type::Null => input.null().map(|()| Self::Null),
            Type::Undefined => input.undefined().map(|()| Self::Unchanged),
            _ => input.bytes().map(|text| Self::Text(text.to_vec())),
        }
        .map_err(Into::into)
    }
}

impl Wire for RowChange {
    fn put(&self, out: &mut Out<'_>) {
        match self {
            Self::Insert { row } => put_variant(out, 0, &[row]),
            Self::Update { row, key_before } => put_variant(out, 1, &[row, key_before]),
            Self::Delete { key } => put_variant(out, 2, &[key]),
            Self::Pages(change) => put_variant(out, 3, &[&change.pages, &change.step]),
        }
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        let mut variant = Variant::begin(input)?;
        let change = match variant.code {
            0 => Self::Insert { row: variant.field(input)? },
            1 => Self::Update { row: variant.field(input)?, key_before: variant.field(input)? },
            2 => Self::Delete { key: variant.field(input)? },
            3 => Self::Pages(Box::new(PagesChange { pages: variant.field(input)?, step: variant.field(input)? })),
            other => return cbor::unknown("change of a row", other.into()),
        };
        variant.end(input)?;
        Ok(change)
    }
}

/// What a row's key is hashed as: `[source, table, [* value]]`.
pub(crate) fn row_key_bytes(source: &SourceName, table: &str, key: &[ChangedValue]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut out = Encoder::new(&mut bytes);
    emit(emit(emit(out.array(3)).str(source.as_str())).str(table));
    cbor::put_list(key, &mut out);
    bytes
}

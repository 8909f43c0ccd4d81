//! Changes of rows, as blocks hold them: the hot path of the change log, so arrays instead of maps.
//!
//! ```text
//! table    [name, [* [column, type]], [* place of a key column]]
//! change   [0, row] inserted · [1, row, key before / null] updated · [2, key] deleted
//! row      [* null / undefined / bytes]      undefined: not changed, and stored apart by the server
//! ```

use minicbor::Encoder;
use minicbor::data::Type;

use lifeboat_model::{
    ChangeCounts, ChangeKind, ChangePlace, ChangedColumn, ChangedTable, ChangedValue, RowChange, SourceName,
    TransactionHead,
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
        }
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        let mut variant = Variant::begin(input)?;
        let change = match variant.code {
            0 => Self::Insert { row: variant.field(input)? },
            1 => Self::Update { row: variant.field(input)?, key_before: variant.field(input)? },
            2 => Self::Delete { key: variant.field(input)? },
            // 3 is kept for pages of a database.
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

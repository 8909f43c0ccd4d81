//! Reads the catalogue of the connected database.

use std::collections::{BTreeMap, HashMap};

use postgres::{Client, Error as SqlError, GenericClient, IsolationLevel, Row};

use super::{
    Catalogue, Column, ForeignKey, Identity, Sequence, ServerFacts, Table, TableKind, TableName, UniqueKey, queries,
};
use crate::Error;
use crate::postgres::Session;

/// Positions of columns by their number in the catalogue; numbers of dropped ones are missing.
type Positions = HashMap<i16, usize>;

impl Catalogue {
    /// Reads it in a transaction of its own, so that all of it is of one moment.
    pub fn load(session: &mut Session) -> Result<Self, Error> {
        Self::load_schema(session, None)
    }

    /// The same of one schema alone, with the tables elsewhere that foreign keys tie to it.
    pub fn load_schema(session: &mut Session, schema: Option<&str>) -> Result<Self, Error> {
        let read = |client: &mut Client| {
            let mut transaction =
                client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start()?;
            let catalogue = Self::read(&mut transaction, schema)?;
            transaction.commit()?;
            Ok(catalogue)
        };
        read(session).map_err(|error: SqlError| session.failed("cannot read the catalogue", &error))
    }

    /// Which database this is.
    pub fn server(session: &mut Session) -> Result<ServerFacts, Error> {
        let row = session.query_one(queries::SERVER, &[]);
        Ok(server_facts(&row.map_err(|error| session.failed("cannot ask which database this is", &error))?))
    }

    /// The same within a transaction that is open already, at its moment.
    pub fn read(client: &mut impl GenericClient, schema: Option<&str>) -> Result<Self, SqlError> {
        let server = server_facts(&client.query_one(queries::SERVER, &[])?);
        let mut by_oid: HashMap<u32, (Table, Positions)> = HashMap::new();
        for row in client.query(queries::TABLES, &[&schema])? {
            by_oid.insert(row.get(0), (table(&row), Positions::new()));
        }
        for row in client.query(queries::COLUMNS, &[&schema])? {
            if let Some((table, positions)) = by_oid.get_mut(&row.get(0)) {
                positions.insert(row.get(1), table.columns.len());
                table.columns.push(column(&row));
            }
        }
        for row in client.query(queries::KEYS, &[&schema])? {
            if let Some((table, positions)) = by_oid.get_mut(&row.get(0)) {
                add_key(table, positions, &row);
            }
        }
        let foreign_keys = client.query(queries::FOREIGN_KEYS, &[&schema])?.iter().map(foreign_key).collect();
        let positions: BTreeMap<TableName, Positions> =
            by_oid.values().map(|(table, positions)| (table.name.clone(), positions.clone())).collect();
        let sequences =
            client.query(queries::SEQUENCES, &[&schema])?.iter().map(|row| sequence(row, &positions)).collect();
        let views = client.query(queries::VIEWS, &[&schema])?.iter().map(|row| name(row, 0)).collect();
        let tables = by_oid.into_values().map(|(table, _)| (table.name.clone(), table)).collect();
        Ok(Self { server, tables, foreign_keys, sequences, views })
    }
}

fn name(row: &Row, at: usize) -> TableName {
    TableName::quoted(row.get::<_, String>(at))
}

fn server_facts(row: &Row) -> ServerFacts {
    ServerFacts {
        system_identifier: row.get(0),
        database: row.get(1),
        version: u32::try_from(row.get::<_, i32>(2)).unwrap_or(0),
        encoding: row.get(3),
        is_standby: row.get(4),
        role: row.get(5),
        is_superuser: row.get(6),
        // A superuser passes every policy, whatever this attribute says.
        bypasses_rls: row.get::<_, bool>(6) || row.get(7),
    }
}

fn table(row: &Row) -> Table {
    let parents: Vec<String> = row.get(10);
    let root: Option<String> = row.get(9);
    let kind = match (root, row.get::<_, &str>(2)) {
        (Some(root), _) => TableKind::Partition { root: TableName::quoted(root) },
        (None, "p") => TableKind::PartitionRoot,
        (None, "f") => TableKind::Foreign,
        (None, _) if parents.is_empty() => TableKind::Ordinary,
        (None, _) => TableKind::Inherits { parents: parents.into_iter().map(TableName::quoted).collect() },
    };
    let privileges: Vec<bool> = row.get(7);
    Table {
        oid: row.get(0),
        name: name(row, 1),
        schema: row.get(11),
        kind,
        columns: Vec::new(),
        primary_key: None,
        unique_keys: Vec::new(),
        row_security: row.get(4),
        is_unlogged: row.get(5),
        always_triggers: row.get(8),
        privileges: std::array::from_fn(|at| privileges.get(at).copied().unwrap_or(false)),
        rows_estimate: row.get(6),
    }
}

fn column(row: &Row) -> Column {
    Column {
        number: row.get(1),
        name: row.get(2),
        quoted: row.get(3),
        type_name: row.get(4),
        not_null: row.get(5),
        is_generated: row.get(6),
        identity: match row.get::<_, &str>(7) {
            "a" => Some(Identity::Always),
            "d" => Some(Identity::ByDefault),
            _ => None,
        },
        is_collatable: row.get(8),
        is_large_object: row.get(9),
        equals: row.get(10),
    }
}

fn add_key(table: &mut Table, positions: &Positions, row: &Row) {
    let numbers: Vec<i16> = row.get(3);
    let columns: Vec<usize> = numbers.iter().filter_map(|number| positions.get(number).copied()).collect();
    // A key over a system column says nothing about the rows' own values.
    if columns.len() != numbers.len() {
        return;
    }
    if row.get(2) {
        table.primary_key = Some(columns);
    } else {
        let (nulls_equal, is_deferrable) = (row.get(4), row.get(5));
        table.unique_keys.push(UniqueKey { name: row.get(1), columns, nulls_equal, is_deferrable });
    }
}

fn foreign_key(row: &Row) -> ForeignKey {
    ForeignKey {
        name: row.get(0),
        child: name(row, 1),
        child_columns: row.get(3),
        parent: name(row, 2),
        parent_columns: row.get(4),
        is_total: row.get(5),
        is_match_full: row.get(6),
        is_validated: row.get(7),
    }
}

fn sequence(row: &Row, positions: &BTreeMap<TableName, Positions>) -> Sequence {
    let owner = row.get::<_, Option<String>>(1).map(TableName::quoted).zip(row.get::<_, Option<i16>>(2));
    let owner = owner.and_then(|(table, number)| {
        let position = *positions.get(&table)?.get(&number)?;
        Some((table, position))
    });
    Sequence { name: name(row, 0), owner, increment: row.get(3) }
}

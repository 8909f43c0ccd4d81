//! What a restore wants of one table, laid over that table as it is today.

use std::collections::BTreeMap;

use lifeboat_model::RowsDigest;

use super::super::describe::TableDefinition;
use super::super::tenancy::SiteTable;
use super::super::{Catalogue, Column, Identity, Session, Table, TableName};
use super::fail::{Ask, Outcome};
use super::{Conflict, ConflictKind, WantedTable};

/// What the catalogue does not say of a table's unique indexes.
#[derive(Debug, Clone, Default)]
pub(super) struct Indexes {
    /// One over expressions, over some of the rows, or of an exclusion constraint: whether two rows
    /// collide cannot be told from their columns.
    pub has_unusual: bool,
    /// Those that are checked late, and by a trigger, which does not fire for us: quoted columns, and
    /// the operators by which two rows collide (none: by equality).
    pub deferrable: Vec<(Vec<String>, Vec<String>)>,
}

/// One table of the restore.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub name: TableName,
    pub rows: u64,
    pub size: u64,
    pub digest: RowsDigest,
    /// As it is today; `None`: there is no such table any more, and nothing is done.
    pub live: Option<SiteTable>,
    /// The snapshot's columns, in its order, as they are today.
    pub columns: Vec<Column>,
    /// The columns by which rows are matched; empty: by all of their content.
    pub key: Vec<Column>,
    /// What the snapshot's rows are ordered by, over the alias `t`.
    pub order: String,
    /// Columns in which live and staged rows can collide with one another: rows that differ there
    /// are deleted and inserted, all others updated.
    pub colliding: Vec<Column>,
    /// Any change may collide.
    pub collides_always: bool,
    /// The live table has columns that the snapshot does not know: they keep what they hold.
    pub has_added: bool,
    /// Unique and exclusion keys that are checked late: pairs of quoted column and operator.
    pub deferrable: Vec<Vec<(String, String)>>,
    /// Quoted columns that foreign keys of any table refer to.
    pub referred: Vec<String>,
    /// Columns whose type is another one now.
    pub retyped: Vec<String>,
    /// Staging tables, with their schema.
    pub stage: String,
    pub gone: String,
    pub fresh: String,
    /// Found before its rows were staged: it cannot be.
    pub conflicts: Vec<Conflict>,
    /// Found later: its rows are staged all the same.
    pub found: Vec<Conflict>,
    pub notes: Vec<String>,
    /// Where later rows are kept: what stays as it is.
    pub stays: Option<Stays>,
}

/// What stays of one table where only missing rows come back.
#[derive(Debug, Clone, Default)]
pub(super) struct Stays {
    /// Rows of the point that no live row is, and that come back.
    pub missing: u64,
    pub equal: u64,
    pub differing: u64,
    pub newer: u64,
    /// The primary keys of the differing ones, the first of them.
    pub keys: Vec<String>,
    /// All live rows as they will be then.
    pub left: Option<RowsDigest>,
}

impl Scope {
    /// Whether its rows can be staged and compared.
    pub fn is_usable(&self) -> bool {
        self.live.is_some() && self.conflicts.is_empty()
    }

    /// `FROM` item of the live table, `ONLY` where others inherit.
    pub fn live_item(&self) -> String {
        self.live.as_ref().map(|live| live.table.from_item()).unwrap_or_default()
    }

    pub fn condition(&self) -> &str {
        self.live.as_ref().map_or("false", |live| live.condition.as_str())
    }

    pub fn oid(&self) -> u32 {
        self.live.as_ref().map_or(0, |live| live.table.oid)
    }
}

/// Lays the wanted tables over the live ones.
pub(super) fn lay_over(
    wanted: &[WantedTable],
    live: &BTreeMap<TableName, SiteTable>,
    indexes: &BTreeMap<u32, Indexes>,
    catalogue: &Catalogue,
    schema: &str,
) -> Vec<Scope> {
    let scope = |(at, wanted): (usize, &WantedTable)| {
        let live = live.get(&wanted.name);
        let mut scope = empty(at, wanted, live.cloned(), schema);
        let Some(live) = live else {
            let detail = if catalogue.tables.contains_key(&wanted.name) {
                "the table holds no rows of sites any more"
            } else {
                "the table is gone"
            };
            scope.conflicts.push(Conflict::new(&wanted.name, ConflictKind::TableGone, wanted.rows, detail));
            return scope;
        };
        take_columns(&mut scope, &wanted.definition, &live.table);
        take_keys(&mut scope, &wanted.definition, &live.table, indexes.get(&live.table.oid));
        let refers = catalogue.foreign_keys.iter().filter(|key| key.parent == wanted.name);
        scope.referred = refers.flat_map(|key| key.parent_columns.iter().cloned()).collect();
        scope.referred.sort();
        scope.referred.dedup();
        for trigger in &live.table.always_triggers {
            scope.notes.push(format!("fires even in a restore: table=`{}`, trigger=`{trigger}`", wanted.name));
        }
        scope
    };
    wanted.iter().enumerate().map(scope).collect()
}

fn empty(at: usize, wanted: &WantedTable, live: Option<SiteTable>, schema: &str) -> Scope {
    Scope {
        name: wanted.name.clone(),
        rows: wanted.rows,
        size: wanted.size,
        digest: wanted.digest,
        live,
        columns: Vec::new(),
        key: Vec::new(),
        order: String::new(),
        colliding: Vec::new(),
        collides_always: false,
        has_added: false,
        deferrable: Vec::new(),
        referred: Vec::new(),
        retyped: Vec::new(),
        stage: format!("{schema}.s{at}"),
        gone: format!("{schema}.g{at}"),
        fresh: format!("{schema}.i{at}"),
        conflicts: Vec::new(),
        found: Vec::new(),
        notes: Vec::new(),
        stays: None,
    }
}

fn take_columns(scope: &mut Scope, definition: &TableDefinition, table: &Table) {
    for wanted in &definition.columns {
        let Some(column) = table.columns.iter().find(|column| column.name == wanted.name) else {
            let detail = format!("the column is gone: column=`{}`", wanted.name);
            scope.conflicts.push(Conflict::new(&scope.name, ConflictKind::ColumnDropped, scope.rows, detail));
            continue;
        };
        if column.is_generated {
            let detail = format!("the column is computed now: column=`{}`", wanted.name);
            scope.conflicts.push(Conflict::new(&scope.name, ConflictKind::ColumnGenerated, scope.rows, detail));
        }
        if column.type_name != wanted.type_name {
            scope.retyped.push(format!("`{}` was {}, is {}", wanted.name, wanted.type_name, column.type_name));
        }
        scope.columns.push(column.clone());
    }
    for column in table.stored_columns() {
        if !definition.columns.iter().any(|wanted| wanted.name == column.name) {
            scope.has_added = true;
            scope.notes.push(format!(
                "newer than the snapshot, left as it is or at its default: table=`{}`, column=`{}`",
                scope.name, column.name
            ));
        }
    }
}

fn take_keys(scope: &mut Scope, definition: &TableDefinition, table: &Table, indexes: Option<&Indexes>) {
    let known = |name: &String| scope.columns.iter().find(|column| column.name == *name).cloned();
    let key: Option<Vec<Column>> =
        table.primary_key.as_ref().and_then(|key| key.iter().map(|at| known(&table.columns.get(*at)?.name)).collect());
    scope.key = key.unwrap_or_default();
    let order: Option<Vec<Column>> = definition.primary_key.iter().map(known).collect();
    scope.order = order_of(&order.unwrap_or_default(), &scope.columns);
    // A table without a key is compared row by row as a whole: nothing is updated.
    let is_key = |name: &str| scope.key.iter().any(|column| column.name == name);
    let unique = table.unique_keys.iter().flat_map(|unique| unique.columns.iter());
    let mut colliding: Vec<&Column> = unique.filter_map(|at| table.columns.get(*at)).collect();
    colliding.extend(table.columns.iter().filter(|column| column.identity == Some(Identity::Always)));
    colliding.sort_by(|a, b| a.name.cmp(&b.name));
    colliding.dedup_by(|a, b| a.name == b.name);
    scope.colliding =
        colliding.into_iter().filter(|column| !is_key(&column.name)).filter_map(|c| known(&c.name)).collect();
    scope.collides_always = indexes.is_some_and(|indexes| indexes.has_unusual);
    let equals = |quoted: &String| {
        let column = table.columns.iter().find(|column| column.quoted == *quoted);
        column.map_or_else(|| "=".to_owned(), |column| column.equals.clone())
    };
    let pairs = |(columns, operators): &(Vec<String>, Vec<String>)| {
        let pair = |(at, column): (usize, &String)| {
            (column.clone(), operators.get(at).cloned().unwrap_or_else(|| equals(column)))
        };
        columns.iter().enumerate().map(pair).collect()
    };
    scope.deferrable = indexes.iter().flat_map(|indexes| indexes.deferrable.iter().map(pairs)).collect();
    if scope.has_added {
        // Deleting and inserting would lose what the newer columns hold.
        scope.colliding.clear();
        scope.collides_always = false;
    }
}

/// The same order as [`super::super::describe::order_by`] gave when the rows were read.
fn order_of(key: &[Column], columns: &[Column]) -> String {
    if key.is_empty() {
        return format!(r#"{}::text COLLATE pg_catalog."C""#, super::sql::row("t", columns));
    }
    let one = |column: &Column| {
        let collate = if column.is_collatable { r#" COLLATE pg_catalog."C""# } else { "" };
        format!("t.{}{collate}", column.quoted)
    };
    key.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What the catalogue does not say of unique indexes; those of a partition count for its root.
pub(super) fn indexes(session: &mut Session) -> Outcome<BTreeMap<u32, Indexes>> {
    let query = "
        SELECT coalesce(pg_partition_root(i.indrelid), i.indrelid)::oid,
            i.indpred IS NOT NULL OR i.indexprs IS NOT NULL OR i.indisexclusion
                OR (c.relispartition AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = i.indexrelid)),
            NOT i.indimmediate,
            ARRAY(SELECT quote_ident(a.attname) FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) WITH ORDINALITY k(n, at)
                JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n ORDER BY k.at),
            ARRAY(SELECT format('OPERATOR(%I.%s)', n.nspname, o.oprname)
                FROM pg_constraint x, unnest(x.conexclop) WITH ORDINALITY k(oid, at)
                JOIN pg_operator o ON o.oid = k.oid JOIN pg_namespace n ON n.oid = o.oprnamespace
                WHERE x.conindid = i.indexrelid AND x.contype = 'x' ORDER BY k.at)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
        WHERE (i.indisunique OR i.indisexclusion) AND c.relnamespace <> 'pg_catalog'::regnamespace
            AND (c.relispartition IS FALSE OR NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = i.indexrelid))";
    let mut found: BTreeMap<u32, Indexes> = BTreeMap::new();
    for row in session.rows("cannot read the indexes", query)? {
        let indexes = found.entry(row.get(0)).or_default();
        indexes.has_unusual |= row.get::<_, bool>(1);
        if row.get(2) {
            indexes.deferrable.push((row.get(3), row.get(4)));
        }
    }
    Ok(found)
}

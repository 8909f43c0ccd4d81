//! Unique keys that no columns alone make: over expressions, over some of the rows, or of an exclusion
//! constraint. Asks whether missing rows collide in one with live rows, whoever's.
//!
//! The server checks them once more when the rows are written, and names no row then. So a question that it
//! refuses (the role may not call a function of an index) is left to that check.

use super::super::Session;
use super::fail::{Ask, Outcome};
use super::scope::Scope;
use super::{Conflict, ConflictKind, compare};

/// One unusual unique key of a table.
struct Key {
    name: String,
    /// Expressions over the table's columns, and the operators by which two rows collide.
    expressions: Vec<String>,
    operators: Vec<String>,
    /// Which rows count.
    predicate: Option<String>,
    /// All columns that it reads.
    columns: Vec<String>,
}

/// Adds the conflicts of the rows in `chosen`, none of which is live.
pub(super) fn find(session: &mut Session, scope: &mut Scope, chosen: &str) -> Outcome<()> {
    for key in keys(session, scope)? {
        // A column that is newer than the point, or computed, cannot be told of rows that are not there yet.
        if !key.columns.iter().all(|name| scope.columns.iter().any(|column| column.name == *name)) {
            continue;
        }
        let detail = format!("unique values that other rows hold now: constraint=`{}`", key.name);
        let found =
            compare::found(session, scope, &collisions(scope, &key, chosen), (ConflictKind::UniqueTaken, detail));
        match found {
            Ok(found) => scope.found.extend::<Option<Conflict>>(found),
            Err(fail) if fail.is_refused_question() => {
                tracing::info!(table = %scope.name, key = key.name, "a unique key cannot be asked, and is left to the server's own check");
            }
            Err(fail) => return Err(fail),
        }
    }
    Ok(())
}

fn keys(session: &mut Session, scope: &Scope) -> Outcome<Vec<Key>> {
    let query = format!(
        "SELECT c.relname::text,
            ARRAY(SELECT pg_get_indexdef(i.indexrelid, k, true) FROM generate_series(1, i.indnkeyatts) k ORDER BY k),
            ARRAY(SELECT format('OPERATOR(%I.%s)', n.nspname, o.oprname)
                FROM generate_series(1, i.indnkeyatts) k JOIN pg_opclass p ON p.oid = i.indclass[k - 1]
                LEFT JOIN pg_constraint x ON x.conindid = i.indexrelid AND x.contype = 'x'
                LEFT JOIN pg_amop a ON a.amopfamily = p.opcfamily AND a.amoplefttype = p.opcintype
                    AND a.amoprighttype = p.opcintype AND a.amopstrategy = 3 AND x.oid IS NULL
                JOIN pg_operator o ON o.oid = coalesce(x.conexclop[k], a.amopopr)
                JOIN pg_namespace n ON n.oid = o.oprnamespace ORDER BY k),
            pg_get_expr(i.indpred, i.indrelid),
            ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = i.indrelid AND (a.attnum = ANY (i.indkey)
                OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                    AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum))
                AND a.attnum > 0)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        WHERE i.indrelid = {} AND (i.indisunique OR i.indisexclusion)
            AND (i.indpred IS NOT NULL OR i.indexprs IS NOT NULL OR i.indisexclusion)
        ORDER BY c.relname",
        scope.oid()
    );
    let rows = session.rows("cannot read the indexes", &query)?;
    let key = |row: &postgres::Row| Key {
        name: row.get(0),
        expressions: row.get(1),
        operators: row.get(2),
        predicate: row.get(3),
        columns: row.get(4),
    };
    // Of an index of a kind that has no such operators nothing can be asked.
    Ok(rows.iter().map(key).filter(|key| key.operators.len() == key.expressions.len()).collect())
}

fn collisions(scope: &Scope, key: &Key, chosen: &str) -> String {
    let predicate = key.predicate.as_deref().unwrap_or("true");
    let values: Vec<String> =
        key.expressions.iter().enumerate().map(|(at, value)| format!("({value}) AS lifeboat_{at}")).collect();
    let on = key.operators.iter().enumerate().map(|(at, same)| format!("t.lifeboat_{at} {same} s.lifeboat_{at}"));
    format!(
        "SELECT count(*) FROM (SELECT *, {values} FROM {chosen} WHERE {predicate}) s \
         JOIN (SELECT {values} FROM {} WHERE {predicate}) t ON {}",
        scope.live_item(),
        on.collect::<Vec<_>>().join(" AND "),
        values = values.join(", "),
    )
}

//! The statements that compare and change rows: text, made of names the server has quoted.
//!
//! `t` is a live row, `s` a staged one. Rows are matched by primary key, and differ where their
//! binary images do; without a primary key the n-th of several equal rows matches the n-th.

use super::super::{Column, ForeignKey, Table, UniqueKey};
use super::TableDiff;
use super::scope::Scope;

pub(super) use super::super::cut::PLANNING;

/// `ROW(t.a, t.b)`
pub(super) fn row(alias: &str, columns: &[Column]) -> String {
    format!("ROW({})", list(alias, columns))
}

/// `t.a, t.b`
pub(super) fn list(alias: &str, columns: &[Column]) -> String {
    columns.iter().map(|column| format!("{alias}.{}", column.quoted)).collect::<Vec<_>>().join(", ")
}

fn names(columns: &[Column]) -> String {
    columns.iter().map(|column| column.quoted.clone()).collect::<Vec<_>>().join(", ")
}

/// An operator that is found wherever the search path leads.
fn qualified(operator: &str) -> String {
    if operator == "=" { "OPERATOR(pg_catalog.=)".into() } else { operator.into() }
}

pub(super) fn matched(left: &str, right: &str, columns: &[Column]) -> String {
    let one = |column: &Column| format!("{left}.{0} {1} {right}.{0}", column.quoted, qualified(&column.equals));
    columns.iter().map(one).collect::<Vec<_>>().join(" AND ")
}

/// Whether two rows differ in these columns. The casts keep it one comparison of records: between
/// two row constructors it would be one of each pair, by an operator that types do not have.
fn differs(columns: &[Column]) -> String {
    if columns.is_empty() {
        return "false".into();
    }
    format!("{}::record OPERATOR(pg_catalog.*<>) {}::record", row("t", columns), row("s", columns))
}

fn is_replaced(scope: &Scope) -> String {
    if scope.collides_always { "true".into() } else { differs(&scope.colliding) }
}

/// Rows as text, the equal ones numbered.
fn numbered(item: &str, condition: &str, scope: &Scope, more: &str) -> String {
    let text = format!(r#"{}::text COLLATE pg_catalog."C""#, row("t", &scope.columns));
    format!("SELECT {text} AS r, row_number() OVER (PARTITION BY {text}) AS n{more} FROM {item} t WHERE {condition}")
}

/// The rows that the snapshot stored, from the live table or (condition `true`) from staging.
pub(super) fn select_wanted(scope: &Scope, item: &str, condition: &str) -> String {
    format!("SELECT {} FROM {item} t WHERE {condition} ORDER BY {}", list("t", &scope.columns), scope.order)
}

/// Counts: to insert, to delete, equal, to update, to replace.
pub(super) fn counts(scope: &Scope) -> String {
    let (live, condition, stage) = (scope.live_item(), scope.condition(), &scope.stage);
    if scope.key.is_empty() {
        return format!(
            "SELECT count(*) FILTER (WHERE l.n IS NULL), count(*) FILTER (WHERE s.n IS NULL), \
             count(*) FILTER (WHERE l.n = s.n), 0::int8, 0::int8 \
             FROM ({}) l FULL JOIN ({}) s ON l.r = s.r AND l.n = s.n",
            numbered(&live, condition, scope, ""),
            numbered(stage, "true", scope, "")
        );
    }
    let (differs, replaced) = (differs(&scope.columns), is_replaced(scope));
    format!(
        "SELECT count(*) FILTER (WHERE t.lifeboat_here IS NULL), count(*) FILTER (WHERE s.lifeboat_here IS NULL), \
         count(*) FILTER (WHERE both_here AND NOT differs), count(*) FILTER (WHERE both_here AND differs AND NOT replaced), \
         count(*) FILTER (WHERE both_here AND differs AND replaced) \
         FROM (SELECT {columns}, true AS lifeboat_here FROM {live} t WHERE {condition}) t \
         FULL JOIN (SELECT {staged}, true AS lifeboat_here FROM {stage} s) s ON {on} \
         CROSS JOIN LATERAL (SELECT t.lifeboat_here AND s.lifeboat_here AS both_here, {differs} AS differs, {replaced} AS replaced) c",
        columns = list("t", &scope.columns),
        staged = list("s", &scope.columns),
        on = matched("t", "s", &scope.key),
    )
}

/// Staged rows that are live with the same primary key and other content.
pub(super) fn differing(scope: &Scope) -> String {
    format!(
        "SELECT count(*) FROM {} t JOIN {} s ON {} WHERE ({}) AND {}",
        scope.live_item(),
        scope.stage,
        matched("t", "s", &scope.key),
        scope.condition(),
        differs(&scope.columns)
    )
}

/// Staged rows that no live row of the site is.
pub(super) fn missing(scope: &Scope) -> String {
    let (live, stage, columns) = (scope.live_item(), &scope.stage, list("s", &scope.columns));
    if scope.key.is_empty() {
        let more = format!(", {}", list("t", &scope.columns));
        return format!(
            "SELECT {columns} FROM ({}) s WHERE NOT EXISTS (SELECT FROM ({}) t WHERE s.r = t.r AND s.n = t.n)",
            numbered(stage, "true", scope, &more),
            numbered(&live, scope.condition(), scope, "")
        );
    }
    format!(
        "SELECT {columns} FROM {stage} s WHERE NOT EXISTS (SELECT FROM {live} t WHERE ({}) AND {})",
        scope.condition(),
        matched("t", "s", &scope.key)
    )
}

/// Live rows under a condition, and those of another table.
pub(super) fn with_live(scope: &Scope, condition: &str, others: &str) -> String {
    format!(
        "SELECT {} FROM {} t WHERE {condition} UNION ALL SELECT {} FROM {others} s",
        list("t", &scope.columns),
        scope.live_item(),
        list("s", &scope.columns)
    )
}

/// Staged rows whose primary key is a row of somebody else.
pub(super) fn keys_elsewhere(scope: &Scope) -> Option<String> {
    (!scope.key.is_empty()).then(|| {
        format!(
            "SELECT count(*) FROM {} s JOIN {} t ON {} WHERE ({}) IS NOT TRUE",
            scope.stage,
            scope.live_item(),
            matched("t", "s", &scope.key),
            scope.condition()
        )
    })
}

/// Staged rows that hold a unique value which a row of somebody else holds.
pub(super) fn unique_taken(scope: &Scope, table: &Table, unique: &UniqueKey) -> Option<String> {
    let columns: Option<Vec<&Column>> = unique
        .columns
        .iter()
        .map(|at| scope.columns.iter().find(|column| Some(&column.name) == table.columns.get(*at).map(|c| &c.name)))
        .collect();
    let one = |column: &&Column| {
        let same = format!("t.{0} {1} s.{0}", column.quoted, column.equals);
        let null = format!("t.{0} IS NULL AND s.{0} IS NULL", column.quoted);
        if unique.nulls_equal && !column.not_null { format!("({same} OR {null})") } else { same }
    };
    let on = columns?.iter().map(one).collect::<Vec<_>>().join(" AND ");
    let (stage, live) = (&scope.stage, scope.live_item());
    Some(format!("SELECT count(*) FROM {stage} s JOIN {live} t ON {on} WHERE ({}) IS NOT TRUE", scope.condition()))
}

/// How many pairs of a staged row and another live one collide in a key that is checked late. Each
/// staged row is live by then, and collides with itself.
pub(super) fn duplicates(scope: &Scope, key: &[(String, String)]) -> String {
    let on =
        |other: &str| key.iter().map(|(c, op)| format!("s.{c} {op} {other}.{c}")).collect::<Vec<_>>().join(" AND ");
    let (stage, live) = (&scope.stage, scope.live_item());
    format!(
        "SELECT (SELECT count(*) FROM {stage} s JOIN {live} t ON {}) - (SELECT count(*) FROM {stage} s WHERE {})",
        on("t"),
        on("s")
    )
}

/// Notes which live rows are to go: extra ones, and those that are replaced.
pub(super) fn fill_gone(scope: &Scope) -> String {
    let (gone, live, condition, stage) = (&scope.gone, scope.live_item(), scope.condition(), &scope.stage);
    let columns = gone_columns(scope, "t");
    if scope.key.is_empty() {
        let more = format!(", {columns}");
        return format!(
            "INSERT INTO {gone} SELECT {} FROM ({}) t \
             WHERE NOT EXISTS (SELECT FROM ({}) s WHERE s.r = t.r AND s.n = t.n)",
            gone_names(scope, "t"),
            numbered(&live, condition, scope, &more),
            numbered(stage, "true", scope, "")
        );
    }
    format!(
        "INSERT INTO {gone} SELECT {columns} FROM {live} t WHERE ({condition}) AND NOT EXISTS \
         (SELECT FROM {stage} s WHERE {} AND NOT ({} AND {}))",
        matched("t", "s", &scope.key),
        differs(&scope.columns),
        is_replaced(scope)
    )
}

/// What is noted of a row that goes: where it is, its key, and what others may refer to.
pub(super) fn gone_columns(scope: &Scope, alias: &str) -> String {
    let mut columns = vec![format!("{alias}.ctid AS lifeboat_place"), format!("{alias}.tableoid AS lifeboat_leaf")];
    columns.extend(gone_values(scope).iter().map(|column| format!("{alias}.{column}")));
    columns.join(", ")
}

fn gone_names(scope: &Scope, alias: &str) -> String {
    let mut columns = vec![format!("{alias}.lifeboat_place"), format!("{alias}.lifeboat_leaf")];
    columns.extend(gone_values(scope).iter().map(|column| format!("{alias}.{column}")));
    columns.join(", ")
}

fn gone_values(scope: &Scope) -> Vec<String> {
    let mut values: Vec<String> = scope.key.iter().map(|column| column.quoted.clone()).collect();
    let more: Vec<String> = scope.referred.iter().filter(|column| !values.contains(column)).cloned().collect();
    values.extend(more);
    values
}

/// Notes which staged rows have no equal live one, for a table without a key.
pub(super) fn fill_fresh(scope: &Scope) -> String {
    let more = format!(", {}", list("t", &scope.columns));
    format!(
        "INSERT INTO {} SELECT {} FROM ({}) s WHERE NOT EXISTS (SELECT FROM ({}) t WHERE s.r = t.r AND s.n = t.n)",
        scope.fresh,
        list("s", &scope.columns),
        numbered(&scope.stage, "true", scope, &more),
        numbered(&scope.live_item(), scope.condition(), scope, "")
    )
}

pub(super) fn delete(scope: &Scope) -> String {
    let place = "t.ctid = g.lifeboat_place AND t.tableoid = g.lifeboat_leaf";
    let on = if scope.key.is_empty() { place.to_owned() } else { matched("t", "g", &scope.key) };
    format!("DELETE FROM {} t USING {} g WHERE {on}", scope.live_item(), scope.gone)
}

/// Sets every column but those the server alone may set.
pub(super) fn update(scope: &Scope) -> String {
    let always = Some(super::super::Identity::Always);
    let set = scope.columns.iter().filter(|column| column.identity != always);
    let set: Vec<String> = set.map(|column| format!("{0} = s.{0}", column.quoted)).collect();
    format!(
        "UPDATE {} t SET {} FROM {} s WHERE {} AND {}",
        scope.live_item(),
        set.join(", "),
        scope.stage,
        matched("t", "s", &scope.key),
        differs(&scope.columns)
    )
}

/// Adds what is missing; `all`: the site has no row in the table.
pub(super) fn insert(scope: &Scope, all: bool) -> String {
    let table = scope.name.as_str();
    let source = if scope.key.is_empty() && !all { &scope.fresh } else { &scope.stage };
    let only_missing = if all || scope.key.is_empty() {
        String::new()
    } else {
        format!(" WHERE NOT EXISTS (SELECT FROM {} t WHERE {})", scope.live_item(), matched("t", "s", &scope.key))
    };
    format!(
        "INSERT INTO {table} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {source} s{only_missing}",
        names(&scope.columns),
        list("s", &scope.columns)
    )
}

fn refers(child: &str, parent: &str, key: &ForeignKey, equals: &[String]) -> String {
    let columns = key.child_columns.iter().zip(&key.parent_columns).zip(equals);
    let one = |((c, p), equals): ((&String, &String), &String)| format!("{parent}.{p} {equals} {child}.{c}");
    columns.map(one).collect::<Vec<_>>().join(" AND ")
}

fn refers_at_all(child: &str, key: &ForeignKey) -> String {
    key.child_columns.iter().map(|column| format!("{child}.{column} IS NOT NULL")).collect::<Vec<_>>().join(" AND ")
}

/// A foreign key with what its questions need.
pub(super) struct Link<'a> {
    pub key: &'a ForeignKey,
    /// How each pair of columns is compared.
    pub equals: Vec<String>,
    pub parent_item: String,
    pub child_item: String,
    pub child: Option<&'a Scope>,
    pub parent: Option<&'a Scope>,
}

impl Link<'_> {
    /// Whether rows at one of its ends are written at all.
    pub fn is_touched(&self, diffs: &[TableDiff]) -> bool {
        let is_written = |scope: &Scope| diffs.iter().any(|diff| diff.table == scope.name && diff.writes() > 0);
        self.child.is_some_and(is_written) || self.parent.is_some_and(is_written)
    }

    /// Staged rows that refer to a row which is not live.
    pub fn staged_orphans(&self, stage: &str) -> String {
        let (at_all, refers) = (refers_at_all("s", self.key), refers("s", "p", self.key, &self.equals));
        let parent = &self.parent_item;
        format!("SELECT count(*) FROM {stage} s WHERE {at_all} AND NOT EXISTS (SELECT FROM {parent} p WHERE {refers})")
    }

    /// Adds the staged parents that chosen rows refer to and that are not there, chosen or live; `None`:
    /// they cannot be told apart, for want of a key.
    pub fn missing_parents(&self, chosen: &str, parent: &Scope, new: &str) -> Option<String> {
        if parent.key.is_empty() {
            return None;
        }
        let (stage, columns) = (&parent.stage, list("s", &parent.columns));
        Some(format!(
            "INSERT INTO {new} SELECT {columns} FROM {stage} s WHERE EXISTS (SELECT FROM {chosen} c WHERE {}) \
             AND NOT EXISTS (SELECT FROM {} t WHERE {}) AND NOT EXISTS (SELECT FROM {new} n WHERE {})",
            refers("c", "s", self.key, &self.equals),
            parent.live_item(),
            matched("t", "s", &parent.key),
            matched("n", "s", &parent.key)
        ))
    }

    /// Chosen rows whose parent the snapshot has, and that would find none now.
    pub fn open_references(&self, chosen: &str, parent: &Scope, new: &str) -> String {
        let to = |alias: &str| refers("c", alias, self.key, &self.equals);
        format!(
            "SELECT count(*) FROM {chosen} c WHERE {} AND EXISTS (SELECT FROM {} s WHERE {}) \
             AND NOT EXISTS (SELECT FROM {new} n WHERE {}) AND NOT EXISTS (SELECT FROM {} t WHERE {})",
            refers_at_all("c", self.key),
            parent.stage,
            to("s"),
            to("n"),
            self.parent_item,
            to("t")
        )
    }

    /// Staged rows that refer to a row which is neither staged nor live with somebody else.
    pub fn orphans_of_snapshot(&self, stage: &str, parent: &Scope) -> String {
        let (at_all, staged) = (refers_at_all("s", self.key), refers("s", "p", self.key, &self.equals));
        let live = refers("s", "t", self.key, &self.equals);
        format!(
            "SELECT count(*) FROM {stage} s WHERE {at_all} AND NOT EXISTS (SELECT FROM {} p WHERE {staged}) \
             AND NOT EXISTS (SELECT FROM {} t WHERE {live} AND ({}) IS NOT TRUE)",
            parent.stage,
            self.parent_item,
            parent.condition()
        )
    }

    /// Live rows of the site that refer to a row which is not there.
    pub fn live_orphans(&self, child: &Scope) -> String {
        let (at_all, refers) = (refers_at_all("t", self.key), refers("t", "p", self.key, &self.equals));
        format!(
            "SELECT count(*) FROM {} t WHERE ({}) AND {at_all} AND NOT EXISTS (SELECT FROM {} p WHERE {refers})",
            self.child_item,
            child.condition(),
            self.parent_item
        )
    }

    /// Rows outside the site that refer to a row which the restore would take away.
    pub fn left_behind(&self, parent: &Scope) -> String {
        let outside = self.child.map_or("true".into(), |child| format!("({}) IS NOT TRUE", child.condition()));
        let columns = self.key.parent_columns.iter().map(|c| format!("t.{c}")).collect::<Vec<_>>().join(", ");
        let kept = self.key.parent_columns.iter().zip(&self.equals);
        let kept = kept.map(|(c, equals)| format!("s.{c} {equals} t.{c}")).collect::<Vec<_>>().join(" AND ");
        format!(
            "SELECT count(*) FROM {} t WHERE {outside} AND EXISTS (SELECT FROM (SELECT {columns} FROM {} t WHERE ({}) \
             AND NOT EXISTS (SELECT FROM {} s WHERE {kept})) p WHERE {})",
            self.child_item,
            self.parent_item,
            parent.condition(),
            parent.stage,
            refers("t", "p", self.key, &self.equals)
        )
    }

    /// The same after the writes: rows that refer to one which went and did not come back.
    pub fn left_behind_now(&self, parent: &Scope) -> String {
        format!(
            "SELECT count(*) FROM {} t WHERE EXISTS (SELECT FROM {} g WHERE {}) AND NOT EXISTS (SELECT FROM {} p WHERE {})",
            self.child_item,
            parent.gone,
            refers("t", "g", self.key, &self.equals),
            self.parent_item,
            refers("t", "p", self.key, &self.equals)
        )
    }
}

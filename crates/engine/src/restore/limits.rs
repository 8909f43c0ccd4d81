//! What a plan says of rows, and that the restore never does more: the plan's counts are its limits.
//!
//! Invariant (no-more-than-approved): a restore whose comparison asks for more writes to a table than
//! the approved plan said ends before anything is changed.

use lifeboat_model::{EntryKind, SourceName};
use lifeboat_source::postgres::describe::{TableDefinition, table_of_path};
use lifeboat_source::postgres::target::{LiveRows, LiveTable, OBJECTS, TableDiff, VerifiedRows};

use super::facts::{Compared, LivePart, PartFacts};
use super::plan::{Change, PartPlan};
use super::rows::{has_object, is_present, is_same, live_object, live_table};
use crate::Error;

/// The most that a restore may do to one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowsLimit {
    pub table: String,
    /// Rows inserted or updated.
    pub write: u64,
    pub delete: u64,
    /// What a comparison has found, where there was one.
    pub counted: Option<RowsCounted>,
    /// The primary keys of rows that differ and stay, the first thousand.
    pub kept_keys: Vec<String>,
}

/// What a comparison of a table's rows has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowsCounted {
    pub insert: u64,
    pub update: u64,
    pub delete: u64,
    pub equal: u64,
    /// Where later rows are kept: those that differ and stay, and those that the point does not have.
    pub kept: u64,
    pub newer: u64,
}

/// Rows by key are few, and a limit of all rows of their table says nothing: they are compared before
/// they are planned, unless so much would have to be read for it.
const COMPARED_BYTES_MAX: u64 = 256 << 20;

/// Whether a part is compared before it is planned though nobody asked for that.
pub(super) fn is_compared_anyway(part: &PartFacts) -> bool {
    let is_by_key = part.narrow.as_ref().is_some_and(|narrow| narrow.keys.is_some());
    let is_equal = || matches!(&part.live, LivePart::Rows(live) if is_same(part, live));
    let size = || part.wanted.iter().map(|entry| entry.metadata.size).sum::<u64>();
    is_by_key && (is_equal() || size() <= COMPARED_BYTES_MAX)
}

/// Rows by table: exact where they were compared, or where the site has none now; else upper limits.
pub(super) fn plan_rows(part: &PartFacts, live: &LiveRows, plan: &mut PartPlan) {
    plan.notes.push("counts are rows; one transaction, triggers and foreign-key actions not firing".into());
    if part.keeps_later {
        super::later::note_rows(part, plan);
    }
    if live.is_own && live.is_absent() {
        plan.notes.push(format!("it is gone: made again, with its structure of the point: {}", part.identity_now.path));
        plan.changes.push((Change::Add, part.identity_now.path.clone()));
    } else if live.is_own && !is_present(part) && !part.keeps_later {
        plan.notes.push(format!("it was not there at the point: dropped, with all in it: {}", part.identity_now.path));
        plan.changes.push((Change::Remove, part.identity_now.path.clone()));
    }
    if let Some(narrow) = &part.narrow {
        let some = if narrow.keys.is_some() { "the rows asked for in " } else { "" };
        plan.notes.push(format!("only {some}{}, and rows they refer to where those are missing", narrow.table));
    }
    if !part.narrowed.is_empty() {
        plan.notes.push(format!(
            "the restore wrote some rows of {}: whether they were changed since cannot be told",
            part.narrowed.join(", ")
        ));
    }
    match &part.compared {
        _ if is_same(part, live) => {
            plan.keep = live.tables.iter().map(|table| table.rows).sum::<u64>() + live.objects.len() as u64;
            plan.notes.clear();
            plan.changes.clear();
        }
        Some(Compared::Rows(Some(verified))) => plan_exactly(part, verified, plan),
        _ => plan_at_most(part, live, plan),
    }
}

/// Tables of which it is told otherwise whose a row is than when the snapshot was taken: rows that were
/// there then, and in nobody's snapshot, would be removed.
pub(super) fn other_rules(part: &PartFacts) -> impl Iterator<Item = String> {
    let live = match &part.live {
        LivePart::Rows(live) if is_present(part) && !part.keeps_later => Some(live),
        _ => None,
    };
    part.wanted.iter().filter_map(move |entry| {
        let EntryKind::Table { definition, .. } = &entry.kind else { return None };
        let now = live_table(live?, entry).filter(|now| now.rows > 0)?;
        let then = TableDefinition::from_json(definition).ok()?.rule?;
        let rule = now.rule.as_ref().filter(|rule| **rule != then)?;
        Some(format!(
            "whose a row is was told otherwise when the snapshot was taken, and rows that it does not have would be \
             removed: table=`{}`, then=`{then}`, now=`{rule}`",
            now.name
        ))
    })
}

fn plan_exactly(part: &PartFacts, verified: &VerifiedRows, plan: &mut PartPlan) {
    for diff in verified.tables() {
        plan.add += diff.insert;
        plan.replace += diff.update + diff.replace;
        plan.remove += diff.delete;
        plan.keep += diff.unchanged;
        plan.kept += diff.kept;
        plan.newer += diff.newer;
        plan.limits.push(RowsLimit {
            table: diff.table.to_string(),
            write: diff.insert + diff.update + diff.replace,
            delete: diff.delete + diff.replace,
            counted: Some(RowsCounted {
                insert: diff.insert,
                update: diff.update + diff.replace,
                delete: diff.delete,
                equal: diff.unchanged,
                kept: diff.kept,
                newer: diff.newer,
            }),
            kept_keys: verified
                .kept()
                .iter()
                .find(|kept| kept.table == diff.table)
                .map_or_else(Vec::new, |kept| kept.keys.clone()),
        });
        if diff.writes() == 0 {
            continue;
        }
        let change = match (diff.insert, diff.update + diff.replace, diff.delete) {
            (_, 0, 0) => Change::Add,
            (0, 0, _) => Change::Remove,
            _ => Change::Replace,
        };
        plan.changes.push((change, diff.table.to_string()));
    }
    plan.write_bytes = part.wanted.iter().map(|entry| entry.metadata.size).sum();
    plan.notes.extend(verified.notes().iter().cloned());
}

fn plan_at_most(part: &PartFacts, live: &LiveRows, plan: &mut PartPlan) {
    plan_objects_at_most(part, live, plan);
    for entry in part.wanted.iter() {
        let EntryKind::Table { rows, digest, .. } = entry.kind else { continue };
        plan.write_bytes += entry.metadata.size;
        let (path, table) = (entry.path.to_string(), table_of_path(&entry.path.to_string()));
        let now = live_table(live, entry);
        let is_chosen = !part.keeps_later && part.narrow.as_ref().is_none_or(|narrow| narrow.table == table);
        // Rows that are only referred to are added where they are missing.
        let delete = if is_chosen { now.map_or(0, |now| now.rows) } else { 0 };
        let limit = RowsLimit { table: table.to_string(), write: rows, delete, counted: None, kept_keys: Vec::new() };
        match now {
            Some(now) if now.digests.are(&digest) => {
                plan.keep += rows;
                plan.limits.push(RowsLimit { write: 0, delete: 0, ..limit });
                continue;
            }
            Some(LiveTable { rows: 0, .. }) | None => plan.changes.push((Change::Add, path)),
            Some(now) if is_chosen => {
                plan.notes.push(format!("{path}: {} rows now, {rows} at the point", now.rows));
                plan.changes.push((Change::Replace, path));
            }
            Some(_) => plan.changes.push((Change::Add, path)),
        }
        plan.add += limit.write;
        plan.remove += limit.delete;
        plan.limits.push(limit);
    }
    if plan.remove > 0 {
        plan.notes.push("counts are upper limits: --exact compares the rows first".into());
    }
    if !is_present(part) && !part.keeps_later {
        for table in live.tables.iter().filter(|table| table.rows > 0) {
            plan.remove += table.rows;
            plan.changes.push((Change::Remove, table.name.to_string()));
            let (table, delete) = (table.name.to_string(), table.rows);
            plan.limits.push(RowsLimit { table, write: 0, delete, counted: None, kept_keys: Vec::new() });
        }
    }
}

/// Large objects count like the rows of one table. One that no live row refers to may be there all the same.
fn plan_objects_at_most(part: &PartFacts, live: &LiveRows, plan: &mut PartPlan) {
    let (mut write, mut replace) = (0, 0);
    for entry in part.wanted.iter() {
        match has_object(live, entry) {
            None => {}
            Some(true) => plan.keep += 1,
            Some(false) => {
                plan.write_bytes += entry.metadata.size;
                replace += u64::from(live_object(live, entry).is_some());
                write += 1;
            }
        }
    }
    if write == 0 {
        return;
    }
    plan.add += write - replace;
    plan.replace += replace;
    plan.changes.push((if replace > 0 { Change::Replace } else { Change::Add }, OBJECTS.to_owned()));
    let table = OBJECTS.to_owned();
    plan.limits.push(RowsLimit { table, write, delete: 0, counted: None, kept_keys: Vec::new() });
}

/// Refuses a comparison that would do more than was approved. A pure decision.
pub(super) fn check_limits(source: &SourceName, limits: &[RowsLimit], diffs: &[TableDiff]) -> Result<(), Error> {
    for diff in diffs.iter().filter(|diff| diff.writes() > 0) {
        let (write, delete) = (diff.insert + diff.update + diff.replace, diff.delete + diff.replace);
        let limit = limits.iter().find(|limit| limit.table == diff.table.as_str());
        let (write_max, delete_max) = limit.map_or((0, 0), |limit| (limit.write, limit.delete));
        if write > write_max || delete > delete_max {
            return Err(Error::Conflict {
                detail: format!(
                    "the restore would do more than the approved plan said: part=`{source}`, table=`{}`, rows to \
                     write=`{write}`, planned at most=`{write_max}`, rows to delete=`{delete}`, planned at \
                     most=`{delete_max}`",
                    diff.table
                ),
                hint: "nothing was changed; the site was written to since: freeze it (hooks.freeze), and plan again"
                    .into(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_source::postgres::TableName;

    // Explains invariant: no-more-than-approved
    #[test]
    fn a_comparison_beyond_the_approved_counts_is_refused() {
        let check = |(insert, update, delete): (u64, u64, u64), limits: &[RowsLimit], want: bool| {
            let table = TableName::quoted("public.t");
            let (replace, unchanged, kept, newer) = (0, 5, 0, 0);
            let diff = TableDiff { table, insert, update, replace, delete, unchanged, kept, newer };
            let source = SourceName::new("app").unwrap();
            assert_eq!(check_limits(&source, limits, &[diff]).is_ok(), want, "{insert} {update} {delete} {limits:?}");
        };
        let limit =
            |table: &str| RowsLimit { table: table.into(), write: 3, delete: 2, counted: None, kept_keys: Vec::new() };
        check((1, 2, 2), &[limit("public.t")], true);
        check((2, 2, 0), &[limit("public.t")], false);
        check((0, 0, 3), &[limit("public.t")], false);
        check((0, 0, 0), &[], true);
        check((0, 0, 1), &[limit("public.other")], false);
    }
}

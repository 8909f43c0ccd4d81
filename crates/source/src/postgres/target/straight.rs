//! Rows of a site that has none now, loaded straight into its tables within the one transaction.
//!
//! Nothing is there to be compared with, so staging would only copy every row twice. The transaction
//! is opened, filled and proven when the restore verifies, and left open: the switch is its COMMIT.
//! Whatever is out of the ordinary (a value that somebody else holds, a row that does not fit, a
//! reference to nothing) ends it without a trace, and staging then finds out what exactly it is.

use super::super::Session;
use super::apply;
use super::fail::{Ask, Outcome};
use super::scope::Scope;
use super::sequences::raise;
use super::sql::Link;
use super::{Ready, RowsTarget, SwitchedRows, TableDiff, Work, compare, large_objects, prove, staging};

/// Whether rows can go straight in: the site has none, and nothing is known to be in the way.
pub(super) fn is_possible(work: &Work) -> bool {
    let is_plain = |scope: &Scope| scope.is_usable() && scope.retyped.is_empty() && scope.deferrable.is_empty();
    work.kept.tables.iter().all(|table| table.rows == 0) && work.scopes.iter().all(is_plain)
}

/// The transaction, proven and not yet committed; `None`: staging must find out what is in the way.
pub(super) fn load(target: &RowsTarget, work: &Work) -> Outcome<Option<Ready>> {
    let mut attempt = 1;
    loop {
        let loaded = apply::watched(target, |session| fill(session, target, work));
        match loaded {
            Err(fail) if fail.is_refused_value() => return Ok(None),
            Err(fail) if fail.is_passing() && attempt < apply::ATTEMPTS_MAX => attempt += 1,
            Err(fail) => return Err(fail),
            Ok((_, None)) => return Ok(None),
            Ok((session, Some(switched))) => {
                return Ok(Some(Ready::Transaction { session: Box::new(session), switched }));
            }
        }
    }
}

fn fill(session: &mut Session, target: &RowsTarget, work: &Work) -> Outcome<Option<SwitchedRows>> {
    let diffs: Vec<TableDiff> =
        work.scopes.iter().map(|scope| TableDiff { insert: scope.rows, ..TableDiff::none(&scope.name) }).collect();
    apply::begin(session, target, work, &diffs)?;
    let before = prove::counters(session, &target.schema)?;
    let mut checks = vec![apply::unchanged(session, target, work)?];
    apply::check_tables(session, target, work)?;
    let (steps, conflicts) = large_objects::decide(session, target, work, (&work.kept.objects, None))?;
    if !conflicts.is_empty() {
        return Ok(None);
    }
    large_objects::check_role(session, target, work, &steps)?;
    let before = large_objects::write_counted(session, target, (work, &steps), before)?;
    // What the tables themselves compute and check may name things as the application does.
    session.run("cannot set the search path", "SET LOCAL search_path TO DEFAULT")?;
    for (at, scope) in work.scopes.iter().enumerate().filter(|(_, scope)| scope.rows > 0) {
        staging::copy_in(session, scope, scope.name.as_str(), at, &work.spool)?;
    }
    session.run("cannot set the search path", "SET LOCAL search_path = ''")?;
    let restored = |scope: &Scope| format!("{} t WHERE ({})", scope.live_item(), scope.condition());
    let sequences = raise(session, &target.catalogue, &work.wanted.sequences, &work.scopes, &restored)?;
    prove::fire_deferred(session)?;
    let links = compare::links(&target.catalogue, &work.scopes);
    let mut proven = 0;
    for link in links.iter().filter(|link| link.child.is_some_and(|child| child.rows > 0)) {
        if refers_to_nothing(session, link)? {
            return Ok(None);
        }
        proven += 1;
    }
    checks.push(prove::passed("foreign keys", format!("{proven} of them have no orphans")));
    checks.push(prove::content(session, &work.scopes)?);
    checks.extend(large_objects::content(session, work, &steps)?);
    let after = prove::counters(session, &target.schema)?;
    checks.push(apply::counted(session, &before, &after, &work.scopes, &diffs)?);
    let mut notes: Vec<String> = work.scopes.iter().flat_map(|scope| scope.notes.iter().cloned()).collect();
    notes.extend(large_objects::give_counted(session, target, (work, &steps), &after)?);
    let tables = diffs.into_iter().chain(steps.diff()).collect();
    Ok(Some(SwitchedRows { tables, checks, sequences, notes, transaction: None }))
}

fn refers_to_nothing(session: &mut Session, link: &Link<'_>) -> Outcome<bool> {
    let Some(child) = link.child else { return Ok(false) };
    let action = format!("cannot check foreign key `{}` of `{}`", link.key.name, link.key.child);
    Ok(session.number(&action, &link.live_orphans(child))? > 0)
}

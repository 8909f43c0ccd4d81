//! Sequences: raised where restored rows would collide with what comes next, never lowered.

use super::super::describe::{SequenceState, literal};
use super::super::{Catalogue, Session, TableName};
use super::fail::{Ask, Outcome};
use super::scope::Scope;

/// A sequence that was raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaisedSequence {
    pub name: TableName,
    /// The last value that was given out before, and that counts as given out now.
    pub from: i64,
    pub till: i64,
}

/// The last value that counts as given out.
fn given_out(last_value: i64, is_called: bool, increment: i64) -> i64 {
    if is_called { last_value } else { last_value.saturating_sub(increment) }
}

/// Where a sequence must stand, `None`: where it is.
///
/// `in_rows`: the outermost value of its column in the rows restored.
fn raised(live: i64, snapshot: i64, in_rows: Option<i64>, increment: i64) -> Option<i64> {
    let outermost = |a: i64, b: i64| if increment < 0 { a.min(b) } else { a.max(b) };
    let wanted = in_rows.map_or(snapshot, |in_rows| outermost(snapshot, in_rows));
    (outermost(live, wanted) != live).then_some(wanted)
}

/// Raises those that stand too low. Sequences keep to no transaction: should it be rolled back, they
/// stay raised, which harms nobody. The greatest of both is taken again in the statement that sets,
/// so that values given out meanwhile are not given out twice.
///
/// `restored`: where the restored rows of a table are, as an SQL `FROM` item with what follows it.
pub(super) fn raise(
    session: &mut Session,
    catalogue: &Catalogue,
    wanted: &[SequenceState],
    scopes: &[Scope],
    restored: &dyn Fn(&Scope) -> String,
) -> Outcome<Vec<RaisedSequence>> {
    let mut done = Vec::new();
    for state in wanted {
        let Some(known) = catalogue.sequences.iter().find(|sequence| sequence.name.as_str() == state.name) else {
            continue;
        };
        let name = &known.name;
        let action = format!("cannot raise sequence `{name}`");
        let rows = session.rows(&action, &format!("SELECT last_value, is_called FROM {name}"))?;
        let Some(row) = rows.first() else { continue };
        let live = given_out(row.get(0), row.get(1), known.increment);
        let snapshot = given_out(state.last_value, state.is_called, known.increment);
        let in_rows = outermost_in_rows(session, state, scopes, known.increment, restored)?;
        let Some(till) = raised(live, snapshot, in_rows, known.increment) else { continue };
        let best = if known.increment < 0 { "least" } else { "greatest" };
        let set = format!(
            "SELECT pg_catalog.setval({}::pg_catalog.regclass, {best}({till}, (SELECT last_value FROM {name})), true)",
            literal(name.as_str())
        );
        session.rows(&action, &set)?;
        done.push(RaisedSequence { name: name.clone(), from: live, till });
    }
    Ok(done)
}

/// Puts new sequences where the snapshot had them.
pub(super) fn set(
    session: &mut Session,
    catalogue: &Catalogue,
    wanted: &[SequenceState],
) -> Outcome<Vec<RaisedSequence>> {
    let mut done = Vec::new();
    for state in wanted {
        let Some(known) = catalogue.sequences.iter().find(|sequence| sequence.name.as_str() == state.name) else {
            continue;
        };
        let name = literal(&state.name);
        let set =
            format!("SELECT pg_catalog.setval({name}::pg_catalog.regclass, {}, {})", state.last_value, state.is_called);
        session.rows(&format!("cannot set sequence `{}`", known.name), &set)?;
        let till = given_out(state.last_value, state.is_called, known.increment);
        done.push(RaisedSequence { name: known.name.clone(), from: 0, till });
    }
    Ok(done)
}

fn outermost_in_rows(
    session: &mut Session,
    state: &SequenceState,
    scopes: &[Scope],
    increment: i64,
    restored: &dyn Fn(&Scope) -> String,
) -> Outcome<Option<i64>> {
    let Some((table, column)) = &state.owner else { return Ok(None) };
    let scope = scopes.iter().find(|scope| scope.name.as_str() == table && scope.is_usable());
    let column = scope.and_then(|scope| scope.columns.iter().find(|known| known.name == *column));
    let (Some(scope), Some(column)) = (scope, column) else { return Ok(None) };
    let best = if increment < 0 { "min" } else { "max" };
    let query = format!("SELECT {best}({})::int8 FROM {}", column.quoted, restored(scope));
    let rows = session.rows("cannot look for the highest number", &query)?;
    Ok(rows.first().and_then(|row| row.get(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_only_ever_raised() {
        for (live, snapshot, in_rows, increment, want) in [
            (10, 5, None, 1, None),
            (10, 5, Some(10), 1, None),
            (10, 12, None, 1, Some(12)),
            (10, 5, Some(40), 1, Some(40)),
            (-10, -5, None, -1, None),
            (-10, -12, Some(-40), -1, Some(-40)),
            (0, 0, None, 1, None),
        ] {
            assert_eq!(raised(live, snapshot, in_rows, increment), want, "{live} {snapshot} {in_rows:?} {increment}");
        }
        assert_eq!(given_out(1, false, 1), 0);
        assert_eq!(given_out(7, true, 1), 7);
    }
}

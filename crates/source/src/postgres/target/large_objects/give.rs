//! Whose a large object is that was made: owner, grants, comment.

use std::collections::{BTreeMap, BTreeSet};

use super::super::super::Session;
use super::super::super::large_objects::{LargeObjectDefinition, WantedLargeObject};
use super::super::super::structure::ident;
use super::super::fail::{Ask, Outcome};
use super::super::prove::{self, Counters};
use super::super::{RowsTarget, Work};
use super::{OF_PROPERTIES, Step, Steps, unplanned, written};
use crate::postgres::describe::literal;

/// Says whose the made objects are; gives what could not be said.
pub(in super::super) fn give(session: &mut Session, work: &Work, steps: &Steps) -> Outcome<Vec<String>> {
    let created = || {
        let all = work.wanted.objects.iter().zip(&steps.steps).filter(|(_, step)| **step == Step::Create);
        all.map(|(object, _)| object)
    };
    if created().next().is_none() {
        return Ok(Vec::new());
    }
    let action = "cannot say whose a large object is";
    // What is a superuser's and cannot be given to him stays ours: he may use it all the same.
    let query = "SELECT rolname::text, rolname = current_user OR (rolsuper AND NOT pg_has_role(oid, 'MEMBER')), \
                 current_user::text FROM pg_roles";
    let rows = session.rows(action, query)?;
    let roles: BTreeMap<String, bool> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut gone: BTreeSet<&str> = BTreeSet::new();
    for WantedLargeObject { oid, definition, .. } in created() {
        let statements = statements(*oid, definition, &roles, &mut gone);
        if !statements.is_empty() {
            session.run(&format!("{action}: large object {oid}"), &statements)?;
        }
    }
    let note =
        |role: &&str| format!("role `{role}` is gone: what it owned or was granted of large objects is not so now");
    let mut notes: Vec<String> = gone.iter().map(note).collect();
    let us: String = rows.first().map(|row| row.get(2)).unwrap_or_default();
    let is_kept = |owner: &String| *owner != us && roles.get(owner) == Some(&true);
    let kept = created().filter(|object| is_kept(&object.definition.owner)).count();
    if kept > 0 {
        let us = ident(&us);
        notes.push(format!(
            "{kept} large objects that a superuser owned are owned by {us} now: ALTER LARGE OBJECT … OWNER TO changes that"
        ));
    }
    Ok(notes)
}

/// Owner, grants and comment of one object. A role that is gone is passed over, and noted.
fn statements<'d>(
    oid: u32,
    definition: &'d LargeObjectDefinition,
    roles: &BTreeMap<String, bool>,
    gone: &mut BTreeSet<&'d str>,
) -> String {
    let mut statements = Vec::new();
    if let Some(comment) = &definition.comment {
        statements.push(format!("COMMENT ON LARGE OBJECT {oid} IS {}", literal(comment)));
    }
    let owner = definition.owner.as_str();
    match roles.get(owner) {
        None => {
            gone.insert(owner);
        }
        Some(true) => {}
        Some(false) => statements.push(format!("ALTER LARGE OBJECT {oid} OWNER TO {}", ident(owner))),
    }
    if let Some(grants) = definition.grants.as_ref().filter(|_| roles.contains_key(owner)) {
        statements.push(format!("REVOKE ALL ON LARGE OBJECT {oid} FROM PUBLIC, {}", ident(owner)));
        for (grantee, privilege, is_grantable) in grants {
            let to = match grantee {
                Some(role) if !roles.contains_key(role) => {
                    gone.insert(role);
                    continue;
                }
                Some(role) => ident(role),
                None => "PUBLIC".to_owned(),
            };
            let on = if *is_grantable { " WITH GRANT OPTION" } else { "" };
            statements.push(format!("GRANT {privilege} ON LARGE OBJECT {oid} TO {to}{on}"));
        }
    }
    statements.join("; ")
}

/// The same within a transaction whose writes are counted: nothing but the objects' properties is written.
pub(in super::super) fn give_counted(
    session: &mut Session,
    target: &RowsTarget,
    (work, steps): (&Work, &Steps),
    before: &Counters,
) -> Outcome<Vec<String>> {
    if !steps.writes() {
        return Ok(Vec::new());
    }
    let notes = give(session, work, steps)?;
    let after = prove::counters(session, &target.schema)?;
    let wrote = written(before, &after).find(|(name, wrote)| *wrote != (0, 0, 0) && !OF_PROPERTIES.contains(name));
    match wrote {
        None => Ok(notes),
        Some((name, wrote)) => Err(unplanned(session, format!("table=`{name}`: rows=`{wrote:?}`"))),
    }
}

//! Large objects of a restore: what becomes of each is decided, written, and read back, in the
//! transaction of the rows.
//!
//! ```text
//! absent                                       make it, under its number
//! equal                                        leave it
//! other content, only the site's rows refer    overwrite it: the undo holds what was there
//! other content, else                          a conflict: nobody's undo would hold it
//! ```
//!
//! Invariant (no-object-of-others): an object that rows outside the site refer to, or none of the
//! site's live rows, is never written.
//!
//! Writing them is in `write`, saying whose they are in `give`.
//!
//! None is unlinked: what only rows referred to that went stays, for `vacuumlo`.

mod give;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_model::Check;

use super::super::large_objects::{self, FoundLargeObject};
use super::super::structure::ident;
use super::super::tenancy::SiteTable;
use super::super::{Catalogue, Session, Table, TableKind, TableName, Tenancy};
use super::fail::{Ask, Fail, Outcome};
use super::prove::{self, Counters, Writes};
use super::{Conflict, ConflictKind, KeptRows, LiveLargeObject, RowsTarget, TableDiff, Work};
use crate::postgres::describe::literal;

pub(super) use give::{give, give_counted};
pub(super) use write::{write, write_counted};

/// How the objects are called together where tables are listed; no table is called so.
pub const OBJECTS: &str = "large objects";

/// The catalogue's tables that making a large object, and saying whose it is, writes besides its bytes.
const OF_PROPERTIES: [&str; 3] =
    ["pg_catalog.pg_largeobject_metadata", "pg_catalog.pg_shdepend", "pg_catalog.pg_description"];

/// What becomes of one wanted object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Create,
    /// Over an object of so many bytes.
    Overwrite {
        size: u64,
    },
    Keep,
    /// No row that is restored refers to it.
    Leave,
    /// It is the site's, holds something else now, and later work is kept.
    Stay,
}

/// One step a wanted object, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Steps {
    steps: Vec<Step>,
    /// Those alone are asked for; `None`: all.
    asked: Option<BTreeSet<u32>>,
}

impl Steps {
    fn number(&self, of: impl Fn(&Step) -> bool) -> u64 {
        self.steps.iter().filter(|step| of(step)).count() as u64
    }

    /// As if the objects were the rows of a table; `None`: none is wanted.
    pub fn diff(&self) -> Option<TableDiff> {
        let diff = TableDiff {
            insert: self.number(|step| *step == Step::Create),
            update: self.number(|step| matches!(step, Step::Overwrite { .. })),
            unchanged: self.number(|step| *step == Step::Keep),
            kept: self.number(|step| *step == Step::Stay),
            ..TableDiff::none(&TableName::quoted(OBJECTS))
        };
        (diff.writes() + diff.unchanged + diff.kept > 0).then_some(diff)
    }

    pub fn asked(&self) -> Option<BTreeSet<u32>> {
        self.asked.clone()
    }

    fn writes(&self) -> bool {
        self.diff().is_some_and(|diff| diff.writes() > 0)
    }
}

/// The site's live objects that may be read, as the session's snapshot has them.
pub(super) fn live(session: &mut Session, target: &RowsTarget) -> Outcome<Vec<LiveLargeObject>> {
    let refers = |one: &SiteTable| one.table.columns.iter().any(|column| column.is_large_object);
    let may_refer = target.home.tenancy == Tenancy::Database || target.live.values().any(refers);
    if !may_refer || !large_objects::are_any(session)? {
        return Ok(Vec::new());
    }
    let oids = if target.home.tenancy == Tenancy::Database {
        large_objects::all(session)?
    } else {
        let tables: Vec<SiteTable> = target.live.values().cloned().collect();
        large_objects::of_rows(session, &tables)?
    };
    let found = large_objects::details(session, &oids)?;
    let mut live = Vec::new();
    for FoundLargeObject { oid, .. } in found.into_iter().filter(|object| object.is_readable) {
        let (size, digest) = large_objects::digest(session, oid)?;
        live.push(LiveLargeObject { oid, size, digest });
    }
    Ok(live)
}

/// Decides what becomes of each wanted object. Reads only.
///
/// `live`: the objects that the site's live rows refer to, as they are now. `asked`: those alone.
pub(super) fn decide(
    session: &mut Session,
    target: &RowsTarget,
    work: &Work,
    (live, asked): (&[LiveLargeObject], Option<BTreeSet<u32>>),
) -> Outcome<(Steps, Vec<Conflict>)> {
    let wanted = &work.wanted.objects;
    let is_asked = |oid: u32| asked.as_ref().is_none_or(|asked| asked.contains(&oid));
    let oids: Vec<u32> = wanted.iter().map(|object| object.oid).filter(|oid| is_asked(*oid)).collect();
    let found = large_objects::details(session, &oids)?;
    let found: BTreeMap<u32, FoundLargeObject> = found.into_iter().map(|object| (object.oid, object)).collect();
    let own: BTreeMap<u32, &LiveLargeObject> = live.iter().map(|live| (live.oid, live)).collect();
    let (mut steps, mut conflicts, mut overwritten) = (Vec::new(), Vec::new(), Vec::new());
    for object in wanted {
        let own = own.get(&object.oid).copied();
        steps.push(match (found.get(&object.oid), own) {
            _ if !is_asked(object.oid) => Step::Leave,
            (None, _) => Step::Create,
            (Some(_), Some(own)) if own.digest == object.digest => Step::Keep,
            (Some(_), Some(_)) if target.keeps_later => Step::Stay,
            (Some(_), Some(own)) => {
                overwritten.push(object.oid);
                Step::Overwrite { size: own.size }
            }
            (Some(found), None) if !found.is_readable => return Err(not_readable(session, target, found)),
            (Some(_), None) => {
                if large_objects::digest(session, object.oid)?.1 != object.digest {
                    let detail = "holds other content now, and no row of the site refers to it";
                    conflicts.push(conflict(object.oid, detail));
                }
                Step::Keep
            }
        });
    }
    conflicts.extend(others(session, target, &overwritten)?);
    Ok((Steps { steps, asked }, conflicts))
}

fn conflict(oid: u32, detail: &str) -> Conflict {
    let detail = format!("large object {oid} {detail}");
    Conflict::new(&TableName::quoted(OBJECTS), ConflictKind::ObjectElsewhere, 1, detail)
}

/// Objects about to be overwritten that rows outside the site refer to, or may refer to.
fn others(session: &mut Session, target: &RowsTarget, oids: &[u32]) -> Outcome<Vec<Conflict>> {
    if oids.is_empty() || target.home.tenancy == Tenancy::Database {
        return Ok(Vec::new());
    }
    let action = "cannot look who refers to large objects";
    let all = Catalogue::read(&mut **session, None).map_err(|error| Fail::new(session, action, &error))?;
    let mut conflicts = Vec::new();
    let has_rows = |table: &&Table| table.holds_rows() && table.kind != TableKind::Foreign;
    for table in all.tables.values().filter(has_rows) {
        for column in table.columns.iter().filter(|column| column.is_large_object) {
            if !table.privileges[0] {
                let detail = format!("may be referred to from `{}`, which the role may not read", table.name);
                conflicts.extend(oids.first().map(|oid| conflict(*oid, &detail)));
                continue;
            }
            let own = target.live.get(&table.name).map_or("false", |live| live.condition.as_str());
            let query = format!(
                "SELECT DISTINCT t.{0}::pg_catalog.oid FROM {1} t WHERE t.{0}::pg_catalog.oid = ANY ($1) AND ({own}) IS NOT TRUE",
                column.quoted,
                table.from_item()
            );
            let rows = session.query(&query, &[&oids]).map_err(|error| Fail::new(session, action, &error))?;
            let detail = format!("differs, and rows outside the site refer to it too: in `{}`", table.name);
            conflicts.extend(rows.iter().map(|row| conflict(row.get(0), &detail)));
        }
    }
    Ok(conflicts)
}

fn not_readable(session: &Session, target: &RowsTarget, object: &FoundLargeObject) -> Fail {
    let role = ident(&target.catalogue.server.role);
    let detail =
        format!("large object {} may not be read, to compare it: owner=`{}`", object.oid, object.definition.owner);
    let hint = format!("GRANT SELECT ON LARGE OBJECT {} TO {role}; or GRANT pg_read_all_data TO {role};", object.oid);
    super::privileges::refusal(session, &detail, &hint)
}

/// Refuses a role that may not write what is to be overwritten, or not give away what is to be made. A
/// superuser's need not be given away: to be a member of one is more than a restore may ask for.
pub(super) fn check_role(session: &mut Session, target: &RowsTarget, work: &Work, steps: &Steps) -> Outcome<()> {
    let (role, mut missing) = (ident(&target.catalogue.server.role), BTreeSet::new());
    let of = |is: fn(&Step) -> bool| {
        let all = work.wanted.objects.iter().zip(&steps.steps).filter(move |(_, step)| is(step));
        all.map(|(object, _)| object)
    };
    let overwritten: Vec<u32> = of(|step| matches!(step, Step::Overwrite { .. })).map(|object| object.oid).collect();
    let found = large_objects::details(session, &overwritten)?;
    for object in found.iter().filter(|object| !object.is_writable) {
        missing.insert((
            format!("it may not write large object {}, of `{}`", object.oid, object.definition.owner),
            format!("GRANT UPDATE ON LARGE OBJECT {} TO {role};", object.oid),
        ));
    }
    for owner in
        of(|step| *step == Step::Create).map(|object| object.definition.owner.as_str()).collect::<BTreeSet<_>>()
    {
        let query = format!(
            "SELECT count(*) FROM pg_roles r WHERE r.rolname = {} AND NOT r.rolsuper AND NOT pg_has_role(r.oid, 'MEMBER')",
            literal(owner)
        );
        if session.number("cannot ask for the role's privileges", &query)? > 0 {
            missing.insert((
                format!("it may not make large objects that `{owner}` owns"),
                format!("GRANT {} TO {role};", ident(owner)),
            ));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let detail: Vec<&str> = missing.iter().map(|(what, _)| what.as_str()).collect();
    let grants: Vec<&str> = missing.iter().map(|(_, grant)| grant.as_str()).collect();
    Err(super::privileges::refusal(session, &format!("role {role}: {}", detail.join("; ")), &grants.join(" ")))
}

/// The objects hold what the snapshot says; `None`: none is wanted.
pub(super) fn content(session: &mut Session, work: &Work, steps: &Steps) -> Outcome<Option<Check>> {
    let mut equal = 0;
    for (object, step) in
        work.wanted.objects.iter().zip(&steps.steps).filter(|(_, step)| !matches!(step, Step::Leave | Step::Stay))
    {
        if large_objects::digest(session, object.oid)? != (object.size, object.digest) {
            let detail = format!("large object=`{}`, step=`{step:?}`", object.oid);
            let hint = "a trigger that fires always may write it: `lifeboat sources inspect` lists them; else run \
                        `lifeboat check` on the site";
            return Err(prove::refuted(session, "a large object is not the snapshot's", detail, hint));
        }
        equal += 1;
    }
    let detail = || format!("{equal} of them, compared by digest");
    Ok((equal > 0).then(|| prove::passed("large objects equal the snapshot", detail())))
}

/// Those that differ and stay; `None`: there is none.
pub(super) fn kept(work: &Work, steps: &Steps) -> Option<KeptRows> {
    let all = work.wanted.objects.iter().zip(&steps.steps).filter(|(_, step)| **step == Step::Stay);
    let keys: Vec<String> = all.map(|(object, _)| object.oid.to_string()).collect();
    (!keys.is_empty()).then(|| KeptRows { table: TableName::quoted(OBJECTS), rows: keys.len() as u64, keys })
}

/// What stays although rows that referred to it go.
pub(super) fn left_over(work: &Work, steps: &Steps, live: &[LiveLargeObject]) -> Option<String> {
    let wanted: BTreeSet<u32> = work.wanted.objects.iter().map(|object| object.oid).collect();
    let left = live.iter().filter(|live| !wanted.contains(&live.oid)).count();
    (left > 0 && steps.asked.is_none()).then(|| {
        format!("{left} large objects that the point does not have stay: vacuumlo removes those that no row refers to")
    })
}

fn unplanned(session: &Session, detail: String) -> Fail {
    let hint = "somebody else wrote to the same large object, or an event trigger that fires always writes: see `lifeboat \
                sources inspect`, and run the same command again";
    prove::refuted(session, "it wrote large objects otherwise than planned", detail, hint)
}

/// What was written between two counts, table by table.
fn written<'c>(before: &'c Counters, after: &'c Counters) -> impl Iterator<Item = (&'c str, Writes)> {
    after.iter().map(|(key, now)| {
        let was = before.get(key).copied().unwrap_or_default();
        let wrote = (now.0.saturating_sub(was.0), now.1.saturating_sub(was.1), now.2.saturating_sub(was.2));
        (key.1.as_str(), wrote)
    })
}

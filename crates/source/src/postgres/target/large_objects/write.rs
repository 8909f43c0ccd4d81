//! Writing the bytes of large objects, and the proof that nothing else was written: what the server
//! counts in its catalogue is what was planned.

use super::super::super::Session;
use super::super::super::large_objects::{self, WantedLargeObject};
use super::super::fail::{Ask, Fail, Outcome};
use super::super::prove::{self, Counters};
use super::super::{LiveLargeObject, RowsTarget, Work, apply};
use super::{OF_PROPERTIES, Step, Steps, unplanned, written};

/// Bytes written by one statement: whole pages of the server, whatever their size.
const PIECE: usize = 1 << 20;
const BYTES: &str = "pg_catalog.pg_largeobject";
/// For writing (`INV_WRITE`).
const WRITE: i32 = 0x20000;

/// Writes the bytes of those that are made or overwritten.
pub(in super::super) fn write(session: &mut Session, work: &Work, steps: &Steps) -> Outcome<()> {
    if !steps.writes() {
        return Ok(());
    }
    let put = session.prepare("SELECT lo_put($1, $2, $3)");
    let put = put.map_err(|error| Fail::new(session, "cannot write large objects", &error))?;
    let mut buffer = vec![0; PIECE];
    for (at, (object, step)) in work.wanted.objects.iter().zip(&steps.steps).enumerate() {
        let action = format!("cannot write large object {}", object.oid);
        let live_size = match step {
            Step::Keep | Step::Leave | Step::Stay => continue,
            Step::Create => {
                session.rows(&action, &format!("SELECT lo_create({})", object.oid))?;
                0
            }
            Step::Overwrite { size } => *size,
        };
        let (slot, mut offset) = (work.wanted.tables.len() + at, 0_u64);
        loop {
            let len = work.spool.read_at(slot, offset, &mut buffer)?;
            if len == 0 {
                break;
            }
            let piece = buffer.get(..len).unwrap_or_default();
            let done = session.execute(&put, &[&object.oid, &offset.cast_signed(), &piece]);
            done.map_err(|error| Fail::new(session, &action, &error))?;
            offset += len as u64;
        }
        if live_size > object.size {
            let cut = format!(
                "SELECT lo_truncate64(o.fd, {}), lo_close(o.fd) FROM (SELECT lo_open({}, {WRITE}) AS fd OFFSET 0) o",
                object.size, object.oid
            );
            session.rows(&action, &cut)?;
        }
    }
    Ok(())
}

/// The same within a transaction whose writes are counted; gives the counters from there on.
pub(in super::super) fn write_counted(
    session: &mut Session,
    target: &RowsTarget,
    (work, steps): (&Work, &Steps),
    before: Counters,
) -> Outcome<Counters> {
    if !steps.writes() {
        return Ok(before);
    }
    write(session, work, steps)?;
    let after = prove::counters(session, &target.schema)?;
    let rows = session.rows("cannot ask for the size of a page", "SELECT current_setting('block_size')::int4 / 4")?;
    let page_len = rows.first().map_or(2048, |row| u64::from(row.get::<_, i32>(0).unsigned_abs()));
    check(&before, &after, &planned(&work.wanted.objects, &steps.steps, page_len))
        .map_err(|detail| unplanned(session, detail))?;
    nobody_else_wrote(target, work, steps)?;
    Ok(after)
}

/// What was overwritten is what was kept for the undo.
///
/// Large objects are written over what is committed now, not over what the transaction's snapshot has,
/// so that nothing refuses to write over somebody's newer bytes. By now the pages are locked: what
/// another session sees of them stays.
fn nobody_else_wrote(target: &RowsTarget, work: &Work, steps: &Steps) -> Outcome<()> {
    let all = work.wanted.objects.iter().zip(&steps.steps);
    let mut overwritten = all.filter(|(_, step)| matches!(step, Step::Overwrite { .. })).peekable();
    if overwritten.peek().is_none() {
        return Ok(());
    }
    let mut other = target.server.connect()?;
    for (object, _) in overwritten {
        let (size, digest) = large_objects::digest(&mut other, object.oid)?;
        let committed = LiveLargeObject { oid: object.oid, size, digest };
        if !work.kept.objects.contains(&committed) {
            return Err(apply::written_to(target.server.source_name(), &format!("large object {}", object.oid)));
        }
    }
    Ok(())
}

/// Pages that writing the bytes touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Planned {
    created: u64,
    /// Pages inserted where there were none, otherwise updated: of a sparse object nobody can tell before.
    pages: u64,
    /// Of those at least inserted: the pages of new objects.
    inserted_min: u64,
    /// Pages that may go where an object becomes shorter.
    deleted_max: u64,
}

/// What writing the bytes will be counted as; pure. An object that becomes shorter has the page at its
/// new end written once more, and those behind it deleted.
fn planned(wanted: &[WantedLargeObject], steps: &[Step], page_len: u64) -> Planned {
    let mut planned = Planned::default();
    for (object, step) in wanted.iter().zip(steps) {
        let pages = object.size.div_ceil(page_len);
        match step {
            Step::Keep | Step::Leave | Step::Stay => {}
            Step::Create => {
                planned.created += 1;
                planned.pages += pages;
                planned.inserted_min += pages;
            }
            Step::Overwrite { size } if *size > object.size => {
                planned.pages += pages + 1;
                planned.deleted_max += size.div_ceil(page_len) - object.size / page_len;
            }
            Step::Overwrite { .. } => planned.pages += pages,
        }
    }
    planned
}

/// Compares what was written with what was planned; pure.
fn check(before: &Counters, after: &Counters, planned: &Planned) -> Result<(), String> {
    let mut seen = (0, 0);
    for (name, (inserted, updated, deleted)) in written(before, after) {
        let is_planned = match name {
            BYTES => {
                seen.0 = inserted + updated;
                inserted + updated == planned.pages
                    && inserted >= planned.inserted_min
                    && deleted <= planned.deleted_max
            }
            name if name == OF_PROPERTIES[0] => {
                seen.1 = inserted;
                (inserted, updated, deleted) == (planned.created, 0, 0)
            }
            // That roles own a new object, or may use it by default.
            name if name == OF_PROPERTIES[1] => updated + deleted == 0 && (inserted == 0 || planned.created > 0),
            _ => inserted + updated + deleted == 0,
        };
        if !is_planned {
            return Err(format!(
                "table=`{name}`: inserted {inserted}, updated {updated}, deleted {deleted}, planned {planned:?}"
            ));
        }
    }
    if seen != (planned.pages, planned.created) {
        return Err(format!("written=`{seen:?}`, planned {planned:?}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_planned_pages_pass_and_nothing_else_of_the_catalogue() {
        let object = |size| WantedLargeObject { oid: 1, size, digest: [0; 32], definition: Default::default() };
        let wanted = [object(5000), object(2048), object(100), object(7)];
        let steps = [Step::Create, Step::Overwrite { size: 9000 }, Step::Overwrite { size: 50 }, Step::Keep];
        // Three pages are made; of five others one is over, and three may go.
        let plan = planned(&wanted, &steps, 2048);
        assert_eq!(plan, Planned { created: 1, pages: 6, inserted_min: 3, deleted_max: 4 });
        let check = |wrote: &[(&str, (u64, u64, u64))], want: bool| {
            let after: Counters = wrote.iter().map(|(name, wrote)| ((0, (*name).to_owned()), *wrote)).collect();
            assert_eq!(check(&Counters::new(), &after, &plan).is_ok(), want, "{wrote:?}");
        };
        let [metadata, dependencies, comments] = OF_PROPERTIES;
        let made = (metadata, (1, 0, 0));
        check(&[(BYTES, (3, 3, 3)), made, (dependencies, (1, 0, 0))], true);
        check(&[(BYTES, (4, 2, 0)), made], true); // a page that was a hole
        for other in [(2, 4, 3), (3, 4, 3), (3, 2, 3), (3, 3, 5), (0, 0, 0)] {
            check(&[(BYTES, other), made], false);
        }
        check(&[made], false);
        check(&[(BYTES, (3, 3, 3))], false);
        for more in [(metadata, (2, 0, 0)), (metadata, (1, 1, 0)), (metadata, (1, 0, 1))] {
            check(&[(BYTES, (3, 3, 3)), more], false);
        }
        for more in [(dependencies, (0, 0, 1)), (comments, (1, 0, 0)), ("public.issues", (0, 1, 0))] {
            check(&[(BYTES, (3, 3, 3)), made, more], false);
        }
    }
}

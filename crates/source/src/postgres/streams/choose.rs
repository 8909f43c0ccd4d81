//! Which tables are read once for all sites: a comparison of the planner's own estimates.
//!
//! The rule: a table is read once when that costs less than one query a site, by the planner's
//! costs: `all < sites × (one + 50)`. `one` is the query of a typical site (the median of three),
//! `all` the read of the whole table, sorted. 50 is what a query costs besides what the planner counts:
//! a round trip, planning, `COPY` begun and ended.
//!
//! Small tables, of about 32 MB together, are read over one connection and held. Of the others eight at most,
//! those that save most: each needs a connection until the last site is read.

use super::super::describe::select_rows;
use super::super::{Session, Table, TableKind};

/// Tables read at once, each over a connection of its own.
const STREAMS_MAX: usize = 8;
/// A table of at most this is held in memory, and all held ones together are about so large.
const HELD_BYTES_EACH: f64 = 4e6;
const HELD_BYTES: f64 = 32e6;
/// A query's cost besides the planner's, in the planner's units: measured, about half a millisecond.
const QUERY_COST: f64 = 50.0;

/// What the planner says of one table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Costs {
    /// Of one site's rows.
    pub one: f64,
    /// Of all rows, in the order of sites.
    pub all: f64,
    /// What there is to sort, or to hold.
    pub bytes: f64,
}

impl Costs {
    /// What reading the table once spares, with so many sites; not above zero: nothing.
    fn saved(self, sites: usize) -> f64 {
        // Exact for any number below 2^52.
        sites as f64 * (self.one + QUERY_COST) - self.all
    }
}

/// The tables to be read once, by their numbers, the most worthwhile first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// Each over a connection of its own.
    pub streamed: Vec<usize>,
    /// One after the other over one connection, into memory.
    pub held: Vec<usize>,
}

pub(super) fn choose(costs: &[Option<Costs>], sites: usize) -> Choice {
    let mut worthwhile: Vec<(f64, usize, f64)> = Vec::new();
    for (at, costs) in costs.iter().enumerate() {
        worthwhile.extend(costs.map(|costs| (costs.saved(sites), at, costs.bytes)));
    }
    worthwhile.retain(|(saved, ..)| *saved > 0.0);
    worthwhile.sort_by(|(a, ..), (b, ..)| b.total_cmp(a));
    let (mut choice, mut held_bytes) = (Choice::default(), 0.0);
    for (_, at, bytes) in worthwhile {
        if bytes <= HELD_BYTES_EACH && held_bytes + bytes <= HELD_BYTES {
            held_bytes += bytes;
            choice.held.push(at);
        } else if choice.streamed.len() < STREAMS_MAX {
            choice.streamed.push(at);
        }
    }
    choice
}

/// Asks the planner; `None`: it gave no answer that we understand.
pub(super) fn costs_of(
    session: &mut Session,
    table: &Table,
    all: &str,
    conditions: &[String],
) -> Result<Option<Costs>, postgres::Error> {
    let mut ones = Vec::new();
    for condition in conditions {
        let Some(one) = explain(session, &select_rows(table, condition))? else { return Ok(None) };
        ones.push(one.0);
    }
    ones.sort_by(f64::total_cmp);
    let (Some(one), Some((all, bytes))) = (ones.get(ones.len() / 2).copied(), explain(session, all)?) else {
        return Ok(None);
    };
    Ok(Some(Costs { one, all, bytes: size_of(session, table)?.max(bytes) }))
}

/// Of the table and its partitions, as stored. The planner does not count values that are stored apart.
fn size_of(session: &mut Session, table: &Table) -> Result<f64, postgres::Error> {
    if table.kind == TableKind::Foreign {
        return Ok(f64::INFINITY); // who knows
    }
    // The tree of a table that is neither partition nor partitioned is empty.
    let size = "SELECT coalesce(pg_catalog.sum(pg_catalog.pg_table_size(relid)), \
                pg_catalog.pg_table_size($1::pg_catalog.oid::pg_catalog.regclass))::pg_catalog.float8 \
                FROM pg_catalog.pg_partition_tree($1::pg_catalog.oid::pg_catalog.regclass)";
    Ok(session.query_one(size, &[&table.oid])?.get::<_, Option<f64>>(0).unwrap_or(f64::INFINITY))
}

/// The query's whole cost, and the bytes of its rows.
fn explain(session: &mut Session, query: &str) -> Result<Option<(f64, f64)>, postgres::Error> {
    let messages = session.simple_query(&format!("EXPLAIN (FORMAT JSON) {query}"))?;
    let mut text = String::new();
    for message in &messages {
        if let postgres::SimpleQueryMessage::Row(row) = message {
            text.push_str(row.get(0).unwrap_or_default());
        }
    }
    let Ok(answer) = serde_json::from_str::<serde_json::Value>(&text) else { return Ok(None) };
    let of = |key: &str| answer.pointer(&format!("/0/Plan/{key}")).and_then(serde_json::Value::as_f64);
    Ok(of("Total Cost").zip(of("Plan Rows").zip(of("Plan Width")).map(|(rows, width)| rows * width)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_once_when_the_planner_finds_it_cheaper_than_a_query_a_site() {
        const LARGE: f64 = 1e9;
        let check = |costs: &[(f64, f64, f64)], sites: usize, streamed: &[usize], held: &[usize]| {
            let costs: Vec<_> =
                costs.iter().map(|(one, all, bytes)| Some(Costs { one: *one, all: *all, bytes: *bytes })).collect();
            let want = Choice { streamed: streamed.to_vec(), held: held.to_vec() };
            assert_eq!(choose(&costs, sites), want, "{costs:?} {sites}");
        };
        check(&[], 1000, &[], &[]);
        // An index on the tenant, rows of a site together: dear to sort, cheap to look up.
        check(&[(10.0, 100_000.0, LARGE)], 1000, &[], &[]);
        check(&[(60.0, 100_000.0, LARGE)], 1000, &[0], &[]);
        check(&[(60.0, 100_000.0, LARGE)], 500, &[], &[]);
        // No index: every site would read it whole.
        check(&[(50_000.0, 60_000.0, LARGE), (200.0, 60_000.0, LARGE)], 1000, &[0, 1], &[]);
        check(&[(200.0, 60_000.0, LARGE), (50_000.0, 60_000.0, LARGE)], 1000, &[1, 0], &[]);
        check(&[(0.0, 10.0, LARGE); 12], 1000, &[0, 1, 2, 3, 4, 5, 6, 7], &[]);
        check(&[(0.0, 10.0, 1e3), (9.0, 10.0, LARGE), (0.0, 60_000.0, 1e3), (8.0, 10.0, 1e3)], 1000, &[1], &[3, 0]);
        // Nine of them are all that is held.
        check(&[(0.0, 10.0, 3.5e6); 20], 1000, &[9, 10, 11, 12, 13, 14, 15, 16], &[0, 1, 2, 3, 4, 5, 6, 7, 8]);
        let known = Some(Costs { one: 9.0, all: 9.0, bytes: LARGE });
        assert_eq!(choose(&[None, known], 20).streamed, [1]);
    }
}

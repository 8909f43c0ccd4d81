//! Which tables are read once for all sites, and how: a comparison of the planner's own estimates.
//!
//! ```text
//! looked up   for each site in its order: its rows by an index, sorted by key     no sort of the whole, starts at once
//! sorted      the whole table by site and key                                     needs no index
//! ```
//!
//! The rule: a table is sorted where `4 × sorted < looked up`, by the planner's costs, otherwise looked up. Sorting
//! wide rows is dearer than the planner says: measured on a cached database, with tables of 300 MB, both took the
//! same time where it put the sort at a fourth. Where the database fits into `effective_cache_size`, a page is taken
//! to cost 0.02; the planner's own costs are those of a disk.
//!
//! Tables that spare most are chosen: a query for each site would cost what looking up costs, and 50 besides, for a
//! round trip, planning, `COPY` begun and ended. Small tables, of about 32 MB together, are read over one connection
//! and held. Of the others eight at most: each needs a connection until the last site is read.

use super::super::{Session, Table, TableKind};

/// Tables read at once, each over a connection of its own.
const STREAMS_MAX: usize = 8;
/// A table of at most this is held in memory, and all held ones together are about so large.
const HELD_BYTES_EACH: f64 = 4e6;
const HELD_BYTES: f64 = 32e6;
/// How much dearer a sort is than the planner says, beside looking up.
const SORT_FACTOR: f64 = 4.0;
/// A query's cost besides the planner's, in the planner's units: a guess at its round trip.
const QUERY_COST: f64 = 50.0;
/// For the planner: pages of a database that fits into memory cost little.
const CACHED: &str = "
    SELECT pg_catalog.set_config('seq_page_cost', '0.02', true), pg_catalog.set_config('random_page_cost', '0.02', true)
    WHERE pg_catalog.pg_database_size(pg_catalog.current_database())
        <= (SELECT setting::pg_catalog.int8 * 8192 FROM pg_catalog.pg_settings WHERE name = 'effective_cache_size')";

/// What the planner says of one table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Costs {
    /// Of looking up each site's rows.
    pub each: f64,
    /// Of sorting all rows by site.
    pub sorted: f64,
    /// What there is to sort, or to hold.
    pub bytes: f64,
}

impl Costs {
    pub fn is_sort_cheaper(self) -> bool {
        SORT_FACTOR * self.sorted < self.each
    }

    /// What reading the table once spares, with so many sites.
    fn saved(self, sites: usize) -> f64 {
        // Exact for any number below 2^52.
        let queries = self.each + sites as f64 * QUERY_COST;
        queries - if self.is_sort_cheaper() { SORT_FACTOR * self.sorted } else { self.each }
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

/// Asks the planner about a table; `None`: it gave no answer that we understand.
pub(super) fn costs_of(
    session: &mut Session,
    table: &Table,
    each: &str,
    sorted: &str,
) -> Result<Option<Costs>, postgres::Error> {
    let (Some((each, _)), Some((sorted, bytes))) = (explain(session, each)?, explain(session, sorted)?) else {
        return Ok(None);
    };
    Ok(Some(Costs { each, sorted, bytes: size_of(session, table)?.max(bytes) }))
}

/// Tells the planner, until the end of the transaction, whether the database is in memory.
pub(super) fn set_page_costs(session: &mut Session) -> Result<(), postgres::Error> {
    session.batch_execute(CACHED)
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

    const LARGE: f64 = 1e9;

    fn costs(each: f64, sorted: f64, bytes: f64) -> Option<Costs> {
        Some(Costs { each, sorted, bytes })
    }

    #[test]
    fn a_table_is_sorted_where_that_is_by_far_cheaper_and_else_looked_up() {
        for (each, sorted, want) in [
            (90_000.0, 100_000.0, false),
            (390_000.0, 100_000.0, false),
            (410_000.0, 100_000.0, true),
            // No index: every site would read it whole.
            (50_000_000.0, 60_000.0, true),
            (0.0, 0.0, false),
        ] {
            assert_eq!(costs(each, sorted, LARGE).unwrap().is_sort_cheaper(), want, "{each} {sorted}");
        }
    }

    #[test]
    fn tables_that_spare_most_get_the_connections_and_small_ones_are_held() {
        let check = |costs: &[Option<Costs>], streamed: &[usize], held: &[usize]| {
            let want = Choice { streamed: streamed.to_vec(), held: held.to_vec() };
            assert_eq!(choose(costs, 1000), want, "{costs:?}");
        };
        check(&[], &[], &[]);
        let unindexed = costs(50_000_000.0, 60_000.0, LARGE);
        check(&[costs(90_000.0, 100_000.0, LARGE), unindexed, None], &[1, 0], &[]);
        check(&[costs(10.0, 10.0, LARGE); 12], &[0, 1, 2, 3, 4, 5, 6, 7], &[]);
        check(&[costs(10.0, 10.0, 1e3), unindexed, costs(1e6, 10.0, 1e3)], &[1], &[2, 0]);
        // Nine of them are all that is held.
        let small = [costs(10.0, 10.0, 3.5e6); 20];
        check(&small, &[9, 10, 11, 12, 13, 14, 15, 16], &[0, 1, 2, 3, 4, 5, 6, 7, 8]);
    }
}

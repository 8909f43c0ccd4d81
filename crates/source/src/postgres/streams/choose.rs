//! Which tables are read once for all sites: a comparison of the planner's own estimates.
//!
//! The rule: a table is read once when that costs less than one query a site, by the planner's
//! costs: `all < sites × (one + 50)`. `one` is the query of a typical site (the median of three),
//! `all` the read of the whole table, sorted. 50 is what a query costs besides what the planner counts:
//! a round trip, planning, `COPY` begun and ended. At most eight tables, those that save most.

use super::super::describe::select_rows;
use super::super::{Session, Table};

/// Tables read at once, each over a connection of its own.
const STREAMS_MAX: usize = 8;
/// A query's cost besides the planner's, in the planner's units: measured, about half a millisecond.
const QUERY_COST: f64 = 50.0;

/// What the planner says of one table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Costs {
    /// Of one site's rows.
    pub one: f64,
    /// Of all rows, in the order of sites.
    pub all: f64,
    /// What the sort has to hold.
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
pub(super) fn choose(costs: &[Option<Costs>], sites: usize) -> Vec<usize> {
    let saved = |(at, costs): (usize, &Option<Costs>)| costs.map(|costs| (costs.saved(sites), at));
    let mut worthwhile: Vec<(f64, usize)> = costs.iter().enumerate().filter_map(saved).collect();
    worthwhile.retain(|(saved, _)| *saved > 0.0);
    worthwhile.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    worthwhile.into_iter().take(STREAMS_MAX).map(|(_, at)| at).collect()
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
    Ok(Some(Costs { one, all, bytes }))
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
        let check = |costs: &[(f64, f64)], sites: usize, want: &[usize]| {
            let costs: Vec<_> =
                costs.iter().map(|(one, all)| Some(Costs { one: *one, all: *all, bytes: 0.0 })).collect();
            assert_eq!(choose(&costs, sites), want, "{costs:?} {sites}");
        };
        check(&[], 1000, &[]);
        // An index on the tenant, rows of a site together: dear to sort, cheap to look up.
        check(&[(10.0, 100_000.0)], 1000, &[]);
        check(&[(60.0, 100_000.0)], 1000, &[0]);
        check(&[(60.0, 100_000.0)], 500, &[]);
        // No index: every site would read it whole.
        check(&[(50_000.0, 60_000.0), (200.0, 60_000.0)], 1000, &[0, 1]);
        check(&[(200.0, 60_000.0), (50_000.0, 60_000.0)], 1000, &[1, 0]);
        check(&[(0.0, 10.0); 12], 1000, &[0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(choose(&[None, Some(Costs { one: 9.0, all: 9.0, bytes: 0.0 })], 20), [1]);
    }
}

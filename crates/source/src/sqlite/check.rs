//! Whether a database is sound, as SQLite itself sees it.
//!
//! `quick_check` walks every page of every tree and the free list (measured here: 570 MB/s), and is
//! run on every database that is read for a snapshot. `integrity_check` also compares each index
//! with its table at a tenth of that speed (60-100 MB/s); what it finds beyond costs no row and is
//! mended by `REINDEX`, so it is run only at restore, on small databases, for the receipt.
//! Neither sees a flipped bit inside a row's text: SQLite keeps no checksums of pages.

use rusqlite::{Connection, ErrorCode};

/// Enough lines for a person to see the kind of damage.
const LINES_MAX: u32 = 20;

/// What a check has found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Findings {
    /// The structure is broken: rows may be lost.
    pub damage: Vec<String>,
    /// Worth a line to a person: rows that break their own constraints, a search index that does
    /// not match, tables that need an extension of the application to be checked.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// `quick_check`
    Structure,
    /// `integrity_check`
    Indexes,
}

/// Checks the whole database inside the connection's transaction.
pub(super) fn check(connection: &Connection, depth: Depth) -> rusqlite::Result<Findings> {
    // A check constraint may call functions that only the application has; its breach is no damage.
    connection.execute_batch("PRAGMA ignore_check_constraints = ON")?;
    let pragma = match depth {
        Depth::Structure => "quick_check",
        Depth::Indexes => "integrity_check",
    };
    let mut findings = Findings::default();
    match run(connection, &format!("PRAGMA main.{pragma}({LINES_MAX})"), &mut findings) {
        Err(error) if is_missing_extension(&error) => {
            findings.notes.push(format!("not every table can be checked without the application: {error}"));
            check_each_table(connection, pragma, &mut findings)?;
        }
        other => other?,
    }
    Ok(findings)
}

/// A collation or a tokenizer of the application spoils the check of everything; ask table by table.
fn check_each_table(connection: &Connection, pragma: &str, findings: &mut Findings) -> rusqlite::Result<()> {
    let mut statement = connection
        .prepare("SELECT name FROM main.sqlite_schema WHERE type = 'table' AND sql NOT LIKE 'create virtual%'")?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    for name in names {
        let quoted = name.replace('\'', "''");
        match run(connection, &format!("PRAGMA main.{pragma}('{quoted}')"), findings) {
            Err(error) if is_missing_extension(&error) => {}
            other => other?,
        }
    }
    Ok(())
}

fn run(connection: &Connection, sql: &str, findings: &mut Findings) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let lines: String = row.get(0)?;
        for line in lines.lines().filter(|line| *line != "ok" && !line.starts_with("*** in database")) {
            if is_note(line) { &mut findings.notes } else { &mut findings.damage }.push(line.to_owned());
        }
    }
    Ok(())
}

fn is_missing_extension(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::Unknown)
}

/// Lines that speak of values or of derived search indexes, not of the structure
/// (sqlite3.c, `PragTyp_INTEGRITY_CHECK` and the `xIntegrity` methods).
fn is_note(line: &str) -> bool {
    let of_values = ["NULL value in ", "NUMERIC value in ", "TEXT value in ", "CHECK constraint failed in ", "non-"];
    let of_search = ["unable to validate the inverted index", "malformed inverted index for FTS"];
    (of_values.iter().any(|start| line.starts_with(start)) && !line.starts_with("non-unique"))
        || of_search.iter().any(|part| line.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_constraint_is_a_note_and_a_broken_tree_is_damage() {
        let check = |line: &str, want: bool| assert_eq!(is_note(line), want, "{line}");
        check("NULL value in t.a", true);
        check("non-INT value in t.a", true);
        check("non-unique entry in index i", false);
        check("malformed inverted index for FTS5 table main.f", true);
        check("Tree 2 page 3: btreeInitPage() returns error code 11", false);
        check("row 3 missing from index i", false);
        check("Freelist: size is 3 but should be 2", false);
    }
}

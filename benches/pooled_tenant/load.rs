//! Loading the rows of one large site: bare `COPY` into the same tables, and our whole restore.

use std::fs;
use std::path::PathBuf;

use lifeboat_testkit::postgres::site_name;

use crate::fleet::{Database, MEASURED, TABLES};
use crate::ours::Lifeboat;
use crate::report::{Report, Task};
use lifeboat_bench::Outcome;
use lifeboat_bench::process::run;

/// Where the rows of each table lie, in the order of [`TABLES`]; the server reads them.
pub fn copy_out(database: &Database<'_>) -> Outcome<Vec<PathBuf>> {
    let site = format!("'{}'", site_name(MEASURED));
    let mut files = Vec::new();
    for (number, (table, condition)) in TABLES.iter().enumerate() {
        let file = database.cluster.dir().join(format!("rows-{number}"));
        let condition = condition.replace('$', &site);
        database.sql(&format!("COPY (SELECT * FROM {table} WHERE {condition} ORDER BY 1) TO '{}'", file.display()))?;
        files.push(file);
    }
    Ok(files)
}

/// One transaction that copies all of it in. `role`: whether foreign keys are checked (`origin`), or
/// left alone (`replica`).
pub fn script(files: &[PathBuf], role: &str) -> String {
    let mut script = format!("BEGIN;\nSET LOCAL session_replication_role = {role};\n");
    for ((table, _), file) in TABLES.iter().zip(files) {
        script.push_str(&format!("COPY {table} FROM '{}';\n", file.display()));
    }
    script + "COMMIT;\n"
}

/// Each way once, into tables from which the site was deleted.
pub fn one_round(database: &Database<'_>, lifeboat: &Lifeboat, files: &[PathBuf], report: &mut Report) -> Outcome<()> {
    let whole = database.picture(MEASURED)?;
    for (name, role) in [("bare COPY", "origin"), ("bare COPY, triggers off", "replica")] {
        let sql = database.cluster.dir().join("load.sql");
        fs::write(&sql, script(files, role))?;
        database.delete(MEASURED)?;
        report.add(Task::Load, name, run(database.psql().arg("-f").arg(&sql), database.cluster.dir())?.0);
        database.expect_same(MEASURED, &whole)?;
    }
    database.delete(MEASURED)?;
    report.add(Task::Load, "lifeboat", lifeboat.restore(MEASURED)?);
    database.expect_same(MEASURED, &whole)
}

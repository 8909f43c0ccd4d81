//! Rows exported to files, and loaded again by `psql` alone.

use std::io::Read;
use std::path::Path;
use std::process::Command;

use lifeboat_model::RowsDigest;
use lifeboat_source::postgres::Server;
use lifeboat_source::postgres::describe::{PartDescription, TableDefinition, literal};
use lifeboat_source::postgres::export::{About, RowsExport};
use lifeboat_source::postgres::target::WantedTable;
use lifeboat_testkit::postgres::{NASTY_SITES, query_text};

use crate::support::{Kept, World, nasty, site};

fn about(site: &str) -> About {
    let text = |text: &str| text.to_owned();
    About { site: text(site), source: text("app"), at: text("2026-11-22T10:00:00Z"), snapshot: text("5ca1ab1e") }
}

/// All steps up to the files.
fn staged(world: &World, directory: &Path, kept: &Kept) -> RowsExport {
    let description = world.catalogue_description(kept);
    let mut export = RowsExport::new(directory, about("acme")).with_description(Some(description), None);
    let wanted: Vec<WantedTable> = kept.tables.iter().map(|(wanted, _)| wanted.clone()).collect();
    export.begin(&wanted, &[]).unwrap();
    for (at, (_, bytes)) in kept.tables.iter().enumerate() {
        for (number, chunk) in bytes.chunks(700).enumerate() {
            export.write_at(at, number as u64 * 700, chunk).unwrap();
        }
    }
    export
}

fn psql(world: &World, directory: &Path, url: &str) {
    let mut psql = Command::new(world.cluster.program("psql"));
    psql.current_dir(directory).env("PGOPTIONS", "-c client_min_messages=warning");
    let output = psql.args(["-X", "-q", "-d", url, "-f", "load.sql"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

/// The lines of the table as COPY writes them, sorted: types of its own are text in another database.
fn rows_of(url: &str, definition: &TableDefinition) -> Vec<String> {
    let columns: Vec<String> =
        definition.columns.iter().map(|column| format!("\"{}\"", column.name.replace('"', "\"\""))).collect();
    let mut session = Server::new("loaded", url).unwrap().connect().unwrap();
    let query = format!("COPY (SELECT {} FROM {}) TO STDOUT", columns.join(", "), definition.name);
    let mut text = String::new();
    session.copy_out(&query).unwrap().read_to_string(&mut text).unwrap();
    sorted(&text)
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn psql_alone_loads_an_export_of_the_hardest_schema() {
    let Some(world) = nasty("an export loads") else { return };
    world.run(
        r#"CREATE TABLE app."odd
          name'\" (tenant_id text, "a ""b"", c" text, PRIMARY KEY (tenant_id));
          INSERT INTO app."odd
          name'\" VALUES ('acme', E'one\n\\.\ntwo\r\n\\.'), ('acme-2', '');
          CREATE TABLE app.one_column (tenant_id text); INSERT INTO app.one_column VALUES ('acme'), ('acme');
          INSERT INTO app.log_lines VALUES ('acme', '', now()), ('acme', NULL, now()), ('acme', '\N', NULL),
              ('acme', '\.', NULL), ('acme', E'say "hi",\t\b\v\f\\ there', NULL)"#,
    );
    let temporary = tempfile::tempdir().unwrap();
    for (number, name) in NASTY_SITES.into_iter().enumerate() {
        let kept = world.back_up(&site(name));
        let directory = temporary.path().join(format!("an export/{number}"));
        let mut export = staged(&world, &directory, &kept);
        export.verify().unwrap();
        assert!(!directory.exists());
        export.switch().unwrap();
        let url = world.cluster.fresh_database().unwrap();
        psql(&world, &directory, &url);
        let mut rows = 0;
        for (wanted, bytes) in &kept.tables {
            let want = sorted(std::str::from_utf8(bytes).unwrap());
            rows += want.len();
            assert_eq!(rows_of(&url, &wanted.definition), want, "{name} {}", wanted.name);
        }
        assert!(rows > 50, "{name}: {rows}");
        let last = &query_text(&url, "SELECT last_value FROM public.job_queue_id_seq").unwrap_or_default();
        assert!(last.is_empty(), "a sequence of a table that is not the site's");
    }
}

#[test]
fn an_export_is_whole_or_not_there_and_known_again() {
    let Some(world) = nasty("an export is whole") else { return };
    let mut kept = world.back_up(&site("acme"));
    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path().join("out");
    let tables = |kept: &Kept| kept.tables.iter().map(|(wanted, _)| wanted.clone()).collect::<Vec<_>>();
    // Killed before the switch: the next run makes the staging anew.
    let mut killed = staged(&world, &directory, &kept);
    killed.verify().unwrap();
    drop(killed);
    assert!(!directory.exists());
    let mut export = staged(&world, &directory, &kept);
    export.verify().unwrap();
    export.switch().unwrap();
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 1);
    assert!(RowsExport::is_there(&directory, &about("acme"), &tables(&kept), &[]));
    assert!(!RowsExport::is_there(&directory, &about("acme-2"), &tables(&kept), &[]));
    // Never over anything.
    let mut second = staged(&world, &directory, &kept);
    second.verify().unwrap();
    assert!(second.switch().unwrap_err().to_string().contains("something else"));
    second.discard_staging().unwrap();
    let file = directory.join("data/app.accounts.csv");
    let mut text = std::fs::read(&file).unwrap();
    text.push(b' ');
    std::fs::write(&file, text).unwrap();
    assert!(!RowsExport::is_there(&directory, &about("acme"), &tables(&kept), &[]));
    // Rows that are not the snapshot's never come to be an export.
    kept.tables.iter_mut().for_each(|(wanted, _)| wanted.digest = RowsDigest::InOrder([7; 32]));
    let mut wrong = staged(&world, &temporary.path().join("wrong"), &kept);
    assert!(wrong.verify().unwrap_err().to_string().contains("not what the snapshot says"));
}

impl World {
    fn catalogue_description(&self, kept: &Kept) -> PartDescription {
        let json = format!(
            r#"{{"description": 1, "server_version": 1, "system_identifier": "", "database": {:?}, "encoding": "UTF8",
            "cut": {{"lsn": "", "timeline": 1, "snapshot": "", "clock": ""}}, "sequences": []}}"#,
            literal("x")
        );
        let description = PartDescription::from_json(json.as_bytes()).unwrap();
        PartDescription { sequences: kept.sequences.clone(), ..description }
    }
}

//! Backups of schemas whose tables are being altered: read again at the end of the run, and told of by name.

use std::os::unix::fs::PermissionsExt;

use lifeboat_engine::{AnySource, BackupRequest, SiteOutcome, backup};
use lifeboat_model::{Mark, PartStatus, SourceName};
use lifeboat_source::postgres::{PostgresSource, Tenancy};
use lifeboat_testkit::postgres::{Postgres, own_config, run_sql};
use lifeboat_testkit::world::{engine_in_memory, site_id};

/// Alters a table once while the structure is read, and then reads it.
fn pg_dump_while_altered(dir: &std::path::Path, url: &str, times: u32) -> std::path::PathBuf {
    let program = dir.join("pg_dump");
    let script = format!(
        "#!/bin/sh\nfor n in $(seq {times}); do\n  if mkdir {dir}/altered-$n 2>/dev/null; then\n    \
         PGAPPNAME=migration /usr/lib/postgresql/15/bin/psql '{url}' -c 'ALTER TABLE \"tenant b\".notes ADD COLUMN IF NOT EXISTS n int' \
         >/dev/null 2>&1 &\n    sleep 2\n    break\n  fi\ndone\n\
         exec /usr/lib/postgresql/15/bin/pg_dump \"$@\"\n",
        dir = dir.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_site_that_is_being_altered_is_read_again_at_the_end_and_else_names_who_waits() {
    let Some(server) = Postgres::shared_or_skip("a_site_that_is_being_altered") else { return };
    if !std::path::Path::new("/usr/lib/postgresql/15/bin/psql").exists() {
        println!("skipped: no psql where Debian has it");
        return;
    }
    for (times, mark) in [(1, Mark::Good), (3, Mark::Incomplete)] {
        let url = server.fresh_database().unwrap();
        for site in ["a", "b"] {
            run_sql(
                &url,
                &format!("CREATE SCHEMA \"tenant {site}\"; CREATE TABLE \"tenant {site}\".notes (id int PRIMARY KEY)"),
            )
            .unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let mut config = own_config(&url, Tenancy::Schema, "tenant {site}");
        config.pg_dump = Some(pg_dump_while_altered(dir.path(), &url, times));
        let source = PostgresSource::new(SourceName::new("app").unwrap(), config).unwrap();
        let engine = engine_in_memory(vec![AnySource::Postgres(Box::new(source))]).await;
        let request = BackupRequest { sites: vec![site_id("b")], ..BackupRequest::default() };
        let report = backup(&engine, &request).await.unwrap();
        let SiteOutcome::Published(record) = &report.sites[0].outcome else { panic!("{report:?}") };
        assert_eq!((report.sites.len(), record.mark), (1, mark), "{report:?}");
        if mark == Mark::Incomplete {
            let PartStatus::Failed { reason } = &record.parts[0].status else { panic!("{record:?}") };
            for part in ["application=`migration`", "its statement began at 20", "when the migration is over"] {
                assert!(reason.contains(part), "{reason}");
            }
            assert_eq!(engine.site(&site_id("b")).await.unwrap().state().snapshots.len(), 2);
        }
    }
}

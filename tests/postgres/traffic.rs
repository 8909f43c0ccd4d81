//! Fifty sites at work while one of them is restored again and again: none of them notices.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_testkit::postgres::{Postgres, query_text, site_name};

use crate::shop::Shop;

const SITES: u32 = 51;
const RESTORES: usize = 4;

/// What one application did to its own site, and what it must find there in the end.
#[derive(Default)]
struct Log {
    /// Seconds by id, of the rows it made and did not delete.
    worklog: BTreeMap<i64, i64>,
    steps: u64,
    errors: Vec<String>,
}

/// Inserts, updates, deletes and reads until it is over, each answer compared with its own log.
fn work(url: &str, site: &str, is_over: &AtomicBool) -> Log {
    let mut log = Log::default();
    let mut client = match postgres::Client::connect(url, postgres::NoTls) {
        Ok(client) => client,
        Err(error) => return Log { errors: vec![error.to_string()], ..log },
    };
    while !is_over.load(Ordering::Relaxed) {
        if let Err(error) = step(&mut client, site, &mut log) {
            log.errors.push(format!("{site}: {error}"));
            return log;
        }
        log.steps += 1;
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    log
}

fn step(client: &mut postgres::Client, site: &str, log: &mut Log) -> Result<(), postgres::Error> {
    let seconds = 1 + log.steps as i64 % 1000;
    let mut transaction = client.transaction()?;
    let make = "INSERT INTO worklog (site_id, issue_id, seconds) SELECT site_id, id, $2::int8 FROM issues \
                WHERE site_id = $1 ORDER BY id LIMIT 1 RETURNING id";
    let id: i64 = transaction.query_one(make, &[&site, &seconds])?.get(0);
    transaction.commit()?;
    log.worklog.insert(id, seconds);
    let first = *log.worklog.keys().next().unwrap_or(&id);
    match log.steps % 3 {
        0 => {
            let touched = client.execute("UPDATE worklog SET seconds = seconds + 1 WHERE id = $1", &[&first])?;
            assert_eq!(touched, 1, "{site}: a row of its own is gone");
            log.worklog.entry(first).and_modify(|seconds| *seconds += 1);
        }
        1 => {
            assert_eq!(client.execute("DELETE FROM worklog WHERE id = $1", &[&first])?, 1, "{site}");
            log.worklog.remove(&first);
        }
        _ => {
            let read = "SELECT seconds::int8 FROM worklog WHERE id = $1";
            let found: i64 = client.query_one(read, &[&first])?.get(0);
            assert_eq!(Some(&found), log.worklog.get(&first), "{site}");
        }
    }
    Ok(())
}

#[test]
fn fifty_sites_at_work_see_no_error_and_have_exactly_what_they_wrote_while_one_is_restored() {
    let Some(server) = Postgres::shared_or_skip("fifty_sites_at_work") else { return };
    let shop = Shop::fleet(server, SITES, 60);
    // What there was before is none of the applications' own.
    shop.sql("DELETE FROM worklog WHERE site_id <> 'site-00002'");
    shop.ok(&["backup", "--all"]);
    let of_site = "SELECT count(*) || ' ' || md5(string_agg(i::text, ';' ORDER BY i.id)) FROM issues i WHERE site_id = 'site-00002'";
    let (before, is_over) = (shop.text(of_site), AtomicBool::new(false));
    let others: Vec<String> = (1..=SITES).map(site_name).filter(|site| site != "site-00002").collect();
    let logs: Vec<(String, Log)> = std::thread::scope(|scope| {
        let (url, is_over) = (&shop.url, &is_over);
        let workers: Vec<_> =
            others.iter().map(|site| (site.clone(), scope.spawn(move || work(url, site, is_over)))).collect();
        let restored = (0..RESTORES).map(|number| {
            // Whole, and half destroyed: both ways into the live tables.
            shop.sql(match number % 2 {
                0 => "DELETE FROM sites WHERE id = 'site-00002'",
                _ => "UPDATE issues SET title = 'oops' WHERE site_id = 'site-00002'; DELETE FROM worklog WHERE site_id = 'site-00002'",
            });
            let said = shop.run(&["restore", "site-00002", "--yes"]);
            (said.code == 0 && shop.text(of_site) == before, said)
        });
        let restored: Vec<_> = restored.collect();
        is_over.store(true, Ordering::Relaxed);
        let logs = workers.into_iter().map(|(site, worker)| (site, worker.join().unwrap())).collect();
        for (is_well, said) in restored {
            assert!(is_well, "{said:?}");
        }
        logs
    });
    let mut steps = 0;
    for (site, log) in logs {
        assert!(log.errors.is_empty(), "{:?}", log.errors);
        let rows = format!("SELECT id, seconds FROM worklog WHERE site_id = '{site}' ORDER BY id");
        let found = query_text(&shop.url, &rows).unwrap().into_iter();
        let number = |cell: &Option<String>| cell.as_deref().and_then(|text| text.parse::<i64>().ok()).unwrap_or(-1);
        let found: BTreeMap<i64, i64> = found.map(|row| (number(&row[0]), number(&row[1]))).collect();
        assert_eq!(found, log.worklog, "{site}");
        steps += log.steps;
    }
    println!("{RESTORES} restores beside {steps} steps of 50 other sites");
    assert!(steps > 500, "{steps}");
}

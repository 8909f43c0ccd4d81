//! The incident: a script deletes sites while others work. Found first, and put back to just before it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lifeboat_engine::{DamageRequest, RestorePoint, find_damage};
use lifeboat_format::SecretKey;
use lifeboat_model::{PointInTime, Timestamp};
use lifeboat_repo::Repository;
use lifeboat_store::MemoryStore;
use lifeboat_testkit::postgres::{ClusterOptions, Postgres, pooled_fleet, query_text, run_sql, site_name};
use lifeboat_testkit::world::{backup_all, restore_request, run_restore};

use crate::index::Index;
use crate::load::{Over, Seed, transaction};
use crate::world::{capture_when_free, engine_over, request};

/// Numbers from it on are written while others are deleted and restored.
const FIRST: u32 = 1_000_000;

/// What each table holds of a site.
fn seen(url: &str, site: &str) -> Vec<String> {
    let of_site = format!("t.site_id = '{site}'");
    let of_issue = format!("EXISTS (SELECT FROM issues i WHERE i.id = t.issue_id AND i.site_id = '{site}')");
    let tables = [
        ("sites", format!("t.id = '{site}'")),
        ("users", of_site.clone()),
        ("labels", of_site.clone()),
        ("projects", of_site.clone()),
        ("issues", of_site.clone()),
        ("worklog", of_site.clone()),
        ("audit.events", of_site),
        ("comments", of_issue.clone()),
        ("issue_labels", of_issue),
    ];
    let one = |(table, condition): &(&str, String)| {
        let sql = format!(
            "SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') FROM {table} t \
             WHERE {condition}"
        );
        format!("{table} {}", query_text(url, &sql).unwrap()[0][0].clone().unwrap())
    };
    tables.iter().map(one).collect()
}

/// One application of a site that is not hit: each row that it was told is written is counted.
fn keep_writing(url: &str, site: &str, is_over: &AtomicBool, written: &AtomicU64) {
    for number in FIRST.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let sql = format!("INSERT INTO labels (site_id, number, name) VALUES ('{site}', {number}, 'meanwhile')");
        if run_sql(url, &sql).is_ok() {
            written.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sites_that_a_script_deleted_come_back_as_they_were_just_before_and_others_lose_nothing() {
    const TEST: &str = "sites_that_a_script_deleted_come_back_as_they_were_just_before_and_others_lose_nothing";
    let (sites, hit) = if std::env::var_os("LIFEBOAT_TEST_FULL").is_some() { (500, 40) } else { (30, 6) };
    let Some(server) = Postgres::start_or_skip(TEST, &ClusterOptions::default()) else { return };
    let url = server.fresh_database().unwrap();
    pooled_fleet(&url, sites, 600).unwrap();
    let (store, master) = (Arc::new(MemoryStore::new()), SecretKey::generate().unwrap());
    Repository::init(store.clone(), &master).await.unwrap();
    let engine = engine_over(&url, store, &master).await;
    let (mut index, request) = (Index::default(), request(Duration::from_millis(300), 200_000));
    capture_when_free(&engine, &request, &mut index).await.unwrap();
    backup_all(&engine).await.unwrap();
    // Everybody works since the backup: what comes back is more than it.
    let mut seed = Seed(5);
    for number in 0..u64::from(sites) * 4 {
        let _ = run_sql(&url, &transaction(&mut seed, sites.into(), number));
    }
    let doomed: Vec<String> = (1..=hit).map(|number| site_name(number * (sites / hit))).collect();
    let oracle: BTreeMap<&String, Vec<String>> = doomed.iter().map(|site| (site, seen(&url, site))).collect();
    let working: Vec<String> = (1..=4).map(|number| site_name(number * (sites / hit) - 1)).collect();
    let written: Vec<AtomicU64> = working.iter().map(|_| AtomicU64::new(0)).collect();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (site, written) in working.iter().zip(&written) {
            let (url, is_over) = (&url, &is_over);
            scope.spawn(move || keep_writing(url, site, is_over, written));
        }
        let _over = Over(&is_over);
        for site in &doomed {
            let sql = format!("DELETE FROM sites WHERE id = '{site}'");
            assert!((0..50).any(|_| run_sql(&url, &sql).is_ok()), "{sql}");
        }
        let restoring = async {
            capture_when_free(&engine, &request, &mut index).await.unwrap();
            let report = find_damage(&engine, &DamageRequest { since: Timestamp(0), source: None }).await.unwrap();
            let first = &report.incidents[0];
            let found: BTreeSet<&str> = first.sites.iter().map(|damage| damage.site.as_str()).collect();
            assert_eq!(found, doomed.iter().map(String::as_str).collect(), "those, and no others");
            for damage in &first.sites {
                let at = PointInTime::Before(damage.last_good.before.id);
                let request = restore_request(damage.site.as_str(), RestorePoint::At(at));
                let receipt = run_restore(&engine, &request).await.unwrap();
                assert!(receipt.all_passed(), "{receipt:?}");
            }
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(restoring));
    });
    for (site, want) in oracle {
        assert_eq!(seen(&url, site), want, "{site}");
    }
    for (site, written) in working.iter().zip(&written) {
        let sql = format!("SELECT count(*)::text FROM labels WHERE site_id = '{site}' AND number >= {FIRST}");
        let there: u64 = query_text(&url, &sql).unwrap()[0][0].as_deref().unwrap().parse().unwrap();
        assert_eq!(there, written.load(Ordering::Relaxed), "{site}: what it was told is written");
        assert!(there > 0, "{site} wrote nothing");
    }
}

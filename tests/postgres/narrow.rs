//! Some rows of a tenant: planned, restored, undone; and the counts of a plan as its limits.

use lifeboat_engine::{Approval, Only, RestorePoint, RestoreRequest, diff, plan_restore, restore};
use lifeboat_model::{EntryPath, Fault, Faulty, PointInTime, SourceName};
use lifeboat_testkit::postgres::{query_text, site_name};
use lifeboat_testkit::world::{backup_all, restore_request, run_restore, site_id, undo};

use crate::pooled::Pool;

fn only(site: &str, table: &str, keys: Option<String>) -> RestoreRequest {
    let path = |text: &str| EntryPath::new(text.as_bytes()).unwrap();
    let (entry, keys) = match keys {
        Some(keys) => (None, Some((path(table), keys))),
        None => (Some(path(table)), None),
    };
    let only = Only { part: SourceName::new("app").unwrap(), entry, keys };
    RestoreRequest { only: Some(only), ..restore_request(site, RestorePoint::At(PointInTime::Latest)) }
}

fn number(pool: &Pool, query: &str) -> i64 {
    query_text(&pool.url, query).unwrap()[0][0].clone().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_by_key_come_back_and_the_undo_gives_back_what_was_there() {
    let Some(pool) = Pool::new("rows_by_key_come_back").await else { return };
    backup_all(&pool.engine).await.unwrap();
    let site = site_name(2);
    let issue = number(&pool, &format!("SELECT min(id) FROM issues WHERE site_id = '{site}'"));
    pool.sql(&format!(
        "UPDATE issues SET title = 'oops' WHERE site_id = '{site}'; DELETE FROM issues WHERE id = {issue}"
    ));
    let damaged = pool.picture();
    let request = only(&site, "issues", Some(issue.to_string()));
    let planned = plan_restore(&pool.engine, &request).await.unwrap();
    assert_eq!((planned.plan.parts[0].add, planned.plan.parts[0].remove), (1, 0), "{:?}", planned.plan.parts);
    let receipt = restore(&pool.engine, &request, planned, &Approval::Yes).await.unwrap();
    assert!(receipt.all_passed(), "{:?}", receipt.checks);
    assert_eq!(receipt.parts[0].rows, 1);
    assert_eq!(number(&pool, &format!("SELECT count(*) FROM issues WHERE id = {issue} AND title <> 'oops'")), 1);
    assert_eq!(number(&pool, &format!("SELECT count(*) FROM comments WHERE issue_id = {issue}")), 0);
    // Its own trace is no change by somebody else; other tables' changes are.
    pool.sql(&format!("UPDATE labels SET name = name || '!' WHERE site_id = '{site}'"));
    let error = undo(&pool.engine, &site, receipt.restore).await.unwrap_err();
    assert!(error.to_string().contains("labels") && !error.to_string().contains("issues"), "{error}");
    pool.sql(&format!("UPDATE labels SET name = rtrim(name, '!') WHERE site_id = '{site}'"));
    let undone = undo(&pool.engine, &site, receipt.restore).await.unwrap();
    assert!(undone.all_passed(), "{:?}", undone.checks);
    assert_eq!(pool.picture(), damaged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_table_comes_back_and_keys_nobody_can_have_are_refused() {
    let Some(pool) = Pool::new("a_whole_table_comes_back").await else { return };
    backup_all(&pool.engine).await.unwrap();
    let (site, whole) = (site_name(1), pool.picture());
    pool.sql(&format!(
        "UPDATE labels SET name = 'oops' WHERE site_id = '{site}'; UPDATE issues SET title = 'kept' WHERE site_id = '{site}'"
    ));
    let damaged = pool.picture();
    run_restore(&pool.engine, &only(&site, "public.labels", None)).await.unwrap();
    let now = pool.picture();
    assert_eq!(now["public.labels"], whole["public.labels"]);
    assert_eq!(now["public.issues"], damaged["public.issues"]);
    // Issues differ from the point, projects do not.
    for (table, keys) in [
        ("issues", Some("x")),
        ("issues", Some("1,2")),
        ("issues", Some("9..1")),
        ("issues", Some("-9..-1")),
        ("projects", Some("-9")),
        ("projects", Some("-1..-9")),
        ("nothing", None),
    ] {
        let request = only(&site, table, keys.map(str::to_owned));
        let error = plan_restore(&pool.engine, &request).await.map(|planned| planned.plan).unwrap_err();
        assert_eq!(error.fault(), Fault::Usage, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_s_counts_are_limits_and_exact_ones_are_exact() {
    let Some(pool) = Pool::new("a_plan_s_counts_are_limits").await else { return };
    backup_all(&pool.engine).await.unwrap();
    let site = site_name(3);
    pool.sql(&format!(
        "DELETE FROM labels WHERE site_id = '{site}' AND number = (SELECT max(number) FROM labels WHERE site_id = '{site}');
         UPDATE users SET name = 'oops' WHERE site_id = '{site}' AND number <= 2;
         INSERT INTO labels (site_id, number, name) VALUES ('{site}', 5000, 'made later')"
    ));
    let request = RestoreRequest { exact: true, ..restore_request(&site, RestorePoint::At(PointInTime::Latest)) };
    let planned = plan_restore(&pool.engine, &request).await.unwrap();
    let part = planned.plan.parts.iter().find(|part| part.source.as_str() == "app").unwrap();
    assert_eq!((part.replace, part.remove), (2, 1), "{part:?}");
    let labels = part.limits.iter().find(|limit| limit.table == "public.labels").unwrap();
    assert_eq!((labels.write, labels.delete), (1, 1));
    let (plan, lines) = diff(&pool.engine, &site_id(&site), &PointInTime::Latest).await.unwrap();
    let limits = plan.parts.iter().flat_map(|part| &part.limits).filter(|limit| limit.table == "public.users");
    let counted: Vec<_> = limits.filter_map(|limit| limit.counted).map(|found| (found.insert, found.update)).collect();
    assert_eq!(counted, [(0, 2)]);
    assert!(lines.iter().all(|line| !line.path.contains("projects")), "{lines:?}");
    // Written to after the plan was approved: more would go than a person agreed to.
    pool.sql(&format!("INSERT INTO labels (site_id, number, name) VALUES ('{site}', 5001, 'made even later')"));
    let now = pool.picture();
    // Exact counts are part of the hash: approved by it, this is another plan now.
    let approved = Approval::Hash(planned.plan.hash.clone());
    let planned_now = plan_restore(&pool.engine, &request).await.unwrap();
    let error = restore(&pool.engine, &request, planned_now, &approved).await.unwrap_err();
    assert!(error.to_string().contains("changed since the plan was approved"), "{error}");
    let error = restore(&pool.engine, &request, planned, &Approval::Yes).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Operator);
    assert!(error.to_string().contains("more than the approved plan"), "{error}");
    assert_eq!(pool.picture(), now);
    run_restore(&pool.engine, &request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exact_plan_shows_what_is_in_the_way() {
    let Some(pool) = Pool::new("an_exact_plan_shows").await else { return };
    backup_all(&pool.engine).await.unwrap();
    let (site, other) = (site_name(2), site_name(1));
    pool.sql(&format!(
        "CREATE TEMP TABLE was AS SELECT a.path FROM attachments a JOIN issues i ON i.id = a.issue_id
            WHERE i.site_id = '{site}' ORDER BY a.path LIMIT 1;
         DELETE FROM issues WHERE site_id = '{site}';
         INSERT INTO attachments (issue_id, path, size, sha256)
            SELECT (SELECT min(id) FROM issues WHERE site_id = '{other}'), path, 0, '' FROM was"
    ));
    let request = restore_request(&site, RestorePoint::At(PointInTime::Latest));
    assert!(plan_restore(&pool.engine, &request).await.unwrap().plan.conflicts.is_empty());
    let exact = RestoreRequest { exact: true, ..request };
    let planned = plan_restore(&pool.engine, &exact).await.unwrap();
    assert!(planned.plan.conflicts.iter().any(|found| found.detail.contains("unique values")), "{:?}", planned.plan);
    let now = pool.picture();
    let hash = planned.plan.hash.clone();
    let error = restore(&pool.engine, &exact, planned, &Approval::Yes).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Operator);
    // Approved all the same, it is refused where it would happen.
    let planned = plan_restore(&pool.engine, &exact).await.unwrap();
    let error = restore(&pool.engine, &exact, planned, &Approval::Hash(hash)).await.unwrap_err();
    assert!(error.to_string().contains("cannot be put back"), "{error}");
    assert_eq!(pool.picture(), now);
}

//! Rows that refer to other sites, and tables of which it is told otherwise than before whose rows are whose.

use lifeboat_engine::{AnySource, Fleet, RestorePoint, plan_restore};
use lifeboat_model::{Fault, Faulty, PointInTime, SourceName};
use lifeboat_source::postgres::{PostgresSource, Reference, TableName, TableRule};
use lifeboat_testkit::postgres::{pooled_config, site_name};
use lifeboat_testkit::world::{backup_all, restore_latest, restore_request};

use crate::pooled::Pool;

#[tokio::test(flavor = "multi_thread")]
async fn a_row_never_comes_back_without_the_row_of_another_site_that_it_refers_to() {
    // Half destroyed: staged and compared. Wholly: straight into its tables.
    for lost in ["DELETE FROM labels WHERE site_id = '$'", "DELETE FROM sites WHERE id = '$'"] {
        let Some(pool) = Pool::new("a_row_never_comes_back_without").await else { return };
        let (site, other) = (site_name(2), site_name(3));
        pool.sql(&format!(
            "UPDATE projects SET lead = (SELECT max(id) FROM users WHERE site_id = '{other}') WHERE site_id = '{site}' AND number = 1"
        ));
        backup_all(&pool.engine).await.unwrap();
        pool.sql(&lost.replace('$', &site));
        pool.sql(&format!("DELETE FROM users WHERE id = (SELECT max(id) FROM users WHERE site_id = '{other}')"));
        let now = pool.picture();
        let error = restore_latest(&pool.engine, &site).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Operator, "{error}");
        assert!(error.to_string().contains("rows that the restored ones refer to are missing"), "{error}");
        assert_eq!(pool.picture(), now, "{lost}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_told_otherwise_whose_rows_are_is_a_conflict_before_rows_go() {
    let Some(mut pool) = Pool::new("a_point_that_told_otherwise").await else { return };
    let site = site_name(2);
    // Rows without a user were nobody's by this rule.
    let mut config = pooled_config(&pool.url);
    let rule = TableRule::Via(Reference {
        child_columns: vec!["user_id".into()],
        parent: TableName::quoted("users"),
        parent_columns: vec!["id".into()],
    });
    pool.sql(&format!("UPDATE worklog SET user_id = NULL WHERE site_id = '{site}' AND id % 2 = 0"));
    let source = |config| {
        let source = PostgresSource::new(SourceName::new("app").unwrap(), config).unwrap();
        Fleet::new(vec![AnySource::Postgres(Box::new(source))])
    };
    config.tables.insert(TableName::quoted("public.worklog"), rule);
    pool.engine.fleet = source(config);
    backup_all(&pool.engine).await.unwrap();
    pool.engine.fleet = source(pooled_config(&pool.url));
    let now = pool.picture();
    let request = restore_request(&site, RestorePoint::At(PointInTime::Latest));
    let plan = plan_restore(&pool.engine, &request).await.unwrap().plan;
    let told = plan.conflicts.iter().find(|conflict| conflict.detail.contains("public.worklog"));
    assert!(told.is_some_and(|conflict| conflict.detail.contains("told otherwise")), "{:?}", plan.conflicts);
    let error = restore_latest(&pool.engine, &site).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Operator, "{error}");
    assert_eq!(pool.picture(), now);
}

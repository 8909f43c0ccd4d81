//! What is in the way is named before anything is written.

use lifeboat_source::Error;
use lifeboat_source::postgres::target::ConflictKind;

use crate::support::{Kept, World, fleet, victim};

/// Damages, and expects this conflict in this table, with this many rows.
#[track_caller]
fn check(test: &str, damage: &str, table: &str, kind: ConflictKind, rows: u64) -> Option<(World, Kept)> {
    let world = fleet(test)?;
    let (site, kept) = (victim(), world.back_up(&victim()));
    world.run(damage);
    let before = (world.live(&site), world.bystanders(&site));
    let mut target = world.target(&site);
    let verified = world.verify(&mut target, &kept).unwrap();
    let found = verified.conflicts().iter().find(|conflict| conflict.table.as_str() == table && conflict.kind == kind);
    let found = found.unwrap_or_else(|| panic!("{:?}", verified.conflicts()));
    assert_eq!(found.rows, rows, "{found}");
    let error = target.switch(verified).unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
    target.discard_staging().unwrap();
    assert_eq!((world.live(&site), world.bystanders(&site)), before);
    Some((world, kept))
}

#[test]
fn a_unique_value_that_another_site_has_taken_is_named() {
    check(
        "unique taken",
        "CREATE TEMP TABLE was AS SELECT a.path FROM attachments a JOIN issues i ON i.id = a.issue_id
            WHERE i.site_id = 'site-00002' ORDER BY a.path LIMIT 1;
         DELETE FROM issues WHERE site_id = 'site-00002';
         INSERT INTO attachments (issue_id, path, size, sha256)
            SELECT (SELECT min(id) FROM issues WHERE site_id = 'site-00001'), path, 0, '' FROM was",
        "public.attachments",
        ConflictKind::UniqueTaken,
        1,
    );
}

#[test]
fn a_primary_key_that_is_another_site_s_now_is_named() {
    check(
        "key elsewhere",
        "UPDATE worklog SET site_id = 'site-00003' WHERE id = (SELECT min(id) FROM worklog WHERE site_id = 'site-00002')",
        "public.worklog",
        ConflictKind::KeyElsewhere,
        1,
    );
}

#[test]
fn a_shared_row_that_is_missing_is_named() {
    check(
        "shared missing",
        "DELETE FROM sites WHERE id = 'site-00002'; DELETE FROM audit.events WHERE site_id = 'site-00002';
         SET session_replication_role = replica;
         DELETE FROM plans WHERE id = 1 + 2 % 3",
        "public.sites",
        ConflictKind::SharedMissing,
        1,
    );
}

#[test]
fn rows_of_another_site_that_refer_to_what_would_go_are_named() {
    check(
        "still referred",
        "INSERT INTO labels (site_id, number, name) VALUES ('site-00002', 900, 'newer');
         INSERT INTO issue_labels SELECT (SELECT min(id) FROM issues WHERE site_id = 'site-00001'), id
            FROM labels WHERE number = 900",
        "public.labels",
        ConflictKind::StillReferred,
        1,
    );
}

#[test]
fn tables_and_columns_that_are_gone_or_other_now_are_named() {
    let drop_column = "ALTER TABLE worklog DROP COLUMN note";
    let retype = "ALTER TABLE labels ALTER COLUMN name TYPE int USING number";
    let required = "ALTER TABLE labels ADD COLUMN must int; UPDATE labels SET must = 1; DELETE FROM labels WHERE site_id = 'site-00002';
        ALTER TABLE labels ALTER must SET NOT NULL";
    let Some(world) = fleet("rows of labels") else { return };
    let count =
        |table: &str| world.number(&format!("SELECT count(*) FROM {table} WHERE site_id = 'site-00002'")) as u64;
    let (worklog, labels) = (count("worklog"), count("labels"));
    check("dropped", drop_column, "public.worklog", ConflictKind::ColumnDropped, worklog);
    check("retyped", retype, "public.labels", ConflictKind::ColumnRetyped, labels);
    check("required", required, "public.labels", ConflictKind::ColumnRequired, labels);
}

#[test]
fn a_table_that_is_gone_is_named() {
    let Some(world) = fleet("table gone") else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    world.run("DROP TABLE worklog");
    let mut target = world.target(&site);
    let verified = world.verify(&mut target, &kept).unwrap();
    assert!(verified.conflicts().iter().any(|conflict| conflict.kind == ConflictKind::TableGone));
    target.discard_staging().unwrap();
}

#[test]
fn a_value_taken_under_an_expression_is_a_conflict_of_the_switch() {
    let Some(world) = fleet("expression index") else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    world.run(
        "CREATE UNIQUE INDEX lower_path ON attachments (lower(path));
        CREATE TEMP TABLE was AS SELECT a.path FROM attachments a JOIN issues i ON i.id = a.issue_id
            WHERE i.site_id = 'site-00002' ORDER BY a.path LIMIT 1;
        DELETE FROM sites WHERE id = 'site-00002';
        INSERT INTO attachments (issue_id, path, size, sha256)
            SELECT (SELECT min(id) FROM issues WHERE site_id = 'site-00001'), upper(path), 0, '' FROM was",
    );
    let before = (world.live(&site), world.bystanders(&site));
    let error = world.restore(&site, &kept).unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }) && error.to_string().contains("lower_path"), "{error}");
    assert!(!error.to_string().contains('@'), "{error}");
    assert_eq!((world.live(&site), world.bystanders(&site)), before);
}

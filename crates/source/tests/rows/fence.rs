//! What writes to others is caught and taken back.

use crate::support::{Kept, World, fleet, victim};
use lifeboat_model::RowsDigest;
use lifeboat_source::Error;

fn refused(test: &str, plant: &str) -> Option<(World, Kept, String)> {
    let world = fleet(test)?;
    let (site, kept) = (victim(), world.back_up(&victim()));
    world.run(plant);
    world.run("SET session_replication_role = replica; DELETE FROM comments WHERE issue_id IN (SELECT id FROM issues WHERE site_id = 'site-00002')");
    let (before, bystanders) = (world.live(&site), world.bystanders(&site));
    let error = world.restore(&site, &kept).unwrap_err();
    assert_eq!(world.live(&site), before, "{error}");
    assert_eq!(world.bystanders(&site), bystanders, "{error}");
    Some((world, kept, error.to_string()))
}

fn trigger(body: &str) -> String {
    format!(
        "CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$;
         CREATE TRIGGER planted BEFORE INSERT ON comments FOR EACH ROW EXECUTE FUNCTION planted();
         ALTER TABLE comments ENABLE ALWAYS TRIGGER planted"
    )
}

// Explains invariant: only-this-site
#[test]
fn a_trigger_that_writes_to_another_site_is_caught_and_everything_is_taken_back() {
    let plant = trigger("UPDATE public.issues SET title = 'x' WHERE site_id = 'site-00001';");
    let Some((_, _, error)) = refused("planted trigger", &plant) else { return };
    assert!(error.contains("public.issues") && error.contains("taken back"), "{error}");
}

#[test]
fn a_trigger_that_deletes_what_nobody_restores_is_caught() {
    let Some((_, _, error)) =
        refused("planted delete", &trigger("INSERT INTO public.countries VALUES ('XX', 'X') ON CONFLICT DO NOTHING;"))
    else {
        return;
    };
    assert!(error.contains("public.countries"), "{error}");
}

#[test]
fn a_trigger_that_truncates_is_caught_although_no_row_is_counted() {
    let plant =
        format!("CREATE TABLE other (a int); INSERT INTO other VALUES (1); {}", trigger("TRUNCATE public.other;"));
    let Some(world) = fleet("planted truncate") else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    let mut world = world;
    world.config.ignored.push(lifeboat_source::postgres::TableName::quoted("public.other"));
    world.run(&plant);
    world.delete_victim();
    let error = world.restore(&site, &kept).unwrap_err().to_string();
    assert!(error.contains("pg_catalog.pg_class"), "{error}");
    assert_eq!(world.number("SELECT count(*) FROM other"), 1);
    assert!(world.live(&site).is_absent());
}

#[test]
fn a_trigger_that_changes_restored_rows_is_caught() {
    let Some((_, _, error)) = refused("planted change", &trigger("NEW.body := 'other';")) else { return };
    assert!(error.contains("public.comments") && error.contains("not the snapshot's"), "{error}");
}

/// A constraint trigger that fires always, and only when the transaction ends.
fn deferred(body: &str) -> String {
    format!(
        "CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER planted AFTER INSERT ON comments DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION planted();
         ALTER TABLE comments ENABLE ALWAYS TRIGGER planted"
    )
}

#[test]
fn a_trigger_that_is_put_off_to_the_commit_is_caught_before_it() {
    let plant = deferred("UPDATE public.issues SET title = 'x' WHERE site_id = 'site-00001';");
    let Some((world, kept, error)) = refused("deferred trigger", &plant) else { return };
    assert!(error.contains("public.issues") && error.contains("taken back"), "{error}");
    // The same where the site has nothing, and its rows go straight into the tables.
    world.delete_victim();
    let bystanders = world.bystanders(&victim());
    let error = world.restore(&victim(), &kept).unwrap_err().to_string();
    assert!(error.contains("public.issues") && error.contains("taken back"), "{error}");
    assert_eq!(world.bystanders(&victim()), bystanders);
    assert!(world.live(&victim()).is_absent());
}

#[test]
fn a_rule_that_writes_to_another_site_or_leaves_rows_out_is_caught() {
    for (rule, named) in [
        ("DO ALSO UPDATE issues SET title = 'x' WHERE site_id = 'site-00001'", "public.issues"),
        ("DO ALSO INSERT INTO countries VALUES ('XX', 'X') ON CONFLICT DO NOTHING", "public.countries"),
        ("WHERE NEW.id % 2 = 0 DO INSTEAD NOTHING", "public.comments"),
    ] {
        let plant = format!(
            "CREATE RULE planted AS ON INSERT TO comments {rule}; ALTER TABLE comments ENABLE ALWAYS RULE planted"
        );
        let Some((_, _, error)) = refused("planted rule", &plant) else { return };
        assert!(error.contains(named), "{rule}: {error}");
    }
}

#[test]
fn a_trigger_that_gives_a_row_to_another_site_is_caught_although_the_counters_are_as_planned() {
    let plant = trigger("NEW.issue_id := (SELECT min(id) FROM public.issues WHERE site_id = 'site-00001');");
    let Some((_, _, error)) = refused("given away", &plant) else { return };
    assert!(error.contains("public.comments") && error.contains("not the snapshot's"), "{error}");
}

#[test]
fn triggers_and_cascades_that_would_fire_in_any_other_session_do_not() {
    let Some(world) = fleet("ordinary trigger") else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    world.run(&trigger("UPDATE public.issues SET title = 'x';").replace("ENABLE ALWAYS", "ENABLE"));
    let bystanders = world.bystanders(&site);
    world.delete_victim();
    world.restore(&site, &kept).unwrap();
    crate::support::assert_restored(&world, &site, &kept, &bystanders);
}

#[test]
fn a_site_that_was_written_to_after_its_undo_was_kept_is_left_alone() {
    let Some(world) = fleet("changed since") else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    world.run("DELETE FROM worklog WHERE site_id = 'site-00002'");
    let mut target = world.target(&site);
    let verified = world.verify(&mut target, &kept).unwrap();
    world.run("UPDATE issues SET title = 'later' WHERE site_id = 'site-00002'");
    let before = world.live(&site);
    let error = target.switch(verified).unwrap_err();
    assert!(error.to_string().contains("public.issues"), "{error}");
    assert_eq!(world.live(&site), before);
    target.discard_staging().unwrap();
}

#[test]
fn content_that_is_not_the_snapshot_s_is_not_loaded() {
    let Some(world) = fleet("bad content") else { return };
    let (site, mut kept) = (victim(), world.back_up(&victim()));
    let at = kept.tables.iter().position(|(wanted, _)| wanted.name.as_str() == "public.issues").unwrap();
    let text = String::from_utf8(kept.tables[at].1.clone()).unwrap();
    kept.tables[at].1 = text.replacen("site-00002", "site-00001", 1).into_bytes();
    let error = world.restore(&site, &kept).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    // The same with a digest that fits: rows of another site are not written either.
    let bystanders = world.bystanders(&site);
    kept.tables[at].0.digest = RowsDigest::InOrder(*blake3::hash(&kept.tables[at].1).as_bytes());
    world.delete_victim();
    let error = world.restore(&site, &kept).unwrap_err();
    assert_eq!(world.bystanders(&site), bystanders, "{error}");
    assert!(world.live(&site).is_absent());
}

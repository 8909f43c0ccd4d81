//! Others who hold a lock are waited for, not for ever, and named.

use std::time::{Duration, Instant};

use lifeboat_model::{Fault, Faulty};
use lifeboat_source::postgres::Server;

use crate::support::{assert_restored, fleet, victim};

#[test]
fn a_lock_that_is_not_given_up_ends_the_wait_and_names_its_holder() {
    let Some(mut world) = fleet("locked") else { return };
    world.patience = Duration::from_millis(1200);
    let (site, kept) = (victim(), world.back_up(&victim()));
    for (name, lock) in [
        ("row", "UPDATE issues SET state = state WHERE site_id = 'site-00002'"),
        ("table", "LOCK TABLE comments IN ACCESS EXCLUSIVE MODE"),
    ] {
        world.run("UPDATE issues SET title = title || '!' WHERE site_id = 'site-00002'");
        let mut target = world.target(&site);
        let live = target.live().unwrap();
        let verified = world.verify(&mut target, &kept).unwrap();
        let url = format!("{}&application_name=migration-{name}", world.url);
        let mut holder = Server::new("app", &url).unwrap().connect().unwrap();
        let pid: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0);
        holder.batch_execute(&format!("BEGIN; SET search_path = public; {lock}")).unwrap();
        let began = Instant::now();
        let error = target.switch(verified).unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(10));
        assert_eq!(error.fault(), Fault::Retry);
        for part in [format!("process=`{pid}`"), format!("migration-{name}"), "idle in transaction".into()] {
            assert!(error.to_string().contains(&part), "{error}");
        }
        holder.batch_execute("ROLLBACK").unwrap();
        assert_eq!(world.live(&site), live);
        target.discard_staging().unwrap();
    }
    let bystanders = world.bystanders(&site);
    world.restore(&site, &kept).unwrap();
    assert_restored(&world, &site, &kept, &bystanders);
}

#[test]
fn a_lock_of_lifeboat_itself_is_nobodys_to_be_ended() {
    let Some(mut world) = fleet("locked by ourselves") else { return };
    world.patience = Duration::from_millis(1200);
    let (site, kept) = (victim(), world.back_up(&victim()));
    world.run("UPDATE issues SET title = title || '!' WHERE site_id = 'site-00002'");
    for (own, hint) in [(true, "Lifeboat itself"), (false, "pg_terminate_backend")] {
        let mut target = world.target(&site);
        let verified = world.verify(&mut target, &kept).unwrap();
        let url = if own { world.url.clone() } else { format!("{}&application_name=shop", world.url) };
        let mut holder = Server::new("app", &url).unwrap().connect().unwrap();
        holder.batch_execute("BEGIN; LOCK TABLE public.comments IN ACCESS EXCLUSIVE MODE").unwrap();
        let told = target.switch(verified).unwrap_err().hint().unwrap();
        assert!(told.contains(hint) && own != told.contains("terminate"), "{told}");
        holder.batch_execute("ROLLBACK").unwrap();
        target.discard_staging().unwrap();
    }
}

#[test]
fn a_lock_that_is_given_up_in_time_is_waited_for() {
    let Some(world) = fleet("waits") else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    world.run("DELETE FROM comments WHERE issue_id IN (SELECT id FROM issues WHERE site_id = 'site-00002')");
    let bystanders = world.bystanders(&site);
    let mut target = world.target(&site);
    let verified = world.verify(&mut target, &kept).unwrap();
    let mut holder = world.server().connect().unwrap();
    holder.batch_execute("BEGIN; LOCK TABLE public.comments IN SHARE MODE").unwrap();
    let releases = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(700));
        holder.batch_execute("COMMIT").unwrap();
    });
    target.switch(verified).unwrap();
    releases.join().unwrap();
    target.discard_staging().unwrap();
    assert_restored(&world, &site, &kept, &bystanders);
}

#[test]
fn two_restores_of_one_site_do_not_overlap() {
    let Some(mut world) = fleet("two restores") else { return };
    world.patience = Duration::from_millis(600);
    let (site, kept) = (victim(), world.back_up(&victim()));
    let mut target = world.target(&site);
    let verified = world.verify(&mut target, &kept).unwrap();
    let mut other = world.server().connect().unwrap();
    let key: i64 = {
        let hash = blake3::hash(b"lifeboat restore of site site-00002");
        i64::from_be_bytes(hash.as_bytes()[..8].try_into().unwrap())
    };
    other.execute("SELECT pg_advisory_lock($1)", &[&key]).unwrap();
    let error = target.switch(verified.clone()).unwrap_err();
    assert_eq!(error.fault(), Fault::Retry, "{error}");
    other.execute("SELECT pg_advisory_unlock($1)", &[&key]).unwrap();
    target.switch(verified).unwrap();
    target.discard_staging().unwrap();
}

//! Bystanders of a captured source: the log says who wrote to those that differ, and what a restore wrote to others.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lifeboat_engine::{BystanderRequest, ProofRequest, RestoreWrote, look_again, look_at_bystanders, prove_bystanders};
use lifeboat_model::{BystanderChoice, BystanderLook, BystanderProof, RecoveryId, SiteId, TransactionId};
use lifeboat_testkit::postgres::{query_text, run_sql, site_name};
use lifeboat_testkit::world::{backup_all, restore_latest, site_id};

use crate::load::{Seed, transaction};
use crate::world::{SITES, World, app};

fn site(number: u32) -> SiteId {
    site_id(&site_name(number))
}

/// All sites but the restored one.
fn look(world: &World, restored: u32) -> BystanderLook {
    let others: BTreeSet<SiteId> = (1..=SITES).filter(|number| *number != restored).map(site).collect();
    let (recovery, choice) = (RecoveryId([1; 8]), BystanderChoice::All);
    let request = BystanderRequest { recovery, choice, others: &others, patience: None };
    tokio::task::block_in_place(|| look_at_bystanders(&world.engine, &request)).unwrap()
}

fn again(world: &World, first: &BystanderLook) -> BystanderLook {
    tokio::task::block_in_place(|| look_again(&world.engine, first)).unwrap()
}

async fn prove(
    world: &World,
    (first, second): (&BystanderLook, &BystanderLook),
    wrote: &[RestoreWrote],
) -> (BystanderProof, [u64; 4]) {
    let (cases, must_be_quiet, patience) = ([site(2)].into(), false, Duration::ZERO);
    let request = ProofRequest { first, second, cases: &cases, wrote, must_be_quiet, patience };
    let proof = prove_bystanders(&world.engine, request).await.unwrap();
    let counts = [proof.equal, proof.own_users, proof.not_proven, proof.not_comparable];
    (proof, counts)
}

/// Runs the statements in one transaction, and gives its number.
fn in_one_transaction(world: &World, sql: &str) -> TransactionId {
    let number = tokio::task::block_in_place(|| {
        let mut client = postgres::Client::connect(&world.url, postgres::NoTls).unwrap();
        let mut transaction = client.transaction().unwrap();
        transaction.batch_execute(sql).unwrap();
        let number: String = transaction.query_one("SELECT pg_current_xact_id()::text", &[]).unwrap().get(0);
        transaction.commit().unwrap();
        number
    });
    TransactionId(number.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restore_that_wrote_to_another_site_is_named_and_what_users_did_is_theirs() {
    const TEST: &str = "a_restore_that_wrote_to_another_site_is_named_and_what_users_did_is_theirs";
    let Some(mut world) = World::new(TEST).await else { return };
    world.catch_up().await;
    let label = |number: u32| {
        format!("INSERT INTO labels (site_id, number, name) VALUES ('{}', 901, 'later')", site_name(number))
    };
    // Just before the look: it explains nothing that comes later.
    run_sql(&world.url, &label(6)).unwrap();
    let first = look(&world, 2);
    assert_eq!(first.parts.len(), 5);
    // As if no fence had been: a restore of the second site writes to the third one, too.
    let crossing = in_one_transaction(&world, &format!("{}; {}", label(2), label(3)));
    run_sql(&world.url, &label(4)).unwrap();
    // Nothing in the log says who did this.
    let unseen = format!("UPDATE labels SET name = 'unseen' WHERE site_id = '{}'", site_name(6));
    let publication = query_text(&world.url, "SELECT pubname::text FROM pg_publication LIMIT 1").unwrap();
    let publication = publication[0][0].clone().unwrap();
    run_sql(&world.url, &format!("ALTER PUBLICATION {publication} DROP TABLE labels; {unseen}; ALTER PUBLICATION {publication} ADD TABLE labels")).unwrap();
    let second = again(&world, &first);
    let wrote = [RestoreWrote { source: app(), transaction: Some(crossing), site: site(2) }];

    let (proof, counts) = prove(&world, (&first, &second), &wrote).await;
    assert_eq!(counts, [2, 0, 3, 0], "the log has not come so far: {proof:?}");
    assert!(proof.notes.iter().all(|note| note.detail.contains("not come so far")), "{:?}", proof.notes);
    world.catch_up().await;
    let (proof, counts) = prove(&world, (&first, &second), &wrote).await;
    let touched: Vec<_> =
        proof.touched.iter().map(|one| (&one.site, one.table.as_str(), one.transaction, &one.by)).collect();
    assert_eq!(touched, [(&site(3), "public.labels", crossing, &site(2))], "{proof:?}");
    assert!(proof.has_failed());
    assert_eq!(counts, [2, 1, 1, 0], "{proof:?}");
    assert_eq!((proof.transactions, proof.transactions_logged), (1, 1));
    let notes = &proof.notes;
    assert!(notes.iter().any(|note| note.site == site(6) && note.detail.contains("does not say by whom")), "{notes:?}");
    // Killed before it could say which it was: it is missing, and what may be its own is told.
    let unknown = [RestoreWrote { source: app(), site: site(2), transaction: None }];
    let (proof, _) = prove(&world, (&first, &second), &unknown).await;
    assert_eq!((proof.transactions, proof.transactions_logged, proof.touched.len()), (1, 0, 0), "{proof:?}");
    let told = format!("transaction {crossing} wrote to it and to {}", site(2));
    assert!(proof.notes.iter().any(|note| note.site == site(3) && note.detail.contains(&told)), "{:?}", proof.notes);
    // Nobody wrote to this one: it is no matter in which transaction.
    let unknown = [RestoreWrote { source: app(), site: site(5), transaction: None }];
    let (proof, _) = prove(&world, (&first, &second), &unknown).await;
    assert_eq!((proof.transactions, proof.transactions_logged), (0, 0), "{proof:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bystanders_at_work_are_cleared_by_their_own_transactions_while_one_site_comes_back() {
    const TEST: &str = "bystanders_at_work_are_cleared_by_their_own_transactions_while_one_site_comes_back";
    let Some(mut world) = World::new(TEST).await else { return };
    world.catch_up().await;
    backup_all(&world.engine).await.unwrap();
    run_sql(&world.url, &format!("DELETE FROM sites WHERE id = '{}'", site_name(2))).unwrap();
    let is_over = AtomicBool::new(false);
    let (first, receipt, second) = std::thread::scope(|scope| {
        let (url, is_over) = (&world.url, &is_over);
        scope.spawn(move || {
            let (mut seed, mut number) = (Seed(9), 0);
            while !is_over.load(Ordering::Relaxed) {
                // Of other sites than the restored one.
                let sql = transaction(&mut seed, SITES.into(), number).replace(&site_name(2), &site_name(3));
                let _ = run_sql(url, &sql);
                number += 1;
            }
        });
        let first = look(&world, 2);
        let restored = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(restore_latest(&world.engine, &site_name(2)))
        });
        let one = format!("INSERT INTO labels (site_id, number, name) VALUES ('{}', 902, 'later')", site_name(4));
        run_sql(url, &one).unwrap();
        let second = again(&world, &first);
        is_over.store(true, Ordering::Relaxed);
        (first, restored.unwrap(), second)
    });
    world.catch_up().await;
    let part = receipt.parts.iter().find(|part| part.source == app()).unwrap();
    let transaction = part.transaction.expect("rows were written in one");
    let wrote = [RestoreWrote { source: app(), transaction: Some(transaction), site: site(2) }];
    let (proof, [equal, own_users, not_proven, not_comparable]) = prove(&world, (&first, &second), &wrote).await;
    assert!(own_users > 0 && !proof.has_failed(), "{proof:?}");
    assert_eq!((equal + own_users, not_proven, not_comparable), (5, 0, 0), "{proof:?}");
    assert_eq!((proof.transactions, proof.transactions_logged), (1, 1));
}

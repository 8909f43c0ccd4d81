//! The log proven against the live rows, while applications write and the capture goes on.

use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_engine::prove_log;
use lifeboat_testkit::postgres::{run_sql, site_name};
use lifeboat_testkit::world::{backup_all, site_id};

use crate::load::{Over, Seed, transaction};
use crate::world::{SITES, World, app};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn live_rows_are_what_base_and_log_say_of_the_same_moment_under_load() {
    const TEST: &str = "live_rows_are_what_base_and_log_say_of_the_same_moment_under_load";
    let Some(mut world) = World::new(TEST).await else { return };
    world.catch_up().await;
    backup_all(&world.engine).await.unwrap();
    let looking = world.engine_over(world.store.clone()).await;
    let (url, is_over) = (world.url.clone(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (url, is_over) = (&url, &is_over);
        for worker in 0..3 {
            scope.spawn(move || {
                let mut seed = Seed(40 + worker);
                for number in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let _ = run_sql(url, &transaction(&mut seed, SITES.into(), number));
                }
            });
        }
        let (handle, world) = (tokio::runtime::Handle::current(), &mut world);
        scope.spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                handle.block_on(world.catch_up());
            }
        });
        // Also when a proof fails, the others end.
        let _over = Over(is_over);
        let proving = async {
            let mut changes = 0;
            for round in 0..4 {
                let site = site_id(&site_name(1 + round % SITES));
                let proof = prove_log(&looking, &site, &app()).await.unwrap().unwrap();
                assert_eq!(proof.differing, Vec::<String>::new(), "{site}, round {round}");
                assert!(proof.rows > 0, "{proof:?}");
                changes += proof.changes;
            }
            changes
        };
        let changes = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(proving));
        assert!(changes > 0, "nothing was put on top of a base");
    });
}

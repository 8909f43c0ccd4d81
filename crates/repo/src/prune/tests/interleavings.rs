//! Writers, pruners, a reader and a clock on one site, in any order: each operation of the store is one step, and a seed
//! says whose step is next.
//!
//!   seed ─▶ actors, weights, deaths ─▶ step, judge, step, judge … ─▶ all have ended ─▶ time passes, prune till nothing is left
//!
//! Everything is on one thread and every id is made from the seed, so that a seed is a schedule. With
//! `LIFEBOAT_TEST_FULL=1` there are more than a hundred thousand of them. A seed that failed once stays in [`KEPT`].

use std::collections::{BTreeSet, HashSet};
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use futures_util::FutureExt;
use lifeboat_format::names::{self, ParsedName};
use lifeboat_model::{CommitEvent, ObjectId, Timestamp};
use lifeboat_store::Store;

use crate::tests::{seed_ids, writer};

mod actors;
mod judge;
mod scene;
mod steps;

use actors::{Actor, Role};
use scene::{DAY, RULES, Scene, World};
use steps::{Gate, Random};

/// Seeds that found something once: always tried, and first.
const KEPT: &[u64] = &[5, 10, 250, 537, 916, 16_785, 19_389];
const SCHEDULES: u64 = 600;
const SCHEDULES_FULL: u64 = 120_000;
/// No schedule is longer; one that is does not end.
const STEPS_MAX: usize = 20_000;

/// What a step takes, so that no two are at one time.
const MOMENT: i64 = 1;

/// An actor at work.
struct Working {
    role: Role,
    work: Pin<Box<dyn Future<Output = Result<(), String>>>>,
    gate: Arc<Gate>,
    weight: usize,
}

/// What one schedule came to.
struct Played {
    schedule: u64,
    states: HashSet<u64>,
    steps: usize,
    deleted: u64,
}

/// Who takes part.
fn cast(random: &mut Random) -> Vec<Role> {
    let mut cast = vec![Role::Writer(0), Role::Writer(1), Role::Pruner, Role::Reader, Role::Clock];
    for (role, rarity) in [(Role::Pruner, 2), (Role::Undelete, 3), (Role::Compaction, 3), (Role::Holder, 4)] {
        if random.one_in(rarity) {
            cast.push(role);
        }
    }
    cast
}

fn start(world: &Arc<World>, role: Role, reading: &Arc<actors::Reading>, random: &mut Random) -> Working {
    let gate = Arc::new(Gate::default());
    let (repository, weight) = (world.through(&gate), random.of(&WEIGHTS));
    let random = Random::new(random.next());
    let actor = Actor { world: world.clone(), repository, gate: gate.clone(), random, reading: reading.clone() };
    Working { role, work: Box::pin(role.act(actor)), gate, weight }
}

/// Some are far slower than others, and that changes: a long pause is where races hide.
const WEIGHTS: [usize; 6] = [0, 1, 3, 10, 30, 100];

/// Plays the schedule of a seed to its end.
fn play(scene: &Scene, seed: u64) -> Result<Played, (String, Arc<World>)> {
    seed_ids(Some(seed));
    let (world, mut random) = (Arc::new(scene.world()), Random::new(seed));
    let reading = Arc::default();
    let mut working: Vec<Working> =
        cast(&mut random).into_iter().map(|role| start(&world, role, &reading, &mut random)).collect();
    let mut death = random.one_in(3).then(|| random.below(150));
    let mut steps = 0;
    while !working.is_empty() {
        steps += 1;
        assert!(steps < STEPS_MAX, "seed {seed} does not end");
        if random.one_in(24) {
            working.iter_mut().for_each(|actor| actor.weight = random.of(&WEIGHTS));
        }
        let at = choose(&working, &mut random);
        let mortal = working[at].role.is_mortal() && death.is_some_and(|death| death <= steps);
        if mortal {
            death = None;
            let role = working.swap_remove(at).role;
            if !random.one_in(3) {
                working.push(start(&world, role, &reading, &mut random));
            }
            continue;
        }
        world.advance(MOMENT);
        let actor = &mut working[at];
        world.judge.facts().actor = actor.role.letter();
        actor.gate.let_one_through(&mut random);
        let polled = actor.work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let fault = world.judge.facts().fault.take();
        if let Some(fault) = fault {
            return Err((fault, world));
        }
        match polled {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => drop(working.swap_remove(at)),
            Poll::Ready(Err(fault)) => return Err((fault, world)),
        }
    }
    if let Err(fault) = end(&world).now_or_never().expect("nothing waits in memory") {
        return Err((fault, world));
    }
    let facts = world.judge.facts();
    let mut hasher = DefaultHasher::new();
    for (actor, operation, what) in &facts.trace {
        (actor, *operation as u8, what).hash(&mut hasher);
    }
    Ok(Played { schedule: hasher.finish(), states: facts.states.clone(), steps, deleted: facts.deleted })
}

fn choose(working: &[Working], random: &mut Random) -> usize {
    let all: usize = working.iter().map(|actor| actor.weight).sum();
    if all == 0 {
        return random.below(working.len());
    }
    let mut left = random.below(all);
    let chosen = working.iter().position(|actor| {
        let is_it = left < actor.weight;
        left = left.saturating_sub(actor.weight);
        is_it
    });
    chosen.unwrap_or(0)
}

/// Time passes and nobody works but prunes: every point restores, and nothing is left but what is named.
async fn end(world: &World) -> Result<(), String> {
    let said = |error: crate::Error| format!("at the end: {error}");
    let repository = world.through(&Gate::open());
    let mut site = world.open(&repository).await.map_err(said)?;
    for hold in site.state().holds.clone() {
        let released = site.commit(&writer(), |_, _| Ok(CommitEvent::HoldReleased { hold: hold.id })).await;
        released.map_err(said)?;
    }
    // One of the pruners may have had a clock that was a year ahead.
    for days in [400, 2, 2] {
        world.advance(days * DAY);
        world.record_run(&repository).await.map_err(said)?;
        let clock = repository.trusted_now(world.judge.now()).await.map_err(said)?;
        site.prune(&RULES, &clock, &writer()).await.map_err(said)?;
    }
    if let Some(fault) = world.judge.facts().fault.take() {
        return Err(fault);
    }
    let state = world.open(&repository).await.map_err(said)?.state().clone();
    if !state.condemned.is_empty() || !state.forgotten.is_empty() {
        return Err(format!("at the end there is left: {:?} {:?}", state.condemned, state.forgotten));
    }
    for record in &state.snapshots {
        world.read(&site, record).await.map_err(|fault| format!("at the end: {fault}"))?;
    }
    let listed =
        world.store.list(&names::site_prefix(&site.handle()), None, 100_000).await.map_err(|e| said(e.into()))?;
    let found = listed.iter().filter_map(|listed| match names::parse_object_name(listed.name.as_str()) {
        Some(ParsedName::Object(_, _, id)) => Some(id),
        _ => None,
    });
    let found: BTreeSet<ObjectId> = found.collect();
    let named = world.judge.facts().named_by(&state);
    if found != named {
        let (extra, missing): (Vec<_>, Vec<_>) =
            (found.difference(&named).collect(), named.difference(&found).collect());
        return Err(format!("at the end there is too much or too little: extra=`{extra:?}`, missing=`{missing:?}`"));
    }
    Ok(())
}

fn fail(seed: u64, fault: &str, world: &World) -> ! {
    let facts = world.judge.facts();
    let steps: Vec<String> =
        facts.trace.iter().map(|(actor, operation, what)| format!("{actor}:{operation:?}{what}")).collect();
    panic!(
        "seed {seed} (to be kept in KEPT): {fault}\nat `{}`, its schedule: {}",
        Timestamp(facts.now),
        steps.join(" ")
    );
}

#[test]
fn a_seed_is_a_schedule() {
    let schedule = |seed| {
        let scene = Scene::new().now_or_never().expect("nothing waits in memory");
        play(&scene, seed).unwrap_or_else(|(fault, world)| fail(seed, &fault, &world)).schedule
    };
    for seed in 1..5 {
        assert_eq!(schedule(seed), schedule(seed), "{seed}");
    }
}

#[test]
fn in_any_order_no_point_loses_anything_and_all_that_is_condemned_goes() {
    let scene = Scene::new().now_or_never().expect("nothing waits in memory");
    let is_full = std::env::var("LIFEBOAT_TEST_FULL").is_ok_and(|value| value == "1");
    let count = if is_full { SCHEDULES_FULL } else { SCHEDULES };
    let began = std::time::Instant::now();
    KEPT.iter().for_each(|seed| drop(play(&scene, *seed).unwrap_or_else(|(fault, world)| fail(*seed, &fault, &world))));
    let next = AtomicU64::new(1);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let played: Vec<(HashSet<u64>, HashSet<u64>, usize, u64)> = std::thread::scope(|scope| {
        let plays = || {
            let (mut schedules, mut states, mut steps, mut deleted) = (HashSet::new(), HashSet::new(), 0, 0);
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed > count {
                    return (schedules, states, steps, deleted);
                }
                let one = play(&scene, seed).unwrap_or_else(|(fault, world)| fail(seed, &fault, &world));
                schedules.insert(one.schedule);
                states.extend(one.states);
                (steps, deleted) = (steps + one.steps, deleted + one.deleted);
            }
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(plays)).collect();
        running.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let schedules: HashSet<u64> = played.iter().flat_map(|one| &one.0).copied().collect();
    let states: HashSet<u64> = played.iter().flat_map(|one| &one.1).copied().collect();
    let (steps, deleted): (usize, u64) = (played.iter().map(|one| one.2).sum(), played.iter().map(|one| one.3).sum());
    println!(
        "{count} schedules, {} of them different, {steps} steps, {} different states of the site, {deleted} objects deleted, {:?}",
        schedules.len(),
        states.len(),
        began.elapsed()
    );
    assert!(schedules.len() as u64 > count * 9 / 10, "too many schedules are the same");
    assert!(deleted > count, "hardly anything is ever deleted");
}

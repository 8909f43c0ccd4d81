//! A command in a process of its own, which kills itself: the test binary started again.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lifeboat_format::SecretKey;
use lifeboat_model::{ProgressEvent, ProgressPhase, ProgressSink, RestoreId};
use lifeboat_store::DirectoryStore;
use lifeboat_testkit::crash_runner::{Scene, Verb};
use lifeboat_testkit::killing_store::{KillingStore, kill_myself};
use lifeboat_testkit::world::World;

const TASK: &str = "LIFEBOAT_TEST_SIM_TASK";

/// Where the process kills itself.
#[derive(Debug, Clone, Copy)]
pub enum Kill {
    Never,
    /// At this operation of the store, done or not.
    AtOperation {
        number: usize,
        is_done: bool,
    },
    /// So long after the phase began.
    InPhase {
        phase: ProgressPhase,
        after: Duration,
    },
}

/// Runs the scene's command on a directory repository in another process until it ends or dies.
pub fn run(scene: &Scene, repository: &Path, kill: Kill) -> Output {
    let verb = match scene.verb {
        Verb::Backup => "backup".to_owned(),
        Verb::Restore => "restore".to_owned(),
        Verb::Undo(restore) => restore.to_string(),
    };
    let kill = match kill {
        Kill::Never => "never".to_owned(),
        Kill::AtOperation { number, is_done } => format!("operation {number} {is_done}"),
        Kill::InPhase { phase, after } => format!("phase {phase:?} {}", after.as_micros()),
    };
    let key = scene.world.master.to_base64();
    let task = [path_text(&scene.world.root), path_text(repository), &key, &verb, &kill].join("\n");
    Command::new(std::env::current_exe().expect("this test binary"))
        .args(["child::a_started_process_runs_its_command", "--exact", "--nocapture", "--test-threads=1"])
        .env(TASK, task)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .output()
        .expect("the process starts")
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

/// Not a claim by itself: the entry of every process that the other tests start.
#[test]
fn a_started_process_runs_its_command() {
    let Ok(task) = std::env::var(TASK) else { return };
    let lines: Vec<&str> = task.split('\n').collect();
    let [root, repository, key, verb, kill] = lines[..] else { panic!("not a task: {task:?}") };
    let verb = match verb {
        "backup" => Verb::Backup,
        "restore" => Verb::Restore,
        id => Verb::Undo(RestoreId::parse(id).expect("a restore's id")),
    };
    let world = World::attach(PathBuf::from(root), SecretKey::parse_base64(key).expect("a key"));
    let words: Vec<&str> = kill.split(' ').collect();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(run_command(&world, Path::new(repository), verb, &words));
}

async fn run_command(world: &World, repository: &Path, verb: Verb, kill: &[&str]) {
    let store = DirectoryStore::open(repository).expect("the directory");
    let (number, is_done) = match kill {
        ["operation", number, is_done] => (number.parse().expect("a number"), *is_done == "true"),
        _ => (usize::MAX, false),
    };
    let store = Arc::new(KillingStore::new(store, number, is_done));
    let mut engine = world.engine(store.clone()).await.expect("an engine");
    engine.ingest.inline = false;
    let phase = match kill {
        ["phase", phase, micros] => ((*phase).to_owned(), Duration::from_micros(micros.parse().expect("a number"))),
        _ => ("none".to_owned(), Duration::ZERO),
    };
    let began = Instant::now();
    engine.progress = Arc::new(Watch { began, phase });
    verb.run(&engine).await.expect("the command ends well");
    println!("says:ended {}.", began.elapsed().as_micros());
    println!("says:operations {}.", store.operations());
}

/// What a process said under a name.
pub fn said(output: &Output, name: &str) -> Option<u64> {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.split_once(&format!("says:{name} ")))?.1.to_owned();
    line.trim_end_matches('.').parse().ok()
}

/// Tells when a phase begins, and kills this process so long after it.
struct Watch {
    began: Instant,
    phase: (String, Duration),
}

impl ProgressSink for Watch {
    fn report(&self, event: ProgressEvent) {
        let ProgressEvent::PhaseChanged { phase, .. } = event else { return };
        println!("says:{phase:?} {}.", self.began.elapsed().as_micros());
        let (name, after) = self.phase.clone();
        if format!("{phase:?}") == name {
            std::thread::spawn(move || {
                std::thread::sleep(after);
                kill_myself()
            });
        }
    }
}

//! The program itself, capturing into a real S3 server that goes away for a while.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lifeboat_engine::{BackupRequest, SiteBackup, backup};
use lifeboat_format::SecretKey;
use lifeboat_store::{OpenOptions, open};
use lifeboat_testkit::s3_server::{ACCESS_KEY, S3Server, SECRET_KEY};

use crate::host::Host;
use crate::world::{SITES, World};

const SOURCE: &str =
    "tenancy = \"column\"\ntenant_column = \"site_id\"\nroot = \"sites\"\nshared = [\"countries\", \"plans\"]";

const CUT: Duration = Duration::from_secs(4);

/// A way to the server that can be cut: connections that are there break, new ones are refused.
struct Gate {
    port: u16,
    is_cut: Arc<AtomicBool>,
}

impl Gate {
    fn before(server: &str) -> io::Result<Self> {
        let (listener, is_cut) = (TcpListener::bind("127.0.0.1:0")?, Arc::new(AtomicBool::new(false)));
        let gate = Self { port: listener.local_addr()?.port(), is_cut: is_cut.clone() };
        let server = server.to_owned();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(upstream) = TcpStream::connect(&server) else { continue };
                if !is_cut.load(Ordering::Relaxed) {
                    let _ = join(client, upstream, &is_cut);
                }
            }
        });
        Ok(gate)
    }
}

fn join(client: TcpStream, server: TcpStream, is_cut: &Arc<AtomicBool>) -> io::Result<()> {
    for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
        let is_cut = is_cut.clone();
        from.set_read_timeout(Some(Duration::from_millis(100)))?;
        std::thread::spawn(move || pass(&from, &to, &is_cut));
    }
    Ok(())
}

/// Until either end is closed, or the way is cut.
fn pass(mut from: &TcpStream, mut to: &TcpStream, is_cut: &AtomicBool) {
    use std::io::{Read, Write};
    let mut some = vec![0; 64 << 10];
    while !is_cut.load(Ordering::Relaxed) {
        match from.read(&mut some) {
            Ok(0) => break,
            Ok(len) if to.write_all(&some[..len]).is_err() => break,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    let _ = (from.shutdown(std::net::Shutdown::Both), to.shutdown(std::net::Shutdown::Both));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bucket_that_goes_away_while_changes_are_captured_lacks_none_afterwards() {
    const TEST: &str = "a_bucket_that_goes_away_while_changes_are_captured_lacks_none_afterwards";
    let Some(s3) = S3Server::shared_or_skip(TEST) else { return };
    let Some(mut world) = World::new(TEST).await else { return };
    let gate = Gate::before(s3.endpoint().trim_start_matches("http://")).unwrap();
    let direct = s3.fresh_url().unwrap();
    let gated = direct.replace(&s3.endpoint(), &format!("http://127.0.0.1:{}", gate.port));
    let credentials = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
    let host = Host::over(&world.url, SOURCE, &gated, &credentials);
    let capture = host.start();
    host.wait_for("\"taken\":6");
    world.work(3, 20);
    gate.is_cut.store(true, Ordering::Relaxed);
    world.work(4, 20);
    tokio::time::sleep(CUT).await;
    if std::env::var_os("LIFEBOAT_TEST_FULL").is_some() {
        host.wait_for("\"event\":\"waiting\""); // each request is tried for a minute before it fails
    }
    world.work(5, 20);
    gate.is_cut.store(false, Ordering::Relaxed);
    world.work(6, 20);
    assert_eq!(capture.stop(), 0);
    let (done, code) = host.told(&["capture", "--until-caught-up"]);
    let source = &done["sources"][0];
    assert_eq!((code, source["epoch"].as_u64(), source["unrouted"].as_u64()), (0, Some(1), Some(0)), "{done}");
    let key = std::fs::read_to_string(host.path("lifeboat.key")).unwrap();
    let options = OpenOptions { s3: s3.options(), ..OpenOptions::default() };
    let store = open(&direct, &options).await.unwrap().store;
    world.look_at(store, &SecretKey::parse_base64(&key).unwrap()).await;
    let replayed = world.all_replayed().await;
    assert_eq!(replayed.len(), SITES as usize);
    let request = BackupRequest { accept_loss: true, ..BackupRequest::default() };
    assert!(backup(&world.engine, &request).await.unwrap().sites.iter().all(SiteBackup::is_good));
    world.expect_as_snapshots(&replayed, "after the bucket was away").await;
    let (check, code) = host.told(&["check"]);
    assert_eq!(code, 0, "{check}");
}

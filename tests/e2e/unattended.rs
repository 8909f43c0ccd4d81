//! The daemon by itself: who is on call hears of what breaks and of its mending, metrics are shown, points end by the rules.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use lifeboat_testkit::s3_server::{ACCESS_KEY, S3Server, SECRET_KEY};

use crate::alarms::Hook;
use crate::daemon::Daemon;
use crate::gate::Gate;
use crate::place::Place;

const SOON: Duration = Duration::from_secs(60);

/// Waits until `look` gives something.
#[track_caller]
fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let till = Instant::now() + SOON;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < till, "never: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What a page answers, status line and all; nothing where nobody listens.
fn ask(port: u16, path: &str, token: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n")
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

#[test]
fn the_daemon_tells_shows_forgets_and_deletes_with_nobody_looking() {
    let mut place = Place::new(None, Vec::new());
    place.envs.push(("METRICS_TOKEN".into(), "let me see".into()));
    for site in ["acme", "beta", "gamma", "delta", "echo"] {
        place.make_site(site);
    }
    let (hook, port) = (Hook::new(0), free_port());
    let path = place.path("lifeboat.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    // Points that no rule keeps: two of them before the daemon begins.
    for round in 0..3 {
        std::fs::write(place.path("srv/acme/files/a.txt"), format!("round {round}")).unwrap();
        place.ok(&["backup", "--all"]);
    }
    let policy =
        "[policy]\nschedule = \"0 0 1 1 *\"\nwindow = \"1s\"\nundo = \"1s\"\nundelete = \"1s\"\nkeep = { last = 1 }\n";
    let text = text.replacen("[policy]\n", policy, 1);
    let more = format!(
        "\n[daemon]\npoll = \"1s\"\ndiscover = \"1s\"\n[check]\nevery = \"off\"\n[prune]\nevery = \"2s\"\ngrace = \"1s\"\n\
         forget_limit = \"5%\"\n[alarms]\nevery = \"1s\"\n[notify.oncall]\nwebhook = \"{}/alarms\"\n[ping]\nurl = \"{}/ping\"\n\
         [metrics]\nlisten = \"127.0.0.1:{port}\"\ntoken = \"env:METRICS_TOKEN\"\n",
        hook.url, hook.url
    );
    std::fs::write(&path, format!("{text}{more}")).unwrap();

    let mut daemon = Daemon::start(&place, "daemon.log");
    let well =
        wait("metrics", || ask(port, "/metrics", "let me see").filter(|page| page.contains("\nlifeboat_sites{")));
    assert!(well.starts_with("HTTP/1.1 200") && !well.contains("acme"), "{well}");
    assert!(ask(port, "/metrics", "no").unwrap().starts_with("HTTP/1.1 401"));
    assert!(ask(port, "/healthz", "").unwrap().starts_with("HTTP/1.1 200"));
    wait("ready", || ask(port, "/readyz", "").filter(|page| page.starts_with("HTTP/1.1 200")));
    wait("a ping", || hook.asked.try_iter().find(|(path, _)| path == "/ping"));

    // More at once than may be forgotten with nobody looking: whoever is on call is told, till that is mended.
    let heard = |word: &str| {
        hook.asked
            .try_iter()
            .find(|(path, body)| path == "/alarms" && body.contains(word) && body.contains("job_trouble"))
    };
    wait("the refusal told", || heard("forget and prune"));
    let status = place.run(&["status"]);
    assert_eq!(status.code, 4, "{status:?}");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("\"5%\"", "\"60%\"", 1)).unwrap();
    daemon.signal("-HUP");
    wait("its end told", || heard("resolved"));

    // The rules: of three points of acme one stays, and what the others alone needed is deleted once another run was recorded.
    let points = || place.ok(&["points", "acme", "--json"]).out.matches("\"event\":\"point\"").count();
    wait("points forgotten", || (points() == 1).then_some(()));
    wait("condemned and deleted", || {
        std::fs::write(place.path("srv/beta/files/a.txt"), format!("{:?}", Instant::now())).unwrap();
        place.ok(&["backup", "beta"]);
        let listed = place.ok(&["audit", "list", "--json"]).out;
        let pruned = place.ok(&["prune", "--json"]).out;
        (listed.contains("pruned") && !pruned.contains("\"waiting\":2") && pruned.contains("\"to_delete\":0"))
            .then_some(())
    });

    // A site that vanishes is told of within a cycle, and again when it is back.
    let kept = place.path("kept");
    std::fs::rename(place.path("srv/delta"), &kept).unwrap();
    let told = |word: &str| {
        hook.asked.try_iter().find(|(path, body)| path == "/alarms" && body.contains(word) && body.contains("delta"))
    };
    wait("the vanished site told", || told("site_vanished"));
    let page = ask(port, "/metrics", "let me see").unwrap();
    assert!(page.contains("lifeboat_alarms{") && page.contains("kind=\"site_vanished\""), "{page}");
    std::fs::rename(&kept, place.path("srv/delta")).unwrap();
    wait("its end told", || told("resolved"));

    daemon.signal("-TERM");
    assert_eq!(daemon.ended(), Some(0));
    assert!(ask(port, "/healthz", "").is_none(), "nobody listens any more");
    place.ok(&["check", "--read-data"]);
    place.ok(&["audit", "verify"]);
}

#[test]
fn a_store_that_is_away_is_told_by_a_daemon_that_does_not_end() {
    let name = "a_store_that_is_away_is_told_by_a_daemon_that_does_not_end";
    let Some(server) = S3Server::shared_or_skip(name) else { return };
    let gate = Gate::before(&server.endpoint());
    let envs = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
    let envs = envs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let place = Place::new(Some(gate.url(&server.fresh_url().expect("a bucket"))), envs.into());
    place.make_site("acme");
    place.ok(&["backup", "--all"]);
    let (hook, port) = (Hook::new(0), free_port());
    let path = place.path("lifeboat.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let more = format!(
        "\n[daemon]\npoll = \"1s\"\n[check]\nevery = \"off\"\n[alarms]\nevery = \"1s\"\n[notify.oncall]\nwebhook = \"{}/alarms\"\n\
         [metrics]\nlisten = \"127.0.0.1:{port}\"\n",
        hook.url
    );
    std::fs::write(&path, format!("{text}{more}")).unwrap();
    let mut daemon = Daemon::start(&place, "daemon.log");
    wait("ready", || ask(port, "/readyz", "").filter(|page| page.starts_with("HTTP/1.1 200")));
    gate.shut();
    let told = |word: &str| hook.asked.try_iter().find(|(_, body)| body.contains(word));
    wait("the store that is away", || told("store_unreachable"));
    wait("not ready", || ask(port, "/readyz", "").filter(|page| page.starts_with("HTTP/1.1 503")));
    assert!(ask(port, "/healthz", "").unwrap().starts_with("HTTP/1.1 200"));
    gate.open();
    wait("its end", || told("resolved"));
    wait("ready again", || ask(port, "/readyz", "").filter(|page| page.starts_with("HTTP/1.1 200")));
    daemon.signal("-TERM");
    assert_eq!(daemon.ended(), Some(0));
}

//! Alarms proven by breaking things: each is seen in `status`, in the metrics and by a real webhook within one cycle, and is
//! over when what was broken is mended.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use super::place::{Place, Said};

/// A page of somebody on call: takes pings and messages, but for the first messages.
pub struct Hook {
    pub url: String,
    /// Path and body.
    pub asked: Receiver<(String, String)>,
}

impl Hook {
    pub fn new(fails_first: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (tell, asked) = channel();
        std::thread::spawn(move || {
            let mut fails = fails_first;
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let (mut head, mut byte) = (String::new(), [0]);
                while !head.ends_with("\r\n\r\n") && connection.read(&mut byte).unwrap_or(0) > 0 {
                    head.push(char::from(byte[0]));
                }
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
                connection.read_exact(&mut body).unwrap();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let is_failing = path == "/alarms" && fails > 0;
                fails -= usize::from(is_failing);
                let status = if is_failing { "500 Oh" } else { "204 No Content" };
                let _ = connection.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes());
                let _ = tell.send((path, String::from_utf8(body).unwrap()));
            }
        });
        Self { url, asked }
    }

    fn all(&self) -> Vec<(String, String)> {
        self.asked.try_iter().collect()
    }
}

struct Scene {
    place: Place,
    hook: Hook,
    config: String,
}

/// What one cycle said.
struct Seen {
    code: i32,
    /// Ids of alarms.
    firing: BTreeSet<String>,
    /// Those that the webhook heard of just now, of which lists.
    began: BTreeSet<String>,
    resolved: BTreeSet<String>,
    pings: Vec<String>,
    metrics: String,
    lines: Vec<Value>,
    said: Said,
}

const SITES: [&str; 6] = ["acme", "globex", "hooli", "initech", "pied", "umbrella"];

impl Scene {
    fn new(fails_first: usize) -> Self {
        let (place, hook) = (Place::new(None, Vec::new()), Hook::new(fails_first));
        SITES.iter().for_each(|site| place.make_site(site));
        let text = std::fs::read_to_string(place.path("lifeboat.toml")).unwrap();
        let config = format!(
            "{text}\n[notify.oncall]\nwebhook = \"{0}/alarms\"\n[ping]\nurl = \"{0}/ping\"\non_breach = \"fail\"\n\
             [metrics]\nsite_series_max = 10\n",
            hook.url
        );
        let scene = Self { place, hook, config };
        scene.configure("");
        scene
    }

    fn configure(&self, more: &str) {
        std::fs::write(self.place.path("lifeboat.toml"), format!("{}{more}", self.config)).unwrap();
    }

    /// One cycle, as a timer has it.
    fn cycle(&self) -> Seen {
        let said = self.place.run(&["status", "--json", "--notify", "--metrics", "lifeboat.prom"]);
        let lines: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let ids = |alarms: &mut dyn Iterator<Item = &Value>| -> BTreeSet<String> {
            alarms.map(|alarm| alarm["id"].as_str().unwrap().to_owned()).collect()
        };
        let firing = ids(&mut lines.iter().filter(|line| line["event"] == "alarm"));
        let asked = self.hook.all();
        let messages: Vec<Value> = asked
            .iter()
            .filter(|(path, _)| path == "/alarms")
            .map(|(_, body)| serde_json::from_str(body).unwrap())
            .collect();
        let list = |name: &str| ids(&mut messages.iter().flat_map(|message| message[name].as_array().unwrap()));
        let metrics = std::fs::read_to_string(self.place.path("lifeboat.prom")).unwrap();
        Seen {
            code: said.code,
            firing,
            began: list("began"),
            resolved: list("resolved"),
            pings: asked.iter().map(|(path, _)| path.clone()).filter(|path| path != "/alarms").collect(),
            metrics,
            lines,
            said,
        }
    }

    /// Nothing but a notice fires, and nobody is told anything that they know.
    #[track_caller]
    fn expect_well(&self) {
        let seen = self.cycle();
        assert_eq!(seen.code, 0, "{:?}", seen.said);
        assert!(seen.began.is_empty() && seen.resolved.is_empty(), "{:?} {:?}", seen.began, seen.resolved);
        assert_eq!(seen.pings, ["/ping"]);
    }

    /// This is seen everywhere, at once; and only once told.
    #[track_caller]
    fn expect_alarm(&self, id: &str, code: i32) -> Seen {
        let seen = self.cycle();
        assert_eq!(seen.code, code, "{id}: {:?}", seen.said);
        assert!(seen.firing.contains(id), "{id}: {:?}", seen.firing);
        assert!(seen.began.contains(id), "{id} was not told: {:?}", seen.began);
        let kind = id.split('/').next().unwrap();
        let counted =
            seen.metrics.lines().filter(|line| line.starts_with(&format!("lifeboat_alarms{{kind=\"{kind}\"")));
        let counted: Vec<&str> = counted.filter(|line| !line.ends_with(" 0")).collect();
        assert_eq!(counted.len(), 1, "{id}: {}", seen.metrics);
        assert_eq!(seen.pings, ["/ping/fail"]);
        assert!(self.cycle().began.is_empty(), "{id} was told twice");
        seen
    }

    #[track_caller]
    fn expect_over(&self, id: &str) {
        let seen = self.cycle();
        assert!(!seen.firing.contains(id) && seen.resolved.contains(id), "{id}: {:?} {:?}", seen.firing, seen.resolved);
        assert_eq!(seen.code, 0, "{:?}", seen.said);
        self.expect_well();
    }

    /// The largest object below the packs of all sites.
    fn pack(&self) -> PathBuf {
        let (mut found, mut todo) = (Vec::new(), vec![self.place.path("repository/sites")]);
        while let Some(path) = todo.pop() {
            match path.is_dir() {
                true => todo.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path())),
                false if path.components().any(|part| part.as_os_str() == "pack") => found.push(path),
                false => {}
            }
        }
        found.into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap()
    }
}

#[test]
fn what_befalls_a_site_is_told_at_once_and_told_to_be_over() {
    let scene = Scene::new(0);
    let place = &scene.place;
    for site in SITES {
        let id = format!("point_overdue/site:{site}");
        assert!(scene.cycle().firing.contains(&id), "{id}");
    }
    place.ok(&["backup", "--all"]);
    let seen = scene.cycle();
    assert_eq!((seen.code, seen.resolved.len()), (0, SITES.len()), "{:?}", seen.said);
    scene.expect_well();

    let (there, away) = (place.path("srv/initech"), place.path("away"));
    std::fs::rename(&there, &away).unwrap();
    let seen = scene.expect_alarm("site_vanished/site:initech", 4);
    assert!(seen.metrics.contains("lifeboat_site_alarms{site=\"initech\",policy=\"default\"} 1\n"), "{}", seen.metrics);
    let people = place.run(&["status"]).out;
    assert!(people.contains("CRITICAL: gone from its sources") && people.contains("do first: "), "{people}");
    std::fs::rename(&away, &there).unwrap();
    scene.expect_over("site_vanished/site:initech");

    // It shrinks, by more than 30 %.
    let large = place.path("srv/acme/files/sub/b.bin");
    let bytes = std::fs::read(&large).unwrap();
    std::fs::remove_file(&large).unwrap();
    assert_eq!(place.run(&["backup", "acme"]).code, 3);
    scene.expect_alarm("site_shrank/site:acme", 4);
    std::fs::write(&large, bytes).unwrap();
    place.ok(&["backup", "acme"]);
    scene.expect_over("site_shrank/site:acme");

    // A third of the sites at once is no matter of theirs.
    for site in ["hooli", "pied"] {
        std::fs::rename(place.path(&format!("srv/{site}")), place.path(&format!("away-{site}"))).unwrap();
    }
    let seen = scene.expect_alarm("source_failed/source:files", 4);
    assert!(seen.firing.contains("site_vanished/site:pied"), "{:?}", seen.firing);
    for site in ["hooli", "pied"] {
        std::fs::rename(place.path(&format!("away-{site}")), place.path(&format!("srv/{site}"))).unwrap();
    }
    scene.expect_over("source_failed/source:files");
}

#[test]
fn damage_that_a_check_found_is_told_until_a_check_finds_it_gone() {
    let scene = Scene::new(0);
    let place = &scene.place;
    place.ok(&["backup", "--all"]);
    scene.expect_well();
    let pack = scene.pack();
    let good = std::fs::read(&pack).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    std::fs::write(&pack, bad).unwrap();
    scene.expect_well();
    let found = place.run(&["check", "--read-data", "--json"]);
    assert_eq!(found.code, 20, "{found:?}");
    let done: Value = serde_json::from_str(found.out.lines().last().unwrap()).unwrap();
    let site = done["failed"][0]["site"].as_str().unwrap().to_owned();
    let id = format!("damage_found/site:{site}");
    let seen = scene.expect_alarm(&id, 4);
    let alarm = seen.lines.iter().find(|line| line["id"] == id.as_str()).unwrap();
    assert!(alarm["text"].as_str().unwrap().contains("object=`"), "{alarm}");
    // A look at names alone does not say that the bytes are whole again; and a catalog built anew forgets nothing of it.
    std::fs::write(&pack, good).unwrap();
    place.ok(&["check"]);
    place.ok(&["catalog", "rebuild"]);
    assert!(scene.cycle().firing.contains(&id));
    place.ok(&["check", &site, "--read-data"]);
    scene.expect_over(&id);
    let verified = scene.cycle();
    let line = verified.lines.iter().find(|line| line["event"] == "site" && line["site"] == site.as_str()).unwrap();
    assert!(line["verified_at"].is_string() && line["within_rto"].is_null(), "{line}");
}

#[test]
fn drills_that_are_owed_a_full_disk_and_a_store_that_is_away() {
    let scene = Scene::new(2);
    let place = &scene.place;
    place.ok(&["backup", "--all"]);
    scene.expect_well();

    scene.configure("[alarms]\nproven_within = \"1s\"\n");
    std::thread::sleep(Duration::from_millis(1_200));
    // The page is not well itself: it answers 500 twice.
    let seen = scene.cycle();
    assert!(seen.began.contains("drill_overdue/site:pied") && seen.code == 4, "{:?}", seen.said);
    assert!(seen.metrics.contains("lifeboat_sites_never_proven{policy=\"default\"} 6\n"), "{}", seen.metrics);
    place.ok(&["drill", "pied"]);
    scene.configure("[alarms]\nproven_within = \"1d\"\n[policies.strict]\nsites = [\"pied\"]\nrto = \"1h\"\n");
    let seen = scene.cycle();
    assert_eq!((seen.code, seen.resolved.len()), (0, SITES.len()), "{:?}", seen.said);
    let line = seen.lines.iter().find(|line| line["event"] == "site" && line["site"] == "pied").unwrap();
    assert_eq!((line["within_rto"].as_bool(), line["restore_debt_days"].as_u64()), (Some(true), Some(0)), "{line}");
    assert!(line["proven_at"].is_string() && line["policy"] == "strict", "{line}");

    scene.configure("[alarms]\ndisk_free = \"100%\"\n");
    scene.expect_alarm("disk_low/disk:repository", 4);
    scene.configure("");
    scene.expect_over("disk_low/disk:repository");

    std::fs::rename(place.path("repository"), place.path("unplugged")).unwrap();
    let code = place.run(&["status"]).code;
    assert!(code == 10 || code == 11, "{code}");
    let seen = scene.expect_alarm("store_unreachable/repository", code);
    assert!(
        seen.metrics.contains("lifeboat_store_up 0\n") && !seen.metrics.contains("lifeboat_sites{"),
        "{}",
        seen.metrics
    );
    std::fs::rename(place.path("unplugged"), place.path("repository")).unwrap();
    scene.expect_over("store_unreachable/repository");
}

#[test]
fn a_capture_that_stops_is_told() {
    let scene = Scene::new(0);
    let place = &scene.place;
    let captured = |lag: &str| {
        let policy = "[capture]\nscan = \"off\"\n[policies.all]\nsites = [\"*\"]\ncapture = true\n";
        scene.configure(&format!("[alarms]\ncapture_lag = \"{lag}\"\n{policy}"));
    };
    captured("1h");
    place.ok(&["backup", "--all"]);
    scene.expect_alarm("capture_behind/source:notes", 4);
    place.ok(&["capture", "--until-caught-up"]);
    place.ok(&["backup", "--all"]);
    scene.expect_over("capture_behind/source:notes");
    captured("1s");
    std::thread::sleep(Duration::from_millis(1_500));
    let seen = scene.expect_alarm("capture_behind/source:notes", 4);
    assert!(seen.metrics.contains("lifeboat_source_captured_timestamp_seconds{source=\"notes\"} "), "{}", seen.metrics);
    captured("1h");
    place.ok(&["capture", "--until-caught-up"]);
    scene.expect_over("capture_behind/source:notes");
}

#[test]
fn somebody_who_cannot_be_told_is_an_alarm_of_its_own() {
    let scene = Scene::new(0);
    let place = &scene.place;
    place.ok(&["backup", "--all"]);
    scene.configure("[notify.chat]\nwebhook = \"env:NO_SUCH_PLACE\"\nmin_severity = \"notice\"\n");
    let seen = scene.cycle();
    // Of the others nobody knew yet: they are told by the next cycle.
    assert_eq!(seen.code, 4, "{:?}", seen.said);
    assert!(seen.firing.contains("notifications_failing/notify:chat"), "{:?}", seen.firing);
    assert!(seen.said.err.contains("nobody could be told of alarms"), "{:?}", seen.said);
    assert!(seen.metrics.contains("lifeboat_notifications_total{notifier=\"chat\",outcome=\"failed\"} 1\n"));
    let seen = scene.cycle();
    assert!(seen.began.contains("notifications_failing/notify:chat"), "{:?}", seen.began);
    let plain = place.run(&["status"]);
    assert!(plain.code == 4 && plain.out.contains("WARNING: nobody is told"), "{plain:?}");
    scene.configure(&format!("[notify.chat]\nwebhook = \"{}/chat\"\nmin_severity = \"notice\"\n", scene.hook.url));
    assert_eq!(scene.cycle().code, 0);
    // A command hears of the same.
    let heard = place.path("heard");
    scene.configure(&format!(
        "[notify.chat]\ncommand = [\"cp\", \"/dev/stdin\", \"{}\"]\nmin_severity = \"notice\"\n[alarms]\ndisk_free = \"100%\"\n",
        heard.display()
    ));
    scene.cycle();
    let message: Value = serde_json::from_str(&std::fs::read_to_string(heard).unwrap()).unwrap();
    assert_eq!((message["event"].as_str(), message["status"].as_str()), (Some("alarms"), Some("firing")), "{message}");
    assert!(message["text"].as_str().unwrap().contains("critical"), "{message}");
}

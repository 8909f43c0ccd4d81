//! The store under its storm: the way to it, the configuration that makes time pass, and what it came to.

use std::collections::BTreeMap;
use std::time::Duration;

use lifeboat_store::{OpenOptions, Store, open};
use lifeboat_testkit::s3_proxy::{Proxy, Storm};
use lifeboat_testkit::s3_server::{ACCESS_KEY, S3Server, SECRET_KEY};
use serde_json::Value;

use super::is_full;
use crate::alarms::Hook;
use crate::daemon::Daemon;
use crate::place::Place;

/// Of a thousand requests.
const STRUCK: u64 = 50;
/// At full size; half of it in a shorter storm, for who waits is the test.
const DELAY_MAX: Duration = Duration::from_secs(4);

pub struct Sky {
    proxy: Proxy,
    server: &'static S3Server,
    direct: String,
}

impl Sky {
    /// A new bucket behind a proxy on which it storms.
    pub fn over(server: &'static S3Server, seed: u64) -> Self {
        let proxy = Proxy::before(&server.endpoint());
        let delay_max = if is_full() { DELAY_MAX } else { DELAY_MAX / 2 };
        proxy.blow(Storm { seed, per_mille: STRUCK, delay_max });
        Self { proxy, server, direct: server.fresh_url().expect("a bucket") }
    }

    /// A host whose daemon has sixty seconds a second, and who hears of its alarms.
    pub fn place(&self, database: &str) -> (Place, Hook) {
        let envs = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY), ("APP_URL", database)];
        let envs = envs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let (place, hook) = (Place::new(Some(self.proxy.url(&self.direct)), envs.into()), Hook::new(0));
        let path = place.path("lifeboat.toml");
        let text = std::fs::read_to_string(&path).expect("the configuration");
        let policy = "[policy]\nschedule = \"* * * * *\"\ncapture = true\n";
        let changed = text.replacen("[policy]\n", policy, 1);
        assert_ne!(text, changed, "{text}");
        let more = format!(
            r#"
[sources.app]
kind = "postgres"
url = "env:APP_URL"
tenancy = "column"
tenant_column = "site_id"
root = "sites"
[policies.short]
sites = ["short"]
window = "1m"
undo = "1s"
undelete = "1s"
keep = {{ last = 2 }}
[capture]
flush = "1s"
flush_bytes = "1KiB"
scan = "5s"
[daemon]
poll = "1s"
discover = "15s"
[check]
every = "12m"
[drill]
every = "1m"
sample = 1
[prune]
every = "20s"
grace = "1m"
unnamed = "1m"
forget_limit = "100%"
[alarms]
every = "1s"
[notify.oncall]
webhook = "{0}/alarms"
[ping]
url = "{0}/ping"
on_breach = "fail"
"#,
            hook.url
        );
        std::fs::write(&path, format!("{changed}{more}")).expect("the configuration");
        (place, hook)
    }

    /// All names below a prefix, asked for where the weather is fine.
    fn names(&self, prefix: &str) -> Vec<String> {
        let options = OpenOptions { s3: self.server.options(), ..OpenOptions::default() };
        let listing = async {
            let store = open(&self.direct, &options).await?.store;
            let mut names = Vec::new();
            loop {
                let page = store.list(prefix, names.last(), 1000).await?;
                let Some(_) = page.last() else { return Ok::<_, lifeboat_store::Error>(names) };
                names.extend(page.into_iter().map(|listed| listed.name));
            }
        };
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let names = runtime.block_on(listing).expect("a listing");
        names.iter().map(ToString::to_string).collect()
    }

    /// How many segments the log of a source has.
    pub fn segments(&self, source: &str) -> u64 {
        self.names(&format!("log/{source}/")).iter().filter(|name| name.contains("/seg/")).count() as u64
    }

    /// Prints what it came to, and fails where it came to less than it must.
    pub fn tell(&self, daemon: &Daemon<'_>, hook: &Hook, stormed: Duration) {
        let weather = self.proxy.weather();
        println!("stormed for {} s: {} requests, {} struck", stormed.as_secs(), weather.requests, weather.blows());
        println!("struck: {:?}", weather.struck);
        assert_eq!(weather.struck.len(), 6, "of each kind");
        assert!((weather.requests / 25..weather.requests / 16).contains(&weather.blows()), "one in twenty");

        let logs = self.names("log/");
        let epochs: BTreeMap<String, usize> = logs.iter().fold(BTreeMap::new(), |mut counts, name| {
            let parts: Vec<&str> = name.split('/').collect();
            *counts.entry(parts[1..parts.len() - 1].join("/")).or_default() += 1;
            counts
        });
        println!("objects of the change logs: {epochs:?}; runs: {}", self.names("runs/").len());
        tell_log(&daemon.lines());
        let asked: Vec<(String, String)> = hook.asked.try_iter().collect();
        let pings = |path: &str| asked.iter().filter(|(asked, _)| asked == path).count();
        let (well, ill) = (pings("/ping"), pings("/ping/fail"));
        println!("alarm cycles: {well} well, {ill} with an alarm");
        for (_, body) in asked.iter().filter(|(path, _)| path == "/alarms") {
            let body: Value = serde_json::from_str(body).expect("JSON");
            println!("  told: {}", body["text"]);
        }
        let nights = daemon.count("backed up");
        assert!(nights > stormed.as_secs() as usize / 90, "{nights} backups");
    }
}

/// What the daemon said how often, numbers left out.
fn tell_log(lines: &[Value]) {
    let mut said = BTreeMap::<String, usize>::new();
    for line in lines {
        let (message, level) = (line["fields"]["message"].as_str(), line["level"].as_str());
        let text = message.unwrap_or_default().chars().filter(|letter| !letter.is_ascii_digit());
        let text: String = text.take(60).collect();
        *said.entry(format!("{} {text}", level.unwrap_or_default())).or_default() += 1;
    }
    said.iter().for_each(|(text, count)| println!("  said {count} times: {text}"));
}

/// How far the log of a source is behind, in seconds; `None` where it cannot be told just now.
pub fn lag(place: &Place, source: &str) -> Option<u64> {
    let said = place.run(&["status", "--json"]);
    let lines = said.out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_source = |line: &Value| line["event"] == "source" && line["source"] == source;
    lines.into_iter().find(of_source).and_then(|line| line["lag_seconds"].as_u64())
}

//! Lifeboat, as a person runs it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use lifeboat_bench::Outcome;
use lifeboat_bench::process::{Cost, run};
use lifeboat_format::SecretKey;
use lifeboat_model::{SiteId, Timestamp};
use lifeboat_repo::Repository;
use lifeboat_store::OpenOptions;
use lifeboat_testkit::postgres::site_name;
use serde_json::Value;

use crate::Drill;
use crate::fleet::Fleet;
use crate::pooled::SOURCE;

pub struct Lifeboat {
    dir: PathBuf,
    url: String,
}

/// A recovery that was run.
pub struct Run {
    pub cost: Cost,
    /// From the start of the command, for each site in the order in which they came back.
    pub back_after: Vec<f64>,
    pub bytes_read: u64,
    pub requests: u64,
    pub failed: usize,
}

impl Lifeboat {
    pub fn init(fleet: &Fleet, drill: &Drill) -> Outcome<Self> {
        let dir = drill.dir.join("lifeboat");
        fs::create_dir_all(&dir)?;
        let config = format!(
            "[repository]\nurl = \"file://{}\"\nkey = \"file:lifeboat.key\"\n\n\
             {SOURCE}\
             [sources.files]\nkind = \"files\"\npath = \"{}/{{site}}/attachments\"\n",
            dir.join("repository").display(),
            fleet.srv.display()
        );
        fs::write(dir.join("lifeboat.toml"), config)?;
        let lifeboat = Self { dir, url: fleet.url.clone() };
        lifeboat.run(&["init"])?;
        Ok(lifeboat)
    }

    pub fn restore(&self, site: u32) -> Outcome<Cost> {
        self.run(&["restore", &site_name(site), "--yes"])
    }

    /// Plans and runs the recovery of all that vanished.
    pub fn recover(&self, drill: &Drill) -> Outcome<(Cost, Run)> {
        let (lost, parallel) = (drill.lost.to_string(), drill.parallel.to_string());
        let (planned, said) =
            self.say(&["recover", "plan", "--at", "latest", "--vanished-since", "1d", "--expect", &lost])?;
        let last: Value = serde_json::from_str(said.lines().last().unwrap_or_default())?;
        let word = |key: &str| last[key].as_str().unwrap_or_default().to_owned();
        let (id, hash) = (word("recovery_id"), word("plan_hash"));
        let began = Timestamp::now();
        let (cost, said) = self.say(&["recover", "run", &id, "--plan", &hash, "--parallel", &parallel])?;
        let (mut back_after, mut bytes_read, mut requests, mut failed) = (Vec::new(), 0, 0, 0);
        for line in said.lines() {
            let event: Value = serde_json::from_str(line)?;
            if event["event"] != "case" {
                continue;
            }
            if event["state"] != "restored" {
                failed += 1;
                continue;
            }
            let ended = Timestamp::parse(event["ended_at"].as_str().unwrap_or_default())?;
            back_after.push(ended.since(began).as_secs_f64());
            bytes_read += event["receipt"]["bytes_read"].as_u64().unwrap_or(0);
            requests += event["receipt"]["requests"].as_u64().unwrap_or(0);
        }
        back_after.sort_by(f64::total_cmp);
        Ok((planned, Run { cost, back_after, bytes_read, requests, failed }))
    }

    /// Bytes that the newest snapshots of these sites consist of: commit, manifest, packs.
    pub fn stored_bytes_of(&self, sites: &[u32]) -> Outcome<u64> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            let key = SecretKey::parse_base64(fs::read_to_string(self.dir.join("lifeboat.key"))?.trim())?;
            let url = format!("file://{}", self.dir.join("repository").display());
            let store = lifeboat_store::open(&url, &OpenOptions::default()).await?.store;
            let repository = Repository::open(store, &key).await?;
            let mut bytes = 0;
            for site in sites {
                let site = SiteId::new(site_name(*site))?;
                let site = repository.site(&site, None).await?.ok_or("a site without a commit")?;
                let latest = site.state().latest().ok_or("a site without a point")?;
                let manifest = site.manifest(&latest.manifest).await?;
                bytes += latest.manifest.len + manifest.head().packs.iter().map(|pack| pack.len).sum::<u64>();
            }
            Ok(bytes)
        })
    }

    pub fn run(&self, arguments: &[&str]) -> Outcome<Cost> {
        Ok(self.say(arguments)?.0)
    }

    fn say(&self, arguments: &[&str]) -> Outcome<(Cost, String)> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.current_dir(&self.dir).arg("--json").args(arguments).env("BENCH_URL", &self.url);
        run(&mut command, &self.dir)
    }
}

//! The fleet: skewed sites in the same ten tables, attachments beside them, and the script that deletes many.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use lifeboat_bench::Outcome;
use lifeboat_testkit::postgres::{Postgres, grow_site, pooled_fleet, run_sql, site_name};
use lifeboat_testkit::world::noise;

use crate::Drill;
use crate::pooled::{self, MORE_INDEXES};

/// Every so many sites one is ten times, or a hundred times as large.
const LARGE: u32 = 100;
const HUGE: u32 = 1_000;
const FILES: u32 = 4;

pub struct Fleet {
    pub url: String,
    pub srv: PathBuf,
    sites: u32,
    busy: u32,
    lost: u32,
}

impl Fleet {
    pub fn make(cluster: &Postgres, drill: &Drill) -> Outcome<Self> {
        println!("making {} sites of {} rows", drill.sites, drill.rows);
        run_sql(&cluster.url("postgres"), "CREATE DATABASE drill")?;
        let url = cluster.url("drill");
        pooled_fleet(&url, drill.sites, drill.rows)?;
        run_sql(&url, MORE_INDEXES)?;
        for site in (1..=drill.sites).filter(|site| site % LARGE == 0) {
            grow_site(&url, site, drill.rows * if site % HUGE == 0 { 99 } else { 9 })?;
        }
        let srv = drill.dir.join("srv");
        for site in 1..=drill.sites {
            let dir = srv.join(site_name(site)).join("attachments");
            fs::create_dir_all(&dir)?;
            for file in 0..FILES {
                // 1 to 40 KB, skewed by the number.
                let len = 1_000 + (site.wrapping_mul(2_654_435_761) >> (19 + file)) as usize % 39_000;
                fs::write(dir.join(format!("file-{file}.bin")), noise(u64::from(site * FILES + file), len))?;
            }
        }
        let fleet = Self { url, srv, sites: drill.sites, busy: drill.busy, lost: drill.lost };
        pooled::settle(&fleet.url)?;
        Ok(fleet)
    }

    /// The first ones: they are used all the time.
    pub fn busy(&self) -> Vec<u32> {
        (1..=self.busy).collect()
    }

    /// Spread over all others.
    pub fn lost(&self) -> Vec<u32> {
        let others = self.sites - self.busy;
        (0..self.lost).map(|number| self.busy + 1 + number * others / self.lost).collect()
    }

    /// Some that are neither large nor huge, nor among those that are lost later.
    pub fn mean_sites(&self, count: u32) -> Vec<u32> {
        let lost = self.lost();
        let mean = (self.busy + 1..=self.sites).filter(|site| site % LARGE != 0 && !lost.contains(site));
        mean.step_by(3).take(count as usize).collect()
    }

    /// The bad script.
    pub fn delete(&self, sites: &[u32]) -> Outcome<()> {
        run_sql(&self.url, &pooled::deletion(sites))?;
        for site in sites {
            fs::remove_dir_all(self.srv.join(site_name(*site)))?;
        }
        pooled::settle(&self.url)
    }

    /// Count and checksum of the rows of each table, and of the files, of all but the busy ones.
    pub fn picture(&self) -> Outcome<BTreeMap<String, String>> {
        let first = site_name(self.busy + 1);
        let mut picture = BTreeMap::new();
        for (table, condition) in pooled::TABLES {
            let condition = condition.replace("= $", &format!(">= '{first}'"));
            picture.insert(table.to_owned(), pooled::sum_of(&self.url, table, &condition)?);
        }
        for site in self.busy + 1..=self.sites {
            let dir = self.srv.join(site_name(site)).join("attachments");
            let mut sum = 0u64;
            let mut entries: Vec<_> = fs::read_dir(&dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
            entries.sort();
            for path in &entries {
                for byte in fs::read(path)? {
                    sum = sum.wrapping_mul(31).wrapping_add(u64::from(byte));
                }
            }
            picture.insert(site_name(site), format!("{} files {sum:x}", entries.len()));
        }
        Ok(picture)
    }

    pub fn expect(&self, before: &BTreeMap<String, String>, what: &str) -> Outcome<()> {
        let now = self.picture()?;
        match before.iter().find(|(name, then)| now.get(*name) != Some(then)) {
            None => Ok(()),
            Some((name, then)) => Err(format!("after {what} {name} is {:?} instead of {then}", now.get(name)).into()),
        }
    }
}

//! A fleet in one PostgreSQL with attachments beside it, and a script that deletes many of its sites.

use std::collections::BTreeMap;

use lifeboat_testkit::postgres::{Postgres, site_name};
use serde_json::Value;

use crate::shop::{Said, Shop};

pub struct Incident {
    pub shop: Shop,
    /// What everybody has, and what is left behind the script.
    pub whole: BTreeMap<String, String>,
    pub damaged: BTreeMap<String, String>,
    pub lost: Vec<String>,
}

/// A plan that was made.
pub struct Planned {
    pub id: String,
    pub hash: String,
}

impl Incident {
    /// So many sites, of which the first ones are deleted. `None`: there is no PostgreSQL, which was said.
    pub fn of(test: &str, sites: u32, lost: u32) -> Option<Self> {
        Some(Self::with(Postgres::shared_or_skip(test)?, None, (sites, lost), |_, _| {}))
    }

    /// The same, with the repository at this URL, and with more that each site has.
    pub fn with(
        server: &Postgres,
        repository: Option<&str>,
        (sites, lost): (u32, u32),
        more: impl Fn(&Shop, u32),
    ) -> Self {
        let shop = Shop::fleet_in(server, repository, sites, 300);
        (1..=sites).for_each(|site| more(&shop, site));
        shop.ok(&["backup", "--all"]);
        let whole = shop.picture();
        let lost: Vec<String> = (1..=lost).map(site_name).collect();
        let mut incident = Self { shop, damaged: whole.clone(), whole, lost };
        incident.strike();
        incident
    }

    /// Nothing has happened to anybody yet, and nothing is backed up.
    pub fn unharmed(server: &Postgres, sites: u32) -> Self {
        let shop = Shop::fleet(server, sites, 300);
        let whole = shop.picture();
        Self { shop, damaged: whole.clone(), whole, lost: Vec::new() }
    }

    /// The script runs.
    pub fn strike(&mut self) {
        for site in &self.lost {
            self.shop.sql(&format!("DELETE FROM sites WHERE id = '{site}'"));
            let _ = std::fs::remove_dir_all(self.shop.path("srv").join(site));
        }
        self.damaged = self.shop.picture();
        assert_ne!(self.damaged, self.whole);
    }

    /// Plans to bring all lost sites back.
    pub fn plan(&self, more: &[&str]) -> Planned {
        let expect = self.lost.len().to_string();
        let mut args = vec!["--json", "recover", "plan", "--at", "latest", "--expect", &expect];
        args.extend(more);
        args.extend(self.lost.iter().map(String::as_str));
        let said = self.shop.ok(&args);
        Planned { id: said.field("recovery_id"), hash: said.field("plan_hash") }
    }

    pub fn run(&self, planned: &Planned, more: &[&str]) -> Said {
        let mut args = vec!["--json", "recover", "run", &planned.id, "--plan", &planned.hash];
        args.extend(more);
        self.shop.run(&args)
    }

    /// The cases, by site, as `status` tells them.
    pub fn cases(&self, planned: &Planned) -> BTreeMap<String, Value> {
        let said = self.shop.run(&["--json", "recover", "status", &planned.id]);
        events(&said, "case").into_iter().map(|case| (case["site"].as_str().unwrap().to_owned(), case)).collect()
    }

    /// Bytes that the receipts say were read.
    pub fn bytes_read(&self, planned: &Planned) -> u64 {
        let cases = self.cases(planned);
        cases.values().filter_map(|case| case["receipt"]["bytes_read"].as_u64()).sum()
    }
}

/// The events of one name.
pub fn events(said: &Said, name: &str) -> Vec<Value> {
    let lines = said.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|event| event["event"] == name).collect()
}

/// The last line.
pub fn done(said: &Said) -> Value {
    serde_json::from_str(said.out.lines().last().unwrap_or_default()).unwrap()
}

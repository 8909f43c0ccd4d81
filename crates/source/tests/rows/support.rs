//! A pooled database, what a repository would keep of a site, and the steps an engine takes.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lifeboat_model::{EntryKind, RestoreId, SiteId, SourceName};
use lifeboat_source::postgres::describe::{
    DESCRIPTION_PATH, PartDescription, SequenceState, TableDefinition, literal, table_of_path,
};
use lifeboat_source::postgres::target::{LiveRows, RowsTarget, SwitchedRows, VerifiedRows, WantedRows, WantedTable};
use lifeboat_source::postgres::{Catalogue, Classes, PostgresConfig, PostgresSource, Server, classify};
use lifeboat_source::{Content, ContentCheck, Error, Read, Source};
use lifeboat_testkit::postgres::{
    Postgres, nasty_config, nasty_schema, pooled_config, pooled_fleet, query_text, run_sql, site_name,
};

pub const RESTORE: RestoreId = RestoreId([7; 8]);
pub const STAGING: &str = "lifeboat_stage_0707070707070707";

pub struct World {
    pub cluster: &'static Postgres,
    pub url: String,
    /// As whom the restore connects.
    pub restorer: String,
    pub config: PostgresConfig,
    pub patience: Duration,
}

/// A part, as a repository would give it back.
#[derive(Clone)]
pub struct Kept {
    pub tables: Vec<(WantedTable, Vec<u8>)>,
    pub sequences: Vec<SequenceState>,
}

/// A pooled fleet of three sites.
#[track_caller]
pub fn fleet(test: &str) -> Option<World> {
    static MADE: OnceLock<String> = OnceLock::new();
    let cluster = Postgres::shared_or_skip(test)?;
    let url = copy_of(cluster, &MADE, |url| pooled_fleet(url, 3, 120).unwrap());
    let config = pooled_config(&url);
    Some(World { cluster, restorer: url.clone(), url, config, patience: Duration::from_secs(5) })
}

/// The schema with everything that is hard.
#[track_caller]
pub fn nasty(test: &str) -> Option<World> {
    static MADE: OnceLock<String> = OnceLock::new();
    let cluster = Postgres::shared_or_skip(test)?;
    let of_nobody = "DELETE FROM app.log_lines WHERE tenant_id IS NULL; DELETE FROM app.legacy WHERE id < 0";
    let url = copy_of(cluster, &MADE, |url| nasty_schema(url).and_then(|()| run_sql(url, of_nobody)).unwrap());
    let config = nasty_config(&url);
    Some(World { cluster, restorer: url.clone(), url, config, patience: Duration::from_secs(5) })
}

/// A copy of a database that is made once: making one takes longer than most tests.
fn copy_of(cluster: &Postgres, made: &OnceLock<String>, make: impl FnOnce(&str)) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = |url: &str| url.rsplit_once('/').unwrap().1.split('?').next().unwrap().to_owned();
    let original = made.get_or_init(|| {
        let url = cluster.fresh_database().unwrap();
        make(&url);
        name(&url)
    });
    let copy = format!("copy_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    run_sql(&cluster.url("postgres"), &format!("CREATE DATABASE {copy} TEMPLATE {original}")).unwrap();
    cluster.url(&copy)
}

pub fn site(name: &str) -> SiteId {
    SiteId::new(name).unwrap()
}

/// The site that tests damage.
pub fn victim() -> SiteId {
    site(&site_name(2))
}

impl World {
    pub fn run(&self, sql: &str) {
        run_sql(&self.url, sql).unwrap();
    }

    /// The victim with all its rows; `audit.events` has no foreign key.
    pub fn delete_victim(&self) {
        self.run("DELETE FROM sites WHERE id = 'site-00002'; DELETE FROM audit.events WHERE site_id = 'site-00002'");
    }

    pub fn text(&self, sql: &str) -> String {
        query_text(&self.url, sql).unwrap()[0][0].clone().unwrap_or_default()
    }

    pub fn number(&self, sql: &str) -> i64 {
        self.text(sql).parse().unwrap()
    }

    pub fn server(&self) -> Server {
        Server::new("app", &self.restorer).unwrap()
    }

    fn catalogue(&self, server: &Server) -> (Catalogue, Classes) {
        let catalogue = Catalogue::load(&mut server.connect().unwrap()).unwrap();
        let classes = classify("app", &catalogue, &self.config).unwrap();
        (catalogue, classes)
    }

    pub fn target(&self, site: &SiteId) -> RowsTarget {
        let config = PostgresConfig { url: self.restorer.clone(), ..self.config.clone() };
        let source = PostgresSource::new(SourceName::new("app").unwrap(), config).unwrap();
        source.target(site, RESTORE).unwrap().with_patience(self.patience)
    }

    pub fn back_up(&self, site: &SiteId) -> Kept {
        let source = PostgresSource::new(SourceName::new("app").unwrap(), self.config.clone()).unwrap();
        let mut reader = source.open(site).unwrap().unwrap();
        let (mut tables, mut sequences) = (Vec::new(), Vec::new());
        while let Some(entry) = reader.next_entry().unwrap() {
            let mut content = reader.open_content(&entry).unwrap();
            let bytes = read_all(content.as_mut());
            let ContentCheck::Stable(entry) = content.check().unwrap() else { panic!("unstable") };
            let path = String::from_utf8(entry.path.as_bytes().to_vec()).unwrap();
            let EntryKind::Table { rows, digest, definition } = &entry.kind else {
                if path.as_bytes() == DESCRIPTION_PATH {
                    sequences = PartDescription::from_json(&bytes).unwrap().sequences;
                }
                continue;
            };
            let wanted = WantedTable {
                name: table_of_path(&path),
                rows: *rows,
                digest: *digest,
                size: bytes.len() as u64,
                definition: TableDefinition::from_json(definition).unwrap(),
            };
            tables.push((wanted, bytes));
        }
        Kept { tables, sequences }
    }

    /// Up to the comparison.
    pub fn verify(&self, target: &mut RowsTarget, kept: &Kept) -> Result<VerifiedRows, Error> {
        let tables = kept.tables.iter().map(|(wanted, _)| wanted.clone()).collect();
        let sequences = kept.sequences.clone();
        let wanted = WantedRows { is_present: true, tables, sequences, ..WantedRows::default() };
        // A role that may not read is refused by `begin`, with all that it lacks.
        target.begin(wanted, target.live().unwrap_or_default())?;
        for (at, (_, bytes)) in kept.tables.iter().enumerate() {
            // Last chunk first, as they may come.
            for (number, chunk) in bytes.chunks(1000).enumerate().collect::<Vec<_>>().into_iter().rev() {
                target.write_at(at, number as u64 * 1000, chunk)?;
            }
        }
        target.verify()
    }

    /// All steps.
    pub fn restore(&self, site: &SiteId, kept: &Kept) -> Result<SwitchedRows, Error> {
        let mut target = self.target(site);
        let verified = self.verify(&mut target, kept)?;
        let switched = target.switch(verified);
        target.discard_staging()?;
        switched
    }

    pub fn live(&self, site: &SiteId) -> LiveRows {
        self.target(site).live().unwrap()
    }

    /// Every row of all tables that is not the site's, with the transaction that wrote it.
    pub fn bystanders(&self, site: &SiteId) -> BTreeMap<String, String> {
        let server = Server::new("app", &self.url).unwrap();
        let (catalogue, classes) = self.catalogue(&server);
        let tenant = literal(site.as_str());
        let tables = catalogue.tables.values().filter(|table| table.holds_rows());
        let rows = tables.map(|table| {
            let condition = classes.predicate(&table.name, "t", &tenant);
            let query = format!(
                "SET row_security = off; SELECT md5(coalesce(string_agg(x, '|' ORDER BY x COLLATE \"C\"), '')) FROM \
                 (SELECT concat_ws(' ', t.tableoid, t.ctid, t.xmin, t) AS x FROM {} t WHERE ({condition}) IS NOT TRUE) q",
                table.from_item()
            );
            (table.name.to_string(), self.text(&query))
        });
        rows.collect()
    }

    pub fn has_staging(&self) -> bool {
        self.number(&format!("SELECT count(*) FROM pg_namespace WHERE nspname = '{STAGING}'")) > 0
    }
}

/// The live rows are those that were kept, and nobody else's was touched.
#[track_caller]
pub fn assert_restored(world: &World, site: &SiteId, kept: &Kept, bystanders: &BTreeMap<String, String>) {
    let live = world.live(site);
    for (wanted, _) in &kept.tables {
        let table = live.tables.iter().find(|table| table.name == wanted.name).unwrap();
        assert!(table.rows == wanted.rows && table.digests.are(&wanted.digest), "{}", wanted.name);
    }
    assert_eq!(&world.bystanders(site), bystanders);
    assert!(!world.has_staging());
}

fn read_all(content: &mut dyn Content) -> Vec<u8> {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        match content.read(&mut buffer).unwrap() {
            Read::Data(len) => bytes.extend_from_slice(&buffer[..len]),
            Read::End => return bytes,
            other => panic!("{other:?}"),
        }
    }
}

//! A database that is followed, and its changes as lines of text.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lifeboat_model::{ChangedTable, ChangedValue, Lsn, RowChange};
use lifeboat_source::Error;
use lifeboat_source::postgres::capture::{
    CaptureStream, Captured, Coverage, Followed, ReplicationSession, StructureKind, capture_name, coverage, drop_slot,
    note_structure, set_up,
};
use lifeboat_source::postgres::{Catalogue, PostgresConfig, Server, Session, classify};
use lifeboat_testkit::postgres::{Postgres, pooled_config, run_sql};

pub const WAIT: Duration = Duration::from_secs(20);

/// A database with a slot and a stream.
pub struct Capture {
    pub url: String,
    pub server: Server,
    pub followed: Followed,
    pub stream: Option<CaptureStream>,
}

/// Follows a fresh database after running `sql` in it. Each table needs a column `site`.
#[track_caller]
pub fn capture(test: &str, sql: &str) -> Option<Capture> {
    let url = Postgres::shared_or_skip(test)?.fresh_database().unwrap();
    run_sql(&url, sql).unwrap();
    Some(capture_at(&url))
}

/// The same for a database that is there.
pub fn capture_at(url: &str) -> Capture {
    let server = Server::new("app", url).unwrap();
    // Slots are of the cluster, and the tests share one.
    let name = capture_name(url.rsplit('/').next().unwrap().split('?').next().unwrap());
    let mut session = server.connect().unwrap();
    let wanted = covered(&mut session);
    set_up(&mut session, &name, &wanted).unwrap();
    note_structure(&mut session).unwrap();
    let mut replication = ReplicationSession::connect(&server).unwrap();
    let identity = replication.identify().unwrap();
    let slot = replication.create_slot(&name, WAIT).unwrap();
    let stream = CaptureStream::begin(&server, replication, &name, slot.consistent).unwrap();
    let followed = Followed { server: identity, slot: name, confirmed: slot.consistent };
    Capture { url: url.to_owned(), server, followed, stream: Some(stream) }
}

pub fn config(url: &str) -> PostgresConfig {
    let root = None;
    PostgresConfig { tenant_column: Some("site".into()), root, shared: Vec::new(), ..pooled_config(url) }
}

pub fn covered(session: &mut Session) -> Coverage {
    let catalogue = Catalogue::load(session).unwrap();
    let classes = classify("app", &catalogue, &config("")).unwrap();
    coverage(session, &catalogue, &|table| classes.is_of_sites(&table.name)).unwrap()
}

impl Capture {
    pub fn run(&self, sql: &str) {
        run_sql(&self.url, sql).unwrap();
    }

    pub fn stream(&mut self) -> &mut CaptureStream {
        self.stream.as_mut().unwrap()
    }

    /// Everything until now.
    pub fn events(&mut self) -> Vec<Captured> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed).to_string();
        self.run(&format!("SELECT pg_logical_emit_message(true, 'end', '{number}')"));
        let (began, mut events) = (Instant::now(), Vec::new());
        loop {
            assert!(began.elapsed() < WAIT, "the end does not come: {events:?}");
            match self.stream().next(Duration::from_millis(200)).unwrap() {
                Captured::Idle { .. } => {}
                Captured::Note { prefix, content, .. } if prefix == "end" => {
                    if content == number.as_bytes() {
                        break;
                    }
                }
                event => events.push(event),
            }
        }
        events.pop(); // the end's own beginning
        let commit = self.stream().next(WAIT).unwrap();
        assert!(matches!(commit, Captured::Commit { .. }), "{commit:?}");
        events
    }

    /// The same without beginnings and ends, as text.
    pub fn lines(&mut self) -> Vec<String> {
        self.events().iter().filter_map(line).collect()
    }

    /// Runs `sql`, and says what was captured of it.
    pub fn changes(&mut self, sql: &str) -> Vec<String> {
        self.run(sql);
        self.lines()
    }

    /// Ends the stream and follows again from `confirmed`.
    pub fn again(&mut self, confirmed: Lsn) {
        self.stream = None;
        self.stream = Some(begin_soon(&self.server, &self.followed.slot, confirmed).unwrap());
    }
}

/// Begins to follow as soon as the server has let the last one go.
pub fn begin_soon(server: &Server, slot: &str, confirmed: Lsn) -> Result<CaptureStream, Error> {
    let began = Instant::now();
    loop {
        let session = ReplicationSession::connect(server)?;
        match CaptureStream::begin(server, session, slot, confirmed) {
            Err(error) if error.to_string().contains("is active for") && began.elapsed() < WAIT => {
                std::thread::sleep(Duration::from_millis(50));
            }
            result => return result,
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stream = None;
        let Ok(mut session) = self.server.connect() else { return };
        let began = Instant::now();
        while drop_slot(&mut session, &self.followed.slot).is_err() && began.elapsed() < WAIT {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// `None`: a beginning or an end.
pub fn line(event: &Captured) -> Option<String> {
    Some(match event {
        Captured::Begin(_) | Captured::Commit { .. } => return None,
        Captured::Idle { .. } => "idle".into(),
        Captured::Note { prefix, content, .. } => format!("note {prefix}: {}", String::from_utf8_lossy(content)),
        Captured::Truncated { tables, .. } => {
            let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
            format!("truncate {}", names.join(" "))
        }
        Captured::Structure { change, .. } => match &change.kind {
            StructureKind::Altered { tag, columns, .. } => {
                let columns: Vec<String> =
                    columns.iter().map(|column| format!("{}={}", column.number, column.name)).collect();
                format!("altered {} {tag}: {}", change.table, columns.join(" "))
            }
            StructureKind::Dropped { tag, column } => {
                format!(
                    "dropped {}{} {tag}",
                    change.table,
                    column.iter().map(|name| format!(".{name}")).collect::<String>()
                )
            }
            StructureKind::Other(other) => format!("other {} {}", change.table, other.tag),
            StructureKind::Rewritten { tag } => format!("rewritten {} {tag}", change.table),
            StructureKind::Differs => format!("differs {}", change.table),
        },
        Captured::Change { table, change, identity, .. } => {
            let mut text = match change {
                RowChange::Insert { row } => format!("insert {} {}", table.name, all(table, row)),
                RowChange::Update { row, key_before } => {
                    let before = key_before.as_ref().map(|key| format!(" before {}", key_of(table, key)));
                    format!("update {} {}{}", table.name, all(table, row), before.unwrap_or_default())
                }
                RowChange::Delete { key } => format!("delete {} {}", table.name, key_of(table, key)),
                RowChange::Pages(_) => panic!("pages of a file from a server"),
            };
            for (place, value) in identity {
                text.push_str(&format!(" was {}", one(table, *place, value)));
            }
            text
        }
    })
}

fn one(table: &ChangedTable, place: usize, value: &ChangedValue) -> String {
    let value = match value {
        ChangedValue::Null => "NULL".into(),
        ChangedValue::Unchanged => "~".into(),
        ChangedValue::Text(text) => String::from_utf8_lossy(text).into_owned(),
    };
    format!("{}={value}", table.columns[place].name)
}

fn all(table: &ChangedTable, row: &[ChangedValue]) -> String {
    let values = row.iter().enumerate().map(|(place, value)| one(table, place, value));
    values.collect::<Vec<_>>().join(" ")
}

fn key_of(table: &ChangedTable, key: &[ChangedValue]) -> String {
    if table.key.is_empty() {
        return all(table, key);
    }
    let values = table.key.iter().zip(key).map(|(place, value)| one(table, *place, value));
    values.collect::<Vec<_>>().join(" ")
}

//! Tables that are read once for all sites of a run, instead of once a site.
//!
//! ```text
//! COPY (SELECT site, columns … by site, by key)     ─▶ split ─▶ acme: its rows, beta: its rows, …
//!   one connection a table, eight at most                        each site takes its own in its turn
//!   one more for small tables, held in memory
//! ```
//!
//! Which tables, and whether they are sorted or looked up site by site, the planner's estimates say (`choose`). A site's rows are the same, byte for byte, as its own
//! query gives: the same columns, cast, escaped and ordered alike.
//!
//! Invariant (one-way): a stream only goes forward. A site that is asked for out of order, or twice, or after
//! the stream has failed, is read by a query of its own; rows of sites that nobody asks for are passed over.
//!
//! What is not here: the cut (`cut`), the entries of a site (`reader`).

mod choose;
mod split;

use std::collections::HashMap;
use std::io::{self, BufRead};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lifeboat_model::{Fault, SiteId};

use self::choose::{Choice, Costs, choose, costs_of, set_page_costs};
use self::split::{Splitter, Stretch};
use super::describe::{select_each, select_sorted};
use super::reading::Reading;
use super::rows::fell_silent;
use super::{Classes, Session, Table, TableName};
use crate::Error;

/// With fewer sites to come, connections and sorts are not worth it.
const SITES_MIN: usize = 16;
/// The server sorts at most about so much for one batch of sites: on its disk, and under one snapshot.
const BATCH_BYTES: f64 = 16e9;
/// Stretches that wait for their site, in each stream.
const WAITING_MAX: usize = 12;
/// A small table whose rows turn out to be larger than this, being compressed, is not held.
const HELD_BYTES_MAX: usize = 16 << 20;
/// A sort of this much memory writes little to disk; parallel workers would take as much each, and there are
/// several streams already. Machine code would be compiled for every stream. A server that sorts would else
/// notice only at its end that nobody listens any more; not every system can.
const SETTINGS: &str = "
    SET LOCAL work_mem = '64MB'; SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL jit = off;
    SELECT pg_catalog.set_config('client_connection_check_interval', '2s', true)
        WHERE pg_catalog.version() LIKE '%linux%'";

/// What is read for one batch of sites under one cut.
#[derive(Default)]
pub(super) struct Streams {
    tables: HashMap<TableName, Slot>,
    /// The last site of the batch.
    last: Option<SiteId>,
    /// Whether that site has had its turn.
    is_over: AtomicBool,
}

/// Where a stream waits; `None`: somebody has it, or it is gone.
type Slot = Arc<Mutex<Option<Stream>>>;

/// One table, on its way.
struct Stream {
    stretches: Receiver<Result<Option<Stretch>, Error>>,
    /// What has come and was not taken yet.
    ahead: Option<Stretch>,
    /// Sites up to this one had their turn.
    passed: Option<SiteId>,
    has_ended: bool,
    source_name: String,
}

/// One site's rows of one table, out of a stream.
pub(super) struct SiteRows {
    slot: Slot,
    stream: Option<Stream>,
    site: SiteId,
    is_inside: bool,
}

impl Streams {
    /// Begins to read for the sites to come, sorted by their ids.
    pub fn begin(reading: &Reading, sites: &[SiteId]) -> Result<Self, Error> {
        // In another encoding "C" is not the order of site ids.
        let is_utf8 = reading.catalogue.server.encoding == "UTF8";
        let Some(classes) = reading.classes().filter(|_| is_utf8) else {
            return Ok(Self::none(sites));
        };
        let tables: Vec<&Table> =
            reading.catalogue.tables.values().filter(|table| classes.is_of_sites(&table.name)).collect();
        let listed = reading.listed(sites)?;
        if listed.len() < SITES_MIN {
            return Ok(Self::none(sites));
        }
        let costs = ask_planner(reading, classes, &tables, &listed)?;
        let (batch, chosen) = first_batch(&costs, &listed);
        let read = |at: &usize| {
            let (table, is_sorted) = (tables[*at], costs[*at].is_some_and(Costs::is_sort_cheaper));
            let rows = if is_sorted { sorted(classes, table, batch) } else { each(classes, table, batch) };
            (table.name.clone(), rows)
        };
        // Sites that were not listed are read by queries of their own, also those after the last that was.
        let mut streams = Self::none(if batch.len() < listed.len() { batch } else { sites });
        let begun = streams.add_all(reading, chosen.held.iter().map(read).collect(), chosen.streamed.iter().map(read));
        if let Err(error) = begun {
            tracing::warn!(%error, "no further table is read for all sites at once");
        }
        tracing::debug!(tables = streams.tables.len(), sites = batch.len(), "tables are read once for many sites");
        Ok(streams)
    }

    /// Begins to read these tables by these queries, as far as there are connections.
    fn add_all(
        &mut self,
        reading: &Reading,
        held: Vec<(TableName, String)>,
        streamed: impl Iterator<Item = (TableName, String)>,
    ) -> Result<(), Error> {
        if !held.is_empty() {
            let session = reading.session()?;
            self.tables.extend(Stream::begin_held(session, held).map(|(table, stream)| (table, in_slot(stream))));
        }
        for (table, rows) in streamed {
            let stream = Stream::begin(reading.session()?, &table, rows);
            self.tables.insert(table, in_slot(stream));
        }
        Ok(())
    }

    /// Each of these sites is read by queries of its own.
    pub fn none(sites: &[SiteId]) -> Self {
        Self { last: sites.last().cloned(), ..Self::default() }
    }

    /// Whether these are the streams for the site: it comes not after all that they are for.
    pub fn serve(&self, site: &SiteId) -> bool {
        self.last.as_ref().is_some_and(|last| site <= last)
    }

    /// The site's turn has come.
    pub fn note_turn(&self, site: &SiteId) {
        if self.last.as_ref() == Some(site) {
            self.is_over.store(true, Ordering::Relaxed);
        }
    }

    /// Whether sites are still to come that tables are being read for.
    pub fn are_running(&self) -> bool {
        !self.tables.is_empty() && !self.is_over.load(Ordering::Relaxed)
    }

    /// The site's rows of a table; `None`: they are to be read by a query of their own.
    pub fn rows_of(&self, table: &TableName, site: &SiteId) -> Option<SiteRows> {
        let slot = self.tables.get(table)?;
        let mut stream = lock(slot).take()?;
        if stream.passed.as_ref().is_some_and(|passed| passed >= site) {
            *lock(slot) = Some(stream);
            return None;
        }
        match stream.go_to(site) {
            Ok(is_inside) => Some(SiteRows { slot: slot.clone(), stream: Some(stream), site: site.clone(), is_inside }),
            Err(error) => {
                // Such as no room on the server to sort: nothing is lost but time.
                tracing::warn!(%table, %error, "a table cannot be read for all sites at once: it is read for each");
                None
            }
        }
    }
}

/// As many sites as the server sorts at once, and the tables worth it, by their numbers.
fn first_batch<'a>(costs: &[Option<Costs>], sites: &'a [SiteId]) -> (&'a [SiteId], Choice) {
    let chosen = choose(costs, sites.len());
    let bytes: f64 = chosen.streamed.iter().filter_map(|at| costs[*at]).map(|costs| costs.bytes).sum();
    if bytes <= BATCH_BYTES {
        return (sites, chosen);
    }
    // Rounded down; exact enough.
    let len = (sites.len() as f64 * BATCH_BYTES / bytes) as usize;
    let batch = &sites[..len.clamp(SITES_MIN, sites.len())];
    (batch, choose(costs, batch.len()))
}

/// The planner's answers for each table.
fn ask_planner(
    reading: &Reading,
    classes: &Classes,
    tables: &[&Table],
    sites: &[SiteId],
) -> Result<Vec<Option<Costs>>, Error> {
    let mut session = reading.session()?;
    let set_up = session.batch_execute(SETTINGS).and_then(|()| set_page_costs(&mut session));
    set_up.map_err(|error| session.failed("cannot set up the session", &error))?;
    let mut costs = Vec::new();
    for table in tables {
        let (each, sorted) = (each(classes, table, sites), select_sorted(table, &classes.tenant_of(&table.name), None));
        let asked = costs_of(&mut session, table, &each, &sorted);
        costs.push(
            asked.map_err(|error| session.failed(format!("cannot plan to read table `{}`", table.name), &error))?,
        );
    }
    Ok(costs) // the session ends: its settings are for planning alone
}

/// A table's rows by site, sorted.
fn sorted(classes: &Classes, table: &Table, sites: &[SiteId]) -> String {
    select_sorted(table, &classes.tenant_of(&table.name), sites.first().zip(sites.last()))
}

/// A table's rows by site, each site looked up.
fn each(classes: &Classes, table: &Table, sites: &[SiteId]) -> String {
    select_each(table, &classes.predicate(&table.name, "t", "s.site"), sites)
}

impl Stream {
    /// A table that is copied out as fast as its rows are taken.
    fn begin(session: Session, table: &TableName, rows: String) -> Self {
        let (give, stretches) = sync_channel(WAITING_MAX);
        let (source_name, action) = (session.source_name().to_owned(), format!("cannot read table `{table}`"));
        std::thread::spawn(move || {
            let mut session = session;
            let mut some = |stretch| give.send(Ok(Some(stretch))).is_ok();
            match copy_all(&mut session, &rows, &action, &mut some) {
                Ok(true) => drop(give.send(Ok(None))),
                Ok(false) => {}
                Err(error) => drop(give.send(Err(error))),
            }
        });
        Self::new(stretches, source_name)
    }

    /// Small tables, copied out one after the other and held until they are taken.
    fn begin_held(session: Session, tables: Vec<(TableName, String)>) -> impl Iterator<Item = (TableName, Self)> {
        let (mut copies, mut streams) = (Vec::new(), Vec::new());
        for (table, rows) in tables {
            let (give, stretches) = channel();
            copies.push((format!("cannot read table `{table}`"), rows, give));
            streams.push((table, Self::new(stretches, session.source_name().to_owned())));
        }
        let source_name = session.source_name().to_owned();
        std::thread::spawn(move || {
            // A session that has not read to the end is of no more use.
            let mut session = Some(session);
            for (action, rows, give) in copies {
                let held = match &mut session {
                    Some(session) => copy_held(session, &rows, &action),
                    None => Err(not_held(&source_name, &action, "a small table before it failed")),
                };
                match held {
                    Ok(held) => held.into_iter().map(Some).chain([None]).for_each(|one| drop(give.send(Ok(one)))),
                    Err(error) => {
                        session = None;
                        drop(give.send(Err(error)));
                    }
                }
            }
        });
        streams.into_iter()
    }

    fn new(stretches: Receiver<Result<Option<Stretch>, Error>>, source_name: String) -> Self {
        Self { stretches, ahead: None, passed: None, has_ended: false, source_name }
    }

    /// Passes over everything before the site; whether it has rows here.
    fn go_to(&mut self, site: &SiteId) -> Result<bool, Error> {
        while let Some(stretch) = self.peek()? {
            match stretch.begins.as_deref() {
                Some(begins) if begins >= site.as_str() => return Ok(begins == site.as_str()),
                // Of a site that nobody asked for, or more of one that was not read to its end.
                _ => self.ahead = None,
            }
        }
        Ok(false)
    }

    fn peek(&mut self) -> Result<Option<&Stretch>, Error> {
        if self.ahead.is_none() && !self.has_ended {
            match self.stretches.recv() {
                Ok(Ok(Some(stretch))) => self.ahead = Some(stretch),
                Ok(Ok(None)) => self.has_ended = true,
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(fell_silent(&self.source_name)),
            }
        }
        Ok(self.ahead.as_ref())
    }
}

impl SiteRows {
    /// The next of the site's rows; `None`: there are no more.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let Some(stream) = self.stream.as_mut().filter(|_| self.is_inside) else { return Ok(None) };
        let is_ours = match stream.peek() {
            Ok(ahead) => {
                ahead.is_some_and(|stretch| stretch.begins.as_deref().is_none_or(|site| site == self.site.as_str()))
            }
            Err(error) => {
                self.stream = None; // what it has lost, nobody knows
                return Err(error);
            }
        };
        if !is_ours {
            self.give_back();
            return Ok(None);
        }
        Ok(stream.ahead.take().map(|stretch| stretch.rows))
    }

    /// Whoever comes next takes what comes next.
    fn give_back(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            stream.passed = Some(self.site.clone());
            *lock(&self.slot) = Some(stream);
        }
    }
}

impl Drop for SiteRows {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Copies all of it out and hands it over split; `false`: nobody wants more.
fn copy_all(
    session: &mut Session,
    rows: &str,
    action: &str,
    give: &mut dyn FnMut(Stretch) -> bool,
) -> Result<bool, Error> {
    let set_up = session.batch_execute(SETTINGS);
    set_up.map_err(|error| session.failed("cannot set up the session", &error))?;
    let not_in_order = |_| io::Error::other("the sites do not come in order");
    let copied = (|| {
        let mut out = session.copy_out(&format!("COPY ({rows}) TO STDOUT")).map_err(io::Error::other)?;
        let mut splitter = Splitter::default();
        loop {
            let row = out.fill_buf()?;
            if row.is_empty() {
                return splitter.end(give).map_err(not_in_order);
            }
            if !splitter.take(row, give).map_err(not_in_order)? {
                return Ok(false);
            }
            let len = row.len();
            out.consume(len);
        }
    })();
    copied.map_err(|error: io::Error| session.failed_io(action, &error))
}

/// Copies all of a small table.
fn copy_held(session: &mut Session, rows: &str, action: &str) -> Result<Vec<Stretch>, Error> {
    let (mut held, mut len) = (Vec::new(), 0);
    let mut hold = |stretch: Stretch| {
        len += stretch.rows.len();
        held.push(stretch);
        len <= HELD_BYTES_MAX
    };
    if copy_all(session, rows, action, &mut hold)? {
        return Ok(held);
    }
    Err(not_held(session.source_name(), action, "its rows are much larger than the table"))
}

fn not_held(source_name: &str, action: &str, detail: &str) -> Error {
    Error::Database {
        source_name: source_name.to_owned(),
        action: action.to_owned(),
        detail: detail.to_owned(),
        hint: String::new(),
        fault: Fault::Operator,
    }
}

fn in_slot(stream: Stream) -> Slot {
    Arc::new(Mutex::new(Some(stream)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

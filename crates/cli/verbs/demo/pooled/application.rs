//! The application of the sites that nobody meant: it goes on writing, and must notice nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lifeboat_model::SiteId;
use lifeboat_source::postgres::{Server, Session};

use super::super::{told, unproven};
use super::fleet::Fleet;
use crate::output::{count, duration};
use crate::{CliError, Context};

/// Between two transactions of one site.
const PAUSE: Duration = Duration::from_millis(3);

/// Transactions that write to some sites until it is stopped, a thread a site.
pub(super) struct Application {
    stop: Arc<AtomicBool>,
    threads: Vec<(SiteId, JoinHandle<Work>)>,
}

/// What one thread did.
#[derive(Default)]
struct Work {
    transactions: u64,
    slowest: Duration,
    error: Option<String>,
}

/// What all of them did.
#[derive(Default)]
pub(super) struct Written {
    sites: BTreeMap<SiteId, u64>,
    errors: Vec<String>,
    pub slowest: Duration,
}

impl Application {
    pub fn start(fleet: &Fleet<'_>, sites: impl IntoIterator<Item = SiteId>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |site: SiteId| {
            let (server, stop, of) = (fleet.pool.server().clone(), Arc::clone(&stop), site.clone());
            (site, std::thread::spawn(move || work(&server, &of, &stop)))
        };
        let threads = sites.into_iter().map(start).collect();
        Self { stop, threads }
    }

    /// Ends it, and says what it did.
    pub fn stop(mut self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        let mut written = Written::default();
        for (site, thread) in self.threads.drain(..) {
            let work = thread.join().unwrap_or_else(|_| Work { error: Some("it panicked".into()), ..Work::default() });
            written.slowest = written.slowest.max(work.slowest);
            written.errors.extend(work.error.map(|error| format!("site=`{site}`: {error}")));
            written.sites.insert(site, work.transactions);
        }
        written
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|(_, thread)| drop(thread.join()));
    }
}

fn work(server: &Server, site: &SiteId, stop: &AtomicBool) -> Work {
    let mut work = Work::default();
    let mut session = match server.connect() {
        Ok(session) => session,
        Err(error) => return Work { error: Some(error.to_string()), ..work },
    };
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        if let Err(error) = transact(&mut session, site, work.transactions) {
            work.error = Some(error.to_string());
            break;
        }
        work.slowest = work.slowest.max(began.elapsed());
        work.transactions += 1;
        std::thread::sleep(PAUSE);
    }
    work
}

/// A comment on an issue, and the issue counts it: both or none.
fn transact(session: &mut Session, site: &SiteId, number: u64) -> Result<(), lifeboat_source::Error> {
    let issue = 1 + (number % 200) as i32;
    let written = (|| {
        let mut transaction = session.transaction()?;
        let touched = "UPDATE public.issues SET touched = touched + 1 WHERE site_id = $1 AND number = $2";
        transaction.execute(touched, &[&site.as_str(), &issue])?;
        let comment = "
            INSERT INTO public.comments (issue_id, body)
            SELECT i.id, 'written meanwhile' FROM public.issues i WHERE i.site_id = $1 AND i.number = $2";
        transaction.execute(comment, &[&site.as_str(), &issue])?;
        transaction.commit()
    })();
    written.map_err(|error| session.failed("an application's transaction failed", &error))
}

impl Written {
    pub fn transactions(&self) -> u64 {
        self.sites.values().sum()
    }

    /// No transaction failed, and all that was written is there.
    pub fn prove(&self, fleet: &Fleet<'_>, context: &Context) -> Result<(), CliError> {
        if let Some(error) = self.errors.first() {
            return Err(unproven(&format!("not proven: the application of the other sites noticed nothing: {error}")));
        }
        let query = "
            SELECT sum(i.touched)::bigint, (SELECT count(*) FROM public.comments c JOIN public.issues j ON j.id = c.issue_id
                WHERE j.site_id = $1 AND c.body = 'written meanwhile')
            FROM public.issues i WHERE i.site_id = $1";
        let mut session = tokio::task::block_in_place(|| fleet.pool.connect())?;
        for (site, transactions) in &self.sites {
            let row = tokio::task::block_in_place(|| session.query_one(query, &[&site.as_str()]));
            let row = row.map_err(|error| super::fleet::failed(&session, &error))?;
            let (touched, comments): (i64, i64) = (row.get(0), row.get(1));
            if [touched, comments].map(i64::unsigned_abs) != [*transactions; 2] || *transactions == 0 {
                return Err(unproven(&format!(
                    "not proven: all that was written meanwhile is there: site=`{site}`, \
                     transactions=`{transactions}`, found=`{touched}` and `{comments}`"
                )));
            }
        }
        told(
            context,
            &format!(
                "proven: the application of {} sites wrote all the time: {} transactions, 0 errors, all there, the \
                 slowest {}",
                self.sites.len(),
                count(self.transactions()),
                duration(self.slowest)
            ),
        );
        Ok(())
    }
}

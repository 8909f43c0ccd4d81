//! What a moment costs: one site, a day after its base, beside that site at its base.
//!
//! The day is the backlog in as many segments as are asked for, the first 23 of its 24 hours compacted. Restores are of a
//! site that somebody has deleted, by a host that remembers nothing; what is asked of the store is counted over the
//! resolving and replaying alone, near and over 50 ms.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lifeboat_engine::{AnySource, Engine, Fleet, list, this_process};
use lifeboat_format::SecretKey;
use lifeboat_model::{PointInTime, SegmentFooter, SegmentNumber, SiteId, SourceName};
use lifeboat_repo::{ChangeLog, Repository};
use lifeboat_source::postgres::PostgresSource;
use lifeboat_store::{DirectoryStore, Meter, Meters, Usage};
use lifeboat_testkit::postgres::{pooled_config, site_name};
use lifeboat_testkit::world::{engine_of, site_id};

use crate::Options;
use crate::captures::Kept;
use crate::far::Far;
use crate::fleet::MEASURED;
use crate::ours::SOURCE;
use crate::report::{Read, Report, Task};
use crate::work::CHANGES;
use lifeboat_bench::{Outcome, machine};

/// About what a change takes in a segment before it is compressed.
const CHANGE_BYTES: u64 = 150;
const HOURS: u64 = 24;
const FAR: Duration = Duration::from_millis(50);

pub fn measure(kept: &Kept<'_>, options: &Options, report: &mut Report) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let lifeboat = kept.lifeboat;
    kept.put_back()?;
    let segment_bytes = (options.transactions * CHANGES * CHANGE_BYTES / options.segments).max(1_024);
    lifeboat.configure("60s", &format!("{}KiB", segment_bytes.div_ceil(1_024)))?;
    lifeboat.capture()?;
    let (base, end) = runtime.block_on(async {
        let near = Opened::new(kept, Duration::ZERO).await?;
        near.compact().await?;
        Ok::<_, Box<dyn std::error::Error>>((near.base().await?, near.end().await?))
    })?;
    for latency in [Duration::ZERO, FAR] {
        report.read(runtime.block_on(read(kept, latency, (&base, &end)))?);
    }
    let whole = kept.database.picture(MEASURED)?;
    for number in 0..options.rounds {
        for (task, at) in [(Task::RestoreBase, &base), (Task::RestoreEnd, &end)] {
            kept.database.delete(MEASURED)?;
            fs::remove_dir_all(lifeboat.catalog())?;
            report.add(task, "lifeboat", lifeboat.restore(&site_name(MEASURED), &at.to_string())?);
        }
        kept.database.expect_same(MEASURED, &whole)?;
        println!("round {} of {}: load average {}", number + 1, options.rounds, machine::load_average());
    }
    Ok(())
}

/// The repository, opened by a host that remembers nothing.
struct Opened {
    engine: Engine,
    meters: Arc<Meters>,
}

impl Opened {
    async fn new(kept: &Kept<'_>, latency: Duration) -> Outcome<Self> {
        let meter = Meter::new(Far { store: DirectoryStore::open(&kept.lifeboat.repository())?, latency });
        let meters = meter.meters();
        let key = SecretKey::parse_base64(&fs::read_to_string(kept.lifeboat.dir.join("lifeboat.key"))?)?;
        let source = PostgresSource::new(source_name()?, pooled_config(&kept.database.url()))?;
        let fleet = Fleet::new(vec![AnySource::Postgres(Box::new(source))]);
        Ok(Self { engine: engine_of(fleet, Repository::open(Arc::new(meter), &key).await?), meters })
    }

    async fn log(&self) -> Outcome<ChangeLog> {
        Ok(self.engine.change_log(&source_name()?).await?)
    }

    /// Each hour as one segment, but the last.
    async fn compact(&self) -> Outcome<()> {
        let log = self.log().await?;
        let newest = log.newest().ok_or("no epoch")?;
        let (epoch, last) = (newest.epoch, newest.segment.ok_or("no segment")?.number.0);
        let hour = last / HOURS;
        let mut from = 1;
        while hour > 1 && from + hour <= last {
            let range = SegmentNumber(from)..=SegmentNumber(from + hour - 1);
            // What is too large for one comes out shorter.
            let compacted = log.compact(epoch, range, &this_process()).await?.ok_or("an hour was not compacted")?;
            from = compacted.long.last.0 + 1;
        }
        Ok(())
    }

    async fn base(&self) -> Outcome<PointInTime> {
        let site = self.engine.site(&measured_site()).await?;
        Ok(PointInTime::Snapshot(site.state().snapshots.last().ok_or("no base")?.id))
    }

    async fn end(&self) -> Outcome<PointInTime> {
        let appender = self.log().await?.appender().await?.ok_or("no log")?;
        Ok(PointInTime::Position(appender.complete_till()))
    }

    /// What it takes to know every entry of the site at a point.
    async fn list(&self, at: &PointInTime) -> Outcome<(Usage, f64)> {
        let (before, began) = (self.meters.snapshot(), Instant::now());
        list(&self.engine, &measured_site(), at, None, None).await?;
        Ok((self.meters.snapshot().since(&before), began.elapsed().as_secs_f64()))
    }
}

async fn read(kept: &Kept<'_>, latency: Duration, (base, end): (&PointInTime, &PointInTime)) -> Outcome<Read> {
    let (at_base, base_seconds) = Opened::new(kept, latency).await?.list(base).await?;
    let (at_end, end_seconds) = Opened::new(kept, latency).await?.list(end).await?;
    let mut read = Read {
        latency_ms: latency.as_millis() as u64,
        seconds: end_seconds - base_seconds,
        requests: at_end.requests() - at_base.requests(),
        bytes: at_end.bytes_in - at_base.bytes_in,
        ..Read::default()
    };
    let (log, site) = (Opened::new(kept, Duration::ZERO).await?.log().await?, measured_site());
    let newest = log.newest().ok_or("no epoch")?;
    let last = newest.segment.ok_or("no segment")?.number;
    for segment in log.segments(newest.epoch, SegmentNumber(1)..=last).await? {
        let footer = log.footer(&segment).await?;
        read.segments += 1;
        read.own_bytes += footer.block(&site).map_or(0, |block| block.place.len);
        read.shared_bytes += footer.shared.as_ref().map_or(0, |place| place.len);
        read.footer_bytes += segment.len - blocks_end(&footer);
    }
    Ok(read)
}

/// Where the footer begins.
fn blocks_end(footer: &SegmentFooter) -> u64 {
    let blocks = footer.blocks.iter().map(|block| &block.place).chain(&footer.shared);
    let places = blocks.chain(footer.unrouted.as_ref().map(|unrouted| &unrouted.place));
    places.map(|place| place.offset + place.len).max().unwrap_or(0)
}

fn measured_site() -> SiteId {
    site_id(&site_name(MEASURED))
}

fn source_name() -> Outcome<SourceName> {
    Ok(SourceName::new(SOURCE)?)
}

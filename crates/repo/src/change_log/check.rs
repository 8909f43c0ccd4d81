//! Checking a change log: every epoch and segment is there, follows, and opens.
//!
//!   structure   epochs 1 to the newest ▸ each epoch's segments without a gap ▸ footers chained
//!               log commits chained ▸ the long segments they name, like the segments they stand for
//!   read data   every block under its own key: all of them, or one site's
//!
//! Invariant (log-damage-is-named): a finding names object, offset where there is one, and whose block it is;
//! one never hides another.
//! What is not here: whether the source has more than the log (`capture` asks it).

use std::collections::BTreeMap;

use bytes::BytesMut;
use futures_util::StreamExt;
use lifeboat_format::{BlockReader, decode_shared, decode_unrouted, names};
use lifeboat_model::{
    BlockRef, Epoch, EpochId, Fault, Faulty, LogCommitNumber, LogState, LongSegment, Lsn, ObjectId, ObjectPlace,
    SegmentFooter, SegmentNumber, SharedKinds, SiteId,
};

use super::commits::LogHead;
use super::{ChangeLog, ListedSegment, listed_segment};
use crate::upload::object_name;
use crate::{CheckDepth, Error};

/// Names asked for in one listing.
const LIST_NAMES_MAX: usize = 1_000;
/// Segments read at once: of some only the end, of others all, which may be 64 MiB.
const FOOTERS_MAX: usize = 16;
const SEGMENTS_MAX: usize = 2;

/// What a check of a log found.
#[derive(Debug, Clone, Default)]
pub struct LogCheckReport {
    pub epochs: u64,
    pub segments: u64,
    pub objects: u64,
    pub blocks_read: u64,
    pub bytes_read: u64,
    pub findings: Vec<LogFinding>,
}

/// One damaged thing of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFinding {
    pub object: String,
    /// Byte offset in the object, where it is known.
    pub offset: Option<u64>,
    /// Whose changes cannot be had because of it; `None`: of every site that has some there.
    pub site: Option<SiteId>,
    pub detail: String,
}

/// What the next segment must follow: number, id of the footer, and where it ended.
type Before = (SegmentNumber, ObjectId, Lsn);

impl ChangeLog {
    /// Checks all of the log; with `sites`, of the blocks only theirs.
    pub async fn check(&self, depth: CheckDepth, sites: &[SiteId]) -> Result<LogCheckReport, Error> {
        self.check_whole()?;
        let mut check = Check { log: self, depth, sites, report: LogCheckReport::default() };
        let newest = self.newest.map_or(0, |newest| newest.epoch.0);
        for number in 1..=newest {
            check.epoch(EpochId(number), number == newest).await?;
        }
        check.report.findings.sort_by(|a, b| (&a.object, a.offset).cmp(&(&b.object, b.offset)));
        Ok(check.report)
    }
}

/// What is there of an epoch.
#[derive(Default)]
struct Listing {
    /// Oldest first.
    segments: Vec<ListedSegment>,
    /// The newest log commit's number; 0: there is none.
    commits: u64,
    /// Bytes of each long segment.
    longs: BTreeMap<ObjectId, u64>,
}

struct Check<'l> {
    log: &'l ChangeLog,
    depth: CheckDepth,
    sites: &'l [SiteId],
    report: LogCheckReport,
}

impl Check<'_> {
    async fn epoch(&mut self, id: EpochId, is_newest: bool) -> Result<(), Error> {
        self.report.epochs += 1;
        let name = names::epoch(self.log.source(), id);
        let epoch = match self.log.epoch(id).await {
            Ok(epoch) => Some(epoch),
            Err(error) => {
                self.find_error(name, (None, None), error)?;
                None
            }
        };
        let listed = self.listing(id).await?;
        // Read behind the listing: what is not in it any more was condemned long before.
        let state = self.commits(id, listed.commits).await?;
        let segments = self.gapless(id, listed.segments, state.first());
        let last = self.footers(epoch.as_ref(), &segments).await?;
        let newest = segments.last().map(|last| last.number);
        self.long_segments(id, (state.long_segments, &listed.longs), newest).await?;
        if !is_newest && last.is_some_and(|last| last.followed_by.is_none()) {
            let object = segments.last().map(|last| self.log.object_of(last)).unwrap_or_default();
            let detail = "it is not the end of its epoch, and there is no later segment: the newest ones are lost";
            self.find(object, (None, None), detail.to_owned());
        }
        Ok(())
    }

    /// What is there of an epoch.
    async fn listing(&mut self, epoch: EpochId) -> Result<Listing, Error> {
        let prefix = names::epoch_prefix(self.log.source(), epoch);
        let mut found: BTreeMap<u64, ListedSegment> = BTreeMap::new();
        let mut listing = Listing::default();
        let mut after = None;
        loop {
            let page = self.log.repository.store().list(&prefix, after.as_ref(), LIST_NAMES_MAX).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.name.clone());
            self.report.objects += page.len() as u64;
            for listed in &page {
                match names::parse_object_name(listed.name.as_str()) {
                    Some(names::ParsedName::Segment(_)) => {
                        let segment = listed_segment(listed)?;
                        found.insert(segment.number.0, segment);
                    }
                    Some(names::ParsedName::LogCommit(_, _, number)) => {
                        listing.commits = listing.commits.max(number.0);
                    }
                    Some(names::ParsedName::LongSegment(_, _, id)) => {
                        listing.longs.insert(id, listed.len);
                    }
                    Some(_) => {}
                    None => self.find(listed.name.to_string(), (None, None), "no object has such a name".into()),
                }
            }
        }
        listing.segments = found.into_values().collect();
        Ok(listing)
    }

    /// Those that are kept; what should be between them is found missing.
    fn gapless(&mut self, epoch: EpochId, mut there: Vec<ListedSegment>, first: SegmentNumber) -> Vec<ListedSegment> {
        there.retain(|segment| segment.number >= first);
        if there.is_empty() && first.0 > 1 {
            let missing = ListedSegment { epoch, number: first, len: 0, long: None };
            let detail = "what is kept of its change log begins with it, and it is missing".to_owned();
            self.find(self.log.object_of(&missing), (None, None), detail);
        }
        let mut expected = first.0;
        for segment in &there {
            let number = segment.number.0;
            if number > expected {
                let missing = ListedSegment { epoch, number: SegmentNumber(expected), len: 0, long: None };
                let detail = match number - expected {
                    1 => "it is missing in the middle of its change log".to_owned(),
                    many => format!("it and {} after it are missing in the middle of their change log", many - 1),
                };
                self.find(self.log.object_of(&missing), (None, None), detail);
            }
            expected = number + 1;
        }
        self.report.segments += there.len() as u64;
        there
    }

    /// Every log commit down to the first: chained, and with the state its event leads to. Gives what the newest
    /// one that can be read says.
    async fn commits(&mut self, epoch: EpochId, newest: u64) -> Result<LogState, Error> {
        let mut before = Some(LogHead::first(self.log.source(), epoch));
        let mut newest_state = LogState::new(self.log.source().clone(), epoch);
        for number in 1..=newest {
            let name = names::log_commit(self.log.source(), epoch, LogCommitNumber(number));
            match self.log.log_commit(epoch, LogCommitNumber(number)).await {
                Ok((commit, hash)) => {
                    let follows = before.as_ref().is_none_or(|before| {
                        let leads_to = |from: &LogState| from.after(&commit.event, commit.number);
                        let is_it = |after: Option<LogState>| after.as_ref() == Some(&commit.state);
                        // A version that knows of no pruning may have written it; the next prune finds all of it again.
                        commit.previous == before.hash
                            && (is_it(leads_to(&before.state)) || is_it(leads_to(&before.state.without_pruning())))
                    });
                    if !follows {
                        self.find(name, (None, None), "it does not follow from the log commit before it".into());
                    }
                    newest_state = commit.state.clone();
                    before = Some(LogHead { number: commit.number, hash, state: commit.state });
                }
                Err(error) => {
                    self.find_error(name, (None, None), error)?;
                    before = None;
                }
            }
        }
        Ok(newest_state)
    }

    /// Each long segment that stands for some.
    async fn long_segments(
        &mut self,
        epoch: EpochId,
        (longs, there): (Vec<LongSegment>, &BTreeMap<ObjectId, u64>),
        newest: Option<SegmentNumber>,
    ) -> Result<(), Error> {
        for long in longs {
            let segment = ListedSegment { epoch, number: long.last, len: long.len, long: Some(long) };
            let object = self.log.object_of(&segment);
            match there.get(&long.id) {
                Some(len) if *len == long.len => {}
                Some(len) => {
                    let detail = format!("its length is wrong: is=`{len}`, was=`{}`", long.len);
                    self.find(object, (None, None), detail);
                    continue;
                }
                None => {
                    self.find(object, (None, None), "it is missing".to_owned());
                    continue;
                }
            }
            let read = read_segment(self.log, &segment, (is_due(self.depth, long.last), self.sites)).await?;
            if let Some(footer) = &read.footer {
                self.stands_for(&segment, footer).await?;
            }
            self.report.segments += 1;
            self.report.blocks_read += read.blocks_read;
            self.report.bytes_read += read.bytes_read;
            self.report.findings.extend(read.findings);
            if newest.is_none_or(|newest| newest < long.last) {
                let detail = "it stands for segments that are not there: the newest ones are lost".to_owned();
                self.find(object, (None, None), detail);
            }
        }
        Ok(())
    }

    /// A long segment begins and ends where those it stands for do.
    async fn stands_for(&mut self, segment: &ListedSegment, long: &SegmentFooter) -> Result<(), Error> {
        let mut ends = Vec::new();
        for number in [segment.first(), segment.number] {
            let found = self.log.plain_segments(segment.epoch, number.0, number.0).await;
            let footer = match found.map(|mut found| found.pop()) {
                Ok(Some(plain)) => {
                    self.log.read_footer(&plain, self.log.footer_share.guess(&plain)).await.map(|found| found.footer)
                }
                Ok(None) => return Ok(()),
                Err(error) => Err(error),
            };
            match footer {
                Ok(footer) => ends.push(footer),
                Err(error) if error.fault() == Fault::Damage => return Ok(()), // it is named itself
                Err(error) => return Err(error),
            }
        }
        let [first, last] = ends.as_slice() else { return Ok(()) };
        let is_same = (long.previous, long.span.from, long.id, long.span.complete_till)
            == (first.previous, first.span.from, last.id, last.span.complete_till);
        if !is_same {
            let detail = "it does not begin and end where the segments do that it stands for".to_owned();
            self.find(self.log.object_of(segment), (None, None), detail);
        }
        Ok(())
    }

    /// Reads each segment as far as the depth asks. Gives the last footer, where it can be read.
    async fn footers(
        &mut self,
        epoch: Option<&Epoch>,
        segments: &[ListedSegment],
    ) -> Result<Option<SegmentFooter>, Error> {
        let (log, sites) = (self.log, self.sites);
        let mut before: Option<Before> = epoch.map(|epoch| (SegmentNumber(0), epoch.nonce, epoch.facts.begins));
        let at_once = if self.depth == CheckDepth::Structure { FOOTERS_MAX } else { SEGMENTS_MAX };
        let reads = segments.iter().map(|segment| {
            let reads_data = is_due(self.depth, segment.number);
            async move { read_segment(log, segment, (reads_data, sites)).await }
        });
        let mut reads = futures_util::stream::iter(reads).buffered(at_once);
        let mut last = None;
        let mut report = LogCheckReport::default();
        let mut at = segments.iter();
        while let Some((read, segment)) = reads.next().await.zip(at.next()) {
            let SegmentRead { footer, blocks_read, bytes_read, findings } = read?;
            report.blocks_read += blocks_read;
            report.bytes_read += bytes_read;
            report.findings.extend(findings);
            if let Some(footer) = &footer
                && let Err(error) = log.check_follows(segment, footer, before)
            {
                report.findings.push(finding(log.object_of(segment), (None, None), error.to_string()));
            }
            before = footer.as_ref().map(|footer| (footer.number, footer.id, footer.span.complete_till));
            last = footer;
        }
        drop(reads);
        self.report.blocks_read += report.blocks_read;
        self.report.bytes_read += report.bytes_read;
        self.report.findings.extend(report.findings);
        Ok(last)
    }

    fn find(&mut self, object: String, place: (Option<u64>, Option<SiteId>), detail: String) {
        self.report.findings.push(finding(object, place, detail));
    }

    /// Damage is found; anything else ends the check.
    fn find_error(&mut self, object: String, place: (Option<u64>, Option<SiteId>), error: Error) -> Result<(), Error> {
        if error.fault() != Fault::Damage {
            return Err(error);
        }
        self.find(object, place, error.to_string());
        Ok(())
    }
}

fn finding(object: String, (offset, site): (Option<u64>, Option<SiteId>), detail: String) -> LogFinding {
    LogFinding { object, offset, site, detail }
}

/// Whether a segment's turn has come.
fn is_due(depth: CheckDepth, number: SegmentNumber) -> bool {
    match depth {
        CheckDepth::Structure => false,
        CheckDepth::ReadData { percent, turn } => {
            let share = u64::from(percent.clamp(1, 100));
            percent >= 100 || number.0.wrapping_add(turn).wrapping_mul(share) % 100 < share
        }
    }
}

/// What was read of one segment.
#[derive(Default)]
struct SegmentRead {
    /// `None`: it cannot be read.
    footer: Option<SegmentFooter>,
    blocks_read: u64,
    bytes_read: u64,
    findings: Vec<LogFinding>,
}

impl SegmentRead {
    fn find(&mut self, object: &str, place: (Option<u64>, Option<SiteId>), error: &Error) {
        self.findings.push(finding(object.to_owned(), place, error.to_string()));
    }
}

/// Asks the store, never a memory of it.
async fn read_segment(
    log: &ChangeLog,
    segment: &ListedSegment,
    (reads_data, sites): (bool, &[SiteId]),
) -> Result<SegmentRead, Error> {
    let object = log.object_of(segment);
    let mut read = SegmentRead::default();
    let (footer, end_len) = match log.read_footer(segment, log.footer_share.guess(segment)).await {
        Ok(found) => (found.footer, found.end_len),
        Err(error) if error.fault() == Fault::Damage => {
            read.find(&object, (None, None), &error);
            return Ok(read);
        }
        Err(error) => return Err(error),
    };
    read.bytes_read += end_len as u64;
    if reads_data && sites.is_empty() {
        read_all(log, segment, &footer, &mut read).await?;
    } else if reads_data {
        for block in sites.iter().filter_map(|site| footer.block(site)) {
            let bytes = log.read_place(segment, &block.place).await;
            check_block(log, segment, (block, bytes), &mut read).await?;
        }
    }
    read.footer = Some(footer);
    Ok(read)
}

/// Every block of a segment, by one read of all of it.
async fn read_all(
    log: &ChangeLog,
    segment: &ListedSegment,
    footer: &SegmentFooter,
    read: &mut SegmentRead,
) -> Result<(), Error> {
    let name = object_name(log.object_of(segment))?;
    let body = match log.repository.store().get(&name).await.map_err(Error::from) {
        Ok(body) => body,
        Err(error) if error.fault() == Fault::Damage => {
            read.find(name.as_str(), (None, None), &error);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    // The footer was checked: its blocks fill the segment up to where it begins.
    let slice = |place: &ObjectPlace| {
        let range =
            usize::try_from(place.offset).ok().zip(usize::try_from(place.offset.saturating_add(place.len)).ok());
        let bytes = range.and_then(|(from, till)| body.get(from..till)).unwrap_or_default();
        BytesMut::from(bytes)
    };
    for block in &footer.blocks {
        check_block(log, segment, (block, Ok(slice(&block.place))), read).await?;
    }
    let own = log.repository.keys().object_keys();
    if let Some(place) = &footer.shared {
        let shared = slice(place);
        read.count(shared.len());
        match decode_shared(own, place, &shared) {
            Ok(facts) if footer.shared_kinds.is_some_and(|told| told.known() != SharedKinds::of(&facts)) => {
                let detail = "the footer says that its shared block tells of other things than it does".to_owned();
                let error = Error::Damaged { object: log.object_of(segment), detail };
                read.find(name.as_str(), (Some(place.offset), None), &error);
            }
            Ok(_) => {}
            Err(error) => {
                read.find(name.as_str(), (Some(place.offset), None), &log.damaged(segment, place, "shared", error));
            }
        }
    }
    if let Some(unrouted) = &footer.unrouted {
        let bytes = slice(&unrouted.place);
        read.count(bytes.len());
        if let Err(error) = decode_unrouted(own, unrouted, &bytes) {
            let error = log.damaged(segment, &unrouted.place, "unrouted", error);
            read.find(name.as_str(), (Some(unrouted.place.offset), None), &error);
        }
    }
    Ok(())
}

impl SegmentRead {
    fn count(&mut self, bytes: usize) {
        self.blocks_read += 1;
        self.bytes_read += bytes as u64;
    }
}

/// Opens every frame of a site's block, and counts its changes.
async fn check_block(
    log: &ChangeLog,
    segment: &ListedSegment,
    (block, bytes): (&BlockRef, Result<BytesMut, Error>),
    read: &mut SegmentRead,
) -> Result<(), Error> {
    let checked = async {
        let mut bytes = bytes?;
        read.count(bytes.len());
        let keys = log.keys_of_block(segment, block, &bytes).await?;
        let damaged = |error| log.damaged(segment, &block.place, block.site.as_str(), error);
        tokio::task::block_in_place(|| {
            let mut reader = BlockReader::new(&keys, block, &mut bytes).map_err(damaged)?;
            while reader.next_frame().map_err(damaged)?.is_some() {}
            Ok::<(), Error>(())
        })
    };
    match checked.await {
        Err(error) if error.fault() == Fault::Damage => {
            let place = (Some(block.place.offset), Some(block.site.clone()));
            read.find(&log.object_of(segment), place, &error);
            Ok(())
        }
        Err(Error::Erased { .. }) => Ok(()), // as it was meant
        other => other,
    }
}

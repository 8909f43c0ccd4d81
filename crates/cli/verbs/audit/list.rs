//! `lifeboat audit list`: the newest entries, each with what became of it.
//!
//! The log is read from its newest entry back, so that of each *began* it is known whether a later entry closed it.

use std::collections::HashMap;
use std::time::Duration;

use data_encoding::HEXLOWER;
use lifeboat_engine::is_gone;
use lifeboat_model::{AuditAction, AuditEntry, AuditNumber, AuditRecord, SiteId, Timestamp, worst_exit_code};
use lifeboat_repo::SeenAudit;
use serde_json::{Value, json};

use super::{damaged, rolled_back};
use crate::args::AuditListArgs;
use crate::output::{Align, Failed, Outcome, Table, count};
use crate::{CliError, Context};

/// Entries that are shown where nothing else was asked for.
const SHOWN_MAX: u64 = 100;
/// Clocks of hosts differ: so much older than asked an entry must be before none can follow that is not.
const CLOCKS_DIFFER: Duration = Duration::from_secs(86_400);
/// Sites of an entry that people are shown.
const SITES_SHOWN_MAX: usize = 3;

pub fn run(args: &AuditListArgs, context: &Context) -> Result<Outcome, CliError> {
    let since = args.since.as_deref().map(|text| super::super::find_damage::since(text, Timestamp::now()));
    let wanted = Wanted {
        site: args.site.as_ref(),
        since: since.transpose()?,
        limit: args.limit.unwrap_or(if args.since.is_some() { u64::MAX } else { SHOWN_MAX }),
    };
    context.block_on(async {
        let open = context.open().await?;
        let known = open.memory.audit_head();
        // Of one site there may be few among many.
        let page = if args.site.is_some() { u64::MAX } else { wanted.limit };
        let mut reader = open.engine.repository.audit_reader(usize::try_from(page).unwrap_or(usize::MAX));
        let mut listing = Listing::new(wanted, context);
        while let Some(page) = reader.next_page().await? {
            if page.into_iter().any(|seen| !listing.see(seen)) {
                break;
            }
        }
        let newest = listing.newest.map_or(0, |newest| newest.0);
        if let Some(known) = known.filter(|known| known.number.0 > newest) {
            listing.failed.insert(0, rolled_back(newest, known));
        }
        Ok(listing.end())
    })
}

/// What is to be shown.
struct Wanted<'a> {
    site: Option<&'a SiteId>,
    since: Option<Timestamp>,
    limit: u64,
}

impl Wanted<'_> {
    fn is_it(&self, entry: &AuditEntry) -> bool {
        let AuditRecord { sites, .. } = &entry.record;
        let has = |site: &SiteId| sites.named.contains(site) || sites.count > sites.named.len() as u64;
        self.site.is_none_or(has) && self.since.is_none_or(|since| entry.written_at >= since)
    }
}

struct Listing<'a> {
    wanted: Wanted<'a>,
    context: &'a Context,
    table: Table,
    /// Of entries that a later one closed, how that ended.
    closed: HashMap<AuditNumber, Option<u32>>,
    newest: Option<AuditNumber>,
    shown: u64,
    open: u64,
    failed: Vec<Failed>,
}

impl<'a> Listing<'a> {
    fn new(wanted: Wanted<'a>, context: &'a Context) -> Self {
        let table = Table::new(&[
            ("NUMBER", Align::Right),
            ("WHEN", Align::Left),
            ("WHO", Align::Left),
            ("ACTION", Align::Left),
            ("COMMAND", Align::Left),
            ("SITES", Align::Left),
            ("OUTCOME", Align::Left),
            (if context.global.verbose > 0 { "ABOUT" } else { "" }, Align::Left),
        ]);
        let (closed, failed) = (HashMap::new(), Vec::new());
        Self { wanted, context, table, closed, newest: None, shown: 0, open: 0, failed }
    }

    /// False: what comes now is not wanted any more.
    fn see(&mut self, seen: SeenAudit) -> bool {
        let SeenAudit { object, number, entry, .. } = seen;
        self.newest = self.newest.or(number);
        let entry = match entry {
            Ok(entry) => entry,
            Err(detail) => {
                self.context.output.event("damaged", json!({ "object": object, "detail": detail }));
                self.failed.push(damaged(&object, &detail));
                return true;
            }
        };
        if let Some(closes) = entry.record.closes {
            self.closed.insert(closes, entry.record.exit_code);
        }
        if self.wanted.is_it(&entry) {
            self.show(&object, &entry);
        }
        let is_old = |since: Timestamp| entry.written_at < since && since.since(entry.written_at) > CLOCKS_DIFFER;
        self.shown < self.wanted.limit && !self.wanted.since.is_some_and(is_old)
    }

    fn show(&mut self, object: &str, entry: &AuditEntry) {
        let ended = Ended::of(entry, &self.closed);
        self.shown += 1;
        self.open += u64::from(matches!(ended, Ended::Open { .. }));
        self.context.output.event("entry", to_json(object, entry, ended));
        let AuditRecord { account, action, command, options, sites, targets, details, .. } = &entry.record;
        let user = account.user.clone().unwrap_or_else(|| format!("uid {}", account.uid));
        let sudo = account.sudo_user.as_ref().map(|sudo| format!(" (sudo {sudo})")).unwrap_or_default();
        let mut named: Vec<String> = sites.named.iter().take(SITES_SHOWN_MAX).map(SiteId::to_string).collect();
        let more = sites.count.saturating_sub(named.len() as u64);
        if more > 0 {
            named.push(format!("{} more", count(more)));
        }
        let about = options.iter().cloned().chain(targets.iter().map(ToString::to_string));
        let about = about.chain((!details.is_empty()).then(|| details.clone())).collect::<Vec<_>>().join(", ");
        self.table.row([
            entry.number.to_string(),
            entry.written_at.to_string(),
            format!("{user}@{}{sudo}", entry.writer.host),
            action.name(),
            command.clone(),
            named.join(", "),
            ended.text(),
            if self.context.global.verbose > 0 { about } else { String::new() },
        ]);
    }

    fn end(self) -> Outcome {
        let output = &self.context.output;
        match self.table.is_empty() {
            true => output.say("The audit log has no such entry."),
            false => self.table.lines().iter().for_each(|line| output.line(line)),
        }
        let exit_code = worst_exit_code(self.failed.iter().map(|failed| failed.exit_code));
        Outcome { exit_code, failed: self.failed, ..Outcome::ok() }
            .with("entries", self.shown)
            .with("open", self.open)
            .with("newest", self.newest.map(|newest| newest.0))
    }
}

/// What became of what an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// There is nothing to end.
    AtOnce,
    With(u32),
    /// No later entry closes it.
    Open {
        is_gone: bool,
    },
}

impl Ended {
    fn of(entry: &AuditEntry, closed: &HashMap<AuditNumber, Option<u32>>) -> Self {
        match (entry.record.action, closed.get(&entry.number)) {
            (AuditAction::Began, Some(exit_code)) => Self::With(exit_code.unwrap_or_default()),
            (AuditAction::Began, None) => Self::Open { is_gone: is_gone(&entry.writer) },
            _ => entry.record.exit_code.map_or(Self::AtOnce, Self::With),
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtOnce => String::new(),
            Self::With(0) => "ok".to_owned(),
            Self::With(exit_code) => format!("exit {exit_code}"),
            Self::Open { is_gone: true } => "OPEN, its process is gone".to_owned(),
            Self::Open { is_gone: false } => "open".to_owned(),
        }
    }
}

/// The keys are a contract.
fn to_json(object: &str, entry: &AuditEntry, ended: Ended) -> Value {
    let AuditEntry { number, previous, written_at, writer, record, .. } = entry;
    let AuditRecord { account, action, command, options, closes, sites, targets, details, .. } = record;
    let targets = targets.iter().map(|target| json!({ "kind": target.kind(), "value": target.value() }));
    let (is_open, exit_code, process_gone) = match ended {
        Ended::AtOnce => (false, None, None),
        Ended::With(exit_code) => (false, Some(exit_code), None),
        Ended::Open { is_gone } => (true, None, Some(is_gone)),
    };
    json!({
        "number": number.0,
        "object": object,
        "at": written_at.to_string(),
        "host": writer.host,
        "pid": writer.pid,
        "uid": account.uid,
        "user": account.user,
        "sudo_user": account.sudo_user,
        "action": action.name(),
        "command": command,
        "options": options,
        "sites": sites.named.iter().map(SiteId::as_str).collect::<Vec<_>>(),
        "sites_count": sites.count,
        "sites_hash": sites.hash.map(|hash| HEXLOWER.encode(&hash)),
        "targets": targets.collect::<Vec<_>>(),
        "closes": closes.map(|closes| closes.0),
        "open": is_open,
        "process_gone": process_gone,
        "exit_code": exit_code,
        "details": details,
        "previous": HEXLOWER.encode(previous),
    })
}

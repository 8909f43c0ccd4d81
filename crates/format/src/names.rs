//! The names of all objects in a repository: the one place that makes them and reads them back.
//!
//! ```text
//! lifeboat.json
//! keys/repository/<key id>                 root key, wrapped by the master or the recovery key
//! keys/repository/<key id>.verified        that recovery key was read back by a person
//! keys/repository/signing                  signing key, wrapped under the root key
//! keys/<handle>/<number>                   site key, wrapped under the root key
//! sites/<hh>/<handle>/key/<number>         its second copy
//! sites/<hh>/<handle>/commit/<inverted n>  newest first in a listing
//! sites/<hh>/<handle>/{manifest,index,pack}/<id>
//! runs/<inverted n>
//! log/<source>/<inverted epoch>/epoch      a change log: see `change_log` below
//! log/<source>/<inverted epoch>/seg/<inverted n>
//! log/<source>/<inverted epoch>/commit/<inverted n>
//! log/<source>/<inverted epoch>/long/<id>
//! recoveries/<id>/plan                     what a recovery of many sites does
//! recoveries/<id>/entry/<n>                what happened to it, oldest first in a listing
//! audit/<inverted n>                       who did what, newest first in a listing
//! probe/<id>                               written and removed by `init`
//! ```
//!
//! Only `[a-z0-9._/-]` occurs. Numbers are decimal with leading zeros; an inverted number is
//! `u64::MAX - n`, so that the first name of a listing is the newest. `hh` is the first two hex
//! digits of the handle: it spreads sites over directories and over the store's partitions.

use lifeboat_model::{
    AuditNumber, EpochId, Generation, KeyNumber, LogCommitNumber, ObjectId, RecoveryId, RunNumber, SiteHandle,
    SourceName,
};

use crate::{KeyId, ObjectKind, SegmentName};

mod change_log;

pub use change_log::{
    LOG_PREFIX, epoch, epoch_prefix, log_commit, log_commits_prefix, log_prefix, long_segment, long_segments_prefix,
    segment, segments_prefix,
};

pub const CONFIG: &str = "lifeboat.json";
pub const SIGNING_KEY: &str = "keys/repository/signing";
/// Prefixes end with `/`, as a listing wants them.
pub const ROOT_KEYS_PREFIX: &str = "keys/repository/";
pub const KEYS_PREFIX: &str = "keys/";
pub const SITES_PREFIX: &str = "sites/";
pub const RUNS_PREFIX: &str = "runs/";
pub const RECOVERIES_PREFIX: &str = "recoveries/";
pub const AUDIT_PREFIX: &str = "audit/";
pub const PROBE_PREFIX: &str = "probe/";

pub fn root_key(key: &KeyId) -> String {
    format!("{ROOT_KEYS_PREFIX}{key}")
}

pub fn recovery_verified(key: &KeyId) -> String {
    format!("{ROOT_KEYS_PREFIX}{key}.verified")
}

pub fn site_key(site: &SiteHandle, number: KeyNumber) -> String {
    format!("{}{:010}", site_keys_prefix(site), number.0)
}

pub fn site_keys_prefix(site: &SiteHandle) -> String {
    format!("{KEYS_PREFIX}{site}/")
}

/// Everything of one site but the first copy of its keys.
pub fn site_prefix(site: &SiteHandle) -> String {
    format!("{SITES_PREFIX}{:02x}/{site}/", site.0[0])
}

pub fn site_key_copy(site: &SiteHandle, number: KeyNumber) -> String {
    format!("{}{:010}", site_key_copies_prefix(site), number.0)
}

pub fn site_key_copies_prefix(site: &SiteHandle) -> String {
    format!("{}key/", site_prefix(site))
}

pub fn commits_prefix(site: &SiteHandle) -> String {
    format!("{}commit/", site_prefix(site))
}

pub fn commit(site: &SiteHandle, generation: Generation) -> String {
    format!("{}{:020}", commits_prefix(site), u64::MAX - generation.0)
}

pub fn manifests_prefix(site: &SiteHandle) -> String {
    format!("{}manifest/", site_prefix(site))
}

pub fn manifest(site: &SiteHandle, id: &ObjectId) -> String {
    format!("{}{id}", manifests_prefix(site))
}

pub fn indexes_prefix(site: &SiteHandle) -> String {
    format!("{}index/", site_prefix(site))
}

pub fn index(site: &SiteHandle, id: &ObjectId) -> String {
    format!("{}{id}", indexes_prefix(site))
}

pub fn packs_prefix(site: &SiteHandle) -> String {
    format!("{}pack/", site_prefix(site))
}

pub fn pack(site: &SiteHandle, id: &ObjectId) -> String {
    format!("{}{id}", packs_prefix(site))
}

pub fn run(number: RunNumber) -> String {
    format!("{RUNS_PREFIX}{:020}", u64::MAX - number.0)
}

/// Everything of one recovery.
pub fn recovery_prefix(recovery: RecoveryId) -> String {
    format!("{RECOVERIES_PREFIX}{recovery}/")
}

pub fn recovery_plan(recovery: RecoveryId) -> String {
    format!("{}plan", recovery_prefix(recovery))
}

pub fn recovery_entries_prefix(recovery: RecoveryId) -> String {
    format!("{}entry/", recovery_prefix(recovery))
}

pub fn recovery_entry(recovery: RecoveryId, number: u64) -> String {
    format!("{}{number:020}", recovery_entries_prefix(recovery))
}

pub fn audit_entry(number: AuditNumber) -> String {
    format!("{AUDIT_PREFIX}{:020}", u64::MAX - number.0)
}

pub fn probe(id: &ObjectId) -> String {
    format!("{PROBE_PREFIX}{id}")
}

/// What a name of a repository says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParsedName {
    Config,
    RootKey(KeyId),
    RecoveryVerified(KeyId),
    SigningKey,
    SiteKey(SiteHandle, KeyNumber),
    SiteKeyCopy(SiteHandle, KeyNumber),
    Commit(SiteHandle, Generation),
    /// A manifest, an index segment or a pack.
    Object(SiteHandle, ObjectKind, ObjectId),
    Run(RunNumber),
    Epoch(SourceName, EpochId),
    Segment(SegmentName),
    LogCommit(SourceName, EpochId, LogCommitNumber),
    LongSegment(SourceName, EpochId, ObjectId),
    RecoveryPlan(RecoveryId),
    RecoveryEntry(RecoveryId, u64),
    AuditEntry(AuditNumber),
    Probe(ObjectId),
}

/// Reads any name back; `None` for one this module would never make.
pub fn parse_object_name(name: &str) -> Option<ParsedName> {
    match name {
        CONFIG => return Some(ParsedName::Config),
        SIGNING_KEY => return Some(ParsedName::SigningKey),
        _ => {}
    }
    let (top, rest) = name.split_once('/')?;
    match top {
        "keys" => parse_key_name(rest),
        "sites" => parse_site_name(rest),
        "runs" => parse_run(name).map(ParsedName::Run),
        "log" => change_log::parse(rest),
        "recoveries" => parse_recovery_name(rest),
        "audit" => parse_audit_entry(name).map(ParsedName::AuditEntry),
        "probe" => ObjectId::parse(rest).ok().map(ParsedName::Probe),
        _ => None,
    }
}

/// The site and generation a commit's name says.
pub fn parse_commit(name: &str) -> Option<(SiteHandle, Generation)> {
    match parse_object_name(name)? {
        ParsedName::Commit(site, generation) => Some((site, generation)),
        _ => None,
    }
}

pub fn parse_run(name: &str) -> Option<RunNumber> {
    parse_inverted(name.strip_prefix(RUNS_PREFIX)?).map(RunNumber)
}

/// The number of an entry of the audit log; the first is 1.
pub fn parse_audit_entry(name: &str) -> Option<AuditNumber> {
    parse_inverted(name.strip_prefix(AUDIT_PREFIX)?).filter(|number| *number > 0).map(AuditNumber)
}

/// The number of a site key, from either of its two names.
pub fn parse_key_number(name: &str) -> Option<(SiteHandle, KeyNumber)> {
    match parse_object_name(name)? {
        ParsedName::SiteKey(site, number) | ParsedName::SiteKeyCopy(site, number) => Some((site, number)),
        _ => None,
    }
}

fn parse_key_name(rest: &str) -> Option<ParsedName> {
    let (owner, last) = rest.split_once('/')?;
    if owner == "repository" {
        return match last.strip_suffix(".verified") {
            Some(id) => KeyId::parse(id).map(ParsedName::RecoveryVerified),
            None => KeyId::parse(last).map(ParsedName::RootKey),
        };
    }
    Some(ParsedName::SiteKey(SiteHandle::parse(owner).ok()?, parse_number(last)?))
}

fn parse_site_name(rest: &str) -> Option<ParsedName> {
    let mut segments = rest.split('/');
    let (shard, handle, folder, last) = (segments.next()?, segments.next()?, segments.next()?, segments.next()?);
    if segments.next().is_some() || !handle.starts_with(shard) || shard.len() != 2 {
        return None;
    }
    let site = SiteHandle::parse(handle).ok()?;
    let object = |kind| ObjectId::parse(last).ok().map(|id| ParsedName::Object(site, kind, id));
    match folder {
        "key" => Some(ParsedName::SiteKeyCopy(site, parse_number(last)?)),
        "commit" => Some(ParsedName::Commit(site, Generation(parse_inverted(last)?))),
        "manifest" => object(ObjectKind::Manifest),
        "index" => object(ObjectKind::Index),
        "pack" => object(ObjectKind::Pack),
        _ => None,
    }
}

fn parse_recovery_name(rest: &str) -> Option<ParsedName> {
    let (id, rest) = rest.split_once('/')?;
    let id = RecoveryId::parse(id).ok()?;
    match rest {
        "plan" => Some(ParsedName::RecoveryPlan(id)),
        entry => Some(ParsedName::RecoveryEntry(id, fixed_decimal(entry.strip_prefix("entry/")?, 20)?)),
    }
}

fn parse_number(digits: &str) -> Option<KeyNumber> {
    fixed_decimal(digits, 10).and_then(|number| u32::try_from(number).ok()).map(KeyNumber)
}

fn parse_inverted(digits: &str) -> Option<u64> {
    fixed_decimal(digits, 20).map(|inverted| u64::MAX - inverted)
}

fn fixed_decimal(digits: &str, len: usize) -> Option<u64> {
    if digits.len() != len || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

#[cfg(test)]
mod tests;

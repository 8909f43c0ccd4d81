//! `lifeboat ls` and `lifeboat cat`: look into a point without restoring it.

use std::collections::BTreeMap;
use std::io;

use data_encoding::BASE64;
use futures_util::future::join;
use lifeboat_engine::{EntryLine, Listing, cat as read_entry, list};
use lifeboat_model::{AuditAction, AuditTarget, EntryKind, EntryPath, PointInTime, SourceName, Timestamp};
use serde_json::{Value, json};

use crate::args::{CatArgs, EntrySpec, LsArgs};
use crate::audit::Audited;
use crate::open::Open;
use crate::output::{Align, Outcome, Table, bytes};
use crate::{CliError, Context, words};

pub fn ls(args: &LsArgs, context: &Context) -> Result<Outcome, CliError> {
    let at = super::point(args.at.as_deref())?;
    context.block_on(async {
        let open = context.open().await?;
        let what = &args.what;
        super::known_site(&open, &what.site).await?;
        let beneath = Some(&what.entry).filter(|entry| !entry.is_root());
        let listing = list(&open.engine, &what.site, &at, what.source.as_ref(), beneath);
        let (listing, logged) = join(listing, log(what, &at, &open, context)).await;
        let Listing { record, at, lines, .. } = listing?;
        logged?;
        let output = &context.output;
        output.say(format!("{} at {} (snapshot {}, {})", what.site, at, record.id, words::mark(record.mark)));
        if what.source.is_none() && !args.recursive {
            parts(&lines, context);
        } else {
            let shown = |line: &&EntryLine| args.recursive || is_one_level(&what.entry, line);
            entries(lines.iter().filter(shown), what.source.is_none(), context);
        }
        Ok(Outcome::ok().with("site", what.site.as_str()).with("snapshot_id", record.id.to_string()))
    })
}

/// Writes down who looks, and at what: the part, but nothing that is in it.
async fn log(what: &EntrySpec, at: &PointInTime, open: &Open, context: &Context) -> Result<(), CliError> {
    let mut audited = Audited::new(open, context).sites([&what.site]);
    audited.about(AuditTarget::point(at));
    what.source.iter().cloned().for_each(|source| audited.about(AuditTarget::Source(source)));
    audited.show(AuditAction::Read).await
}

/// The entry itself, or what lies directly in it.
fn is_one_level(directory: &EntryPath, line: &EntryLine) -> bool {
    let path = &line.entry.path;
    path == directory || path.parent().as_ref() == Some(directory)
}

fn parts(lines: &[EntryLine], context: &Context) {
    let mut parts: BTreeMap<&SourceName, (u64, u64)> = BTreeMap::new();
    for line in lines {
        let (entries, size) = parts.entry(&line.source).or_default();
        *entries += 1;
        *size += line.entry.metadata.size;
    }
    let mut table = Table::new(&[("PART", Align::Left), ("ENTRIES", Align::Right), ("SIZE", Align::Right)]);
    for (source, (entries, size)) in parts {
        context.output.event("part", json!({ "source": source.as_str(), "entries": entries, "bytes": size }));
        table.row([source.to_string(), entries.to_string(), bytes(size)]);
    }
    table.lines().iter().for_each(|line| context.output.line(line));
}

fn entries<'l>(lines: impl Iterator<Item = &'l EntryLine>, with_source: bool, context: &Context) {
    let mut table = Table::new(&[
        ("MODE", Align::Left),
        ("OWNER", Align::Left),
        ("SIZE", Align::Right),
        ("MODIFIED", Align::Left),
        ("ENTRY", Align::Left),
    ]);
    for line in lines {
        context.output.event("entry", to_json(line));
        let (entry, metadata) = (&line.entry, &line.entry.metadata);
        let path = if entry.path.is_root() { ".".to_owned() } else { entry.path.to_string() };
        let path = if with_source { format!("{}/{path}", line.source) } else { path };
        let target = match &entry.kind {
            EntryKind::Symlink { target } => format!(" -> {}", target.escape_ascii()),
            EntryKind::HardLink { to } => format!(" = {to}"),
            _ => String::new(),
        };
        table.row([
            mode(&entry.kind, metadata.mode),
            format!("{}:{}", metadata.uid, metadata.gid),
            bytes(metadata.size),
            Timestamp(metadata.modified.seconds.saturating_mul(1_000_000)).to_string(),
            format!("{path}{target}"),
        ]);
    }
    table.lines().iter().for_each(|line| context.output.line(line));
}

fn to_json(line: &EntryLine) -> Value {
    let (entry, metadata) = (&line.entry, &line.entry.metadata);
    let target = match &entry.kind {
        EntryKind::Symlink { target } => Some(target.escape_ascii().to_string()),
        EntryKind::HardLink { to } => Some(to.to_string()),
        _ => None,
    };
    let nanoseconds = i64::from(metadata.modified.nanoseconds / 1000);
    let modified = Timestamp(metadata.modified.seconds.saturating_mul(1_000_000).saturating_add(nanoseconds));
    json!({
        "source": line.source.as_str(),
        "entry": entry.path.to_string(),
        "kind": words::entry_kind(&entry.kind),
        "target": target,
        "mode": format!("{:04o}", metadata.mode),
        "uid": metadata.uid,
        "gid": metadata.gid,
        "bytes": metadata.size,
        "modified": modified.to_string(),
    })
}

/// `drwxr-xr-x`, as `ls -l` shows it.
fn mode(kind: &EntryKind, mode: u32) -> String {
    let letter = match kind {
        EntryKind::Directory => 'd',
        EntryKind::Symlink { .. } => 'l',
        EntryKind::Fifo => 'p',
        _ => '-',
    };
    let bits = [0o400, 0o200, 0o100, 0o040, 0o020, 0o010, 0o004, 0o002, 0o001];
    let set = bits.iter().zip("rwxrwxrwx".chars()).map(|(bit, name)| if mode & bit == 0 { '-' } else { name });
    let mut text: Vec<char> = std::iter::once(letter).chain(set).collect();
    for (bit, at, with, without) in [(0o4000, 3, 's', 'S'), (0o2000, 6, 's', 'S'), (0o1000, 9, 't', 'T')] {
        if mode & bit != 0 {
            text[at] = if text[at] == 'x' { with } else { without };
        }
    }
    text.into_iter().collect()
}

pub fn cat(args: &CatArgs, context: &Context) -> Result<Outcome, CliError> {
    let at = super::point(args.at.as_deref())?;
    let what = &args.what;
    let Some(source) = &what.source else {
        return Err(CliError::usage(format!("no entry is named: what=`{what}`")).with_hint(
            "write SITE:PART/ENTRY, for example `acme:attachments/logo.png`; `lifeboat ls SITE` lists the parts",
        ));
    };
    context.block_on(async {
        let open = context.open().await?;
        super::known_site(&open, &what.site).await?;
        let (entry, logged) = join(entry_of(&open, source, what, &at), log(what, &at, &open, context)).await;
        let entry = entry?;
        logged?;
        let output = &context.output;
        let mut total = 0u64;
        let mut write = |bytes: &[u8]| {
            let offset = total;
            total += bytes.len() as u64;
            output.event("data", json!({ "offset": offset, "base64": if output.is_json() { BASE64.encode(bytes) } else { String::new() } }));
            if output.is_json() || output.raw(bytes) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        };
        let written = read_entry(&open.engine, &what.site, &at, (source, &entry), &mut write).await;
        // Nobody reads any more: told by the last word, unless it was a plain broken pipe.
        if written.is_err() && output.is_stdout_gone() {
            return Ok(Outcome::ok());
        }
        written?;
        Ok(Outcome::ok().with("bytes", total))
    })
}

/// The entry that was named; the database of a sqlite part needs no name.
async fn entry_of(open: &Open, source: &SourceName, what: &EntrySpec, at: &PointInTime) -> Result<EntryPath, CliError> {
    if !what.entry.is_root() {
        return Ok(what.entry.clone());
    }
    let lines = list(&open.engine, &what.site, at, Some(source), None).await?.lines;
    let database = lines.iter().find(|line| matches!(line.entry.kind, EntryKind::Database { .. }));
    database.map(|line| line.entry.path.clone()).ok_or_else(|| {
        CliError::usage(format!("no entry is named: what=`{what}`"))
            .with_hint(format!("write {}:{source}/ENTRY; `lifeboat ls {}:{source}` lists them", what.site, what.site))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_look_as_in_ls() {
        let check = |kind: EntryKind, bits: u32, want: &str| assert_eq!(mode(&kind, bits), want);
        check(EntryKind::File, 0o644, "-rw-r--r--");
        check(EntryKind::Directory, 0o1777, "drwxrwxrwt");
        check(EntryKind::File, 0o4755, "-rwsr-xr-x");
        check(EntryKind::File, 0o2644, "-rw-r-Sr--");
        check(EntryKind::Fifo, 0, "p---------");
    }
}

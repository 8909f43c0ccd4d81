//! Ranged reads alone: what a restore of ours reads from its store, without doing anything with it.
//!
//! It is the ceiling of a restore: the same ranges of the same packs, as many at once as a restore may have
//! under way, through the same client, without the budget for bytes that wait to be decoded.

use std::fs;
use std::ops::Range;
use std::path::Path;

use futures_util::StreamExt;
use lifeboat_bench::Outcome;
use lifeboat_format::{SecretKey, names};
use lifeboat_model::{ObjectId, SiteId};
use lifeboat_repo::{FetchLimits, Manifest, Repository, Site, Wanted, plan_fetches};
use lifeboat_store::{ObjectName, OpenOptions, Opened};

/// Writes the reads of a site's newest good snapshot (a restore adds its undo) to `list`, a line each; `dir` holds the key and the URL.
pub fn plan(dir: &Path, site: &str, list: &Path) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let key = SecretKey::parse_base64(fs::read_to_string(dir.join("lifeboat.key"))?.trim())?;
        let store = open(&fs::read_to_string(dir.join("url"))?).await?.store;
        let repository = Repository::open(store, &key).await?;
        let site = repository.site(&SiteId::new(site)?, None).await?.ok_or("the site was never backed up")?;
        let newest = site.state().latest().ok_or("no snapshot")?.manifest;
        let manifest = site.manifest(&newest).await?;
        let mut wanted = wanted(&site, &manifest).await?;
        wanted.sort_unstable_by_key(|wanted| (wanted.chunk.pack, wanted.chunk.offset));
        let lines = plan_fetches(&wanted, FetchLimits::default().fetch_bytes_max()).into_iter().map(|fetch| {
            let name = names::pack(&site.handle(), &fetch.pack);
            format!("{name} {} {}\n", fetch.bytes.start, fetch.bytes.end)
        });
        Ok(fs::write(list, lines.collect::<String>())?)
    })
}

/// Every chunk that lies in a pack.
async fn wanted(site: &Site, manifest: &Manifest) -> Outcome<Vec<Wanted>> {
    let packs: Vec<ObjectId> = manifest.head().packs.iter().map(|row| row.id).collect();
    let mut wanted = Vec::new();
    for part in 0..manifest.head().parts.len() {
        let entries = manifest.entries(site, part).await?;
        let chunks = entries.iter().flat_map(|entry| entry.chunks());
        wanted.extend(chunks.filter(|chunk| packs.contains(&chunk.pack)).map(|chunk| Wanted { chunk: *chunk, tag: 0 }));
    }
    Ok(wanted)
}

/// Makes the reads of a list, and says what they were.
pub fn read(url: &str, list: &Path) -> Outcome<()> {
    let reads = fs::read_to_string(list)?.lines().map(parse).collect::<Outcome<Vec<_>>>()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let Opened { store, meters } = open(url).await?;
        let reads = reads.into_iter().map(|(name, bytes)| {
            let store = store.clone();
            // On the runtime's threads, as no thread of ours does anything else.
            tokio::spawn(async move { store.get_range(&name, bytes).await.map(|bytes| bytes.len() as u64) })
        });
        let mut reads = futures_util::stream::iter(reads).buffer_unordered(FetchLimits::default().requests_max);
        let mut bytes_read = 0;
        while let Some(read) = reads.next().await {
            bytes_read += read??;
        }
        let requests = meters.snapshot().requests();
        println!("{}", serde_json::json!({ "requests": requests, "bytes_read": bytes_read }));
        Ok(())
    })
}

async fn open(url: &str) -> Outcome<Opened> {
    Ok(lifeboat_store::open(url.trim(), &OpenOptions::default()).await?)
}

fn parse(line: &str) -> Outcome<(ObjectName, Range<u64>)> {
    let mut words = line.split(' ');
    let mut word = || words.next().ok_or_else(|| format!("not a read: {line}"));
    Ok((ObjectName::new(word()?)?, word()?.parse()?..word()?.parse()?))
}

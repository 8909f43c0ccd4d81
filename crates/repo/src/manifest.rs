//! Reading a manifest: the head, then its pages, in few parallel reads.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt};
use lifeboat_format::{
    Decompressor, ManifestHead, ManifestPart, ObjectKind, ObjectOpener, PageRef, decode_manifest_head, decode_page,
    names,
};
use lifeboat_model::{Entry, ManifestRef, PartStatus, SourceName};
use lifeboat_store::ObjectName;

use crate::fetch::{
    self, Begun, Delivery, FetchContext, FetchControl, FetchLimits, FetchStats, Openers, Wanted, fetch_chunks,
    plan_fetches,
};
use crate::upload::object_name;
use crate::{Error, LocalPack, Repository, Site};

/// A manifest up to this long is read whole by one request.
const WHOLE_BYTES_MAX: u64 = 4 << 20;
/// Pages are read in stretches of about this length.
const STRETCH_BYTES: u64 = 4 << 20;

/// One snapshot's manifest, opened: the input of a restore plan.
pub struct Manifest {
    head: ManifestHead,
    name: ObjectName,
    opener: ObjectOpener,
    reference: ManifestRef,
    openers: Openers,
    /// Chunks on their way that nobody has asked for yet.
    begun: Begun,
    /// The whole object, when it was short enough to be read at once.
    whole: Option<Bytes>,
    /// Parts that are otherwise than the object says.
    replaced: BTreeMap<usize, Vec<Entry>>,
}

impl Site {
    /// Reads a manifest's head: one request, or two side by side for a long one.
    pub async fn manifest(&self, reference: &ManifestRef) -> Result<Manifest, Error> {
        let name = object_name(names::manifest(&self.handle(), &reference.id))?;
        let store = self.repository.store();
        let head_range = reference.head_offset..reference.head_offset.saturating_add(u64::from(reference.head_len));
        let (header, mut frame, whole) = if reference.len <= WHOLE_BYTES_MAX {
            let whole = store.get_range(&name, 0..reference.len).await?;
            let frame = slice(&name, &whole, 0, &head_range)?;
            (whole.clone(), frame, Some(whole))
        } else {
            let header = store.get_range(&name, 0..lifeboat_format::HEADER_LEN as u64);
            let (header, frame) = futures_util::future::try_join(header, store.get_range(&name, head_range)).await?;
            (header, BytesMut::from(&frame[..]), None)
        };
        let opener = ObjectOpener::from_header(&self.keys, &header, ObjectKind::Manifest, reference.id)
            .map_err(Error::of_object(&name))?;
        let mut decompressor = Decompressor::new()?;
        let head = decode_manifest_head(&opener, reference.head_offset, &mut frame, &mut decompressor)
            .map_err(Error::of_object(&name))?;
        let openers = Openers::new(&self.keys, &head, (reference.id, opener.clone()))?;
        let begun = match &whole {
            Some(whole) => Begun::with_whole(name.clone(), whole.clone()),
            None => Begun::default(),
        };
        let replaced = BTreeMap::new();
        Ok(Manifest { head, name, opener, reference: *reference, openers, begun, whole, replaced })
    }
}

impl Manifest {
    pub fn head(&self) -> &ManifestHead {
        &self.head
    }

    pub fn id(&self) -> lifeboat_model::ObjectId {
        self.reference.id
    }

    pub fn object(&self) -> &ObjectName {
        &self.name
    }

    pub fn part(&self, source: &SourceName) -> Option<(usize, &ManifestPart)> {
        self.head.parts.iter().enumerate().find(|(_, part)| part.record.source == *source)
    }

    /// Whether chunks lie in the manifest itself, which is never a source of dedup.
    pub fn is_inline(&self, entries: &[Entry]) -> bool {
        entries.iter().flat_map(Entry::chunks).any(|chunk| chunk.pack == self.reference.id)
    }

    /// The same snapshot with one part otherwise: as it was at another moment. Its content may lie in packs
    /// of this manifest, and in those that were adopted.
    pub fn replace_part(&mut self, part: usize, status: PartStatus, mut entries: Vec<Entry>) {
        if let Some(part) = self.head.parts.get_mut(part) {
            part.record.status = status;
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        self.replaced.insert(part, entries);
    }

    /// Learns where another manifest's content lies.
    pub fn adopt(&mut self, other: &Manifest) {
        self.openers.adopt(&other.openers);
    }

    /// The same of content on this host.
    pub fn adopt_local(&mut self, pack: LocalPack) {
        self.openers.adopt_local(pack);
    }

    /// All entries of one part, in path order.
    pub async fn entries(&self, site: &Site, part: usize) -> Result<Vec<Entry>, Error> {
        if let Some(replaced) = self.replaced.get(&part) {
            return Ok(replaced.clone());
        }
        let pages = self.head.pages_of(u32::try_from(part).unwrap_or(u32::MAX));
        let stretches = pages.chunk_by(|a, b| a.offset / STRETCH_BYTES == b.offset / STRETCH_BYTES).map(
            |pages: &[PageRef]| async move {
                let start = pages.iter().map(|page| page.offset).min().unwrap_or(0);
                let end =
                    pages.iter().map(|page| page.offset.saturating_add(u64::from(page.stored_len))).max().unwrap_or(0);
                let bytes = match &self.whole {
                    Some(whole) => whole.clone().slice(clamp(start, whole)..clamp(end, whole)),
                    None => site.repository.store().get_range(&self.name, start..end).await?,
                };
                let (mut entries, mut decompressor) = (Vec::new(), Decompressor::new()?);
                for page in pages {
                    let range = page.offset..page.offset.saturating_add(u64::from(page.stored_len));
                    let mut frame = slice(&self.name, &bytes, start, &range)?;
                    let decoded = decode_page(&self.opener, &self.head, page, &mut frame, &mut decompressor);
                    entries.extend(decoded.map_err(Error::of_object(&self.name))?);
                }
                Ok::<_, Error>(entries)
            },
        );
        let pages: Vec<Vec<Entry>> = futures_util::stream::iter(stretches).buffered(8).try_collect().await?;
        let entries: Vec<Entry> = pages.into_iter().flatten().collect();
        let sorted = entries.windows(2).all(|pair| pair[0].path < pair[1].path);
        if !sorted {
            let detail = "its pages are not in path order".to_owned();
            return Err(Error::Damaged { object: self.name.to_string(), detail });
        }
        Ok(entries)
    }

    /// Reads chunks that this manifest names and hands each to `deliver`; see `fetch`.
    pub fn fetch<E: Send>(
        &self,
        site: &Site,
        wanted: Vec<Wanted>,
        control: FetchControl<'_>,
        deliver: impl Fn(u64, Delivery<'_>) -> Result<(), E> + Sync,
    ) -> Result<Result<FetchStats, E>, Error> {
        let store = site.repository.store().as_ref();
        let FetchControl { limits, cancel } = control;
        let context = FetchContext { store, openers: &self.openers, begun: &self.begun, limits, cancel };
        fetch_chunks(&context, wanted, deliver)
    }

    /// Begins to read the first of these chunks; a [`Self::fetch`] of the same chunks finds them on their way.
    pub fn begin_fetch(&self, repository: &Repository, mut wanted: Vec<Wanted>, limits: FetchLimits) {
        fetch::sort(&mut wanted);
        let fetches = plan_fetches(&wanted, limits.fetch_bytes_max());
        let named = |fetch: fetch::Fetch| Some((self.openers.get(fetch.pack).ok()?.0.clone(), fetch.bytes));
        self.begun.begin(repository.store(), fetches.into_iter().filter_map(named));
    }
}

fn clamp(at: u64, bytes: &Bytes) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len())
}

/// The bytes `range` of an object of which `bytes` were read from `start` on.
fn slice(name: &ObjectName, bytes: &Bytes, start: u64, range: &Range<u64>) -> Result<BytesMut, Error> {
    let relative = |at: u64| usize::try_from(at.checked_sub(start)?).ok();
    let found = relative(range.start).zip(relative(range.end)).and_then(|(from, till)| bytes.get(from..till));
    found.map(BytesMut::from).ok_or_else(|| Error::Damaged {
        object: name.to_string(),
        detail: format!("a reference points beyond it: from=`{}`, till=`{}`", range.start, range.end),
    })
}

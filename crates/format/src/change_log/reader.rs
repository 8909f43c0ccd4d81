//! Reading a block, frame after frame: memory is one frame's changes, not the block's.

use std::sync::Arc;

use lifeboat_model::{BlockRef, ChangeCounts, ChangePlace, ChangedTable, SiteChange, TransactionHead};

use crate::cbor::{self, In, Wire, WireResult, malformed};
use crate::wire::check_change;
use crate::{
    Decompressor, Error, FrameHeader, FrameKind, HEADER_LEN, ObjectKind, ObjectOpener, Result, SiteKeys, TRAILER_LEN,
    Trailer,
};

/// Changes of one transaction, or a part of them: the next of the same head go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionChanges {
    pub head: TransactionHead,
    pub changes: Vec<SiteChange>,
}

/// A block being read, from the bytes of the whole of it.
#[derive(Debug)]
pub struct BlockReader<'b> {
    block: &'b BlockRef,
    bytes: &'b mut [u8],
    opener: ObjectOpener,
    trailer: Trailer,
    decompressor: Decompressor,
    plain: Vec<u8>,
    at: usize,
    frames: u32,
    counts: ChangeCounts,
    first: Option<ChangePlace>,
    last: Option<(TransactionHead, u64)>,
}

impl<'b> BlockReader<'b> {
    /// `bytes` are those that `block` says, which are opened in place.
    pub fn new(keys: &SiteKeys, block: &'b BlockRef, bytes: &'b mut [u8]) -> Result<Self> {
        super::segment::check_len(ObjectKind::Block, &block.place, bytes)?;
        Ok(Self {
            opener: ObjectOpener::from_header(keys, bytes, ObjectKind::Block, block.place.id)?,
            trailer: Trailer::parse(bytes, bytes.len() as u64)?,
            decompressor: Decompressor::new()?,
            block,
            bytes,
            plain: Vec::new(),
            at: HEADER_LEN,
            frames: 0,
            counts: ChangeCounts::default(),
            first: None,
            last: None,
        })
    }

    /// Offset, within the block, of the frame that comes next.
    pub fn offset(&self) -> u64 {
        self.at as u64
    }

    /// The changes of the next frame, in order; `None` at the end, where all of the block was as its
    /// footer says.
    pub fn next_frame(&mut self) -> Result<Option<Vec<TransactionChanges>>> {
        let end = self.bytes.len() - TRAILER_LEN; // `Trailer::parse` proved that there is one
        if self.at >= end {
            return self.check_whole().map(|()| None);
        }
        let header = FrameHeader::parse(&self.bytes[self.at..end])?;
        let damaged = |detail: String| Error::damaged("block", detail);
        if header.ordinal != self.frames {
            return Err(damaged(format!(
                "frames are missing: ordinal=`{}`, expected=`{}`",
                header.ordinal, self.frames
            )));
        }
        let frame_end = usize::try_from(header.stored_len()).ok().and_then(|len| self.at.checked_add(len));
        let Some(frame_end) = frame_end.filter(|frame_end| *frame_end <= end) else {
            return Err(damaged(format!("a frame reaches beyond its end: offset=`{}`", self.at)));
        };
        let (offset, frame) = (self.at as u64, &mut self.bytes[self.at..frame_end]);
        let opened = self.opener.open_frame(FrameKind::Changes, offset, frame)?;
        opened.plain_into(&mut self.decompressor, &mut self.plain)?;
        let plain = std::mem::take(&mut self.plain);
        let taken = self.take_frame(&plain).map_err(|error| error.into_error("changes"));
        self.plain = plain;
        (self.at, self.frames) = (frame_end, self.frames + 1);
        taken.map(Some)
    }

    fn check_whole(&self) -> Result<()> {
        let last = self.last.map(|(head, sequence)| ChangePlace { commit: head.commit, sequence });
        let BlockRef { counts, first, last: told, .. } = self.block;
        if (self.counts, self.first, last) != (*counts, Some(*first), Some(*told)) {
            return Err(Error::damaged("block", "it holds other changes than its footer says"));
        }
        let Trailer { offset, stored_len, frames } = self.trailer;
        let end = offset.saturating_add(stored_len.into());
        match frames == self.frames && end == (self.bytes.len() - TRAILER_LEN) as u64 {
            true => Ok(()),
            false => Err(Error::damaged("block", "its trailer tells of other frames")),
        }
    }

    fn take_frame(&mut self, plain: &[u8]) -> WireResult<Vec<TransactionChanges>> {
        let mut input = In::new(plain);
        let more = cbor::begin_array(&mut input, 2)?;
        let tables: Vec<ChangedTable> = Wire::take(&mut input)?;
        let tables: Vec<Arc<ChangedTable>> = tables.into_iter().map(Arc::new).collect();
        let mut transactions = Vec::new();
        for _ in 0..cbor::array_len(&mut input)? {
            transactions.push(self.take_transaction(&mut input, &tables)?);
        }
        cbor::skip(&mut input, more)?;
        cbor::at_end(&input)?;
        Ok(transactions)
    }

    fn take_transaction(&mut self, input: &mut In<'_>, tables: &[Arc<ChangedTable>]) -> WireResult<TransactionChanges> {
        let more = cbor::begin_array(input, 2)?;
        let head: TransactionHead = Wire::take(input)?;
        let (mut changes, mut before) = (Vec::new(), None);
        for _ in 0..cbor::array_len(input)? {
            let more = cbor::begin_array(input, 3)?;
            let (told, table) = (input.u64()?, input.u64()?);
            let change = Wire::take(input)?;
            cbor::skip(input, more)?;
            let Some(sequence) = before.map_or(Some(told), |before: u64| before.checked_add(told)) else {
                return malformed(format!("a sequence beyond all numbers: commit=`{}`", head.commit));
            };
            let Some(table) = usize::try_from(table).ok().and_then(|table| tables.get(table)) else {
                return malformed(format!("no such table: number=`{table}`, tables=`{}`", tables.len()));
            };
            check_change(table, &change).or_else(malformed)?;
            let change = SiteChange { sequence, table: Arc::clone(table), change };
            self.note(&head, &change)?;
            changes.push(change);
            before = Some(sequence);
        }
        cbor::skip(input, more)?;
        Ok(TransactionChanges { head, changes })
    }

    /// Checks that a change comes after all before it, and counts it.
    fn note(&mut self, head: &TransactionHead, change: &SiteChange) -> WireResult<()> {
        let sequence = change.sequence;
        let ascends =
            self.last.is_none_or(|(before, last)| head.commit > before.commit || (*head == before && sequence > last));
        if !ascends {
            return malformed(format!("changes do not ascend: commit=`{}`, sequence=`{sequence}`", head.commit));
        }
        self.counts.count(change.change.kind());
        self.first.get_or_insert(ChangePlace { commit: head.commit, sequence });
        self.last = Some((*head, sequence));
        Ok(())
    }
}

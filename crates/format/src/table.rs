//! Rows that say where chunks lie: the table at the end of every pack.
//!
//! With it a pack describes itself: an index lost or doubted is built again from the packs.

use lifeboat_model::{ChunkId, ObjectId};

use crate::cbor::{self, In, Out, Wire, WireResult, emit, malformed};
use crate::{Decompressor, FRAME_LEN_MIN, FRAME_RAW_MAX, FrameKind, HEADER_LEN, ObjectOpener, Result};

/// One chunk of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableRow {
    pub chunk: ChunkId,
    pub offset: u64,
    pub stored_len: u32,
    pub raw_len: u32,
}

impl TableRow {
    /// The chunk as entries name it.
    pub fn in_pack(&self, pack: ObjectId) -> lifeboat_model::ChunkRef {
        let Self { chunk: id, offset, stored_len, raw_len } = *self;
        lifeboat_model::ChunkRef { id, pack, offset, stored_len, raw_len }
    }
}

/// `[* [id, offset, stored_len, raw_len]]`
pub(crate) fn encode(rows: &[TableRow]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(rows.len() * 52 + 5);
    cbor::put_list(rows, &mut minicbor::Encoder::new(&mut bytes));
    bytes
}

/// Opens and reads a pack's table; `offset` is that of its frame, as the trailer says.
pub fn decode_pack_table(
    opener: &ObjectOpener,
    offset: u64,
    frame: &mut [u8],
    decompressor: &mut Decompressor,
) -> Result<Vec<TableRow>> {
    let mut inflated = Vec::new();
    let body = opener.open_frame(FrameKind::Table, offset, frame)?.plain(decompressor, &mut inflated)?;
    let read = || {
        let mut input = In::new(body);
        let rows: Vec<TableRow> = cbor::take_list(&mut input)?;
        cbor::at_end(&input)?;
        let mut end = HEADER_LEN as u64;
        for row in &rows {
            if row.offset != end {
                return malformed(format!(
                    "chunks do not follow each other: offset=`{}`, expected=`{end}`",
                    row.offset
                ));
            }
            end += u64::from(row.stored_len);
        }
        match end == offset {
            true => Ok(rows),
            false => malformed(format!("chunks do not reach to the table: end=`{end}`, offset=`{offset}`")),
        }
    };
    read().map_err(|error| error.into_error("pack table"))
}

impl Wire for TableRow {
    fn put(&self, out: &mut Out<'_>) {
        emit(out.array(4));
        self.chunk.put(out);
        self.offset.put(out);
        self.stored_len.put(out);
        self.raw_len.put(out);
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        let more = cbor::begin_array(input, 4)?;
        let row = Self {
            chunk: Wire::take(input)?,
            offset: Wire::take(input)?,
            stored_len: Wire::take(input)?,
            raw_len: Wire::take(input)?,
        };
        cbor::skip(input, more)?;
        check_place(row.offset, row.stored_len, row.raw_len)?;
        Ok(row)
    }
}

/// Whether a chunk can lie at this place at all.
pub(crate) fn check_place(offset: u64, stored_len: u32, raw_len: u32) -> WireResult<()> {
    let within = offset >= HEADER_LEN as u64 && offset.checked_add(u64::from(stored_len)).is_some();
    let sizes = stored_len > FRAME_LEN_MIN as u32 && (1..=FRAME_RAW_MAX).contains(&raw_len);
    // A frame is never longer than its plain bytes stored raw.
    if !within || !sizes || stored_len - FRAME_LEN_MIN as u32 > raw_len {
        let detail =
            format!("a chunk in no possible place: offset=`{offset}`, stored_len=`{stored_len}`, raw_len=`{raw_len}`");
        return malformed(detail);
    }
    Ok(())
}

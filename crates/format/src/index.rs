//! An index segment: which chunks are stored where. Only backups read it, to store nothing twice.
//!
//! ```text
//! header | table* | head | trailer      each table: up to 65,536 rows, ascending by chunk id over all tables
//! ```

use lifeboat_model::{ChunkId, ChunkRef, IndexRef, ObjectId};

use crate::cbor::{self, In, Out, Wire, WireResult, emit, malformed, wire_lists, wire_map};
use crate::table::check_place;
use crate::{
    Compressor, Decompressor, Error, FRAME_LEN_MIN, FrameKind, HEADER_LEN, ObjectKind, ObjectOpener, ObjectWriter,
    PackRow, Placed, Result, SiteKeys, TRAILER_LEN, Trailer,
};

const TABLE_ROWS: usize = 65_536;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexSegment {
    pub packs: Vec<PackRow>,
    /// Ascending by chunk id, each once.
    pub chunks: Vec<IndexRow>,
}

/// Where one chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexRow {
    pub chunk: ChunkId,
    /// Place in [`IndexSegment::packs`].
    pub pack: u32,
    pub offset: u64,
    pub stored_len: u32,
    pub raw_len: u32,
}

struct IndexHead {
    packs: Vec<PackRow>,
    tables: Vec<TableRef>,
}

struct TableRef {
    offset: u64,
    stored_len: u32,
    rows: u32,
}

impl IndexSegment {
    /// The chunk as entries name it; `None` when the row is not of this segment.
    pub fn chunk_ref(&self, row: &IndexRow) -> Option<ChunkRef> {
        let IndexRow { chunk: id, offset, stored_len, raw_len, .. } = *row;
        self.packs.get(row.pack as usize).map(|pack| ChunkRef { id, pack: pack.id, offset, stored_len, raw_len })
    }

    /// The whole object. Rows are sorted here; one id in two places keeps the first.
    pub fn encode(mut self, keys: &SiteKeys, id: ObjectId, compressor: &mut Compressor) -> Result<(Vec<u8>, IndexRef)> {
        self.chunks.sort_by_key(|row| row.chunk);
        self.chunks.dedup_by_key(|row| row.chunk);
        for row in &self.chunks {
            self.check_row(row).map_err(|error| Error::misuse(error.detail()))?;
        }
        let mut object = ObjectWriter::new(keys, ObjectKind::Index, id)?;
        let mut tables = Vec::new();
        for rows in self.chunks.chunks(TABLE_ROWS) {
            let mut plain = Vec::with_capacity(rows.len() * 56);
            cbor::put_list(rows, &mut minicbor::Encoder::new(&mut plain));
            // Ids are random: a table does not compress.
            let Placed { offset, stored_len } = object.push_frame(FrameKind::Table, &plain, None)?;
            tables.push(TableRef { offset, stored_len, rows: rows.len() as u32 });
        }
        let head = IndexHead { packs: self.packs, tables };
        object.push_frame(FrameKind::Head, &cbor::to_bytes(&head), Some(compressor))?;
        let (bytes, own) = object.finish()?;
        Ok((bytes, IndexRef { id: own.id, len: own.len, chunks: self.chunks.len() as u64 }))
    }

    /// Reads the whole object `id`.
    pub fn decode(keys: &SiteKeys, id: ObjectId, bytes: &[u8]) -> Result<Self> {
        let opener = ObjectOpener::from_header(keys, bytes, ObjectKind::Index, id)?;
        let mut decompressor = Decompressor::new()?;
        let trailer = Trailer::parse(bytes, bytes.len() as u64)?;
        let mut read = |kind, offset: u64, stored_len: u32| -> Result<Vec<u8>> {
            let mut frame = slice(bytes, offset, stored_len)?.to_vec();
            let mut plain = Vec::new();
            opener.open_frame(kind, offset, &mut frame)?.plain_into(&mut decompressor, &mut plain)?;
            Ok(plain)
        };
        let head: IndexHead =
            cbor::from_bytes("index head", &read(FrameKind::Head, trailer.offset, trailer.stored_len)?)?;
        if trailer.frames as usize != head.tables.len() + 1 {
            return Err(Error::damaged("index", "its trailer counts other frames than its head"));
        }
        let mut end = HEADER_LEN as u64;
        let mut segment = Self { packs: head.packs, chunks: Vec::new() };
        for table in &head.tables {
            if table.offset != end {
                return Err(Error::damaged(
                    "index head",
                    format!("tables do not follow each other: offset=`{}`", table.offset),
                ));
            }
            end += u64::from(table.stored_len);
            let plain = read(FrameKind::Table, table.offset, table.stored_len)?;
            segment.take_table(&plain, table.rows).map_err(|error| error.into_error("index table"))?;
        }
        match end == trailer.offset {
            true => Ok(segment),
            false => Err(Error::damaged("index head", "tables do not reach to the head")),
        }
    }

    fn take_table(&mut self, plain: &[u8], rows: u32) -> WireResult<()> {
        let mut input = In::new(plain);
        let count = cbor::array_len(&mut input)?;
        if count != u64::from(rows) {
            return malformed(format!("another number of rows: found=`{count}`, expected=`{rows}`"));
        }
        for _ in 0..count {
            let row = IndexRow::take(&mut input)?;
            self.check_row(&row)?;
            if self.chunks.last().is_some_and(|last| last.chunk >= row.chunk) {
                return malformed(format!("out of order: chunk=`{}`", row.chunk));
            }
            self.chunks.push(row);
        }
        cbor::at_end(&input)
    }

    fn check_row(&self, row: &IndexRow) -> WireResult<()> {
        check_place(row.offset, row.stored_len, row.raw_len)?;
        let end = row.offset + u64::from(row.stored_len);
        match self.packs.get(row.pack as usize) {
            Some(pack) if end <= pack.len.saturating_sub((FRAME_LEN_MIN + TRAILER_LEN) as u64) => Ok(()),
            Some(pack) => malformed(format!("a chunk beyond the end of its pack: end=`{end}`, len=`{}`", pack.len)),
            None => malformed(format!("no such pack: number=`{}`, packs=`{}`", row.pack, self.packs.len())),
        }
    }
}

/// The bytes of one frame of an object.
fn slice(bytes: &[u8], offset: u64, stored_len: u32) -> Result<&[u8]> {
    let range = usize::try_from(offset).ok().and_then(|from| Some(from..from.checked_add(stored_len as usize)?));
    range.and_then(|range| bytes.get(range)).ok_or_else(|| {
        let len = bytes.len();
        Error::damaged(
            "object",
            format!("a frame beyond its end: offset=`{offset}`, stored_len=`{stored_len}`, len=`{len}`"),
        )
    })
}

wire_map!(IndexHead { 0: packs, 1: tables });
wire_map!(TableRef { 0: offset, 1: stored_len, 2: rows });
wire_lists!(TableRef);

/// `[id, pack, offset, stored_len, raw_len]`, packs numbered from 1 as in a manifest.
impl Wire for IndexRow {
    fn put(&self, out: &mut Out<'_>) {
        emit(out.array(5));
        self.chunk.put(out);
        emit(emit(emit(emit(out.u32(self.pack + 1)).u64(self.offset)).u32(self.stored_len)).u32(self.raw_len));
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        let more = cbor::begin_array(input, 5)?;
        let chunk = Wire::take(input)?;
        let Some(pack) = input.u32()?.checked_sub(1) else {
            return malformed("an index segment holds no chunks itself: number=`0`");
        };
        let row = Self { chunk, pack, offset: input.u64()?, stored_len: input.u32()?, raw_len: input.u32()? };
        cbor::skip(input, more)?;
        Ok(row)
    }
}

#[cfg(test)]
mod tests;

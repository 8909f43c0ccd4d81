//! Scanning an object without keys: what is there, and where the damage is.
//!
//! Seals cannot be checked here; lengths, markers and order can. After damage the scan goes on at
//! the next marker that could begin a frame, so that one bad byte does not hide the rest.

use crate::envelope::FRAME_MARKER;
use crate::{FRAME_HEADER_LEN, FrameHeader, HEADER_LEN, ObjectHeader, TRAILER_LEN, Trailer};

/// What a scan found, by offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// `None`: see `damage`.
    pub header: Option<ObjectHeader>,
    pub frames: Vec<ScannedFrame>,
    pub trailer: Option<Trailer>,
    pub damage: Vec<ScanDamage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScannedFrame {
    pub offset: u64,
    pub header: FrameHeader,
}

/// A stretch of an object that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanDamage {
    pub offset: u64,
    pub len: u64,
    pub detail: String,
}

/// Scans a whole object: a pack, or any other kind.
pub fn scan_pack(bytes: &[u8]) -> Scan {
    let mut scan = Scan { header: None, frames: Vec::new(), trailer: None, damage: Vec::new() };
    match ObjectHeader::parse(bytes) {
        Ok(header) => scan.header = Some(header),
        Err(error) => scan.damaged(0, bytes.len().min(HEADER_LEN), error.to_string()),
    }
    let end = match Trailer::parse(bytes, bytes.len() as u64) {
        Ok(trailer) => {
            scan.trailer = Some(trailer);
            bytes.len() - TRAILER_LEN
        }
        Err(error) => {
            scan.damaged(bytes.len().saturating_sub(TRAILER_LEN), bytes.len().min(TRAILER_LEN), error.to_string());
            bytes.len()
        }
    };
    scan.frames(bytes, end);
    scan.check_trailer();
    scan.damage.sort_by_key(|damage| damage.offset);
    scan
}

impl Scan {
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty()
    }

    fn frames(&mut self, bytes: &[u8], end: usize) {
        let mut at = HEADER_LEN;
        while at < end {
            match frame_at(&bytes[at..end]) {
                Ok(header) => {
                    self.check_ordinal(at, header.ordinal);
                    self.frames.push(ScannedFrame { offset: at as u64, header });
                    at += header.stored_len() as usize;
                }
                Err(detail) => {
                    let next = next_marker(&bytes[..end], at + 1);
                    self.damaged(at, next - at, detail);
                    at = next;
                }
            }
        }
    }

    /// Frames are numbered without gaps: one that is missing, doubled or moved shows here.
    fn check_ordinal(&mut self, at: usize, ordinal: u32) {
        let expected = self.frames.last().map_or(0, |frame| frame.header.ordinal.wrapping_add(1));
        if ordinal != expected {
            let detail = format!("frames are missing or out of order: ordinal=`{ordinal}`, expected=`{expected}`");
            self.damaged(at, FRAME_HEADER_LEN, detail);
        }
    }

    fn check_trailer(&mut self) {
        let Some(trailer) = self.trailer else { return };
        let last = self.frames.last().map(|frame| (frame.offset, frame.header.stored_len(), frame.header.ordinal));
        let told = (trailer.offset, u64::from(trailer.stored_len), trailer.frames.wrapping_sub(1));
        if last != Some(told) {
            let at = trailer.offset.saturating_add(trailer.stored_len.into());
            self.damaged(at as usize, TRAILER_LEN, "the trailer does not tell of the last frame".to_owned());
        }
    }

    fn damaged(&mut self, offset: usize, len: usize, detail: String) {
        self.damage.push(ScanDamage { offset: offset as u64, len: len as u64, detail });
    }
}

/// The frame that begins `bytes` and lies whole within them.
fn frame_at(bytes: &[u8]) -> Result<FrameHeader, String> {
    let header = FrameHeader::parse(bytes).map_err(|error| error.to_string())?;
    match header.stored_len() <= bytes.len() as u64 {
        true => Ok(header),
        false => {
            Err(format!("a frame reaches beyond the end: stored_len=`{}`, left=`{}`", header.stored_len(), bytes.len()))
        }
    }
}

/// The next place, from `from` on, where a frame could begin; the end if there is none.
fn next_marker(bytes: &[u8], from: usize) -> usize {
    let tail = bytes.get(from..).unwrap_or_default();
    let is_frame = |at: &usize| tail[*at..].starts_with(&FRAME_MARKER) && frame_at(&tail[*at..]).is_ok();
    (0..tail.len()).find(is_frame).map_or(bytes.len(), |at| from + at)
}

#[cfg(test)]
mod tests;

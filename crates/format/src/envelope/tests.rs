//! Headers and trailers as bytes.

use super::*;

fn header() -> ObjectHeader {
    ObjectHeader {
        sealed_key: SealedKey([9; 60]),
        ..ObjectHeader::unsealed(ObjectKind::Index, SiteHandle([3; 16]), KeyNumber(0x0102_0304), ObjectId([4; 16]))
    }
}

fn frame() -> FrameHeader {
    FrameHeader {
        kind: FrameKind::Chunk,
        compression: Compression::Zstd,
        ordinal: 5,
        raw_len: 1_000,
        sealed_len: 516,
        id: ChunkId([6; 32]),
    }
}

#[test]
fn headers_are_read_back_as_written() {
    let bytes = [&header().bound_bytes()[..], &header().sealed_key.0].concat();
    assert_eq!(bytes.len(), HEADER_LEN);
    assert_eq!(ObjectHeader::parse(&bytes), Ok(header()));
    assert_eq!(FrameHeader::parse(&frame().to_bytes()), Ok(frame()));
    let trailer = Trailer { offset: 108, stored_len: 100, frames: 1 };
    assert_eq!(Trailer::parse(&trailer.to_bytes(), 108 + 100 + 24), Ok(trailer));
}

#[test]
fn an_object_header_that_is_none_is_refused() {
    let good = [&header().bound_bytes()[..], &header().sealed_key.0].concat();
    let check = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        let error = ObjectHeader::parse(&bytes).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{at}: {error}");
    };
    (0..8).for_each(|at| check(at, b'x'));
    check(10, 0);
    check(10, 0xff);
    check(11, 1);
    for len in 0..HEADER_LEN {
        assert!(ObjectHeader::parse(&good[..len]).is_err(), "{len}");
    }
}

#[test]
fn impossible_lengths_of_a_frame_are_refused() {
    let check = |compression, raw_len, sealed_len, want: bool| {
        let header = FrameHeader { compression, raw_len, sealed_len, ..frame() };
        assert_eq!(FrameHeader::parse(&header.to_bytes()).is_ok(), want, "{header:?}");
    };
    check(Compression::Raw, 100, 116, true);
    check(Compression::Raw, 0, 16, true);
    check(Compression::Raw, 100, 115, false);
    check(Compression::Raw, 100, 117, false);
    check(Compression::Raw, 0, 15, false);
    check(Compression::Zstd, 100, 116, false);
    check(Compression::Zstd, 100, 115, true);
    check(Compression::Zstd, u32::MAX, 100, false);
    check(Compression::Zstd, FRAME_RAW_MAX, 100, true);
    check(Compression::Zstd, FRAME_RAW_MAX + 1, 100, false);
    check(Compression::Raw, u32::MAX - 8, 7, false);
}

#[test]
fn a_trailer_that_points_elsewhere_is_refused() {
    let check = |trailer: Trailer, len: u64| {
        assert!(Trailer::parse(&trailer.to_bytes(), len).is_err(), "{trailer:?} {len}");
    };
    check(Trailer { offset: 107, stored_len: 101, frames: 1 }, 232);
    check(Trailer { offset: 108, stored_len: 99, frames: 1 }, 232);
    check(Trailer { offset: u64::MAX, stored_len: 100, frames: 1 }, 232);
    check(Trailer { offset: 108, stored_len: 100, frames: 1 }, 233);
    assert!(Trailer::parse(&[0; 23], 23).is_err());
    assert!(Trailer::parse(&[0; 24], 232).is_err());
}

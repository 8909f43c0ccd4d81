//! Compression, and what a hostile length can do.

use super::*;

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn only_what_saves_three_percent_is_compressed() {
    let mut compressor = Compressor::new().unwrap();
    let mut check = |plain: &[u8], want: bool| {
        let mut out = b"before".to_vec();
        assert_eq!(compressor.append(plain, &mut out), want, "len {}", plain.len());
        assert!(out.starts_with(b"before"));
        assert!(want || out.len() == 6);
        assert!(out.len() - 6 <= plain.len() * 97 / 100);
    };
    check(&[7; 100_000], true);
    check(&noise(100_000), false);
    check(&[], false);
    check(&[7; RAW_LEN_MIN - 1], false);
    check(&[7; RAW_LEN_MIN], true);
    // Nearly all noise: it would shrink by less than the limit.
    let mut mostly = noise(100_000);
    mostly.extend_from_slice(&[0; 2_000]);
    check(&mostly, false);
}

#[test]
fn a_context_is_as_good_after_a_failure() {
    let mut compressor = Compressor::new().unwrap();
    let mut decompressor = Decompressor::new().unwrap();
    let plain = b"to and fro ".repeat(500);
    for _ in 0..3 {
        assert!(!compressor.append(&noise(10_000), &mut Vec::new()));
        let mut packed = Vec::new();
        assert!(compressor.append(&plain, &mut packed));
        let mut out = Vec::new();
        assert!(decompressor.fill(&noise(100), 1_000, &mut out).is_err());
        decompressor.fill(&packed, plain.len() as u32, &mut out).unwrap();
        assert_eq!(out, plain);
    }
}

#[test]
fn a_bomb_is_refused_and_writes_no_more_than_its_frame_may() {
    let bomb = zstd::bulk::compress(&vec![0; 32 << 20], 19).unwrap();
    assert!(bomb.len() < 4_096, "{}", bomb.len());
    let mut decompressor = Decompressor::new().unwrap();
    let mut out = Vec::new();
    for raw_len in [0, 1, 4_096, (32 << 20) - 1] {
        let error = decompressor.fill(&bomb, raw_len, &mut out).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert!(out.is_empty());
        assert!(out.capacity() <= raw_len as usize, "{}", out.capacity());
    }
    let error = decompressor.fill(&bomb, FRAME_RAW_MAX + 1, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
    // More promised than there is.
    assert!(decompressor.fill(&bomb, (32 << 20) + 1, &mut out).is_err());
}

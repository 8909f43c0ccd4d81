//! Rows and changes of a large table on their way over a disk, in parts small enough for memory.
//!
//! A part holds every row and change of its keys, in their order, and is folded alone. A row whose key
//! changes stays in the part of its first key, so that its earlier values are there.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};

use super::fold::{Fold, Row};
use super::shape::Shapes;
use super::{Step, Stretches};
use crate::Error;
use crate::unnamed::{failed, unnamed_file};

/// With rows in the twentyfold of the budget a part is still smaller than the budget.
const PARTS: usize = 64;
const BUFFER_MAX: usize = 64 << 10;

pub(super) struct Spill {
    parts: Vec<BufWriter<File>>,
    /// Keys that came from another one, and the part they are in therefore.
    moved: HashMap<Vec<u8>, usize>,
}

impl Spill {
    pub fn create(memory_bytes: usize) -> Result<Self, Error> {
        let buffer = (memory_bytes / PARTS).clamp(512, BUFFER_MAX);
        let part = |_| Ok(BufWriter::with_capacity(buffer, unnamed_file()?));
        Ok(Self { parts: (0..PARTS).map(part).collect::<Result<_, Error>>()?, moved: HashMap::new() })
    }

    /// A row of the base.
    pub fn base(&mut self, key: &[u8], line: &[u8]) -> Result<(), Error> {
        let at = self.part_of(key);
        self.write(at, &[b"b", &[], key, line])
    }

    /// A row of any shape.
    pub fn row(&mut self, key: &[u8], row: &Row) -> Result<(), Error> {
        let at = self.part_of(key);
        self.write(at, &[b"r", &row.shape.to_le_bytes(), key, &row.line])
    }

    pub fn step(&mut self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Truncate => {
                self.moved.clear();
                (0..PARTS).try_for_each(|at| self.write(at, &[b"t", &[], &[], &[]]))
            }
            Step::Delete { key } => {
                let at = self.part_of(key);
                self.moved.remove(key);
                self.write(at, &[b"d", &[], key, &[]])
            }
            Step::Put { key, before, shape, values } => {
                let at = self.part_of(before.as_deref().unwrap_or(key));
                if let Some(before) = before.as_ref().filter(|before| *before != key) {
                    self.moved.remove(before);
                    self.moved.insert(key.clone(), at);
                }
                let (kind, before) = match before {
                    Some(before) => (b"u", before.as_slice()),
                    None => (b"p", [].as_slice()),
                };
                let mut body = shape.to_le_bytes().to_vec();
                for value in values {
                    // One more than its length; 0 is one that is unchanged.
                    let len = value.as_ref().map_or(0, |value| value.len() as u64 + 1);
                    body.extend_from_slice(&len.to_le_bytes());
                    body.extend_from_slice(value.as_deref().unwrap_or_default());
                }
                self.write(at, &[kind, before, key, &body])
            }
        }
    }

    fn part_of(&self, key: &[u8]) -> usize {
        let hash = || blake3::hash(key).as_bytes()[0] as usize % PARTS;
        self.moved.get(key).copied().unwrap_or_else(hash)
    }

    /// One letter, and three texts with their lengths.
    fn write(&mut self, at: usize, [kind, rest @ ..]: &[&[u8]; 4]) -> Result<(), Error> {
        let part = &mut self.parts[at];
        let mut write = || {
            part.write_all(kind)?;
            rest.iter().try_for_each(|text| {
                part.write_all(&(text.len() as u64).to_le_bytes())?;
                part.write_all(text)
            })
        };
        write().map_err(failed)
    }

    pub fn give(self, shapes: &Shapes, out: &mut Stretches<'_>) -> Result<(), Error> {
        for part in self.parts {
            let mut file = part.into_inner().map_err(|error| failed(error.into_error()))?;
            file.rewind().map_err(failed)?;
            let mut reader = BufReader::with_capacity(BUFFER_MAX, file);
            let mut fold = Fold::new(shapes.has_key());
            while let Some((kind, [first, key, body])) = next(&mut reader).map_err(failed)? {
                match kind {
                    b'b' => fold.base(key, &body),
                    b'r' => fold.add(key, Row { shape: shape_of(&first), line: body }),
                    b't' => fold.step(Step::Truncate, shapes)?,
                    b'd' => fold.step(Step::Delete { key }, shapes)?,
                    _ => {
                        let before = (kind == b'u').then_some(first);
                        let values = values_of(body.get(2..).unwrap_or_default());
                        fold.step(Step::Put { key, before, shape: shape_of(&body), values }, shapes)?;
                    }
                }
            }
            fold.give(shapes, out)?;
        }
        Ok(())
    }
}

/// What `write` wrote; `None`: that was all.
fn next(reader: &mut impl Read) -> io::Result<Option<(u8, [Vec<u8>; 3])>> {
    let mut kind = [0];
    if reader.read(&mut kind)? == 0 {
        return Ok(None);
    }
    let mut texts: [Vec<u8>; 3] = Default::default();
    for text in &mut texts {
        let mut len = [0; 8];
        reader.read_exact(&mut len)?;
        let len = usize::try_from(u64::from_le_bytes(len)).map_err(io::Error::other)?;
        text.resize(len, 0); // our own file: the length is what we wrote
        reader.read_exact(text)?;
    }
    Ok(Some((kind[0], texts)))
}

fn shape_of(bytes: &[u8]) -> u16 {
    bytes.first_chunk::<2>().map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

fn values_of(mut body: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut values = Vec::new();
    while let Some((len, rest)) = body.split_first_chunk::<8>() {
        let len = usize::try_from(u64::from_le_bytes(*len)).unwrap_or(usize::MAX);
        let (value, rest) = match len.checked_sub(1) {
            None => (None, rest),
            Some(len) => (rest.get(..len).map(<[u8]>::to_vec), rest.get(len..).unwrap_or_default()),
        };
        values.push(value);
        body = rest;
    }
    values
}

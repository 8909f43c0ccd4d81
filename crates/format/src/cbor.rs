//! CBOR (RFC 8949) for the bodies of frames: how a value becomes an item, and back.
//!
//! Structures are maps with small integer keys in ascending order, or arrays where there are very
//! many of them. A reader skips map keys and trailing array items it does not know, so that later
//! versions can add to both; it refuses indefinite lengths, missing and repeated keys. No length
//! is believed: nothing is allocated for items that have not been read.

use std::convert::Infallible;

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

use crate::{Error, Result};

pub(crate) type Out<'v> = Encoder<&'v mut Vec<u8>>;
pub(crate) type In<'b> = Decoder<'b>;

/// Why a body does not say what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WireError {
    Malformed(String),
    /// A variant of a later version.
    Unknown(String),
}

pub(crate) type WireResult<T> = std::result::Result<T, WireError>;

/// A value with one form on the wire.
pub(crate) trait Wire: Sized {
    fn put(&self, out: &mut Out<'_>);
    fn take(input: &mut In<'_>) -> WireResult<Self>;

    /// Whether the value is left out of a map.
    fn is_absent(&self) -> bool {
        false
    }

    /// What a missing map key means; `None`: the key must be there.
    fn absent() -> Option<Self> {
        None
    }
}

/// The bytes of one value.
pub(crate) fn to_bytes(value: &impl Wire) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.put(&mut Encoder::new(&mut bytes));
    bytes
}

/// The one value that `bytes` hold; `what` names it in an error.
pub(crate) fn from_bytes<T: Wire>(what: &'static str, bytes: &[u8]) -> Result<T> {
    let mut input = Decoder::new(bytes);
    let value = T::take(&mut input).map_err(|error| error.into_error(what))?;
    at_end(&input).map_err(|error| error.into_error(what))?;
    Ok(value)
}

pub(crate) fn at_end(input: &In<'_>) -> WireResult<()> {
    match input.position() == input.input().len() {
        true => Ok(()),
        false => malformed(format!("bytes follow the value: at=`{}`", input.position())),
    }
}

pub(crate) fn malformed<T>(detail: impl Into<String>) -> WireResult<T> {
    Err(WireError::Malformed(detail.into()))
}

pub(crate) fn unknown<T>(what: &str, code: u64) -> WireResult<T> {
    Err(WireError::Unknown(format!("{what} {code}")))
}

impl WireError {
    pub fn detail(self) -> String {
        match self {
            Self::Malformed(detail) | Self::Unknown(detail) => detail,
        }
    }

    pub fn into_error(self, what: &'static str) -> Error {
        match self {
            Self::Malformed(detail) => Error::damaged(what, detail),
            Self::Unknown(feature) => Error::UnknownFeature { feature, writing: false },
        }
    }
}

impl From<minicbor::decode::Error> for WireError {
    fn from(error: minicbor::decode::Error) -> Self {
        let at = error.position().map_or(String::new(), |at| format!(" at {at}"));
        Self::Malformed(format!("not the expected CBOR: {error}{at}"))
    }
}

/// Takes the result of one step of an encoder that writes to memory, and cannot fail.
pub(crate) fn emit<T>(step: std::result::Result<T, minicbor::encode::Error<Infallible>>) -> T {
    // The error of a vector as a writer has no values, and minicbor's own are for custom encoders.
    step.expect("a vector takes every byte")
}

/// The length of an array of definite length.
pub(crate) fn array_len(input: &mut In<'_>) -> WireResult<u64> {
    match input.array()? {
        Some(len) => Ok(len),
        None => malformed("an array of indefinite length"),
    }
}

/// Begins an array of at least `known` items and gives how many more there are to skip.
pub(crate) fn begin_array(input: &mut In<'_>, known: u64) -> WireResult<u64> {
    let len = array_len(input)?;
    match len.checked_sub(known) {
        Some(more) => Ok(more),
        None => malformed(format!("an array is too short: len=`{len}`, expected=`{known}`")),
    }
}

pub(crate) fn skip(input: &mut In<'_>, items: u64) -> WireResult<()> {
    // Ends at the end of the input, whatever `items` says: each item takes at least a byte.
    for _ in 0..items {
        input.skip()?;
    }
    Ok(())
}

macro_rules! wire_number {
    ($($type:ident),*) => {$(
        impl Wire for $type {
            fn put(&self, out: &mut Out<'_>) {
                emit(out.$type(*self));
            }

            fn take(input: &mut In<'_>) -> WireResult<Self> {
                Ok(input.$type()?)
            }
        }
    )*};
}

wire_number!(u32, u64, i64);

impl Wire for String {
    fn put(&self, out: &mut Out<'_>) {
        emit(out.str(self));
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        Ok(input.str()?.to_owned())
    }
}

impl Wire for bool {
    fn put(&self, out: &mut Out<'_>) {
        emit(out.bool(*self));
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        Ok(input.bool()?)
    }

    /// In a map only what is so is said.
    fn is_absent(&self) -> bool {
        !self
    }

    fn absent() -> Option<Self> {
        Some(false)
    }
}

/// A byte string of any length.
impl Wire for Vec<u8> {
    fn put(&self, out: &mut Out<'_>) {
        emit(out.bytes(self));
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        Ok(input.bytes()?.to_vec())
    }
}

/// A byte string of exactly this length.
impl<const N: usize> Wire for [u8; N] {
    fn put(&self, out: &mut Out<'_>) {
        emit(out.bytes(self));
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        let bytes = input.bytes()?;
        match bytes.try_into() {
            Ok(array) => Ok(array),
            Err(_) => malformed(format!("a byte string of wrong length: len=`{}`, expected=`{N}`", bytes.len())),
        }
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Out<'_>) {
        match self {
            Some(value) => value.put(out),
            None => {
                emit(out.null());
            }
        }
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        if input.datatype()? == Type::Null {
            input.null()?;
            return Ok(None);
        }
        T::take(input).map(Some)
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: Wire> Wire for Box<T> {
    fn put(&self, out: &mut Out<'_>) {
        (**self).put(out);
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        T::take(input).map(Box::new)
    }
}

impl<T: Wire> Wire for std::sync::Arc<T> {
    fn put(&self, out: &mut Out<'_>) {
        (**self).put(out);
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        T::take(input).map(Self::new)
    }
}

/// An array of values that are no bytes.
pub(crate) fn put_list<T: Wire>(values: &[T], out: &mut Out<'_>) {
    emit(out.array(values.len() as u64));
    values.iter().for_each(|value| value.put(out));
}

pub(crate) fn take_list<T: Wire>(input: &mut In<'_>) -> WireResult<Vec<T>> {
    let len = array_len(input)?;
    let mut values = Vec::new();
    for _ in 0..len {
        values.push(T::take(input)?);
    }
    Ok(values)
}

/// `impl Wire` for lists of these types, which the orphan of `Vec<u8>` above forbids in general.
macro_rules! wire_lists {
    ($($type:ty),* $(,)?) => {$(
        impl $crate::cbor::Wire for Vec<$type> {
            fn put(&self, out: &mut $crate::cbor::Out<'_>) {
                $crate::cbor::put_list(self, out);
            }

            fn take(input: &mut $crate::cbor::In<'_>) -> $crate::cbor::WireResult<Self> {
                $crate::cbor::take_list(input)
            }
        }
    )*};
}
pub(crate) use wire_lists;

/// `impl Wire` for newtypes, by their one field.
macro_rules! wire_newtypes {
    ($($type:ident),* $(,)?) => {$(
        impl $crate::cbor::Wire for $type {
            fn put(&self, out: &mut $crate::cbor::Out<'_>) {
                $crate::cbor::Wire::put(&self.0, out);
            }

            fn take(input: &mut $crate::cbor::In<'_>) -> $crate::cbor::WireResult<Self> {
                $crate::cbor::Wire::take(input).map(Self)
            }
        }
    )*};
}
pub(crate) use wire_newtypes;

/// `impl Wire` for a structure as a map with integer keys, which must be listed in ascending order.
macro_rules! wire_map {
    ($type:ident { $($key:literal: $field:ident),* $(,)? }) => {
        impl $crate::cbor::Wire for $type {
            fn put(&self, out: &mut $crate::cbor::Out<'_>) {
                let len = 0u64 $(+ u64::from(!$crate::cbor::Wire::is_absent(&self.$field)))*;
                $crate::cbor::emit(out.map(len));
                $(if !$crate::cbor::Wire::is_absent(&self.$field) {
                    $crate::cbor::emit(out.u32($key));
                    $crate::cbor::Wire::put(&self.$field, out);
                })*
            }

            fn take(input: &mut $crate::cbor::In<'_>) -> $crate::cbor::WireResult<Self> {
                $(let mut $field = None;)*
                let mut keys = $crate::cbor::MapKeys::begin(input)?;
                while let Some(key) = keys.next(input)? {
                    match key {
                        $($key => $field = Some($crate::cbor::Wire::take(input)?),)*
                        _ => input.skip()?,
                    }
                }
                Ok(Self {
                    $($field: $crate::cbor::present($field, concat!(stringify!($type), ".", stringify!($field)))?,)*
                })
            }
        }
    };
}
pub(crate) use wire_map;

/// `impl Wire` for a structure as an array, where there are very many of them.
macro_rules! wire_array {
    ($type:ident { $($field:ident),* $(,)? }) => {
        impl $crate::cbor::Wire for $type {
            fn put(&self, out: &mut $crate::cbor::Out<'_>) {
                $crate::cbor::emit(out.array([$(stringify!($field)),*].len() as u64));
                $($crate::cbor::Wire::put(&self.$field, out);)*
            }

            fn take(input: &mut $crate::cbor::In<'_>) -> $crate::cbor::WireResult<Self> {
                let more = $crate::cbor::begin_array(input, [$(stringify!($field)),*].len() as u64)?;
                // Fields are read in the order they are written here.
                let value = Self { $($field: $crate::cbor::Wire::take(input)?),* };
                $crate::cbor::skip(input, more)?;
                Ok(value)
            }
        }
    };
}
pub(crate) use wire_array;

/// The keys of a map of definite length, which must ascend: none comes twice.
pub(crate) struct MapKeys {
    left: u64,
    last: Option<u32>,
}

impl MapKeys {
    pub fn begin(input: &mut In<'_>) -> WireResult<Self> {
        match input.map()? {
            Some(left) => Ok(Self { left, last: None }),
            None => malformed("a map of indefinite length"),
        }
    }

    pub fn next(&mut self, input: &mut In<'_>) -> WireResult<Option<u32>> {
        if self.left == 0 {
            return Ok(None);
        }
        let key = input.u32()?;
        if self.last.is_some_and(|last| last >= key) {
            return malformed(format!("map keys do not ascend: key=`{key}`"));
        }
        (self.left, self.last) = (self.left - 1, Some(key));
        Ok(Some(key))
    }
}

pub(crate) fn present<T: Wire>(value: Option<T>, field: &str) -> WireResult<T> {
    match value.or_else(T::absent) {
        Some(value) => Ok(value),
        None => malformed(format!("a key is missing: field=`{field}`")),
    }
}

#[cfg(test)]
mod tests;

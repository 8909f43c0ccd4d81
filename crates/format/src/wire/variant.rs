//! Enums with content: an array that begins with the variant's number.

use crate::cbor::{self, In, Out, Wire, WireResult, emit};

pub(super) fn put_variant(out: &mut Out<'_>, code: u32, fields: &[&dyn Put]) {
    emit(out.array(1 + fields.len() as u64));
    emit(out.u32(code));
    fields.iter().for_each(|field| field.put(out));
}

/// [`Wire::put`] alone, which fields of different types share.
pub(super) trait Put {
    fn put(&self, out: &mut Out<'_>);
}

impl<T: Wire> Put for T {
    fn put(&self, out: &mut Out<'_>) {
        Wire::put(self, out);
    }
}

/// An array that begins with the number of a variant, being read.
pub(super) struct Variant {
    pub code: u32,
    left: u64,
}

impl Variant {
    pub fn begin(input: &mut In<'_>) -> WireResult<Self> {
        let left = cbor::begin_array(input, 1)?;
        Ok(Self { code: input.u32()?, left })
    }

    pub fn field<T: Wire>(&mut self, input: &mut In<'_>) -> WireResult<T> {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                T::take(input)
            }
            None => cbor::malformed(format!("a variant lacks a field: code=`{}`", self.code)),
        }
    }

    /// A field that was added later: none in what was written before.
    pub fn field_if_there<T: Wire>(&mut self, input: &mut In<'_>) -> WireResult<Option<T>> {
        if self.left == 0 { Ok(None) } else { self.field(input).map(Some) }
    }

    /// Skips what a later version added.
    pub fn end(self, input: &mut In<'_>) -> WireResult<()> {
        cbor::skip(input, self.left)
    }
}

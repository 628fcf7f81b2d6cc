//! Wire encoding of the types of Kafka's schema language.
//!
//! The Rust type of a field determines its encoding; the version of the message selects the fixed or the compact form.
//! `Option` of a type is its nullable form.

use std::ops::RangeBounds;

use bytes::Bytes;
use uuid::Uuid;

use super::decoder::{DecodeError, Decoder, Problem};
use super::encoder::{EncodeError, Encoder};
use super::error_code::ErrorCode;
use crate::record::Records;

/// A version of a message. Flexible versions have compact lengths and tagged fields (KIP-482).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    pub number: i16,
    pub flexible: bool,
}

impl Version {
    pub fn within(self, versions: impl RangeBounds<i16>) -> bool {
        versions.contains(&self.number)
    }
}

/// A value with a wire encoding.
pub trait Wire: Sized {
    /// Returns the smallest encoded size of any value at `version`. Bounds the number of elements of an array.
    fn size_min(version: Version) -> usize;
    fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError>;
    fn encode(&self, encoder: &mut Encoder) -> Result<(), EncodeError>;
    /// Returns whether the value contains an error code other than `NONE`.
    fn has_error(&self) -> bool {
        false
    }
}

/// A value with a null encoding, so that `Option` of it is a [`Wire`] value too.
pub trait Nullable: Wire {
    /// Returns the smallest encoded size of a value or null.
    fn nullable_size_min(version: Version) -> usize {
        Self::size_min(version)
    }

    fn decode_nullable(decoder: &mut Decoder) -> Result<Option<Self>, DecodeError>;
    fn encode_null(encoder: &mut Encoder);

    /// Encodes a value where null would be possible.
    fn encode_present(&self, encoder: &mut Encoder) -> Result<(), EncodeError> {
        self.encode(encoder)
    }
}

macro_rules! numbers {
    ($($type:ident $put:ident)*) => {
        $(impl Wire for $type {
            fn size_min(_: Version) -> usize {
                size_of::<$type>()
            }

            fn decode(decoder: &mut Decoder) -> Result<$type, DecodeError> {
                decoder.$type()
            }

            fn encode(&self, encoder: &mut Encoder) -> Result<(), EncodeError> {
                encoder.$put(*self);
                Ok(())
            }
        })*
    };
}

numbers! {
    i8 put_i8
    u16 put_u16
    i16 put_i16
    i32 put_i32
    i64 put_i64
    f64 put_f64
}

impl Wire for bool {
    fn size_min(_: Version) -> usize {
        1
    }

    fn decode(decoder: &mut Decoder) -> Result<bool, DecodeError> {
        Ok(decoder.i8()? != 0)
    }

    fn encode(&self, encoder: &mut Encoder) -> Result<(), EncodeError> {
        encoder.put_i8(i8::from(*self));
        Ok(())
    }
}

impl Wire for ErrorCode {
    fn size_min(_: Version) -> usize {
        2
    }

    fn decode(decoder: &mut Decoder) -> Result<ErrorCode, DecodeError> {
        Ok(ErrorCode::from_code(decoder.i16()?))
    }

    fn encode(&self, encoder: &mut Encoder) -> Result<(), EncodeError> {
        encoder.put_i16(self.code());
        Ok(())
    }

    fn has_error(&self) -> bool {
        self.is_error()
    }
}

impl Wire for Uuid {
    fn size_min(_: Version) -> usize {
        16
    }

    fn decode(decoder: &mut Decoder) -> Result<Uuid, DecodeError> {
        Ok(Uuid::from_bytes(decoder.array()?))
    }

    fn encode(&self, encoder: &mut Encoder) -> Result<(), EncodeError> {
        encoder.put_slice(self.as_bytes());
        Ok(())
    }
}

impl Wire for String {
    fn size_min(version: Version) -> usize {
        if version.flexible { 1 } else { 2 }
    }

    fn decode(decoder: &mut Decoder) -> Result<String, DecodeError> {
        not_null(decoder)
    }

    fn encode(&self, encoder: &mut Encoder) -> Result<(), EncodeError> {
        encoder.put_string(self)
    }
}

impl Nullable for String {
    fn decode_nullable(decoder: &mut Decoder) -> Result<Option<String>, DecodeError> {
        decoder.nullable_string()
    }

    fn encode_null(encoder: &mut Encoder) {
        encoder.put_null_string();
    }
}

impl Wire for Bytes {
    fn size_min(version: Version) -> usize {
        if version.flexible { 1 } else { 4 }
    }

    fn decode(decoder: &mut Decoder) -> Result<Bytes, DecodeError> {
        not_null(decoder)
    }

    fn encode(&self, encoder: &mut Encoder) -> Result<(), EncodeError> {
        encoder.put_bytes(self)
    }
}

impl Nullable for Bytes {
    fn decode_nullable(decoder: &mut Decoder) -> Result<Option<Bytes>, DecodeError> {
        decoder.nullable_bytes()
    }

    fn encode_null(encoder: &mut Encoder) {
        encoder.put_null();
    }
}

impl Wire for Records {
    fn size_min(version: Version) -> usize {
        Bytes::size_min(version)
    }

    fn decode(decoder: &mut Decoder) -> Result<Records, DecodeError> {
        not_null(decoder)
    }

    fn encode(&self, encoder: &mut Encoder) -> Result<(), EncodeError> {
        encoder.put_records(self)
    }
}

impl Nullable for Records {
    fn decode_nullable(decoder: &mut Decoder) -> Result<Option<Records>, DecodeError> {
        Ok(decoder.nullable_bytes()?.map(Records::Bytes))
    }

    fn encode_null(encoder: &mut Encoder) {
        encoder.put_null();
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn size_min(version: Version) -> usize {
        Bytes::size_min(version)
    }

    fn decode(decoder: &mut Decoder) -> Result<Vec<T>, DecodeError> {
        not_null(decoder)
    }

    fn encode(&self, encoder: &mut Encoder) -> Result<(), EncodeError> {
        encoder.put_array(self)
    }

    fn has_error(&self) -> bool {
        self.iter().any(Wire::has_error)
    }
}

impl<T: Wire> Nullable for Vec<T> {
    fn decode_nullable(decoder: &mut Decoder) -> Result<Option<Vec<T>>, DecodeError> {
        decoder.nullable_array()
    }

    fn encode_null(encoder: &mut Encoder) {
        encoder.put_null();
    }
}

impl<T: Nullable> Wire for Option<T> {
    fn size_min(version: Version) -> usize {
        T::nullable_size_min(version)
    }

    fn decode(decoder: &mut Decoder) -> Result<Option<T>, DecodeError> {
        T::decode_nullable(decoder)
    }

    fn encode(&self, encoder: &mut Encoder) -> Result<(), EncodeError> {
        match self {
            Some(value) => value.encode_present(encoder),
            None => {
                T::encode_null(encoder);
                Ok(())
            }
        }
    }

    fn has_error(&self) -> bool {
        self.as_ref().is_some_and(Wire::has_error)
    }
}

fn not_null<T: Nullable>(decoder: &mut Decoder) -> Result<T, DecodeError> {
    T::decode_nullable(decoder)?.ok_or_else(|| decoder.error(Problem::UnexpectedNull))
}

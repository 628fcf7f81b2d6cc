//! Messages, and the macro that declares them.
//!
//! # Declaring a message
//!
//! `messages!` takes structures and generates from their fields the struct, `Default` and [`Wire`] (decoding, encoding,
//! smallest size, `has_error`).
//!
//! ```text
//! messages! {
//!     /// Documentation, as on any struct.
//!     CreateTopicsRequest {
//!         topics: Vec<CreatableTopic>;              // in every version
//!         timeout_ms: i32 = 60000;                  // default value, unless it is the type's default
//!         forgotten: Vec<String>, in 7..=12;        // only on the wire in these versions; silently left out of others
//!         validate_only: bool, only 1..;            // the same, but encoding a value other than the default at another
//!                                                   //   version is an error
//!         name: Option<String>, null 10..;          // nullable, but null only in these versions
//!         cluster_id: Option<String>, in 12.., tag 0;  // a tagged field: written unless it has the default value
//!     }
//! }
//! ```
//!
//! The clauses come in that order. Versions are Rust ranges. The type determines the rest: `Option<…>` is nullable,
//! `Vec<…>` is an array, another structure is nested. Fields are in Kafka's order, which is the order on the wire (tagged
//! fields may be anywhere, lowest tag first), and are named as in Kafka's schemas, in snake_case.
//!
//! Use `only` where leaving the field out would change the meaning of a request, and `in` everywhere else.
//!
//! `api!` then declares the response of a request and the versions of the API:
//!
//! ```text
//! api!(CreateTopics: CreateTopicsRequest => CreateTopicsResponse, versions 2..=7);
//! ```

use std::fmt::Debug;
use std::ops::{RangeBounds, RangeInclusive};

use super::api_key::ApiKey;
use super::decoder::{DecodeError, Decoder, Problem};
use super::encoder::EncodeError;
use super::wire::{Version, Wire};

/// A structure declared with `messages!`.
pub trait Message: Wire + Debug + Default + Clone + PartialEq {
    /// Kafka's name of the structure.
    const NAME: &'static str;

    /// Sets the time for which the client is throttled; without effect on a structure that has no field for it.
    fn set_throttle_time_ms(&mut self, throttle_time_ms: i32);
}

/// The request half of an API.
pub trait Request: Message {
    const KEY: ApiKey;
    /// The versions declared here, lowest to highest.
    const VERSIONS: RangeInclusive<i16>;
    /// The first version with compact lengths and tagged fields.
    const FLEXIBLE_FROM: i16 = Self::KEY.flexible_from();
    type Response: Message;
}

macro_rules! messages {
    ($(
        $(#[$meta:meta])*
        $name:ident {
            $(
                $(#[$field_meta:meta])*
                $field:ident: $type:ty
                $(= $default:expr)?
                $(, in $in:expr)?
                $(, only $only:expr)?
                $(, null $null:expr)?
                $(, tag $tag:literal)?
                ;
            )*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> $name {
                $name {
                    $($field: default_of!($type [$($default)?]),)*
                }
            }
        }

        impl $crate::protocol::message::Message for $name {
            const NAME: &'static str = stringify!($name);

            fn set_throttle_time_ms(&mut self, _throttle_time_ms: i32) {
                $(if_throttle_time!($field, self.$field = _throttle_time_ms);)*
            }
        }

        /// A byte before a nullable structure tells whether it is null, in every version.
        impl $crate::protocol::wire::Nullable for $name {
            fn nullable_size_min(_: $crate::protocol::wire::Version) -> usize {
                1
            }

            fn decode_nullable(
                decoder: &mut $crate::protocol::decoder::Decoder,
            ) -> Result<Option<$name>, $crate::protocol::decoder::DecodeError> {
                match decoder.i8()? {
                    ..0 => Ok(None),
                    _ => $crate::protocol::wire::Wire::decode(decoder).map(Some),
                }
            }

            fn encode_null(encoder: &mut $crate::protocol::encoder::Encoder) {
                encoder.put_i8(-1);
            }

            fn encode_present(
                &self,
                encoder: &mut $crate::protocol::encoder::Encoder,
            ) -> Result<(), $crate::protocol::encoder::EncodeError> {
                encoder.put_i8(1);
                $crate::protocol::wire::Wire::encode(self, encoder)
            }
        }

        impl $crate::protocol::wire::Wire for $name {
            fn size_min(version: $crate::protocol::wire::Version) -> usize {
                usize::from(version.flexible)
                    $(+ by_tag!([$($tag)?]
                        untagged {
                            match present!(version [$($in)?] [$($only)?]) {
                                true => <$type as $crate::protocol::wire::Wire>::size_min(version),
                                false => 0,
                            }
                        }
                        tagged { 0 }
                    ))*
            }

            fn decode(
                decoder: &mut $crate::protocol::decoder::Decoder,
            ) -> Result<$name, $crate::protocol::decoder::DecodeError> {
                let version = decoder.version();
                $(by_tag!([$($tag)?]
                    untagged {
                        let $field: $type = match present!(version [$($in)?] [$($only)?]) {
                            true => {
                                let value: $type = $crate::protocol::wire::Wire::decode(decoder)?;
                                $($crate::protocol::message::check_null_read(decoder, &value, $null)?;)?
                                value
                            }
                            false => default_of!($type [$($default)?]),
                        };
                    }
                    tagged {
                        let mut $field: $type = default_of!($type [$($default)?]);
                    }
                );)*
                decoder.tagged_fields(|_decoder, _tag| {
                    $(by_tag!([$($tag)?]
                        untagged {}
                        tagged {
                            if $(_tag == $tag &&)? present!(version [$($in)?] [$($only)?]) {
                                $field = $crate::protocol::wire::Wire::decode(_decoder)?;
                                return Ok(true);
                            }
                        }
                    );)*
                    Ok(false)
                })?;
                Ok($name { $($field,)* })
            }

            fn encode(
                &self,
                encoder: &mut $crate::protocol::encoder::Encoder,
            ) -> Result<(), $crate::protocol::encoder::EncodeError> {
                let version = encoder.version();
                $(
                    refuse_if_lost!(
                        [$($only)?] version, $type [$($default)?], self.$field,
                        concat!(stringify!($name), ".", stringify!($field))
                    );
                    by_tag!([$($tag)?]
                        untagged {
                            if present!(version [$($in)?] [$($only)?]) {
                                $($crate::protocol::message::check_null_written(
                                    version,
                                    &self.$field,
                                    $null,
                                    concat!(stringify!($name), ".", stringify!($field)),
                                )?;)?
                                $crate::protocol::wire::Wire::encode(&self.$field, encoder)?;
                            }
                        }
                        tagged {}
                    );
                )*
                if version.flexible {
                    encoder.put_unsigned_varint(0 $(+ by_tag!([$($tag)?]
                        untagged { 0 }
                        tagged {
                            u32::from(
                                present!(version [$($in)?] [$($only)?])
                                    && self.$field != default_of!($type [$($default)?])
                            )
                        }
                    ))*);
                    $(by_tag!([$($tag)?]
                        untagged {}
                        tagged {
                            if present!(version [$($in)?] [$($only)?])
                                && self.$field != default_of!($type [$($default)?])
                            {
                                encoder.put_tagged($($tag)?, &self.$field)?;
                            }
                        }
                    );)*
                }
                Ok(())
            }

            fn has_error(&self) -> bool {
                false $(|| $crate::protocol::wire::Wire::has_error(&self.$field))*
            }
        }
    )*};
}

/// Evaluates to whether a field is on the wire at a version, from its `in` or `only` clause.
macro_rules! present {
    ($version:ident [] []) => {
        $version.within(..)
    };
    ($version:ident [$in:expr] []) => {
        $version.within($in)
    };
    ($version:ident [] [$only:expr]) => {
        $version.within($only)
    };
}

macro_rules! default_of {
    ($type:ty []) => {
        <$type as Default>::default()
    };
    ($type:ty [$default:expr]) => {{
        let default: $type = $default;
        default
    }};
}

macro_rules! by_tag {
    ([] untagged {$($untagged:tt)*} tagged {$($tagged:tt)*}) => { $($untagged)* };
    ([$tag:literal] untagged {$($untagged:tt)*} tagged {$($tagged:tt)*}) => { $($tagged)* };
}

/// Expands to a statement about the field `throttle_time_ms`, and to nothing for any other.
macro_rules! if_throttle_time {
    (throttle_time_ms, $($statement:tt)*) => { $($statement)* };
    ($other:ident, $($statement:tt)*) => {};
}

macro_rules! refuse_if_lost {
    ([] $($rest:tt)*) => {};
    ([$only:expr] $version:ident, $type:ty [$($default:expr)?], $field:expr, $name:expr) => {
        if !$version.within($only) && $field != default_of!($type [$($default)?]) {
            return Err($crate::protocol::encoder::EncodeError::FieldUnknown {
                field: $name,
                version: $version.number,
            });
        }
    };
}

macro_rules! api {
    ($key:ident: $request:ident => $response:ident, versions $versions:expr) => {
        impl $crate::protocol::message::Request for $request {
            const KEY: $crate::protocol::api_key::ApiKey = $crate::protocol::api_key::ApiKey::$key;
            const VERSIONS: std::ops::RangeInclusive<i16> = $versions;
            type Response = $response;
        }
    };
}

/// Fails if a null was read at a version that does not allow it.
pub(super) fn check_null_read<T>(
    decoder: &Decoder,
    field: &Option<T>,
    null_versions: impl RangeBounds<i16>,
) -> Result<(), DecodeError> {
    if field.is_none() && !decoder.version().within(null_versions) {
        return Err(decoder.error(Problem::UnexpectedNull));
    }
    Ok(())
}

/// Fails if a null would be written at a version that does not allow it.
pub(super) fn check_null_written<T>(
    version: Version,
    value: &Option<T>,
    null_versions: impl RangeBounds<i16>,
    field: &'static str,
) -> Result<(), EncodeError> {
    if value.is_none() && !version.within(null_versions) {
        return Err(EncodeError::NullNotAllowed {
            field,
            version: version.number,
        });
    }
    Ok(())
}

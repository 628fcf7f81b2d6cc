//! Random messages, generated from the declarations but not by the codec under test.
//!
//! The files of `src/protocol/messages/` are compiled a second time here, with other macros of the same names. These turn
//! a structure into a writer of random valid bytes instead of a codec. So an incorrect declaration produces incorrect
//! bytes, which the independent reference codec decodes differently.

use std::ops::RangeBounds;

/// A small random number generator (splitmix64). The same seed gives the same messages on every machine.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A tag and the bytes of its value.
pub type Tagged = (u32, Vec<u8>);

/// Writes one random message of one version.
pub struct Writer<'a> {
    pub out: Vec<u8>,
    pub random: &'a mut Random,
    pub version: i16,
    pub flexible: bool,
    /// True if the next field may be null.
    pub null_allowed: bool,
    /// True if lengths may need two varint bytes. False in tests that modify every single byte.
    pub long: bool,
}

impl Writer<'_> {
    pub fn within(&self, versions: impl RangeBounds<i16>) -> bool {
        versions.contains(&self.version)
    }

    pub fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    fn length(&mut self, length: usize, fixed_bytes: usize) {
        if self.flexible {
            self.varint(length as u32 + 1);
        } else {
            let length = (length as u32).to_be_bytes();
            self.out.extend_from_slice(&length[4 - fixed_bytes..]);
        }
    }

    fn null(&mut self, fixed_bytes: usize) {
        if self.flexible {
            self.out.push(0);
        } else {
            self.out.extend_from_slice(&[0xff; 4][..fixed_bytes]);
        }
    }

    fn some_length(&mut self, long: u64) -> usize {
        let bound = if self.long && self.random.one_in(20) {
            long
        } else {
            4
        };
        self.random.below(bound) as usize
    }

    fn integer(&mut self) -> i64 {
        match self.random.below(4) {
            0 => self.random.below(3) as i64 - 1,
            1 => self.random.below(200) as i64,
            2 => [i64::MIN, i64::MAX][self.random.below(2) as usize],
            _ => self.random.next() as i64,
        }
    }

    /// Writes a field. A tagged field, if it is to be present, is returned for [`Self::tagged`] instead.
    pub fn field<T: Generate>(&mut self, null_allowed: bool, tag: &[u32]) -> Option<Tagged> {
        let start = self.out.len();
        self.null_allowed = null_allowed;
        T::write(self);
        self.null_allowed = false;
        let tag = *tag.first()?;
        let value = self.out.split_off(start);
        self.random.one_in(2).then_some((tag, value))
    }

    pub fn tagged(&mut self, fields: Vec<Option<Tagged>>) {
        let fields: Vec<Tagged> = fields.into_iter().flatten().collect();
        if self.flexible {
            self.varint(fields.len() as u32);
            for (tag, value) in fields {
                self.varint(tag);
                self.varint(value.len() as u32);
                self.out.extend_from_slice(&value);
            }
        }
    }
}

pub trait Generate {
    fn write(w: &mut Writer<'_>);
}

pub trait GenerateNull: Generate {
    fn write_null(w: &mut Writer<'_>);

    /// Writes a value where null would be possible.
    fn write_present(w: &mut Writer<'_>) {
        Self::write(w);
    }
}

macro_rules! generate_integers {
    ($($type:ty)*) => {
        $(impl Generate for $type {
            fn write(w: &mut Writer<'_>) {
                let value = w.integer() as $type;
                w.out.extend_from_slice(&value.to_be_bytes());
            }
        })*
    };
}

generate_integers!(i8 u16 i16 i32 i64);

/// Finite numbers only, which equal themselves.
impl Generate for f64 {
    fn write(w: &mut Writer<'_>) {
        let value = w.integer() as f64 / 8.0;
        w.out.extend_from_slice(&value.to_be_bytes());
    }
}

impl Generate for bool {
    fn write(w: &mut Writer<'_>) {
        let value = w.random.below(2) as u8;
        w.out.push(value);
    }
}

impl Generate for uuid::Uuid {
    fn write(w: &mut Writer<'_>) {
        for _ in 0..2 {
            let half = w.random.next().to_be_bytes();
            w.out.extend_from_slice(&half);
        }
    }
}

impl Generate for String {
    fn write(w: &mut Writer<'_>) {
        const ALPHABET: [char; 8] = ['a', 'Z', '0', '-', '"', '\\', 'ü', '漢'];
        let text: String = (0..w.some_length(300))
            .map(|_| ALPHABET[w.random.below(8) as usize])
            .collect();
        w.length(text.len(), 2);
        w.out.extend_from_slice(text.as_bytes());
    }
}

impl GenerateNull for String {
    fn write_null(w: &mut Writer<'_>) {
        w.null(2);
    }
}

impl Generate for bytes::Bytes {
    fn write(w: &mut Writer<'_>) {
        // Sometimes long enough for records to be passed through instead of being copied.
        let length = w.some_length(12_000);
        w.length(length, 4);
        let seed = w.random.next() as usize;
        w.out.extend((0..length).map(|at| (at ^ seed) as u8));
    }
}

impl GenerateNull for bytes::Bytes {
    fn write_null(w: &mut Writer<'_>) {
        w.null(4);
    }
}

impl<T: Generate> Generate for Vec<T> {
    fn write(w: &mut Writer<'_>) {
        let count = w.some_length(if size_of::<T>() > 0 { 200 } else { 6 });
        w.length(count, 4);
        for _ in 0..count {
            T::write(w);
        }
    }
}

impl<T: Generate> GenerateNull for Vec<T> {
    fn write_null(w: &mut Writer<'_>) {
        w.null(4);
    }
}

impl<T: GenerateNull> Generate for Option<T> {
    fn write(w: &mut Writer<'_>) {
        if std::mem::take(&mut w.null_allowed) && w.random.one_in(4) {
            T::write_null(w);
        } else {
            T::write_present(w);
        }
    }
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
        pub struct $name;

        impl crate::generate::GenerateNull for $name {
            fn write_null(w: &mut crate::generate::Writer<'_>) {
                w.out.push(0xff);
            }

            fn write_present(w: &mut crate::generate::Writer<'_>) {
                w.out.push(1);
                <$name as crate::generate::Generate>::write(w);
            }
        }

        impl crate::generate::Generate for $name {
            fn write(w: &mut crate::generate::Writer<'_>) {
                let tagged = vec![$(
                    if true $(&& w.within($in))? $(&& w.within($only))? {
                        let null_allowed = true $(&& w.within($null))?;
                        w.field::<$type>(null_allowed, &[$($tag)?])
                    } else {
                        None
                    },
                )*];
                w.tagged(tagged);
            }
        }
    )*};
}

macro_rules! api {
    ($key:ident: $request:ident => $response:ident, versions $versions:expr) => {};
}

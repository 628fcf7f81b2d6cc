//! Zigzag varints, encoded as in Protocol Buffers: seven bits per byte, lowest first; the high bit means "more follows".

/// Appends a zigzag-encoded 64-bit number. A 32-bit number has the same encoding.
pub(super) fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Returns the number of bytes that [`put`] appends.
pub(super) fn len(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    let bits = 64 - (zigzag | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Longest encoding of a 64-bit number, in bytes. That of a 32-bit number is half as long.
pub(super) const LEN_MAX: usize = 10;

/// Error of reading a varint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VarintError {
    /// The input ends within the number.
    Truncated,
    /// The number has more bits than its type.
    TooLong,
}

/// Reads the 64-bit number at the start of `bytes`. Returns it with its encoded length.
#[inline]
pub(super) fn read_long(bytes: &[u8]) -> Result<(i64, usize), VarintError> {
    let (raw, len) = read(bytes, u64::BITS)?;
    Ok((unzigzag(raw), len))
}

/// Reads the 32-bit number at the start of `bytes`. Returns it with its encoded length.
#[inline]
pub(super) fn read_int(bytes: &[u8]) -> Result<(i32, usize), VarintError> {
    let (raw, len) = read(bytes, u32::BITS)?;
    // A raw value of 32 bits still has 32 bits after zigzag decoding.
    Ok((unzigzag(raw) as i32, len))
}

/// Longest encoding that [`read_short`] reads, in bytes.
pub(super) const SHORT_LEN_MAX: usize = 3;

/// Reads the encoded number at position `at` if it has at most [`SHORT_LEN_MAX`] bytes. Returns it with the position that
/// follows; [`unzigzag_short`] decodes it.
///
/// Always inlined, and without subslices, because validation reads six numbers of each record.
#[inline(always)]
pub(super) fn read_short(bytes: &[u8], at: usize) -> Option<(u32, usize)> {
    let low = *bytes.get(at)?;
    if low < 0x80 {
        return Some((low.into(), at + 1));
    }
    let raw = u32::from(low & 0x7f);
    let middle = *bytes.get(at + 1)?;
    if middle < 0x80 {
        return Some((raw | u32::from(middle) << 7, at + 2));
    }
    let raw = raw | u32::from(middle & 0x7f) << 7;
    let high = *bytes.get(at + 2)?;
    (high < 0x80).then(|| (raw | u32::from(high) << 14, at + SHORT_LEN_MAX))
}

#[inline(always)]
pub(super) fn unzigzag_short(raw: u32) -> i32 {
    (raw >> 1) as i32 ^ -((raw & 1) as i32)
}

#[inline]
fn unzigzag(raw: u64) -> i64 {
    (raw >> 1) as i64 ^ -((raw & 1) as i64)
}

/// Reads a raw number of at most `bits` bits. The fast paths cover one and two bytes, as nearly all numbers in records are.
#[inline]
fn read(bytes: &[u8], bits: u32) -> Result<(u64, usize), VarintError> {
    match *bytes {
        [a, ..] if a < 0x80 => Ok((a.into(), 1)),
        [a, b, ..] if b < 0x80 => Ok((u64::from(a & 0x7f) | u64::from(b) << 7, 2)),
        _ => read_any(bytes, bits),
    }
}

#[inline(never)]
fn read_any(bytes: &[u8], bits: u32) -> Result<(u64, usize), VarintError> {
    let mut raw = 0;
    let mut shift = 0;
    for (index, byte) in bytes.iter().enumerate() {
        let part = u64::from(byte & 0x7f);
        if shift >= bits || (bits - shift < 7 && part >> (bits - shift) != 0) {
            return Err(VarintError::TooLong);
        }
        raw |= part << shift;
        if byte & 0x80 == 0 {
            return Ok((raw, index + 1));
        }
        shift += 7;
    }
    match shift >= bits {
        true => Err(VarintError::TooLong),
        false => Err(VarintError::Truncated),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_with_the_predicted_length() {
        let edges = [
            0,
            1,
            -1,
            63,
            64,
            -64,
            -65,
            300,
            8_192,
            (1 << 20) - 1,
            1 << 20,
            i32::MAX as i64,
            i32::MIN as i64,
            i64::MAX,
            i64::MIN,
        ];
        for value in edges {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out.len(), len(value), "{value}");
            assert_eq!(
                read_long(&out[..out.len() - 1]),
                Err(VarintError::Truncated)
            );
            out.push(0xff);
            let len = len(value);
            assert_eq!(read_long(&out), Ok((value, len)));
            if let Ok(int) = i32::try_from(value) {
                assert_eq!(read_int(&out), Ok((int, len)));
            }
            let short = (len <= SHORT_LEN_MAX).then_some((value as i32, len));
            let read = read_short(&out, 0).map(|(raw, len)| (unzigzag_short(raw), len));
            assert_eq!(read, short);
        }
    }

    #[test]
    fn numbers_longer_than_their_type_are_rejected() {
        let five = [0xff, 0xff, 0xff, 0xff, 0x1f];
        assert_eq!(read_int(&five), Err(VarintError::TooLong));
        assert_eq!(read_int(&[0xff; 5]), Err(VarintError::TooLong));
        assert_eq!(read_long(&[0xff; 12]), Err(VarintError::TooLong));
        let mut ten = [0xff; 10];
        ten[9] = 2;
        assert_eq!(read_long(&ten), Err(VarintError::TooLong));
        assert_eq!(read_int(&[0x80]), Err(VarintError::Truncated));
        assert_eq!(read_int(&[]), Err(VarintError::Truncated));
    }
}

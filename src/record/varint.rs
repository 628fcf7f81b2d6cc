//! Zigzag varints as Protocol Buffers encode them: seven bits a byte, lowest first, the high bit says "more follows".

/// Appends a zigzag-encoded 64-bit number; a 32-bit one has the same encoding.
pub(super) fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// How many bytes [`put`] would append.
pub(super) fn len(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    let bits = 64 - (zigzag | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Reads a 64-bit number byte by byte. `None` when it is longer than 64 bits can be.
pub(super) fn read_long<E>(mut next: impl FnMut() -> Result<u8, E>) -> Result<Option<i64>, E> {
    let mut raw = 0u64;
    for shift in (0..70).step_by(7) {
        let byte = next()?;
        if shift == 63 && byte > 1 {
            return Ok(None);
        }
        raw |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(Some((raw >> 1) as i64 ^ -((raw & 1) as i64)));
        }
    }
    Ok(None)
}

/// Reads a 32-bit number byte by byte. `None` when it is longer than 32 bits can be.
pub(super) fn read_int<E>(mut next: impl FnMut() -> Result<u8, E>) -> Result<Option<i32>, E> {
    let mut raw = 0u32;
    for shift in (0..35).step_by(7) {
        let byte = next()?;
        if shift == 28 && byte > 0x0f {
            return Ok(None);
        }
        raw |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(Some((raw >> 1) as i32 ^ -((raw & 1) as i32)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(bytes: &[u8]) -> impl FnMut() -> Result<u8, ()> + '_ {
        let mut at = bytes.iter();
        move || at.next().copied().ok_or(())
    }

    #[test]
    fn numbers_survive_the_round_trip_and_take_the_announced_room() {
        let edges = [
            0,
            1,
            -1,
            63,
            64,
            -64,
            -65,
            300,
            i32::MAX as i64,
            i32::MIN as i64,
            i64::MAX,
            i64::MIN,
        ];
        for value in edges {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out.len(), len(value), "{value}");
            assert_eq!(read_long(bytes_of(&out)), Ok(Some(value)));
            if let Ok(int) = i32::try_from(value) {
                assert_eq!(read_int(bytes_of(&out)), Ok(Some(int)));
            }
        }
    }

    #[test]
    fn numbers_longer_than_their_type_are_refused() {
        assert_eq!(
            read_int(bytes_of(&[0xff, 0xff, 0xff, 0xff, 0x1f])),
            Ok(None)
        );
        assert_eq!(read_int(bytes_of(&[0xff; 12])), Ok(None));
        assert_eq!(read_long(bytes_of(&[0xff; 12])), Ok(None));
        let mut ten = [0xff; 10];
        ten[9] = 2;
        assert_eq!(read_long(bytes_of(&ten)), Ok(None));
        assert_eq!(read_int(bytes_of(&[0x80])), Err(()));
    }
}

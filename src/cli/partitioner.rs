//! Kafka's default partitioner for records with a key, so that all clients choose the same partition.

/// Index below `count` that Kafka's default partitioner chooses for this key.
///
/// Source: `BuiltInPartitioner.partitionForKey` in Kafka's clients.
pub fn partition_for_key(key: &[u8], count: usize) -> usize {
    debug_assert!(count > 0, "a topic has at least one partition");
    (murmur2(key) & 0x7fff_ffff) as usize % count
}

/// MurmurHash2 with Kafka's seed (`Utils.murmur2`).
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut h = SEED ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let word = [chunk[0], chunk[1], chunk[2], chunk[3]];
        let mut k = u32::from_le_bytes(word).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    for (i, byte) in rest.iter().enumerate() {
        h ^= u32::from(*byte) << (8 * i);
    }
    if !rest.is_empty() {
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pairs are those of Kafka's `UtilsTest.testMurmur2`.
    #[test]
    fn hashes_agree_with_kafka() {
        let known: [(&str, i32); 6] = [
            ("21", -973932308),
            ("foobar", -790332482),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58897971,
            ),
            ("abc", 479470107),
        ];
        for (text, hash) in known {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }
}

//! The smallest instrument with rows, so that its models can explore every interleaving.

use super::rows::{Rows, wide};

const COUNT: usize = 0;
const SUM: usize = 1;

/// Count and sum of the recorded values.
pub struct Tally(Rows<3>);

impl Default for Tally {
    fn default() -> Self {
        Self(Rows::new(true))
    }
}

impl Tally {
    pub fn record(&self, value: u64) {
        if let Some(row) = self.0.write() {
            row.increment(COUNT);
            row.add_wide(SUM, value);
        }
    }

    pub fn read(&self) -> (u64, u128) {
        let (mut count, mut sum) = (0, 0);
        self.0.read(|row| {
            count += row[COUNT];
            sum += wide(row[SUM], row[SUM + 1]);
        });
        (count, sum)
    }
}

//! The smallest instrument that has rows, so that a model of it can go through every order of events.

use super::rows::{Rows, wide};

const COUNT: usize = 0;
const SUM: usize = 1;

/// How many values there were, and their sum.
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

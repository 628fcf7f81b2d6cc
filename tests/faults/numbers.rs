//! Records of a given size that contain a number.

use streamline::protocol::kafka::ErrorCode;

use crate::kafka::{Topic, fetch, values_of};
use crate::support::Client;

const DIGITS: usize = 20;

/// Returns a value of `bytes` bytes that starts with `number`.
pub fn numbered(number: usize, bytes: usize) -> String {
    format!("{number:0DIGITS$}{}", ".".repeat(bytes - DIGITS))
}

/// Returns the numbers of all records of a partition, and checks that offsets have no gaps.
#[track_caller]
pub fn read_numbers(client: &mut Client, topic: &Topic, partition: i32) -> Vec<usize> {
    let mut numbers = Vec::new();
    loop {
        let data = fetch(client, topic, partition, numbers.len() as i64);
        assert_eq!(data.error_code, ErrorCode::NONE);
        let values = values_of(&data);
        if values.is_empty() {
            return numbers;
        }
        numbers.extend(
            values
                .iter()
                .map(|value| value[..DIGITS].parse::<usize>().unwrap()),
        );
    }
}

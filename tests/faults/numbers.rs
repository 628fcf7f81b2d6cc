//! Records that say their number and take room.

use streamline::protocol::kafka::ErrorCode;

use crate::kafka::{Topic, fetch, values_of};
use crate::support::Client;

const DIGITS: usize = 20;

/// A value of so many bytes.
pub fn numbered(number: usize, bytes: usize) -> String {
    format!("{number:0DIGITS$}{}", ".".repeat(bytes - DIGITS))
}

/// The numbers of all records of a partition, from offset 0 on and without holes.
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

//! Output of results: aligned columns for people, JSON for programs.

use std::io::{self, Write};

use serde_json::Value;

use super::error::CliError;

/// Output format of a subcommand's results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum OutputFormat {
    /// Aligned columns, for people
    #[default]
    Text,
    /// One JSON document, for programs
    Json,
}

/// Rows under a header, each column as wide as its widest cell.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<const N: usize>(header: [&str; N]) -> Table {
        Table {
            rows: vec![header.map(str::to_owned).to_vec()],
        }
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(
            self.rows[0].len(),
            N,
            "every row has as many cells as the header"
        );
        self.rows.push(cells.to_vec());
    }

    fn render(&self) -> String {
        let columns = self.rows[0].len();
        let width = |column: usize| {
            self.rows
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:<width$}  "));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    pub fn print(&self) -> Result<(), CliError> {
        print(&self.render())
    }
}

/// Prints one JSON document, indented.
pub fn print_json(value: &Value) -> Result<(), CliError> {
    print(&format!("{value:#}\n"))
}

/// Prints text unchanged. Exits silently if the reader closed the pipe early, as `head` does.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.map_err(CliError::io("cannot write to standard output")),
    }
}

/// Count with its noun: "1 record", "2 records".
pub fn counted(count: u64, one: &str, more: &str) -> String {
    let noun = if count == 1 { one } else { more };
    format!("{count} {noun}")
}

/// Table cell for an optional value; `-` if absent.
pub fn cell<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |it| it.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["TOPIC", "LAG"]);
        table.row(["a".into(), "12345".into()]);
        table.row(["orders".into(), cell::<i64>(None)]);
        assert_eq!(table.render(), "TOPIC   LAG\na       12345\norders  -\n");
    }
}

//! The audit log: who changed what.
//!
//! One line for each request that changed something, under a target of its own: who asked, from where, how much was
//! changed, and the first of the changes. A request that changes thousands of things takes no more than one line of bounded
//! length.

use std::fmt::{self, Display, Write as _};
use std::net::SocketAddr;

use super::Call;

/// The target of the lines, by which `log_level` can select them.
const TARGET: &str = "streamline::audit";

/// Who asks, as long as nobody authenticates.
const ANONYMOUS: &str = "anonymous";

/// Changes that a line lists at most.
const LISTED_MAX: usize = 10;
/// Bytes of one listed change at most.
const CHANGE_BYTES_MAX: usize = 500;
/// Bytes of a name at most. Names of groups and clients may be as long as any text of the protocol.
const NAME_BYTES_MAX: usize = 100;

/// The line of one request, written when this is dropped, unless nothing was changed.
pub(super) struct Audit {
    event: &'static str,
    request: &'static str,
    client_id: Option<String>,
    peer: SocketAddr,
    group: Option<String>,
    /// Only checks are made, so that nothing is changed.
    validate_only: bool,
    /// Lines like this one that were left out before.
    silenced: Option<u64>,
    count: usize,
    listed: Vec<String>,
}

impl Call {
    /// Begins the line of this request.
    pub(super) fn audit(&self, event: &'static str) -> Audit {
        Audit {
            event,
            request: self.api.name(),
            client_id: self.client_id.as_deref().map(|id| cut(id).to_owned()),
            peer: self.context.peer,
            group: None,
            validate_only: false,
            silenced: None,
            count: 0,
            listed: Vec::new(),
        }
    }
}

impl Audit {
    /// Names the group that all changes are made to.
    pub(super) fn of_group(mut self, group: &str) -> Self {
        self.group = Some(cut(group).to_owned());
        self
    }

    /// Writes no line for a request that only asks for checks.
    pub(super) fn unless(mut self, validate_only: bool) -> Self {
        self.validate_only = validate_only;
        self
    }

    /// Says how many lines like this one were left out before.
    pub(super) fn after_silence(&mut self, silenced: u64) {
        self.silenced = Some(silenced);
    }

    /// Runs a change and lists it, unless it fails. A change that was begun is made even if the request is dropped
    /// meanwhile, because the client is gone; so it is listed from the beginning.
    pub(super) async fn attempt<T, E>(
        &mut self,
        what: impl Display,
        change: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.list(what);
        let done = change.await;
        if done.is_err() {
            self.withdraw();
        }
        done
    }

    /// Lists a change.
    pub(super) fn list(&mut self, what: impl Display) {
        self.count += 1;
        if self.listed.len() < LISTED_MAX {
            self.listed.push(what.to_string());
        }
    }

    /// Adds to what is said of the last change.
    pub(super) fn amend(&mut self, more: impl Display) {
        if self.listed.len() == self.count
            && let Some(last) = self.listed.last_mut()
        {
            // Writing to a String cannot fail.
            let _ = write!(last, " {more}");
        }
    }

    /// Takes the last change back: it was not made.
    pub(super) fn withdraw(&mut self) {
        if self.listed.len() == self.count {
            self.listed.pop();
        }
        self.count -= 1;
    }

    /// Takes all changes back.
    pub(super) fn clear(&mut self) {
        self.listed.clear();
        self.count = 0;
    }

    fn changes(&self) -> String {
        let mut changes = String::new();
        for (place, change) in self.listed.iter().enumerate() {
            let end = change.floor_char_boundary(CHANGE_BYTES_MAX);
            let ellipsis = if end < change.len() { "…" } else { "" };
            let separator = if place > 0 { ", " } else { "" };
            // Writing to a String cannot fail.
            let _ = write!(changes, "{separator}{}{ellipsis}", &change[..end]);
        }
        match self.count - self.listed.len() {
            0 => changes,
            more => format!("{changes}, and {more} more"),
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        if self.count > 0 && !self.validate_only {
            tracing::info!(
                target: TARGET,
                principal = ANONYMOUS,
                client_id = self.client_id.as_deref(),
                peer = %self.peer,
                request = self.request,
                group = self.group.as_deref(),
                count = self.count,
                changes = self.changes(),
                silenced = self.silenced,
                "{}",
                self.event
            );
        }
    }
}

/// A name as a line lists it: quoted unless it is made of the characters that Kafka's own names are, and not longer than
/// a line bears.
pub(super) struct Name<'a>(pub(super) &'a str);

impl Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = cut(self.0);
        let ellipsis = if name.len() < self.0.len() { "…" } else { "" };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:/".contains(&byte);
        if !name.is_empty() && name.bytes().all(is_plain) {
            write!(f, "{name}{ellipsis}")
        } else {
            write!(f, "{name:?}{ellipsis}")
        }
    }
}

fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES_MAX)]
}

/// A value before and after a change; `none` where there is none.
pub(super) struct Change<T>(pub(super) Option<T>, pub(super) Option<T>);

impl<T: Display> Display for Change<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |value: &Option<T>, f: &mut fmt::Formatter<'_>| match value {
            Some(value) => write!(f, "{value}"),
            None => f.write_str("none"),
        };
        side(&self.0, f)?;
        f.write_str("→")?;
        side(&self.1, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audit() -> Audit {
        Audit {
            event: "things changed",
            request: "DeleteTopics",
            client_id: None,
            peer: SocketAddr::from(([127, 0, 0, 1], 1)),
            group: None,
            validate_only: false,
            silenced: None,
            count: 0,
            listed: Vec::new(),
        }
    }

    #[test]
    fn the_first_changes_are_listed_and_all_are_counted() {
        let mut audit = audit();
        for number in 0..LISTED_MAX + 3 {
            audit.list(number);
            audit.amend("done");
        }
        audit.withdraw();
        let listed: Vec<_> = (0..LISTED_MAX).map(|it| format!("{it} done")).collect();
        assert_eq!(
            audit.changes(),
            format!("{}, and 2 more", listed.join(", "))
        );
        assert_eq!(audit.count, LISTED_MAX + 2);
        audit.clear();
        audit.list("last");
        audit.list("failed");
        audit.withdraw();
        assert_eq!((audit.count, audit.changes()), (1, "last".to_owned()));
    }

    #[test]
    fn a_line_is_short_whatever_is_named() {
        let mut audit = audit();
        for _ in 0..10_000 {
            audit.list("x".repeat(10_000));
        }
        let longest = LISTED_MAX * (CHANGE_BYTES_MAX + 10) + 30;
        assert!(audit.changes().len() < longest);
    }

    #[test]
    fn names_that_could_be_taken_for_several_or_for_lines_are_quoted() {
        let long = "x".repeat(101);
        let expected = format!("{}…", &long[..100]);
        for (name, shown) in [
            ("orders.eu-1_a", "orders.eu-1_a"),
            ("", "\"\""),
            ("a, b", "\"a, b\""),
            ("a\n2026 INFO", "\"a\\n2026 INFO\""),
            ("\u{1b}[31m", "\"\\u{1b}[31m\""),
            (&long, &expected),
        ] {
            assert_eq!(Name(name).to_string(), shown);
        }
    }

    #[test]
    fn a_change_says_where_there_was_nothing() {
        assert_eq!(Change(None, Some(5)).to_string(), "none→5");
        assert_eq!(Change(Some(1), Some(2)).to_string(), "1→2");
    }
}

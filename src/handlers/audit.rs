//! The audit log: one line for each request that changed something, with the client and the changes.
//!
//! The lines have a target of their own. Each shows the client, its address, the number of changes and the first of them:
//! a request that changes thousands of things produces a single line of bounded length.

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};
use std::net::SocketAddr;

use super::Call;
use crate::broker::Principal;

/// Target of the lines, by which `log_level` can select them.
const TARGET: &str = "streamline::audit";

/// Name of [`Principal::ANONYMOUS`] in the lines.
const ANONYMOUS: &str = "anonymous";

/// Largest number of changes listed in a line.
const LISTED_MAX: usize = 10;
/// Largest number of bytes shown of one change.
const CHANGE_BYTES_MAX: usize = 500;
/// Largest number of bytes shown of a name. Names of groups and clients may be as long as any string of the protocol.
const NAME_BYTES_MAX: usize = 100;

/// Audit line of one request, written on drop unless nothing was changed.
pub(super) struct Audit {
    event: &'static str,
    request: &'static str,
    principal: Principal,
    client_id: Option<String>,
    peer: SocketAddr,
    group: Option<String>,
    /// The request only validates, so nothing is changed.
    validate_only: bool,
    /// Number of suppressed lines of the same kind since the last one.
    silenced: Option<u64>,
    count: usize,
    listed: Vec<String>,
}

impl Call {
    /// Starts the audit line of this request.
    pub(super) fn audit(&self, event: &'static str) -> Audit {
        Audit {
            event,
            request: self.api.name(),
            principal: self.principal.clone(),
            client_id: self.client_id.as_deref().map(|id| cut(id).to_owned()),
            peer: self.peer,
            group: None,
            validate_only: false,
            silenced: None,
            count: 0,
            listed: Vec::new(),
        }
    }
}

impl Audit {
    /// Sets the group to which all changes belong.
    pub(super) fn of_group(mut self, group: &str) -> Self {
        self.group = Some(cut(group).to_owned());
        self
    }

    /// Suppresses the line of a request that only validates.
    pub(super) fn unless(mut self, validate_only: bool) -> Self {
        self.validate_only = validate_only;
        self
    }

    /// Sets the number of suppressed lines of the same kind since the last one.
    pub(super) fn after_silence(&mut self, silenced: u64) {
        self.silenced = Some(silenced);
    }

    /// Runs a change and lists it, unless it fails. The change completes even if this future is dropped because the client
    /// disconnected, so it is listed before it is awaited.
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

    /// Appends `more` to the last change.
    pub(super) fn amend(&mut self, more: impl Display) {
        if self.listed.len() == self.count
            && let Some(last) = self.listed.last_mut()
        {
            // Writing to a String cannot fail.
            let _ = write!(last, " {more}");
        }
    }

    /// Removes the last change, which was not made.
    pub(super) fn withdraw(&mut self) {
        if self.listed.len() == self.count {
            self.listed.pop();
        }
        self.count -= 1;
    }

    /// Removes all changes.
    pub(super) fn clear(&mut self) {
        self.listed.clear();
        self.count = 0;
    }

    fn principal(&self) -> Cow<'static, str> {
        match self.principal == Principal::ANONYMOUS {
            true => Cow::Borrowed(ANONYMOUS),
            false => Cow::Owned(self.principal.to_string()),
        }
    }

    fn changes(&self) -> String {
        let mut changes = String::new();
        for (index, change) in self.listed.iter().enumerate() {
            let end = change.floor_char_boundary(CHANGE_BYTES_MAX);
            let ellipsis = if end < change.len() { "…" } else { "" };
            let separator = if index > 0 { ", " } else { "" };
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
                principal = &*self.principal(),
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

/// Displays a name: shortened to [`NAME_BYTES_MAX`], and quoted if it has characters outside of plain names.
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

/// Displays a value before and after a change, `none` for an absent one.
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
            principal: Principal::ANONYMOUS,
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
    fn a_line_is_bounded_whatever_the_length_of_names() {
        let mut audit = audit();
        for _ in 0..10_000 {
            audit.list("x".repeat(10_000));
        }
        let longest = LISTED_MAX * (CHANGE_BYTES_MAX + 10) + 30;
        assert!(audit.changes().len() < longest);
    }

    #[test]
    fn names_with_separators_or_control_characters_are_quoted() {
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
    fn a_change_shows_none_for_an_absent_value() {
        assert_eq!(Change(None, Some(5)).to_string(), "none→5");
        assert_eq!(Change(Some(1), Some(2)).to_string(), "1→2");
    }
}

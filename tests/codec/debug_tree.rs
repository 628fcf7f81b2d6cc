//! Comparison of values by their `Debug` output, because two codecs share no types.

use std::collections::BTreeMap;
use std::fmt::Debug;

/// A value as printed by `{:?}`, without differences in style between the codecs: one-field wrappers (`Some`, `BrokerId`)
/// are removed, and error codes are numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    Struct(BTreeMap<String, Tree>),
    List(Vec<Tree>),
    Scalar(String),
}

impl Tree {
    pub fn of(value: &impl Debug) -> Tree {
        let text = format!("{value:?}");
        let mut parser = Parser { rest: &text };
        let tree = parser.value();
        assert_eq!(parser.rest, "", "{text} was not parsed to its end");
        tree
    }
}

/// Fields of versions that the reference codec does not have yet, by the beginning of the message's name.
const NEWER_FIELDS: [(&str, &str); 7] = [
    ("OffsetCommit", "topic_id"),
    ("OffsetFetch", "topic_id"),
    ("ApiVersionsRequest", "cluster_id"),
    ("ApiVersionsRequest", "node_id"),
    ("DescribeLogDirsResponse", "is_cordoned"),
    ("DeleteGroupsResponse", "error_message"),
    ("AddRaftVoterRequest", "ack_when_committed"),
];

/// Panics unless every field of `ours` is in `theirs` with the same value. The reference codec may have more fields: those
/// of versions that are not declared here, and unknown tagged fields.
pub fn assert_within(ours: &Tree, theirs: &Tree, path: &str) {
    match (ours, theirs) {
        (Tree::Struct(ours), Tree::Struct(theirs)) => {
            for (name, value) in ours {
                let path = format!("{path}.{name}");
                let Some(other) = theirs.get(name) else {
                    let is_newer =
                        |(api, field): &(&str, &str)| path.starts_with(api) && name == field;
                    assert!(
                        NEWER_FIELDS.iter().any(is_newer),
                        "{path}: the reference codec has no such field"
                    );
                    continue;
                };
                assert_within(value, other, &path);
            }
        }
        (Tree::List(ours), Tree::List(theirs)) => {
            assert_eq!(ours.len(), theirs.len(), "{path}: elements");
            for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                assert_within(ours, theirs, &format!("{path}[{index}]"));
            }
        }
        _ => assert_eq!(ours, theirs, "{path}"),
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn eat(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn take(&mut self, len: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        taken
    }

    /// Parses up to the closing quote of a literal that begins after `prefix` bytes.
    fn quoted(&mut self, prefix: usize) -> Tree {
        let mut end = prefix + 1;
        let bytes = self.rest.as_bytes();
        while bytes[end] != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        Tree::Scalar(self.take(end + 1).to_owned())
    }

    fn list(&mut self, close: &str) -> Vec<Tree> {
        let mut items = Vec::new();
        while !self.eat(close) {
            items.push(self.value());
            self.eat(",");
        }
        items
    }

    fn value(&mut self) -> Tree {
        self.rest = self.rest.trim_start();
        if self.rest.starts_with('"') {
            return self.quoted(0);
        }
        if self.rest.starts_with("b\"") {
            return self.quoted(1);
        }
        if self.eat("[") {
            return Tree::List(self.list("]"));
        }
        if self.eat("{") {
            assert!(
                self.eat("}"),
                "the reference codec found unknown tagged fields"
            );
            return Tree::Struct(BTreeMap::new());
        }
        let word = |c: char| c.is_alphanumeric() || "_-.".contains(c);
        let len = self.rest.find(|c| !word(c)).unwrap_or(self.rest.len());
        let name = self.take(len);
        if self.eat("{") {
            let mut fields = BTreeMap::new();
            while !self.eat("}") {
                let colon = self.rest.find(':').expect("a field has a name");
                // The witness has `_match` where the name is a keyword of Rust.
                let field = self.take(colon).trim().trim_start_matches('_').to_owned();
                assert!(self.eat(":"));
                fields.insert(field, self.value());
                self.eat(",");
            }
            return Tree::Struct(fields);
        }
        if self.eat("(") {
            let mut items = self.list(")");
            assert_eq!(items.len(), 1, "{name} wraps one value");
            return items.remove(0);
        }
        Tree::Scalar(name.to_owned())
    }
}

#[test]
fn wrappers_are_removed_and_field_names_compared() {
    #[derive(Debug)]
    #[expect(dead_code, reason = "read through Debug")]
    struct Ours {
        code: streamline::protocol::kafka::ErrorCode,
        name: Option<String>,
    }
    let ours = Tree::of(&Ours {
        code: streamline::protocol::kafka::ErrorCode::CORRUPT_MESSAGE,
        name: Some("a \"quoted\", {odd} name".to_owned()),
    });
    let Tree::Struct(fields) = &ours else {
        panic!("{ours:?}");
    };
    assert_eq!(fields["code"], Tree::Scalar("2".to_owned()));
    assert_eq!(fields["name"], Tree::of(&"a \"quoted\", {odd} name"));
}

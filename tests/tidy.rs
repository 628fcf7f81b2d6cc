//! Checks of the repository's layout that no lint and no other tool can make: allowed imports between areas, mapping of
//! errors, unused files, links, and the number of the server's dependencies.
//!
//! All checks read source text or `cargo metadata`; nothing is built or started. A failed check names file and line. The
//! rules are explained in `docs/ARCHITECTURE.md`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

/// Each area of `src/` and the areas it may import. No other areas may exist.
#[rustfmt::skip]
const ALLOWED_IMPORTS: &[(&str, &str)] = &[
    ("cli",         "server handlers broker coordinator storage catalog protocol record metrics config clock fs"),
    ("server",      "handlers broker coordinator storage catalog protocol record metrics config clock fs"),
    ("handlers",    "broker coordinator storage catalog protocol record metrics config clock fs"),
    ("broker",      "coordinator storage catalog record metrics config clock fs"),
    ("coordinator", "storage catalog record metrics config clock fs"),
    ("storage",     "record metrics config clock fs sync"),
    ("catalog",     "record metrics config clock fs"),
    ("protocol",    "record"),
    ("record",      ""),
    ("metrics",     "sync"),
    ("config",      ""),
    ("clock",       ""),
    ("fs",          ""),
    ("sync",        ""),
];

/// Names that `src/storage/` must not use: the wire protocol, sockets and HTTP.
const UNKNOWN_TO_STORAGE: &[&str] = &[
    "ApiKey",
    "ErrorCode",
    "protocol::",
    "std::net",
    "tokio::net",
    "TcpStream",
    "SocketAddr",
    "hyper",
    "axum",
    "http::",
];

/// Maximum number of crates needed to build the server, including those of build scripts.
const CRATES_MAX: usize = 200;

#[test]
fn imports_point_downward_only() {
    let allowed: BTreeMap<&str, &str> = ALLOWED_IMPORTS.iter().copied().collect();
    let mut wrong = Vec::new();
    for file in production_files() {
        let Some(area) = area_of(&file.path) else {
            continue;
        };
        let Some(may_import) = allowed.get(area.as_str()) else {
            wrong.push(format!(
                "{}: area `{area}` is not in the table of imports",
                file.name()
            ));
            continue;
        };
        for (line, imported) in imported_areas(&file.code) {
            if imported != area && !may_import.split(' ').any(|area| area == imported) {
                wrong.push(format!(
                    "{}:{line}: `{area}` imports `{imported}`",
                    file.name()
                ));
            }
        }
    }
    assert_none(&wrong, "imports against the layering");
}

#[test]
fn storage_is_independent_of_protocol_sockets_and_http() {
    let mut wrong = Vec::new();
    for file in production_files()
        .iter()
        .filter(|file| file.is_under("src/storage"))
    {
        for word in UNKNOWN_TO_STORAGE {
            for line in lines_with(&file.code, word) {
                wrong.push(format!("{}:{line}: names `{word}`", file.name()));
            }
        }
    }
    assert_none(&wrong, "uses of protocol, sockets or HTTP in storage");
}

#[test]
fn storage_engines_are_named_only_where_one_is_chosen() {
    let mut wrong = Vec::new();
    for file in production_files() {
        if file.is_under("src/storage") || file.is_under("src/broker/home.rs") {
            continue;
        }
        for word in ["storage::local", "storage::memory", "LocalEngine"] {
            for line in lines_with(&file.code, word) {
                wrong.push(format!("{}:{line}: names `{word}`", file.name()));
            }
        }
    }
    assert_none(&wrong, "uses of a storage engine instead of its traits");
}

#[test]
fn errors_of_lower_layers_are_mapped_to_kafka_codes_in_one_file() {
    let mut wrong = Vec::new();
    for file in production_files() {
        if file.is_under("src/handlers/error.rs") || file.is_under("src/protocol") {
            continue;
        }
        for line in lines_with(&file.code, "for ErrorCode") {
            wrong.push(format!("{}:{line}: converts into a code", file.name()));
        }
        if file.is_under("src/handlers") {
            for line in error_mappings(&file.code) {
                wrong.push(format!("{}:{line}: maps an error to a code", file.name()));
            }
        }
    }
    assert_none(&wrong, "mappings of errors outside src/handlers/error.rs");
}

#[test]
fn json_is_used_only_by_the_http_server_the_command_line_and_run_json() {
    let mut wrong = Vec::new();
    for file in production_files() {
        let may = ["src/server/http", "src/server/run_file.rs", "src/cli"]
            .iter()
            .any(|area| file.is_under(area));
        if !may {
            for line in lines_with(&file.code, "serde_json") {
                wrong.push(format!("{}:{line}: uses serde_json", file.name()));
            }
        }
    }
    assert_none(
        &wrong,
        "JSON outside src/server/http, src/server/run_file.rs and src/cli",
    );
}

#[test]
fn every_source_file_has_a_module_doc() {
    let mut wrong = Vec::new();
    for path in rust_files() {
        let text = read(&path);
        let first = text
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty() && !line.starts_with("#!"));
        if !first.is_some_and(|line| line.starts_with("//!")) {
            wrong.push(format!(
                "{}: does not start with a `//!` doc",
                relative(&path)
            ));
        }
    }
    assert_none(&wrong, "files without a module doc");
}

#[test]
fn every_source_file_is_compiled() {
    let reached = reachable_files();
    let dead: Vec<String> = rust_files()
        .iter()
        .filter(|path| !reached.contains_key(*path))
        .map(|path| format!("{}: no `mod` declares it", relative(path)))
        .collect();
    assert_none(&dead, "dead files");
}

#[test]
fn the_repository_contains_no_local_paths_and_no_registry_hosts() {
    // Spelled in pieces, because this file is searched too.
    let anywhere: Vec<String> = [
        ["/ro", "ot/"],
        ["/wo", "rk/"],
        ["/ho", "me/"],
        ["/Us", "ers/"],
        ["npm", "js.org"],
        ["npm", "js.com"],
        ["py", "pi.org"],
        ["python", "hosted.org"],
        ["repo.ma", "ven"],
        ["repo1.ma", "ven"],
        ["proxy.go", "lang"],
        ["deb.deb", "ian.org"],
        ["static.cra", "tes.io"],
        ["index.cra", "tes.io"],
        ["<<<<<", "<< "],
        [">>>>>", ">> "],
        ["TO", "DO:"],
        ["FIX", "ME"],
    ]
    .iter()
    .map(|pieces| pieces.concat())
    .collect();
    let mut wrong = Vec::new();
    for path in all_files() {
        let Ok(text) = fs::read_to_string(&path) else {
            continue; // not text
        };
        for (number, line) in text.lines().enumerate() {
            for word in &anywhere {
                let found = line.match_indices(word.as_str()).any(|(at, _)| {
                    // Only the start of a path counts: `net/work/x` does not contain the local path `/work`.
                    !word.starts_with('/')
                        || !line[..at].chars().next_back().is_some_and(|before| {
                            before.is_alphanumeric() || "._-}~$*".contains(before)
                        })
                });
                if found {
                    wrong.push(format!(
                        "{}:{}: contains `{word}`",
                        relative(&path),
                        number + 1
                    ));
                }
            }
        }
    }
    assert_none(&wrong, "local paths, registry hosts or leftovers");
}

#[test]
fn links_between_documents_are_valid() {
    let mut wrong = Vec::new();
    for path in all_files()
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
    {
        let folder = path.parent().expect("a file has a folder");
        for (number, line) in read(path).lines().enumerate() {
            for (_, after) in line
                .match_indices("](")
                .map(|(at, found)| line.split_at(at + found.len()))
            {
                let link = after.split([')', '#']).next().unwrap_or_default();
                let elsewhere =
                    link.is_empty() || link.contains("://") || link.starts_with("mailto:");
                if !elsewhere && !folder.join(link).exists() {
                    wrong.push(format!("{}:{}: {link}", relative(path), number + 1));
                }
            }
        }
    }
    assert_none(&wrong, "broken links");
}

#[test]
fn every_fuzz_target_is_declared_and_has_a_corpus() {
    let fuzz = root().join("fuzz");
    let targets: BTreeSet<String> = rust_files()
        .iter()
        .filter(|path| path.starts_with(fuzz.join("fuzz_targets")))
        .filter_map(|path| {
            path.file_stem()
                .map(|stem| stem.to_string_lossy().into_owned())
        })
        .collect();
    let manifest = read(&fuzz.join("Cargo.toml"));
    let mut wrong = Vec::new();
    if targets.is_empty() {
        wrong.push("fuzz/fuzz_targets: no target".to_string());
    }
    for target in &targets {
        if !manifest.contains(&format!("\"fuzz_targets/{target}.rs\"")) {
            wrong.push(format!("fuzz/Cargo.toml: does not declare `{target}`"));
        }
        let corpus = fuzz.join("corpus").join(target);
        let inputs = fs::read_dir(&corpus).map(Iterator::count).unwrap_or(0);
        if inputs == 0 {
            wrong.push(format!("fuzz/corpus/{target}: empty or missing"));
        }
    }
    for entry in fs::read_dir(fuzz.join("corpus"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !targets.contains(&name) {
            wrong.push(format!("fuzz/corpus/{name}: has no target"));
        }
    }
    assert_none(&wrong, "fuzz targets that would not run");
}

#[test]
fn the_server_depends_on_few_crates() {
    let metadata = metadata();
    let resolve = metadata
        .resolve
        .as_ref()
        .expect("metadata was asked for dependencies");
    let nodes: BTreeMap<&PackageId, _> =
        resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let own = resolve.root.as_ref().expect("the manifest has a package");
    let mut seen = BTreeSet::from([own]);
    let mut queue = VecDeque::from([own]);
    while let Some(id) = queue.pop_front() {
        for dependency in &nodes[id].deps {
            let built = dependency
                .dep_kinds
                .iter()
                .any(|kind| kind.kind != DependencyKind::Development);
            if built && seen.insert(&dependency.pkg) {
                queue.push_back(&dependency.pkg);
            }
        }
    }
    let crates = seen.len() - 1;
    println!("{crates} crates are needed to build the server");
    assert!(
        crates <= CRATES_MAX,
        "{crates} crates to build the server, more than {CRATES_MAX}"
    );
}

#[test]
fn mappings_of_errors_to_codes_are_found() {
    for mapping in [
        "Err(storage::Error::Deleted) if by_id => { Found::Error(ErrorCode::UNKNOWN_TOPIC_ID) }",
        "Error::Io { .. } | Error::Corrupt { .. } => ErrorCode::KAFKA_STORAGE_ERROR,",
        "TopicError::InvalidName(_) => refuse(1, ErrorCode::INVALID_TOPIC_EXCEPTION),",
        "if matches!(error, GroupError::IllegalGeneration) { return ErrorCode::NONE; }",
        "if let Err(Error::InvalidBatch(record::Error::Empty)) = x { f(ErrorCode::NONE) }",
        "partition.leader_epoch().map_err(|_| ErrorCode::KAFKA_STORAGE_ERROR)",
    ] {
        assert_eq!(error_mappings(mapping), [1], "{mapping}");
    }
    for other in [
        "Err(Error::Deleted) if by_id => f(), Err(error) => error::of_storage(&error), 2 => ErrorCode::NONE,",
        "Err(GroupError::UnknownMemberId) => { vec![1] } _ => ErrorCode::NONE",
        "get(name).ok_or_else(|| TopicError::Unknown(name.clone()).into()), None => ErrorCode::NONE",
        "return Err(TopicError::Unknown(name)); } ErrorCode::NONE",
        "Err(error) => Found::Error(error::of_storage(&error)), None => ErrorCode::NONE",
        "match request.acks { 2 => Err(Refusal::new(ErrorCode::INVALID_REQUIRED_ACKS)) }",
        "work.map_err(|error| error::of_storage(&error)).unwrap_or(ErrorCode::NONE)",
    ] {
        assert!(error_mappings(other).is_empty(), "{other}");
    }
}

#[test]
fn comments_strings_and_tests_are_removed_from_source_text() {
    let text = r####"
//! crate::comment
fn a<'x>(c: char) { /* crate::block /* nested */ */ let _ = ("crate::string \" more", 'x', '"', r#"crate::"raw"#); }
use crate::{alpha::{self, One}, beta, gamma::Two};
#[cfg(test)]
mod tests { use crate::delta; fn f() { x.unwrap() } }
#[cfg(test)]
use crate::epsilon;
fn b() { crate::zeta::call(); $crate::eta::call(); }
"####;
    let code = production_code(text);
    let areas: Vec<String> = imported_areas(&code)
        .into_iter()
        .map(|(_, area)| area)
        .collect();
    assert_eq!(areas, ["alpha", "beta", "gamma", "zeta", "eta"]);
    assert_eq!(code.len(), text.len(), "positions must not change");
    assert!(lines_with(&code, ".unwrap()").is_empty());
}

fn assert_none(wrong: &[String], what: &str) {
    assert!(
        wrong.is_empty(),
        "{} {what}:\n  {}",
        wrong.len(),
        wrong.join("\n  ")
    );
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", relative(path)))
}

/// Returns every file of the repository, without build and run-time output.
fn all_files() -> Vec<PathBuf> {
    let ignored: BTreeSet<String> = read(&root().join(".gitignore"))
        .lines()
        .map(|line| line.trim_end_matches('/').to_string())
        .collect();
    let mut files = Vec::new();
    let mut folders = vec![root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder just listed") {
            let entry = entry.expect("a folder just listed");
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let from_root = format!("/{}", relative(&path));
            if name == ".git"
                || name == "Cargo.lock"
                || ignored.contains(&name)
                || ignored.contains(&from_root)
            {
                continue;
            }
            if entry.file_type().expect("a file just listed").is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn rust_files() -> Vec<PathBuf> {
    let mut files = all_files();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files
}

/// A file of `src/` compiled into the server: its path, and its text without comments, strings and tests.
struct Source {
    path: PathBuf,
    code: String,
}

impl Source {
    fn name(&self) -> String {
        relative(&self.path)
    }

    /// Returns whether the file is `prefix`, is inside it, or is a sibling whose name starts with it (`src/server/http.rs`).
    fn is_under(&self, prefix: &str) -> bool {
        self.name()
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest == ".rs" || rest.starts_with('/'))
    }
}

fn production_files() -> Vec<Source> {
    let src = root().join("src");
    let files: Vec<Source> = reachable_files()
        .into_iter()
        .filter(|(path, test_only)| !test_only && path.starts_with(&src))
        .map(|(path, _)| Source {
            code: production_code(&read(&path)),
            path,
        })
        .collect();
    assert!(
        files.len() > 10,
        "the walk from src/lib.rs found {} files",
        files.len()
    );
    files
}

/// Returns the area of a file of `src/`; `None` for the two crate roots.
fn area_of(path: &Path) -> Option<String> {
    let inside = path.strip_prefix(root().join("src")).ok()?;
    let first = inside.iter().next()?.to_string_lossy().into_owned();
    let area = first.strip_suffix(".rs").unwrap_or(&first);
    (area != "lib" && area != "main").then(|| area.to_string())
}

/// Returns every area named after `crate::` with its line, including areas in brace groups.
fn imported_areas(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|before| before.is_alphanumeric() || before == '_') {
            continue;
        }
        let line = line_of(code, at);
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut expects_name = true;
            let mut name = String::new();
            for char in group.chars() {
                match char {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => expects_name = true,
                    _ if depth > 0 => continue,
                    _ if expects_name && (char.is_alphanumeric() || char == '_') => {
                        name.push(char);
                        continue;
                    }
                    _ => {}
                }
                if !name.is_empty() {
                    found.push((line, std::mem::take(&mut name)));
                    expects_name = char == ',';
                }
            }
            if !name.is_empty() {
                found.push((line, name));
            }
        } else {
            let name: String = rest
                .chars()
                .take_while(|char| char.is_alphanumeric() || *char == '_')
                .collect();
            found.push((line, name));
        }
    }
    found
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

fn lines_with(code: &str, word: &str) -> Vec<usize> {
    code.match_indices(word)
        .map(|(at, _)| line_of(code, at))
        .collect()
}

/// Returns the lines that match a variant of an error and name an `ErrorCode` in the same arm or block, or name one in a
/// `map_err`.
fn error_mappings(code: &str) -> Vec<usize> {
    let variants = code
        .match_indices("Error::")
        .map(|(at, found)| at + found.len())
        .filter(|at| code[*at..].starts_with(|first: char| first.is_uppercase()))
        .filter(|at| outcome_of_variant(&code[*at..]).contains("ErrorCode::"));
    let closures = code
        .match_indices("map_err(")
        .map(|(at, found)| at + found.len())
        .filter(|at| arguments(&code[*at..]).contains("ErrorCode::"));
    let mut lines: Vec<usize> = variants
        .chain(closures)
        .map(|at| line_of(code, at))
        .collect();
    lines.dedup();
    lines
}

/// Returns what depends on the variant that `rest` starts with: the text up to the end of the match arm, block or statement.
fn outcome_of_variant(rest: &str) -> &str {
    let after_name = rest.trim_start_matches(|char: char| char.is_alphanumeric() || char == '_');
    // Braces right after the variant hold its fields, others are a block.
    let mut in_fields = after_name.trim_start().starts_with('{');
    let mut depth = 0;
    // Decreases when a pattern or call around the variant is closed.
    let mut base = 0;
    for (at, char) in rest.char_indices() {
        match char {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' => {
                depth -= 1;
                base = base.min(depth);
            }
            '}' => {
                depth -= 1;
                if depth <= base && !std::mem::take(&mut in_fields) {
                    return &rest[..at];
                }
            }
            ',' | ';' if depth == base => return &rest[..at],
            _ => {}
        }
    }
    rest
}

/// Returns the arguments of a call from the text after its opening parenthesis.
fn arguments(rest: &str) -> &str {
    let mut depth = 0;
    let end = rest.find(|char| {
        match char {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        depth < 0
    });
    &rest[..end.unwrap_or(rest.len())]
}

/// Returns `text` with comments, string contents and items under `#[cfg(test)]` blanked. Every byte keeps its position.
fn production_code(text: &str) -> String {
    let mut code = code_only(text).into_bytes();
    let marker = b"#[cfg(test)]";
    let mut at = 0;
    while let Some(found) = code[at..]
        .windows(marker.len())
        .position(|window| window == marker)
    {
        let start = at + found;
        let mut depth = 0;
        let mut end = code.len();
        for (index, byte) in code.iter().enumerate().skip(start + marker.len()) {
            match byte {
                b'{' | b'(' | b'[' => depth += 1,
                b')' | b']' => depth -= 1,
                b'}' => {
                    depth -= 1;
                    if depth == 0 && !code[index + 1..].trim_ascii_start().starts_with(b";") {
                        end = index + 1;
                        break;
                    }
                }
                b';' if depth == 0 => {
                    end = index + 1;
                    break;
                }
                _ => {}
            }
        }
        for byte in &mut code[start..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(code).expect("only whole characters were replaced")
}

/// Returns `text` with comments and string contents blanked. Every byte keeps its position.
fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let blank = |code: &mut Vec<u8>, from: usize, to: usize| {
        for byte in &mut code[from..to] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    };
    let find = |from: usize, what: &[u8]| {
        bytes[from..]
            .windows(what.len())
            .position(|window| window == what)
            .map_or(bytes.len(), |found| from + found)
    };
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let in_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        if rest.starts_with(b"//") {
            let end = find(at, b"\n");
            blank(&mut code, at, end);
            at = end;
        } else if rest.starts_with(b"/*") {
            let mut depth = 1;
            let mut end = at + 2;
            while end < bytes.len() && depth > 0 {
                if bytes[end..].starts_with(b"/*") {
                    depth += 1;
                    end += 2;
                } else if bytes[end..].starts_with(b"*/") {
                    depth -= 1;
                    end += 2;
                } else {
                    end += 1;
                }
            }
            let end = end.min(bytes.len());
            blank(&mut code, at, end);
            at = end;
        } else if let Some(hashes) = raw_string_hashes(rest).filter(|_| !in_word) {
            let open = at
                + rest
                    .iter()
                    .position(|byte| *byte == b'"')
                    .expect("a raw string opens")
                + 1;
            let close: Vec<u8> = std::iter::once(b'"')
                .chain(std::iter::repeat_n(b'#', hashes))
                .collect();
            let end = find(open, &close);
            blank(&mut code, open, end);
            at = (end + close.len()).min(bytes.len());
        } else if rest[0] == b'"' {
            let mut end = at + 1;
            while end < bytes.len() && bytes[end] != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            let end = end.min(bytes.len());
            blank(&mut code, at + 1, end);
            at = end + 1;
        } else if rest[0] == b'\'' {
            // A character literal ends with a quote after one character or escape; a lifetime does not.
            let escaped = rest.get(1) == Some(&b'\\');
            let char_len = text[at + 1..].chars().next().map_or(0, char::len_utf8);
            if escaped {
                let end = find(at + 3, b"'");
                blank(&mut code, at + 1, end);
                at = end + 1;
            } else if rest.get(1 + char_len) == Some(&b'\'') {
                blank(&mut code, at + 1, at + 1 + char_len);
                at += char_len + 2;
            } else {
                at += 1;
            }
        } else {
            at += 1;
        }
    }
    String::from_utf8(code).expect("only whole characters were replaced")
}

/// Returns the number of `#` of a raw string that starts here, or `None`.
fn raw_string_hashes(rest: &[u8]) -> Option<usize> {
    let after = rest
        .strip_prefix(b"br".as_slice())
        .or_else(|| rest.strip_prefix(b"r".as_slice()))?;
    let hashes = after.iter().take_while(|byte| **byte == b'#').count();
    (after.get(hashes) == Some(&b'"')).then_some(hashes)
}

/// Returns every file reached through `mod` from a target of any manifest, and whether only tests reach it.
fn reachable_files() -> BTreeMap<PathBuf, bool> {
    let mut reached: BTreeMap<PathBuf, bool> = BTreeMap::new();
    let mut queue: VecDeque<(PathBuf, bool, bool)> = VecDeque::new();
    for manifest in all_files()
        .iter()
        .filter(|path| path.ends_with("Cargo.toml"))
    {
        let metadata = MetadataCommand::new()
            .manifest_path(manifest)
            .no_deps()
            .exec()
            .unwrap_or_else(|error| panic!("{}: {error}", relative(manifest)));
        for target in metadata
            .packages
            .iter()
            .flat_map(|package| &package.targets)
        {
            let path = target.src_path.clone().into_std_path_buf();
            queue.push_back((path, false, true));
        }
    }
    while let Some((path, test_only, is_root)) = queue.pop_front() {
        match reached.get(&path) {
            Some(known_test_only) if !known_test_only || test_only => continue,
            _ => {}
        }
        let text = read(&path);
        let folder = path.parent().expect("a file has a folder").to_path_buf();
        let is_folder_module = path.ends_with("mod.rs") || is_root;
        let children = if is_folder_module {
            folder.clone()
        } else {
            path.with_extension("")
        };
        for (name, explicit, under_test) in declared_modules(&text) {
            let candidates = match explicit {
                Some(explicit) => vec![folder.join(explicit)],
                None => vec![
                    children.join(format!("{name}.rs")),
                    children.join(&name).join("mod.rs"),
                ],
            };
            if let Some(found) = candidates.iter().find(|candidate| candidate.is_file()) {
                let found = found.canonicalize().expect("the file was just seen");
                queue.push_back((found, test_only || under_test, false));
            }
        }
        reached.insert(path, test_only);
    }
    reached
}

/// Returns the modules that `text` declares in other files: name, explicit path, and whether under `#[cfg(test)]`.
fn declared_modules(text: &str) -> Vec<(String, Option<String>, bool)> {
    let code = code_only(text);
    let mut modules = Vec::new();
    let mut attributes_from = 0;
    for (at, _) in code.match_indices("mod ") {
        if code[..at]
            .chars()
            .next_back()
            .is_some_and(|before| before.is_alphanumeric() || before == '_')
        {
            continue;
        }
        let rest = &code[at + "mod ".len()..];
        let name: String = rest
            .chars()
            .take_while(|char| char.is_alphanumeric() || *char == '_')
            .collect();
        if name.is_empty() || !rest[name.len()..].starts_with(';') {
            continue;
        }
        let statement_from = code[..at]
            .rfind([';', '}', '{'])
            .map_or(0, |before| before + 1)
            .max(attributes_from);
        let attributes = &text[statement_from..at];
        let explicit = attributes.split_once("#[path").and_then(|(_, after)| {
            let after = after.split_once('"')?.1;
            Some(after.split_once('"')?.0.to_string())
        });
        let under_test = code[statement_from..at].contains("#[cfg(test)]");
        attributes_from = at;
        modules.push((name, explicit, under_test));
    }
    modules
}

/// Returns the whole locked dependency graph for the platform that runs this test.
fn metadata() -> Metadata {
    let rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .arg("-vV")
        .output()
        .expect("rustc built this test");
    let version = String::from_utf8_lossy(&rustc.stdout).into_owned();
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("rustc -vV names its host")
        .to_string();
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(["--locked".into(), "--filter-platform".into(), host])
        .exec()
        .expect("cargo metadata works where cargo test does")
}

//! What the sources promise of themselves: the layers of the engine, what lies where, and a few words that
//! nobody wants to find.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a source file. One file must not swallow the system.
const LINES_MAX: usize = 600;

/// Lines of an example.
const EXAMPLE_LINES_MAX: usize = 100;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a member of the workspace")
}

/// Everything below `directory` with one of these endings, but for what is built or fetched.
fn files(directory: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory of the repository") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name of text").to_owned();
            if path.is_dir() {
                if !matches!(name.as_str(), "target" | "node_modules" | "results" | ".git") {
                    directories.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// A piece of Rust: a word, `::`, a literal without its contents, or another character.
type Token = String;

/// The tokens of a source, without comments.
fn tokens(source: &str) -> Vec<Token> {
    let characters: Vec<char> = source.chars().collect();
    let at = |index: usize| characters.get(index).copied().unwrap_or('\0');
    let mut tokens = Vec::new();
    let mut index = 0;
    while index < characters.len() {
        let start = index;
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        match (at(index), at(index + 1)) {
            ('/', '/') => {
                while index < characters.len() && at(index) != '\n' {
                    index += 1;
                }
            }
            ('/', '*') => {
                let mut depth = 0;
                while index < characters.len() {
                    match (at(index), at(index + 1)) {
                        ('/', '*') => (depth, index) = (depth + 1, index + 2),
                        ('*', '/') => (depth, index) = (depth - 1, index + 2),
                        _ => index += 1,
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
            ('"', _) => {
                index += 1;
                while index < characters.len() && at(index) != '"' {
                    index += if at(index) == '\\' { 2 } else { 1 };
                }
                index += 1;
                tokens.push("\"\"".to_owned());
            }
            ('r', '"' | '#') if raw_string_end(&characters, index).is_some() => {
                index = raw_string_end(&characters, index).expect("it has just been found");
                tokens.push("\"\"".to_owned());
            }
            // A character; what looks like one and is not is a lifetime.
            ('\'', '\\') => {
                index += 3;
                while index < characters.len() && at(index) != '\'' {
                    index += 1;
                }
                index += 1;
                tokens.push("''".to_owned());
            }
            ('\'', _) if at(index + 2) == '\'' => {
                index += 3;
                tokens.push("''".to_owned());
            }
            (':', ':') => {
                index += 2;
                tokens.push("::".to_owned());
            }
            (c, _) if is_word(c) => {
                while index < characters.len() && is_word(at(index)) {
                    index += 1;
                }
                tokens.push(characters[start..index].iter().collect());
            }
            (c, _) => {
                index += 1;
                if !c.is_whitespace() {
                    tokens.push(c.to_string());
                }
            }
        }
    }
    tokens
}

/// Where the raw string that starts at `start` ends, if one does.
fn raw_string_end(characters: &[char], start: usize) -> Option<usize> {
    let hashes = characters[start + 1..].iter().take_while(|c| **c == '#').count();
    let body = start + 1 + hashes;
    (characters.get(body) == Some(&'"')).then_some(())?;
    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let length = characters[body + 1..].windows(end.len()).position(|window| window == end)?;
    Some(body + 1 + length + end.len())
}

/// The modules of the crate's root that a source names: by `crate::`, or by as many `super::` as lead there.
///
/// `depth` is how many modules the source lies below the root.
fn modules_named(tokens: &[Token], depth: usize) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    // Modules within the source add to the depth until their brace is closed.
    let mut inner = Vec::new();
    let mut braces = 0;
    let word = |index: usize| tokens.get(index).map_or("", String::as_str);
    for index in 0..tokens.len() {
        match word(index) {
            "{" => {
                braces += 1;
                if index >= 2 && word(index - 2) == "mod" {
                    inner.push(braces);
                }
            }
            "}" => {
                inner.pop_if(|opened| *opened == braces);
                braces -= 1;
            }
            "crate" if word(index + 1) == "::" => heads(tokens, index + 2, &mut named),
            // The first of a chain.
            "super" if index == 0 || word(index - 1) != "::" => {
                let (mut supers, mut next) = (0, index);
                while word(next) == "super" && word(next + 1) == "::" {
                    (supers, next) = (supers + 1, next + 2);
                }
                if supers == depth + inner.len() {
                    heads(tokens, next, &mut named);
                }
            }
            _ => {}
        }
    }
    named
}

/// The first words of the path that starts at `index`, or of all paths of a list in braces.
fn heads(tokens: &[Token], index: usize, named: &mut BTreeSet<String>) {
    let Some(first) = tokens.get(index) else { return };
    if first != "{" {
        named.insert(first.clone());
        return;
    }
    let (mut depth, mut starts) = (0, true);
    for token in &tokens[index..] {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 1 => starts = true,
            head if depth == 1 && starts => {
                named.insert(head.to_owned());
                starts = false;
            }
            _ => {}
        }
        if depth == 0 {
            return;
        }
    }
}

#[test]
fn the_reader_of_sources_sees_what_leaves_a_layer() {
    let source = r##"
        //! crate::comment
        use crate::{alpha::One, beta::{self, inner::gamma}, delta};
        use super::sibling;
        use super::super::epsilon::Two;
        /* crate::block /* crate::nested */ crate::still */
        const TEXT: &str = "crate::text \" crate::more";
        const RAW: &str = r#"crate::raw "quoted" crate::raw"#;
        const C: (char, char, char) = ('"', '\'', '{');
        fn f<'a>(x: &'a str) { crate::zeta::call(x); super::super::super::beyond(); }
        mod tests { use super::super::super::eta; use super::super::near; mod more { use super::*; } }
    "##;
    let named = modules_named(&tokens(source), 2);
    let expected = ["alpha", "beta", "delta", "epsilon", "eta", "zeta"];
    assert_eq!(named.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

/// The table of layers in the documentation of the engine: which module may name which others.
fn layers(documentation: &str) -> BTreeMap<String, BTreeSet<String>> {
    let quoted = |cell: &str| -> BTreeSet<String> {
        let words = cell.split('`').skip(1).step_by(2);
        words.filter(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '_')).map(str::to_owned).collect()
    };
    let rows: Vec<(BTreeSet<String>, &str)> = documentation
        .lines()
        .skip_while(|line| !line.contains("# Layers"))
        .filter_map(|line| line.strip_prefix("//! | `")?.split_once(" | "))
        .map(|(modules, may)| (quoted(&format!("`{modules}")), may))
        .collect();
    let all: BTreeSet<String> = rows.iter().flat_map(|(modules, _)| modules.clone()).collect();
    let foundation = rows.first().map(|(modules, _)| modules.clone()).unwrap_or_default();
    let mut layers = BTreeMap::new();
    for (modules, may) in rows {
        let allowed = match may {
            _ if may.starts_with("each other") => modules.clone(),
            _ if may.starts_with("those, and") => &(&foundation | &quoted(may)) | &modules,
            _ if may.starts_with("every module but") => &all - &quoted(may),
            _ if may.starts_with("everything") => all.clone(),
            _ => quoted(may),
        };
        for module in modules {
            let mut allowed = allowed.clone();
            allowed.insert(module.clone());
            layers.insert(module, allowed);
        }
    }
    layers
}

#[test]
fn the_layers_of_the_engine_are_kept() {
    let source = root().join("engine/src");
    let documentation = read(&source.join("lib.rs"));
    let layers = layers(&documentation);
    let declared: BTreeSet<&str> = documentation
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    assert_eq!(layers.keys().map(String::as_str).collect::<BTreeSet<_>>(), declared, "the table names every module");
    let mut seen = BTreeSet::new();
    for path in files(&source, &[".rs"]) {
        let inside = path.strip_prefix(&source).expect("it was found there");
        let mut parts: Vec<&str> = inside.iter().map(|part| part.to_str().expect("text")).collect();
        let file = parts.pop().expect("a file");
        if parts.is_empty() && file == "lib.rs" {
            continue;
        }
        if file != "mod.rs" {
            parts.push(file.trim_end_matches(".rs"));
        }
        for named in modules_named(&tokens(&read(&path)), parts.len()) {
            let module = parts[0];
            assert!(
                layers[module].contains(&named),
                "{}: `{module}` may not import `{named}`; by the table in engine/src/lib.rs it may import {:?}",
                shown(&path),
                layers[module]
            );
            seen.insert(format!("{module} {named}"));
        }
    }
    // What everyone knows to be there has been found: the test is not blind.
    for known in ["worker driver", "uring limits", "engine worker", "handler message", "topics id"] {
        assert!(seen.contains(known), "{known} was not seen among {seen:?}");
    }
}

#[test]
fn unsafe_code_is_in_uring_and_mesh_alone() {
    let mut inside = 0;
    for path in files(root(), &[".rs"]) {
        let count = tokens(&read(&path)).iter().filter(|token| *token == "unsafe").count();
        let name = shown(&path);
        if name.starts_with("engine/src/uring/") || name.starts_with("engine/src/mesh/") {
            inside += count;
        } else {
            assert_eq!(count, 0, "{name} has `unsafe`: that belongs into engine/src/uring or engine/src/mesh");
        }
    }
    assert!(inside > 10, "the test is not blind");
}

#[test]
fn the_top_level_is_what_the_readme_shows() {
    const EXPECTED: [&str; 10] = [
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "benches",
        "engine",
        "rust-toolchain.toml",
        "server",
        "tests",
        "tuning",
    ];
    let entries = fs::read_dir(root()).expect("the repository");
    let names: BTreeSet<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    let found: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| !name.starts_with('.') && *name != "target").collect();
    assert_eq!(found, EXPECTED);
}

#[test]
fn files_stay_small() {
    for directory in ["engine/src", "server/src", "benches/src", "tests/fuzz/src"] {
        for path in files(&root().join(directory), &[".rs"]) {
            let is_test = path.iter().any(|part| part.to_string_lossy().starts_with("tests"));
            let lines = read(&path).lines().count();
            assert!(is_test || lines <= LINES_MAX, "{} has {lines} lines: split it", shown(&path));
        }
    }
    for path in files(&root().join("engine/examples"), &[".rs"]) {
        let lines = read(&path).lines().count();
        assert!(lines <= EXAMPLE_LINES_MAX, "{} has {lines} lines: an example is short", shown(&path));
    }
}

#[test]
fn nothing_is_left_undone_and_nothing_names_this_machine() {
    // Put together, or this file would hold them.
    let forbidden = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("unimplemented", "!"),
        concat!("todo", "!("),
        concat!("dbg", "!("),
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
    ];
    let endings = [".rs", ".toml", ".md", ".sh", ".py", ".mjs", ".ts", ".js", ".html", ".conf", ".service", "run"];
    for path in files(root(), &endings) {
        for (number, line) in (1..).zip(read(&path).lines()) {
            for word in forbidden {
                assert!(!line.contains(word), "{}:{number}: `{word}` in: {line}", shown(&path));
            }
        }
    }
}

#[test]
fn every_dependency_has_its_reason() {
    for member in ["engine", "server", "benches", "tests", "tests/fuzz"] {
        let manifest = read(&root().join(member).join("Cargo.toml"));
        let (mut within, mut before) = (false, "");
        for line in manifest.lines() {
            if line.starts_with('[') {
                within = line.contains("dependencies");
            } else if within && line.contains('=') && !line.starts_with('#') && !line.contains("path =") {
                // Several that have one reason stand below it together.
                let reason = before.starts_with('#') || before.contains('=');
                assert!(reason, "{member}/Cargo.toml: why is it there? {line}");
            }
            before = line;
        }
    }
}

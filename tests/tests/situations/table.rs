//! The table itself: whatever stands in it is shown by some test, and whatever is told stands in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proxylink::situation::{Severity, Situation};

/// Crates whose programs tell situations.
const CRATES: [&str; 9] = [
    "command-line",
    "license",
    "proxyclient",
    "proxydaemon",
    "proxylink",
    "proxyserver",
    "relay",
    "seonapi-backend",
    "verification",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All files below with one of these endings.
fn files(directory: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten().map(|entry| entry.path()) {
        if entry.is_dir() {
            files(&entry, endings, found);
        } else if entry.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| endings.contains(&ending)) {
            found.push(entry);
        }
    }
}

/// What tests say: scenarios, tests of the crates, tables of certificates, and the tests within sources.
fn of_tests() -> String {
    let mut found = Vec::new();
    files(&root().join("tests/tests"), &["rs"], &mut found);
    found.retain(|file| !file.ends_with("situations/table.rs"));
    files(&root().join("tests/certificates"), &["txt"], &mut found);
    for name in CRATES {
        files(&root().join(name).join("tests"), &["rs"], &mut found);
    }
    let mut said: Vec<String> = found.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    for file in of_sources() {
        let text = fs::read_to_string(&file).unwrap();
        let is_of_tests = file.file_stem().is_some_and(|name| name == "tests");
        let tests =
            if is_of_tests { Some(text.as_str()) } else { text.split_once("#[cfg(test)]").map(|(_, tests)| tests) };
        // The table's own tests show nothing.
        said.extend(tests.filter(|_| !file.ends_with("proxylink/src/situation.rs")).map(str::to_owned));
    }
    said.join("\n")
}

fn of_sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    CRATES.iter().for_each(|name| files(&root().join(name).join("src"), &["rs"], &mut found));
    found
}

/// Whether the word stands there by itself, and not as a part of another one.
fn has_word(text: &str, word: &str) -> bool {
    let of_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(of_word) && !after.is_some_and(of_word)
    })
}

#[test]
fn each_situation_is_raised_by_a_test() {
    let tests = of_tests();
    let unshown: Vec<_> = Situation::ALL
        .iter()
        .filter(|situation| {
            !has_word(&tests, situation.code()) && !has_word(&tests, &format!("Situation::{situation:?}"))
        })
        .map(|situation| situation.code())
        .collect();
    assert!(unshown.is_empty(), "no test raises these situations: {unshown:?}");
}

#[test]
fn each_situation_is_told_somewhere() {
    let sources: String = of_sources()
        .iter()
        .filter(|file| !file.ends_with("proxylink/src/situation.rs"))
        .filter(|file| file.file_stem().is_none_or(|name| name != "tests"))
        .map(|file| fs::read_to_string(file).unwrap())
        .map(|text| text.split("#[cfg(test)]").next().unwrap_or_default().to_owned())
        .collect();
    let told = |situation: &&Situation| {
        has_word(&sources, &format!("Situation::{situation:?}"))
            || sources.contains(&format!("\"{}\"", situation.code()))
    };
    let unused: Vec<_> = Situation::ALL.iter().filter(|situation| !told(situation)).map(|one| one.code()).collect();
    assert!(unused.is_empty(), "nothing tells these situations: {unused:?}");
}

/// Crate proxydaemon does not know the table; what it tells with a code stands in it all the same.
#[test]
fn every_code_that_is_told_by_name_stands_in_the_table() {
    let mut codes = BTreeSet::new();
    let mut sources = Vec::new();
    files(&root().join("proxydaemon/src"), &["rs"], &mut sources);
    for file in sources {
        let text = fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for mark in ["code = \"", "of_gate(Some(\"", "origin(Some(\""] {
            codes.extend(text.split(mark).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned));
        }
    }
    assert!(codes.len() >= 3, "{codes:?}");
    for code in codes {
        assert!(Situation::by_code(&code).is_some(), "{code}");
    }
}

#[test]
fn what_is_wrong_comes_with_advice() {
    for situation in Situation::ALL {
        let advice = situation.advice();
        let is_wrong = matches!(situation.severity(), Severity::Error | Severity::Fatal);
        assert!(!(is_wrong && advice == "Nothing to do."), "{situation}");
        assert_ne!(advice, situation.sentence(), "{situation}");
    }
}

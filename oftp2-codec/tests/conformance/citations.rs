//! Every section of RFC 5024 that the sources cite exists, and each command's file cites its own.

use crate::corpus;
use oftp2_codec::{Deviation, command::CommandName};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The sections of RFC 5024 that this crate may cite, as its table of contents has them.
fn sections() -> BTreeSet<String> {
    let mut sections: BTreeSet<String> = [
        "1", "1.1", "1.2", "1.3", "1.4", "1.5", "1.5.1", "1.5.2", "1.5.3", "1.5.4", "1.6", "1.7", "2", "2.1", "2.2",
        "2.3", "2.4", "3", "3.1", "3.2", "3.2.1", "3.3", "3.3.1", "3.3.2", "3.3.3", "3.3.4", "3.3.4.1", "3.3.5", "3.4",
        "3.4.1", "3.4.2", "4", "4.1", "4.2", "4.2.1", "4.2.2", "4.3", "4.3.3", "4.3.4", "4.3.6", "4.3.7", "4.3.8",
        "4.4", "4.5", "4.6", "4.7", "4.7.2", "5", "5.1", "5.2", "5.3", "5.4", "6", "6.1", "6.2", "6.5", "7", "7.1",
        "7.2", "7.3", "8", "8.1", "8.2", "10", "10.1", "10.2", "10.3", "10.4", "11",
    ]
    .into_iter()
    .map(str::to_owned)
    .collect();
    sections.extend((1..=18).map(|number| format!("5.3.{number}")));
    sections.extend((1..=12).map(|number| format!("9.{number}")));
    sections
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .unwrap()
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { sources(&path) } else { vec![path] }
        })
        .collect()
}

/// What stands behind each `RFC 5024, ` up to the first character that no section number has.
fn cited(text: &str) -> Vec<String> {
    text.split("RFC 5024, ")
        .skip(1)
        .map(|behind| behind.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect::<String>())
        .map(|section| section.trim_end_matches('.').to_owned())
        .filter(|section| !section.is_empty())
        .collect()
}

#[test]
fn every_cited_section_exists() {
    let sections = sections();
    let mut citations = 0;
    for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        for section in cited(&fs::read_to_string(&path).unwrap()) {
            assert!(sections.contains(&section), "{} cites RFC 5024, {section}", path.display());
            citations += 1;
        }
    }
    assert!(citations > 100, "only {citations} citations found");
}

#[test]
fn the_file_of_a_command_cites_its_section() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/command");
    for command in CommandName::ALL {
        let text = fs::read_to_string(folder.join(format!("{}.rs", command.as_str().to_lowercase()))).unwrap();
        let first = text.lines().next().unwrap();
        assert!(first.contains(&format!("(RFC 5024, {}).", command.section())), "{command}: {first}");
    }
    assert_eq!(sources(&folder).len(), CommandName::ALL.len());
}

/// The comments of a file, each in one line.
fn comments(text: &str) -> Vec<String> {
    let mut comments: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in text.lines() {
        match line.trim().strip_prefix("// ") {
            Some(comment) if goes_on && !comment.starts_with("Tolerated:") => {
                let last = comments.last_mut().unwrap();
                last.push(' ');
                last.push_str(comment);
            }
            Some(comment) => comments.push(comment.to_owned()),
            None => {}
        }
        goes_on = line.trim().starts_with("// ");
    }
    comments
}

#[test]
fn what_is_tolerated_is_numbered_and_shown() {
    let cases = corpus::text("dialogues", "odd");
    let mut numbered = BTreeSet::new();
    for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        for comment in comments(&fs::read_to_string(&path).unwrap()) {
            if !comment.starts_with("Tolerated:") {
                continue;
            }
            let numbers: Vec<&str> =
                comment.split(['(', ')', ',', ' ', '.', ';']).filter(|word| is_number(word)).collect();
            assert!(!numbers.is_empty(), "{}: {comment}", path.display());
            for number in numbers {
                assert!(cases.contains(number), "{number} has no case");
                numbered.insert(number.to_owned());
            }
        }
    }
    for deviation in Deviation::ALL {
        assert!(numbered.contains(deviation.number()), "no comment says where {deviation} is tolerated");
    }
}

fn is_number(word: &str) -> bool {
    word.strip_prefix('D').is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|octet| octet.is_ascii_digit()))
}

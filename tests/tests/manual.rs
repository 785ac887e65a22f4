//! Manual pages and completions are what the programs are.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::manual::{self, PROGRAMS};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn what_follows_from_the_programs_is_as_they_are() {
    for wanted in manual::wanted(&root()).unwrap() {
        let there = std::fs::read_to_string(root().join(&wanted.path)).unwrap_or_default();
        assert!(there == wanted.content, "{} is not up to date: run `cargo manual`", wanted.path.display());
    }
}

#[test]
fn every_option_of_every_program_is_in_its_page_and_in_all_completions() {
    for (program, section) in PROGRAMS {
        let text = |path: String| {
            std::fs::read_to_string(root().join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"))
        };
        let page = text(format!("docs/man/{program}.{section}"));
        let completions = [format!("{program}.bash"), format!("_{program}"), format!("{program}.fish")];
        let completions = completions.map(|file| text(format!("etc/completions/{file}")));
        for command in manual::Command::of(program).unwrap().all() {
            for option in &command.options {
                let long = option.long().unwrap_or_else(|| panic!("{program}: {:?} has no long name", option.names));
                assert!(page.contains(&format!("\\-\\-{}", long.replace('-', "\\-"))), "{program}: --{long}");
                assert!(completions.iter().all(|completion| completion.contains(long)), "{program}: --{long}");
            }
        }
    }
}

/// What the formatter finds wrong, where there is one.
#[test]
fn the_pages_are_well_formed() {
    if Command::new("groff").arg("--version").output().is_err() {
        println!("skipped: there is no groff here");
        return;
    }
    let pages: Vec<_> = std::fs::read_dir(root().join("docs/man")).unwrap().map(|page| page.unwrap().path()).collect();
    assert!(pages.len() >= 7, "{pages:?}");
    for page in pages {
        let said = Command::new("groff").args(["-man", "-Tutf8", "-ww", "-z"]).arg(&page).output().unwrap();
        let told = String::from_utf8_lossy(&said.stderr);
        assert!(said.status.success() && told.is_empty(), "{}: {told}", page.display());
        let text = std::fs::read_to_string(&page).unwrap();
        for section in [".SH NAME", ".SH DESCRIPTION", ".SH SEE ALSO"] {
            assert!(text.contains(section), "{}: {section}", page.display());
        }
    }
}

#[test]
fn bash_completes_subcommands_options_and_values() {
    if Command::new("bash").arg("--version").output().is_err() {
        println!("skipped: there is no bash here");
        return;
    }
    let completed = |program: &str, words: &[&str]| {
        let script = format!(
            "source etc/completions/{program}.bash; COMP_WORDS=({program} {}); COMP_CWORD={}; _{program}; echo \"${{COMPREPLY[*]}}\"",
            words.join(" "),
            words.len()
        );
        let said = Command::new("bash").args(["-c", &script]).current_dir(root()).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8(said.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(completed("seon_backend", &["token", "n"]), "new");
    assert_eq!(completed("seon_backend", &["events", "--format", "j"]), "json");
    assert_eq!(completed("seon_proxyserver2", &["--lic"]), "--licence");
    assert_eq!(completed("seon_proxyclient2", &["explain", "--cert"]), "--certificate");
    assert_eq!(completed("seon_license", &["ch"]), "check");
}

/// zsh and fish read their files without complaint, where they are.
#[test]
fn zsh_and_fish_can_read_their_completions() {
    for (program, _) in PROGRAMS {
        for (shell, file) in [("zsh", format!("_{program}")), ("fish", format!("{program}.fish"))] {
            let path = root().join("etc/completions").join(file);
            match Command::new(shell).arg("-n").arg(&path).output() {
                Ok(said) => assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr)),
                Err(_) => println!("skipped: there is no {shell} here"),
            }
        }
    }
}

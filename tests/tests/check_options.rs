//! The command lines of the built programs: mistakes, help, version.

use std::process::{Command, Output};

use tests::harness::binary;

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(binary(program).unwrap()).args(arguments).output().unwrap()
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

const PROGRAMS: [&str; 4] = ["seon_proxyserver2", "seon_proxyclient2", "seon_backend", "seon_license"];

#[test]
fn all_mistakes_of_a_command_line_are_told_together() {
    let lines: [(&str, &[&str], &[&str]); 4] = [
        (
            "seon_proxyserver2",
            &["-i", "2878", "--wrong", "-x", "-l"],
            &["an address has the form [IP]:PORT", "'--wrong'", "'-x'", "'--licence <FILE>'"],
        ),
        (
            "seon_proxyclient2",
            &["-d", "-S", "dmz1:x", "--poll-interval", "0", "-T", "@/nowhere/token"],
            &["\"dmz1:x\"", "1 to 3600", "/nowhere/token", "-U URL|@FILE"],
        ),
        ("seon_backend", &["serve", "--listen", "x", "--wrong"], &["'x' for '--listen", "'--wrong'"]),
        (
            "seon_license",
            &["issue", "--from", "tomorrow", "--client", "x", "--wrong"],
            &["'tomorrow' for '--from", "'x' for '--client", "'--wrong'", "--until"],
        ),
    ];
    for (program, arguments, expected) in lines {
        let output = run(program, arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{program}: {said}");
        for part in expected {
            let telling: Vec<_> = said.lines().filter(|line| line.contains(part)).collect();
            assert!(!telling.is_empty(), "{program}: {part} in:\n{said}");
        }
        let mistakes = said.lines().filter(|line| line.starts_with(&format!("{program}: "))).count();
        assert_eq!(mistakes, expected.len(), "{program}:\n{said}");
        assert_eq!(said.matches("Usage: ").count(), 1, "{program}:\n{said}");
    }
}

#[test]
fn help_ends_with_the_exit_codes_and_sets_additions_apart() {
    for program in PROGRAMS {
        let output = run(program, &["--help"]);
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{program}");
        let (_, table) = said.split_once("Exit codes:").unwrap_or_else(|| panic!("{program}:\n{said}"));
        for code in command_line::exit::ExitCode::ALL.iter().filter(|code| code.is_of_a_program()) {
            let line = format!("{:>2}  {}", code.number(), code.sentence());
            assert!(table.contains(&line), "{program}: {line} in:\n{table}");
        }
    }
    for (program, original, ours) in [
        ("seon_proxyserver2", &["-v", "-i", "-L", "-l", "-V", "-h"][..], &["-d", "-u", "--state-dir"][..]),
        ("seon_proxyclient2", &["-U", "-S", "-T", "-v", "-d", "-h"], &["-u", "--ca-file", "--pid-file"]),
    ] {
        let said = text(&run(program, &["-h"]).stdout);
        let (before, after) = said.split_once("Beyond the original:").unwrap_or_else(|| panic!("{program}:\n{said}"));
        let has = |part: &str, option: &str| part.lines().any(|line| line.trim_start().starts_with(option));
        for option in original {
            assert!(has(before, option) && !has(after, option), "{program} {option}:\n{said}");
        }
        for option in ours {
            assert!(has(after, option) && !has(before, option), "{program} {option}:\n{said}");
        }
    }
}

#[test]
fn the_version_has_name_build_date_and_version() {
    for program in PROGRAMS {
        let option = if program.starts_with("seon_proxy") { "-v" } else { "--version" };
        let output = run(program, &[option]);
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{program}");
        let rest = said.strip_prefix(program).unwrap_or_else(|| panic!("{said}"));
        let (date, version) = rest.trim().trim_start_matches(", ").split_once(", version ").unwrap();
        let date = date.strip_prefix("built ").unwrap();
        assert!(date.len() == 10 && date.split('-').all(|part| part.parse::<u16>().is_ok()), "{said}");
        assert_eq!(version, env!("CARGO_PKG_VERSION"), "{said}");
    }
}

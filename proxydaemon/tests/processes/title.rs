//! What the process list shows.

use proxydaemon::Pid;
use proxydaemon::title::{prepare, program_of, set_title, wipe_arguments};

use crate::Test;

pub const TESTS: &[Test] = tests![secrets_leave_the_process_list, a_title_is_cut_at_the_room_there_is];

const SECRET: &str = "sesame-0123456789";

fn secrets_leave_the_process_list() {
    let output = crate::program("title::program_with_secrets")
        .args(["-T", SECRET, "-U", "https://user:sesame-0123456789@backend/"])
        .env("SOME_SECRET", SECRET)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What `/proc/self/NAME` shows, with its zeros as line breaks.
fn shown(name: &str) -> String {
    String::from_utf8(std::fs::read(format!("/proc/self/{name}")).unwrap()).unwrap().replace('\0', "\n")
}

pub fn program_with_secrets() {
    assert!(shown("cmdline").contains(SECRET) && shown("environ").contains(SECRET));
    let environment: Vec<_> = std::env::vars_os().collect();
    prepare().unwrap();
    assert_eq!(std::env::vars_os().collect::<Vec<_>>(), environment);

    wipe_arguments("seon_test2").unwrap();
    assert_eq!(shown("cmdline").trim_end(), "seon_test2");
    assert_eq!(shown("comm").trim_end(), "seon_test2");
    assert!(!shown("environ").contains(SECRET));
    assert_eq!(std::env::var("SOME_SECRET").unwrap(), SECRET);
    assert_eq!(std::env::vars_os().collect::<Vec<_>>(), environment);

    // Longer than the command line was, shorter, and of exactly its length.
    let arguments = std::fs::read("/proc/self/cmdline").unwrap().len();
    for title in [
        format!("seon_test2: session {}", "p".repeat(arguments)),
        "seon_test2: gate".to_owned(),
        format!("seon_test2: {}", "x".repeat(arguments - 12)),
        format!("seon_test2: {}", "x".repeat(arguments - 13)),
    ] {
        set_title(&title);
        assert_eq!(shown("cmdline").trim_end_matches('\n'), title);
        let role: String = title["seon_test2: ".len()..].chars().take(15).collect();
        assert_eq!(shown("comm").trim_end(), role.trim_end());
        assert_eq!(program_of(Pid::this()).unwrap(), "seon_test2");
    }
    assert_eq!(std::env::var("SOME_SECRET").unwrap(), SECRET);
}

fn a_title_is_cut_at_the_room_there_is() {
    assert!(wipe_arguments("seon_test2").is_err(), "not prepared");
    prepare().unwrap();
    set_title(&"t".repeat(1 << 20));
    let line = std::fs::read("/proc/self/cmdline").unwrap();
    assert!(!line.is_empty() && line.len() < 1 << 20 && line.iter().all(|octet| [b't', 0].contains(octet)));
    assert!(std::env::var(crate::TEST).unwrap().contains("a_title_is_cut"));
}

//! The backend's own log: where it is, and what is written to it.

use std::fs;

use chrono::Local;
use nix::sys::signal::Signal;

use crate::backend::Folder;

#[tokio::test]
async fn the_log_goes_into_the_configured_file_of_the_day() {
    let folder = Folder::new();
    folder.change_config("[backend]", "[backend]\nlog_file = \"backend.log\"");
    let before = Local::now().date_naive();
    let serving = folder.serve();
    folder.client(&serving, &folder.token("inside1")).config(None).await.unwrap();
    assert_eq!(serving.end(Signal::SIGTERM), Some(0));
    // The test may run over midnight.
    let files = [before, Local::now().date_naive()].map(|day| folder.path(&format!("backend-{day}.log")));
    let said: String = files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    for part in [" INFO listening on 127.0.0.1:", " ACCESS 127.0.0.1:", " INFO ending\n"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_log_file_whose_folder_is_not_there_is_told_with_its_place() {
    let folder = Folder::new();
    folder.change_config("[backend]", "[backend]\nlog_file = \"nowhere/backend.log\"\nlog_level = \"info\"");
    let (good, said) = folder.check();
    let line = 1 + folder.config().lines().position(|line| line.starts_with("log_file")).unwrap();
    assert!(
        !good
            && said
                .contains(&format!("b/seon_backend.toml:{line}: backend.log_file: the folder b/nowhere is not there")),
        "{said}"
    );
    folder.change_config("nowhere/backend.log", "https");
    let (good, said) = folder.check();
    assert!(!good && said.contains("backend.log_file: https is no file"), "{said}");
    folder.change_config("log_file = \"https\"", "");
    folder.change_config("\"info\"", "\"loud\"");
    let (good, said) = folder.check();
    assert!(!good && said.contains("backend.log_level: unknown variant `loud`"), "{said}");
}

#[tokio::test]
async fn the_level_is_that_of_the_configuration_until_a_signal_chooses_another() {
    let folder = Folder::new();
    folder.change_config("[backend]", "[backend]\nlog_level = \"warn\"");
    let token = folder.token("inside1");
    let serving = folder.serve();
    serving.signal(Signal::SIGTTIN);
    serving.wait_for("DEBUG log level DEBUG, by signal 21 of process");
    for (signal, said) in [
        (Signal::SIGTSTP, "TRACE log level TRACE, by signal 20"),
        (Signal::SIGTTOU, "INFO log level INFO, by signal 22"),
        (Signal::SIGXCPU, "FATAL log level FATAL, by signal 24"),
        (Signal::SIGURG, "ERROR log level ERROR, by signal 23"),
    ] {
        serving.signal(signal);
        serving.wait_for(said);
    }
    // A changed configuration is told at INFO, which is not heard at ERROR; the new level is.
    folder.change_config("log_level = \"warn\"", "log_level = \"debug\"");
    folder.client(&serving, &token).config(None).await.unwrap();
    serving.wait_for("DEBUG log level DEBUG, by the configuration");
    assert_eq!(serving.count("INFO listening on", "by the configuration"), 0);
}

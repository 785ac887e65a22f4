//! The ignore list: what it takes, and what becomes of entries whose time is over.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use seonapi_client::{Component, Event, EventsTaken, Severity};

use crate::backend::{Folder, text};
use crate::operations::event;

/// What stands in the system log, as JSON.
fn listed(folder: &Folder) -> Vec<Event> {
    let output = folder.run(&["events", "--format", "json", "--config", "b/seon_backend.toml"]);
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn an_ignored_event_is_only_logged_with_how_many_there_were() {
    let folder = Folder::new();
    let token = folder.token("inside1");
    let rules = "[[backend.ignore]]\ntext = \"Link DOWN\"\n[[backend.ignore]]\ntext = \"not yet\"\n\
        from = \"9000-01-01T00:00:00Z\"\n\n[identity]";
    folder.change_config("[identity]", rules);
    let serving = folder.serve();
    let api = folder.client(&serving, &token);
    let events = [event(1, "the link down\\nagain"), event(2, "not yet"), event(3, "LINK DOWN")];
    let taken = api.add_events(&events).await.unwrap();
    assert_eq!(taken, EventsTaken { stored: 1, ignored: 2, duplicate: 0 });
    let line = serving.wait_for("ignored event 00000000-0000-4000-8000-000000000001");
    assert!(line.contains(" INFO ") && line.ends_with(": the link down\\nagain (\"Link DOWN\", 1 so far)"), "{line}");
    let line = serving.wait_for("ignored event 00000000-0000-4000-8000-000000000003");
    assert!(line.ends_with("(\"Link DOWN\", 2 so far)"), "{line}");
    assert_eq!(listed(&folder), [event(2, "not yet")]);
}

#[tokio::test]
async fn an_entry_whose_time_is_over_is_removed_with_a_line_in_the_system_log() {
    let folder = Folder::new();
    let before = folder.config();
    let over = "[[backend.ignore]]\ntext = \"over\"  # for the works on the line\nuntil = \"2000-01-01T00:00:00Z\"\n";
    let rules = format!("[[backend.ignore]]\ntext = \"for ever\"\n{over}# a remark\n[identity]");
    folder.change_config("[identity]", &rules);
    fs::set_permissions(folder.path("seon_backend.toml"), Permissions::from_mode(0o640)).unwrap();
    let serving = folder.serve();
    let line = serving.wait_for("ignore-entry-expired");
    assert!(line.contains(" INFO ") && line.contains("\\\"over\\\" was good until 2000-01-01T00:00:00Z"), "{line}");
    serving.wait_for("the configuration has changed; the new one is in force");
    let expected = before.replacen("[identity]", "[[backend.ignore]]\ntext = \"for ever\"\n# a remark\n[identity]", 1);
    assert_eq!(folder.config(), expected);
    let mode = fs::metadata(folder.path("seon_backend.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let told = listed(&folder);
    assert_eq!(told.len(), 1);
    assert_eq!(
        (told[0].code.as_deref(), told[0].severity, told[0].component),
        (Some("ignore-entry-expired"), Severity::Info, Component::Backend)
    );
    // What it would have taken is stored again.
    let taken = folder.client(&serving, &folder.token("inside1")).add_events(&[event(1, "over")]).await.unwrap();
    assert_eq!(taken, EventsTaken { stored: 1, ignored: 0, duplicate: 0 });
}

#[tokio::test]
async fn an_entry_that_cannot_be_taken_out_of_the_file_counts_no_more_and_is_told_once() {
    let folder = Folder::new();
    let inline = "[backend]\nignore = [{ text = \"over\", until = \"2000-01-01T00:00:00Z\" }, { text = \"x\" }]";
    folder.change_config("[backend]", inline);
    let before = folder.config();
    for _ in 0..2 {
        let serving = folder.serve();
        let line = serving.wait_for("\"over\" counts no more, but still stands in");
        assert!(line.contains(" WARN ") && line.ends_with("remove it by hand"), "{line}");
    }
    assert_eq!(folder.config(), before);
    assert_eq!(listed(&folder).len(), 1);
}

#[tokio::test]
async fn nobody_speaks_for_the_backend_itself() {
    let folder = Folder::new();
    let serving = folder.serve();
    let mut false_one = event(1, "all is well");
    false_one.component = Component::Backend;
    let body = format!("{{\"events\": [{}]}}", serde_json::to_string(&false_one).unwrap());
    let answer = folder.call(&serving, "POST /proxy/v1/events", &folder.token("inside1"), &body);
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("events[0].component"), "{answer}");
    assert!(listed(&folder).is_empty());
}

//! The system log on the command line: which events are listed, and what administrators make of them.

use nix::unistd::{User, getuid};
use seonapi_client::{Event, Severity};
use serde_json::Value;

use crate::backend::{Folder, text};
use crate::operations::event;

/// Runs `seon_backend events` with these arguments, which must be good.
fn events(folder: &Folder, arguments: &[&str]) -> String {
    let place = ["--config", "b/seon_backend.toml"];
    let output = folder.run(&[&["events"], arguments, &place].concat());
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    text(&output.stdout)
}

fn numbers(folder: &Folder, arguments: &[&str]) -> Vec<i64> {
    let listed = events(folder, &[arguments, &["--format", "json"]].concat());
    listed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["number"].as_i64().unwrap()).collect()
}

/// Four events: of different days, severities and partners.
async fn four() -> Folder {
    let folder = Folder::new();
    let serving = folder.serve();
    let made = |number: u32, time: &str, severity, partner: Option<&str>, code: &str| Event {
        time: time.parse().unwrap(),
        severity,
        partner: partner.map(str::to_owned),
        code: Some(code.to_owned()),
        ..event(number, "told")
    };
    let all = [
        made(1, "2026-03-01T00:00:00Z", Severity::Info, None, "link-up"),
        made(2, "2026-03-01T23:59:59.999Z", Severity::Error, Some("ACME"), "link-down"),
        made(3, "2026-03-02T00:00:00Z", Severity::Fatal, None, "licence-expired"),
        made(4, "2026-03-03T12:00:00Z", Severity::Error, Some("acme' OR '1'='1"), "link-down"),
    ];
    folder.client(&serving, &folder.token("inside1")).add_events(&all).await.unwrap();
    folder
}

#[tokio::test]
async fn events_are_chosen_by_time_severity_partner_and_code() {
    let folder = four().await;
    for (arguments, expected) in [
        (&[][..], &[1, 2, 3, 4][..]),
        (&["--from", "2026-03-02"], &[3, 4]),
        (&["--to", "2026-03-01"], &[1, 2]),
        (&["--from", "2026-03-01T23:59:59.999Z", "--to", "2026-03-02T01:00:00+01:00"], &[2, 3]),
        (&["--severity", "error"], &[2, 4]),
        (&["--severity", "info,fatal"], &[1, 3]),
        (&["--severity", "info", "--severity", "fatal"], &[1, 3]),
        (&["--partner", "ACME"], &[2]),
        (&["--partner", "acme' OR '1'='1"], &[4]),
        (&["--partner", "nobody"], &[]),
        (&["--code", "link-down", "--from", "2026-03-02"], &[4]),
        (&["--last", "2"], &[3, 4]),
        (&["--state", "new", "--severity", "fatal"], &[3]),
        (&["--state", "closed"], &[]),
    ] {
        assert_eq!(numbers(&folder, arguments), expected, "{arguments:?}");
    }
    let cut = folder.run(&["events", "--last", "3", "--config", "b/seon_backend.toml"]);
    assert!(text(&cut.stderr).contains("1 older event(s) are not listed"), "{cut:?}");
}

#[test]
fn a_wrong_choice_is_told_with_what_was_expected() {
    let folder = Folder::new();
    let output = folder.run(&["events", "--database", "b/none.sqlite"]);
    assert!(
        output.status.code() == Some(1) && text(&output.stderr).contains("there is no database b/none.sqlite"),
        "{output:?}"
    );
    assert!(!folder.path("none.sqlite").exists());
    folder.token("inside1");
    for (arguments, code, said) in [
        (&["--from", "yesterday"][..], 2, "2026-03-01 or 2026-03-01T12:00:00Z expected"),
        (&["--severity", "warning"], 2, "info, error or fatal expected"),
        (&["--format", "xml"], 2, "text, json"),
        (&["--from", "2026-03-02", "--to", "2026-03-01"], 1, "--from is later than --to"),
        (&["set-state", "1", "done"], 2, "new, in-review, closed"),
        (&["set-state", "1"], 2, "Usage: seon_backend events set-state [OPTIONS] <ID> <STATE>"),
        (&["set-state", "1", "closed", "--note", ""], 2, "1 to 2000 characters expected"),
        (&["set-state", "1", "closed"], 1, "there is no event \"1\"; `seon_backend events` shows the number of each"),
        (&["show", "00000000-0000-4000-8000-000000000001"], 1, "there is no event"),
    ] {
        let output = folder.run(&[&["events"], arguments, &["--config", "b/seon_backend.toml"]].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        assert!(text(&output.stderr).contains(said), "{arguments:?}: {output:?}");
    }
}

#[tokio::test]
async fn the_state_of_an_event_is_kept_with_who_when_and_why() {
    let folder = four().await;
    let by_number = events(&folder, &["set-state", "2", "in-review", "--note", "called ACME\u{1b}"]);
    assert!(by_number.starts_with("2 in review 2026-03-01T23:59:59.999Z ERROR "), "{by_number}");
    let by_id = events(&folder, &["set-state", "00000000-0000-4000-8000-000000000002", "closed"]);
    assert!(by_id.starts_with("2 closed    "), "{by_id}");
    assert_eq!(numbers(&folder, &["--state", "new"]), [1, 3, 4]);
    events(&folder, &["set-state", "3", "in review"]);
    assert_eq!(numbers(&folder, &["--state", "in-review,closed"]), [2, 3]);

    let user = User::from_uid(getuid()).unwrap().map_or_else(|| getuid().to_string(), |user| user.name);
    let shown = events(&folder, &["show", "2"]);
    assert!(shown.contains(&format!(" in review by {user}: called ACME\\u{{1b}}\n")), "{shown}");
    assert!(shown.contains(&format!(" closed by {user}\n")), "{shown}");
    let json: Value = serde_json::from_str(&events(&folder, &["show", "2", "--format", "json"])).unwrap();
    assert_eq!(json["state"], "closed");
    let reviews: Vec<_> =
        json["reviews"].as_array().unwrap().iter().map(|one| one["state"].as_str().unwrap()).collect();
    assert_eq!(reviews, ["in review", "closed"]);
    assert!(json["reviews"][0]["time"].as_str().unwrap().ends_with('Z') && json["reviews"][0]["who"] == user.as_str());
}

#[tokio::test]
async fn a_message_is_shown_whole_and_escaped() {
    let folder = Folder::new();
    let serving = folder.serve();
    let long = "x".repeat(4000);
    folder.client(&serving, &folder.token("t")).add_events(&[event(1, &format!("{long}\\n\\u001b[2J"))]).await.unwrap();
    let shown = events(&folder, &["show", "1"]);
    assert!(shown.contains(&format!("message    {long}\\n\\u{{1b}}[2J\n")), "{shown}");
}

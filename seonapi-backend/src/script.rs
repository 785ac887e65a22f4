//! The event script: started for each new event of severity `error` or `fatal`, one after the other.
//!
//! It gets the event as one JSON object on its standard input, and severity and code in `SEON_EVENT_SEVERITY` and
//! `SEON_EVENT_CODE`. What it prints goes where the backend's own log goes.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use seonapi_client::{Event, Severity};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::journal::say;

/// Longest run of the script; it mails or calls somebody, and must not pile up.
const LONGEST_RUN: Duration = Duration::from_secs(60);
/// Events that may wait for it; more are left out, and told.
const WAITING: usize = 1000;

/// Hands events to the script.
#[derive(Clone)]
pub struct Script(mpsc::Sender<(PathBuf, Event)>);

impl Script {
    /// Begins to wait for events.
    pub fn start() -> Self {
        let (sender, mut waiting) = mpsc::channel::<(PathBuf, Event)>(WAITING);
        tokio::spawn(async move {
            while let Some((script, event)) = waiting.recv().await {
                if let Err(reason) = run(&script, &event).await {
                    say("ERROR", format_args!("event script {} for event {}: {reason}", script.display(), event.id));
                }
            }
        });
        Self(sender)
    }

    /// Starts the script for those of the events that it is for, after the ones that wait.
    pub fn tell(&self, script: &Path, events: impl Iterator<Item = Event>) {
        let left_out = events
            .filter(|event| matches!(event.severity, Severity::Error | Severity::Fatal))
            .filter_map(|event| self.0.try_send((script.to_owned(), event)).err())
            .count();
        if left_out > 0 {
            say("ERROR", format_args!("the event script is too slow: it was not started for {left_out} event(s)"));
        }
    }
}

async fn run(script: &Path, event: &Event) -> Result<(), String> {
    let json = serde_json::to_vec(event).map_err(|error| error.to_string())?;
    let severity = if event.severity == Severity::Fatal { "fatal" } else { "error" };
    let mut child = Command::new(script)
        .env("SEON_EVENT_SEVERITY", severity)
        .env("SEON_EVENT_CODE", event.code.as_deref().unwrap_or_default().replace('\0', ""))
        .stdin(Stdio::piped())
        // Standard output belongs to what `serve` says to its starter.
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("it cannot be started: {error}"))?;
    let input = child.stdin.take();
    let whole_run = async {
        if let Some(mut input) = input {
            // A script need not read it.
            let _ = input.write_all(&json).await;
        }
        child.wait().await
    };
    match timeout(LONGEST_RUN, whole_run).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("it failed: {status}")),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("it was ended after {} s", LONGEST_RUN.as_secs())),
    }
}

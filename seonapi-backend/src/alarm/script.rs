//! The event script: a program that is started for one event, never through a shell.
//!
//! It gets the members of the event in its environment, as `SEON_EVENT_` and the name in capitals (empty where the event
//! has none, NUL left out), and the whole event as one JSON object on its standard input. What it prints stands in the
//! backend's own log. When its time is over it is killed, with all that it started in its process group.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::SecondsFormat;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use seonapi_client::{Component, Event, Severity};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Trouble, Waiting};
use crate::journal::{Level, escaped, say};

/// Most octets of what a run prints that are kept.
const OUTPUT: usize = 4096;
/// Most lines of it.
const LINES: usize = 20;
/// For output that is under way when the script has ended; what it left running may keep the pipe open for ever.
const LAST_OUTPUT: Duration = Duration::from_millis(500);

/// The event script.
pub struct Script {
    /// The program, by its whole path.
    pub program: PathBuf,
    /// Longest run.
    pub longest: Duration,
    /// Runs at once.
    pub at_once: usize,
}

impl Script {
    /// Runs it for an event, to its end.
    pub(super) async fn run(&self, waiting: &Waiting) -> Result<(), Trouble> {
        self.to_its_end(waiting).await.map_err(|reason| Trouble { reason, again: false })
    }

    async fn to_its_end(&self, waiting: &Waiting) -> Result<(), String> {
        let json = serde_json::to_vec(&waiting.event).map_err(|error| error.to_string())?;
        let mut command = Command::new(&self.program);
        command.envs(environment(waiting)).env_remove("CREDENTIALS_DIRECTORY").env_remove("NOTIFY_SOCKET");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| format!("it cannot be started: {error}"))?;
        let group = child.id();
        let printed = [child.stdout.take().map(Printed::collect), child.stderr.take().map(Printed::collect)];
        let ended = timeout(self.longest, feed_and_wait(&mut child, &json)).await;
        if ended.is_err() {
            kill_all(group, &mut child).await;
        }
        for printed in printed.into_iter().flatten() {
            printed.tell(&self.program.display().to_string(), waiting.number).await;
        }
        match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("it failed: {status}")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("it was ended after {} s", self.longest.as_secs())),
        }
    }
}

async fn feed_and_wait(child: &mut Child, json: &[u8]) -> std::io::Result<std::process::ExitStatus> {
    let input = child.stdin.take();
    let feed = async {
        if let Some(mut input) = input {
            // A script need not read it.
            let _ = input.write_all(json).await;
        }
    };
    // It may end without reading, and read without ending.
    let (status, ()) = tokio::join!(child.wait(), feed);
    status
}

async fn kill_all(group: Option<u32>, child: &mut Child) {
    if let Some(group) = group.and_then(|group| i32::try_from(group).ok()) {
        // It has ended in between where this fails.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    // Nothing more can be done to it than that.
    let _ = child.kill().await;
}

fn environment(waiting: &Waiting) -> impl Iterator<Item = (&'static str, String)> {
    let Event { id, time, severity, component, pid, host, code, message, session_id, partner, peer_address } =
        &waiting.event;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let severity = match severity {
        Severity::Info => "info",
        Severity::Error => "error",
        Severity::Fatal => "fatal",
    };
    let component = match component {
        Component::Proxyserver => "proxyserver",
        Component::Proxyclient => "proxyclient",
        Component::Backend => "backend",
    };
    let values = [
        ("SEON_EVENT_NUMBER", waiting.number.to_string()),
        ("SEON_EVENT_ID", id.to_string()),
        ("SEON_EVENT_TIME", time.to_rfc3339_opts(SecondsFormat::Millis, true)),
        ("SEON_EVENT_SEVERITY", severity.to_owned()),
        ("SEON_EVENT_COMPONENT", component.to_owned()),
        ("SEON_EVENT_PID", pid.to_string()),
        ("SEON_EVENT_HOST", text(host)),
        ("SEON_EVENT_CODE", text(code)),
        ("SEON_EVENT_MESSAGE", message.as_str().to_owned()),
        ("SEON_EVENT_SESSION_ID", text(session_id)),
        ("SEON_EVENT_PARTNER", text(partner)),
        ("SEON_EVENT_PEER_ADDRESS", text(peer_address)),
    ];
    values.into_iter().map(|(name, value)| (name, value.replace('\0', "")))
}

/// What a run prints on one of its two outputs.
struct Printed {
    kept: Arc<Mutex<Vec<u8>>>,
    reading: JoinHandle<()>,
}

impl Printed {
    /// Reads to the end, so that the script never waits for us, and keeps the beginning.
    fn collect(mut output: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keep = kept.clone();
        let reading = tokio::spawn(async move {
            let mut octets = [0; 1024];
            while let Ok(read @ 1..) = output.read(&mut octets).await {
                let mut keep = keep.lock().unwrap_or_else(PoisonError::into_inner);
                let room = OUTPUT.saturating_sub(keep.len());
                keep.extend(octets.iter().take(read.min(room)));
            }
        });
        Self { kept, reading }
    }

    async fn tell(mut self, program: &str, number: i64) {
        if timeout(LAST_OUTPUT, &mut self.reading).await.is_err() {
            self.reading.abort();
        }
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept);
        for line in text.lines().filter(|line| !line.trim().is_empty()).take(LINES) {
            say(Level::Info, format_args!("event script {program} for event {number} says: {}", escaped(line)));
        }
    }
}

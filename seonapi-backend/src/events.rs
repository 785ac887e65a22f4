//! The commands for the system log: listing it, and telling how far one is with an event.

use std::fmt::Write;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use clap::{Args, Subcommand};
use nix::unistd::{User, getuid};
use seonapi_client::{Event, Severity};

use crate::Failure;
use crate::journal::{escaped, legible};
use crate::listing::{print, shown, time};
use crate::options::{Form, Place};
use crate::store::{Entry, State, Wanted};
use crate::tokens::open;

/// Longest note.
const LONGEST_NOTE: usize = 2000;

/// The system log.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Events {
    /// What to do, where not to list.
    #[command(subcommand)]
    pub task: Option<EventsTask>,
    /// What to list.
    #[command(flatten)]
    pub list: ListEvents,
}

/// What to do with one event.
#[derive(Subcommand)]
pub enum EventsTask {
    /// Shows one event whole, with who set its state and why.
    Show {
        /// Its number, or its id.
        #[arg(value_name = "ID")]
        event: String,
        /// One JSON object instead of text.
        #[command(flatten)]
        form: Form,
        /// Where it is stored.
        #[command(flatten)]
        place: Place,
    },
    /// Tells how far you are with an event; kept with your name and the time.
    SetState {
        /// Its number, or its id.
        #[arg(value_name = "ID")]
        event: String,
        /// How far.
        #[arg(value_enum)]
        state: State,
        /// Why, for whoever looks at it later.
        #[arg(long, value_name = "TEXT", value_parser = note)]
        note: Option<String>,
        /// Where it is stored.
        #[command(flatten)]
        place: Place,
    },
}

/// Which events are listed.
#[derive(Args)]
pub struct ListEvents {
    /// Not earlier than this: 2026-03-01, which is the beginning of that day (UTC), or 2026-03-01T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = first_moment)]
    pub from: Option<DateTime<Utc>>,
    /// Not later than this; 2026-03-01 is the end of that day (UTC).
    #[arg(long, value_name = "TIME", value_parser = last_moment)]
    pub to: Option<DateTime<Utc>>,
    /// Of this severity only: info, error or fatal. May be repeated.
    #[arg(long, value_name = "SEVERITY", value_parser = severity, value_delimiter = ',')]
    pub severity: Vec<Severity>,
    /// About this partner only.
    #[arg(long, value_name = "NAME")]
    pub partner: Option<String>,
    /// With this code only, as link-down.
    #[arg(long, value_name = "CODE")]
    pub code: Option<String>,
    /// In this state only. May be repeated.
    #[arg(long, value_enum, value_name = "STATE", value_delimiter = ',')]
    pub state: Vec<State>,
    /// Not more than so many, the newest ones.
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    pub last: u32,
    /// Text or JSON.
    #[command(flatten)]
    pub form: Form,
    /// Where it is stored.
    #[command(flatten)]
    pub place: Place,
}

/// Does what the command line says.
pub fn run(events: Events) -> Result<(), Failure> {
    match events.task {
        None => list(events.list),
        Some(EventsTask::Show { event, form, place }) => {
            let entry = open(&place)?.event(&event)?;
            if form.is_json() { print(&format!("{}\n", serde_json::to_string(&entry)?)) } else { print(&whole(&entry)) }
        }
        Some(EventsTask::SetState { event, state, note, place }) => {
            let entry = open(&place)?.review(&event, state, &who(), note.as_deref())?;
            print(&format!("{}\n", line(&entry)))
        }
    }
}

fn list(options: ListEvents) -> Result<(), Failure> {
    let ListEvents { from, to, severity, partner, code, state, last, form, place } = options;
    if let (Some(from), Some(to)) = (from, to)
        && from > to
    {
        return Err("--from is later than --to".into());
    }
    let wanted = Wanted { from, to, severities: severity, partner, code, states: state };
    let (entries, older) = open(&place)?.events(&wanted, last)?;
    for entry in &entries {
        let text = if form.is_json() { serde_json::to_string(entry)? } else { line(entry) };
        print(&format!("{text}\n"))?;
    }
    if older > 0 {
        eprintln!("seon_backend: {older} older event(s) are not listed (--last)");
    }
    Ok(())
}

fn line(entry: &Entry) -> String {
    let Entry { number, state, event, .. } = entry;
    let severity = format!("{:?}", event.severity).to_uppercase();
    let component = format!("{:?}", event.component).to_lowercase();
    let mut line = format!("{number} {:9} {} {severity:5} {component}[{}]", state.name(), time(event.time), event.pid);
    for (name, value) in [("partner", &event.partner), ("peer", &event.peer_address), ("session", &event.session_id)] {
        if value.is_some() {
            line += &format!(" {name}={}", shown(value));
        }
    }
    let code = event.code.as_deref().map(|code| format!("{} ", escaped(code))).unwrap_or_default();
    line + &format!(" {code}{}", legible(event.message.as_str()))
}

fn whole(entry: &Entry) -> String {
    let Entry { number, state, received, token, event, reviews } = entry;
    let Event { id, time: at, severity, component, pid, host, code, message, session_id, partner, peer_address } =
        event;
    let (severity, component) = (format!("{severity:?}").to_lowercase(), format!("{component:?}").to_lowercase());
    let mut text = String::new();
    for (name, value) in [
        ("number", number.to_string()),
        ("id", id.to_string()),
        ("state", state.name().to_owned()),
        ("time", time(*at)),
        ("received", received.clone()),
        ("token", escaped(token)),
        ("severity", severity),
        ("component", format!("{component}[{pid}]")),
        ("host", shown(host)),
        ("code", shown(code)),
        ("partner", shown(partner)),
        ("peer", shown(peer_address)),
        ("session", shown(session_id)),
        // All of it, where a list shows its beginning.
        ("message", message.as_str().chars().flat_map(char::escape_debug).collect()),
    ] {
        // It cannot fail: it is a text that is written to.
        let _ = writeln!(text, "{name:10} {value}");
    }
    for review in reviews {
        let note = review.note.as_deref().map(|note| format!(": {}", note.escape_debug())).unwrap_or_default();
        let _ = writeln!(text, "{} {} by {}{note}", review.time, review.state.name(), escaped(&review.who));
    }
    text
}

/// The user who gives the command, and where it is root for somebody else, for whom.
fn who() -> String {
    let name = User::from_uid(getuid()).ok().flatten().map_or_else(|| getuid().to_string(), |user| user.name);
    match std::env::var("SUDO_USER") {
        Ok(behind) if getuid().is_root() && !behind.is_empty() => format!("{name} (sudo by {behind})"),
        _ => name,
    }
}

fn severity(text: &str) -> Result<Severity, String> {
    let known = [("info", Severity::Info), ("error", Severity::Error), ("fatal", Severity::Fatal)];
    let found = known.into_iter().find(|(name, _)| *name == text).map(|(_, severity)| severity);
    found.ok_or_else(|| "info, error or fatal expected".to_owned())
}

fn note(text: &str) -> Result<String, String> {
    match text.chars().count() {
        1..=LONGEST_NOTE => Ok(text.to_owned()),
        _ => Err(format!("1 to {LONGEST_NOTE} characters expected")),
    }
}

fn first_moment(text: &str) -> Result<DateTime<Utc>, String> {
    moment(text, |day| day.and_time(NaiveTime::MIN).and_utc())
}

fn last_moment(text: &str) -> Result<DateTime<Utc>, String> {
    moment(text, |day| {
        let next = day.checked_add_days(Days::new(1)).unwrap_or(day).and_time(NaiveTime::MIN).and_utc();
        // Times are kept to the millisecond.
        next - TimeDelta::milliseconds(1)
    })
}

fn moment(text: &str, of_day: impl Fn(NaiveDate) -> DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    match (DateTime::parse_from_rfc3339(text), text.parse::<NaiveDate>()) {
        (Ok(time), _) => Ok(time.to_utc()),
        (_, Ok(day)) => Ok(of_day(day)),
        _ => Err("2026-03-01 or 2026-03-01T12:00:00Z expected".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_with_its_first_moment_and_ends_with_its_last() {
        let shown = |time: Result<DateTime<Utc>, String>| crate::listing::time(time.unwrap());
        assert_eq!(shown(first_moment("2026-02-28")), "2026-02-28T00:00:00.000Z");
        assert_eq!(shown(last_moment("2026-02-28")), "2026-02-28T23:59:59.999Z");
        assert_eq!(shown(last_moment("2026-02-28T12:00:00+01:00")), "2026-02-28T11:00:00.000Z");
        for text in ["2026-02-29", "yesterday", "", "2026-02-28T12:00:00", "12:00"] {
            assert!(first_moment(text).is_err() && last_moment(text).is_err(), "{text}");
        }
    }
}

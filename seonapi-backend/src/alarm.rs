//! Alarms: each new event of severity `error` or `fatal` starts the event script, or is posted to the web-hook.
//!
//! An alarm is stored together with its event and forgotten when it has come through (or will not), so that the end of
//! the backend in between loses none. How many wait, how many are under way, how long each takes and how often it is
//! tried again is bounded.

mod script;
mod web_hook;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use seonapi_client::{Event, Severity};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;

pub use script::Script;
pub use web_hook::{Setting, WebHook};

use crate::crl_download::now;
use crate::current::Current;
use crate::journal::{Level, say};
use crate::store::{Store, StoreError};

/// How often waiting alarms are looked at, where nothing wakes us earlier.
const LOOK: Duration = Duration::from_secs(1);
/// Longest pause before another try, in seconds.
const LONGEST_PAUSE: u64 = 900;

/// How bad events are told.
pub enum Alarm {
    /// By a program.
    Script(Script),
    /// By a call over HTTP.
    WebHook(WebHook),
}

/// Why an alarm did not come through.
pub struct Trouble {
    /// What happened, in words.
    pub reason: String,
    /// Whether another try may help.
    pub again: bool,
}

/// An event that is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its number in the system log.
    pub number: i64,
    /// The event.
    pub event: Event,
    /// Tries that failed.
    pub tries: u32,
}

/// Wakes the one that gives the alarms.
#[derive(Clone)]
pub struct Alarms(Arc<Notify>);

impl Alarms {
    /// Begins with those that an earlier run of the backend left.
    pub fn start(store: Arc<Store>, current: Arc<Current>) -> Self {
        let wake = Arc::new(Notify::new());
        tokio::spawn(give(store, current, wake.clone()));
        Self(wake)
    }

    /// There is a new one.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// Whether an event is one to be told.
pub fn is_for(event: &Event) -> bool {
    matches!(event.severity, Severity::Error | Severity::Fatal)
}

async fn give(store: Arc<Store>, current: Arc<Current>, wake: Arc<Notify>) {
    let mut running = JoinSet::new();
    let mut under_way = BTreeSet::new();
    loop {
        let alarm = current.get().alarm.clone();
        let told = match alarm {
            Some(alarm) => begin(&store, &alarm, &mut running, &mut under_way).await,
            None => on_disk(&store, Store::forget_alarms).await.map(|forgotten| {
                if forgotten > 0 {
                    let why = "neither event_script nor web_hook is configured any more";
                    say(Level::Warn, format_args!("{forgotten} alarm(s) are not given: {why}"));
                }
            }),
        };
        if let Err(error) = told {
            say(Level::Error, format_args!("alarms cannot be given: {error}"));
        }
        tokio::select! {
            Some(ended) = running.join_next() => match ended {
                Ok(number) => {
                    under_way.remove(&number);
                }
                Err(error) => {
                    // Which one it was is not known any more; each may be tried again.
                    say(Level::Error, format_args!("an alarm ended badly: {error}"));
                    under_way.clear();
                    sleep(LOOK).await;
                }
            },
            () = wake.notified() => {}
            () = sleep(LOOK) => {}
        }
    }
}

/// Begins with as many of those that are due as there are places.
async fn begin(
    store: &Arc<Store>,
    alarm: &Arc<Alarm>,
    running: &mut JoinSet<i64>,
    under_way: &mut BTreeSet<i64>,
) -> Result<(), StoreError> {
    let places = alarm.at_once().saturating_sub(running.len());
    if places == 0 {
        return Ok(());
    }
    let enough = places + under_way.len();
    let due = on_disk(store, move |store| store.due_alarms(now(), enough)).await?;
    for waiting in due {
        if running.len() < alarm.at_once() && under_way.insert(waiting.number) {
            running.spawn(attempt(store.clone(), alarm.clone(), waiting));
        }
    }
    Ok(())
}

async fn attempt(store: Arc<Store>, alarm: Arc<Alarm>, waiting: Waiting) -> i64 {
    let (number, id, tries) = (waiting.number, waiting.event.id, waiting.tries + 1);
    let done = match alarm.give(&waiting).await {
        Ok(()) => {
            say(Level::Debug, format_args!("{alarm} for event {number} ({id}): done"));
            on_disk(&store, move |store| store.forget_alarm(number)).await
        }
        Err(Trouble { reason, again: true }) if tries < alarm.tries() => {
            let pause = pause(tries);
            let level = if tries == 1 { Level::Warn } else { Level::Debug };
            say(level, format_args!("{alarm} for event {number} ({id}): {reason}; again in {pause} s"));
            on_disk(&store, move |store| store.postpone_alarm(number, tries, now() + pause)).await
        }
        Err(Trouble { reason, .. }) => {
            say(
                Level::Error,
                format_args!("{alarm} for event {number} ({id}): {reason}; given up after {tries} tries"),
            );
            on_disk(&store, move |store| store.forget_alarm(number)).await
        }
    };
    if let Err(error) = done {
        say(Level::Error, format_args!("what came of the alarm for event {number} cannot be stored: {error}"));
        // It would be given again at once, and again.
        sleep(Duration::from_secs(pause(3))).await;
    }
    number
}

/// Seconds before the next try: 1, 5, 25, 125, 625, and then 15 minutes.
fn pause(tries: u32) -> u64 {
    5_u64.saturating_pow(tries.saturating_sub(1)).min(LONGEST_PAUSE)
}

async fn on_disk<T: Send + 'static>(
    store: &Arc<Store>,
    work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let store = store.clone();
    let done = tokio::task::spawn_blocking(move || work(&store)).await;
    done.unwrap_or_else(|error| Err(StoreError::Interrupted(error.to_string())))
}

impl Alarm {
    async fn give(&self, waiting: &Waiting) -> Result<(), Trouble> {
        match self {
            Self::Script(script) => script.run(waiting).await,
            Self::WebHook(hook) => hook.post(waiting).await,
        }
    }

    fn at_once(&self) -> usize {
        match self {
            Self::Script(script) => script.at_once,
            Self::WebHook(hook) => hook.at_once,
        }
    }

    /// A script that failed may have done half of its work; it is not started twice for one event.
    fn tries(&self) -> u32 {
        match self {
            Self::Script(_) => 1,
            Self::WebHook(hook) => hook.tries,
        }
    }
}

impl std::fmt::Display for Alarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Script(script) => write!(f, "event script {}", script.program.display()),
            Self::WebHook(hook) => write!(f, "web-hook {}", hook.shown()),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn pauses_grow_to_a_quarter_of_an_hour() {
        let pauses: Vec<_> = (1..=7).map(super::pause).collect();
        assert_eq!(pauses, [1, 5, 25, 125, 625, 900, 900]);
        assert_eq!(super::pause(u32::MAX), 900);
    }
}

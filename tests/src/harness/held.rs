//! A session that waits in the middle of its file until it is told to go on.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{PATIENCE, Trouble};
use crate::station::{self, Event, OutgoingFile, Report, Security, Settings};

/// The session. It goes on, too, when this is dropped.
pub struct Held {
    go: Sender<()>,
    session: JoinHandle<Report>,
}

impl Held {
    /// Calls the station at `to`, and sends `file` until `octets` of it are on their way. Returns once it waits there.
    pub fn start(
        to: &str,
        security: &Security,
        settings: &Settings,
        file: OutgoingFile,
        octets: u64,
    ) -> Result<Self, Trouble> {
        let (arrived, arrival) = channel();
        let (go, wait) = channel();
        let wait: Mutex<Option<Receiver<()>>> = Mutex::new(Some(wait));
        let observer = move |event: &Event| {
            if let Event::Progress { sending: true, done, .. } = event
                && *done >= octets
                && let Some(wait) = wait.lock().unwrap_or_else(PoisonError::into_inner).take()
            {
                // Both may have lost interest; then there is nothing to wait for.
                let _ = arrived.send(());
                let _ = wait.recv();
            }
            Ok(())
        };
        let settings = Settings { observer: Some(Arc::new(observer)), ..settings.clone() };
        let (to, security) = (to.to_owned(), security.clone());
        let session = thread::spawn(move || station::send(&to, &security, &settings, vec![file]));
        match arrival.recv_timeout(PATIENCE) {
            Ok(()) => Ok(Self { go, session }),
            Err(_) if session.is_finished() => {
                let report = session.join().map_err(|_| Trouble("the partner's session panicked".into()))?;
                Err(Trouble(format!("the partner's session ended before it could be held: {report:?}")))
            }
            Err(_) => Err(Trouble(format!("the partner's session sent nothing for {} s", PATIENCE.as_secs()))),
        }
    }

    /// Lets it go on, and waits for its end.
    pub fn go_on(self) -> Result<Report, Trouble> {
        // It may have ended by itself.
        let _ = self.go.send(());
        self.session.join().map_err(|_| Trouble("the partner's session panicked".into()))
    }

    /// Whether it ends by itself while held back (its connection was cut), within that time.
    pub fn is_over(&self, patience: Duration) -> bool {
        super::until(patience, || self.session.is_finished().then_some(())).is_some()
    }
}

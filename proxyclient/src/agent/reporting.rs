//! Brings events, session records and the heartbeat to the backend: at least once, in order, in bounded batches.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use proxydaemon::descriptors::Directory;
use proxylink::pairing::Direction;
use proxylink::record::{FileDirection, FileResult, Report, SessionOutcome, SessionReport, UnixMillis};
use proxylink::situation::{Severity, Situation};
use seonapi_client::{
    ApiError, Component, CrlUrl, Event, EventMessage, FileRecord, Fingerprint, MAX_CRL_URLS, Outcome, SeonApi,
    SessionDirection, SessionRecord, Status,
};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::spool::Spool;

/// Reports of one batch. With the longest messages they stay below what the contract lets a body have.
const BATCH: usize = 200;
const MOST_EVENTS: usize = 20_000;
/// Of the DMZ: a flood there must not push out what the inside has to tell.
const MOST_DMZ_EVENTS: usize = 5_000;
const MOST_SESSIONS: usize = 50_000;
/// As many as the agent tells; each of them once.
const MOST_CRL_URLS: usize = 4096;
const RETRY: Duration = Duration::from_secs(15);
const QUEUE: usize = 1024;

/// What can be told.
pub enum Tell {
    /// An event of the inside.
    Inside(Report),
    /// An event of the DMZ, with its host.
    Dmz(Report, String),
    /// A session record.
    Session(Box<SessionReport>),
    /// The heartbeat; only the newest matters.
    Status(Box<Status>),
    /// CRL distribution points.
    CrlUrls(Vec<CrlUrl>),
    /// Deliver what can be delivered now, then say so.
    Flush(oneshot::Sender<()>),
}

/// The way to the reporter.
#[derive(Clone)]
pub struct Reporter(mpsc::Sender<Tell>);

impl Reporter {
    /// Hands something over. When more comes than can be taken, it is lost with a line in the log.
    pub fn tell(&self, tell: Tell) {
        if self.0.try_send(tell).is_err() {
            log::error!(code = Situation::SpoolFull.code(); "a report was lost: they come faster than they can be kept");
        }
    }

    /// Waits until what there is was delivered, or could not be.
    pub async fn flush(&self, at_most: Duration) {
        let (done, finished) = oneshot::channel();
        let _ = tokio::time::timeout(at_most, async {
            if self.0.send(Tell::Flush(done)).await.is_ok() {
                let _ = finished.await;
            }
        })
        .await;
    }
}

/// Opens the spools in the state directory and starts to deliver.
///
/// # Errors
/// When a spool is there and cannot be read.
pub fn start(api: Arc<SeonApi>, open: impl Fn() -> std::io::Result<Directory>) -> std::io::Result<Reporter> {
    let (tells, queue) = mpsc::channel(QUEUE);
    let reporting = Reporting {
        api,
        inside: Spool::open(open()?, "events.spool", MOST_EVENTS)?,
        dmz: Spool::open(open()?, "events-dmz.spool", MOST_DMZ_EVENTS)?,
        sessions: Spool::open(open()?, "sessions.spool", MOST_SESSIONS)?,
        status: None,
        crl_urls: Vec::new(),
        host: proxydaemon::host_name(),
        on_disk: true,
    };
    tokio::spawn(reporting.run(queue));
    Ok(Reporter(tells))
}

struct Reporting {
    api: Arc<SeonApi>,
    inside: Spool<Event>,
    dmz: Spool<Event>,
    sessions: Spool<SessionRecord>,
    status: Option<Box<Status>>,
    crl_urls: Vec<CrlUrl>,
    host: String,
    on_disk: bool,
}

impl Reporting {
    async fn run(mut self, mut queue: mpsc::Receiver<Tell>) {
        let mut flushes = Vec::new();
        loop {
            let waits = self.inside.len() + self.dmz.len() + self.sessions.len() > 0 || !self.crl_urls.is_empty();
            let tell = if waits {
                // Something could not be delivered: try again in a while, or when something new comes.
                tokio::time::timeout(RETRY, queue.recv()).await.ok()
            } else {
                Some(queue.recv().await)
            };
            match tell {
                Some(None) => return,
                Some(Some(tell)) => self.take(tell, &mut flushes),
                None => {}
            }
            while let Ok(tell) = queue.try_recv() {
                self.take(tell, &mut flushes);
            }
            self.deliver().await;
            self.tell_disk();
            for done in flushes.drain(..) {
                let _ = done.send(());
            }
        }
    }

    fn take(&mut self, tell: Tell, flushes: &mut Vec<oneshot::Sender<()>>) {
        match tell {
            Tell::Inside(report) => {
                let event = event(&report, Component::Proxyclient, &self.host);
                self.inside.add(event);
            }
            Tell::Dmz(report, host) => {
                let event = event(&report, Component::Proxyserver, &host);
                self.dmz.add(event);
            }
            Tell::Session(report) => {
                if let Some(record) = record(*report) {
                    self.sessions.add(record);
                }
            }
            Tell::Status(status) => self.status = Some(status),
            Tell::CrlUrls(urls) => {
                let room = MOST_CRL_URLS.saturating_sub(self.crl_urls.len());
                self.crl_urls.extend(urls.into_iter().take(room));
            }
            Tell::Flush(done) => flushes.push(done),
        }
    }

    async fn deliver(&mut self) {
        if let Some(status) = self.status.take()
            && let Err(error) = self.api.put_status(&status).await
        {
            log::debug!("the heartbeat did not reach the backend: {error}");
            // Nothing else would either.
            return;
        }
        while !self.crl_urls.is_empty() {
            let batch: Vec<_> = self.crl_urls.iter().take(MAX_CRL_URLS).cloned().collect();
            if !settled(self.api.add_crl_urls(&batch).await.map(drop), "CRL URLs") {
                break;
            }
            self.crl_urls.drain(..batch.len());
        }
        deliver_events(&self.api, &mut self.inside).await;
        deliver_events(&self.api, &mut self.dmz).await;
        while self.sessions.len() > 0 {
            let batch: Vec<_> = self.sessions.oldest(BATCH).cloned().collect();
            if !settled(self.api.add_sessions(&batch).await, "session records") {
                break;
            }
            self.sessions.delivered(batch.len());
        }
        for (what, dropped) in [
            ("events", self.inside.take_dropped()),
            ("events of the DMZ", self.dmz.take_dropped()),
            ("session records", self.sessions.take_dropped()),
        ] {
            if dropped > 0 {
                Situation::SpoolFull.tell(format_args!("{dropped} {what} were dropped"));
            }
        }
    }

    fn tell_disk(&mut self) {
        let trouble = self.inside.trouble().or(self.dmz.trouble()).or(self.sessions.trouble());
        match (trouble, self.on_disk) {
            (Some(trouble), true) => {
                Situation::SpoolUnwritable.tell(format_args!("{trouble}; reports are kept in memory only"));
                self.on_disk = false;
            }
            (None, false) => {
                log::info!(code = Situation::SpoolUnwritable.code(); "reports are kept on disk again");
                self.on_disk = true;
            }
            _ => {}
        }
    }
}

async fn deliver_events(api: &SeonApi, spool: &mut Spool<Event>) {
    while spool.len() > 0 {
        let batch: Vec<_> = spool.oldest(BATCH).cloned().collect();
        if !settled(api.add_events(&batch).await.map(drop), "events") {
            return;
        }
        spool.delivered(batch.len());
    }
}

/// Whether a batch is done with: taken, or refused for ever (then it is lost, and told).
fn settled(answer: Result<(), ApiError>, what: &str) -> bool {
    match answer {
        Ok(()) => true,
        Err(error @ (ApiError::Status { status: 400, .. } | ApiError::RequestTooLarge)) => {
            log::error!(code = Situation::SpoolFull.code(); "the backend refuses {what} for ever: {error}");
            true
        }
        Err(error) => {
            log::debug!("{what} did not reach the backend: {error}; they wait in the spool");
            false
        }
    }
}

fn event(report: &Report, component: Component, host: &str) -> Event {
    Event {
        id: Uuid::new_v4(),
        time: time(report.time),
        severity: match report.situation.severity() {
            Severity::Note | Severity::Info => seonapi_client::Severity::Info,
            Severity::Error => seonapi_client::Severity::Error,
            Severity::Fatal => seonapi_client::Severity::Fatal,
        },
        component,
        pid: report.pid,
        host: Some(host.to_owned()),
        code: Some(report.situation.code().to_owned()),
        message: EventMessage::new(report.text.clone()),
        session_id: report.session.map(|session| session.to_string()),
        partner: report.partner.clone(),
        peer_address: report.peer.map(|peer| peer.to_string()),
    }
}

fn record(report: SessionReport) -> Option<SessionRecord> {
    Some(SessionRecord {
        id: report.id.to_string().parse().ok()?,
        direction: match report.direction {
            Direction::Incoming => SessionDirection::Incoming,
            Direction::Outgoing => SessionDirection::Outgoing,
        },
        partner: report.partner,
        ssid_code: report.ssid_code,
        peer_address: Some(report.peer.to_string()),
        certificate_sha256: report.certificate.map(Fingerprint::from),
        tls_version: report.tls.as_ref().map(|tls| tls.version.clone()),
        cipher_suite: report.tls.map(|tls| tls.cipher_suite),
        started: time(report.started),
        ended: time(report.ended),
        outcome: match report.outcome {
            SessionOutcome::Completed => Outcome::Completed,
            SessionOutcome::Aborted => Outcome::Aborted,
            SessionOutcome::Refused => Outcome::Refused,
            SessionOutcome::Violation => Outcome::Violation,
            SessionOutcome::Timeout => Outcome::Timeout,
        },
        detail: Some(format!("{}: {}", report.situation, report.detail)),
        bytes_from_partner: report.octets_from_partner,
        bytes_to_partner: report.octets_to_partner,
        files: report
            .files
            .into_iter()
            .map(|file| FileRecord {
                dataset_name: file.dataset_name,
                direction: Some(match file.direction {
                    FileDirection::FromPartner => seonapi_client::FileDirection::FromPartner,
                    FileDirection::ToPartner => seonapi_client::FileDirection::ToPartner,
                }),
                bytes: file.octets,
                result: Some(match file.result {
                    FileResult::Acknowledged => seonapi_client::FileResult::Acknowledged,
                    FileResult::Refused => seonapi_client::FileResult::Refused,
                    FileResult::Incomplete => seonapi_client::FileResult::Incomplete,
                }),
            })
            .collect(),
    })
}

fn time(millis: UnixMillis) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis.0).unwrap_or_default()
}

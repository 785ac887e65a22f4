//! Brings events, session records, CRL URLs and the heartbeat to the backend: at least once, in order, in bounded batches,
//! the inside's before the DMZ's. What is told is in the spool at once; one task only delivers from there.

mod progress;

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proxydaemon::descriptors::Directory;
use proxylink::record::{Report, SessionReport};
use proxylink::situation::Situation;
use seonapi_client::{ApiError, Component, CrlUrl, Event, MAX_CRL_URLS, SeonApi, SessionRecord, Status};
use serde::Deserialize;
use tokio::sync::{Notify, oneshot};

use self::progress::{MOST_REFUSED, Progress};
use super::spool::{Lane, Line, PutBehind, Spool};
use super::{now, to_backend};

/// Rounds in which something of a lane is not taken, while the backend takes other things, before it is looked for.
const SEVERAL: u32 = 3;
/// How long what the backend does not take is nobody's business.
const PATIENCE: Patience = Patience { waits: Duration::from_secs(5 * 60), give_up: Duration::from_secs(24 * 60 * 60) };
/// Until the next attempt after one that failed. A heartbeat tries at once.
const RETRY: Duration = Duration::from_secs(15);
/// From the first new report to the request that takes it and all that came meanwhile.
const GATHER: Duration = Duration::from_millis(100);
/// Between two lines about dropped reports.
const DROPPED_EVERY: Duration = Duration::from_secs(60);
/// For the disk, when the agent ends.
const KEEP: Duration = Duration::from_secs(1);
/// CRL distribution points that wait, and that are known to be delivered. More than a configuration has.
const MOST_CRL_URLS: usize = 4096;

/// What can be told.
pub enum Tell {
    /// An event of the inside.
    Inside(Report),
    /// An event of the inside that the DMZ can bring about as often as it likes.
    Provoked(Report),
    /// An event of the DMZ, with its host.
    Dmz(Report, String),
    /// The record of a session that the inside served.
    Session(Box<SessionReport>),
    /// The record of a session that never came inside.
    DmzSession(Box<SessionReport>),
    /// The heartbeat; only the newest matters.
    Status(Box<Status>),
    /// CRL distribution points.
    CrlUrls(Vec<CrlUrl>),
    /// Another configuration is in force: what was known of CRL distribution points is not any more.
    Configured,
}

/// The way to the backend. Its clones are the same one.
#[derive(Clone)]
pub struct Reporter(Arc<Shared>);

struct Shared {
    spool: Spool,
    desk: Mutex<Desk>,
    host: String,
    /// Something is there that was not.
    new: Notify,
    /// Something that is worth an attempt whenever the last one was.
    urgent: Notify,
}

/// What is not spooled, as it is told again.
#[derive(Default)]
struct Desk {
    status: Option<Box<Status>>,
    crl_urls: VecDeque<CrlUrl>,
    delivered_urls: HashSet<String>,
    flushes: Vec<oneshot::Sender<()>>,
}

impl Reporter {
    /// Takes something over. It is in the spool when this returns, and on disk a tenth of a second later; never waits. What
    /// does not fit is dropped and counted.
    pub fn tell(&self, tell: Tell) {
        let Shared { spool, host, .. } = &*self.0;
        match tell {
            Tell::Inside(report) => {
                spool.add(Lane::Events, &to_backend::event(&report, Component::Proxyclient, host));
            }
            Tell::Provoked(report) => {
                spool.add(Lane::DmzEvents, &to_backend::event(&report, Component::Proxyclient, host));
            }
            Tell::Dmz(report, host) => {
                spool.add(Lane::DmzEvents, &to_backend::event(&report, Component::Proxyserver, &host));
            }
            Tell::Session(report) => {
                if let Some(record) = to_backend::record(*report) {
                    spool.add(Lane::Sessions, &record);
                }
            }
            Tell::DmzSession(report) => {
                if let Some(record) = to_backend::record(*report) {
                    spool.add(Lane::DmzSessions, &record);
                }
            }
            Tell::Status(status) => {
                self.0.desk().status = Some(status);
                self.0.urgent.notify_one();
            }
            Tell::CrlUrls(urls) => {
                let mut desk = self.0.desk();
                for url in urls {
                    if desk.crl_urls.len() < MOST_CRL_URLS
                        && !desk.delivered_urls.contains(url.url())
                        && !desk.crl_urls.iter().any(|waiting| waiting.url() == url.url())
                    {
                        desk.crl_urls.push_back(url);
                    }
                }
            }
            Tell::Configured => self.0.desk().delivered_urls.clear(),
        }
        self.0.new.notify_one();
    }

    /// Names of the sessions whose records wait in that lane.
    pub fn waiting_sessions(&self, lane: Lane) -> Vec<String> {
        self.0.spool.oldest(lane, usize::MAX).iter().filter_map(name).collect()
    }

    /// Has everything put on disk, then waits until it was delivered or could not be, at most so long.
    pub async fn flush(&self, at_most: Duration) {
        let spool = self.0.spool.clone();
        if !matches!(tokio::task::spawn_blocking(move || spool.keep(KEEP)).await, Ok(true)) {
            Situation::SpoolUnwritable.tell("what is not delivered now is lost with the end of the agent");
        }
        let (done, finished) = oneshot::channel();
        self.0.desk().flushes.push(done);
        self.0.urgent.notify_one();
        if tokio::time::timeout(at_most, finished).await.is_err() {
            log::debug!("the backend does not take the last reports in time; they wait in the spool");
        }
    }
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the spool in the state directory and starts to deliver.
///
/// # Errors
/// When a file of the spool is there and cannot be read.
pub fn start(api: Arc<SeonApi>, open: impl Fn() -> std::io::Result<Directory>) -> std::io::Result<Reporter> {
    start_with(api, open, PATIENCE)
}

fn start_with(
    api: Arc<SeonApi>,
    open: impl Fn() -> std::io::Result<Directory>,
    patience: Patience,
) -> std::io::Result<Reporter> {
    let shared = Arc::new(Shared {
        spool: Spool::open(open)?,
        desk: Mutex::default(),
        host: proxydaemon::host_name(),
        new: Notify::new(),
        urgent: Notify::new(),
    });
    // What was left over by the last run.
    shared.new.notify_one();
    let delivery = Delivery {
        api,
        shared: Arc::clone(&shared),
        lanes: Default::default(),
        urls: Progress::default(),
        round: 0,
        taken: None,
        patience,
        waits_told: false,
        dropped: [Dropped::default(), Dropped::default()],
        on_disk: true,
    };
    tokio::spawn(delivery.run());
    Ok(Reporter(shared))
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// Until it is told that reports wait.
    waits: Duration,
    /// Until a report is dropped that the backend never takes, and never refuses for ever, while it takes others.
    give_up: Duration,
}

/// The task that delivers.
struct Delivery {
    api: Arc<SeonApi>,
    shared: Arc<Shared>,
    /// How each lane goes.
    lanes: [Progress; 4],
    /// How the CRL URLs go.
    urls: Progress,
    /// Number of the round.
    round: u64,
    /// When the backend took anything.
    taken: Option<Instant>,
    patience: Patience,
    /// It was told that reports wait.
    waits_told: bool,
    /// What was dropped, for the log and for the system log, which may be as full as the rest.
    dropped: [Dropped; 2],
    on_disk: bool,
}

/// What came of an attempt.
enum Attempt {
    /// The backend took it, or refused it for ever.
    Settled,
    /// The backend answers, and does not take it now.
    NotNow,
    /// Nothing else would arrive either.
    Unreachable,
}

impl Delivery {
    async fn run(mut self) {
        let mut failed = false;
        loop {
            if failed {
                tokio::select! {
                    () = self.shared.urgent.notified() => {}
                    () = tokio::time::sleep(RETRY) => {}
                }
            } else {
                tokio::select! {
                    () = self.shared.urgent.notified() => {}
                    () = self.shared.new.notified() => self.gather().await,
                }
            }
            let flushes = std::mem::take(&mut self.shared.desk().flushes);
            self.tell_losses();
            failed = !self.round().await;
            self.tell_waiting();
            for done in flushes {
                let _ = done.send(());
            }
        }
    }

    /// Waits a little for what comes along with what is new: many sessions would otherwise cost a request each.
    async fn gather(&self) {
        tokio::select! {
            () = self.shared.urgent.notified() => {}
            () = tokio::time::sleep(GATHER) => {}
        }
    }

    /// Delivers all there is; `false` when something is left.
    async fn round(&mut self) -> bool {
        self.round += 1;
        self.lanes.iter_mut().for_each(Progress::begin_round);
        let mut left = !self.status().await;
        match self.crl_urls().await {
            Attempt::Settled => {}
            Attempt::NotNow => left = true,
            Attempt::Unreachable => return false,
        }
        let mut passed_over = Vec::new();
        loop {
            let next =
                Lane::ALL.into_iter().find(|lane| !passed_over.contains(lane) && !self.shared.spool.is_empty(*lane));
            let Some(lane) = next else { return !left };
            match self.deliver(lane).await {
                Attempt::Settled => {}
                Attempt::NotNow => {
                    passed_over.push(lane);
                    left = true;
                }
                Attempt::Unreachable => return false,
            }
        }
    }

    const fn progress(&mut self, lane: Lane) -> &mut Progress {
        let [events, sessions, dmz_events, dmz_sessions] = &mut self.lanes;
        match lane {
            Lane::Events => events,
            Lane::Sessions => sessions,
            Lane::DmzEvents => dmz_events,
            Lane::DmzSessions => dmz_sessions,
        }
    }

    /// The heartbeat; one that did not arrive is sent again unless there is a newer one.
    async fn status(&mut self) -> bool {
        let Some(status) = self.shared.desk().status.take() else { return true };
        match self.api.put_status(&status).await {
            Ok(()) => {
                self.taken = Some(Instant::now());
                true
            }
            Err(error) => {
                log::debug!("the heartbeat did not reach the backend: {error}");
                if !for_ever(&error) {
                    self.shared.desk().status.get_or_insert(status);
                }
                false
            }
        }
    }

    async fn crl_urls(&mut self) -> Attempt {
        loop {
            let batch: Vec<_> = self.shared.desk().crl_urls.iter().take(MAX_CRL_URLS).cloned().collect();
            if batch.is_empty() {
                return Attempt::Settled;
            }
            let answer = match self.api.add_crl_urls(&batch).await {
                Ok(_) => Ok(true),
                Err(error) if for_ever(&error) => self.crl_urls_singly(&batch).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(true) => self.taken = Some(Instant::now()),
                Ok(false) => {}
                Err(error) => {
                    self.urls.is_not_taken(self.round, error.to_string());
                    return failure("CRL URLs", &error, is_well_since(self.taken, &self.urls, self.round));
                }
            }
            // Those that were refused would be refused again; with another configuration they may come again.
            let mut desk = self.shared.desk();
            desk.crl_urls.drain(..batch.len());
            for url in batch {
                if desk.delivered_urls.len() >= MOST_CRL_URLS {
                    desk.delivered_urls.clear();
                }
                desk.delivered_urls.insert(url.url().to_owned());
            }
        }
    }

    /// Whether one was taken.
    async fn crl_urls_singly(&self, batch: &[CrlUrl]) -> Result<bool, ApiError> {
        let mut taken = false;
        for url in batch {
            match self.api.add_crl_urls(std::slice::from_ref(url)).await {
                Ok(_) => taken = true,
                Err(error) if for_ever(&error) => {
                    log::error!(code = Situation::ReportRefused.code(); "a CRL URL: {error}");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    /// Sends a batch of a lane. One in which the backend refuses something for ever, or stumbles over something, is cut in halves
    /// until that stands alone. What is refused is dropped; what it stumbles over is put behind the others. Where nothing else of
    /// the lane is taken either, nothing is dropped.
    async fn deliver(&mut self, lane: Lane) -> Attempt {
        let lines = self.next_batch(lane);
        if lines.is_empty() {
            // All that is left was tried in this round.
            return Attempt::NotNow;
        }
        let reports: Vec<&Line> = lines.iter().filter(|line| is_report(line, lane)).collect();
        let answer = match lane {
            Lane::Events | Lane::DmzEvents => self.api.add_event_texts(&reports).await.map(drop),
            Lane::Sessions | Lane::DmzSessions => self.api.add_session_texts(&reports).await,
        };
        let Err(error) = answer else {
            self.shared.spool.delivered(lane, lines.len());
            self.progress(lane).is_taken();
            self.taken = Some(Instant::now());
            return Attempt::Settled;
        };
        let (round, taken) = (self.round, self.taken);
        let progress = self.progress(lane);
        progress.is_not_taken(round, error.to_string());
        let is_well = is_well_since(taken, progress, round);
        let stumbles = is_well && is_answer(&error) && progress.trouble(round).is_some_and(|it| it.rounds >= SEVERAL);
        if !for_ever(&error) && !stumbles {
            return failure(lane.what(), &error, is_well);
        }
        if lines.len() > 1 {
            progress.batch = lines.len() / 2;
        } else if let Some(line) = lines.first() {
            self.stands_alone(lane, line, &error);
        }
        if self.progress(lane).goes_on() { Attempt::Settled } else { Attempt::NotNow }
    }

    /// What is sent next. What was put behind the others goes alone, once in a round.
    fn next_batch(&mut self, lane: Lane) -> Vec<Line> {
        let batch = self.progress(lane).batch;
        let mut lines = self.shared.spool.oldest(lane, batch);
        let most = match lines.first().and_then(Line::put_behind) {
            None => lines.iter().take_while(|line| line.put_behind().is_none()).count(),
            Some(PutBehind { round, .. }) if round == self.round => 0,
            Some(_) => 1,
        };
        lines.truncate(most);
        lines
    }

    /// One report alone is not taken: it is dropped, or put behind the others.
    fn stands_alone(&mut self, lane: Lane, line: &Line, error: &ApiError) {
        let (round, give_up) = (self.round, self.patience.give_up);
        let progress = self.progress(lane);
        // While nothing is taken, it may be the backend's fault and not that of the report.
        let others_taken = line.put_behind().is_some_and(|before| progress.has_taken_since(before.last));
        let drop_it = progress.may_drop()
            && match line.put_behind() {
                _ if for_ever(error) => true,
                Some(PutBehind { since, .. }) => others_taken && since.elapsed() >= give_up,
                None => false,
            };
        if progress.is_refused(drop_it || line.put_behind().is_none()) {
            log::error!(code = Situation::ReportRefused.code();
                "{MOST_REFUSED} {} in a row are not taken; none is dropped before the backend takes one", lane.what());
        }
        if !drop_it {
            log::debug!("{} {}: {error}; it waits behind the others", lane.what(), name(line).unwrap_or_default());
            return self.shared.spool.put_behind(lane, round, others_taken);
        }
        self.shared.spool.delivered(lane, 1);
        let text = format!("{} {}: {error}", lane.what(), name(line).unwrap_or_default());
        Situation::ReportRefused.tell(&text);
        // An event about an event could be refused for the same reason, and so on.
        if matches!(lane, Lane::Sessions) {
            tell_event(&self.shared, Situation::ReportRefused, text);
        }
    }

    /// Tells that reports have not arrived for long, and that they do again.
    fn tell_waiting(&mut self) {
        let all = self.lanes.iter().chain([&self.urls]);
        let oldest = all.filter_map(|progress| progress.trouble(self.round)).min_by_key(|trouble| trouble.since);
        let (situation, text) = match oldest {
            Some(trouble) if !self.waits_told && trouble.since.elapsed() >= self.patience.waits => {
                let each = Lane::ALL.map(|lane| (self.shared.spool.count(lane), lane.what()));
                let each = each.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
                let what = each.collect::<Vec<_>>().join(", ");
                let what = if what.is_empty() { "CRL URLs" } else { &what };
                (Situation::ReportsWait, format!("{}; waiting: {what}", trouble.reason))
            }
            None if self.waits_told => (Situation::ReportsArrive, format!("{} takes them again", self.api.base())),
            _ => return,
        };
        self.waits_told = oldest.is_some();
        situation.tell(&text);
        tell_event(&self.shared, situation, text);
    }

    /// Tells what was dropped and that the disk makes trouble; to the backend too, as soon as it can be reached.
    fn tell_losses(&mut self) {
        for (place, lane) in (0..).zip(Lane::ALL) {
            let count = self.shared.spool.take_dropped(lane);
            self.dropped.iter_mut().for_each(|dropped| dropped.add(place, count));
        }
        let [for_log, for_system_log] = &mut self.dropped;
        if let Some(text) = for_log.due() {
            Situation::SpoolFull.tell(&text);
            for_log.is_told();
        }
        if let Some(text) = for_system_log.due()
            && self.shared.spool.offer(Lane::Events, &own_event(&self.shared, Situation::SpoolFull, text))
        {
            for_system_log.is_told();
        }
        let trouble = self.shared.spool.trouble();
        if let Some(trouble) = &trouble
            && self.on_disk
        {
            let text = format!("{trouble}; reports are kept in memory only");
            tell_event(&self.shared, Situation::SpoolUnwritable, text);
        }
        self.on_disk = trouble.is_none();
    }
}

/// Dropped reports that were not told yet.
#[derive(Debug, Default)]
struct Dropped {
    counts: [u64; 4],
    told: Option<Instant>,
}

impl Dropped {
    fn add(&mut self, place: usize, count: u64) {
        if let Some(known) = self.counts.get_mut(place) {
            *known += count;
        }
    }

    /// What is to be told now.
    fn due(&self) -> Option<String> {
        if self.told.is_some_and(|told| told.elapsed() < DROPPED_EVERY) {
            return None;
        }
        let each = self.counts.iter().zip(Lane::ALL).filter(|(count, _)| **count > 0);
        let text: Vec<_> = each.map(|(count, lane)| format!("{count} {}", lane.what())).collect();
        (!text.is_empty()).then(|| format!("dropped since the last such line: {}", text.join(", ")))
    }

    fn is_told(&mut self) {
        *self = Self { counts: [0; 4], told: Some(Instant::now()) };
    }
}

/// What becomes of the round; `is_well`: the backend takes other things.
fn failure(what: &str, error: &ApiError, is_well: bool) -> Attempt {
    log::debug!("{what} did not reach the backend: {error}; they wait");
    match error {
        ApiError::Status { .. } | ApiError::RequestTooLarge => Attempt::NotNow,
        _ if is_well && is_answer(error) => Attempt::NotNow,
        _ => Attempt::Unreachable,
    }
}

/// Whether the backend took anything since this is in trouble.
fn is_well_since(taken: Option<Instant>, progress: &Progress, round: u64) -> bool {
    progress.trouble(round).is_some_and(|trouble| taken.is_some_and(|taken| taken > trouble.since))
}

/// Whether it may be an answer to what was sent, and another one may come to something else.
const fn is_answer(error: &ApiError) -> bool {
    matches!(
        error,
        ApiError::Status { .. }
            | ApiError::RequestTooLarge
            | ApiError::TokenRefused { .. }
            | ApiError::CredentialsRefused
            | ApiError::Broken(_)
    )
}

/// Whether the same would be refused again. A web server in front of the backend may have its own reasons for 400 and 422, but
/// has no problem document.
const fn for_ever(error: &ApiError) -> bool {
    matches!(
        error,
        ApiError::Status { status: 400 | 422, is_problem: true, .. } | ApiError::RequestTooLarge | ApiError::Request(_)
    )
}

fn tell_event(shared: &Shared, situation: Situation, text: String) {
    shared.spool.add(Lane::Events, &own_event(shared, situation, text));
}

fn own_event(shared: &Shared, situation: Situation, text: String) -> Event {
    let report =
        Report { time: now(), situation, pid: std::process::id(), text, session: None, partner: None, peer: None };
    to_backend::event(&report, Component::Proxyclient, &shared.host)
}

/// Whether a line is a report of its lane. One of a damaged file may be none, and is passed over.
fn is_report(line: &Line, lane: Lane) -> bool {
    if !line.is_from_disk() {
        return true;
    }
    let read = match lane {
        Lane::Events | Lane::DmzEvents => serde_json::from_slice::<Event>(line.as_ref()).map(drop),
        Lane::Sessions | Lane::DmzSessions => serde_json::from_slice::<SessionRecord>(line.as_ref()).map(drop),
    };
    if let Err(error) = &read {
        log::error!("a line in the spool of {} cannot be read: {error}", lane.what());
    }
    read.is_ok()
}

/// The name of an event or session.
fn name(line: &Line) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    Some(serde_json::from_slice::<Named>(line.as_ref()).ok()?.id)
}

#[cfg(test)]
mod tests;

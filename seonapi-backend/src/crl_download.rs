//! Downloads the CRLs whose distribution points proxyclients told or the configuration names: on a schedule and before
//! each one's nextUpdate. The last good one of each is kept, and served with those of the folder.

mod address;
mod check;
mod fetch;
mod schedule;
mod turns;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use tokio::task::JoinSet;

pub use check::{Good, NamedBy, check};
pub use fetch::innermost;
pub use schedule::Download;

use check::{is_proven, may_replace};

use crate::current::Current;
use crate::journal::{Level, escaped, say};
use crate::store::{Store, StoreError};

/// How often the schedule is looked at, where CRLs are not fetched more often still.
const LOOK: Duration = Duration::from_secs(5);

/// Downloads for ever. `private` permits addresses of the own network, whatever the configuration says.
pub async fn run(store: Arc<Store>, current: Arc<Current>, private: bool) {
    let mut running = JoinSet::new();
    let mut under_way = HashMap::new();
    let mut proven_by = None;
    loop {
        let configuration = current.get();
        let anchors = &configuration.proxy.trust.anchors_pem;
        if proven_by.as_ref() != Some(anchors) {
            match prove_anew(&store, anchors).await {
                Ok(()) => proven_by = Some(anchors.clone()),
                Err(error) => say(Level::Error, format_args!("downloaded CRLs cannot be looked at: {error}")),
            }
        }
        let every = configuration.crl_interval.as_secs();
        let private = private || configuration.allow_private_crl_addresses;
        match points(&store, &current).await {
            Ok(points) => {
                let busy: Vec<_> = under_way.values().cloned().collect();
                for (point, turn) in turns::next(points, &busy, every, now()) {
                    let started = running.spawn(attempt(store.clone(), current.clone(), point, private));
                    under_way.insert(started.id(), turn);
                }
            }
            Err(error) => say(Level::Error, format_args!("CRLs cannot be downloaded: {error}")),
        }
        // What has ended makes room; otherwise it is time to look again.
        tokio::select! {
            Some(ended) = running.join_next_with_id() => match ended {
                Ok((id, ())) => {
                    under_way.remove(&id);
                }
                Err(error) => {
                    under_way.remove(&error.id());
                    say(Level::Error, format_args!("the download of a CRL ended badly: {error}"));
                    tokio::time::sleep(LOOK).await;
                }
            },
            () = tokio::time::sleep(LOOK.min(configuration.crl_interval)) => {}
        }
    }
}

/// A distribution point.
#[derive(Debug)]
struct Point {
    url: String,
    named_by: NamedBy,
    /// What came of it so far.
    last: Option<Download>,
}

/// Finds out which of the CRLs at hand these anchors prove.
async fn prove_anew(store: &Arc<Store>, anchors: &[String]) -> Result<(), StoreError> {
    let (store, anchors) = (store.clone(), anchors.to_vec());
    on_disk(move || {
        for sha256 in store.downloaded_crls()? {
            if let Some(der) = store.downloaded_crl(sha256)? {
                store.put_crl_proof(sha256, is_proven(&der, &anchors, now()))?;
            }
        }
        Ok(())
    })
    .await
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(StoreError::Interrupted(error.to_string())))
}

/// All that are known: those of the configuration, then told ones in the order in which they were received.
async fn points(store: &Arc<Store>, current: &Arc<Current>) -> Result<Vec<Point>, StoreError> {
    let (store, current) = (store.clone(), current.clone());
    on_disk(move || {
        let configuration = current.get();
        let configured = &configuration.proxy.trust.known_crl_urls;
        for url in store.forget_crls(configured, Utc::now())? {
            let url = escaped(&url);
            say(
                Level::Info,
                format_args!("{url} is forgotten: it brought no good CRL for 30 days; it may be told again"),
            );
        }
        let mut known: HashMap<_, _> =
            store.crl_downloads()?.into_iter().map(|last| (last.url.clone(), last)).collect();
        let told = store.crl_points()?;
        let issuers: HashMap<_, _> = told.iter().cloned().collect();
        let mut point = |url: &String| Point {
            url: url.clone(),
            named_by: NamedBy::of(configured.contains(url), issuers.get(url).cloned()),
            last: known.remove(url),
        };
        let mut seen = HashSet::new();
        let all = configured.iter().chain(told.iter().map(|(url, _)| url)).filter(|url| seen.insert(*url));
        Ok(all.map(&mut point).collect())
    })
    .await
}

/// Fetches, checks and stores one CRL.
async fn attempt(store: Arc<Store>, current: Arc<Current>, point: Point, private: bool) {
    let fetched = fetch::fetch(&point.url, private).await;
    let work = move || keep(&store, &current, &point, fetched.map_err(|error| error.to_string()));
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => say(Level::Error, format_args!("a downloaded CRL cannot be stored: {error}")),
        Err(error) => say(Level::Error, format_args!("a downloaded CRL cannot be checked: {error}")),
    }
}

/// Stores what came, if it is good and not older than what is there; otherwise why not.
fn keep(store: &Store, current: &Current, point: &Point, fetched: Result<Vec<u8>, String>) -> Result<(), StoreError> {
    let good = fetched.and_then(|der| {
        let configuration = current.get();
        let anchors = &configuration.proxy.trust.anchors_pem;
        let good = check(&der, anchors, &point.named_by, now())?;
        if let Some(old) = point.last.as_ref().and_then(|last| last.crl.as_ref())
            && old.sha256 != good.sha256
        {
            // By the anchors of now: others may have been there when it came.
            let at_hand = store.downloaded_crl(old.sha256).map_err(|error| error.to_string())?;
            let old_proven = at_hand.is_some_and(|der| is_proven(&der, anchors, now()));
            may_replace(&good, old, old_proven, &point.named_by)?;
        }
        Ok((good, der))
    });
    let url = escaped(&point.url);
    let before = point.last.as_ref();
    match good {
        Ok((good, der)) => {
            let known = before.and_then(|last| last.crl.as_ref()).is_some_and(|old| old.sha256 == good.sha256);
            if !known || before.is_some_and(|last| last.trouble.is_some()) {
                let (issuer, until) = (escaped(&good.issuer), time(good.next_update));
                say(Level::Info, format_args!("the CRL of \"{issuer}\" from {url} is good until {until}"));
            }
            store.put_crl(&point.url, now(), &good, &der)
        }
        Err(trouble) => {
            let trouble = escaped(&trouble);
            if before.is_none_or(|last| last.trouble.as_ref() != Some(&trouble)) {
                say(Level::Warn, format_args!("no good CRL from {url}: {trouble}; the last good one, if any, is kept"));
            }
            store.put_crl_trouble(&point.url, now(), &trouble)
        }
    }
}

/// Seconds since 1970 (UTC).
pub fn now() -> u64 {
    Utc::now().timestamp().try_into().unwrap_or_default()
}

/// As people read it.
pub fn time(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    time.map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true)).unwrap_or_default()
}

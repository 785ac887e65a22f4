//! Serving, from the configuration to the signal that ends it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use command_line::exit::ExitCode;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::alarm::Alarms;
use crate::current::Current;
use crate::https::{Caller, Https};
use crate::journal::{self, Level, say};
use crate::level_signals::LevelSignals;
use crate::listing::print;
use crate::routes::{Shared, router};
use crate::store::Store;
use crate::{Failure, crl_download};

/// How often the configuration is looked at, beside each time that it is asked for.
const LOOK: Duration = Duration::from_secs(5);
/// How often the oldest events and session records go, where there are too many.
const SHORTEN: Duration = Duration::from_secs(600);
/// For the answers that are under way when the backend ends.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Serves until SIGTERM, SIGINT or SIGHUP. Says on standard output where, when it is ready.
pub fn run(
    config: &Path,
    database: Option<PathBuf>,
    listen: Option<SocketAddr>,
    access_log: bool,
    allow_private_crl_addresses: bool,
) -> Result<(), Failure> {
    let current = Current::load(config).map_err(Failure::mistakes)?;
    let configuration = current.get();
    journal::begin_with(configuration.log_level);
    if let Some(file) = &configuration.log_file {
        journal::write_to(Some(file))
            .map_err(|error| format!("the log {} cannot be opened: {error}", file.display()))?;
    }
    LevelSignals::block()?.obey()?;
    let store = Arc::new(Store::open(&database.unwrap_or_else(|| configuration.database.clone()))?);
    let listen = listen.unwrap_or(configuration.listen);
    let current = Arc::new(current);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        tokio::spawn(crl_download::run(store.clone(), current.clone(), allow_private_crl_addresses));
        serve(store, current, listen, access_log).await
    });
    // Without a log file, who started it hears it once.
    if let (Err(Failure { lines, .. }), Some(_)) = (&done, &configuration.log_file) {
        lines.iter().for_each(|reason| say(Level::Fatal, reason));
    }
    // Work on the disk that nobody waits for any more must not hold the end up.
    runtime.shutdown_timeout(LAST_ANSWERS);
    done
}

async fn serve(store: Arc<Store>, current: Arc<Current>, listen: SocketAddr, access_log: bool) -> Result<(), Failure> {
    let [mut terminate, mut interrupt, mut hang_up] =
        [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?];
    let port = TcpListener::bind(listen).await.map_err(|error| Failure {
        code: ExitCode::CannotBind,
        ..format!("cannot listen on {listen}: {error}").into()
    })?;
    let address = port.local_addr()?;
    let https = Https::start(port, current.clone())?;
    tokio::spawn(look_at_configuration(store.clone(), current.clone()));
    tokio::spawn(shorten(store.clone(), current.clone()));
    let alarms = Alarms::start(store.clone(), current.clone());
    let shared = Arc::new(Shared { store, current, alarms });
    let service = router(shared, access_log).into_make_service_with_connect_info::<Caller>();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut serving = tokio::spawn(async move {
        let stopped = async {
            // Ends too when the sender is dropped, which is the same wish.
            let _ = stopped.await;
        };
        axum::serve(https, service).with_graceful_shutdown(stopped).await
    });
    say(Level::Info, format_args!("listening on {address}"));
    print(&format!("listening on {address}\n"))?;
    let _ = sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&format!("listening on {address}"))]);
    let watched = tokio::spawn(say_alive());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = hang_up.recv() => {}
        ended = &mut serving => return Err(format!("serving ended by itself: {ended:?}").into()),
    }
    say(Level::Info, "ending");
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    watched.abort();
    drop(stop);
    if timeout(LAST_ANSWERS, serving).await.is_err() {
        say(Level::Warn, "ended while answers were under way");
    }
    Ok(())
}

/// Tells the service manager that nothing is stuck, where it watches: twice in the time it allows.
async fn say_alive() {
    let Some(allowed) = sd_notify::watchdog_enabled() else { return };
    let mut times = interval(allowed / 2);
    loop {
        times.tick().await;
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
    }
}

/// Keeps the database within its bounds.
async fn shorten(store: Arc<Store>, current: Arc<Current>) {
    let mut times = interval(SHORTEN);
    loop {
        times.tick().await;
        let (store, configuration) = (store.clone(), current.get());
        let keep = move || store.keep(configuration.keep_events, configuration.keep_sessions);
        match tokio::task::spawn_blocking(keep).await {
            Ok(Ok((0, 0))) => {}
            Ok(Ok((events, sessions))) => {
                let which = "beyond keep_events and keep_sessions";
                say(
                    Level::Info,
                    format_args!("the oldest {events} event(s) and {sessions} session record(s) {which} are gone"),
                );
            }
            Ok(Err(error)) => say(Level::Error, format_args!("the database is not shortened: {error}")),
            Err(error) => say(Level::Error, format_args!("shortening the database ended badly: {error}")),
        }
    }
}

async fn look_at_configuration(store: Arc<Store>, current: Arc<Current>) {
    let mut times = interval(LOOK);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        times.tick().await;
        let (store, current) = (store.clone(), current.clone());
        let look = move || {
            current.refresh();
            current.remove_expired(&store);
        };
        if let Err(error) = tokio::task::spawn_blocking(look).await {
            say(Level::Error, format_args!("looking at the configuration ended badly: {error}"));
        }
    }
}

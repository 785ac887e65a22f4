//! Serving, from the configuration to the signal that ends it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::current::Current;
use crate::https::{Caller, Https};
use crate::journal::say;
use crate::listing::print;
use crate::routes::{Shared, router};
use crate::script::Script;
use crate::store::Store;
use crate::{Failure, crl_download};

/// How often the configuration is looked at, beside each time that it is asked for.
const LOOK: Duration = Duration::from_secs(5);
/// For the answers that are under way when the backend ends.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or SIGINT. Says on standard output where, when it is ready.
pub fn run(
    config: &Path,
    database: Option<PathBuf>,
    listen: Option<SocketAddr>,
    access_log: bool,
    allow_private_crl_addresses: bool,
) -> Result<(), Failure> {
    let current =
        Current::load(config).map_err(|mistakes| Failure(mistakes.iter().map(ToString::to_string).collect()))?;
    let configuration = current.get();
    let store = Arc::new(Store::open(&database.unwrap_or_else(|| configuration.database.clone()))?);
    let listen = listen.unwrap_or(configuration.listen);
    let current = Arc::new(current);
    // The HTTP client takes it for https. It fails where there is one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        tokio::spawn(crl_download::run(store.clone(), current.clone(), allow_private_crl_addresses));
        serve(store, current, listen, access_log).await
    });
    // Work on the disk that nobody waits for any more must not hold the end up.
    runtime.shutdown_timeout(LAST_ANSWERS);
    done
}

async fn serve(store: Arc<Store>, current: Arc<Current>, listen: SocketAddr, access_log: bool) -> Result<(), Failure> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let port = TcpListener::bind(listen).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    let address = port.local_addr()?;
    let https = Https::start(port, current.clone())?;
    tokio::spawn(look_at_configuration(current.clone()));
    let shared = Arc::new(Shared { store, current, script: Script::start() });
    let service = router(shared, access_log).into_make_service_with_connect_info::<Caller>();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut serving = tokio::spawn(async move {
        let stopped = async {
            // Ends too when the sender is dropped, which is the same wish.
            let _ = stopped.await;
        };
        axum::serve(https, service).with_graceful_shutdown(stopped).await
    });
    print(&format!("listening on {address}\n"))?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = &mut serving => return Err(format!("serving ended by itself: {ended:?}").into()),
    }
    drop(stop);
    if timeout(LAST_ANSWERS, serving).await.is_err() {
        say("WARN", "ended while answers were under way");
    }
    Ok(())
}

async fn look_at_configuration(current: Arc<Current>) {
    let mut times = interval(LOOK);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        times.tick().await;
        let current = current.clone();
        if tokio::task::spawn_blocking(move || current.refresh()).await.is_err() {
            return;
        }
    }
}

//! The operations of the contract. Who has no good token gets no further than [`access::authorize`].

mod access;
mod answer;
mod proxy;
mod report;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post, put};
use axum::{Router, middleware};
use seonapi_client::{MAX_CRL_URLS_BODY, MAX_EVENTS_BODY};

use crate::alarm::Alarms;
use crate::current::Current;
use crate::store::Store;
use answer::{Refused, refused};

/// The path that the contract's own URL has before its operations; they are served without it too.
const BASE: &str = "/seonapi/index.php";
/// The contract has no bound for them. A record takes half a kilobyte, and each of its files a hundred octets.
const MAX_SESSIONS_BODY: usize = 16 * 1024 * 1024;
const MAX_STATUS_BODY: usize = 64 * 1024;

/// What all operations work with.
pub struct Shared {
    /// The SQLite file.
    pub store: Arc<Store>,
    /// The configuration in force.
    pub current: Arc<Current>,
    /// Who tells bad events.
    pub alarms: Alarms,
}

/// The service; with `access_log`, each request is written to the backend's own log.
pub fn router(shared: Arc<Shared>, access_log: bool) -> Router {
    let limit = DefaultBodyLimit::max;
    let operations = Router::new()
        .route("/proxy/v1/config", get(proxy::config))
        .route("/proxy/v1/crls/{sha256}", get(proxy::crl))
        .route("/proxy/v1/crl-urls", post(report::add_crl_urls).layer(limit(MAX_CRL_URLS_BODY)))
        .route("/proxy/v1/events", post(report::add_events).layer(limit(MAX_EVENTS_BODY)))
        .route("/proxy/v1/sessions", post(report::add_sessions).layer(limit(MAX_SESSIONS_BODY)))
        .route("/proxy/v1/status", put(report::put_status).layer(limit(MAX_STATUS_BODY)))
        .method_not_allowed_fallback(no_such_method)
        .route_layer(from_fn_with_state(shared.clone(), access::authorize));
    let service = Router::new().nest(BASE, operations.clone()).merge(operations).fallback(no_such_path);
    let service = if access_log { service.layer(middleware::from_fn(access::log)) } else { service };
    service.with_state(shared)
}

async fn no_such_path() -> Refused {
    refused(StatusCode::NOT_FOUND, "no such path", None)
}

async fn no_such_method() -> Refused {
    refused(StatusCode::METHOD_NOT_ALLOWED, "this path has no such method", None)
}

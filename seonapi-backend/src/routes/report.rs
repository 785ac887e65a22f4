//! What the proxyclient tells: events, session records, CRL URLs, its status.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use seonapi_client::{
    Component, CrlUrls, Events, EventsTaken, MAX_CRL_URLS, MAX_EVENTS, MAX_SESSIONS, Sessions, Status,
};
use serde::de::DeserializeOwned;

use super::Shared;
use super::access::TokenName;
use super::answer::{Refused, json, on_disk, refused};
use crate::journal::{Level, escaped, say};

type Body = Result<Bytes, BytesRejection>;

/// `addEvents`
pub async fn add_events(
    State(shared): State<Arc<Shared>>,
    Extension(TokenName(token)): Extension<TokenName>,
    body: Body,
) -> Result<Response, Refused> {
    let events = read::<Events>(body)?.events;
    if events.len() > MAX_EVENTS {
        return Err(too_large(&format!("more than {MAX_EVENTS} events")));
    }
    // It would pass for what this backend says itself.
    if let Some(at) = events.iter().position(|event| event.component == Component::Backend) {
        return Err(bad_request(format!("events[{at}].component: `proxyserver` or `proxyclient` expected")));
    }
    let (taken, alarms) = on_disk(&shared, move |shared| {
        let current = shared.current.get();
        let mut ignored = 0;
        let mut worth = Vec::with_capacity(events.len());
        for event in events {
            match shared.current.ignores(event.message.as_str()) {
                Some((text, count)) => {
                    ignored += 1;
                    let (message, text) = (escaped(event.message.as_str()), escaped(&text));
                    say(
                        Level::Info,
                        format_args!("ignored event {}: {message} (\"{text}\", {count} so far)", event.id),
                    );
                }
                None => worth.push(event),
            }
        }
        let added = shared.store.add_events(&token, &worth, current.alarm.is_some())?;
        if added.left_out > 0 {
            let left_out = added.left_out;
            say(Level::Error, format_args!("too many alarms wait: none is given for {left_out} new event(s)"));
        }
        let duplicate = (worth.len() as u64).saturating_sub(added.stored);
        Ok((EventsTaken { stored: added.stored, ignored, duplicate }, added.alarms))
    })
    .await?;
    if alarms > 0 {
        shared.alarms.wake();
    }
    Ok(json(StatusCode::ACCEPTED, &taken))
}

/// `addSessions`
pub async fn add_sessions(
    State(shared): State<Arc<Shared>>,
    Extension(TokenName(token)): Extension<TokenName>,
    body: Body,
) -> Result<Response, Refused> {
    let sessions = read::<Sessions>(body)?.sessions;
    if sessions.len() > MAX_SESSIONS {
        return Err(bad_request(format!("sessions: more than {MAX_SESSIONS} items")));
    }
    on_disk(&shared, move |shared| shared.store.add_sessions(&token, &sessions)).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// `addCrlUrls`
pub async fn add_crl_urls(
    State(shared): State<Arc<Shared>>,
    Extension(TokenName(token)): Extension<TokenName>,
    body: Body,
) -> Result<Response, Refused> {
    let urls = read::<CrlUrls>(body)?.crl_urls;
    if urls.len() > MAX_CRL_URLS {
        return Err(too_large(&format!("more than {MAX_CRL_URLS} URLs")));
    }
    let taken = on_disk(&shared, move |shared| {
        let current = shared.current.get();
        shared.store.add_crl_urls(&token, &urls, &current.proxy.trust.known_crl_urls)
    });
    Ok(json(StatusCode::ACCEPTED, &taken.await?))
}

/// `putStatus`
pub async fn put_status(
    State(shared): State<Arc<Shared>>,
    Extension(TokenName(token)): Extension<TokenName>,
    body: Body,
) -> Result<Response, Refused> {
    let status = read::<Status>(body)?;
    on_disk(&shared, move |shared| shared.store.put_status(&token, &status)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The body as the contract has it, or the answer that says what is wrong with it.
fn read<T: DeserializeOwned>(body: Body) -> Result<T, Refused> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large("the body is too long"),
        _ => bad_request("the body did not arrive whole".to_owned()),
    })?;
    let mut deserializer = serde_json::Deserializer::from_slice(&body);
    let value = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| bad_request(format!("{}: {}", error.path(), error.inner())))?;
    deserializer.end().map_err(|error| bad_request(error.to_string()))?;
    Ok(value)
}

fn bad_request(detail: String) -> Refused {
    refused(StatusCode::BAD_REQUEST, "the body is not what the contract says; nothing of it was stored", Some(detail))
}

fn too_large(detail: &str) -> Refused {
    refused(StatusCode::PAYLOAD_TOO_LARGE, "too much in one request; nothing of it was stored", Some(detail.to_owned()))
}

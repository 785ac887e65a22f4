//! Who may call: the security token, and the log of calls.

use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{HeaderValue, IF_NONE_MATCH, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use license::SecurityToken;
use seonapi_client::TOKEN_HEADER;

use super::Shared;
use super::answer::{on_disk, refused};
use crate::https::Caller;
use crate::journal::{Level, Sparing, escaped, say_anyway};
use crate::store::Standing;

/// Told of callers without a good token.
static REFUSED: Sparing = Sparing::new();

/// Name of the token that a request came with.
#[derive(Clone)]
pub struct TokenName(pub String);

/// Lets requests with a good token pass. Nothing of the body is read before.
pub async fn authorize(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(Caller(caller)): ConnectInfo<Caller>,
    mut request: Request,
    next: Next,
) -> Response {
    let standing = match hash(request.headers()) {
        Some(sha256) => match on_disk(&shared, move |shared| shared.store.standing(&sha256)).await {
            Ok(standing) => standing,
            Err(refused) => return refused.into_response(),
        },
        None => Standing::Unknown,
    };
    match standing {
        Standing::Good(name) => {
            request.extensions_mut().insert(TokenName(name));
            next.run(request).await
        }
        Standing::Disabled(name) => {
            REFUSED.say(Level::Warn, format_args!("{caller} comes with the disabled token {:?}", escaped(&name)));
            refused(StatusCode::FORBIDDEN, "the security token is disabled", None).into_response()
        }
        Standing::Unknown => {
            REFUSED.say(Level::Warn, format_args!("{caller} comes without a known token"));
            let mut answer =
                refused(StatusCode::UNAUTHORIZED, "no security token, or an unknown one", None).into_response();
            // RFC 9110, 15.5.2: every 401 names a way to authenticate.
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("X-Seon-Token"));
            answer
        }
    }
}

/// Writes a line for each call: when, who, what, whether it came with an ETag, and the status of the answer.
pub async fn log(ConnectInfo(Caller(caller)): ConnectInfo<Caller>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = escaped(request.uri().path());
    let etag = if request.headers().contains_key(IF_NONE_MATCH) { "yes" } else { "no" };
    let response = next.run(request).await;
    say_anyway("ACCESS", format_args!("{caller} {method} {path} if-none-match={etag} {}", response.status().as_u16()));
    response
}

/// The hash of the token, if it is one. It is compared as a hash only, so how long that takes tells nothing about it.
fn hash(headers: &HeaderMap) -> Option<String> {
    let token: SecurityToken = headers.get(TOKEN_HEADER)?.to_str().ok()?.parse().ok()?;
    Some(token.sha256_hex())
}

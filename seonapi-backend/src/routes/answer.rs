//! What the operations have in common: answers, and work that waits for the disk.

use std::sync::Arc;

use axum::Json;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use seonapi_client::Problem;
use serde::Serialize;

use super::Shared;
use crate::journal::{Level, say};
use crate::store::StoreError;

/// An answer that says what is wrong, as a problem document (RFC 9457).
pub struct Refused {
    status: StatusCode,
    title: &'static str,
    detail: Option<String>,
}

/// An answer that says what is wrong.
pub fn refused(status: StatusCode, title: &'static str, detail: Option<String>) -> Refused {
    Refused { status, title, detail }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = self.status;
        let problem =
            Problem { kind: None, title: self.title.to_owned(), status: status.as_u16(), detail: self.detail };
        let mut response = (status, Json(problem)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(Problem::MEDIA_TYPE));
        response
    }
}

/// A JSON answer.
pub fn json(status: StatusCode, body: &impl Serialize) -> Response {
    (status, Json(body)).into_response()
}

/// Does something that waits for the disk, off the runtime's thread; an error becomes the answer 500.
pub async fn on_disk<T, F>(shared: &Arc<Shared>, work: F) -> Result<T, Refused>
where
    T: Send + 'static,
    F: FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
{
    let shared = shared.clone();
    let reason = match tokio::task::spawn_blocking(move || work(&shared)).await {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    say(Level::Error, &reason);
    Err(refused(StatusCode::INTERNAL_SERVER_ERROR, "the backend cannot store or read", None))
}

//! What was reported, as text for people or JSON for programs.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use chrono::{DateTime, SecondsFormat, Utc};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use seonapi_client::{Fingerprint, LinkState, SessionDirection, SessionRecord};
use serde::Serialize;

use crate::Failure;
use crate::crl_download::{self, Download};
use crate::journal::{escaped, legible};
use crate::options::{Listing, Place};
use crate::tokens::open;

/// The ended sessions.
pub fn sessions(listing: &Listing) -> Result<(), Failure> {
    list(&open(&listing.place)?.sessions(listing.last)?, listing.form.is_json(), session_line)
}

/// The proxyclients.
pub fn status(place: &Place, json: bool) -> Result<(), Failure> {
    let statuses = open(place)?.statuses()?;
    if json {
        return list(&statuses.iter().map(|(_, status)| status).collect::<Vec<_>>(), true, |_| String::new());
    }
    list(&statuses, false, |(received, status)| {
        let client = &status.client;
        let link = if status.link == LinkState::Up { "up" } else { "down" };
        let mut line = format!(
            "{received} proxyclient {}[{}] {} link {link}",
            shown(&client.host),
            client.pid.unwrap_or_default(),
            shown(&client.version)
        );
        if let Some(server) = &status.server {
            line += &format!(
                ", proxyserver {}[{}] {} with {} session(s) on {}",
                shown(&server.proxy_id),
                server.pid.unwrap_or_default(),
                shown(&server.version),
                server.sessions,
                escaped(&server.listening.join(" "))
            );
        }
        line
    })
}

/// The CRL distribution points, each with what was fetched from it.
pub fn crl_urls(place: &Place) -> Result<(), Failure> {
    let store = open(place)?;
    let mut points: BTreeMap<_, _> = store.crl_urls()?.into_iter().map(|url| (url, None)).collect();
    points.extend(store.crl_downloads()?.into_iter().map(|download| (download.url.clone(), Some(download))));
    for (url, download) in points {
        print(&format!(
            "{}{}\n",
            escaped(&url),
            download.map_or_else(String::new, |download| download_line(&download))
        ))?;
    }
    Ok(())
}

fn download_line(download: &Download) -> String {
    let mut line = format!(" tried {}", crl_download::time(download.tried));
    if let Some(crl) = &download.crl {
        line += &format!(
            " CRL {} of \"{}\" from {} until {}",
            crl.sha256,
            escaped(&crl.issuer),
            crl_download::time(crl.this_update),
            crl_download::time(crl.next_update)
        );
    }
    if let Some(trouble) = &download.trouble {
        line += &format!(" failed {} time(s): {}", download.failures, escaped(trouble));
    }
    line
}

/// The SHA-256 of each certificate in a PEM file.
pub fn fingerprints(file: &Path) -> Result<(), Failure> {
    let text = std::fs::read(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    let ders: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match ders {
        Ok(ders) if !ders.is_empty() => {
            print(&ders.iter().map(|der| format!("{}\n", Fingerprint::of(der))).collect::<String>())
        }
        Ok(_) => Err(format!("{} has no certificate (PEM)", file.display()).into()),
        Err(error) => Err(format!("{} is no PEM file: {error}", file.display()).into()),
    }
}

/// Writes to standard output.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| format!("standard output cannot be written: {error}").into())
}

fn list<T: Serialize>(items: &[T], json: bool, line: impl Fn(&T) -> String) -> Result<(), Failure> {
    for item in items {
        let text = if json { serde_json::to_string(item)? } else { line(item) };
        print(&format!("{text}\n"))?;
    }
    Ok(())
}

fn session_line(session: &SessionRecord) -> String {
    let arrow = match session.direction {
        SessionDirection::Incoming => "from",
        SessionDirection::Outgoing => "to",
    };
    let outcome = format!("{:?}", session.outcome).to_lowercase();
    let files = session.files.len();
    let mut line = format!(
        "{} {} {outcome:9} {arrow} {} {} {files} {}, {} octets from the partner, {} to it",
        time(session.started),
        time(session.ended),
        shown(&session.partner),
        shown(&session.peer_address),
        if files == 1 { "file" } else { "files" },
        session.bytes_from_partner,
        session.bytes_to_partner,
    );
    if let Some(detail) = &session.detail {
        line += &format!(": {}", legible(detail));
    }
    line
}

/// A value that may be missing, as it may stand in a line.
pub fn shown(value: &Option<String>) -> String {
    value.as_deref().map_or_else(|| "-".to_owned(), escaped)
}

/// A time as it is listed.
pub fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

//! What is told about sessions and events, in the words of the Seon API.

use chrono::{DateTime, Utc};
use proxylink::pairing::Direction;
use proxylink::record::{FileDirection, FileResult, Report, SessionOutcome, SessionReport, UnixMillis};
use proxylink::situation::Severity;
use seonapi_client::{
    Component, Event, EventMessage, FileRecord, Fingerprint, Outcome, SessionDirection, SessionRecord,
};
use uuid::Uuid;

/// An event, told by that daemon on that host.
pub fn event(report: &Report, component: Component, host: &str) -> Event {
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
        // A partner that is called has none before it is reached.
        peer_address: report.peer.filter(|peer| !peer.ip().is_unspecified()).map(|peer| peer.to_string()),
    }
}

/// A session record; `None` for a session whose name is none (never for one of our own).
pub fn record(report: SessionReport) -> Option<SessionRecord> {
    Some(SessionRecord {
        id: report.id.to_string().parse().ok()?,
        direction: match report.direction {
            Direction::Incoming => SessionDirection::Incoming,
            Direction::Outgoing => SessionDirection::Outgoing,
        },
        partner: report.partner,
        ssid_code: report.ssid_code,
        peer_address: Some(
            report
                .called
                .clone()
                .filter(|_| report.peer.ip().is_unspecified())
                .unwrap_or_else(|| report.peer.to_string()),
        ),
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
    // What RFC 3339 can write.
    const LAST: i64 = 253_402_300_799_999;
    DateTime::from_timestamp_millis(millis.0.clamp(0, LAST)).unwrap_or_default()
}

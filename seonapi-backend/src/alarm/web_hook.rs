//! The web-hook: one POST for one event, to one place.
//!
//! The body is JSON: `{"version": 1, "number": N, "event": {…}}`, where `number` is what `seon_backend events` shows and
//! `event` is as in the contract. Any answer 2xx will do; its body is not read. No redirect is followed. Tried again is
//! what may get better by itself: no connection, no answer in time, 408, 429 and 5xx. The same event may come twice, with
//! the same `event.id`.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client, Url, redirect, retry};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;

use super::{Trouble, Waiting};
use crate::crl_download::innermost;

/// Longest secret; as long as any header may be.
const LONGEST_SECRET: usize = 4096;
/// Headers that say something else already.
const TAKEN: [&str; 7] =
    ["host", "content-type", "content-length", "transfer-encoding", "connection", "user-agent", "accept"];

/// Where events are posted to.
pub struct WebHook {
    client: Client,
    url: Url,
    secret: Option<(HeaderName, HeaderValue)>,
    /// Calls for one event.
    pub(super) tries: u32,
    /// Calls at once.
    pub(super) at_once: usize,
}

/// What the configuration says of it.
pub struct Setting<'a> {
    /// The URL.
    pub url: &'a str,
    /// Authorities to trust instead of the system's.
    pub authorities: Option<Vec<CertificateDer<'static>>>,
    /// What is sent along.
    pub secret: Option<&'a [u8]>,
    /// The header it is sent in.
    pub secret_header: &'a str,
    /// Whether http may lead to another host.
    pub allow_http: bool,
    /// For one call.
    pub timeout: Duration,
    /// Calls for one event.
    pub tries: u32,
    /// Calls at once.
    pub at_once: usize,
}

impl WebHook {
    /// Checks the settings; fails with the member that is wrong and why. The secret is in no message.
    pub fn new(setting: Setting<'_>) -> Result<Self, (&'static str, String)> {
        let url = url(setting.url, setting.allow_http).map_err(|reason| ("url", reason))?;
        let secret = setting.secret.map(|octets| secret(setting.secret_header, octets)).transpose()?;
        let builder = Client::builder()
            .user_agent(concat!("seon_backend/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .referer(false)
            .pool_max_idle_per_host(0)
            .timeout(setting.timeout);
        let builder = match url.scheme() {
            "http" if !setting.allow_http => {
                // Whatever a resolver says of the name: this host.
                let own = [[127, 0, 0, 1].into(), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1_u16])];
                builder.resolve_to_addrs("localhost", &own.map(|address| (address, 0).into()))
            }
            _ => builder,
        };
        let builder = match setting.authorities {
            Some(certificates) => builder.tls_backend_preconfigured(trusting(certificates).map_err(|why| ("ca", why))?),
            None => builder,
        };
        let client = builder.build().map_err(|error| ("url", innermost(&error)))?;
        Ok(Self { client, url, secret, tries: setting.tries, at_once: setting.at_once })
    }

    /// Where it is, without what may be secret in the URL.
    pub(super) fn shown(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// One call.
    pub(super) async fn post(&self, waiting: &Waiting) -> Result<(), Trouble> {
        let body = serde_json::json!({ "version": 1, "number": waiting.number, "event": waiting.event });
        let mut request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
        if let Some((name, value)) = &self.secret {
            request = request.header(name, value);
        }
        match request.body(body.to_string()).send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => {
                let status = answer.status();
                let again = status.is_server_error() || matches!(status.as_u16(), 408 | 429);
                let advice = if status.is_redirection() { "; redirects are not followed" } else { "" };
                Err(Trouble { reason: format!("it answers {status}{advice}"), again })
            }
            Err(error) if error.is_timeout() => {
                Err(Trouble { reason: "it does not answer in time".to_owned(), again: true })
            }
            Err(error) => Err(Trouble { reason: format!("it cannot be reached: {}", innermost(&error)), again: true }),
        }
    }
}

fn url(text: &str, allow_http: bool) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("no URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a name or password in the URL would be seen by many; secret_file is for that".to_owned());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if allow_http || is_this_host(&url) => Ok(url),
        "http" => {
            Err("http to another host can be read and altered on the way: https expected (or allow_http)".to_owned())
        }
        _ => Err("an https URL expected".to_owned()),
    }
}

fn is_this_host(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

fn secret(header: &str, octets: &[u8]) -> Result<(HeaderName, HeaderValue), (&'static str, String)> {
    let wrong = |reason: &str| ("secret_header", format!("{header:?} {reason}"));
    let name: HeaderName = header.parse().map_err(|_| wrong("is no name of a header"))?;
    if TAKEN.contains(&name.as_str()) {
        return Err(wrong("is a header that every call has already"));
    }
    let octets = octets.trim_ascii();
    if octets.is_empty() || octets.len() > LONGEST_SECRET {
        return Err(("secret_file", format!("1 to {LONGEST_SECRET} octets expected, it has {}", octets.len())));
    }
    if !octets.iter().all(|octet| (b' '..=b'~').contains(octet)) {
        return Err(("secret_file", "one line of visible ASCII characters expected".to_owned()));
    }
    let mut value = HeaderValue::from_bytes(octets).map_err(|_| ("secret_file", "it is no header".to_owned()))?;
    value.set_sensitive(true);
    Ok((name, value))
}

fn trusting(certificates: Vec<CertificateDer<'static>>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_for_this_host_alone_unless_allowed() {
        for (text, allow_http, good) in [
            ("https://alarm.example/x?y", false, true),
            ("http://127.0.0.1:8080/", false, true),
            ("http://127.1.2.3/", false, true),
            ("http://[::1]:8080/", false, true),
            ("http://[::ffff:127.0.0.1]/", false, true),
            ("http://localhost/", false, true),
            ("http://LOCALHOST/", false, true),
            ("http://localhost.example/", false, false),
            ("http://192.0.2.1/", false, false),
            ("http://127.0.0.1.example/", false, false),
            ("http://192.0.2.1/", true, true),
            ("http://user@127.0.0.1/", false, false),
            ("https://:password@alarm.example/", true, false),
            ("ftp://127.0.0.1/", true, false),
            ("alarm.example", true, false),
        ] {
            assert_eq!(url(text, allow_http).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn a_secret_is_one_line_in_a_header_of_its_own() {
        for (header, octets, good) in [
            ("X-Seon-Secret", "s3cret".as_bytes(), true),
            ("Authorization", b"Bearer abc\n", true),
            ("X-Seon-Secret", b"", false),
            ("X-Seon-Secret", b"\n", false),
            ("X-Seon-Secret", b"a\nb", false),
            ("X-Seon-Secret", "ü".as_bytes(), false),
            ("X Seon", b"s3cret", false),
            ("Host", b"s3cret", false),
            ("Content-Length", b"5", false),
        ] {
            let made = secret(header, octets);
            assert_eq!(made.is_ok(), good, "{header} {octets:?}");
            if let Ok((_, value)) = &made {
                assert_eq!(format!("{value:?}"), "Sensitive");
            }
            if let Err((_, reason)) = &made {
                assert!(!reason.contains("s3cret"), "{reason}");
            }
        }
        assert!(secret("X-Seon-Secret", &[b'a'; LONGEST_SECRET + 1]).is_err());
    }
}

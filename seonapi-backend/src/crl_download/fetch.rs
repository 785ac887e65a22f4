//! Fetches a CRL over http or https, from the very address that was checked; each redirect is checked anew.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{ACCEPT, LOCATION};
use reqwest::{Client, Response, Url, redirect, retry};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;

use super::address::permitted;
use crate::configuration::{MAX_CRL, MAX_CRL_PEM, crl_der};

const RESOLVING: Duration = Duration::from_secs(10);
const CONNECTING: Duration = Duration::from_secs(10);
const USUAL: Limits = Limits { silence: Duration::from_secs(30), whole: Duration::from_secs(300) };
/// Redirects that are followed.
const REDIRECTS: usize = 3;

/// How long a server may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Without any octet.
    silence: Duration,
    /// For all of it, redirects included.
    whole: Duration,
}

/// Why there is no CRL.
#[derive(Debug)]
pub struct FetchError(String);

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn failed<T>(reason: impl fmt::Display) -> Result<T, FetchError> {
    Err(FetchError(reason.to_string()))
}

/// The DER form of the CRL at `url`; `private` permits addresses of the own network.
///
/// # Errors
/// What stands in its way: form of the URL, address, HTTP, size (64 MiB of DER), time (5 minutes).
pub async fn fetch(url: &str, private: bool) -> Result<Vec<u8>, FetchError> {
    fetch_within(USUAL, url, private).await
}

async fn fetch_within(limits: Limits, url: &str, private: bool) -> Result<Vec<u8>, FetchError> {
    match timeout(limits.whole, follow(limits, url, private)).await {
        Ok(fetched) => fetched,
        Err(_) => failed(format_args!("it is not there after {} s", limits.whole.as_secs())),
    }
}

async fn follow(limits: Limits, url: &str, private: bool) -> Result<Vec<u8>, FetchError> {
    let mut url = checked(Url::parse(url))?;
    for _ in 0..=REDIRECTS {
        let addresses = addresses(&url, private).await?;
        let response = ask(limits, &url, addresses).await?;
        let status = response.status();
        if status.is_success() {
            return read(response).await;
        }
        if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
            return failed(format_args!("{url} answers {status}"));
        }
        let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        match location {
            Some(location) => url = checked(url.join(location))?,
            None => return failed(format_args!("{url} redirects to nowhere")),
        }
    }
    failed(format_args!("more than {REDIRECTS} redirects, the last one to {url}"))
}

fn checked<E: fmt::Display>(url: Result<Url, E>) -> Result<Url, FetchError> {
    let url = url.map_err(|error| FetchError(format!("no URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return failed(format_args!("{url} is neither http nor https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return failed("there are a name and a password in the URL");
    }
    Ok(url)
}

/// Where the URL's host is, as far as it is permitted. Nothing else is connected to.
async fn addresses(url: &Url, private: bool) -> Result<Vec<SocketAddr>, FetchError> {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return failed(format_args!("there is no host in {url}"));
    };
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let found: Vec<SocketAddr> = match literal {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => match timeout(RESOLVING, tokio::net::lookup_host((host, port))).await {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(error)) => return failed(format_args!("{host} cannot be resolved: {error}")),
            Err(_) => return failed(format_args!("{host} is not resolved in {} s", RESOLVING.as_secs())),
        },
    };
    let fit: Vec<_> = found.iter().filter(|address| permitted(address.ip(), private)).copied().collect();
    match (fit.is_empty(), found.first()) {
        (false, _) => Ok(fit),
        (true, Some(address)) => failed(format_args!(
            "{host} is at {}, which is no address of the internet (see allow_private_crl_addresses)",
            address.ip()
        )),
        (true, None) => failed(format_args!("{host} has no address")),
    }
}

async fn ask(limits: Limits, url: &Url, addresses: Vec<SocketAddr>) -> Result<Response, FetchError> {
    let builder = Client::builder()
        .user_agent(concat!("seon_backend/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .dns_resolver(Arc::new(Pinned(addresses)))
        .connect_timeout(CONNECTING)
        .read_timeout(limits.silence);
    // The system's authorities are read only where they are needed.
    let builder = if url.scheme() == "http" { builder.tls_backend_preconfigured(no_tls()?) } else { builder };
    let client = builder.build().map_err(|error| FetchError(innermost(&error)))?;
    let sent = client.get(url.clone()).header(ACCEPT, "application/pkix-crl, */*;q=0.5").send().await;
    sent.map_err(|error| FetchError(format!("{url}: {}", innermost(&error))))
}

async fn read(mut response: Response) -> Result<Vec<u8>, FetchError> {
    let too_long = || failed(format_args!("it is longer than {} MiB", MAX_CRL >> 20));
    if response.content_length().is_some_and(|length| length > MAX_CRL_PEM) {
        return too_long();
    }
    let mut octets = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| FetchError(innermost(&error)))? {
        if (octets.len() + chunk.len()) as u64 > MAX_CRL_PEM {
            return too_long();
        }
        octets.extend_from_slice(&chunk);
    }
    crl_der(octets).map_err(FetchError)
}

/// Gives the addresses that were checked, whatever name is asked for.
struct Pinned(Vec<SocketAddr>);

impl Resolve for Pinned {
    fn resolve(&self, _: Name) -> Resolving {
        let addresses: Addrs = Box::new(self.0.clone().into_iter());
        Box::pin(std::future::ready(Ok(addresses)))
    }
}

fn no_tls() -> Result<ClientConfig, FetchError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| FetchError(error.to_string()))?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// The reason at the bottom; what lies above only says that it failed.
pub fn innermost(error: &reqwest::Error) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// A server that answers with these octets again and again, and never ends by itself.
    fn server(again_and_again: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/ca.crl", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let _ = socket.read(&mut request);
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 90000000\r\n\r\n");
            // Until the other end has had enough; without octets: until it closes.
            while !again_and_again.is_empty() && socket.write_all(again_and_again).is_ok() {}
            while socket.read(&mut request).is_ok_and(|read| read > 0) {}
        });
        url
    }

    fn fetch_within(limits: Limits, url: &str) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(super::fetch_within(limits, url, true)).unwrap_err().to_string()
    }

    #[test]
    fn a_silent_server_is_given_up() {
        let limits = Limits { silence: Duration::from_millis(100), whole: Duration::from_secs(600) };
        assert!(fetch_within(limits, &server(b"")).contains("timed out"));
    }

    #[test]
    fn a_server_that_trickles_is_given_up() {
        let limits = Limits { silence: Duration::from_secs(600), whole: Duration::from_secs(1) };
        assert_eq!(fetch_within(limits, &server(b"0")), "it is not there after 1 s");
    }

    #[test]
    fn a_url_must_be_one_that_can_be_fetched() {
        for (url, why) in [
            ("ftp://crl.example/ca.crl", "neither http nor https"),
            ("ldap://crl.example/cn=CA", "neither http nor https"),
            ("file:///etc/passwd", "neither http nor https"),
            ("http://", "no URL"),
            ("crl", "no URL"),
            ("http://user@crl.example/", "a name and a password"),
        ] {
            let told = fetch_within(USUAL, url);
            assert!(told.contains(why), "{url}: {told}");
        }
    }
}

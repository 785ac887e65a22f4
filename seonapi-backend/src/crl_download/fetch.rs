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
/// Without any octet.
const SILENCE: Duration = Duration::from_secs(30);
/// For all of it, redirects included.
const WHOLE: Duration = Duration::from_secs(300);
/// Redirects that are followed.
const REDIRECTS: usize = 3;

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
    match timeout(WHOLE, follow(url, private)).await {
        Ok(fetched) => fetched,
        Err(_) => failed(format_args!("it is not there after {} s", WHOLE.as_secs())),
    }
}

async fn follow(url: &str, private: bool) -> Result<Vec<u8>, FetchError> {
    let mut url = checked(Url::parse(url))?;
    for _ in 0..=REDIRECTS {
        let addresses = addresses(&url, private).await?;
        let response = ask(&url, addresses).await?;
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

async fn ask(url: &Url, addresses: Vec<SocketAddr>) -> Result<Response, FetchError> {
    let builder = Client::builder()
        .user_agent(concat!("seon_backend/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .dns_resolver(Arc::new(Pinned(addresses)))
        .connect_timeout(CONNECTING)
        .read_timeout(SILENCE);
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
fn innermost(error: &reqwest::Error) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

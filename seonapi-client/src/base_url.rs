//! The URL of the backend, as the administrator gives it.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;
use reqwest::header::HeaderValue;

/// URL of the Seon API. User and password in it become HTTP Basic authentication and are never printed.
#[derive(Clone)]
pub struct BaseUrl {
    /// With user and password, without a slash at its end.
    url: Url,
}

/// Why a text is no URL of a backend. The text itself is never repeated, as it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    /// Not a URL at all.
    #[error("the URL of the backend is not one: {0}; https://HOST/PATH expected")]
    Syntax(String),
    /// Neither https, nor http to this very host.
    #[error("the URL of the backend must begin with https:// (http:// only to this very host, for a proxy in front)")]
    Scheme,
    /// With a query or a fragment.
    #[error("the URL of the backend must have no `?` and no `#`, as paths are added at its end")]
    Query,
    /// The user and password cannot be sent.
    #[error("user and password in the URL of the backend must be UTF-8 without control characters")]
    Credentials,
}

impl BaseUrl {
    /// The URL of one operation, with the credentials; `path` begins with a slash.
    pub(crate) fn operation(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}{path}"));
        url
    }
}

impl FromStr for BaseUrl {
    type Err = BaseUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = Url::parse(text.trim()).map_err(|error| BaseUrlError::Syntax(error.to_string()))?;
        match url.scheme() {
            "https" if url.has_host() => {}
            "http" if is_here(&url) => {}
            _ => return Err(BaseUrlError::Scheme),
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(BaseUrlError::Query);
        }
        let sendable = |part: &str| HeaderValue::from_str(part).is_ok() && !part.to_ascii_uppercase().contains("%0");
        if !sendable(url.username()) || !url.password().is_none_or(sendable) {
            return Err(BaseUrlError::Credentials);
        }
        Ok(Self { url })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.url.clone();
        if url.password().is_some() && url.set_password(Some("***")).is_err() {
            return f.write_str("***");
        }
        write!(f, "{url}")
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BaseUrl({self})")
    }
}

fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_added_to_the_url_as_it_is() {
        for base in ["https://user:pass@host/seon/seonapi/index.php", "https://user:pass@host/seon/seonapi/index.php/"]
        {
            let base: BaseUrl = base.parse().unwrap();
            let url = base.operation("/proxy/v1/config");
            assert_eq!(url.as_str(), "https://user:pass@host/seon/seonapi/index.php/proxy/v1/config");
        }
        let base: BaseUrl = "https://host:8443".parse().unwrap();
        assert_eq!(base.operation("/proxy/v1/config").as_str(), "https://host:8443/proxy/v1/config");
    }

    #[test]
    fn the_password_is_never_printed() {
        let base: BaseUrl = "https://user:secret@host/x".parse().unwrap();
        assert_eq!(format!("{base} {base:?}"), "https://user:***@host/x BaseUrl(https://user:***@host/x)");
    }

    #[test]
    fn the_token_is_not_sent_in_clear_to_another_host() {
        assert_eq!("http://backend/x".parse::<BaseUrl>().unwrap_err(), BaseUrlError::Scheme);
        for here in ["http://localhost:8080/x", "http://127.0.0.1/x", "http://[::1]:80"] {
            assert!(here.parse::<BaseUrl>().is_ok(), "{here}");
        }
    }

    #[test]
    fn what_is_no_url_of_a_backend_is_refused_without_repeating_it() {
        for text in [
            "",
            "host/path",
            "ftp://u:secret@host/",
            "https://u:secret@host/?a=b",
            "https://u:secret@host/#x",
            "https://u:secret%0A@host/",
        ] {
            let error = text.parse::<BaseUrl>().unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}

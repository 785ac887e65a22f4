//! A backend on loopback that says what a test tells it to say, and keeps what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use seonapi_client::{BaseUrl, CaTrust, SeonApi, Timeouts};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub const TOKEN: &str = "seon_token_of_this_test";

/// What the backend does with one request.
#[derive(Clone)]
pub enum Answer {
    /// Sends these octets and closes.
    Octets(Vec<u8>),
    /// Sends these, and then zeros without end.
    Endless(Vec<u8>),
    /// Sends these, and then nothing, keeping the connection.
    Silent(Vec<u8>),
}

/// An answer with a status, header lines and a body.
pub fn answer(status: &str, headers: &[&str], body: &[u8]) -> Answer {
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    Answer::Octets([head.as_bytes(), body].concat())
}

/// One request, as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub line: String,
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Request {
    /// The value of the header with this lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }
}

pub struct Backend {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Backend {
    /// Answers in clear, one answer after the other, the last one again and again.
    pub async fn plain(answers: Vec<Answer>) -> Self {
        Self::start(answers, None).await
    }

    /// Answers over TLS.
    pub async fn tls(answers: Vec<Answer>, tls: ServerConfig) -> Self {
        Self::start(answers, Some(TlsAcceptor::from(Arc::new(tls)))).await
    }

    async fn start(answers: Vec<Answer>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = requests.clone();
        tokio::spawn(async move {
            let mut answers = answers.into_iter();
            let mut next = answers.next().unwrap();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let served = match &tls {
                    None => serve(socket, &next, &kept).await,
                    // A client that does not trust us leaves in the handshake, and uses no answer up.
                    Some(tls) => match tls.accept(socket).await {
                        Ok(stream) => serve(stream, &next, &kept).await,
                        Err(_) => None,
                    },
                };
                if served.is_some() {
                    next = answers.next().unwrap_or(next);
                }
            }
        });
        Self { address, requests }
    }

    /// What came until now.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// A client of this backend, in clear.
    pub fn client(&self) -> SeonApi {
        self.client_at(&format!("http://{}/index.php", self.address))
    }

    /// A client with this URL.
    pub fn client_at(&self, url: &str) -> SeonApi {
        client(url, &CaTrust::Certificates(vec![Ca::new().certificate()]))
    }
}

/// A client that waits at most a second for anything.
pub fn client(url: &str, trust: &CaTrust) -> SeonApi {
    let second = Duration::from_secs(1);
    let timeouts = Timeouts { connect: second, read: second, total: 10 * second };
    SeonApi::new(url.parse::<BaseUrl>().unwrap(), TOKEN, trust, timeouts).unwrap()
}

async fn serve<S>(mut stream: S, answer: &Answer, kept: &Mutex<Vec<Request>>) -> Option<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = read(&mut stream).await?;
    kept.lock().unwrap().push(request);
    let (octets, then) = match answer {
        Answer::Octets(octets) => (octets, None),
        Answer::Silent(octets) => (octets, Some(false)),
        Answer::Endless(octets) => (octets, Some(true)),
    };
    // The client may leave at any time; that is what some tests are about.
    let _ = stream.write_all(octets).await;
    match then {
        None => {
            let _ = stream.shutdown().await;
        }
        Some(false) => {
            tokio::spawn(async move { stream.read_to_end(&mut Vec::new()).await });
        }
        Some(true) => {
            tokio::spawn(async move { while stream.write_all(&[0; 65_536]).await.is_ok() {} });
        }
    }
    Some(())
}

async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Request> {
    let mut octets = Vec::new();
    let head = loop {
        if let Some(end) = octets.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        octets.push(stream.read_u8().await.ok()?);
    };
    let text = String::from_utf8(octets[..head].to_vec()).ok()?;
    let mut lines = text.lines();
    let line = lines.next()?.to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request { line, headers, body: String::from_utf8(body).unwrap() })
}

/// A certification authority that makes certificates for backends.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "CA of the backend");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn certificate(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server with a certificate for this host name or address, valid until the end of that year.
    pub fn server(&self, host: &str, until: i32) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(until, 12, 31);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap()
    }
}

//! CRLs are downloaded from the distribution points that proxyclients told: what is taken, what is not, what is served.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, SerialNumber,
};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use seonapi_client::{ConfigAnswer, CrlUrl, Fingerprint, SeonApi};

use crate::backend::{Folder, Serving, text};

const DEADLINE: Duration = Duration::from_secs(90);
pub const HOUR: Duration = Duration::from_secs(3600);

/// A CA whose certificate is an anchor of the configuration.
pub struct Ca(pub CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A CRL made so long ago, good for so long from now on (or since so long no more).
    pub fn crl(&self, age: Duration, left: Result<Duration, Duration>) -> rcgen::CertificateRevocationList {
        let now = SystemTime::now();
        let params = CertificateRevocationListParams {
            this_update: (now - age).into(),
            next_update: left.map_or_else(|over| now - over, |left| now + left).into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let issuer: &Issuer<'_, KeyPair> = &self.0;
        params.signed_by(issuer).unwrap()
    }
}

/// A web server that answers as it is told and notes what it is asked.
#[derive(Clone)]
struct Site {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    answers: BTreeMap<String, Vec<u8>>,
    asked: Vec<String>,
    connections: usize,
}

impl Site {
    fn start(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let site = Self { address: listener.local_addr().unwrap(), shared: Arc::default() };
        let serving = site.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                serving.shared.lock().unwrap().connections += 1;
                match &tls {
                    Some(tls) => serving.answer(StreamOwned::new(ServerConnection::new(tls.clone()).unwrap(), socket)),
                    None => serving.answer(socket),
                }
            }
        });
        site
    }

    fn answer(&self, stream: impl Read + Write) {
        let mut stream = BufReader::new(stream);
        let mut first = String::new();
        let mut line = String::new();
        while stream.read_line(&mut line).is_ok_and(|read| read > 2) {
            if first.is_empty() {
                first.clone_from(&line);
            }
            line.clear();
        }
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut shared = self.shared.lock().unwrap();
        let answer = shared.answers.get(&path).cloned();
        shared.asked.push(path);
        drop(shared);
        let answer = answer.unwrap_or_else(|| http("404 Not Found", "", b""));
        // Who asked may have had enough.
        let _ = stream.get_mut().write_all(&answer).and_then(|()| stream.get_mut().flush());
    }

    fn set(&self, path: &str, answer: Vec<u8>) {
        self.shared.lock().unwrap().answers.insert(path.to_owned(), answer);
    }

    fn set_crl(&self, path: &str, octets: &[u8]) {
        self.set(path, http("200 OK", "", octets));
    }

    fn redirect(&self, path: &str, to: &str) {
        self.set(path, http("302 Found", &format!("location: {to}\r\n"), b""));
    }

    fn asked(&self, path: &str) -> usize {
        self.shared.lock().unwrap().asked.iter().filter(|asked| *asked == path).count()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn http(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

/// A backend whose only anchor is this CA, and that fetches each second.
fn folder(ca: &Ca) -> Folder {
    let folder = Folder::new();
    std::fs::write(folder.path("ca.pem"), ca.0.pem()).unwrap();
    folder.change_config("anchors = []", "anchors = [\"ca.pem\"]");
    folder.change_config("[backend]", "[backend]\ncrl_interval_s = 1");
    folder
}

fn private(folder: &Folder) -> (Serving, SeonApi) {
    let token = folder.token("t");
    let serving = folder.serve_with(&["--allow-private-crl-addresses"]);
    let api = folder.client(&serving, &token);
    (serving, api)
}

async fn tell(api: &SeonApi, url: &str, issuer: &str) {
    let url = CrlUrl::new(url, Fingerprint::of(b"certificate"), issuer).unwrap();
    assert_eq!(api.add_crl_urls(&[url]).await.unwrap().added, 1);
}

async fn served(api: &SeonApi) -> Vec<Fingerprint> {
    match api.config(None).await.unwrap() {
        ConfigAnswer::Config { config, .. } => config.trust.crls,
        ConfigAnswer::NotModified => panic!("no ETag was sent"),
    }
}

/// Asks for the configuration until it names exactly this CRL.
async fn wait_until_served(api: &SeonApi, der: &[u8]) {
    let end = Instant::now() + DEADLINE;
    loop {
        let crls = served(api).await;
        if crls == [Fingerprint::of(der)] {
            assert_eq!(api.crl(&crls[0]).await.unwrap(), der);
            return;
        }
        assert!(Instant::now() < end, "served are {crls:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks for the configuration until it names these CRLs in this order.
async fn wait_until_all_served(api: &SeonApi, crls: &[&rcgen::CertificateRevocationList]) {
    let end = Instant::now() + DEADLINE;
    let wanted: Vec<_> = crls.iter().map(|crl| Fingerprint::of(crl.der())).collect();
    loop {
        let crls = served(api).await;
        if crls == wanted {
            return;
        }
        assert!(Instant::now() < end, "served are {crls:?}, {wanted:?} expected");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn on_a_runtime(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn a_crl_is_fetched_again_and_again_and_the_last_good_one_is_served() {
    let (ca, other) = (Ca::new("Partners"), Ca::new("Partners"));
    let (folder, site) = (folder(&ca), Site::start(None));
    let (serving, api) = private(&folder);
    let first = ca.crl(3 * HOUR, Ok(HOUR));
    site.set_crl("/ca.crl", first.der());
    on_a_runtime(async {
        tell(&api, &site.url("/ca.crl"), "CN=Partners").await;
        wait_until_served(&api, first.der()).await;
        // A newer one, as PEM this time.
        let second = ca.crl(2 * HOUR, Ok(HOUR));
        site.set_crl("/ca.crl", second.pem().unwrap().as_bytes());
        wait_until_served(&api, second.der()).await;
        let mut altered = ca.crl(HOUR, Ok(HOUR)).der().to_vec();
        let last = altered.len() - 10;
        altered[last] ^= 1;
        let bad: [(&str, Vec<u8>); 7] = [
            ("neither DER nor PEM", http("200 OK", "", b"<html>not here</html>")),
            ("answers 404", http("404 Not Found", "", b"")),
            ("no anchor proves it", http("200 OK", "", other.crl(HOUR, Ok(HOUR)).der())),
            ("no anchor proves it", http("200 OK", "", &altered)),
            ("older than the one at hand", http("200 OK", "", first.der())),
            ("it has ended", http("200 OK", "", ca.crl(HOUR, Err(HOUR / 2)).der())),
            ("and the certificate that names its place", http("200 OK", "", Ca::new("X").crl(HOUR, Ok(HOUR)).der())),
        ];
        for (why, answer) in bad {
            let asked = site.asked("/ca.crl");
            site.set("/ca.crl", answer);
            let end = Instant::now() + DEADLINE;
            // One may have been under way; once it is asked for anew, what came of the one before is settled.
            while site.asked("/ca.crl") < asked + 3 {
                assert!(Instant::now() < end, "{why}: it is not asked for any more");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            serving.wait_for(why);
            assert_eq!(served(&api).await, [Fingerprint::of(second.der())], "{why}");
        }
        let listed = text(&folder.run(&["crl-urls", "--config", "b/seon_backend.toml"]).stdout);
        let kept = format!("{}/ca.crl tried ", site.url(""));
        assert!(listed.starts_with(&kept) && listed.contains(&Fingerprint::of(second.der()).to_string()), "{listed}");
        assert!(listed.contains("failed ") && listed.contains("\"CN=Partners\""), "{listed}");
        // It is healed by the next good one.
        let third = ca.crl(HOUR, Ok(HOUR));
        site.set_crl("/ca.crl", third.der());
        wait_until_served(&api, third.der()).await;
    });
}

#[test]
fn downloaded_crls_outlive_a_restart_and_a_lost_server() {
    let ca = Ca::new("Partners");
    let (folder, site) = (folder(&ca), Site::start(None));
    let crl = ca.crl(HOUR, Ok(HOUR));
    site.set_crl("/ca.crl", crl.der());
    let (serving, api) = private(&folder);
    on_a_runtime(async {
        tell(&api, &site.url("/ca.crl"), "CN=Partners").await;
        wait_until_served(&api, crl.der()).await;
    });
    drop((api, serving));
    // The private address is not permitted any more: nothing can be fetched.
    let serving = folder.serve();
    let api = folder.client(&serving, &folder.token("u"));
    serving.wait_for("no address of the internet");
    on_a_runtime(async {
        wait_until_served(&api, crl.der()).await;
        // Those of the folder stand beside it.
        let of_the_folder = Ca::new("Others").crl(HOUR, Ok(HOUR));
        std::fs::write(folder.path("crls/others.crl"), of_the_folder.der()).unwrap();
        let all = served(&api).await;
        assert_eq!(all, [of_the_folder.der(), crl.der()].map(|der| Fingerprint::of(der)));
        for (hash, der) in all.iter().zip([of_the_folder.der(), crl.der()]) {
            assert_eq!(api.crl(hash).await.unwrap(), der.as_ref());
        }
    });
}

#[test]
fn a_point_that_the_configuration_names_is_fetched_without_being_told() {
    let ca = Ca::new("Partners");
    let (folder, site) = (folder(&ca), Site::start(None));
    let (good, foreign) = (ca.crl(HOUR, Ok(HOUR)), Ca::new("Strangers").crl(HOUR, Ok(HOUR)));
    site.set_crl("/ca.crl", good.der());
    site.set_crl("/foreign.crl", foreign.der());
    let (one, two) = (site.url("/ca.crl"), site.url("/foreign.crl"));
    folder.change_config("crls = \"crls\"", &format!("crls = \"crls\"\nknown_crl_urls = [\"{one}\", \"{two}\"]"));
    folder.change_config("[backend]", "[backend]\nallow_private_crl_addresses = true");
    let serving = folder.serve();
    let api = folder.client(&serving, &folder.token("t"));
    serving.wait_for("is none of the anchors");
    on_a_runtime(wait_until_served(&api, good.der()));
}

#[test]
fn what_an_anchor_proves_is_taken_whoever_named_its_place_and_keeps_it() {
    let ca = Ca::new("Partners");
    let (folder, site) = (folder(&ca), Site::start(None));
    let (serving, api) = private(&folder);
    let (proven, foreign) = (ca.crl(HOUR, Ok(HOUR)), Ca::new("Strangers").crl(HOUR, Ok(HOUR)));
    let (known, unknown) = (site.url("/partners.crl"), site.url("/strangers.crl"));
    site.set_crl("/partners.crl", proven.der());
    site.set_crl("/strangers.crl", foreign.der());
    on_a_runtime(async {
        tell(&api, &known, "CN=Somebody else").await;
        wait_until_served(&api, proven.der()).await;
        tell(&api, &unknown, "CN=Somebody else").await;
        let line = serving.wait_for("and the certificate that names its place of");
        assert!(line.contains("name the URL under known_crl_urls"), "{line}");
        assert_eq!(served(&api).await, [Fingerprint::of(proven.der())]);
        // Once the administrator has named both, the foreign one is taken, and not in the place of the proven one.
        let named = format!("crls = \"crls\"\nknown_crl_urls = [\"{unknown}\", \"{known}\"]");
        folder.change_config("crls = \"crls\"", &named);
        let both = [&proven, &foreign];
        wait_until_all_served(&api, &both).await;
        site.set_crl("/partners.crl", foreign.der());
        serving.wait_for("and an anchor proves the one at hand");
        wait_until_all_served(&api, &both).await;
        // Where the first one is proven by nobody, it makes way for the right one.
        site.set_crl("/strangers.crl", ca.crl(2 * HOUR, Ok(HOUR)).der());
        serving.wait_for(&format!("the CRL of \"CN=Partners\" from {unknown}"));
    });
}

#[test]
fn a_crl_that_a_new_anchor_proves_is_served_before_others_though_its_server_is_lost() {
    let (ca, one, two) = (Ca::new("Partners"), Ca::new("One"), Ca::new("Two"));
    let (folder, site) = (folder(&ca), Site::start(None));
    let (serving, api) = private(&folder);
    let (of_one, of_two) = (one.crl(HOUR, Ok(HOUR)), two.crl(HOUR, Ok(HOUR)));
    site.set_crl("/one.crl", of_one.der());
    site.set_crl("/two.crl", of_two.der());
    on_a_runtime(async {
        tell(&api, &site.url("/one.crl"), "CN=One").await;
        tell(&api, &site.url("/two.crl"), "CN=Two").await;
        wait_until_all_served(&api, &[&of_one, &of_two]).await;
        for path in ["/one.crl", "/two.crl"] {
            site.set(path, http("404 Not Found", "", b""));
        }
        serving.wait_for("/two.crl answers 404");
        std::fs::write(folder.path("two.pem"), two.0.pem()).unwrap();
        folder.change_config("anchors = [\"ca.pem\"]", "anchors = [\"ca.pem\", \"two.pem\"]");
        wait_until_all_served(&api, &[&of_two, &of_one]).await;
    });
}

#[test]
fn nothing_private_is_connected_to_without_permission() {
    let ca = Ca::new("Partners");
    let (folder, site) = (folder(&ca), Site::start(None));
    let serving = folder.serve();
    let api = folder.client(&serving, &folder.token("t"));
    let port = site.address.port();
    on_a_runtime(async {
        for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0.0.0.0"] {
            let url = format!("http://{host}:{port}/{}.crl", host.len());
            tell(&api, &url, "CN=Partners").await;
            let line = serving.wait_for(&format!("/{}.crl: ", host.len()));
            assert!(line.contains("which is no address of the internet") || line.contains("no address"), "{line}");
        }
        assert!(served(&api).await.is_empty());
    });
    assert_eq!(site.shared.lock().unwrap().connections, 0);
}

#[test]
fn redirects_are_followed_three_times_and_each_is_checked_anew() {
    let ca = Ca::new("Partners");
    let (folder, site) = (folder(&ca), Site::start(None));
    let (serving, api) = private(&folder);
    let crl = ca.crl(HOUR, Ok(HOUR));
    site.set_crl("/ca.crl", crl.der());
    site.redirect("/1", "/ca.crl");
    site.redirect("/2", &format!("http://localhost:{}/1", site.address.port()));
    site.redirect("/3", &site.url("/2"));
    site.redirect("/4", "/3");
    site.redirect("/link-local", "http://169.254.169.254/latest/meta-data/");
    site.redirect("/nobody", "http://0.0.0.0/");
    site.redirect("/file", "file:///etc/passwd");
    site.redirect("/user", &format!("http://user:password@{}/ca.crl", site.address));
    on_a_runtime(async {
        for (path, why) in [
            ("/4", "more than 3 redirects"),
            ("/link-local", "169.254.169.254 is at 169.254.169.254, which is no address of the internet"),
            ("/nobody", "0.0.0.0 is at 0.0.0.0"),
            ("/file", "neither http nor https"),
            ("/user", "a name and a password"),
        ] {
            tell(&api, &site.url(path), "CN=Partners").await;
            let line = serving.wait_for(&format!("{path}: "));
            assert!(line.contains(why), "{path}: {line}");
        }
        assert!(served(&api).await.is_empty());
        tell(&api, &site.url("/3"), "CN=Partners").await;
        wait_until_served(&api, crl.der()).await;
    });
}

#[test]
fn what_is_too_large_is_not_read() {
    let ca = Ca::new("Partners");
    let (folder, site) = (folder(&ca), Site::start(None));
    let (serving, api) = private(&folder);
    site.set("/announced", b"HTTP/1.1 200 OK\r\ncontent-length: 100663297\r\n\r\n0".to_vec());
    // Without an announcement: 97 MiB in one chunk.
    let mut chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6100000\r\n".to_vec();
    chunked.resize(chunked.len() + (97 << 20), 0x30);
    site.set("/unannounced", chunked);
    on_a_runtime(async {
        for path in ["/announced", "/unannounced"] {
            tell(&api, &site.url(path), "CN=Partners").await;
            let line = serving.wait_for(&format!("{path}: "));
            assert!(line.contains("longer than 64 MiB"), "{line}");
        }
    });
}

#[test]
fn over_https_the_server_must_be_the_one_of_the_url() {
    let ca = Ca::new("Partners");
    let folder = folder(&ca);
    let chain = CertificateDer::pem_file_iter(folder.path("https/chain.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(folder.path("https/key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_no_client_auth().with_single_cert(chain, key).unwrap();
    let site = Site::start(Some(Arc::new(tls)));
    let crl = ca.crl(HOUR, Ok(HOUR));
    site.set_crl("/ca.crl", crl.der());
    let (serving, api) = private(&folder);
    on_a_runtime(async {
        // The certificate is for 127.0.0.1 and localhost.
        tell(&api, &format!("https://127.0.0.2:{}/other", site.address.port()), "CN=Partners").await;
        serving.wait_for("/other: ");
        tell(&api, &format!("https://localhost:{}/ca.crl", site.address.port()), "CN=Partners").await;
        wait_until_served(&api, crl.der()).await;
    });
    assert_eq!(site.asked("/other"), 0);
    assert!(TcpStream::connect(site.address).is_ok(), "it still serves");
}

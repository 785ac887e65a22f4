//! A DMZ host that is taken over: it has the identity key and speaks the link as it likes. The proxyclient names partners
//! itself, takes each handshake once, and signs handshakes only.

use std::net::TcpListener;
use std::sync::Arc;

use license::IdentityKey;
use proxylink::control::{ControlEnd, Outbox};
use proxylink::message::{FromClient, FromServer, ServerHello, SignRequest};
use proxylink::pairing::{Chain as Shown, Direction, KeyHash, PairingRequest, SessionId, TlsFacts, Token};
use proxylink::preamble::{self, Preamble};
use proxylink::situation::Situation;
use rustls::pki_types::CertificateDer;
use rustls::version::{TLS12, TLS13};
use serde_json::json;
use tests::harness::{Chain, PATIENCE, Plan, Trouble};
use tests::pki::{self, Authority, Wanted};
use tests::station::{Identity, sha256};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::time::timeout;
use verification::possession::HandshakeSignature;

use crate::handshake::{self, between};

/// TLS of a control connection.
pub type Spoken = tokio_rustls::server::TlsStream<tokio::net::TcpStream>;

/// The evil twin of a proxyserver.
pub struct Dmz {
    pub port: tokio::net::TcpListener,
    pub outbox: Outbox<FromServer>,
    pub inbox: mpsc::Receiver<Result<FromClient, ControlEnd>>,
    sessions: u8,
}

impl Dmz {
    /// Takes the place of the proxyserver and lets the proxyclient link.
    pub async fn start(chain: &mut Chain) -> Result<Self, Trouble> {
        let (port, mut tls) = Self::greeted(chain).await?;
        let theirs = proxylink::frame::read::<FromClient>(&mut tls).await.unwrap();
        assert!(matches!(theirs, FromClient::Hello(_)), "{theirs:?}");
        let (outbox, inbox) = proxylink::control::start(tls, FromServer::Ping);
        Ok(Self { port, outbox, inbox, sessions: 0 })
    }

    /// A control connection on which this side has introduced itself, and the port that it came to.
    pub async fn greeted(chain: &mut Chain) -> Result<(tokio::net::TcpListener, Spoken), Trouble> {
        let (port, mut tls) = Self::reached(chain).await?;
        let hello = ServerHello { version: "evil".into(), pid: 1, host: "dmz".into(), licensed_until: 4_000_000_000 };
        proxylink::frame::write(&mut tls, &FromServer::Hello(hello)).await.unwrap();
        Ok((port, tls))
    }

    /// The same, before a word was said.
    pub async fn reached(chain: &mut Chain) -> Result<(tokio::net::TcpListener, Spoken), Trouble> {
        let identity = IdentityKey::load(&chain.scratch.path().join("state/proxyserver")).unwrap();
        let tls = proxylink::tls::server(identity.pkcs8(), proxylink::tls::Accept::Any).unwrap();
        let port = tokio::net::TcpListener::bind(chain.link_address()).await.unwrap();
        chain.start_client()?;
        let mut socket = timeout(PATIENCE, port.accept()).await.expect("the client dials").unwrap().0;
        assert!(matches!(preamble_of(&mut socket).await, Preamble::Control));
        Ok((port, tokio_rustls::TlsAcceptor::from(Arc::new(tls)).accept(socket).await.unwrap()))
    }

    pub fn new_session(&mut self) -> SessionId {
        self.sessions += 1;
        SessionId::from_random([self.sessions; 16])
    }

    /// What the proxyclient answers to a question of this session.
    pub async fn ask(&mut self, of: SessionId, question: FromServer) -> FromClient {
        self.outbox.send(&question).unwrap();
        self.hear(|message| match message {
            answer @ (FromClient::Paired(session, _)
            | FromClient::PairRefused(session, _)
            | FromClient::Signed(session, _))
                if session == of =>
            {
                Some(answer)
            }
            _ => None,
        })
        .await
    }

    /// Waits for what the proxyclient says.
    pub async fn hear<T>(&mut self, wanted: impl Fn(FromClient) -> Option<T>) -> T {
        loop {
            let heard = timeout(PATIENCE, self.inbox.recv()).await.expect("an answer comes");
            if let Some(found) = wanted(heard.expect("the link stands").expect("the link stands")) {
                return found;
            }
        }
    }

    pub async fn pair(&mut self, session: SessionId, request: PairingRequest) -> FromClient {
        self.ask(session, FromServer::Pair(session, Box::new(request))).await
    }

    /// The situation with which a pairing request of a new session is refused; none when it is taken.
    async fn refusal(&mut self, request: PairingRequest) -> Option<Situation> {
        let session = self.new_session();
        match self.pair(session, request).await {
            FromClient::PairRefused(_, why) => Some(why.situation),
            FromClient::Paired(..) => None,
            other => panic!("{other:?}"),
        }
    }

    /// The situation with which a signature is refused; none when there is one.
    pub async fn sign_refusal(&mut self, session: SessionId, request: SignRequest) -> Option<Situation> {
        match self.ask(session, FromServer::Sign(session, request)).await {
            FromClient::Signed(_, signature) => signature.err().map(|why| why.situation),
            other => panic!("{other:?}"),
        }
    }
}

pub async fn preamble_of(socket: &mut tokio::net::TcpStream) -> Preamble {
    let mut octets = [0; preamble::LENGTH];
    timeout(PATIENCE, socket.read_exact(&mut octets)).await.expect("a preamble comes").unwrap();
    Preamble::read(&octets).unwrap()
}

/// A pairing request of an incoming session with this.
pub fn request(chain: &[CertificateDer<'_>], signature: HandshakeSignature) -> PairingRequest {
    PairingRequest {
        direction: Direction::Incoming,
        peer: "192.0.2.7:40000".parse().unwrap(),
        local: "192.0.2.1:6619".parse().unwrap(),
        chain: Shown(chain.iter().map(|der| serde_bytes::ByteBuf::from(der.to_vec())).collect()),
        signature,
        tls: TlsFacts {
            version: "TLSv1.3".into(),
            cipher_suite: "TLS_AES_256_GCM_SHA384".into(),
            key_exchange: "X25519\n2026-01-01T00:00:00Z INFO forged".into(),
        },
        dmz_key: KeyHash::from_octets([7; 32]),
        token: Token::from_octets([9; 32]),
    }
}

/// Runs a scenario.
pub fn run(test: impl Future<Output = Result<(), Trouble>>) -> Result<(), Trouble> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// A chain with two partners whose receive daemon only notes that it is called.
pub fn prepare() -> Result<(Chain, TcpListener, Identity), Trouble> {
    let daemon = TcpListener::bind("127.0.0.1:0").unwrap();
    daemon.set_nonblocking(true).unwrap();
    let chain = Plan::new()
        .partners(&["ACME", "OTHER"])
        .receive_daemon_at(daemon.local_addr().unwrap())
        .configure(|config| {
            config["partners"][0]["allow_from"] = json!(["192.0.2.0/24"]);
            config["partners"][1]["enabled"] = json!(false);
        })
        .prepare()?;
    let pem = |member: &str| chain.config["identity"][member].as_str().unwrap().to_owned();
    let proxy = Identity { chain_pem: pem("certificate_chain_pem"), key_pem: pem("private_key_pem") };
    Ok((chain, daemon, proxy))
}

#[test]
fn a_dmz_that_lies_about_a_partner_gets_no_session() -> Result<(), Trouble> {
    let (mut chain, daemon, proxy) = prepare()?;
    let [acme, other] = [0, 1].map(|partner| chain.partners[partner].identity.clone());
    let stranger = Authority::new("Strangers")?.issue(&Wanted { name: "ACME", ..Wanted::default() })?;
    let unknown = chain.authority.issue(&Wanted { name: "NOBODY", ..Wanted::default() })?;
    let [acme_chain, other_chain] = [&acme, &other].map(handshake::chain);
    run(async {
        let mut dmz = Dmz::start(&mut chain).await?;
        for version in [&TLS12, &TLS13] {
            let signed = |client: &Identity| between(client, &proxy, version).of_client.unwrap();
            let mut altered_chain = acme_chain.clone();
            let mut octets = altered_chain[0].to_vec();
            let last = octets.len() - 1;
            octets[last] ^= 1;
            altered_chain[0] = octets.into();
            let mut altered_message = signed(&acme);
            let middle = altered_message.message.len() - 20;
            altered_message.message[middle] ^= 1;
            let mut altered_signature = signed(&acme);
            altered_signature.signature[10] ^= 1;
            let mut arbitrary = signed(&acme);
            arbitrary.message = b"anything that the partner may have signed elsewhere".to_vec();
            let mut outgoing = request(&acme_chain, signed(&acme));
            outgoing.direction = Direction::Outgoing;
            let mut elsewhere = request(&acme_chain, signed(&acme));
            elsewhere.peer = "198.51.100.7:40000".parse().unwrap();
            // The partner as TLS server: it proved its key to a caller, not that it called.
            let called = between(&proxy, &acme, version).of_server.unwrap();
            let unproven = Situation::HandshakeSignatureInvalid;
            // In TLS 1.2 the partner signs its certificate too; in 1.3 only its hash is there, and the CA's signature tells.
            let altered =
                if version.version == TLS12.version { unproven } else { Situation::CertificateSignatureInvalid };
            let cases = [
                ("another partner's chain", request(&other_chain, signed(&acme)), unproven),
                ("this partner's chain, another one's signature", request(&acme_chain, signed(&other)), unproven),
                ("an altered certificate", request(&altered_chain, signed(&acme)), altered),
                ("altered handshake octets", request(&acme_chain, altered_message), unproven),
                ("an altered signature", request(&acme_chain, altered_signature), unproven),
                ("octets that are no handshake", request(&acme_chain, arbitrary), unproven),
                ("the wrong end of a handshake", request(&acme_chain, called), unproven),
                ("an outgoing session", outgoing, Situation::PairingRefused),
                ("an address that is not the partner's", elsewhere, Situation::AddressRefused),
                ("a disabled partner", request(&other_chain, signed(&other)), Situation::PartnerDisabled),
                (
                    "a stranger",
                    request(&handshake::chain(&stranger), signed(&stranger)),
                    Situation::CertificateIssuerUnknown,
                ),
                (
                    "nobody's certificate",
                    request(&handshake::chain(&unknown), signed(&unknown)),
                    Situation::PartnerUnknown,
                ),
                ("no certificate", request(&[], signed(&acme)), Situation::CertificateMissing),
            ];
            for (what, request, expected) in cases {
                let refused = dmz.refusal(request).await;
                assert_eq!(refused, Some(expected), "{what}, {:?}", version.version);
            }
        }
        // TLS 1.2: the partner signed all of its handshake with another server, which is not ours to use.
        let other_server = pki::self_signed(&Wanted { name: "Another server", ..Wanted::default() })?;
        let lured = between(&acme, &other_server, &TLS12).of_client.unwrap();
        let refused = dmz.refusal(request(&acme_chain, lured)).await;
        assert_eq!(refused, Some(Situation::HandshakeSignatureInvalid), "a handshake with another server");

        let nobody = daemon.accept().map(|(_, from)| from);
        assert!(nobody.is_err(), "the receive daemon was called by {nobody:?}");
        Ok(())
    })
}

#[test]
fn each_handshake_is_taken_once_and_the_partner_is_named_inside() -> Result<(), Trouble> {
    let (mut chain, daemon, proxy) = prepare()?;
    let acme = chain.partners[0].identity.clone();
    let shown = handshake::chain(&acme);
    run(async {
        let mut dmz = Dmz::start(&mut chain).await?;
        let mut open = Vec::new();
        for version in [&TLS12, &TLS13] {
            let genuine = request(&shown, between(&acme, &proxy, version).of_client.unwrap());
            let session = dmz.new_session();
            let answer = dmz.pair(session, genuine.clone()).await;
            assert!(matches!(answer, FromClient::Paired(..)), "{answer:?}");
            // The inside comes with the token of the request, to the very address of the link.
            let mut data = timeout(PATIENCE, dmz.port.accept()).await.expect("the inside comes").unwrap().0;
            assert!(matches!(preamble_of(&mut data).await, Preamble::Data(token) if token == genuine.token));
            assert!(daemon.accept().is_ok(), "it is connected to the receive daemon");
            open.push(data);

            assert_eq!(dmz.refusal(genuine.clone()).await, Some(Situation::SignatureReplayed), "in another session");
            let again = dmz.pair(session, genuine.clone()).await;
            assert!(matches!(again, FromClient::PairRefused(..)), "in the same session: {again:?}");
            let mut longer = genuine.clone();
            longer.chain.0.push(longer.chain.0[0].clone());
            assert_eq!(dmz.refusal(longer).await, Some(Situation::SignatureReplayed), "with another chain below it");
            assert!(daemon.accept().is_err(), "no second session");
        }
        // A restart of the proxyclient does not make it forget.
        let kept = request(&shown, between(&acme, &proxy, &TLS13).of_client.unwrap());
        assert_eq!(dmz.refusal(kept.clone()).await, None);
        drop(dmz);
        chain.client.take();
        let mut dmz = Dmz::start(&mut chain).await?;
        assert_eq!(dmz.refusal(kept).await, Some(Situation::SignatureReplayed), "after a restart");
        for line in chain.client().lines() {
            assert!(!line.starts_with("2026-01-01T00:00:00Z"), "what the DMZ says forges no line: {line}");
        }
        Ok(())
    })
}

#[test]
fn only_handshakes_are_signed_each_once_and_for_the_own_certificate() -> Result<(), Trouble> {
    let (mut chain, _daemon, proxy) = prepare()?;
    let acme = chain.partners[0].identity.clone();
    let own = handshake::chain(&proxy);
    let mut certificate = [0; 32];
    let digits = sha256(&own[0]);
    for (place, octet) in certificate.iter_mut().enumerate() {
        *octet = u8::from_str_radix(&digits[2 * place..2 * place + 2], 16).unwrap();
    }
    let ask = |message: &[u8]| SignRequest { certificate, scheme: 0x0403, message: message.to_vec() };
    // What the proxy's key signs in its handshakes, as server and as client.
    let incoming = between(&acme, &proxy, &TLS13).of_server.unwrap().message;
    let outgoing = between(&proxy, &acme, &TLS13).of_client.unwrap().message;
    let incoming_12 = between(&acme, &proxy, &TLS12).of_server.unwrap().message;
    let outgoing_12 = between(&proxy, &acme, &TLS12).of_client.unwrap().message;
    run(async {
        let mut dmz = Dmz::start(&mut chain).await?;
        let refused = Some(Situation::SigningRefused);
        let no_handshakes: [(&str, &[u8]); 6] = [
            ("nothing", b""),
            ("a text", b"I owe the bearer a million"),
            ("64 spaces and a text", &[&[0x20; 64], b"TLS 1.3, something else\0".as_slice(), &[1; 32]].concat()),
            ("the client's side of TLS 1.3", &outgoing),
            ("the client's side of TLS 1.2", &outgoing_12),
            ("a CSR", &[0x30, 0x81, 0x90, 0x02, 0x01, 0x00]),
        ];
        for (what, message) in no_handshakes {
            let session = dmz.new_session();
            assert_eq!(dmz.sign_refusal(session, ask(message)).await, refused, "{what}");
        }
        for message in [incoming, incoming_12] {
            let session = dmz.new_session();
            let foreign = SignRequest { certificate: [1; 32], ..ask(&message) };
            assert_eq!(dmz.sign_refusal(session, foreign).await, refused, "another certificate");
            let session = dmz.new_session();
            assert_eq!(dmz.sign_refusal(session, ask(&message)).await, None);
            assert_eq!(dmz.sign_refusal(session, ask(&message)).await, refused, "a second time in one session");
        }
        chain.client_says("signing-refused")?;
        Ok(())
    })
}

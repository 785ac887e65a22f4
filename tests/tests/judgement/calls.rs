//! Outgoing sessions as the proxyclient has them, with a DMZ that does, or does not, what it is asked: the station is
//! answered when the partner's SSRM is there, only the called partner stands, and no lie of the DMZ makes a session.

use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proxylink::message::{FromClient, FromServer, SignRequest};
use proxylink::pairing::{Direction, KeyHash, PairingRequest, SessionId, Token};
use proxylink::preamble::Preamble;
use proxylink::record::{SessionOutcome, SessionReport, UnixMillis};
use proxylink::situation::Situation;
use proxylink::tls::SessionKey;
use rustls::version::{TLS12, TLS13};
use serde_json::{Value, json};
use tests::harness::{Chain, PATIENCE, Plan, Trouble, free_port, table};
use tests::pki::{self, Wanted};
use tests::station::{Identity, sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use verification::possession::HandshakeSignature;

use crate::dmz::{self, Dmz, preamble_of, run};
use crate::handshake::{self, between};

/// SSRM (RFC 5024, 5.3.1) behind its stream header.
pub const SSRM: &[u8] = b"\x10\x00\x00\x17IODETTE FTP READY \r";
/// SSID of an Initiator.
const SSID: &[u8; 65] = b"\x10\x00\x00AX5O0013000000INSIDE        INSIDE  10000BYYN100N            \r";
/// What comes before the SSRM.
pub const GRANTED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// Two partners that can be called, the second by a port of its own, and the proxy's identity.
pub fn prepare() -> Result<(Chain, Identity, u16), Trouble> {
    let own_port = free_port()?;
    let chain = Plan::new()
        .partners(&["ACME", "OTHER", "OFF"])
        .outgoing()?
        .poll_every(1)
        .configure(move |config| {
            config["partners"][0]["address"] = json!("oftp.acme.example:6619");
            config["partners"][1]["listen_port"] = json!(own_port);
            config["partners"][2]["enabled"] = json!(false);
        })
        .prepare()?;
    let pem = |member: &str| chain.config["identity"][member].as_str().unwrap().to_owned();
    let proxy = Identity { chain_pem: pem("certificate_chain_pem"), key_pem: pem("private_key_pem") };
    Ok((chain, proxy, own_port))
}

/// An inside station.
pub struct Caller(pub TcpStream);

impl Caller {
    /// Connects.
    pub async fn at(address: &str) -> Self {
        Self(timeout(PATIENCE, TcpStream::connect(address)).await.expect("the port answers").unwrap())
    }

    /// Connects and says this.
    pub async fn saying(address: &str, octets: &[u8]) -> Self {
        let mut caller = Self::at(address).await;
        caller.0.write_all(octets).await.unwrap();
        caller
    }

    /// Asks for a target by CONNECT.
    pub async fn connect(address: &str, target: &str) -> Self {
        Self::saying(address, format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await
    }

    /// Exactly this comes next.
    pub async fn expect(&mut self, octets: &[u8]) {
        let mut got = vec![0; octets.len()];
        timeout(PATIENCE, self.0.read_exact(&mut got)).await.expect("it comes").unwrap();
        assert_eq!(got, octets, "{}", got.escape_ascii());
    }

    /// Everything until the end.
    pub async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        match timeout(PATIENCE, self.0.read_to_end(&mut rest)).await.expect("its end comes") {
            Ok(_) => {}
            // Closed with something unread.
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
        }
        rest.escape_ascii().to_string()
    }
}

impl Dmz {
    /// The call that the proxyclient asks for next.
    pub async fn called(&mut self) -> (SessionId, String) {
        self.hear(|message| match message {
            FromClient::Call(session, call) => Some((session, call.partner)),
            _ => None,
        })
        .await
    }

    /// As [`Dmz::called`], of ACME.
    pub async fn called_acme(&mut self) -> SessionId {
        let (session, partner) = self.called().await;
        assert_eq!(partner, "ACME");
        session
    }

    /// Waits until this call is given up, and why.
    pub async fn called_off(&mut self, of: SessionId) -> Situation {
        self.hear(|message| match message {
            FromClient::CallOff(session, why) if session == of => Some(why),
            _ => None,
        })
        .await
    }

    /// Why a pairing request is refused.
    async fn why_refused(&mut self, session: SessionId, request: PairingRequest) -> Situation {
        match self.pair(session, request).await {
            FromClient::PairRefused(_, refused) => refused.situation,
            other => panic!("{other:?}"),
        }
    }

    /// The data connection of a session that is paired, with the DMZ's end of TLS.
    async fn data_connection(&mut self, key: &SessionKey, theirs: KeyHash) -> TlsStream<TcpStream> {
        let mut socket = timeout(PATIENCE, self.port.accept()).await.expect("the inside comes").unwrap().0;
        assert!(
            matches!(preamble_of(&mut socket).await, Preamble::Data(token) if token == Token::from_octets([9; 32]))
        );
        let config = Arc::new(key.server(theirs).unwrap());
        let accepting = tokio_rustls::TlsAcceptor::from(config).accept(socket);
        timeout(PATIENCE, accepting).await.expect("it authenticates").unwrap()
    }

    /// A partner that stands, up to the data connection.
    async fn joined(&mut self, session: SessionId, proof: HandshakeSignature, partner: &Identity) -> Joined {
        let key = SessionKey::generate().unwrap();
        let request = PairingRequest { dmz_key: key.hash(), ..request(partner, proof) };
        let FromClient::Paired(_, theirs) = self.pair(session, request).await else { panic!("it is not paired") };
        self.data_connection(&key, theirs).await
    }
}

type Joined = TlsStream<TcpStream>;

/// A pairing request of a called partner.
fn request(partner: &Identity, proof: HandshakeSignature) -> PairingRequest {
    PairingRequest { direction: Direction::Outgoing, ..dmz::request(&handshake::chain(partner), proof) }
}

/// The record of a session, by its dataset-free marks.
pub fn record_of(chain: &Chain, session: SessionId) -> Result<Value, Trouble> {
    let id = session.to_string();
    chain.scripted_backend().wait_for_record("the call", PATIENCE, move |record| record["id"] == id.as_str())
}

#[test]
fn a_station_is_answered_when_the_called_partners_ssrm_is_there() -> Result<(), Trouble> {
    let (mut chain, proxy, own_port) = prepare()?;
    let [acme, other] = [0, 1].map(|partner| chain.partners[partner].identity.clone());
    let (address, other_at) = (chain.proxy_address(), chain.called_at(1));
    run(async {
        let mut dmz = Dmz::start(&mut chain).await?;
        chain.client_says("outgoing-port-open")?;
        let own = format!("127.0.0.1:{own_port}");
        let (other_host, port) = other_at.rsplit_once(':').unwrap();
        let octets: [u8; 4] = other_host.parse::<std::net::Ipv4Addr>().unwrap().octets();
        let socks = [&[5, 1, 0, 5, 1, 0, 1][..], &octets, &port.parse::<u16>().unwrap().to_be_bytes()].concat();
        let connect = |target: &str| format!("CONNECT {target} HTTP/1.1\r\n\r\n").into_bytes();
        let cases = [
            (&address, connect("OFTP.Acme.Example:6619"), "ACME", &acme, GRANTED),
            (&address, connect("ACME:6619"), "ACME", &acme, GRANTED),
            (&address, socks, "OTHER", &other, b"\x05\0\x05\0\0\x01\0\0\0\0\0\0"),
            (&own, Vec::new(), "OTHER", &other, b""),
        ];
        for (at, asks, expected, partner, granted) in cases {
            let mut station = Caller::saying(at, &asks).await;
            let (session, called) = dmz.called().await;
            assert_eq!(called, expected);
            let proof = between(&proxy, partner, &TLS13).of_server.unwrap();
            let mut data = dmz.joined(session, proof, partner).await;
            data.write_all(SSRM).await.unwrap();
            station.expect(&[granted, SSRM].concat()).await;
            station.0.write_all(SSID).await.unwrap();
            let mut passed = [0; SSID.len()];
            timeout(PATIENCE, data.read_exact(&mut passed)).await.expect("it comes").unwrap();
            assert_eq!(&passed, SSID);
            // The station goes first; the DMZ is told so, and then goes as well.
            drop(station);
            timeout(PATIENCE, data.read(&mut [0; 64])).await.expect("an ESID comes").unwrap();
            drop(data);
            let record = record_of(&chain, session)?;
            assert_eq!(record["direction"], "outgoing");
            assert_eq!((&record["partner"], &record["outcome"]), (&json!(expected), &json!("aborted")));
            assert_eq!(record["peer_address"], "192.0.2.7:40000");
        }
        chain.client_says("outgoing-station-lost")?;
        Ok(())
    })
}

#[test]
fn only_the_called_partner_stands_and_each_lie_ends_the_call() -> Result<(), Trouble> {
    let (mut chain, proxy, _) = prepare()?;
    let [acme, other] = [0, 1].map(|partner| chain.partners[partner].identity.clone());
    let namesake = pki::self_signed(&Wanted { name: "ACME", ..Wanted::default() })?;
    let address = chain.proxy_address();
    run(async {
        let mut dmz = Dmz::start(&mut chain).await?;
        chain.client_says("outgoing-port-open")?;
        for version in [&TLS12, &TLS13] {
            let of = |partner: &Identity| between(&proxy, partner, version).of_server.unwrap();
            let mut incoming = request(&acme, of(&acme));
            incoming.direction = Direction::Incoming;
            let mut altered = of(&acme);
            altered.message[20] ^= 1;
            let came = dmz::request(&handshake::chain(&acme), between(&acme, &proxy, version).of_client.unwrap());
            let unproven = Situation::HandshakeSignatureInvalid;
            let cases = [
                ("another partner", request(&other, of(&other)), Situation::CertificateNameMismatch),
                ("another's key", request(&acme, of(&other)), unproven),
                ("an altered handshake", request(&acme, altered), unproven),
                ("a stranger of that name", request(&namesake, of(&namesake)), Situation::CertificateNotPinned),
                ("a genuine server as one that came", incoming, Situation::PairingRefused),
                ("one that came", came.clone(), Situation::PairingRefused),
                (
                    "one that came as one that was called",
                    PairingRequest { direction: Direction::Outgoing, ..came },
                    unproven,
                ),
            ];
            for (what, request, expected) in cases {
                let mut station = Caller::connect(&address, "ACME:6619").await;
                let session = dmz.called_acme().await;
                assert_eq!(dmz.why_refused(session, request.clone()).await, expected, "{what}, {:?}", version.version);
                let told = station.rest().await;
                assert!(told.starts_with(&format!("HTTP/1.1 502 Bad Gateway ({expected})")), "{what}: {told}");
                assert_eq!(record_of(&chain, session)?["outcome"], "refused", "{what}");
                // Nothing more comes of this call, not even by the truth.
                let late = dmz.why_refused(session, self::request(&acme, of(&acme))).await;
                assert_eq!(late, Situation::PairingRefused, "{what}");
            }
        }
        // Without a call nobody was called.
        let proof = between(&proxy, &acme, &TLS13).of_server.unwrap();
        let session = dmz.new_session();
        assert_eq!(dmz.why_refused(session, request(&acme, proof.clone())).await, Situation::PairingRefused);
        // Twice in one session: the first one goes on. In another one it is known.
        let mut station = Caller::connect(&address, "ACME:6619").await;
        let session = dmz.called_acme().await;
        let mut data = dmz.joined(session, proof.clone(), &acme).await;
        let again = between(&proxy, &acme, &TLS13).of_server.unwrap();
        assert_eq!(dmz.why_refused(session, request(&acme, again)).await, Situation::PairingRefused);
        data.write_all(SSRM).await.unwrap();
        station.expect(&[GRANTED, SSRM].concat()).await;
        let mut second = Caller::connect(&address, "ACME:6619").await;
        let session = dmz.called_acme().await;
        assert_eq!(dmz.why_refused(session, request(&acme, proof)).await, Situation::SignatureReplayed);
        assert!(second.rest().await.contains("handshake-signature-replayed"));
        Ok(())
    })
}

#[test]
fn signatures_of_a_call_are_made_for_the_called_partner_alone_and_once() -> Result<(), Trouble> {
    let (mut chain, proxy, _) = prepare()?;
    let [acme, other] = [0, 1].map(|partner| chain.partners[partner].identity.clone());
    let own = handshake::chain(&proxy);
    let mut certificate = [0; 32];
    let digits = sha256(&own[0]);
    for (place, octet) in certificate.iter_mut().enumerate() {
        *octet = u8::from_str_radix(&digits[2 * place..2 * place + 2], 16).unwrap();
    }
    let ask = |message: &[u8]| SignRequest { certificate, scheme: 0x0403, message: message.to_vec() };
    let as_client = |server: &Identity, version| between(&proxy, server, version).of_client.unwrap().message;
    let as_server = |version| between(&acme, &proxy, version).of_server.unwrap().message;
    let with_another = between(&other, &acme, &TLS12).of_client.unwrap().message;
    let address = chain.proxy_address();
    run(async {
        let mut dmz = Dmz::start(&mut chain).await?;
        chain.client_says("outgoing-port-open")?;
        let refused = Some(Situation::SigningRefused);
        let cases = [
            ("TLS 1.3 with whomever", as_client(&acme, &TLS13), None),
            ("TLS 1.2 with the partner", as_client(&acme, &TLS12), None),
            ("TLS 1.2 with another partner", as_client(&other, &TLS12), Some(Situation::CertificateNameMismatch)),
            ("TLS 1.2 with another certificate of ours", with_another, refused),
            ("the server's side of TLS 1.3", as_server(&TLS13), refused),
            ("the server's side of TLS 1.2", as_server(&TLS12), refused),
        ];
        let mut stations = Vec::new();
        for (what, message, expected) in cases {
            stations.push(Caller::connect(&address, "ACME:6619").await);
            let session = dmz.called_acme().await;
            assert_eq!(dmz.sign_refusal(session, ask(&message)).await, expected, "{what}");
            if expected.is_none() {
                assert_eq!(dmz.sign_refusal(session, ask(&message)).await, refused, "{what}, twice");
            }
        }
        // Once the call is over, nothing is signed for it, of either direction.
        let station = Caller::connect(&address, "ACME:6619").await;
        let session = dmz.called_acme().await;
        drop(station);
        assert_eq!(dmz.called_off(session).await, Situation::StationLeft);
        for message in [as_client(&acme, &TLS13), as_server(&TLS13)] {
            assert_eq!(dmz.sign_refusal(session, ask(&message)).await, refused);
        }
        Ok(())
    })
}

#[test]
fn what_the_dmz_says_of_calls_that_were_not_made_ends_the_link_or_is_dropped() -> Result<(), Trouble> {
    let (mut chain, _, _) = prepare()?;
    let address = chain.proxy_address();
    run(async {
        let mut dmz = Dmz::start(&mut chain).await?;
        chain.client_says("outgoing-port-open")?;
        // A record of the DMZ must not stand for the call's own.
        let mut station = Caller::connect(&address, "ACME:6619").await;
        let session = dmz.called_acme().await;
        let record = SessionReport {
            id: session,
            direction: Direction::Incoming,
            partner: None,
            ssid_code: None,
            peer: "192.0.2.66:1".parse().unwrap(),
            called: None,
            certificate: None,
            tls: None,
            started: UnixMillis(0),
            ended: UnixMillis(0),
            outcome: SessionOutcome::Refused,
            situation: Situation::HandshakeFailed,
            detail: "forged".to_owned(),
            octets_from_partner: 0,
            octets_to_partner: 0,
            files: Vec::new(),
        };
        dmz.outbox.send(&FromServer::Record(Box::new(record.clone()))).unwrap();
        // What it saw is taken from it, who was called is not.
        let mut seen = record;
        (seen.partner, seen.called) = (Some("OTHER".to_owned()), Some("elsewhere:1".to_owned()));
        crate::calls_refused::fail(&dmz, session, Situation::CallRefused, Some(seen));
        assert!(station.rest().await.starts_with("HTTP/1.1 502 Bad Gateway (call-refused)"));
        let record = record_of(&chain, session)?;
        assert_eq!((&record["direction"], &record["partner"]), (&json!("outgoing"), &json!("ACME")));
        assert_eq!(record["peer_address"], "192.0.2.66:1");
        assert!(!record.to_string().contains("forged"), "{record}");
        // A second word on a call that is over is a race; one on none is a lie.
        crate::calls_refused::fail(&dmz, session, Situation::CallRefused, None);
        let unknown = dmz.new_session();
        crate::calls_refused::fail(&dmz, unknown, Situation::CallRefused, None);
        dmz.hear(|message| matches!(message, FromClient::Goodbye(_)).then_some(())).await;
        chain.client().wait_for("a lie that is told", |line| {
            line.contains(" link-message-invalid ") && line.contains("call that was not made")
        })?;
        Ok(())
    })
}

#[test]
fn a_station_whose_session_is_ended_while_its_data_connection_is_made_hears_why() -> Result<(), Trouble> {
    let stopped = ("503 Service Unavailable", Situation::SessionStopped);
    let withdrawn = ("502 Bad Gateway", Situation::SessionWithdrawn);
    for (status, why) in [stopped, withdrawn] {
        let (mut chain, proxy, _) = prepare()?;
        let acme = chain.partners[0].identity.clone();
        let address = chain.proxy_address();
        run(async {
            let mut dmz = Dmz::start(&mut chain).await?;
            chain.client_says("outgoing-port-open")?;
            let mut station = Caller::connect(&address, "ACME:6619").await;
            let session = dmz.called_acme().await;
            let proof = between(&proxy, &acme, &TLS13).of_server.unwrap();
            let FromClient::Paired(..) = dmz.pair(session, request(&acme, proof)).await else { panic!("not paired") };
            // It gets no answer.
            let mut socket = timeout(PATIENCE, dmz.port.accept()).await.expect("the inside comes").unwrap().0;
            preamble_of(&mut socket).await;
            match why {
                Situation::SessionStopped => chain.client().signal(Signal::SIGTERM),
                _ => chain.reconfigure(|config| config["partners"][0]["enabled"] = json!(false)),
            }
            let told = station.rest().await;
            assert!(told.starts_with(&format!("HTTP/1.1 {status} ({why})")), "{told}");
            let record = record_of(&chain, session)?;
            assert!(record["detail"].as_str().is_some_and(|detail| detail.contains(why.code())), "{record}");
            Ok(())
        })?;
    }
    Ok(())
}

/// A data connection that stands when its call is over is no session that nobody knows of: its partner would never be judged
/// by a newer configuration.
#[test]
fn a_call_that_is_over_while_its_data_connection_is_made_does_not_run_on() -> Result<(), Trouble> {
    for agent_dies in [false, true] {
        let (mut chain, proxy, _) = prepare()?;
        let acme = chain.partners[0].identity.clone();
        let address = chain.proxy_address();
        run(async {
            let mut dmz = Dmz::start(&mut chain).await?;
            chain.client_says("outgoing-port-open")?;
            let mut station = Caller::connect(&address, "ACME:6619").await;
            let session = dmz.called_acme().await;
            let key = SessionKey::generate().unwrap();
            let proof = between(&proxy, &acme, &TLS13).of_server.unwrap();
            let request = PairingRequest { dmz_key: key.hash(), ..request(&acme, proof) };
            let FromClient::Paired(_, theirs) = dmz.pair(session, request.clone()).await else { panic!("not paired") };
            let mut socket = timeout(PATIENCE, dmz.port.accept()).await.expect("the inside comes").unwrap().0;
            preamble_of(&mut socket).await;
            if agent_dies {
                let all = table::below(chain.client().pid());
                let agent = all.iter().find(|entry| entry.name == "agent").expect("it runs");
                kill(Pid::from_raw(agent.pid), Signal::SIGKILL).unwrap();
                chain.client_says("role-died")?;
            } else {
                crate::calls_refused::fail(&dmz, session, Situation::CallRefused, None);
                // An answer to something else: it has heard the word before.
                let other = dmz.new_session();
                assert_eq!(dmz.why_refused(other, request).await, Situation::PairingRefused);
            }
            let config = Arc::new(key.server(theirs).unwrap());
            if let Ok(mut data) = tokio_rustls::TlsAcceptor::from(config).accept(socket).await {
                let _ = data.write_all(SSRM).await;
                let _ = timeout(PATIENCE, data.read_to_end(&mut Vec::new())).await.expect("it ends");
            }
            station.rest().await;
            assert_ne!(record_of(&chain, session)?["outcome"], "completed");
            Ok(())
        })?;
    }
    Ok(())
}

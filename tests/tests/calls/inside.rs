//! A scripted inside: it links to the built proxyserver, gives it a snapshot, has partners called, and signs and pairs as
//! a proxyclient does.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use license::{IdentityKey, LinkKey};
use proxylink::control::Outbox;
use proxylink::frame;
use proxylink::message::{Call, CallFailed, ClientHello, FromClient, FromServer, Refused, SignRequest, Whole, parts};
use proxylink::pairing::{Chain as Shown, Direction, KeyHash, PairingRequest, SessionId};
use proxylink::preamble::Preamble;
use proxylink::record::Report;
use proxylink::situation::Situation;
use proxylink::snapshot::{Limits, MinimumTls, Snapshot};
use proxylink::tls::{KeyExchange, SessionKey};
use rustls::ClientConnection;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_bytes::ByteBuf;
use tests::harness::{Chain, PATIENCE};
use tests::station::{Connection, Identity};
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;
use verification::possession::{HandshakeSignature, Version};
use verification::{Der, Fingerprint, PartnerSource, PolicySource, Revocation};

/// The inside of a link.
pub struct Inside {
    outbox: Outbox<FromClient>,
    inbox: Receiver<FromServer>,
    /// Ends the link when it is dropped.
    thread: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    link: String,
    proxy: Identity,
    sessions: u8,
    snapshots: u64,
    /// What the DMZ has told for the system log.
    pub reports: Vec<Report>,
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.thread.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

/// A call that came to a session.
pub struct Called {
    /// What the DMZ asked for its pairing.
    pub request: PairingRequest,
    /// The signature that the partner's handshake needed; none when the partner wanted no certificate.
    pub signed: Option<SignRequest>,
    /// The inside's end of the session.
    pub data: Connection,
}

/// A snapshot with these partners, who are trusted by their chain to the authority of the harness.
pub fn snapshot(chain: &Chain, partners: Vec<PartnerSource>) -> Snapshot {
    let seconds = Duration::from_secs;
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec();
    let own =
        CertificateDer::pem_slice_iter(chain.config["identity"]["certificate_chain_pem"].as_str().unwrap().as_bytes());
    Snapshot {
        number: 0,
        listen: vec![chain.partner_address().parse().unwrap()],
        identity: Shown(own.map(|own| ByteBuf::from(own.unwrap().to_vec())).collect()),
        signature_schemes: vec![0x0403],
        minimum_tls: MinimumTls::Tls12,
        outgoing_ip: None,
        limits: Limits {
            max_sessions: 100,
            max_sessions_per_address: 100,
            max_unverified: 100,
            handshake_timeout: seconds(300),
            pairing_timeout: seconds(300),
            inactivity_timeout: seconds(300),
            drain_timeout: seconds(300),
            max_exchange_buffer: 99_999,
            offender_refuse: Duration::ZERO,
        },
        policy: PolicySource {
            anchors: vec![Der::from(der(&chain.authority.certificate_pem()))],
            revocation: Revocation::Off,
            partners,
            ..PolicySource::default()
        },
        crls: Vec::new(),
    }
}

/// The partner of the harness, to be called there.
pub fn partner(chain: &Chain, address: &str) -> PartnerSource {
    let partner = &chain.partners[0];
    let own = CertificateDer::from_pem_slice(partner.identity.chain_pem.as_bytes()).unwrap();
    PartnerSource {
        certificate_sha256: vec![Fingerprint::of(&own)],
        ssid_codes: vec![partner.code.clone()],
        address: Some(address.to_owned()),
        ..PartnerSource::named(partner.name.clone())
    }
}

impl Inside {
    /// Links to the proxyserver of the chain.
    pub fn link(chain: &Chain) -> Self {
        let token = std::fs::read_to_string(chain.scratch.path().join("token")).unwrap();
        let key = LinkKey::derive(&token.parse().unwrap());
        let server = IdentityKey::load(&chain.scratch.path().join("state/proxyserver")).unwrap();
        let config = proxylink::tls::client(key.pkcs8(), KeyHash::of_spki(server.spki())).unwrap();
        let link = chain.link_address();
        let (ready, is_ready) = channel();
        let (forward, inbox) = channel();
        let (stop, mut stopped) = oneshot::channel();
        let address = link.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let serve = async move {
            let mut socket = tokio::net::TcpStream::connect(&address).await.unwrap();
            socket.write_all(&Preamble::Control.write()).await.unwrap();
            let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
            let mut tls = connector.connect(proxylink::tls::server_name(), socket).await.unwrap();
            let hello = ClientHello { instance: [6; 16], version: "scripted".into(), pid: 1, host: "inside".into() };
            frame::write(&mut tls, &FromClient::Hello(hello)).await.unwrap();
            let theirs: FromServer = frame::read(&mut tls).await.unwrap();
            assert!(matches!(theirs, FromServer::Hello(_)), "{theirs:?}");
            let (outbox, mut heard) = proxylink::control::start(tls, FromClient::Ping);
            ready.send(outbox).unwrap();
            loop {
                tokio::select! {
                    message = heard.recv() => match message {
                        // Nobody listens any more at the end of a test.
                        Some(Ok(message)) => drop(forward.send(message)),
                        Some(Err(_)) | None => return,
                    },
                    _ = &mut stopped => return,
                }
            }
        };
        let thread = std::thread::spawn(move || runtime.block_on(serve));
        let outbox = is_ready.recv_timeout(PATIENCE).unwrap();
        let pem = |member: &str| chain.config["identity"][member].as_str().unwrap().to_owned();
        let proxy = Identity { chain_pem: pem("certificate_chain_pem"), key_pem: pem("private_key_pem") };
        Self {
            outbox,
            inbox,
            thread: Some((stop, thread)),
            link,
            proxy,
            sessions: 0,
            snapshots: 0,
            reports: Vec::new(),
        }
    }

    pub fn say(&self, message: FromClient) {
        self.outbox.send(&message).expect("the link stands");
    }

    /// The next message that is about a session or a snapshot; none when the link has ended.
    pub fn hear(&mut self) -> Option<FromServer> {
        loop {
            let message = match self.inbox.recv_timeout(PATIENCE) {
                Ok(message) => message,
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => panic!("the DMZ says nothing"),
            };
            match message {
                FromServer::Ping | FromServer::Sessions(_) | FromServer::Listening(_) => {}
                FromServer::Report(report) => self.reports.push(report),
                message => return Some(message),
            }
        }
    }

    /// Has a snapshot taken.
    pub fn give(&mut self, mut snapshot: Snapshot) {
        self.snapshots += 1;
        snapshot.number = self.snapshots;
        let octets = frame::encode(&snapshot).unwrap();
        for part in parts(Whole::Snapshot(snapshot.number), &octets) {
            self.say(FromClient::Part(part));
        }
        let heard = self.hear();
        assert!(matches!(heard, Some(FromServer::SnapshotTaken(number)) if number == self.snapshots), "{heard:?}");
    }

    /// Asks for a session with a partner.
    pub fn call(&mut self, partner: &str) -> SessionId {
        self.sessions += 1;
        let session = SessionId::from_random([self.sessions; 16]);
        self.say(FromClient::Call(session, Call { partner: partner.to_owned() }));
        session
    }

    /// A signature as the agent would give it.
    pub fn signature(&self, request: &SignRequest) -> Vec<u8> {
        let key = PrivateKeyDer::from_pem_slice(self.proxy.key_pem.as_bytes()).unwrap();
        let key = any_supported_type(&key).unwrap();
        key.choose_scheme(&[request.scheme.into()]).unwrap().sign(&request.message).unwrap()
    }

    /// Serves what a call asks for, up to its pairing request.
    pub fn up_to_pairing(
        &mut self,
        session: SessionId,
    ) -> Result<(Box<PairingRequest>, Option<SignRequest>), Box<CallFailed>> {
        let mut signed = None;
        loop {
            match self.hear() {
                Some(FromServer::Sign(of, request)) if of == session && signed.is_none() => {
                    let signature = self.signature(&request);
                    self.say(FromClient::Signed(session, Ok(ByteBuf::from(signature))));
                    signed = Some(request);
                }
                Some(FromServer::Pair(of, request)) if of == session => return Ok((request, signed)),
                Some(FromServer::CallFailed(of, failed)) if of == session => return Err(failed),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Takes the session: its data connection stands afterwards.
    pub fn pair(&mut self, session: SessionId, request: &PairingRequest) -> Connection {
        self.pair_and(session, request, || {})
    }

    /// As [`Inside::pair`], and does something when the session has begun its part of the handshake and waits for ours.
    pub fn pair_and(&mut self, session: SessionId, request: &PairingRequest, then: impl FnOnce()) -> Connection {
        let key = SessionKey::generate().unwrap();
        self.say(FromClient::Paired(session, key.hash()));
        let mut socket = TcpStream::connect(&self.link).unwrap();
        socket.write_all(&Preamble::Data(request.token).write()).unwrap();
        let exchange = KeyExchange::no_weaker_than(&request.tls);
        let config = Arc::new(key.client(request.dmz_key, exchange).unwrap());
        let mut tls = ClientConnection::new(config, proxylink::tls::server_name()).unwrap();
        let write = |tls: &mut ClientConnection, socket: &mut TcpStream| {
            while tls.wants_write() {
                tls.write_tls(socket).unwrap();
            }
        };
        write(&mut tls, &mut socket);
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        tls.read_tls(&mut socket).unwrap();
        tls.process_new_packets().unwrap();
        then();
        write(&mut tls, &mut socket);
        Connection::new(socket, Some(tls.into()), PATIENCE).unwrap()
    }

    /// A call, and the whole set-up of its session.
    pub fn connect(&mut self, partner: &str) -> Result<Called, Box<CallFailed>> {
        let session = self.call(partner);
        let (request, signed) = self.up_to_pairing(session)?;
        assert_eq!(request.direction, Direction::Outgoing);
        let data = self.pair(session, &request);
        Ok(Called { request: *request, signed, data })
    }

    /// Why a call comes to nothing.
    pub fn failure(&mut self, partner: &str) -> Box<CallFailed> {
        let session = self.call(partner);
        match self.up_to_pairing(session) {
            Err(failed) => failed,
            Ok((request, _)) => panic!("it was not refused: {:?}", request.peer),
        }
    }

    /// Refuses a session.
    pub fn refuse(&self, session: SessionId, situation: Situation) {
        self.say(FromClient::PairRefused(session, Refused { situation, text: "said by the inside".into() }));
    }
}

/// Whether the partner's signature in the handshake was verified by what the DMZ sent inside.
pub fn is_proven(request: &PairingRequest) -> bool {
    let HandshakeSignature { version, .. } = &request.signature;
    let certificate = CertificateDer::from(request.chain.0[0].to_vec());
    let expected = if request.tls.version == "TLSv1.3" { Version::Tls13 } else { Version::Tls12 };
    *version == expected && request.signature.verify(&certificate, verification::Direction::Called).is_ok()
}

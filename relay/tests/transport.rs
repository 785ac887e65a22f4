//! The TLS transport: handshakes that fail in each of their ways, and what TLS does besides carrying octets.

mod stage;

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use relay::tls::{HandshakeError, Tls};
use relay::{EndOrder, Ending, Loss, Orders, Side, Which};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::{AlertDescription, CertificateError, ClientConnection, ConnectionTrafficSecrets, Error};
use stage::octets::{CD, ESID_NORMAL, SSID_CALLED, SSID_CALLING, SSRM};
use stage::tls::{Identity, TLS12, TLS13, accept, called_by_station, calling_station, client, client_with, connect};
use stage::tls::{called_station, calling_the_station, demanding_server, server, server_name};
use stage::{FromSocket, PATIENCE, Scene, connection, no_orders, plain};

#[test]
fn the_facts_of_a_handshake_carry_the_registrys_names() {
    for (version, name, suites) in [
        (TLS13, "TLSv1.3", ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"]),
        (TLS12, "TLSv1.2", ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]),
    ] {
        let (Side::Tls(tls), _station) = called_by_station(version) else { panic!("no TLS") };
        let facts = tls.facts();
        assert_eq!(facts.version, name);
        assert!(suites.contains(&facts.cipher_suite.as_str()), "{facts:?}");
        assert!(["X25519MLKEM768", "X25519"].contains(&facts.key_exchange.as_str()), "{facts:?}");
        assert!(tls.peer_certificates().is_empty());
    }
}

#[test]
fn the_peers_certificate_is_handed_out() {
    let (ours, theirs) = (Identity::new("relay.test"), Identity::new("partner.test"));
    for version in [TLS13, TLS12] {
        let (socket, other) = connection();
        let configuration = demanding_server(&ours, theirs.trusted(), version);
        let answering = std::thread::spawn(move || accept(socket, configuration).unwrap());
        let mut station = calling_station(other, client_with(&ours, &theirs, version));
        station.stream.flush().unwrap();
        assert_eq!(answering.join().unwrap().peer_certificates().first(), Some(&theirs.certificate));
    }
}

#[test]
fn a_certificate_that_is_refused_is_told_the_peer_by_an_alert() {
    let (ours, expected, stranger) =
        (Identity::new("relay.test"), Identity::new("partner.test"), Identity::new("stranger.test"));
    for version in [TLS13, TLS12] {
        let (socket, other) = connection();
        let configuration = demanding_server(&ours, expected.trusted(), version);
        let answering = std::thread::spawn(move || accept(socket, configuration));
        let mut station = calling_station(other, client_with(&ours, &stranger, version));
        let seen = alert(&mut station);
        drop(station);
        assert!(matches!(seen, Error::AlertReceived(AlertDescription::UnknownCA)), "{seen:?}");
        match answering.join().unwrap() {
            Err(HandshakeError::Refused(Error::InvalidCertificate(CertificateError::UnknownIssuer))) => {}
            other => panic!("{:?}", other.err()),
        }
    }
}

#[test]
fn a_peer_without_certificate_is_told_so_by_an_alert() {
    let (ours, expected) = (Identity::new("relay.test"), Identity::new("partner.test"));
    for version in [TLS13, TLS12] {
        let (socket, other) = connection();
        let configuration = demanding_server(&ours, expected.trusted(), version);
        let answering = std::thread::spawn(move || accept(socket, configuration));
        let mut station = calling_station(other, client(&ours, version));
        let seen = alert(&mut station);
        drop(station);
        assert!(matches!(seen, Error::AlertReceived(AlertDescription::CertificateRequired)), "{seen:?}");
        match answering.join().unwrap() {
            Err(HandshakeError::Refused(Error::NoCertificatesPresented)) => {}
            other => panic!("{:?}", other.err()),
        }
    }
}

#[test]
fn a_refusal_by_the_peer_is_told_as_its_alert() {
    let (ours, other_identity) = (Identity::new("relay.test"), Identity::new("relay.test"));
    let (socket, other) = connection();
    let configuration = server(&ours, TLS13);
    let answering = std::thread::spawn(move || accept(socket, configuration));
    let mut station = calling_station(other, client(&other_identity, TLS13));
    station.stream.flush().unwrap_err();
    match answering.join().unwrap() {
        Err(HandshakeError::PeerAlert(alert)) => assert_eq!(alert, AlertDescription::UnknownCA),
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn a_server_that_is_refused_is_told_so_by_an_alert() {
    let (theirs, trusted) = (Identity::new("relay.test"), Identity::new("relay.test"));
    let (socket, other) = connection();
    let configuration = client(&trusted, TLS13);
    let calling = std::thread::spawn(move || connect(socket, configuration));
    let mut station = called_station(other, server(&theirs, TLS13));
    let seen = alert(&mut station);
    drop(station);
    assert!(matches!(seen, Error::AlertReceived(_)), "{seen:?}");
    match calling.join().unwrap() {
        Err(HandshakeError::Refused(Error::InvalidCertificate(_))) => {}
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn a_server_that_refuses_our_certificate_after_the_handshake_is_heard_before_any_word() {
    let (ours, theirs, expected) =
        (Identity::new("partner.test"), Identity::new("relay.test"), Identity::new("stranger.test"));
    let (socket, other) = connection();
    let calling = std::thread::spawn({
        let configuration = client_with(&theirs, &ours, TLS13);
        move || {
            // In TLS 1.3 the handshake is done before the server has seen the certificate.
            let tls = connect(socket, configuration).unwrap();
            tls.await_words(Instant::now() + PATIENCE, &mut no_orders().0)
        }
    });
    let mut station = called_station(other, demanding_server(&theirs, expected.trusted(), TLS13));
    station.stream.flush().unwrap_err();
    match calling.join().unwrap() {
        Err(HandshakeError::PeerAlert(alert)) => assert_eq!(alert, AlertDescription::UnknownCA),
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn the_first_words_of_a_server_are_awaited_and_kept_for_the_relay() {
    for version in [TLS13, TLS12] {
        let (Side::Tls(tls), mut station) = calling_the_station(version) else { panic!("no TLS") };
        station.send(&SSRM);
        let tls = tls.await_words(Instant::now() + PATIENCE, &mut no_orders().0).unwrap();
        // They are there already: it does not wait for more.
        let tls = tls.await_words(Instant::now(), &mut no_orders().0).unwrap();
        let mut stage = Scene { initiator: Which::Inside, ..Scene::default() }.start((tls.into(), station), plain());
        stage.inside.expect(&SSRM);
    }
}

#[test]
fn a_server_without_words_is_left_in_time_and_one_that_closes_at_once() {
    let (Side::Tls(tls), station) = calling_the_station(TLS13) else { panic!("no TLS") };
    let late = tls.await_words(Instant::now() + Duration::from_millis(50), &mut no_orders().0).err();
    assert!(matches!(late, Some(HandshakeError::TimedOut)), "{late:?}");
    drop(station);
    let (Side::Tls(tls), mut station) = calling_the_station(TLS13) else { panic!("no TLS") };
    station.hang_up();
    let closed = tls.await_words(Instant::now() + PATIENCE, &mut no_orders().0).err();
    assert!(matches!(closed, Some(HandshakeError::Closed)), "{closed:?}");
}

#[test]
fn what_is_no_tls_is_refused() {
    let (socket, mut other) = connection();
    let configuration = server(&Identity::new("relay.test"), TLS13);
    other.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let answering = std::thread::spawn(move || accept(socket, configuration));
    let mut answer = Vec::new();
    other.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.first(), Some(&21), "{answer:02x?} is no alert");
    drop(other);
    match answering.join().unwrap() {
        Err(HandshakeError::Refused(Error::InvalidMessage(_))) => {}
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn a_silent_peer_is_left_at_the_deadline() {
    let (socket, _silent) = connection();
    let (mut orders, _orderer) = no_orders();
    let configuration = server(&Identity::new("relay.test"), TLS13);
    let deadline = Instant::now() + Duration::from_millis(100);
    match Tls::accept(socket, configuration, deadline, &mut orders) {
        Err(HandshakeError::TimedOut) => assert!(Instant::now() >= deadline),
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn a_peer_that_sends_octet_by_octet_is_left_at_the_deadline_too() {
    let (socket, mut other) = connection();
    let (mut orders, _orderer) = no_orders();
    let configuration = server(&Identity::new("relay.test"), TLS13);
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let trickle = std::thread::spawn(move || {
        // The beginning of a long ClientHello, then an octet every few milliseconds: minutes until it is whole.
        other.write_all(&[22, 3, 1, 0x3F, 0xFF, 1, 0, 0x3F, 0xFB]).unwrap();
        while stopped.recv_timeout(Duration::from_millis(5)).is_err_and(|error| error == RecvTimeoutError::Timeout) {
            let _ = other.write(&[3]);
        }
    });
    let result = Tls::accept(socket, configuration, Instant::now() + Duration::from_millis(300), &mut orders);
    drop(stop);
    trickle.join().unwrap();
    assert!(matches!(result, Err(HandshakeError::TimedOut)), "{:?}", result.err());
}

#[test]
fn a_peer_that_closes_within_the_handshake_is_told_as_that() {
    let (socket, other) = connection();
    drop(other);
    match accept(socket, server(&Identity::new("relay.test"), TLS13)) {
        Err(HandshakeError::Closed) => {}
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn an_order_ends_a_handshake() {
    let (socket, _silent) = connection();
    let (mut orders, mut orderer): (FromSocket, _) = no_orders();
    orderer.write_all(&[1]).unwrap();
    let configuration = server(&Identity::new("relay.test"), TLS13);
    let orders: &mut dyn Orders = &mut orders;
    match Tls::accept(socket, configuration, Instant::now() + PATIENCE, orders) {
        Err(HandshakeError::Ordered(EndOrder::StopNow)) => {}
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn a_handshake_without_end_is_bounded_in_octets() {
    let (socket, mut other) = connection();
    let configuration = server(&Identity::new("relay.test"), TLS13);
    let answering = std::thread::spawn(move || accept(socket, configuration));
    // A ClientHello of 65,535 octets, in records of one octet each.
    let mut flood = Vec::new();
    for octet in [1, 0, 0xFF, 0xFF].into_iter().chain(std::iter::repeat_n(0, 65_535)) {
        flood.extend([22, 3, 1, 0, 1, octet]);
    }
    // The relay may be gone before all is written.
    let _ = other.write_all(&flood);
    match answering.join().unwrap() {
        Err(HandshakeError::TooLarge) => {}
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn keys_renewed_by_the_peer_in_the_middle_change_nothing() {
    let identity = Identity::new("relay.test");
    let (ours, theirs) = connection();
    let configuration = server(&identity, TLS13);
    let answering = std::thread::spawn(move || accept(ours, configuration).unwrap());
    let connection = ClientConnection::new(Arc::new(client(&identity, TLS13)), server_name()).unwrap();
    let mut partner = rustls::StreamOwned::new(connection, theirs);
    partner.sock.set_read_timeout(Some(PATIENCE)).unwrap();
    partner.flush().unwrap();
    let mut stage = Scene::default().start((Side::Tls(answering.join().unwrap()), plain().1), plain());
    stage.inside.send(&SSRM);
    expect(&mut partner, &SSRM);
    partner.conn.refresh_traffic_keys().unwrap();
    partner.write_all(&SSID_CALLING[..30]).unwrap();
    partner.conn.refresh_traffic_keys().unwrap();
    partner.write_all(&SSID_CALLING[30..]).unwrap();
    stage.inside.expect(&SSID_CALLING);
    stage.inside.send(&SSID_CALLED);
    expect(&mut partner, &SSID_CALLED);
    partner.conn.refresh_traffic_keys().unwrap();
    partner.write_all(&CD).unwrap();
    stage.inside.expect(&CD);
    stage.inside.send(&ESID_NORMAL);
    expect(&mut partner, &ESID_NORMAL);
}

#[test]
fn a_close_notify_is_an_orderly_end_of_the_stream() {
    let identity = Identity::new("relay.test");
    let (ours, theirs) = connection();
    let configuration = server(&identity, TLS13);
    let answering = std::thread::spawn(move || accept(ours, configuration).unwrap());
    let connection = ClientConnection::new(Arc::new(client(&identity, TLS13)), server_name()).unwrap();
    let mut partner = rustls::StreamOwned::new(connection, theirs);
    partner.sock.set_read_timeout(Some(PATIENCE)).unwrap();
    partner.flush().unwrap();
    let mut stage = Scene::default().start((Side::Tls(answering.join().unwrap()), plain().1), plain());
    stage.inside.send(&SSRM);
    expect(&mut partner, &SSRM);
    partner.conn.send_close_notify();
    partner.flush().unwrap();
    stage.inside.expect_session_end(99);
    // The relay says goodbye too, which the station would report missing.
    assert_eq!(partner.read(&mut [0; 16]).unwrap(), 0);
    let (outcome, _) = stage.outcome();
    let Ending::Lost { side: Which::Partner, loss: Loss::Closed } = outcome.ending else {
        panic!("{:?}", outcome.ending)
    };
}

#[test]
fn a_record_that_was_tampered_with_loses_the_connection_and_passes_nothing() {
    let (mut partner, tls) = raw_partner();
    let mut stage = Scene::default().start((Side::Tls(tls), plain().1), plain());
    stage.inside.send(&SSRM);
    partner.expect(&SSRM);
    let mut record = partner.sealed(&SSID_CALLING, 23);
    *record.last_mut().unwrap() ^= 1;
    partner.socket.write_all(&record).unwrap();
    stage.inside.expect_session_end(99);
    let (outcome, _) = stage.outcome();
    let Ending::Lost { side: Which::Partner, loss: Loss::Tls(error) } = outcome.ending else {
        panic!("{:?}", outcome.ending)
    };
    assert_eq!(error, Error::DecryptError);
}

#[test]
fn what_came_before_an_error_of_tls_in_the_same_piece_passes() {
    type End = fn(&mut RawPartner) -> Vec<u8>;
    let fatal_alert = |partner: &mut RawPartner| partner.sealed(&[2, 80], 21);
    let tampered = |partner: &mut RawPartner| {
        let mut record = partner.sealed(&CD, 23);
        *record.last_mut().unwrap() ^= 1;
        record
    };
    let alert = Error::AlertReceived(AlertDescription::InternalError);
    let cases: [(End, _); 2] = [(fatal_alert, alert), (tampered, Error::DecryptError)];
    for (end, expected) in cases {
        let (mut partner, tls) = raw_partner();
        let mut stage = Scene::default().start((Side::Tls(tls), plain().1), plain());
        stage.inside.send(&SSRM);
        partner.expect(&SSRM);
        let piece = [partner.sealed(&SSID_CALLING, 23), end(&mut partner)].concat();
        partner.socket.write_all(&piece).unwrap();
        stage.inside.expect(&SSID_CALLING);
        stage.inside.expect_session_end(99);
        let Ending::Lost { side: Which::Partner, loss: Loss::Tls(error) } = stage.outcome().0.ending else { panic!() };
        assert_eq!(error, expected);
    }
    // A session that has ended with the last word before it has ended well.
    let (mut partner, tls) = raw_partner();
    let mut stage = Scene::default().start((Side::Tls(tls), plain().1), plain());
    stage.inside.send(&SSRM);
    partner.expect(&SSRM);
    partner.send(&SSID_CALLING);
    stage.inside.expect(&SSID_CALLING);
    stage.inside.send(&SSID_CALLED);
    partner.expect(&SSID_CALLED);
    let piece = [partner.sealed(&ESID_NORMAL, 23), fatal_alert(&mut partner)].concat();
    partner.socket.write_all(&piece).unwrap();
    stage.inside.expect(&ESID_NORMAL);
    assert!(matches!(stage.outcome().0.ending, Ending::Completed));
}

#[test]
fn half_a_handshake_message_behind_the_handshake_does_not_stop_the_other_direction() {
    let (mut partner, tls) = raw_partner();
    let mut stage = Scene::default().start((Side::Tls(tls), plain().1), plain());
    stage.inside.send(&SSRM);
    partner.expect(&SSRM);
    // Behind the SSID, in one piece with it, the beginning of a KeyUpdate: its type and two of three octets of length.
    let piece = [partner.sealed(&SSID_CALLING, 23), partner.sealed(&[24, 0, 0], 22)].concat();
    partner.socket.write_all(&piece).unwrap();
    stage.inside.expect(&SSID_CALLING);
    stage.inside.send(&SSID_CALLED);
    partner.expect(&SSID_CALLED);
    // Nothing but its rest may follow; a buffer of ours in between is the end.
    partner.send(&CD);
    stage.inside.expect_session_end(99);
    let (outcome, _) = stage.outcome();
    let Ending::Lost { side: Which::Partner, loss: Loss::Tls(error) } = outcome.ending else {
        panic!("{:?}", outcome.ending)
    };
    assert!(matches!(error, Error::PeerMisbehaved(_)), "{error:?}");
}

#[test]
fn handshake_messages_without_end_behind_the_handshake_are_bounded() {
    let (mut partner, tls) = raw_partner();
    let mut stage = Scene::default().start((Side::Tls(tls), plain().1), plain());
    stage.inside.send(&SSRM);
    partner.expect(&SSRM);
    // A message of 65,535 octets, in records of one octet each.
    let mut flood = Vec::new();
    for octet in [4, 0, 0xFF, 0xFF].into_iter().chain(std::iter::repeat_n(0, 20_000)) {
        flood.extend(partner.sealed(&[octet], 22));
    }
    // The relay may be gone before all is written.
    let _ = partner.socket.write_all(&flood);
    stage.inside.expect_session_end(99);
    let (outcome, _) = stage.outcome();
    assert!(
        matches!(outcome.ending, Ending::Lost { side: Which::Partner, loss: Loss::Endless }),
        "{:?}",
        outcome.ending
    );
}

/// A partner that has the keys of TLS 1.3 in its own hands after the handshake, to send what no library would.
struct RawPartner {
    socket: std::net::TcpStream,
    sending: RawKey,
    receiving: RawKey,
}

struct RawKey {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
}

impl RawKey {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Self {
        let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else { panic!("another suite") };
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).unwrap());
        Self { key, iv: iv.as_ref().try_into().unwrap(), sequence }
    }

    /// RFC 8446, 5.3.
    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (octet, part) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *octet ^= part;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

impl RawPartner {
    /// One record of TLS 1.3 with this content type (RFC 8446, 5.2).
    fn sealed(&mut self, content: &[u8], kind: u8) -> Vec<u8> {
        let mut inner = [content, &[kind]].concat();
        let [high, low] = u16::try_from(inner.len() + 16).unwrap().to_be_bytes();
        let header = [23, 3, 3, high, low];
        let nonce = self.sending.nonce();
        self.sending.key.seal_in_place_append_tag(nonce, Aad::from(header), &mut inner).unwrap();
        [&header[..], &inner].concat()
    }

    fn send(&mut self, octets: &[u8]) {
        let record = self.sealed(octets, 23);
        self.socket.write_all(&record).unwrap();
    }

    /// The next record holds exactly these octets.
    fn expect(&mut self, octets: &[u8]) {
        let mut header = [0; 5];
        self.socket.read_exact(&mut header).unwrap();
        let mut record = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
        self.socket.read_exact(&mut record).unwrap();
        let nonce = self.receiving.nonce();
        let inner = self.receiving.key.open_in_place(nonce, Aad::from(header), &mut record).unwrap();
        assert_eq!(inner, [octets, &[23]].concat());
    }
}

fn raw_partner() -> (RawPartner, Tls) {
    let identity = Identity::new("relay.test");
    let (ours, mut theirs) = connection();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    let configuration = server(&identity, TLS13);
    let answering = std::thread::spawn(move || accept(ours, configuration).unwrap());
    let provider = CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_256_GCM_SHA384],
        kx_groups: vec![kx_group::X25519],
        ..default_provider()
    };
    let mut configuration = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_protocol_versions(&[TLS13])
        .unwrap()
        .with_root_certificates(identity.trusted())
        .with_no_client_auth();
    configuration.enable_secret_extraction = true;
    let mut connection = ClientConnection::new(Arc::new(configuration), server_name()).unwrap();
    while connection.is_handshaking() || connection.wants_write() {
        connection.complete_io(&mut theirs).unwrap();
    }
    let tls = answering.join().unwrap();
    let secrets = connection.dangerous_extract_secrets().unwrap();
    let (sending, receiving) = (RawKey::new(secrets.tx), RawKey::new(secrets.rx));
    (RawPartner { socket: theirs, sending, receiving }, tls)
}

fn expect(stream: &mut impl Read, octets: &[u8]) {
    let mut got = vec![0; octets.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(got, octets);
}

/// What the station's TLS reports when it is refused.
fn alert(station: &mut stage::Station) -> Error {
    let error = match station.stream.flush() {
        Err(error) => error,
        Ok(()) => station.stream.read(&mut [0; 16]).unwrap_err(),
    };
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).unwrap().clone()
}

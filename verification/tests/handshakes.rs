//! Proof of possession and recognition of signing requests, on the octets of real TLS handshakes.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, RsaKeySize};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnection, ResolvesClientCert};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConnection};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureAlgorithm, SignatureScheme,
};
use verification::possession::{self, HandshakeSignature, Version};
use verification::signing_request::{self, Kind};
use verification::{Direction, Refusal};

/// A certificate and its key.
struct Identity {
    der: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

fn made(key: &KeyPair) -> Identity {
    let params = CertificateParams::new(vec!["partner.example".to_owned()]).unwrap();
    let der = params.self_signed(key).unwrap().der().clone();
    Identity { der, key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())) }
}

fn fixture(name: &str) -> Identity {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/certificates/openssl");
    let read = |file: String| std::fs::read(format!("{folder}/{file}")).unwrap();
    Identity {
        der: read(format!("{name}.der")).into(),
        key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(read(format!("{name}.key.der")))),
    }
}

fn identities() -> Vec<(&'static str, Identity)> {
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    vec![
        ("P-256", made(&KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap())),
        ("P-384", made(&KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap())),
        ("P-521", made(&KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap())),
        ("Ed25519", made(&KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap())),
        ("RSA", made(&rsa)),
        ("version 1, RSA", fixture("v1-self-rsa")),
        ("version 1, P-256", fixture("v1-self-ec")),
        ("CA true", fixture("ca-self")),
    ]
}

/// What the two ends of a handshake signed and verified.
#[derive(Debug, Default)]
struct Record {
    /// Of the client's signature, as the server's verifier got it.
    by_client: Option<HandshakeSignature>,
    by_server: Option<HandshakeSignature>,
    /// What each end was asked to sign.
    asked_client: Vec<Vec<u8>>,
    asked_server: Vec<Vec<u8>>,
}

type Shared = Arc<Mutex<Record>>;

#[derive(Debug)]
struct Verifier(Shared);

impl Verifier {
    fn keep(&self, of_client: bool, version: Version, message: &[u8], signed: &DigitallySignedStruct) {
        let signature = Some(HandshakeSignature::new(version, message, signed));
        let mut record = self.0.lock().unwrap();
        if of_client { record.by_client = signature } else { record.by_server = signature }
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.keep(true, Version::Tls12, message, signed);
        possession::verify_tls12(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.keep(true, Version::Tls13, message, signed);
        possession::verify_tls13(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        possession::supported_schemes()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.keep(false, Version::Tls12, message, signed);
        possession::verify_tls12(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.keep(false, Version::Tls13, message, signed);
        possession::verify_tls13(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        possession::supported_schemes()
    }
}

/// Signs, and remembers what it was asked to sign.
#[derive(Debug)]
struct Remembering {
    key: Arc<dyn SigningKey>,
    chain: Vec<CertificateDer<'static>>,
    record: Shared,
    is_client: bool,
}

impl Remembering {
    fn certified(&self) -> Arc<CertifiedKey> {
        let key = Self {
            key: Arc::clone(&self.key),
            chain: self.chain.clone(),
            record: Arc::clone(&self.record),
            is_client: self.is_client,
        };
        Arc::new(CertifiedKey::new(self.chain.clone(), Arc::new(key)))
    }
}

impl ResolvesServerCert for Remembering {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.certified())
    }
}

impl ResolvesClientCert for Remembering {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.certified())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl SigningKey for Remembering {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let inner = self.key.choose_scheme(offered)?;
        Some(Box::new(RememberingSigner { inner, record: Arc::clone(&self.record), is_client: self.is_client }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.key.algorithm()
    }
}

#[derive(Debug)]
struct RememberingSigner {
    inner: Box<dyn Signer>,
    record: Shared,
    is_client: bool,
}

impl Signer for RememberingSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let mut record = self.record.lock().unwrap();
        let asked = if self.is_client { &mut record.asked_client } else { &mut record.asked_server };
        asked.push(message.to_vec());
        self.inner.sign(message)
    }

    fn scheme(&self) -> SignatureScheme {
        self.inner.scheme()
    }
}

/// A whole handshake in memory.
fn handshake(client: &Identity, server: &Identity, version: Version) -> Record {
    let provider: Arc<CryptoProvider> = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let record = Shared::default();
    let side = |identity: &Identity, is_client| {
        Arc::new(Remembering {
            key: provider.key_provider.load_private_key(identity.key.clone_key()).unwrap(),
            chain: vec![identity.der.clone()],
            record: Arc::clone(&record),
            is_client,
        })
    };
    let versions = match version {
        Version::Tls12 => [&rustls::version::TLS12],
        Version::Tls13 => [&rustls::version::TLS13],
    };
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .unwrap()
        .with_client_cert_verifier(Arc::new(Verifier(Arc::clone(&record))))
        .with_cert_resolver(side(server, false));
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier(Arc::clone(&record))))
        .with_client_cert_resolver(side(client, true));
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), "partner.example".try_into().unwrap()).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            server.read_tls(&mut wire).unwrap();
            server.process_new_packets().unwrap();
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            client.read_tls(&mut wire).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    let mut kept = record.lock().unwrap();
    std::mem::take(&mut *kept)
}

fn p256() -> Identity {
    made(&KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap())
}

/// A handshake in each version, between two P-256 identities.
fn handshakes() -> Vec<(Version, Identity, Identity, Record)> {
    [Version::Tls12, Version::Tls13]
        .into_iter()
        .map(|version| {
            let (client, server) = (p256(), p256());
            let record = handshake(&client, &server, version);
            (version, client, server, record)
        })
        .collect()
}

#[test]
fn every_kind_of_key_proves_itself_in_both_versions_and_directions() {
    let server = p256();
    for (name, identity) in identities() {
        for version in [Version::Tls12, Version::Tls13] {
            let by_client = handshake(&identity, &server, version).by_client.unwrap();
            assert_eq!(
                by_client.verify(&identity.der, Direction::Caller).map(drop),
                Ok(()),
                "{name}, {version}, caller"
            );
            let by_server = handshake(&server, &identity, version).by_server.unwrap();
            assert_eq!(
                by_server.verify(&identity.der, Direction::Called).map(drop),
                Ok(()),
                "{name}, {version}, called"
            );
        }
    }
}

#[test]
fn a_signature_proves_one_certificate_only() {
    for (version, client, server, record) in handshakes() {
        let (by_client, by_server) = (record.by_client.unwrap(), record.by_server.unwrap());
        let other = p256().der;
        for (signature, own, direction) in
            [(&by_client, &client.der, Direction::Caller), (&by_server, &server.der, Direction::Called)]
        {
            assert!(signature.verify(own, direction).is_ok(), "{version}");
            let refusal = signature.verify(&other, direction).unwrap_err();
            assert_eq!(refusal.code(), "partner-handshake-signature-invalid", "{version}: {refusal}");
            let unreadable = CertificateDer::from(vec![0x30, 0x00]);
            assert!(signature.verify(&unreadable, direction).is_err(), "{version}");
        }
    }
}

#[test]
fn a_signature_of_one_direction_is_none_of_the_other() {
    for (version, client, server, record) in handshakes() {
        let by_client = record.by_client.unwrap().verify(&client.der, Direction::Called).unwrap_err();
        assert!(matches!(by_client, Refusal::HandshakeForm { .. }), "{version}: {by_client}");
        let by_server = record.by_server.unwrap().verify(&server.der, Direction::Caller).unwrap_err();
        assert!(matches!(by_server, Refusal::HandshakeForm { .. }), "{version}: {by_server}");
    }
}

#[test]
fn a_signature_of_one_version_is_none_of_the_other() {
    for (version, client, server, record) in handshakes() {
        let other = if version == Version::Tls12 { Version::Tls13 } else { Version::Tls12 };
        let by_client = HandshakeSignature { version: other, ..record.by_client.unwrap() };
        assert!(by_client.verify(&client.der, Direction::Caller).is_err(), "{version}");
        let by_server = HandshakeSignature { version: other, ..record.by_server.unwrap() };
        assert!(by_server.verify(&server.der, Direction::Called).is_err(), "{version}");
    }
}

#[test]
fn a_signature_over_something_else_is_no_handshake_even_when_right() {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let identity = made(&key);
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let signer = provider.key_provider.load_private_key(identity.key.clone_key()).unwrap();
    let signer = signer.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]).unwrap();
    for message in [b"".to_vec(), b"contract".to_vec(), vec![0x20; 64], vec![0x20; 130], vec![1; 200]] {
        for version in [Version::Tls12, Version::Tls13] {
            for direction in [Direction::Caller, Direction::Called] {
                let signature = signer.sign(&message).unwrap();
                let scheme = SignatureScheme::ECDSA_NISTP256_SHA256.into();
                let signature = HandshakeSignature { version, message: message.clone(), scheme, signature };
                let refusal = signature.verify(&identity.der, direction).unwrap_err();
                assert!(matches!(refusal, Refusal::HandshakeForm { .. }), "{version} {direction:?}: {refusal}");
            }
        }
    }
}

#[test]
fn schemes_that_tls_1_3_forbids_prove_nothing_there() {
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let identity = made(&rsa);
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = provider.key_provider.load_private_key(identity.key.clone_key()).unwrap();
    let message = [&[0x20; 64], b"TLS 1.3, client CertificateVerify\0".as_slice(), &[7; 32]].concat();
    let verdict = |scheme: SignatureScheme| {
        let signature = key.choose_scheme(&[scheme]).unwrap().sign(&message).unwrap();
        let message = message.clone();
        HandshakeSignature { version: Version::Tls13, message, scheme: scheme.into(), signature }
            .verify(&identity.der, Direction::Caller)
    };
    // RFC 8446, 4.2.3: RSASSA-PKCS1-v1_5 is for certificates only.
    assert!(verdict(SignatureScheme::RSA_PSS_SHA256).is_ok());
    assert!(matches!(verdict(SignatureScheme::RSA_PKCS1_SHA256), Err(Refusal::PossessionUnproven { .. })));
}

#[test]
fn each_handshake_has_a_digest_of_its_own_and_keeps_it() {
    let (client, server) = (p256(), p256());
    for version in [Version::Tls12, Version::Tls13] {
        let one = handshake(&client, &server, version).by_client.unwrap();
        let other = handshake(&client, &server, version).by_client.unwrap();
        assert_ne!(one.digest(), other.digest(), "{version}");
        // Another signature over the same handshake is the same proof.
        let twin = HandshakeSignature { signature: other.signature.clone(), ..one.clone() };
        assert_eq!(one.digest(), twin.digest(), "{version}");
        let possession = one.verify(&client.der, Direction::Caller).unwrap();
        assert_eq!(*possession.digest(), one.digest(), "{version}");
    }
}

#[test]
fn what_crosses_the_link_verifies_on_the_other_side() {
    for (version, client, _, record) in handshakes() {
        let signature = record.by_client.unwrap();
        let octets = postcard::to_allocvec(&signature).unwrap();
        let crossed: HandshakeSignature = postcard::from_bytes(&octets).unwrap();
        assert_eq!(crossed, signature, "{version}");
        assert!(crossed.verify(&client.der, Direction::Caller).is_ok(), "{version}");
        assert!(!format!("{crossed:?}").contains("[1, 0"), "octets are no text for a log");
    }
}

#[test]
fn a_caller_with_tls_1_2_shows_which_server_it_spoke_to() {
    for (version, _, server, record) in handshakes() {
        let signature = record.by_client.unwrap();
        let expected = (version == Version::Tls12).then(|| vec![server.der.as_ref()]);
        assert_eq!(signature.server_chain(Direction::Caller), expected);
        assert_eq!(signature.server_chain(Direction::Called), None);
    }
}

#[test]
fn too_long_a_message_or_signature_is_refused_unread() {
    let (_, client, _, record) = handshakes().remove(0);
    let genuine = record.by_client.unwrap();
    assert!(genuine.is_within_bounds());
    for signature in [
        HandshakeSignature { message: vec![1; 200 * 1024], ..genuine.clone() },
        HandshakeSignature { signature: vec![1; 10_000], ..genuine },
    ] {
        assert!(!signature.is_within_bounds());
        let refusal = signature.verify(&client.der, Direction::Caller).unwrap_err();
        assert!(refusal.to_string().contains("too long"), "{refusal}");
    }
}

#[test]
fn the_inside_signs_for_its_own_side_of_real_handshakes() {
    for (version, client, server, record) in handshakes() {
        let [asked_server] = record.asked_server.as_slice() else { panic!("{version}: asked once") };
        let [asked_client] = record.asked_client.as_slice() else { panic!("{version}: asked once") };
        // The partner is the caller where we are the server, and the other way round.
        let as_server = signing_request::recognise(asked_server, Direction::Caller, true);
        let as_client = signing_request::recognise(asked_client, Direction::Called, true);
        match version {
            Version::Tls13 => {
                assert_eq!(as_server, Ok(Kind::CertificateVerify13));
                assert_eq!(as_client, Ok(Kind::CertificateVerify13));
            }
            Version::Tls12 => {
                assert_eq!(as_server, Ok(Kind::ServerKeyExchange12));
                let (server_chain, client_chain) = (vec![server.der.as_ref()], vec![client.der.as_ref()]);
                assert_eq!(as_client, Ok(Kind::CertificateVerify12 { server_chain, client_chain }));
            }
        }
        // The other side's signature is never given.
        assert!(signing_request::recognise(asked_server, Direction::Called, true).is_err(), "{version}");
        assert!(signing_request::recognise(asked_client, Direction::Caller, true).is_err(), "{version}");
        // TLS 1.2 only where it is allowed.
        for (asked, direction) in [(asked_server, Direction::Caller), (asked_client, Direction::Called)] {
            let recognised = signing_request::recognise(asked, direction, false);
            assert_eq!(recognised.is_ok(), version == Version::Tls13, "{version} {direction:?}");
        }
    }
}

#[test]
fn no_part_of_a_handshake_and_nothing_more_is_signed() {
    for (version, _, _, record) in handshakes() {
        for (asked, direction) in
            [(&record.asked_server[0], Direction::Caller), (&record.asked_client[0], Direction::Called)]
        {
            for length in 0..asked.len() {
                // 130 octets of a CertificateVerify with SHA-384 have the form of one with SHA-256.
                if version == Version::Tls13 && length == 130 {
                    continue;
                }
                let cut = &asked[..length];
                assert!(signing_request::recognise(cut, direction, true).is_err(), "{version} {direction:?} {length}");
            }
            let longer = [asked.as_slice(), &[0]].concat();
            assert!(signing_request::recognise(&longer, direction, true).is_err(), "{version} {direction:?}");
        }
    }
}

#[test]
fn only_the_exact_forms_are_signed() {
    let verify = |context: &[u8], hash: usize| [&[0x20; 64], context, vec![7; hash].as_slice()].concat();
    let exchange = |parameters: &[u8], point: usize| [&[7; 64], parameters, vec![4; point].as_slice()].concat();
    let server = b"TLS 1.3, server CertificateVerify\0".as_slice();
    let client = b"TLS 1.3, client CertificateVerify\0".as_slice();
    for (name, octets, for_caller, for_called) in [
        ("TLS 1.3 server, SHA-256", verify(server, 32), true, false),
        ("TLS 1.3 server, SHA-384", verify(server, 48), true, false),
        ("TLS 1.3 client, SHA-256", verify(client, 32), false, true),
        ("TLS 1.3 client, SHA-384", verify(client, 48), false, true),
        ("a hash of another length", verify(server, 64), false, false),
        ("no hash", verify(server, 0), false, false),
        ("no zero after the context", verify(b"TLS 1.3, server CertificateVerify ", 32), false, false),
        ("exported authenticators", verify(b"Exported Authenticator\0", 32), false, false),
        ("63 spaces", verify(server, 32)[1..].to_vec(), false, false),
        ("65 spaces", [&[0x20], verify(server, 32).as_slice()].concat(), false, false),
        ("X25519", exchange(&[3, 0, 0x1d, 32], 32), true, false),
        ("P-256", exchange(&[3, 0, 0x17, 65], 65), true, false),
        ("P-384", exchange(&[3, 0, 0x18, 97], 97), true, false),
        ("P-521", exchange(&[3, 0, 0x19, 133], 133), true, false),
        ("an unknown curve", exchange(&[3, 0, 0x1e, 56], 56), false, false),
        ("secp256k1", exchange(&[3, 0, 0x16, 65], 65), false, false),
        ("an explicit curve", exchange(&[1, 0, 0x17, 65], 65), false, false),
        ("a length that is not the curve's", exchange(&[3, 0, 0x1d, 33], 33), false, false),
        ("a point shorter than announced", exchange(&[3, 0, 0x1d, 32], 31), false, false),
        ("something after the point", exchange(&[3, 0, 0x1d, 32], 33), false, false),
        ("DHE parameters", [&[7; 64], [1, 0].as_slice(), &[9; 256]].concat(), false, false),
        ("nothing", Vec::new(), false, false),
        ("a certificate", p256().der.to_vec(), false, false),
        ("a hash", vec![7; 32], false, false),
    ] {
        assert_eq!(signing_request::recognise(&octets, Direction::Caller, true).is_ok(), for_caller, "{name}, caller");
        assert_eq!(signing_request::recognise(&octets, Direction::Called, true).is_ok(), for_called, "{name}, called");
    }
    // A compressed point of P-256.
    let mut compressed = exchange(&[3, 0, 0x17, 65], 65);
    compressed[68] = 2;
    assert!(signing_request::recognise(&compressed, Direction::Caller, true).is_err());
}

#[test]
fn a_transcript_needs_all_its_messages_in_order() {
    let (_, _, _, record) = handshakes().remove(0);
    let whole = &record.asked_client[0];
    let messages = messages(whole);
    assert_eq!(messages.iter().map(|message| message[0]).collect::<Vec<_>>(), [1, 2, 11, 12, 13, 14, 11, 16]);
    let recognised =
        |messages: &[&[u8]]| signing_request::recognise(&messages.concat(), Direction::Called, true).is_ok();
    assert!(recognised(&messages));
    for left_out in 0..messages.len() {
        let mut fewer = messages.clone();
        fewer.remove(left_out);
        assert!(!recognised(&fewer), "without message {left_out}");
        let mut more = messages.clone();
        more.insert(left_out, messages[left_out]);
        assert!(!recognised(&more), "message {left_out} twice");
        if left_out > 0 && messages[left_out] != messages[left_out - 1] {
            let mut turned = messages.clone();
            turned.swap(left_out, left_out - 1);
            assert!(!recognised(&turned), "message {left_out} too early");
        }
    }
}

fn messages(mut rest: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let [_, a, b, c, ..] = rest {
        let length = 4 + (usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c));
        let (message, after) = rest.split_at(length);
        messages.push(message);
        rest = after;
    }
    messages
}

/// More of them where `PROPTEST_CASES` asks for it.
fn at_least(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(cases), failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(at_least(1000))]

    #[test]
    fn no_changed_proof_is_taken(
        which in 0..4_usize,
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
        in_message in any::<bool>(),
    ) {
        thread_local! {
            static PROOFS: Vec<(HandshakeSignature, CertificateDer<'static>, Direction)> = handshakes()
                .into_iter()
                .flat_map(|(_, client, server, record)| [
                    (record.by_client.unwrap(), client.der, Direction::Caller),
                    (record.by_server.unwrap(), server.der, Direction::Called),
                ])
                .collect();
        }
        PROOFS.with(|proofs| {
            let (mut proof, certificate, direction) = proofs[which].clone();
            prop_assert!(proof.verify(&certificate, direction).is_ok());
            let octets = if in_message { &mut proof.message } else { &mut proof.signature };
            let at = at.index(octets.len());
            octets[at] ^= 1 << bit;
            prop_assert!(proof.verify(&certificate, direction).is_err());
            Ok(())
        })?;
    }

    #[test]
    fn arbitrary_octets_are_never_signed(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        for direction in [Direction::Caller, Direction::Called] {
            prop_assert!(signing_request::recognise(&octets, direction, true).is_err());
        }
    }
}

//! The secrets of a chain, in every form in which somebody could find them.

use license::{IdentityKey, LinkKey, SecurityToken};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use tests::harness::Chain;

/// User of the backend's URL.
pub const USER: &str = "proxyuser";
/// Its password, which nothing else contains.
pub const PASSWORD: &str = "Rumpelstilzchen-4711";
/// `USER:PASSWORD` in base64 (RFC 7617), without the last octets, which depend on the padding.
const BASIC: &str = "cHJveHl1c2VyOlJ1bXBlbHN0aWx6Y2hlbi00NzEx";

/// One form of one secret.
#[derive(Clone)]
pub struct Secret {
    /// For people.
    pub name: String,
    /// What is looked for.
    pub octets: Vec<u8>,
}

impl Secret {
    fn new(name: &str, octets: impl AsRef<[u8]>) -> Self {
        Self { name: name.to_owned(), octets: octets.as_ref().to_vec() }
    }
}

/// The private key of the proxy's certificate: PKCS#8, the scalar in both orders of octets, the lines of its PEM.
pub fn identity(chain: &Chain) -> Vec<Secret> {
    let pem = chain.config["identity"]["private_key_pem"].as_str().expect("the configuration has a key");
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).expect("the key is PKCS#8");
    let mut secrets = key("the identity's private key", der.secret_pkcs8_der());
    // The last line has the public key only.
    let body: Vec<&str> = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let private = body.iter().take(2).map(|line| Secret::new("a line of the identity's PEM", line));
    secrets.extend(private);
    secrets
}

/// The security token as text and decoded, and the link key that is made of it.
pub fn token(chain: &Chain) -> Vec<Secret> {
    let text = std::fs::read_to_string(chain.scratch.path().join("token")).expect("the harness wrote a token");
    let token: SecurityToken = text.parse().expect("it is a token");
    let mut secrets = vec![
        Secret::new("the security token", text.trim()),
        Secret::new("the security token, decoded", &decoded(text.trim())[..32]),
    ];
    // Version 1 of an Ed25519 key: the seed is its end.
    let key = LinkKey::derive(&token);
    secrets.push(Secret::new("the private link key of the proxyclient", &key.pkcs8()[key.pkcs8().len() - 32..]));
    secrets
}

/// The password of the backend's URL, plain and as HTTP Basic.
pub fn password() -> Vec<Secret> {
    vec![Secret::new("the URL's password", PASSWORD), Secret::new("the URL's password in base64", BASIC)]
}

/// The proxyserver's own key on the link.
pub fn link(chain: &Chain) -> Vec<Secret> {
    let key_of_link = IdentityKey::load(&chain.scratch.path().join("state/proxyserver")).expect("the server has a key");
    key("the proxyserver's private key of the link", key_of_link.pkcs8())
}

/// A P-256 key.
fn key(name: &str, pkcs8: &[u8]) -> Vec<Secret> {
    // RFC 5915: version 1, then an octet string of 32.
    let head = [2, 1, 1, 4, 32];
    let place = pkcs8.windows(head.len()).position(|octets| octets == head).expect("it is a P-256 key") + head.len();
    let scalar = &pkcs8[place..place + 32];
    // Libraries keep large numbers with the least octet first.
    let reversed: Vec<u8> = scalar.iter().rev().copied().collect();
    vec![
        Secret::new(name, pkcs8),
        Secret::new(&format!("the scalar of {name}"), scalar),
        Secret::new(&format!("the scalar of {name}, least octet first"), reversed),
    ]
}

/// Base32 (RFC 4648, 6) behind `seon_`.
fn decoded(token: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for character in token.trim_start_matches("seon_").bytes() {
        let value = if character.is_ascii_digit() { character - b'2' + 26 } else { character - b'a' };
        bits = (bits << 5 | u32::from(value)) & 0xfff;
        count += 5;
        if count >= 8 {
            count -= 8;
            octets.push((bits >> count & 0xff) as u8);
        }
    }
    octets
}

#[test]
fn a_known_token_is_decoded() {
    let token = "seon_aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypvgmrv";
    assert_eq!(decoded(token)[..32], (0..32).collect::<Vec<u8>>());
}

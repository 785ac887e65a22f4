//! An evil client on the port of the link: nonsense in each phase. Each is ended with one line, and the daemon serves on.

use std::sync::Arc;
use std::time::Duration;

use license::{IdentityKey, LinkKey, SecurityToken};
use proxylink::frame;
use proxylink::message::{ClientHello, FromClient, FromServer, LARGEST_WHOLE, Part, Refused, Whole, parts};
use proxylink::pairing::{Chain as Shown, KeyHash, SessionId, Token};
use proxylink::preamble::Preamble;
use proxylink::situation::Situation;
use proxylink::snapshot::{LARGEST, Limits, MinimumTls, Snapshot};
use serde_bytes::ByteBuf;
use tests::harness::{Chain, Mark, PATIENCE, Plan, Trouble, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use verification::PolicySource;

use crate::running::{count, finishes, hold, of_role, serves};

fn run(test: impl Future<Output = Result<(), Trouble>>) -> Result<(), Trouble> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// The key that the chain's licence names.
fn licensed(chain: &Chain) -> LinkKey {
    let text = std::fs::read_to_string(chain.scratch.path().join("token")).unwrap();
    LinkKey::derive(&text.parse().unwrap())
}

/// TLS of a control connection with that key; the handshake is done on this side.
async fn control(chain: &Chain, key: &LinkKey) -> TlsStream<TcpStream> {
    let server = IdentityKey::load(&chain.scratch.path().join("state/proxyserver")).unwrap();
    let config = proxylink::tls::client(key.pkcs8(), KeyHash::of_spki(server.spki())).unwrap();
    let mut socket = TcpStream::connect(chain.link_address()).await.unwrap();
    socket.write_all(&Preamble::Control.write()).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let mut tls = connector.connect(proxylink::tls::server_name(), socket).await.unwrap();
    tls.flush().await.unwrap();
    tls
}

fn hello() -> FromClient {
    FromClient::Hello(ClientHello { instance: [6; 16], version: "evil".into(), pid: 1, host: "evil".into() })
}

/// A control connection on which both have introduced themselves.
async fn introduced(chain: &Chain) -> TlsStream<TcpStream> {
    let mark = chain.server().mark();
    let mut tls = control(chain, &licensed(chain)).await;
    frame::write(&mut tls, &hello()).await.unwrap();
    let answer: FromServer = frame::read(&mut tls).await.unwrap();
    assert!(matches!(answer, FromServer::Hello(_)), "{answer:?}");
    chain.server().wait_after(mark, "link-up", |line| line.contains(" link-up ")).unwrap();
    tls
}

/// All that still comes until the other end closes.
async fn rest(tls: &mut TlsStream<TcpStream>) -> Vec<FromServer> {
    let mut heard = Vec::new();
    let closed = timeout(PATIENCE, async {
        while let Ok(message) = frame::read::<FromServer>(tls).await {
            heard.push(message);
        }
    });
    closed.await.expect("the other end closes");
    heard
}

fn ends_with(heard: &[FromServer], situation: Situation) {
    let said = matches!(heard.last(), Some(FromServer::Goodbye(why)) if why.situation == situation);
    assert!(said, "no goodbye because of {situation}: {heard:?}");
}

fn raw(message: &[u8]) -> Vec<u8> {
    [&u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

fn framed(message: &FromClient) -> Vec<u8> {
    raw(&frame::encode(message).unwrap())
}

fn part(of: Whole, total: u32, offset: u32, octets: &[u8]) -> Vec<u8> {
    framed(&FromClient::Part(Part { of, total, offset, octets: octets.to_vec() }))
}

/// One that can be read, and stands nowhere: it names no identity.
fn snapshot_that_cannot_stand() -> Snapshot {
    let seconds = Duration::from_secs(10);
    Snapshot {
        number: 1,
        listen: Vec::new(),
        identity: Shown(Vec::new()),
        signature_schemes: vec![0x0403],
        minimum_tls: MinimumTls::Tls12,
        outgoing_ip: None,
        limits: Limits {
            max_sessions: 10,
            max_sessions_per_address: 10,
            max_unverified: 10,
            handshake_timeout: seconds,
            pairing_timeout: seconds,
            inactivity_timeout: seconds,
            drain_timeout: seconds,
            max_exchange_buffer: 99_999,
            offender_refuse: Duration::ZERO,
        },
        policy: PolicySource::default(),
        crls: Vec::new(),
    }
}

/// Waits until the server has told `code` so often, and sees that it is no more.
fn told(chain: &Chain, code: &str, times: usize, what: &str) {
    let seen = until(PATIENCE, || (count(chain.server(), code) >= times).then_some(()));
    assert!(seen.is_some(), "{what}: not {times} lines {code}:\n{}", chain.server().last_lines(20));
    assert_eq!(count(chain.server(), code), times, "{what}:\n{}", chain.server().last_lines(20));
}

#[test]
fn nonsense_before_the_introduction_costs_one_line_each_and_disturbs_nobody() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    let held = hold(&chain, "IN-FLIGHT")?;
    let switchboard = of_role(chain.server(), "switchboard");
    let good = Preamble::Control.write();
    let altered = |place: usize, octet: u8| {
        let mut preamble = good;
        preamble[place] = octet;
        preamble.to_vec()
    };
    let preambles = [
        ("a preamble cut", good[..20].to_vec(), "link-refused"),
        ("another version", altered(8, 2), "link-refused"),
        ("another kind", altered(9, 3), "link-refused"),
        ("a control connection with a token", altered(41, 1), "link-refused"),
        ("a guessed token", Preamble::Data(Token::from_octets([9; 32])).write().to_vec(), "data-connection-refused"),
        ("a ClientHello cut", [&good[..], &[22, 3, 1, 0, 200, 1, 0, 0]].concat(), "link-refused"),
        ("a record that is too long", [&good[..], &[22, 3, 3, 255, 255], &[0; 64]].concat(), "link-refused"),
    ];
    run(async {
        let mut refused = 0;
        for (what, octets, code) in preambles {
            let mut socket = TcpStream::connect(chain.link_address()).await.unwrap();
            socket.write_all(&octets).await.unwrap();
            // It may have been closed already.
            let _ = socket.shutdown().await;
            let mut answer = Vec::new();
            // It may be reset, as not all of it was read.
            let _ = timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("it is closed");
            let times = if code == "link-refused" { refused + 1 } else { 1 };
            told(&chain, code, times, what);
            refused += usize::from(code == "link-refused");
        }
        let no_hello = [
            ("a ping before the introduction", framed(&FromClient::Ping)),
            ("a part before the introduction", part(Whole::Snapshot(1), 3, 0, b"abc")),
            ("a frame that is too long", (u32::MAX).to_be_bytes().to_vec()),
            ("an empty frame", 0_u32.to_be_bytes().to_vec()),
            ("an unknown kind", raw(&[99])),
            ("an introduction cut", framed(&hello())[..12].to_vec()),
        ];
        for (what, octets) in no_hello {
            let mut tls = control(&chain, &licensed(&chain)).await;
            tls.write_all(&octets).await.unwrap();
            let _ = tls.shutdown().await;
            let heard = rest(&mut tls).await;
            assert!(heard.is_empty(), "{what}: {heard:?}");
            refused += 1;
            told(&chain, "link-refused", refused, what);
        }
        let mut tls = control(&chain, &LinkKey::derive(&SecurityToken::new_random().unwrap())).await;
        // Its key has been seen before its introduction.
        let _ = frame::write(&mut tls, &hello()).await;
        let heard = rest(&mut tls).await;
        ends_with(&heard, Situation::LinkClientUnlicensed);
        told(&chain, "link-client-unlicensed", 1, "a key that nobody has licensed");
        // With the stolen token, while its owner is linked.
        let mut tls = control(&chain, &licensed(&chain)).await;
        frame::write(&mut tls, &hello()).await.unwrap();
        let heard = rest(&mut tls).await;
        ends_with(&heard, Situation::LinkSecondClient);
        told(&chain, "link-second-client", 1, "another run with the same key");
        Ok(())
    })?;
    assert_eq!(of_role(chain.server(), "switchboard"), switchboard);
    assert_eq!(count(chain.server(), "link-down"), 0);
    for line in chain.server().lines() {
        assert!(line.len() < 8192, "{} octets in one line: {}", line.len(), &line[..200]);
    }
    finishes(&chain, held, "IN-FLIGHT")?;
    serves(&chain, "NEXT");
    Ok(())
}

#[test]
fn a_licensed_client_that_speaks_nonsense_is_ended_with_one_line_each() -> Result<(), Trouble> {
    let mut chain = Plan::new().prepare()?;
    chain.start_server()?;
    let switchboard = of_role(chain.server(), "switchboard");
    let too_large = u32::try_from(LARGEST).unwrap() + 1;
    let cases = [
        ("a second introduction", framed(&hello())),
        ("a frame that is too long", u32::try_from(frame::LARGEST + 1).unwrap().to_be_bytes().to_vec()),
        ("an empty frame", 0_u32.to_be_bytes().to_vec()),
        ("an unknown kind", raw(&[99])),
        ("a ping with something behind it", raw(&[1, 0])),
        ("a part out of step", part(Whole::Snapshot(1), 100_000, 65_536, &[1; 100])),
        ("a part that is longer than its whole", part(Whole::Snapshot(1), 10, 0, &[1; 100])),
        ("an empty part of something", part(Whole::Snapshot(1), 10, 0, &[])),
        ("a snapshot that is too large", part(Whole::Snapshot(1), too_large, 0, &[1; 100])),
        ("a CRL that is too large", part(Whole::Crl([1; 32]), LARGEST_WHOLE + 1, 0, &[1; 100])),
        ("octets that are no snapshot", part(Whole::Snapshot(1), 3, 0, b"abc")),
        ("a snapshot under another number", {
            let octets = postcard_of(&snapshot_that_cannot_stand());
            part(Whole::Snapshot(7), u32::try_from(octets.len()).unwrap(), 0, &octets)
        }),
        ("a CRL under another hash", part(Whole::Crl([1; 32]), 3, 0, b"abc")),
    ];
    run(async {
        for (number, (what, octets)) in cases.into_iter().enumerate() {
            let mark = chain.server().mark();
            let mut tls = introduced(&chain).await;
            tls.write_all(&octets).await.unwrap();
            tls.flush().await.unwrap();
            let heard = rest(&mut tls).await;
            ends_with(&heard, Situation::LinkMessageInvalid);
            told(&chain, "link-message-invalid", number + 1, what);
            chain.server().wait_after(mark, "link-down", |line| line.contains(" link-down "))?;
        }
        Ok(())
    })?;
    assert_eq!(of_role(chain.server(), "switchboard"), switchboard);
    chain.start_client()?;
    chain.wait_until_open(Mark::default())?;
    serves(&chain, "AFTER");
    Ok(())
}

#[test]
fn a_snapshot_that_cannot_stand_and_answers_for_nobody_change_nothing() -> Result<(), Trouble> {
    let mut chain = Plan::new().prepare()?;
    chain.start_server()?;
    let nobody = SessionId::from_random([5; 16]);
    let why = Refused { situation: Situation::SigningRefused, text: "evil".into() };
    run(async {
        let mut tls = introduced(&chain).await;
        let messages = [
            FromClient::Signed(nobody, Ok(ByteBuf::from(vec![1; 64]))),
            FromClient::Signed(nobody, Err(why.clone())),
            FromClient::Paired(nobody, KeyHash::from_octets([3; 32])),
            FromClient::Paired(nobody, KeyHash::from_octets([3; 32])),
            FromClient::PairRefused(nobody, why),
        ];
        for message in &messages {
            frame::write(&mut tls, message).await.unwrap();
        }
        for part in parts(Whole::Snapshot(1), &postcard_of(&snapshot_that_cannot_stand())) {
            frame::write(&mut tls, &FromClient::Part(part)).await.unwrap();
        }
        let refused = timeout(PATIENCE, async {
            loop {
                match frame::read::<FromServer>(&mut tls).await {
                    Ok(FromServer::SnapshotRefused(number, text)) => return (number, text),
                    Ok(_) => {}
                    Err(error) => panic!("the link ended: {error}"),
                }
            }
        });
        let (number, text) = refused.await.expect("an answer comes");
        assert!(number == 1 && text.contains("no identity"), "{number}: {text}");
        Ok(())
    })?;
    told(&chain, "snapshot-refused", 1, "a snapshot without identity");
    assert_eq!(count(chain.server(), "link-message-invalid"), 0);
    chain.server_says("link-down")?;
    assert_eq!(count(chain.server(), "partner-port-open"), 0);
    chain.start_client()?;
    chain.wait_until_open(Mark::default())?;
    serves(&chain, "AFTER");
    Ok(())
}

/// As it is sent in parts: a message alone would be too long for some.
fn postcard_of(snapshot: &Snapshot) -> Vec<u8> {
    frame::encode(snapshot).unwrap()
}

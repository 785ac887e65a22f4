//! An evil proxyserver towards the proxyclient: nonsense in each phase, answers that nobody asked for, requests without
//! end. The link is ended with one line where it is misconduct; the proxyclient itself, and what it reports, goes on.

use std::net::SocketAddr;

use proxylink::frame;
use proxylink::message::{FromClient, FromServer, Goodbye, ServerHello, SignRequest};
use proxylink::pairing::{SessionId, Token};
use proxylink::preamble::Preamble;
use proxylink::record::{Report, UnixMillis};
use proxylink::situation::Situation;
use proxylink::tls::SessionKey;
use rustls::version::TLS13;
use tests::harness::{Chain, PATIENCE, Process, Trouble, until};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::dmz::{Dmz, preamble_of, prepare, request, run};
use crate::handshake::{self, between};

fn count(process: &Process, code: &str) -> usize {
    process.lines().iter().filter(|line| line.contains(&format!(" {code} "))).count()
}

fn raw(message: &[u8]) -> Vec<u8> {
    [&u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

fn hello() -> FromServer {
    FromServer::Hello(ServerHello { version: "evil".into(), pid: 1, host: "dmz".into(), licensed_until: 0 })
}

fn framed(message: &FromServer) -> Vec<u8> {
    raw(&frame::encode(message).unwrap())
}

fn nonsense(message: &[u8]) -> SignRequest {
    SignRequest { certificate: [0; 32], scheme: 0x0403, message: message.to_vec() }
}

fn says_goodbye(heard: &[FromClient], because: Situation) -> bool {
    heard
        .iter()
        .any(|message| matches!(message, FromClient::Goodbye(Goodbye { situation, .. }) if *situation == because))
}

/// Starts the proxyclient anew: a link that was ended is redialled after a pause that grows.
fn anew(chain: &mut Chain) {
    chain.client.take();
}

#[test]
fn a_proxyserver_that_speaks_nonsense_is_ended_with_one_line_each() -> Result<(), Trouble> {
    let (mut chain, _daemon, _proxy) = prepare()?;
    let ping = frame::encode(&FromServer::Ping).unwrap();
    let cases = [
        ("a second introduction", framed(&hello())),
        ("a frame that is too long", u32::try_from(frame::LARGEST + 1).unwrap().to_be_bytes().to_vec()),
        ("an empty frame", 0_u32.to_be_bytes().to_vec()),
        ("an unknown kind", raw(&[99])),
        ("something behind a message", raw(&[&ping[..], &[0]].concat())),
        ("a message cut", raw(&framed(&hello())[4..10])),
    ];
    run(async {
        for (what, octets) in cases {
            let (_port, mut tls) = Dmz::greeted(&mut chain).await?;
            tls.write_all(&octets).await.unwrap();
            tls.flush().await.unwrap();
            let mut heard = Vec::new();
            let closed = timeout(PATIENCE, async {
                while let Ok(message) = frame::read::<FromClient>(&mut tls).await {
                    heard.push(message);
                }
            });
            closed.await.expect("the client closes");
            assert!(says_goodbye(&heard, Situation::LinkMessageInvalid), "{what}: {heard:?}");
            chain.client_says("link-down")?;
            assert_eq!(count(chain.client(), "link-message-invalid"), 1, "{what}:\n{}", chain.client().last_lines(10));
            assert_eq!(count(chain.client(), "role-died"), 0, "{what}");
            anew(&mut chain);
        }
        for (what, octets) in [
            ("a ping", framed(&FromServer::Ping)),
            ("a request", { framed(&FromServer::Sign(SessionId::from_random([1; 16]), nonsense(b""))) }),
        ] {
            let (_port, mut tls) = Dmz::reached(&mut chain).await?;
            tls.write_all(&octets).await.unwrap();
            tls.flush().await.unwrap();
            let told = |line: &str| line.contains(" ERROR ") && line.contains(" link-");
            chain.client().wait_for(what, told)?;
            assert_eq!(count(chain.client(), "link-up"), 0, "{what} before the introduction");
            anew(&mut chain);
        }
        Ok(())
    })
}

#[test]
fn answers_that_nobody_asked_for_and_lies_about_itself_change_nothing() -> Result<(), Trouble> {
    let (mut chain, daemon, _proxy) = prepare()?;
    let nobody = SessionId::from_random([9; 16]);
    let report = |situation, text: &str| {
        FromServer::Report(Report {
            time: UnixMillis(i64::MIN),
            situation,
            pid: 0,
            text: text.to_owned(),
            session: Some(nobody),
            partner: Some("ACME".into()),
            peer: None,
        })
    };
    run(async {
        let mut dmz = Dmz::start(&mut chain).await?;
        let many: Vec<SocketAddr> = (1..=1000).map(|port| SocketAddr::from(([192, 0, 2, 1], port))).collect();
        let lies = [
            FromServer::SnapshotTaken(u64::MAX),
            FromServer::SnapshotRefused(7, "evil\n2026-01-01T00:00:00Z INFO forged".into()),
            FromServer::WantCrls(vec![[1; 32]; 100]),
            FromServer::Gone(nobody),
            FromServer::Listening(many),
            FromServer::Sessions(u32::MAX),
            report(Situation::ConfigurationTaken, "a lie"),
            report(Situation::ServerStarted, "evil\n2026-01-01T00:00:00Z INFO forged"),
        ];
        for lie in lies {
            dmz.outbox.send(&lie).unwrap();
        }
        // The link stands, and all of it has been heard.
        let session = dmz.new_session();
        let refused = dmz.pair(session, request(&[], between_nobody(&chain))).await;
        assert!(matches!(refused, FromClient::PairRefused(..)), "{refused:?}");
        assert_eq!(count(chain.client(), "link-down"), 0);
        assert!(daemon.accept().is_err(), "nobody was called");
        chain.client().wait_for_text("1 reports of the proxyserver were dropped")?;
        for line in chain.client().lines() {
            assert!(!line.starts_with("2026-01-01T00:00:00Z"), "a forged line: {line}");
        }
        let events = chain.scripted_backend().events();
        assert!(events.iter().all(|event| event["message"] != "a lie"), "{events:#?}");
        Ok(())
    })
}

/// A handshake of strangers.
fn between_nobody(chain: &Chain) -> verification::possession::HandshakeSignature {
    let acme = &chain.partners[0].identity;
    between(acme, acme, &TLS13).of_client.unwrap()
}

#[test]
fn a_flood_of_the_dmzs_reports_erases_none_of_the_inside() -> Result<(), Trouble> {
    let (mut chain, _daemon, _proxy) = prepare()?;
    run(async {
        let mut dmz = Dmz::start(&mut chain).await?;
        let mut sent = 0;
        while sent < 20_000 {
            let report = Report {
                time: UnixMillis(0),
                situation: Situation::LimitReached,
                pid: 0,
                text: format!("flood {sent}"),
                session: None,
                partner: None,
                peer: None,
            };
            if dmz.outbox.send(&FromServer::Report(report)).is_ok() {
                sent += 1;
            } else {
                tokio::task::yield_now().await;
            }
        }
        let session = dmz.new_session();
        let refused = dmz.ask(session, FromServer::Sign(session, nonsense(b"no handshake"))).await;
        assert!(matches!(refused, FromClient::Signed(_, Err(_))), "{refused:?}");
        for code in ["signing-refused", "link-up", "configuration-taken", "client-started"] {
            let told = until(PATIENCE * 2, || {
                chain.scripted_backend().events().iter().any(|event| event["code"] == code).then_some(())
            });
            assert!(told.is_some(), "{code} was erased");
        }
        Ok(())
    })
}

#[test]
fn requests_without_end_leave_a_readable_log_and_end_the_link() -> Result<(), Trouble> {
    let (mut chain, _daemon, _proxy) = prepare()?;
    run(async {
        let mut dmz = Dmz::start(&mut chain).await?;
        // One more than a link survives.
        for number in 0..=50_u8 {
            let session = SessionId::from_random([number; 16]);
            dmz.outbox.send(&FromServer::Sign(session, nonsense(b"I owe the bearer a million"))).unwrap();
        }
        let mut heard = Vec::new();
        while let Some(Ok(message)) = timeout(PATIENCE, dmz.inbox.recv()).await.expect("the client ends it") {
            heard.push(message);
        }
        assert!(says_goodbye(&heard, Situation::LinkMisconduct), "{heard:?}");
        println!("{}", chain.client_says("link-misconduct")?);
        chain.client_says("link-down")?;
        assert_eq!(count(chain.client(), "link-misconduct"), 1);
        let told = count(chain.client(), "signing-refused");
        assert_eq!(told, 20, "the others are counted:\n{}", chain.client().last_lines(60));
        assert_eq!(count(chain.client(), "role-died"), 0);
        Ok(())
    })
}

/// The data connection of a paired session, with a wrong key or a word too many: that session alone is lost.
#[test]
fn a_data_connection_with_another_key_is_not_spoken_on() -> Result<(), Trouble> {
    let (mut chain, daemon, proxy) = prepare()?;
    let acme = chain.partners[0].identity.clone();
    run(async {
        let mut dmz = Dmz::start(&mut chain).await?;
        let (announced, other) = (SessionKey::generate().unwrap(), SessionKey::generate().unwrap());
        let mut genuine = request(&handshake::chain(&acme), between(&acme, &proxy, &TLS13).of_client.unwrap());
        genuine.dmz_key = announced.hash();
        let session = dmz.new_session();
        let FromClient::Paired(_, theirs) = dmz.pair(session, genuine).await else { panic!("it is genuine") };
        let mut data = timeout(PATIENCE, dmz.port.accept()).await.expect("the inside comes").unwrap().0;
        assert!(matches!(preamble_of(&mut data).await, Preamble::Data(token) if token == Token::from_octets([9; 32])));
        let config = std::sync::Arc::new(other.server(theirs).unwrap());
        let accepted = tokio_rustls::TlsAcceptor::from(config).accept(data).await;
        assert!(accepted.is_err(), "the inside speaks with another key");
        chain.client_says("data-connection-lost")?;
        let mut called = daemon.accept().expect("the receive daemon was called before").0;
        called.set_nonblocking(false).unwrap();
        called.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut heard = Vec::new();
        let _ = std::io::Read::read_to_end(&mut called, &mut heard);
        assert!(heard.is_empty(), "not a word for it: {heard:?}");
        assert_eq!(count(chain.client(), "link-down"), 0);
        Ok(())
    })
}

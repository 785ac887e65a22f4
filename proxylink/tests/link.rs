//! The link as two ends see it: keys, frames, heartbeat, and what is ended for misconduct.

use std::sync::Arc;

use proxylink::control::{self, Unsent};
use proxylink::frame::{self, FrameError};
use proxylink::message::{FromClient, FromServer, Goodbye, PING_EVERY};
use proxylink::pairing::{KeyHash, TlsFacts};
use proxylink::situation::Situation;
use proxylink::tls::KeyExchange::{self, Classical, PostQuantum};
use proxylink::tls::{self, Accept, SessionKey, proven_key};
use rustls::{ClientConfig, NamedGroup, ServerConfig};
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

fn run<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// Both ends' answers to a handshake over memory; the client reads once, as its error shows only then in TLS 1.3.
async fn shake_hands(server: ServerConfig, client: ClientConfig) -> (Result<Option<KeyHash>, String>, bool) {
    let (ours, theirs) = duplex(64 * 1024);
    let accepted = tokio::spawn(async move {
        let stream = TlsAcceptor::from(Arc::new(server)).accept(ours).await.map_err(|error| error.to_string())?;
        let key = proven_key(stream.get_ref().1.peer_certificates());
        assert_eq!(stream.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        Ok(key)
    });
    let connected = TlsConnector::from(Arc::new(client)).connect(tls::server_name(), theirs).await.is_ok();
    (accepted.await.unwrap(), connected)
}

#[test]
fn a_handshake_can_be_rehearsed_alone() {
    proxylink::tls::rehearse().unwrap();
}

#[test]
fn both_ends_prove_exactly_the_expected_keys() {
    run(async {
        let (server, client) = (SessionKey::generate().unwrap(), SessionKey::generate().unwrap());
        let answer =
            shake_hands(server.server(client.hash()).unwrap(), client.client(server.hash(), Classical).unwrap()).await;
        assert_eq!(answer, (Ok(Some(client.hash())), true));
    });
}

#[test]
fn a_data_connection_speaks_the_one_suite_of_the_protocol() {
    let (server, client) = (SessionKey::generate().unwrap(), SessionKey::generate().unwrap());
    let suites = |provider: &rustls::crypto::CryptoProvider| {
        provider.cipher_suites.iter().map(|suite| suite.suite()).collect::<Vec<_>>()
    };
    let own = [rustls::CipherSuite::TLS13_AES_128_GCM_SHA256];
    assert_eq!(suites(server.server(client.hash()).unwrap().crypto_provider()), own);
    assert_eq!(suites(client.client(server.hash(), Classical).unwrap().crypto_provider()), own);
}

#[test]
fn keys_of_a_data_connection_are_agreed_no_weaker_than_with_the_partner() {
    let partner = |group: &str| TlsFacts {
        version: "TLSv1.3".to_owned(),
        cipher_suite: "TLS13_AES_256_GCM_SHA384".to_owned(),
        key_exchange: group.to_owned(),
    };
    for (group, exchange, own) in [
        ("X25519MLKEM768", PostQuantum, NamedGroup::X25519MLKEM768),
        ("SecP256r1MLKEM768", PostQuantum, NamedGroup::X25519MLKEM768),
        // Stronger than X25519 against the computers of today.
        ("secp384r1", PostQuantum, NamedGroup::X25519MLKEM768),
        ("secp521r1", PostQuantum, NamedGroup::X25519MLKEM768),
        ("unknown", PostQuantum, NamedGroup::X25519MLKEM768),
        ("", PostQuantum, NamedGroup::X25519MLKEM768),
        ("X25519", Classical, NamedGroup::X25519),
        ("secp256r1", Classical, NamedGroup::X25519),
    ] {
        assert_eq!(KeyExchange::no_weaker_than(&partner(group)), exchange, "{group}");
        let (server, client) = (SessionKey::generate().unwrap(), SessionKey::generate().unwrap());
        let (server, client) = (server.server(client.hash()).unwrap(), client.client(server.hash(), exchange).unwrap());
        let (accepted, agreed) = run(async {
            let (ours, theirs) = duplex(64 * 1024);
            let accepting = tokio::spawn(async move { TlsAcceptor::from(Arc::new(server)).accept(ours).await.is_ok() });
            let connected = TlsConnector::from(Arc::new(client)).connect(tls::server_name(), theirs).await.unwrap();
            let agreed = connected.get_ref().1.negotiated_key_exchange_group().map(|group| group.name());
            (accepting.await.unwrap(), agreed)
        });
        assert_eq!((accepted, agreed), (true, Some(own)), "{group}");
    }
}

#[test]
fn any_other_key_ends_the_handshake_at_either_end() {
    run(async {
        let (server, client, other) =
            (SessionKey::generate().unwrap(), SessionKey::generate().unwrap(), SessionKey::generate().unwrap());
        let (accepted, _) =
            shake_hands(server.server(other.hash()).unwrap(), client.client(server.hash(), Classical).unwrap()).await;
        assert!(accepted.is_err(), "the server takes the client it was told only");
        let (_, connected) =
            shake_hands(server.server(client.hash()).unwrap(), client.client(other.hash(), Classical).unwrap()).await;
        assert!(!connected, "the client takes the server it was told only");
    });
}

#[test]
fn a_control_server_learns_the_key_of_whoever_comes() {
    run(async {
        let token = license::SecurityToken::new_random().unwrap();
        let key = license::LinkKey::derive(&token);
        let scratch = std::env::temp_dir().join(format!("proxylink-{}", std::process::id()));
        std::fs::create_dir_all(&scratch).unwrap();
        let identity = license::IdentityKey::load_or_create(&scratch).unwrap();
        std::fs::remove_dir_all(&scratch).unwrap();
        let proxy_id = KeyHash::from_octets(*identity.proxy_id().as_octets());
        assert_eq!(proxy_id, KeyHash::of_spki(identity.spki()), "a Proxy ID names the very key");
        let server = tls::server(identity.pkcs8(), Accept::Any).unwrap();
        let client = tls::client(key.pkcs8(), proxy_id).unwrap();
        assert_eq!(shake_hands(server, client).await, (Ok(Some(KeyHash::of_spki(key.spki()))), true));
    });
}

#[test]
fn neither_end_speaks_anything_but_tls_1_3() {
    run(async {
        let (server, client) = (SessionKey::generate().unwrap(), SessionKey::generate().unwrap());
        let mut old = ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        old.enable_sni = false;
        let (accepted, connected) = shake_hands(server.server(client.hash()).unwrap(), old).await;
        assert!(accepted.is_err() && !connected);
    });
}

async fn read_from(octets: &[u8]) -> Result<FromClient, FrameError> {
    let (mut ours, mut theirs) = duplex(octets.len().max(1));
    ours.write_all(octets).await.unwrap();
    drop(ours);
    frame::read(&mut theirs).await
}

#[test]
fn frames_are_bounded_whole_and_of_a_known_kind() {
    run(async {
        assert!(matches!(read_from(&[0, 0, 0, 1, 1]).await, Ok(FromClient::Ping)));
        assert!(matches!(read_from(&[0, 0, 0, 0]).await, Err(FrameError::Length(0))));
        assert!(matches!(read_from(&[0, 3, 0, 1]).await, Err(FrameError::Length(196_609))));
        assert!(matches!(read_from(&[0xff; 8]).await, Err(FrameError::Length(_))));
        assert!(matches!(read_from(&[0, 0, 0, 1, 0x7f]).await, Err(FrameError::Unreadable(1))), "unknown kind");
        assert!(matches!(read_from(&[0, 0, 0, 2, 1, 0]).await, Err(FrameError::Unreadable(2))), "one octet too many");
        assert!(matches!(read_from(&[0, 0, 0, 2, 1]).await, Err(FrameError::Closed)), "cut short");
        assert!(matches!(read_from(&[]).await, Err(FrameError::Closed)));
    });
}

fn ends() -> (DuplexStream, DuplexStream) {
    duplex(1024)
}

#[test]
fn a_message_of_an_unknown_kind_ends_the_connection_as_misconduct() {
    run(async {
        let (ours, mut theirs) = ends();
        let (_outbox, mut inbox) = control::start::<_, FromClient, _>(ours, FromServer::Ping);
        theirs.write_all(&[0, 0, 0, 1, 0x7f]).await.unwrap();
        let end = inbox.recv().await.unwrap().unwrap_err();
        assert!(end.is_misconduct(), "{end}");
        assert!(inbox.recv().await.is_none());
    });
}

#[test]
fn the_other_end_hears_a_ping_in_time_and_silence_ends_the_link() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (ours, mut theirs) = ends();
        let (_outbox, mut inbox) = control::start::<_, FromClient, _>(ours, FromServer::Ping);
        // The first heartbeat goes out at once, so that the other side's clock starts.
        assert_eq!(frame::read::<FromServer>(&mut theirs).await.unwrap(), FromServer::Ping);
        assert!(PING_EVERY * 3 <= proxylink::message::DEAD_AFTER);
        frame::write(&mut theirs, &FromClient::Ping).await.unwrap();
        assert!(matches!(inbox.recv().await, Some(Ok(FromClient::Ping))));
    });
}

#[test]
fn what_was_sent_goes_out_before_the_connection_closes() {
    run(async {
        let (ours, mut theirs) = ends();
        let (outbox, inbox) = control::start::<_, FromClient, _>(ours, FromServer::Ping);
        let goodbye = FromServer::Goodbye(Goodbye { situation: Situation::LinkGoodbye, text: "it ends".to_owned() });
        outbox.send(&goodbye).unwrap();
        drop((outbox, inbox));
        let mut heard = Vec::new();
        loop {
            match frame::read::<FromServer>(&mut theirs).await {
                Ok(FromServer::Ping) => {}
                Ok(message) => heard.push(message),
                Err(error) => {
                    assert!(matches!(error, FrameError::Closed), "{error}");
                    break;
                }
            }
        }
        assert_eq!(heard, [goodbye]);
    });
}

#[test]
fn a_small_message_overtakes_everything_large() {
    run(async {
        use proxylink::message::{Part, Whole};
        // So small a pipe that the second part has to wait.
        let (ours, mut theirs) = duplex(64);
        let (outbox, _inbox) = control::start::<_, FromServer, _>(ours, FromClient::Ping);
        let part =
            |offset| FromClient::Part(Part { of: Whole::Snapshot(1), total: 4000, offset, octets: vec![0; 1000] });
        let large = outbox.clone();
        tokio::spawn(async move {
            for offset in [0, 1000, 2000, 3000] {
                large.send_large(&part(offset)).await.unwrap();
            }
        });
        let mut order = Vec::new();
        let mut sent = false;
        while order.len() < 5 {
            match frame::read::<FromClient>(&mut theirs).await.unwrap() {
                FromClient::Ping => {}
                FromClient::Part(part) => order.push(part.offset.to_string()),
                other => order.push(format!("{other:?}").chars().take(6).collect()),
            }
            if !sent && !order.is_empty() {
                let session = proxylink::pairing::SessionId::from_random([0; 16]);
                sent = outbox.send(&FromClient::Signed(session, Ok(serde_bytes::ByteBuf::new()))).is_ok();
            }
        }
        let place = order.iter().position(|what| what == "Signed").unwrap();
        assert!(place < 4, "{order:?}");
    });
}

fn goodbye(text: String) -> FromServer {
    FromServer::Goodbye(Goodbye { situation: Situation::LinkGoodbye, text })
}

/// What the other end of a connection hears until it ends, without pings, and what could not be sent.
async fn heard_of(sent: &[FromServer]) -> (Vec<FromServer>, Vec<Unsent>) {
    let (ours, mut theirs) = ends();
    let (outbox, inbox) = control::start::<_, FromClient, _>(ours, FromServer::Ping);
    // Nobody has run yet: all of them wait for the writer.
    let unsent = sent.iter().filter_map(|message| outbox.send(message).err()).collect();
    drop((outbox, inbox));
    let mut heard = Vec::new();
    while let Ok(message) = frame::read::<FromServer>(&mut theirs).await {
        heard.extend(Some(message).filter(|message| *message != FromServer::Ping));
    }
    (heard, unsent)
}

#[test]
fn messages_that_wait_for_the_writer_arrive_whole_and_in_order() {
    run(async {
        // More together than are written in one go.
        let sent: Vec<_> = (0..200).map(|number| goodbye(format!("{number} {}", "x".repeat(number * 7)))).collect();
        assert_eq!(heard_of(&sent).await, (sent.clone(), Vec::new()));
    });
}

#[test]
fn a_message_that_is_too_large_is_told_to_who_sends_it_and_the_connection_goes_on() {
    run(async {
        let [first, second, last] = ["first", "second", "last"].map(|text| goodbye(text.to_owned()));
        let too_large = goodbye("x".repeat(frame::LARGEST));
        let (heard, unsent) = heard_of(&[first.clone(), second.clone(), too_large, last.clone()]).await;
        assert_eq!((heard, unsent), (vec![first, second, last], vec![Unsent::TooLarge]));
    });
}

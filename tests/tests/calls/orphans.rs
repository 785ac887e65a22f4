//! Sessions whose switchboard dies while they are set up, or when they have just been.

use std::net::TcpStream;
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proxylink::message::{FromClient, FromServer};
use proxylink::pairing::{PairingRequest, SessionId};
use rustls::ClientConnection;
use serde_bytes::ByteBuf;
use tests::harness::{Chain, PATIENCE, Trouble, table, until};
use tests::station::{Command, Connection, Failure, TlsSettings, TlsVersions, Trust};

use crate::inside::{Inside, partner, snapshot};
use crate::running::linked;

/// The partner of the harness connects.
fn comes(chain: &Chain) -> JoinHandle<Result<Connection, Failure>> {
    let trust = Trust::Anybody;
    let identity = Some(chain.partners[0].identity.clone());
    let tls = TlsSettings { identity, trust, versions: TlsVersions::Both };
    let address = chain.partner_address();
    std::thread::spawn(move || {
        let connection = ClientConnection::new(tls.client()?, tls.server_name()?).unwrap();
        Connection::new(TcpStream::connect(address).unwrap(), Some(connection.into()), PATIENCE)
    })
}

/// Its session, which is to be paired.
fn asks(inside: &mut Inside) -> (SessionId, Box<PairingRequest>) {
    loop {
        match inside.hear() {
            Some(FromServer::Sign(session, request)) => {
                let signature = inside.signature(&request);
                inside.say(FromClient::Signed(session, Ok(ByteBuf::from(signature))));
            }
            Some(FromServer::Pair(session, request)) => return (session, request),
            other => panic!("{other:?}"),
        }
    }
}

fn switchboard(chain: &Chain) -> Option<i32> {
    let all = table::below(chain.server().pid());
    all.into_iter().find(|entry| entry.name.starts_with("switchboard")).map(|entry| entry.pid)
}

#[test]
fn who_was_verified_right_before_the_switchboard_died_is_not_taken_for_a_stranger() -> Result<(), Trouble> {
    let (chain, mut inside) = linked()?;
    let give = |inside: &mut Inside| {
        let mark = chain.server().mark();
        let mut wanted = snapshot(&chain, vec![partner(&chain, "127.0.0.1:1")]);
        wanted.limits.max_unverified = 1;
        inside.give(wanted);
        chain.server().wait_after(mark, "the open port", |line| line.contains(" partner-port-open "))
    };
    give(&mut inside)?;
    let verified = comes(&chain);
    let (session, request) = asks(&mut inside);
    let before = switchboard(&chain).expect("a switchboard");
    let gate = Pid::from_raw(chain.server().pid());
    // So that it finds the death and the word about the session at once.
    kill(gate, Signal::SIGSTOP).unwrap();
    let mut data = inside.pair(session, &request);
    // Behind the pairing.
    inside.failure("NOBODY");
    kill(Pid::from_raw(before), Signal::SIGKILL).unwrap();
    assert!(inside.hear().is_none(), "the link ends with the switchboard");
    kill(gate, Signal::SIGCONT).unwrap();
    let anew = until(PATIENCE, || switchboard(&chain).filter(|pid| *pid != before));
    assert!(anew.is_some(), "{}", chain.server().last_lines(20));

    let mut inside = Inside::link(&chain);
    give(&mut inside)?;
    // There is one place for those who are not verified yet, and whoever takes it sends the one away that has it.
    let stranger = comes(&chain);
    let _ = asks(&mut inside);
    let mut verified = verified.join().unwrap().unwrap();
    data.send(&Command::Ssrm).unwrap();
    assert!(matches!(verified.receive(), Ok(Command::Ssrm)), "{}", chain.server().last_lines(20));
    drop((inside, chain));
    let _ = stranger.join();
    Ok(())
}

//! Sessions that have just been set up when their switchboard dies, or their link.

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
use crate::partner::{Partner, answer, ssid, usual};
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
    let mut verified = verified.join().unwrap().unwrap();
    data.send(&Command::Ssrm).unwrap();
    assert!(matches!(verified.receive(), Ok(Command::Ssrm)), "{}", chain.server().last_lines(20));
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
    verified.send(&ssid(&chain.partners[0].code)).unwrap();
    let heard = data.receive();
    assert!(matches!(heard, Ok(Command::Ssid(_))), "{heard:?}\n{}", chain.server().last_lines(20));
    drop((inside, chain));
    let _ = stranger.join();
    Ok(())
}

#[test]
fn who_is_linked_when_its_link_is_lost_goes_on() -> Result<(), Trouble> {
    for called in [false, true] {
        let (chain, mut inside) = linked()?;
        let config = usual(&chain, TlsVersions::Both);
        let acme = Partner::serving(move |socket| {
            let mut connection = answer(socket, config)?;
            // Before that nobody is asked for a pairing.
            connection.send(&Command::Ssrm)?;
            Ok(connection)
        });
        inside.give(snapshot(&chain, vec![partner(&chain, &acme.at())]));
        chain.server_says("partner-port-open")?;
        let (session, request, other) = if called {
            let session = inside.call("ACME");
            (session, inside.up_to_pairing(session).unwrap().0, acme.thread)
        } else {
            let other = comes(&chain);
            let (session, request) = asks(&mut inside);
            (session, request, other)
        };
        let pid = Pid::from_raw(switchboard(&chain).expect("a switchboard"));
        // So that it hears of both at once, in whatever order.
        let mut data = inside.pair_and(session, &request, || kill(pid, Signal::SIGSTOP).unwrap());
        let mut other = other.join().unwrap().unwrap();
        let (from, to) = if called { (&mut other, &mut data) } else { (&mut data, &mut other) };
        if !called {
            from.send(&Command::Ssrm).unwrap();
        }
        assert!(matches!(to.receive(), Ok(Command::Ssrm)), "{}", chain.server().last_lines(20));
        drop(inside);
        let mark = chain.server().mark();
        kill(pid, Signal::SIGCONT).unwrap();
        chain.server().wait_after(mark, "the lost link", |line| line.contains(" link-down "))?;
        // Behind the switchboard's words about the old link.
        let _inside = Inside::link(&chain);
        let code = if called { "O0013000000INSIDE" } else { &*chain.partners[0].code };
        to.send(&ssid(code)).unwrap();
        let heard = from.receive();
        assert!(matches!(heard, Ok(Command::Ssid(_))), "{called}: {heard:?}\n{}", chain.server().last_lines(20));
    }
    Ok(())
}

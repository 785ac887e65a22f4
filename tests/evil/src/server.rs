//! Misbehaviour of the proxyserver's processes, towards whoever is stronger.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};
use proxydaemon::descriptors::{Channel, SealedFile};
use proxydaemon::exit::ExitCode;
use proxydaemon::logging::ChildLog;
use proxylink::message::SignRequest;
use proxylink::pairing::{Chain, Direction, KeyHash, LARGEST_CHAIN, PairingRequest, SessionId, TlsFacts, Token};
use proxylink::record::{SessionOutcome, SessionReport};
use proxylink::situation::Situation;
use serde::Serialize;
use serde_bytes::ByteBuf;
use verification::possession::{HandshakeSignature, Version};

use crate::between::{FromSession, FromSwitchboard, LARGEST};
use crate::session::{Around, Belongings};

/// How long an evil session waits for its punishment.
const PATIENCE: Duration = Duration::from_secs(60);

/// A confined session, before its first octet: what its peer's address orders instead of its work.
pub fn session(belongings: &Belongings, around: &Around, log: &ChildLog) -> Option<ExitCode> {
    if let Some(attempt) = attempts::attempt_of(around.peer.ip()) {
        attempts::make(attempt);
        return Some(ExitCode::Ok);
    }
    let words = attempts::session_words_of(around.peer.ip())?;
    let said = say(words, &belongings.switchboard, around, log);
    // What it is ended for may come before its last word is out.
    log::debug!("evil session: {words}: {said:?}");
    attempts::idle(PATIENCE);
    log::error!("evil session: {words}: nobody minded");
    Some(ExitCode::Ok)
}

fn say(words: &str, switchboard: &Channel, around: &Around, log: &ChildLog) -> std::io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let send = |octets: &[u8]| switchboard.send_by(deadline, octets, &[]);
    let tell = |message: &FromSession| send(&encoded(message));
    let pair = |change: &dyn Fn(&mut PairingRequest)| {
        let mut request = request(around);
        change(&mut request);
        FromSession::Pair(Box::new(request))
    };
    let record = |change: &dyn Fn(&mut SessionReport)| {
        let mut record = record(around);
        change(&mut record);
        FromSession::Refused(Box::new(record), None)
    };
    let same = |_: &mut PairingRequest| {};
    match words {
        "sign twice" => [sign(130), sign(130)].iter().try_for_each(tell),
        "sign after pairing" => [pair(&same), sign(130)].iter().try_for_each(tell),
        "linked at once" => tell(&FromSession::Linked),
        "pair twice" => [pair(&same), pair(&same)].iter().try_for_each(tell),
        "pair for another peer" => tell(&pair(&|request| request.peer.set_ip(IpAddr::from([192, 0, 2, 1])))),
        "pair at another port" => tell(&pair(&|request| request.local.set_port(1))),
        "a record of another session" => tell(&record(&|record| record.id = SessionId::from_random([7; 16]))),
        "a record of another peer" => tell(&record(&|record| record.peer.set_port(1))),
        "words after its record" => [record(&|_| {}), sign(130), record(&|_| {})].iter().try_for_each(tell),
        "silence after its record" => tell(&record(&|_| {})),
        "an unknown kind" => send(&[99, 1, 2, 3]),
        "a message cut" => {
            let octets = encoded(&pair(&same));
            send(octets.get(..octets.len() / 2).unwrap_or_default())
        }
        "something behind a message" => send(&[encoded(&sign(130)), vec![0]].concat()),
        "too large to sign" => tell(&sign(96 * 1024 + 1)),
        "too large a chain" => {
            tell(&pair(&|request| request.chain = Chain(vec![ByteBuf::from(vec![0; LARGEST_CHAIN + 1])])))
        }
        "a pairing as large as the channel" => {
            let with = |octets| pair(&|request| request.signature.signature = vec![0; octets]);
            // The length is written in three octets, for the larger one as well.
            let room = LARGEST - encoded(&with(LARGEST / 2)).len() + LARGEST / 2;
            tell(&with(room))
        }
        "a long name of a cipher" => tell(&pair(&|request| request.tls.cipher_suite = "x".repeat(LARGEST / 2))),
        "a long word at its end" => tell(&record(&|record| record.detail = "x".repeat(LARGEST / 2))),
        "too large for the channel" => send(&vec![0; LARGEST + 1]),
        "a descriptor that nobody wants" => send_with(switchboard, &encoded(&sign(130)), &[switchboard.as_fd()]),
        "too many descriptors" => {
            let own = [switchboard.as_fd(); 4];
            (0..3).try_for_each(|_| send_with(switchboard, &encoded(&sign(130)), &own))
        }
        "a flood of questions" => (0..100_000).try_for_each(|_| tell(&sign(130))),
        _ => attempts::say_to_log(words, log.as_fd()),
    }
}

/// The kernel counts what all processes of a user have under way, and a session may have little: it tries again.
fn send_with(channel: &Channel, octets: &[u8], descriptors: &[BorrowedFd<'_>]) -> std::io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let sent = channel.send_by(deadline, octets, descriptors);
        let full = sent.as_ref().is_err_and(|error| error.raw_os_error() == Some(nix::libc::ETOOMANYREFS));
        if !full || Instant::now() > deadline {
            return sent;
        }
        attempts::idle(Duration::from_millis(10));
    }
}

fn sign(octets: usize) -> FromSession {
    FromSession::Sign(SignRequest { certificate: [0; 32], scheme: 0x0403, message: vec![0; octets] })
}

fn request(around: &Around) -> PairingRequest {
    PairingRequest {
        direction: Direction::Incoming,
        peer: around.peer,
        local: around.local,
        chain: Chain(vec![ByteBuf::from(vec![0x30; 10])]),
        signature: HandshakeSignature {
            version: Version::Tls13,
            message: vec![0; 130],
            scheme: 0x0403,
            signature: vec![0; 70],
        },
        tls: TlsFacts { version: "evil".into(), cipher_suite: "evil".into(), key_exchange: "evil".into() },
        dmz_key: KeyHash::from_octets([1; 32]),
        token: Token::from_octets([2; 32]),
    }
}

fn record(around: &Around) -> SessionReport {
    SessionReport {
        id: around.session,
        direction: Direction::Incoming,
        partner: None,
        ssid_code: None,
        called: None,
        peer: around.peer,
        certificate: None,
        tls: None,
        started: around.started,
        ended: around.started,
        outcome: SessionOutcome::Refused,
        situation: Situation::HandshakeFailed,
        detail: "evil\n2026-01-01T00:00:00Z INFO forged".into(),
        octets_from_partner: 0,
        octets_to_partner: 0,
        files: Vec::new(),
    }
}

/// What a switchboard begins with, kept for when it turns evil: to the gate, its log, and the ports of the link.
static OF_SWITCHBOARD: OnceLock<(Channel, Channel, Vec<OwnedFd>)> = OnceLock::new();

/// A confined switchboard, before its first message.
pub fn switchboard_begins<'a>(gate: BorrowedFd<'a>, log: BorrowedFd<'a>, link: impl Iterator<Item = BorrowedFd<'a>>) {
    attempts::make_ordered("switchboard");
    if let (Ok(gate), Ok(log)) = (gate.try_clone_to_owned(), log.try_clone_to_owned()) {
        let link = link.filter_map(|port| port.try_clone_to_owned().ok()).collect();
        let _ = OF_SWITCHBOARD.set((gate.into(), log.into(), link));
    }
}

/// A switchboard that has been told of this peer: what the address orders it to say to the gate.
pub fn switchboard(peer: IpAddr) {
    let (Some(words), Some((gate, log, link))) = (attempts::switchboard_words_of(peer), OF_SWITCHBOARD.get()) else {
        return;
    };
    let said = switchboard_says(words, gate, log, link);
    log::debug!("evil switchboard: {words}: {said:?}");
}

fn switchboard_says(words: &str, gate: &Channel, log: &Channel, link: &[OwnedFd]) -> std::io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let snapshot = encoded(&FromSwitchboard::Snapshot { number: 1_000_000 });
    let unlinked = encoded(&FromSwitchboard::Unlinked);
    match words {
        "an end of the link's ports" => {
            link.iter().try_for_each(|port| shutdown(port.as_raw_fd(), Shutdown::Both))?;
            // So that it is ended.
            gate.send_by(deadline, &[99, 1], &[])
        }
        "an unknown kind" => gate.send_by(deadline, &[99, 1], &[]),
        "a message cut" => gate.send_by(deadline, &snapshot[..1], &[]),
        "something behind a message" => gate.send_by(deadline, &[unlinked, vec![0]].concat(), &[]),
        "too large for the channel" => gate.send_by(deadline, &vec![0; LARGEST + 1], &[]),
        "a snapshot without a file" => gate.send_by(deadline, &snapshot, &[]),
        "a snapshot that is a socket" => gate.send_by(deadline, &snapshot, &[gate.as_fd()]),
        "a snapshot of garbage" => {
            let garbage = SealedFile::write("evil", &[0xff; 4096])?;
            gate.send_by(deadline, &snapshot, &[garbage.as_fd()])
        }
        "a descriptor that nobody wants" => gate.send_by(deadline, &unlinked, &[gate.as_fd()]),
        "too many descriptors" => gate.send_by(deadline, &snapshot, &[gate.as_fd(); 4]),
        _ => attempts::say_to_log(words, log.as_fd()),
    }
}

fn encoded(message: &impl Serialize) -> Vec<u8> {
    postcard::to_allocvec(message).unwrap_or_default()
}

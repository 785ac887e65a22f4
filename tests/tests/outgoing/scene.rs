//! What the scenarios of outgoing sessions share.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;
use tests::harness::{Chain, Mark, PATIENCE, Process, Trouble, made_octets};
use tests::station::{Failure, OutgoingFile, ProxyRefusal, Receiver, Report};

pub const SIZE: usize = 300_000;

/// One file of [`SIZE`] made octets.
pub fn file(dataset: &str) -> Vec<OutgoingFile> {
    vec![OutgoingFile::from_octets(dataset, made_octets(SIZE))]
}

/// That file has arrived at a partner, byte for byte, and both ends think well of the session. Returns the partner's view.
pub fn arrived(chain: &Chain, partner: usize, dataset: &str, sent: &Report, listening: &Receiver) -> Report {
    assert!(sent.went_well(true), "{sent:?}\n{}{}", chain.server().last_lines(20), chain.client().last_lines(20));
    let taken = listening.next_session(PATIENCE).expect("the partner's session ends");
    assert!(taken.went_well(false), "{taken:?}");
    let content = fs::read(chain.taken_by(partner, dataset).unwrap()).unwrap();
    assert!(content == made_octets(SIZE), "{dataset} is not what was sent");
    taken
}

/// The status with which the proxy refused a CONNECT, and its sentence.
pub fn http_refusal(report: &Report) -> Option<(u16, String)> {
    match &report.failure {
        Some(Failure::Proxy(ProxyRefusal::Http { status, sentence, .. })) => Some((*status, sentence.clone())),
        _ => None,
    }
}

/// The code with which the proxy refused a SOCKS5 request.
pub fn socks5_refusal(report: &Report) -> Option<u8> {
    match &report.failure {
        Some(Failure::Proxy(ProxyRefusal::Socks5(code))) => Some(*code),
        _ => None,
    }
}

/// Waits for a line of a daemon with that situation, after `mark`.
pub fn told(daemon: &Process, mark: Mark, code: &str) -> Result<String, Trouble> {
    daemon.wait_after(mark, code, |line| line.contains(&format!(" {code} ")))
}

/// Waits for the record of an outgoing session that came to nothing for that reason.
pub fn recorded(chain: &Chain, code: &str) -> Value {
    let in_it = |record: &Value| {
        record["direction"] == "outgoing" && record["detail"].as_str().is_some_and(|detail| detail.contains(code))
    };
    let found = chain.scripted_backend().wait_for_record(code, PATIENCE, in_it);
    found.unwrap_or_else(|trouble| panic!("{trouble}: {:#?}", chain.scripted_backend().session_records()))
}

/// Waits until the backend has an event of that code.
pub fn event(chain: &Chain, code: &str) -> Value {
    let has_it = |event: &Value| event["code"] == code;
    let found = chain.scripted_backend().wait_for(code, PATIENCE, |request| {
        request.path == "/proxy/v1/events"
            && request.json()["events"].as_array().is_some_and(|events| events.iter().any(has_it))
    });
    found.unwrap_or_else(|trouble| panic!("{trouble}\n{}", chain.client().last_lines(30)));
    chain.scripted_backend().events().into_iter().find(has_it).unwrap()
}

/// Says these octets to the proxy and returns all that it answers until it closes. A reset counts as closing.
pub fn say(chain: &Chain, octets: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(chain.proxy_address()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may refuse before it has read everything.
    let _ = socket.write_all(octets);
    until_closed(&mut socket)
}

/// All that comes until the other end closes.
pub fn until_closed(socket: &mut TcpStream) -> Vec<u8> {
    let (mut answer, mut some) = (Vec::new(), [0; 4096]);
    loop {
        match socket.read(&mut some) {
            Ok(0) => return answer,
            Ok(count) => answer.extend_from_slice(&some[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return answer,
            Err(error) => panic!("it neither answers nor closes: {error}; so far {answer:02x?}"),
        }
    }
}

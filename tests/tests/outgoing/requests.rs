//! Stations that ask in a way that nobody should: slowly, at length, nonsense. Others are served meanwhile.

use std::io::Write;
use std::net::TcpStream;

use serde_json::json;
use tests::harness::{PATIENCE, Plan, Trouble, table};

use crate::scene::{arrived, file, say, told, until_closed};

#[test]
fn a_request_that_does_not_end_is_ended_and_keeps_nobody_waiting() -> Result<(), Trouble> {
    let chain =
        Plan::new().outgoing()?.configure(|config| config["limits"] = json!({ "handshake_timeout_s": 10 })).start()?;
    let partner = chain.partner_listens(0)?;
    let beginnings: [&[u8]; 5] =
        [b"", b"CONN", b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: a", &[5], &[5, 1, 0, 5, 1, 0, 3, 200]];
    let slow: Vec<TcpStream> = beginnings
        .iter()
        .map(|beginning| {
            let mut socket = TcpStream::connect(chain.proxy_address()).unwrap();
            socket.write_all(beginning).unwrap();
            socket
        })
        .collect();
    let report = chain.call(file("MEANWHILE"))?;
    arrived(&chain, 0, "MEANWHILE", &report, &partner);
    for mut socket in slow {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        until_closed(&mut socket);
    }
    told(chain.client(), Default::default(), "outgoing-request-invalid")?;
    Ok(())
}

#[test]
fn oversized_requests_and_nonsense_are_refused() -> Result<(), Trouble> {
    let chain = Plan::new().outgoing()?.start()?;
    let partner = chain.partner_listens(0)?;
    let long_target = format!("CONNECT {}:80 HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    let long_header = format!("CONNECT a:80 HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(100_000));
    let many_headers = format!("CONNECT a:80 HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(20_000));
    let requests: [(&str, &[u8]); 9] = [
        ("a long target", long_target.as_bytes()),
        ("a long header", long_header.as_bytes()),
        ("many headers", many_headers.as_bytes()),
        ("no line at all", &[b'C'; 100_000]),
        ("TLS", &[22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]),
        ("OFTP2", b"\x10\x00\x00\x17IODETTE FTP READY \r"),
        ("SOCKS4", &[4, 1, 0, 80, 127, 0, 0, 1, 0]),
        ("zeros", &[0; 4096]),
        ("octets that are no text", b"CONNECT \xff\xfe:80 HTTP/1.1\r\n\r\n"),
    ];
    for (what, request) in requests {
        let mark = chain.client().mark();
        let answer = say(&chain, request);
        assert!(!answer.starts_with(b"HTTP/1.1 2") && !answer.starts_with(&[5, 0, 5, 0]), "{what}: {answer:02x?}");
        let refused =
            |line: &str| line.contains(" outgoing-request-invalid ") || line.contains(" outgoing-target-refused ");
        chain.client().wait_after(mark, what, refused)?;
    }
    let report = chain.call(file("STILL"))?;
    arrived(&chain, 0, "STILL", &report, &partner);
    let crashed = chain.client().lines().into_iter().find(|line| line.contains(" session-crashed "));
    assert_eq!(crashed, None);
    Ok(())
}

/// What a station says before the answer is no part of the request, and goes to nobody.
#[test]
fn a_station_that_talks_on_before_the_answer_does_no_harm() -> Result<(), Trouble> {
    let chain = Plan::new().outgoing()?.start()?;
    let partner = chain.partner_listens(0)?;
    let to = chain.called_at(0);
    let mut socket = TcpStream::connect(chain.proxy_address()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let nonsense = [format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes(), &[0xee; 50_000]].concat();
    // It may refuse before it has read everything.
    let _ = socket.write_all(&nonsense);
    until_closed(&mut socket);
    let report = chain.call(file("STILL"))?;
    assert!(report.went_well(true), "{report:?}\n{}", chain.client().last_lines(20));
    drop(partner);
    let sessions =
        || table::below(chain.client().pid()).iter().filter(|entry| entry.name.starts_with("session")).count();
    tests::harness::until(PATIENCE, || (sessions() == 0).then_some(())).expect("no session is left");
    Ok(())
}

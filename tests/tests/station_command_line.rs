//! `oftp2_station` as people use it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::thread;

use tests::harness::{Process, Scratch};
use tests::pki::{Authority, Wanted};
use tests::station::sha256;

fn station(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oftp2_station"));
    command.args(arguments);
    command
}

fn listening(receiver: &Process) -> String {
    let line = receiver.wait_for_text("listening on ").unwrap();
    line.trim_start_matches("listening on ").to_owned()
}

#[test]
fn two_files_go_over_mutual_tls_from_one_command_to_the_other() {
    let scratch = Scratch::new().unwrap();
    let authority = Authority::new("Partners").unwrap();
    let ca = scratch.write("ca.pem", authority.certificate_pem()).unwrap();
    let mut paths = vec![];
    for name in ["acme", "home"] {
        let identity = authority.issue(&Wanted { name, ..Wanted::default() }).unwrap();
        paths.push(scratch.write(&format!("{name}.pem"), identity.chain_pem).unwrap());
        paths.push(scratch.write(&format!("{name}.key"), identity.key_pem).unwrap());
    }
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let tls = |own: usize| {
        let (cert, key) = (text(&paths[own]), text(&paths[own + 1]));
        ["--tls", "--ca", &text(&ca), "--cert", &cert, "--key", &key].map(str::to_owned)
    };
    let directory = scratch.directory("received").unwrap();
    let password = scratch.write("password", "GEHEIM\n").unwrap();

    let mut receive = station(&["receive", "--listen", "127.0.0.1:0", "--once", "1", "--eerp", "--json"]);
    receive.args(["--code", "O0013000000HOME", "--peer-password", "SECRET"]).args(tls(2));
    receive.arg("--directory").arg(&directory).arg(format!("--password=@{}", password.display()));
    let receiver = Process::start("receive", &mut receive).unwrap();
    let line = receiver.wait_for_text("Listening").unwrap();
    let address = line.split('"').find(|part| part.starts_with("127.0.0.1:")).unwrap().to_owned();

    let files = [("first.txt", b"one".to_vec()), ("second.bin", vec![7; 100_000])];
    let mut send = station(&["send", "--to", &address, "--code", "O0013000000ACME", "--password", "SECRET"]);
    send.args(["--peer-password", "GEHEIM", "--progress", "--credit", "3"]).args(tls(0));
    for (name, content) in &files {
        send.arg(scratch.write(name, content).unwrap());
    }
    let said = Process::run("send", &mut send).unwrap();
    assert!(receiver.wait_for_end().unwrap().success(), "{}", receiver.last_lines(20));
    for ((_, content), dataset) in files.iter().zip(["FIRST.TXT", "SECOND.BIN"]) {
        assert_eq!(&fs::read(directory.join(dataset)).unwrap(), content);
        let sum = sha256(content);
        assert!(said.contains(&format!("sent {dataset}, {} octets, sha256 {sum}", content.len())), "{said}");
        assert!(said.contains(&format!("End to End Response received for {dataset}")), "{said}");
        assert!(receiver.lines().iter().any(|line| line.contains(&sum)), "{}", receiver.last_lines(20));
    }
    assert!(said.contains("TLSv1.3"), "{said}");
}

#[test]
fn without_an_end_to_end_response_sending_has_not_gone_well() {
    let scratch = Scratch::new().unwrap();
    let directory = scratch.directory("received").unwrap();
    let mut receive = station(&["receive", "--listen", "127.0.0.1:0", "--code", "HOME"]);
    let receiver = Process::start("receive", receive.arg("--directory").arg(directory)).unwrap();
    let address = listening(&receiver);
    for (name, option, well) in [("a", "--compression", false), ("b", "--no-eerp-wait", true)] {
        let file = scratch.write(name, name).unwrap();
        let mut send = station(&["send", "--to", &address, "--code", "ACME", option]);
        let result = Process::run("send", send.arg(file));
        assert_eq!(result.is_ok(), well, "{result:?}");
    }
}

#[test]
fn a_refused_password_is_said_at_both_ends() {
    let scratch = Scratch::new().unwrap();
    let directory = scratch.directory("received").unwrap();
    let mut receive = station(&["receive", "--listen", "127.0.0.1:0", "--once", "1", "--code", "HOME"]);
    receive.args(["--peer-password", "RIGHT"]).arg("--directory").arg(directory);
    let receiver = Process::start("receive", &mut receive).unwrap();
    let mut send = station(&["send", "--to", &listening(&receiver), "--code", "ACME", "--password", "WRONG"]);
    let trouble = Process::run("send", &mut send).unwrap_err();
    assert!(trouble.0.contains("ESID 04 (invalid password)"), "{trouble}");
    receiver.wait_for_text("SSIDPSWD is not the one agreed on").unwrap();
    assert!(!receiver.wait_for_end().unwrap().success());
    assert!(!receiver.lines().concat().contains("WRONG"), "a password is never shown");
}

#[test]
fn rules_to_break_are_listed_and_one_that_is_broken_is_answered() {
    let listed = Process::run("list", &mut station(&["send", "--misbehave", "list"])).unwrap();
    for rule in tests::station::Rule::all() {
        assert!(listed.lines().any(|line| line.starts_with(rule.name) && line.ends_with(rule.does)), "{}", rule.name);
    }
    let scratch = Scratch::new().unwrap();
    let directory = scratch.directory("received").unwrap();
    let mut receive = station(&["receive", "--listen", "127.0.0.1:0", "--code", "HOME"]);
    let receiver = Process::start("receive", receive.arg("--directory").arg(directory)).unwrap();
    let file = scratch.write("a", "a").unwrap();
    let to = listening(&receiver);
    let mut send = station(&["send", "--to", &to, "--code", "ACME", "--misbehave", "unknown-command"]);
    let trouble = Process::run("send", send.arg(&file)).unwrap_err();
    assert!(trouble.0.contains("ESID 01"), "{trouble}");
    let mut send = station(&["send", "--to", &to, "--code", "ACME", "--misbehave", "nothing-such"]);
    let trouble = Process::run("send", send.arg(&file)).unwrap_err();
    assert!(trouble.0.contains("--misbehave list"), "{trouble}");
}

#[test]
fn a_negative_response_is_told_at_both_ends() {
    let scratch = Scratch::new().unwrap();
    let directory = scratch.directory("received").unwrap();
    let mut receive = station(&["receive", "--listen", "127.0.0.1:0", "--once", "1", "--code", "HOME"]);
    receive.args(["--negative-response", "34"]).arg("--directory").arg(directory);
    let receiver = Process::start("receive", &mut receive).unwrap();
    let file = scratch.write("a", "a").unwrap();
    let mut send = station(&["send", "--to", &listening(&receiver), "--code", "ACME"]);
    let trouble = Process::run("send", send.arg(file)).unwrap_err();
    assert!(trouble.0.contains("Negative End Response received for A: 34"), "{trouble}");
    receiver.wait_for_text("Negative End Response sent for A: 34").unwrap();
    assert!(receiver.wait_for_end().unwrap().success());
}

/// A proxy that answers one caller, whatever it asks.
fn proxy_that_says(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let mut octet = [0];
            socket.read_exact(&mut octet).unwrap();
            asked.extend(octet);
        }
        socket.write_all(answer).unwrap();
    });
    format!("http://{address}")
}

#[test]
fn a_proxy_that_refuses_is_told_of_and_has_its_own_exit_code() {
    let proxy = proxy_that_says(b"HTTP/1.1 403 Forbidden\r\n\r\nno partner has this address");
    let output =
        station(&["send", "--to", "elsewhere.example:80", "--via", &proxy, "--code", "ACME"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("the proxy refused: HTTP/1.1 403 Forbidden: no partner has this address"), "{said}");
    let output = station(&["send", "--to", "a:1", "--via", "ftp://a:1", "--code", "ACME"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

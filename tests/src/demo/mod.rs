//! The demonstration: the whole chain on this machine, and one file through it.

mod bar;
mod way;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::Value;

use crate::harness::{Chain, LogLine, Mark, PATIENCE, Process, Trouble, binary, is_interrupted, made_octets, until};
use crate::station::{self, Event, OutgoingFile, Report, Settings};
use bar::Bar;
use way::CalledPartner;

pub use way::Way;

const MADE_SIZE: usize = 64 * 1024 * 1024;

/// What runs, and which way its file goes.
struct Stage {
    chain: Chain,
    way: Way,
    /// Of a demonstration that goes out.
    called: Option<CalledPartner>,
}

/// Runs the demonstration with `file`, or with one made of 64 MiB. With `stay` everything runs on afterwards until it
/// is interrupted. True: the file arrived as it was sent.
pub fn run(file: Option<&Path>, way: Way, stay: bool) -> Result<bool, Trouble> {
    say("Building the programs");
    binary("seon_proxyserver2")?;
    let stage = start(way.plan()?.with_seon_backend().prepare()?, way)?;
    let file = match file {
        Some(file) => file.to_owned(),
        None => stage.chain.scratch.write("DEMO-64-MIB", made_octets(MADE_SIZE))?,
    };
    let mut outgoing = OutgoingFile::from_path(&file).map_err(trouble_with(&file))?;
    outgoing.description = "cargo demo".into();
    let received = way.received(&stage.chain, &outgoing.dataset)?;
    let report = send(&stage, outgoing)?;
    show_what_was_seen(&stage, &report)?;
    let well = compare(&report, &received)?;
    if stay {
        remain(&stage)?;
    }
    Ok(well)
}

fn start(mut chain: Chain, way: Way) -> Result<Stage, Trouble> {
    say(&format!("Scratch folder with certificates, token, licence: {}", chain.scratch.path().display()));
    chain.start_server()?;
    chain.start_client()?;
    chain.wait_until_open(Mark::default())?;
    let pid = |process: Option<&Process>| process.map_or(0, Process::pid);
    let row = |name: &str, pid: i32, what: String| say(&format!("  {name:<15}{pid:>8}  {what}"));
    row("backend", chain.backend.process().map_or(0, Process::pid), chain.backend.url());
    row("receive daemon", pid(chain.receive_daemon.as_ref()), format!("{} (plain TCP)", chain.receive_address));
    row(
        "proxyserver",
        pid(chain.server.as_ref()),
        format!("partners {}, link {}", chain.partner_address(), chain.link_address()),
    );
    row("proxyclient", pid(chain.client.as_ref()), format!("linked with {}", short(&chain.proxy_id)));
    let called = match way {
        Way::In => None,
        Way::Out => {
            chain.client_says("outgoing-port-open")?;
            let called = CalledPartner::start(&chain)?;
            say(&format!("{:<25}HTTP and SOCKS5 for stations inside: {}", "", chain.proxy_address()));
            row("partner", called.0.pid(), format!("{} (TLS)", chain.called_at(0)));
            Some(called)
        }
    };
    Ok(Stage { chain, way, called })
}

fn send(stage: &Stage, file: OutgoingFile) -> Result<Report, Trouble> {
    let (chain, way) = (&stage.chain, stage.way);
    let (dataset, bar) = (file.dataset.clone(), Arc::new(Bar::new()));
    let shown = bar.clone();
    let observer = move |event: &Event| {
        if is_interrupted() {
            return Err("interrupted".into());
        }
        if let Event::Progress { done, octets, .. } = event {
            shown.show(*done, *octets);
        }
        Ok(())
    };
    let (who, to, security, settings) = way.sender(chain);
    let settings = Settings { observer: Some(Arc::new(observer)), buffer_size: 65_536, credit: 100, ..settings };
    say(&format!("\n{who}, {}, sends {dataset} {}", settings.code, way.sentence(chain)));
    let begun = Instant::now();
    let report = station::send(&to, &security, &settings, vec![file]);
    bar.end();
    match &report.failure {
        None => {
            say(&format!("  {}; sent and answered in {:.1} s", report.protection, begun.elapsed().as_secs_f64()));
            Ok(report)
        }
        Some(failure) => {
            let logs = |process: &Process| process.last_lines(15);
            let (server, client) = (logs(chain.server()), logs(chain.client()));
            Err(Trouble(format!("the session failed: {failure}\nproxyserver:\n{server}proxyclient:\n{client}")))
        }
    }
}

/// What both logs say, and the session record.
fn show_what_was_seen(stage: &Stage, report: &Report) -> Result<(), Trouble> {
    let chain = &stage.chain;
    chain.server_says("session-ended")?;
    chain.client_says("session-ended")?;
    if let Some(agreed) = &report.agreement {
        let (level, size, credit) = (agreed.level as u8, agreed.buffer_size, agreed.credit);
        say(&format!("\nWhat {} saw", stage.way.sender(chain).0.to_lowercase()));
        say(&format!("  {} answered: level {level}, Exchange Buffers of {size}, credit {credit}", agreed.peer_code));
    }
    for (name, process) in [("proxyserver, in the DMZ", chain.server()), ("proxyclient, inside", chain.client())] {
        say(&format!("\nWhat the {name}, saw"));
        for line in process.lines().iter().filter_map(|line| situation(line)) {
            say(&format!("  {line}"));
        }
    }
    let records = until(PATIENCE, || chain.backend.session_records().ok().filter(|records| !records.is_empty()));
    say("\nWhat the backend was told: the session record");
    for (name, value) in records.iter().flatten().filter_map(Value::as_object).flatten() {
        say(&format!("  {name:<20} {value}"));
    }
    let taker = match &stage.called {
        Some(called) => Some(("partner", &called.0)),
        None => chain.receive_daemon.as_ref().map(|process| ("receive daemon", process)),
    };
    if let Some((name, process)) = taker {
        process.wait_for_text("session ended")?;
        say(&format!("\nWhat the {name} saw"));
        for line in process.lines().iter().filter(|line| !line.starts_with("listening")) {
            say(&format!("  {line}"));
        }
    }
    Ok(())
}

/// Process, code and message of a log line that tells a situation.
fn situation(line: &str) -> Option<String> {
    let LogLine { role, pid, code, message, .. } = LogLine::read(line)?;
    Some(format!("{:<20} {}: {message}", format!("{role}[{pid}]"), code?))
}

fn compare(report: &Report, received: &Path) -> Result<bool, Trouble> {
    let sent = report.sent.first().and_then(|file| file.sha256.clone()).unwrap_or_default();
    let arrived = sha256_of(received).map_err(trouble_with(received))?;
    say(&format!("\nSHA-256 sent      {sent}\nSHA-256 received  {arrived}"));
    let well = sent == arrived && report.went_well(true);
    say(if well {
        "The file has arrived byte for byte, and its End to End Response came back."
    } else {
        "NOT the same."
    });
    Ok(well)
}

fn remain(stage: &Stage) -> Result<(), Trouble> {
    let chain = &stage.chain;
    say(&format!(
        "\nEverything runs on. To point your own OFTP2 software at it:\n{}
Ctrl-C ends it. The logs of both daemons from here on:",
        stage.way.recommendation(chain)?,
    ));
    let daemons = [("server", chain.server()), ("client", chain.client())];
    let mut seen = daemons.map(|(_, daemon)| daemon.mark());
    while !is_interrupted() {
        for ((name, daemon), seen) in daemons.iter().zip(&mut seen) {
            let lines = daemon.lines_after(*seen);
            *seen = seen.after(lines.len());
            lines.iter().for_each(|line| say(&format!("  {name}  {line}")));
            if let Some(status) = daemon.status() {
                return Err(Trouble(format!("the proxy{name} has ended: {status}")));
            }
        }
        until(Duration::from_millis(200), || is_interrupted().then_some(()));
    }
    Ok(())
}

fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let (mut context, mut octets) = (Context::new(&SHA256), vec![0; 1024 * 1024]);
    loop {
        match file.read(&mut octets)? {
            0 => return Ok(station::hex(context.finish().as_ref())),
            count => context.update(octets.get(..count).unwrap_or_default()),
        }
    }
}

fn short(proxy_id: &str) -> String {
    format!("Proxy ID {}…px", proxy_id.get(..12).unwrap_or(proxy_id))
}

fn trouble_with(path: &Path) -> impl Fn(io::Error) -> Trouble {
    let path = path.display().to_string();
    move |error| Trouble(format!("{path}: {error}"))
}

fn say(line: &str) {
    // Whoever read our lines may have gone; what was started is ended all the same.
    let _ = writeln!(io::stdout(), "{line}");
}

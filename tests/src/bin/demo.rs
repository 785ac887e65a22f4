//! `cargo demo [FILE]`: a file goes from a partner through the proxy into a receive daemon, before your eyes; with
//! `--outgoing` from a station inside to a partner.

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use tests::demo::{self, Way};
use tests::harness;

/// Sends a file from a partner over mutual TLS through proxyserver and proxyclient into a receive daemon
#[derive(Parser)]
#[command(name = "cargo demo")]
struct Options {
    /// The other way round: a station inside sends, by CONNECT to the proxyclient, to a partner that is called
    #[arg(long)]
    outgoing: bool,
    /// Leave everything running afterwards, and tell how to point one's own OFTP2 software at it
    #[arg(long)]
    stay: bool,
    /// The file to send [default: one of 64 MiB is made]
    file: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    end_in_order_on_signal();
    let way = if options.outgoing { Way::Out } else { Way::In };
    match demo::run(options.file.as_deref(), way, options.stay) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(trouble) => {
            eprintln!("demo: {trouble}");
            ExitCode::FAILURE
        }
    }
}

/// Ctrl-C, TERM and HUP end the demonstration in order: everything it has started ends first.
fn end_in_order_on_signal() {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    // Blocked before the first thread starts, so that none of them is struck.
    if signals.thread_block().is_ok() {
        thread::spawn(move || {
            while signals.wait().is_ok() {
                harness::interrupt();
            }
        });
    }
}

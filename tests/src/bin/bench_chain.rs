//! `cargo bench-chain`: see `--help` and docs/performance.md.

use std::process::ExitCode;
use std::thread;

use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use tests::bench_chain::{self, options::Options};
use tests::harness;

fn main() -> ExitCode {
    let options = Options::parse();
    // What was started is ended in order by Ctrl-C, TERM and HUP, too: at the end of the round. A hop just ends.
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    if options.copy.is_empty() && signals.thread_block().is_ok() {
        thread::spawn(move || {
            while signals.wait().is_ok() {
                harness::interrupt();
            }
        });
    }
    match bench_chain::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("bench-chain: {trouble}");
            ExitCode::FAILURE
        }
    }
}

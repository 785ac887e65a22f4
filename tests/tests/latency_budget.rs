//! How often a session waits for the link: round trips between DMZ and inside, counted by a relay that delays each octet.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use tests::bench_chain::oftp2::Shape;
use tests::bench_chain::partner::Caller;
use tests::bench_chain::sink::Sink;
use tests::harness::{Chain, DelayingRelay, Mark, Plan, Process, Trouble};

/// One way over the link: much longer than any step of a session takes between two crossings.
const DELAY: Duration = Duration::from_millis(150);

/// Sessions, or files, that are looked at until one shows what it needs.
const ATTEMPTS: u32 = 10;

/// Most between the ClientHello of the partner and its SSRM.
const ROUND_TRIPS_TO_SSRM: u32 = 4;

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// The chain with that relay in its link.
fn start() -> Result<(Chain, DelayingRelay), Trouble> {
    let mut chain = Plan::new().receive_daemon_at(Sink::start()?.address).prepare()?;
    chain.start_server()?;
    let relay = DelayingRelay::start(address(&chain.link_address()), DELAY)?;
    let usual = chain.client_command()?;
    let (link, through) = (OsString::from(chain.link_address()), OsString::from(relay.address.to_string()));
    let arguments =
        usual.get_args().map(|argument| if argument == link { through.clone() } else { argument.to_owned() });
    chain.client = Some(Process::start("proxyclient", Command::new(usual.get_program()).args(arguments))?);
    chain.wait_until_open(Mark::default())?;
    Ok((chain, relay))
}

fn caller(chain: &Chain) -> Result<Caller, Trouble> {
    let partner = chain.partners.first().ok_or_else(|| Trouble("no partner".into()))?;
    Caller::new(&partner.identity, &chain.authority.certificate_pem(), &partner.code)
}

/// Of two crossings each; a half one counts as a whole one.
fn round_trips(crossings: u32) -> u32 {
    crossings.div_ceil(2)
}

/// The least of a few attempts: on a busy machine what does not depend on each other can drift apart by more than the delay
/// and be counted as if it did. The relay never counts too little.
fn least(enough: u32, mut attempt: impl FnMut() -> u32) -> u32 {
    let mut least = u32::MAX;
    for _ in 0..ATTEMPTS {
        least = least.min(attempt());
        if least <= enough {
            break;
        }
    }
    least
}

#[test]
fn a_session_begins_within_four_round_trips_of_the_link_and_no_exchange_buffer_costs_one() -> Result<(), Trouble> {
    let (chain, relay) = start()?;
    let caller = caller(&chain)?;
    let shape = Shape { buffer: 1024, credit: 99 };
    let to = address(&chain.partner_address());

    let to_ready = least(2 * ROUND_TRIPS_TO_SSRM, || {
        relay.begin();
        let mut partner = caller.call(to, shape).unwrap();
        let crossings = relay.crossings();
        println!("ClientHello to SSRM: {crossings} crossings, {} round trips of the link", round_trips(crossings));
        partner.begin().unwrap();
        partner.end().unwrap();
        crossings
    });
    // Signature, pairing and data connection cannot do without any.
    assert!(to_ready > 2, "{to_ready} crossings: the relay does not count");
    assert!(round_trips(to_ready) <= ROUND_TRIPS_TO_SSRM, "{to_ready} crossings");

    let mut partner = caller.start(to, shape).unwrap();
    // SFID and SFPA, then EFID and EFPA: what is between them does not wait for the other side of the link.
    for buffers in [1, 98] {
        let crossings = least(4, || {
            relay.begin();
            partner.send_file(buffers).unwrap();
            println!("SFID to EFPA with {buffers} data buffers: {} crossings", relay.crossings());
            relay.crossings()
        });
        assert_eq!(crossings, 4, "{buffers} data buffers");
    }
    partner.end().unwrap();
    Ok(())
}

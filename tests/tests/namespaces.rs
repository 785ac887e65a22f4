//! Partner, DMZ and inside as hosts of their own, with a firewall that lets nothing from the DMZ inwards.

use std::fs;
use std::sync::Arc;

use tests::harness::{Network, Plan, Trouble, made_octets, network};
use tests::station::OutgoingFile;

#[test]
fn a_file_comes_in_and_the_dmz_opens_no_connection_inwards() -> Result<(), Trouble> {
    let Some(network) = Network::new_or_skip("a file comes in and the DMZ opens no connection inwards")? else {
        return Ok(());
    };
    let network = Arc::new(network);
    let chain = Plan::new().in_network(network.clone()).start()?;
    let content = made_octets(3_000_000);
    let report = chain.send(vec![OutgoingFile::from_octets("INVOICES", content.clone())]);
    assert!(report.went_well(true), "{report:?}\n{}", chain.client().last_lines(20));
    assert!(fs::read(chain.received("INVOICES")).unwrap() == content);
    let line = chain.server_says("session-ended")?;
    assert!(line.contains(&network::PARTNER.to_string()), "the partner is seen as itself: {line}");
    chain.client_says("session-ended")?;

    let counted = network.counted()?;
    // The control connection and the session's data connection.
    assert!(counted.opened_by_inside >= 2, "{counted:?}");
    assert_eq!(counted.refused_to_dmz, 0, "{counted:?}");
    network.prove_that_the_firewall_counts()
}

//! The network that the proxy is made for, on this machine: partner, DMZ, firewall and inside as hosts of their own.
//!
//! ```text
//! partner 198.51.100.2 ──── 198.51.100.1 DMZ 192.0.2.1 ──── 192.0.2.254 firewall 10.20.30.254 ──── 10.20.30.1 inside
//!                           198.51.100.77
//! ```
//!
//! The firewall lets the inside open connections to the DMZ, and drops and counts whatever the DMZ begins.

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::namespace::Namespace;
use super::{Trouble, until};

/// Where the partner is reached, and calls from.
pub const PARTNER: IpAddr = v4(198, 51, 100, 2);
/// The same, IPv6.
pub const PARTNER_V6: IpAddr = v6(2);
/// The DMZ host as partners see it.
pub const DMZ: IpAddr = v4(198, 51, 100, 1);
/// Its second address towards partners.
pub const DMZ_SECOND: IpAddr = v4(198, 51, 100, 77);
/// The first one's IPv6 address.
pub const DMZ_V6: IpAddr = v6(1);
/// The second one's.
pub const DMZ_SECOND_V6: IpAddr = v6(0x77);
/// The DMZ host as the inside sees it.
pub const DMZ_TO_INSIDE: IpAddr = v4(192, 0, 2, 1);
/// The host inside.
pub const INSIDE: IpAddr = v4(10, 20, 30, 1);

/// Ranges for documentation (RFC 5737, RFC 3849), and a private one (RFC 1918).
const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(host: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, host))
}

const FIREWALL: &str = "
table inet harness {
    counter opened_by_inside { }
    counter refused_to_dmz { }
    chain passing {
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname inside ct state new counter name opened_by_inside accept
        iifname dmz counter name refused_to_dmz drop
    }
}
";

/// Who does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// The trading partner, on the internet.
    Partner,
    /// The proxyserver's host.
    Dmz,
    /// The proxyclient's host, with backend and stations.
    Inside,
}

/// The hosts. They are gone when this is dropped and nothing runs in them.
pub struct Network {
    partner: Namespace,
    dmz: Namespace,
    firewall: Namespace,
    inside: Namespace,
}

/// What the firewall has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Connections that the inside opened to the DMZ.
    pub opened_by_inside: u64,
    /// Packets with which the DMZ tried to begin something inwards.
    pub refused_to_dmz: u64,
}

impl Network {
    /// The network; none, with a printed line that says why, where it cannot be made: that takes root, and the Debian
    /// packages iproute2 and nftables.
    pub fn new_or_skip(scenario: &str) -> Result<Option<Self>, Trouble> {
        let missing = ["ip", "nft"].into_iter().find(|program| !answers(program));
        let reason = match (missing, Namespace::new()) {
            (None, Ok(_)) => return Self::new().map(Some),
            (Some(program), _) => format!("the program {program} is missing (Debian packages iproute2 and nftables)"),
            (None, Err(trouble)) => format!("no network namespace can be made here ({trouble}); root may"),
        };
        skipped(scenario, &reason);
        Ok(None)
    }

    fn new() -> Result<Self, Trouble> {
        let [partner, dmz, firewall, inside] =
            [Namespace::new()?, Namespace::new()?, Namespace::new()?, Namespace::new()?];
        let theirs = with_prefixes(&[PARTNER, PARTNER_V6]);
        let ours = with_prefixes(&[DMZ, DMZ_SECOND, DMZ_V6, DMZ_SECOND_V6]);
        partner.wire("dmz", &theirs, &dmz, "partner", &ours)?;
        dmz.wire("firewall", &with_prefixes(&[DMZ_TO_INSIDE]), &firewall, "dmz", &["192.0.2.254/24".into()])?;
        firewall.wire("inside", &["10.20.30.254/24".into()], &inside, "firewall", &with_prefixes(&[INSIDE]))?;
        dmz.ip("route add 10.20.30.0/24 via 192.0.2.254")?;
        inside.ip("route add 192.0.2.0/24 via 10.20.30.254")?;
        firewall.within(|| {
            fs::write("/proc/sys/net/ipv4/ip_forward", "1").map_err(Trouble::io("ip_forward"))?;
            load(FIREWALL)
        })?;
        Ok(Self { partner, dmz, firewall, inside })
    }

    /// That host.
    pub fn host(&self, host: Host) -> &Namespace {
        match host {
            Host::Partner => &self.partner,
            Host::Dmz => &self.dmz,
            Host::Inside => &self.inside,
        }
    }

    /// What the firewall has counted so far.
    pub fn counted(&self) -> Result<Counted, Trouble> {
        let mut list = Command::new("nft");
        list.args(["--json", "list", "counters", "table", "inet", "harness"]);
        let said = self.firewall.run("nft list counters", &mut list)?;
        let listed: Value = serde_json::from_str(&said).map_err(|error| Trouble(format!("{said}: {error}")))?;
        let packets = |name: &str| {
            let counters = listed["nftables"].as_array().into_iter().flatten().map(|entry| &entry["counter"]);
            let mut packets = counters.filter(|counter| counter["name"] == name).filter_map(|c| c["packets"].as_u64());
            packets.next().ok_or_else(|| Trouble(format!("no counter {name} in {said}")))
        };
        Ok(Counted { opened_by_inside: packets("opened_by_inside")?, refused_to_dmz: packets("refused_to_dmz")? })
    }

    /// Lets the DMZ try to reach the inside, and waits until the firewall has counted it: so that a count of nothing
    /// before means something.
    pub fn prove_that_the_firewall_counts(&self) -> Result<(), Trouble> {
        let before = self.counted()?.refused_to_dmz;
        self.dmz.within(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(Trouble::io("UDP"))?;
            socket.send_to(b"?", (INSIDE, 3305)).map(drop).map_err(Trouble::io("send from the DMZ to the inside"))
        })?;
        until(Duration::from_secs(10), || self.counted().ok().filter(|counted| counted.refused_to_dmz > before))
            .map(drop)
            .ok_or_else(|| Trouble("the firewall does not count what the DMZ begins".into()))
    }
}

/// Says that a scenario is skipped, past what cargo keeps from those who do not ask for it.
pub fn skipped(scenario: &str, reason: &str) {
    // Whoever read our lines may have gone.
    let _ = writeln!(io::stdout(), "skipped: {scenario}: {reason}");
}

/// Whether the machine knows IPv6.
pub fn has_ipv6() -> bool {
    fs::exists("/proc/net/if_inet6").unwrap_or(false)
}

/// A kernel without IPv6 has one family only.
fn with_prefixes(addresses: &[IpAddr]) -> Vec<String> {
    let there = addresses.iter().filter(|address| address.is_ipv4() || has_ipv6());
    there.map(|address| format!("{address}/{}", if address.is_ipv6() { 64 } else { 24 })).collect()
}

fn answers(program: &str) -> bool {
    Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Loads rules in the namespace of the thread.
fn load(rules: &str) -> Result<(), Trouble> {
    let mut nft = Command::new("nft");
    nft.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = nft.spawn().map_err(Trouble::io("nft"))?;
    if let Some(mut rest) = child.stdin.take() {
        rest.write_all(rules.as_bytes()).map_err(Trouble::io("nft"))?;
    }
    let output = child.wait_with_output().map_err(Trouble::io("nft"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(Trouble(format!("nft -f -: {said}"))) }
}

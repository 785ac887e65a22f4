//! Where the gate listens to inside stations: this host's entry of `clients`, and the partners' own ports.

use std::net::IpAddr;

use super::*;
use crate::between::{Leads, Stations};

impl Agent {
    /// Tells the gate how to listen to inside stations, if that is different from what it was told before. To be called
    /// whenever configuration or addresses of the host may have changed.
    pub(super) fn listen_to_stations(&mut self) {
        let Some(config) = self.config.clone() else { return };
        if self.draining {
            return;
        }
        let wanted = stations(&config, &own_addresses());
        if self.stations_wanted.as_ref() == Some(&wanted) {
            return;
        }
        let listening = wanted.clone().ok().map(Box::new);
        if let Err(error) = self.gate.post(&FromAgent::Stations(listening), &[]) {
            // Tried again with the next look at the configuration.
            return log::error!("the gate is not told where to listen to inside stations: {error}");
        }
        if let Err(text) = &wanted {
            self.report(Situation::OutgoingOff, text, None, None, None);
        }
        self.stations_wanted = Some(wanted);
    }
}

/// How to listen by this configuration on a host with these addresses.
///
/// # Errors
/// Outgoing sessions are off; why.
pub fn stations(config: &InForce, own: &[IpAddr]) -> Result<Stations, String> {
    if config.clients.is_empty() {
        return Err("the configuration has no entry in `clients`".to_owned());
    }
    let entry = config.clients.iter().find(|client| is_own(client, own)).ok_or_else(|| {
        let of = config.clients.iter().map(|client| client.address.to_string()).collect::<Vec<_>>().join(", ");
        format!("no entry in `clients` has an address of this host; there are entries for {of}")
    })?;
    let mut ports = vec![(entry.listen_port, Leads::Anywhere)];
    for partner in config.callables.iter() {
        // That of all comes before that of one, which `in_force` refuses where it can.
        if let Some(port) = partner.own_port.filter(|port| *port != entry.listen_port) {
            ports.push((port, Leads::To(partner.name.clone())));
        }
    }
    let limits = &config.snapshot.limits;
    Ok(Stations {
        address: verification::plain(entry.address),
        ports,
        allow_from: entry.allow_from.iter().filter_map(|range| range.to_string().parse().ok()).collect(),
        request_timeout: limits.handshake_timeout,
        most_silent: limits.max_unverified,
    })
}

/// An unspecified address, and those of the loopback network, are every host's own.
fn is_own(client: &seonapi_client::Client, own: &[IpAddr]) -> bool {
    let address = verification::plain(client.address);
    address.is_unspecified() || address.is_loopback() || own.iter().any(|own| client.is_at(*own))
}

fn own_addresses() -> Vec<IpAddr> {
    let interfaces = match nix::ifaddrs::getifaddrs() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            log::error!("the addresses of this host cannot be read: {error}");
            return Vec::new();
        }
    };
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let four = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        four.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    interfaces.filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_taken_by_any_address_of_the_host() {
        let client = |address: &str| seonapi_client::Client {
            name: None,
            address: address.parse().unwrap(),
            listen_port: 1,
            allow_from: Vec::new(),
        };
        let own = ["10.0.0.10", "fe80::1", "2001:db8::10"].map(|address| address.parse().unwrap());
        for (address, expected) in [
            ("10.0.0.10", true),
            ("::ffff:10.0.0.10", true),
            ("2001:db8::10", true),
            ("127.0.0.1", true),
            ("127.0.0.2", true),
            ("::1", true),
            ("0.0.0.0", true),
            ("::", true),
            ("10.0.0.11", false),
            ("2001:db8::11", false),
        ] {
            assert_eq!(is_own(&client(address), &own), expected, "{address}");
        }
    }

    #[test]
    fn this_host_has_addresses() {
        assert!(own_addresses().iter().any(|address| address.is_loopback()));
    }
}

//! What the daemons refuse of a configuration though each of its members has the right form. The proxyclient takes none of
//! it over; a backend can tell it to the administrator before.

use std::collections::HashMap;
use std::fmt;

use crate::config::{Partner, ProxyConfig};

/// Addresses that the proxyserver may be told to listen on: each is a descriptor of its gate.
pub const MOST_LISTENED: usize = 64;

/// Ports of partners' own: each is a descriptor of the proxyclient's gate, which commonly has 1024.
pub const MOST_OWN_PORTS: usize = 500;

/// Something that the daemons refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The member, such as `limits.max_sessions`.
    pub place: String,
    /// What is wrong with it.
    pub reason: Reason,
}

/// Why something is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A value that cannot be.
    Invalid(String),
    /// It asks for something that is not built.
    NotServed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) => f.write_str(text),
            Self::NotServed => f.write_str("it is not served by this version"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Reason::Invalid(text) => write!(f, "{}: {text}", self.place),
            Reason::NotServed => write!(f, "{} is not served by this version", self.place),
        }
    }
}

impl ProxyConfig {
    /// All that the daemons refuse. Certificates, keys and the policy of partners are not looked at here.
    pub fn refusals(&self) -> Vec<Refusal> {
        let mut found = Vec::new();
        let mut refuse = |place: &str, reason| found.push(Refusal { place: place.to_owned(), reason });
        let not_served = [
            ("receive_daemon.proxy_protocol", self.receive_daemon.proxy_protocol),
            ("listen.proxy_protocol_from", !self.listen.proxy_protocol_from.is_empty()),
        ];
        for (place, _) in not_served.into_iter().filter(|(_, asked)| *asked) {
            refuse(place, Reason::NotServed);
        }
        let listened = self.listen.addresses.len();
        if listened > MOST_LISTENED {
            let text = format!("there are {listened}; {MOST_LISTENED} are the most");
            refuse("listen.addresses", Reason::Invalid(text));
        }
        let limits = &self.limits;
        let zero = [
            ("limits.max_sessions", limits.max_sessions == 0),
            ("limits.max_sessions_per_address", limits.max_sessions_per_address == 0),
            ("limits.max_unverified", limits.max_unverified == 0),
            ("limits.handshake_timeout_s", limits.handshake_timeout.is_zero()),
            ("limits.pairing_timeout_s", limits.pairing_timeout.is_zero()),
            ("limits.inactivity_timeout_s", limits.inactivity_timeout.is_zero()),
        ];
        for (place, _) in zero.into_iter().filter(|(_, zero)| *zero) {
            refuse(place, Reason::Invalid("0 lets no session be; 1 is the least".to_owned()));
        }
        found.extend(self.own_ports());
        found
    }

    /// What it asks for that is not in force, in a sentence, while all the rest is: `tunnels` are in force only where both
    /// daemons are told so, and these have no such option.
    pub fn not_in_force(&self) -> Option<String> {
        const MOST: usize = 5;
        let names: Vec<_> = self.tunnels.iter().take(MOST).map(|tunnel| format!("{:?}", tunnel.name)).collect();
        let more = match self.tunnels.len().saturating_sub(MOST) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let names = names.join(", ");
        (!names.is_empty()).then(|| format!("tunnels {names}{more} are not in force, as this version serves none"))
    }

    /// Each port of a partner's own leads to one partner that can be called.
    fn own_ports(&self) -> Vec<Refusal> {
        let mut found = Vec::new();
        let mut taken = HashMap::new();
        let callable = |partner: &Partner| partner.enabled && partner.address.is_some();
        let mut ports = 0;
        for (index, partner) in self.partners.iter().enumerate().filter(|(_, partner)| callable(partner)) {
            let Some(port) = partner.listen_port else { continue };
            ports += 1;
            match taken.get(&port) {
                Some(other) => found.push(Refusal {
                    place: format!("partners[{index}].listen_port"),
                    reason: Reason::Invalid(format!("{port} is that of partners[{other}] too")),
                }),
                None => drop(taken.insert(port, index)),
            }
        }
        if ports > MOST_OWN_PORTS {
            let text = format!("{ports} have a listen_port; {MOST_OWN_PORTS} are the most");
            found.push(Refusal { place: "partners".to_owned(), reason: Reason::Invalid(text) });
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What is refused of a configuration with these members.
    fn refused(members: Value) -> Vec<String> {
        configured(members).refusals().iter().map(ToString::to_string).collect()
    }

    fn configured(members: Value) -> ProxyConfig {
        let mut config = json!({
            "version": 1,
            "proxy_id": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015adpx",
            "listen": { "tls_port": 6619 },
            "identity": { "certificate_chain_pem": "", "private_key_pem": "" },
            "receive_daemon": { "host": "localhost" },
        });
        let members = members.as_object().unwrap().clone();
        config.as_object_mut().unwrap().extend(members);
        ProxyConfig::from_json(config.to_string().as_bytes()).unwrap()
    }

    fn partner(name: &str, port: u16, enabled: bool) -> Value {
        json!({ "name": name, "enabled": enabled, "address": format!("{name}.example:6619"), "listen_port": port })
    }

    #[test]
    fn what_lets_no_session_be_is_refused_by_name() {
        assert!(refused(json!({})).is_empty());
        for name in [
            "max_sessions",
            "max_sessions_per_address",
            "max_unverified",
            "handshake_timeout_s",
            "pairing_timeout_s",
            "inactivity_timeout_s",
        ] {
            let told = format!("limits.{name}: 0 lets no session be; 1 is the least");
            assert_eq!(refused(json!({ "limits": { name: 0 } })), [told]);
        }
        let may_be_off = json!({ "limits": { "drain_timeout_s": 0, "offender_refuse_s": 0 } });
        assert!(refused(may_be_off).is_empty());
    }

    #[test]
    fn tunnels_are_not_in_force_and_all_the_rest_is() {
        let tunnel = |name: String| {
            json!({
                "name": name, "direction": "incoming", "listen": "127.0.0.1:1", "connect": "localhost:2",
                "allow_from": ["127.0.0.1"]
            })
        };
        let with = |count: usize| {
            configured(json!({ "tunnels": (1..=count).map(|number| tunnel(format!("t{number}"))).collect::<Vec<_>>() }))
        };
        assert_eq!(with(0).not_in_force(), None);
        assert!(with(1).refusals().is_empty());
        let told = |listed: &str| Some(format!("tunnels {listed} are not in force, as this version serves none"));
        assert_eq!(with(1).not_in_force(), told("\"t1\""));
        assert_eq!(with(7).not_in_force(), told("\"t1\", \"t2\", \"t3\", \"t4\", \"t5\" and 2 more"));
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        let all = json!({
            "receive_daemon": { "host": "localhost", "proxy_protocol": true },
            "listen": { "tls_port": 6619, "proxy_protocol_from": ["127.0.0.1"] },
        });
        let expected = ["receive_daemon.proxy_protocol", "listen.proxy_protocol_from"];
        assert_eq!(refused(all), expected.map(|place| format!("{place} is not served by this version")));
    }

    #[test]
    fn more_than_a_gate_can_hold_is_refused() {
        let listen = |count: usize| json!({ "listen": { "tls_port": 6619, "addresses": vec!["127.0.0.1"; count] } });
        assert!(refused(listen(64)).is_empty());
        assert_eq!(refused(listen(65)), ["listen.addresses: there are 65; 64 are the most"]);
        let partners = |count: u16| json!({ "partners": (1..=count).map(|port| partner(&format!("p{port}"), port, true)).collect::<Vec<_>>() });
        assert!(refused(partners(500)).is_empty());
        assert_eq!(refused(partners(501)), ["partners: 501 have a listen_port; 500 are the most"]);
    }

    #[test]
    fn a_port_of_its_own_leads_to_one_partner_that_can_be_called() {
        let twice = json!({ "partners": [partner("a", 1, false), partner("b", 1, true), partner("c", 1, true)] });
        assert_eq!(refused(twice), ["partners[2].listen_port: 1 is that of partners[1] too"]);
        let mut nowhere = partner("b", 1, true);
        nowhere["address"] = Value::Null;
        assert!(refused(json!({ "partners": [partner("a", 1, true), nowhere, partner("c", 1, false)] })).is_empty());
    }
}

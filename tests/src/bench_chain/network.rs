//! The network that is measured in: a loopback of its own, as Linux has it where nobody has chosen anything else.

use std::fs;

use crate::harness::{Namespace, Trouble};

/// What Linux comes with, and what it lets every network have. BBR, where that is the system's choice, lets octets go at a
/// pace, by timers, on loopback too: then timers are measured, more than who is to be measured.
const USUAL: [&str; 2] = ["cubic", "reno"];
const CHOICE: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

/// Measures there. Whoever may not make a network (root may) measures in that of the machine, and is told.
pub fn within(measure: impl FnOnce() -> Result<(), Trouble> + Send) -> Result<(), Trouble> {
    let namespace = match Namespace::new() {
        Ok(namespace) => namespace,
        Err(trouble) => {
            eprintln!("in the network of the machine, with {}: {trouble}", congestion_control());
            return measure();
        }
    };
    namespace.within(|| {
        if !USUAL.iter().any(|usual| fs::write(CHOICE, usual).is_ok()) {
            eprintln!("with {}, as none of {USUAL:?} can be had", congestion_control());
        }
        measure()
    })
}

/// The congestion control of all connections here.
pub fn congestion_control() -> String {
    fs::read_to_string(CHOICE).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_chosen_there_is_not_chosen_here() {
        let before = congestion_control();
        let mut there = String::new();
        within(|| {
            there = congestion_control();
            Ok(())
        })
        .unwrap();
        assert!(USUAL.contains(&there.as_str()) || there == before, "{there}");
        assert_eq!(congestion_control(), before);
    }
}

//! The table: what was measured of whom, medians, spread, ratios, and whether the targets are met.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::figures::{Figures, shown};
use super::topology::Peer;

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was measured, with its unit.
    pub name: String,
    /// Of whom.
    pub of: BTreeMap<Peer, Figures>,
}

/// All of it, in the order in which it was measured first.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Lines.
    pub rows: Vec<Row>,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name of the row.
    pub row: &'static str,
    /// As a part of this one's; none: as it stands.
    pub beside: Option<Peer>,
    /// Which way is better.
    pub bound: Bound,
    /// To be met.
    pub least: f64,
    /// Beyond it, as far as it goes.
    pub beyond: f64,
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Less.
    AtMost,
    /// More.
    AtLeast,
}

impl Table {
    /// Adds what was measured in one turn.
    pub fn add(&mut self, name: &str, peer: Peer, value: f64) {
        let place = self.rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.rows.push(Row { name: name.to_owned(), of: BTreeMap::new() });
            self.rows.len() - 1
        });
        if let Some(row) = self.rows.get_mut(place) {
            row.of.entry(peer).or_default().0.push(value);
        }
    }

    /// Median of a row.
    pub fn median(&self, name: &str, peer: Peer) -> Option<f64> {
        self.rows.iter().find(|row| row.name == name)?.of.get(&peer)?.median()
    }

    /// As Markdown, one column for each that was measured, and ratios of the proxy's median to that of the others.
    pub fn markdown(&self) -> String {
        let peers: Vec<Peer> =
            Peer::ALL.into_iter().filter(|peer| self.rows.iter().any(|row| row.of.contains_key(peer))).collect();
        let others: Vec<Peer> = peers.iter().copied().filter(|peer| *peer != Peer::Proxy).collect();
        let mut text = String::from("| Measure |");
        peers.iter().for_each(|peer| write!(text, " {} |", peer.name()).unwrap_or_default());
        others.iter().for_each(|peer| write!(text, " ÷ {} |", peer.name()).unwrap_or_default());
        text.push_str("\n| --- |");
        text.push_str(&" ---: |".repeat(peers.len() + others.len()));
        text.push('\n');
        for row in &self.rows {
            write!(text, "| {} |", row.name).unwrap_or_default();
            for peer in &peers {
                match row.of.get(peer).and_then(|figures| Some((figures.median()?, figures.spread()?))) {
                    Some((median, spread)) => {
                        write!(text, " {} ± {:.0} % |", shown(median), spread * 100.0).unwrap_or_default();
                    }
                    None => text.push_str(" – |"),
                }
            }
            for other in &others {
                let ratio =
                    row.of.get(&Peer::Proxy).and_then(Figures::median).zip(row.of.get(other).and_then(Figures::median));
                match ratio {
                    // What the noise of a machine makes negative has no ratio.
                    Some((own, other)) if own > 0.0 && other > 0.0 => {
                        write!(text, " {:.2} |", own / other).unwrap_or_default();
                    }
                    _ => text.push_str(" – |"),
                }
            }
            text.push('\n');
        }
        text
    }

    /// Of each target whose figures were measured, whether it is met.
    pub fn verdicts(&self, targets: &[Target]) -> String {
        let mut text = String::new();
        for target in targets {
            let own = self.median(target.row, Peer::Proxy);
            let beside = target.beside.map(|peer| self.median(target.row, peer));
            let value = match (own, beside) {
                (Some(own), None) => own,
                (Some(own), Some(Some(other))) => own / other,
                _ => continue,
            };
            let (sign, well, better) = match target.bound {
                Bound::AtMost => ("≤", value <= target.least, value <= target.beyond),
                Bound::AtLeast => ("≥", value >= target.least, value >= target.beyond),
            };
            let verdict = if better {
                "met, and beyond"
            } else if well {
                "met"
            } else {
                "NOT met"
            };
            let unit = target.beside.map(|peer| format!(" × {}", peer.name())).unwrap_or_default();
            let Target { row, least, beyond, .. } = target;
            writeln!(text, "| {row} | {}{unit} | {sign} {least} | {sign} {beyond} | {verdict} |", shown(value))
                .unwrap_or_default();
        }
        if text.is_empty() { text } else { format!("{HEAD}{text}") }
    }
}

const HEAD: &str = "| Target | Measured | To be met | Beyond | |\n| --- | ---: | ---: | ---: | --- |\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_ratios_and_verdicts() {
        let mut table = Table::default();
        for (own, other) in [(1.0, 4.0), (2.0, 4.0), (3.0, 4.0)] {
            table.add("CPU", Peer::Proxy, own);
            table.add("CPU", Peer::Haproxy, other);
        }
        assert_eq!(table.markdown().lines().last().unwrap(), "| CPU | 2.00 ± 50 % | 4.00 ± 0 % | 0.50 |");
        let target = |bound, least, beyond| Target { row: "CPU", beside: Some(Peer::Haproxy), bound, least, beyond };
        let of =
            |target| table.verdicts(&[target]).lines().last().unwrap().rsplit('|').nth(1).unwrap().trim().to_owned();
        assert_eq!(of(target(Bound::AtMost, 0.55, 0.42)), "met");
        assert_eq!(of(target(Bound::AtLeast, 0.4, 0.5)), "met, and beyond");
        assert_eq!(of(target(Bound::AtMost, 0.4, 0.3)), "NOT met");
        assert_eq!(table.verdicts(&[Target { beside: Some(Peer::Nginx), ..target(Bound::AtMost, 1.0, 1.0) }]), "");
    }
}

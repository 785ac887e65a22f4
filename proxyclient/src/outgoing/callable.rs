//! Which partners can be called, and which of them a station means.

use super::target::{Host, Target};

/// An enabled partner with an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callable {
    /// Its name in the policy.
    pub name: String,
    /// Where it is, as configured.
    pub address: Target,
    /// The port that leads to it without any request.
    pub own_port: Option<u16>,
    /// Most sessions at once.
    pub max_sessions: Option<u32>,
}

/// All of them, in the configuration's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Callables(Vec<Callable>);

impl Callables {
    /// Of these partners.
    pub const fn new(all: Vec<Callable>) -> Self {
        Self(all)
    }

    /// All.
    pub fn iter(&self) -> impl Iterator<Item = &Callable> {
        self.0.iter()
    }

    /// The partner with this name.
    pub fn named(&self, name: &str) -> Option<&Callable> {
        self.iter().find(|partner| partner.name == name)
    }

    /// The one partner whom a station means: by the configured address, or by the partner's name as host; the port is that
    /// of the address in either case.
    ///
    /// # Errors
    /// A sentence: there is none, or more than one.
    pub fn find(&self, target: &Target) -> Result<&Callable, String> {
        // A partner's name is the more exact: several partners may be behind one address.
        if let Host::Name(name) = &target.host {
            let exactly = self.iter().find(|partner| partner.name == *name);
            let alike = || self.one(|partner| partner.name.eq_ignore_ascii_case(name));
            if let Some(partner) = exactly.map_or_else(alike, |partner| Ok(Some(partner)))?
                && partner.address.port == target.port
            {
                return Ok(partner);
            }
        }
        let at_address =
            |partner: &Callable| partner.address.port == target.port && partner.address.host.is(&target.host);
        self.one(at_address)?.ok_or_else(|| "no enabled partner has this address, or this name and port".to_owned())
    }

    fn one(&self, fits: impl Fn(&Callable) -> bool) -> Result<Option<&Callable>, String> {
        let mut fitting = self.iter().filter(|partner| fits(partner));
        match (fitting.next(), fitting.next()) {
            (Some(one), Some(other)) => Err(format!(
                "it is the address of more than one partner ({}, {}); the partner's name as host says which is meant",
                one.name, other.name
            )),
            (one, _) => Ok(one),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partners() -> Callables {
        let partner = |(name, address): (&str, &str)| Callable {
            name: name.to_owned(),
            address: Target::read(address).unwrap(),
            own_port: None,
            max_sessions: None,
        };
        let all = [
            ("ACME", "oftp.acme.example:6619"),
            ("acme", "192.0.2.7:6619"),
            ("SIX", "[2001:db8::1]:3305"),
            ("ONE", "provider.example:6619"),
            ("TWO", "Provider.Example:6619"),
            ("THREE", "provider.example:6620"),
            ("Four", "four.example:1"),
        ];
        Callables::new(all.into_iter().map(partner).collect())
    }

    #[test]
    fn a_partner_is_found_by_its_address_or_its_name_with_its_port() {
        for (asked, expected) in [
            ("oftp.acme.example:6619", "ACME"),
            ("OFTP.ACME.EXAMPLE.:6619", "ACME"),
            ("ACME:6619", "ACME"),
            ("acme:6619", "acme"),
            ("[::ffff:192.0.2.7]:6619", "acme"),
            ("[2001:db8:0:0::1]:3305", "SIX"),
            ("TWO:6619", "TWO"),
            ("provider.example:6620", "THREE"),
            ("FOUR:1", "Four"),
            ("oftp.acme.example:6620", "-"),
            ("ACME:80", "-"),
            ("Acme:6619", "-"),
            ("provider.example:6619", "-"),
            ("192.0.2.8:6619", "-"),
            ("localhost:6619", "-"),
            ("acme.example:6619", "-"),
        ] {
            let (partners, target) = (partners(), Target::read(asked).unwrap());
            let found = partners.find(&target).map_or("-", |partner| &partner.name);
            assert_eq!(found, expected, "{asked}");
        }
        let shared = partners().find(&Target::read("provider.example:6619").unwrap()).unwrap_err();
        assert!(shared.contains("ONE, TWO"), "{shared}");
    }
}

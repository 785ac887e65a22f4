//! The chain the other way round: a station inside calls a partner through the proxy, and the partner is a TLS server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Chain, Host, INSIDE_CODE, INSIDE_PASSWORD, PATIENCE, Plan, Trouble, free_port, network};
use crate::station::{
    self, OutgoingFile, Receiver, Report, Security, Settings, Store, TlsSettings, TlsVersions, Trust, Via,
};

impl Plan {
    /// Inside stations may call the partners: an entry of `clients` for the proxyclient's host, and for each partner an
    /// `address` of its own, where nobody listens yet.
    pub fn outgoing(self) -> Result<Self, Trouble> {
        let in_network = self.has_network();
        let host = |there: IpAddr| if in_network { there } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
        let (client, partner) = (host(network::INSIDE), host(network::PARTNER));
        let listen_port = free_port()?;
        let ports: Vec<u16> = (0..self.partner_count()).map(|_| free_port()).collect::<Result<_, _>>()?;
        let mut plan = self;
        plan.outgoing = true;
        Ok(plan.configure(move |config| {
            config["clients"] = json!([{
                "name": "inside", "address": client.to_string(), "listen_port": listen_port,
                "allow_from": [format!("{client}/32")],
            }]);
            for (entry, port) in config["partners"].as_array_mut().into_iter().flatten().zip(ports) {
                entry["address"] = json!(SocketAddr::new(partner, port).to_string());
            }
        }))
    }
}

impl Chain {
    /// Waits until the proxyclient has said whether stations inside can connect.
    pub(super) fn wait_for_outgoing(&self) -> Result<(), Trouble> {
        let codes = [" outgoing-port-open ", " outgoing-off ", " outgoing-port-unavailable "];
        self.client().wait_for("outgoing-port-open", |line| codes.iter().any(|code| line.contains(code))).map(drop)
    }

    /// Where inside stations find the proxy.
    pub fn proxy_address(&self) -> String {
        let entry = &self.config["clients"][0];
        let host = entry["address"].as_str().unwrap_or_default();
        format!("{host}:{}", entry["listen_port"])
    }

    /// The proxy, spoken to by CONNECT.
    pub fn http(&self) -> Via {
        Via::Http(self.proxy_address())
    }

    /// The proxy, spoken to by SOCKS5.
    pub fn socks5(&self) -> Via {
        Via::Socks5(self.proxy_address())
    }

    /// Where the configuration says that a partner listens (`host:port`).
    pub fn called_at(&self, partner: usize) -> String {
        self.config["partners"][partner]["address"].as_str().unwrap_or_default().to_owned()
    }

    /// What an inside station says of itself.
    pub fn inside_settings(&self) -> Settings {
        Settings { patience: PATIENCE, ..Settings::new(INSIDE_CODE, INSIDE_PASSWORD) }
    }

    /// An inside station calls the first partner by CONNECT and sends it files.
    pub fn call(&self, files: Vec<OutgoingFile>) -> Result<Report, Trouble> {
        self.call_via(self.http(), &self.called_at(0), files)
    }

    /// An inside station calls `to`, and sends files.
    pub fn call_via(&self, via: Via, to: &str, files: Vec<OutgoingFile>) -> Result<Report, Trouble> {
        let settings = Settings { via: Some(via), ..self.inside_settings() };
        self.at(Host::Inside, || Ok(station::send(to, &Security::Plain, &settings, files)))
    }

    /// What a partner says of itself when it is called.
    pub fn called_settings(&self, partner: usize) -> Result<Settings, Trouble> {
        let code = &self.partner(partner)?.code;
        Ok(Settings {
            peer_code: Some(INSIDE_CODE.into()),
            patience: PATIENCE,
            buffer_size: 99_999,
            credit: 999,
            ..Settings::new(code, "PARTNER")
        })
    }

    /// How a partner protects what calls it: with its certificate, and only the proxy's is taken.
    pub fn called_security(&self, partner: usize) -> Result<TlsSettings, Trouble> {
        let identity = Some(self.partner(partner)?.identity.clone());
        let trust = Trust::Authorities(self.authority.certificate_pem());
        Ok(TlsSettings { identity, trust, versions: TlsVersions::Both })
    }

    /// A partner's station as usual, where the configuration says that it listens.
    pub fn partner_listens(&self, partner: usize) -> Result<Receiver, Trouble> {
        self.partner_listens_with(partner, self.called_security(partner)?, self.called_settings(partner)?)
    }

    /// As [`Self::partner_listens`], with something else about it.
    pub fn partner_listens_with(
        &self,
        partner: usize,
        security: TlsSettings,
        settings: Settings,
    ) -> Result<Receiver, Trouble> {
        let at = self.called_at(partner);
        let address = at.parse().map_err(|_| Trouble(format!("{at} is not an address and a port")))?;
        self.partner_listens_at(address, partner, security, settings)
    }

    /// As [`Self::partner_listens_with`], anywhere.
    pub fn partner_listens_at(
        &self,
        address: SocketAddr,
        partner: usize,
        security: TlsSettings,
        settings: Settings,
    ) -> Result<Receiver, Trouble> {
        let directory = self.taken_by(partner, "")?;
        self.at(Host::Partner, || {
            let store = Store::new(&directory).map_err(Trouble::at(&directory))?;
            Ok(Receiver::start(address, &Security::Tls(security), settings, Some(store), Vec::new())?)
        })
    }

    /// Where a partner's station puts what it is sent.
    pub fn taken_by(&self, partner: usize, dataset: &str) -> Result<PathBuf, Trouble> {
        let name = self.partner(partner)?.name.to_lowercase();
        Ok(self.scratch.directory(&format!("partner-{name}"))?.join(dataset))
    }

    /// Changes the configuration that the scripted backend gives from now on.
    pub fn reconfigure(&self, edit: impl FnOnce(&mut Value)) {
        let mut config = self.config.clone();
        edit(&mut config);
        self.scripted_backend().set_config(config);
    }

    fn partner(&self, number: usize) -> Result<&super::Partner, Trouble> {
        self.partners.get(number).ok_or_else(|| Trouble(format!("the plan has no partner {number}")))
    }
}

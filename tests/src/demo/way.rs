//! Who sends the file, and who takes it: a partner to the receive daemon, or a station inside to a partner.

use std::path::PathBuf;
use std::process::Command;

use crate::harness::{Chain, INSIDE_CODE, INSIDE_PASSWORD, Plan, Process, Trouble, binary};
use crate::station::{Identity, Security, Settings};

/// Which way the file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A partner calls.
    In,
    /// A partner is called.
    Out,
}

/// A partner's station that waits to be called.
pub(super) struct CalledPartner(pub Process);

impl Way {
    pub(super) fn plan(self) -> Result<Plan, Trouble> {
        match self {
            Self::In => Ok(Plan::new()),
            Self::Out => Plan::new().outgoing(),
        }
    }

    /// Who sends, and how.
    pub(super) fn sender(self, chain: &Chain) -> (&'static str, String, Security, Settings) {
        match self {
            Self::In => ("A partner", chain.partner_address(), chain.security(), chain.settings()),
            Self::Out => {
                let settings = Settings { via: Some(chain.http()), ..chain.inside_settings() };
                ("The station inside", chain.called_at(0), Security::Plain, settings)
            }
        }
    }

    /// What is said before it begins.
    pub(super) fn sentence(self, chain: &Chain) -> String {
        match self {
            Self::In => "over mutual TLS".into(),
            Self::Out => format!(
                "to {}: it asks {} (the proxyclient) for CONNECT {}, and the proxy does the mutual TLS",
                chain.partners.first().map_or("the partner", |partner| &partner.name),
                chain.proxy_address(),
                chain.called_at(0),
            ),
        }
    }

    /// Where a file comes to lie.
    pub(super) fn received(self, chain: &Chain, dataset: &str) -> Result<PathBuf, Trouble> {
        match self {
            Self::In => Ok(chain.received(dataset)),
            Self::Out => chain.taken_by(0, dataset),
        }
    }

    /// How to do the same by hand.
    pub(super) fn recommendation(self, chain: &Chain) -> Result<String, Trouble> {
        let station = binary("oftp2_station")?.display().to_string();
        let arrive = self.received(chain, "")?.display().to_string();
        Ok(match self {
            Self::In => {
                let files = PartnerFiles::write(chain)?;
                let (address, code) = (chain.partner_address(), &files.code);
                let PartnerFiles { ca, cert, key, .. } = &files;
                format!(
                    "  address           {address}, TLS 1.2 or 1.3, from this machine
  your code         {code}, any password
  your certificate  {cert}
  your key          {key}
  you trust         {ca}
  other code        {INSIDE_CODE}, password {INSIDE_PASSWORD}
  files arrive in   {arrive}
For example:
  {station} send --to {address} --tls --ca {ca} --cert {cert} --key {key} --code {code} FILE"
                )
            }
            Self::Out => {
                let (proxy, to) = (chain.proxy_address(), chain.called_at(0));
                let code = chain.partners.first().map_or("", |partner| &partner.code);
                format!(
                    "  proxy             {proxy}, HTTP (CONNECT) or SOCKS5, without authentication, from this machine
  partner           {to}, plain OFTP2: the proxy does TLS
  your code         {INSIDE_CODE}, any password
  other code        {code}, password PARTNER
  files arrive in   {arrive}
For example:
  {station} send --to {to} --via http://{proxy} --code {INSIDE_CODE} FILE"
                )
            }
        })
    }
}

impl CalledPartner {
    /// Starts it where the configuration says that the first partner listens.
    pub fn start(chain: &Chain) -> Result<Self, Trouble> {
        let PartnerFiles { ca, cert, key, code } = PartnerFiles::write(chain)?;
        let mut command = Command::new(binary("oftp2_station")?);
        command.args(["receive", "--listen", &chain.called_at(0), "--eerp", "--code", &code, "--password", "PARTNER"]);
        command.args(["--tls", "--ca", &ca, "--cert", &cert, "--key", &key, "--peer-code", INSIDE_CODE]);
        command.args(["--buffer-size", "99999", "--credit", "999"]).arg("--directory").arg(chain.taken_by(0, "")?);
        let process = Process::start("partner", &mut command)?;
        process.wait_for_text("listening on ")?;
        Ok(Self(process))
    }
}

/// The first partner's certificate as files.
struct PartnerFiles {
    ca: String,
    cert: String,
    key: String,
    code: String,
}

impl PartnerFiles {
    fn write(chain: &Chain) -> Result<Self, Trouble> {
        let partner = chain.partners.first().ok_or_else(|| Trouble("no partner".into()))?;
        let Identity { chain_pem, key_pem } = &partner.identity;
        let file =
            |name: &str, content: &str| chain.scratch.write(name, content).map(|path| path.display().to_string());
        Ok(Self {
            ca: file("partner-ca.pem", &chain.authority.certificate_pem())?,
            cert: file("partner.pem", chain_pem)?,
            key: file("partner.key", key_pem)?,
            code: partner.code.clone(),
        })
    }
}

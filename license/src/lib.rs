//! Who may run and who may link: the licence file of the proxyserver, its identity key and Proxy ID, the security
//! token of the proxyclient and the link key that is derived from it.
//!
//! The crate reads and writes the two files it owns (identity key, licence) and speaks to nobody.

mod hex;
mod identity;
mod issuer;
mod licence;
mod link_key;
mod proxy_id;
mod refusal;
mod token;

pub use identity::{IDENTITY_FILE, IdentityError, IdentityKey};
pub use issuer::{IssuerError, IssuerKey, IssuerSecret};
pub use licence::{Client, Grant, GrantError, Licence, ValidLicence};
pub use link_key::{ClientKey, ClientKeyError, LinkKey, client_line};
pub use proxy_id::{ProxyId, ProxyIdError};
pub use refusal::{LicenceError, moment};
pub use token::{SecurityToken, TokenError};

/// Where the proxyserver looks for its licence when it is not told otherwise.
pub const LICENCE_FILE: &str = "/etc/seon_proxy.lic";

//! The judgement of a partner: certificates, revocation, which partner it is.
//!
//! Pure: octets, a compiled [`Policy`], a time and an address go in; a [`VerifiedPartner`] or a [`Refusal`] comes out. No
//! I/O, no clock, no log. Both daemons use it, the session in the DMZ inside the TLS handshake, and the agent inside, which
//! believes nothing of the first judgement and makes its own.
//!
//! ```text
//! PolicySource ──compile──► image ──Policy::open──► judge(presented, policy, now, source) ──► VerifiedPartner | Refusal
//! ```

mod address;
mod certificate;
mod chain;
mod der;
mod expiry;
mod facts;
mod fingerprint;
mod judgement;
mod key;
mod known;
mod name;
mod partner;
mod policy;
pub mod possession;
mod refusal;
mod revocation;
mod signature;
pub mod signing_request;
mod time;
mod transcript;
mod verified;

pub use address::{Cidr, NotANetwork, plain};
pub use expiry::{Expiring, Expiry, WARNINGS, Warning};
pub use facts::{CertificateFacts, Unreadable};
pub use fingerprint::{Fingerprint, NotAFingerprint};
pub use judgement::{Direction, Peer, Presented, judge, judge_again};
pub use key::KeyKind;
pub use known::KnownSignatures;
pub use name::NotAName;
pub use policy::{
    CodesUnreadable, Compiled, Conformance, Der, ExtendedKeyUsage, ImageError, LARGEST_IMAGE, LeftOutCrl,
    PartnerSource, PartnerView, Policy, PolicyError, PolicyFault, PolicySource, Revocation, UnknownPartners, compile,
    compile_with_crls, holder_of_code,
};
pub use refusal::{ChainRule, Part, Refusal, Shown};
pub use revocation::{CrlFault, RevocationReason};
pub use rustls_pki_types::{CertificateDer, UnixTime};
pub use time::rfc3339;
pub use verified::{CrlPoint, Trust, Unsure, VerifiedPartner};

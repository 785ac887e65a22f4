//! The policy: what the judgement holds a peer against. Written as plain data ([`PolicySource`]), compiled once into a
//! flat image ([`compile`]), and read in place by every process ([`Policy`]).

mod codes;
mod compile;
pub(crate) mod crls;
mod image;
mod source;
mod view;

pub use codes::{CodesUnreadable, holder_of_code};
pub use compile::{Compiled, LeftOutCrl, PolicyError, PolicyFault, compile, compile_with_crls};
pub(crate) use image::{Fields, Record, Reference, Section, Table, Writer};
pub use image::{ImageError, LARGEST_IMAGE};
pub use source::{Conformance, Der, ExtendedKeyUsage, PartnerSource, PolicySource, Revocation, UnknownPartners};
pub(crate) use view::{AnchorView, DNS_KEY, SUBJECT_KEY, name_key, time as seconds};
pub use view::{PartnerView, Policy};

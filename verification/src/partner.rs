//! Which partner a certificate is, and whether that partner may have this session.

use rustls_pki_types::ServerName;

use crate::chain::Path;
use crate::judgement::{Case, Peer};
use crate::name::{self, Name};
use crate::policy::{DNS_KEY, PartnerView, SUBJECT_KEY, UnknownPartners, name_key};
use crate::refusal::Refusal;

/// Most alternative names by which a partner is looked for.
const MOST_NAMES: usize = 100;

impl<'a> Case<'a> {
    /// The partner by certificate, or else by subject and DNS names from an anchor that may issue for it.
    pub(crate) fn partner_by_chain(&self, path: &Path<'_>) -> Result<Option<PartnerView<'a>>, Refusal> {
        if let Some(index) = self.policy.partner_of_certificate(&self.facts.fingerprint) {
            return self.policy.partner(index).map(Some).ok_or(Refusal::PolicyUnreadable);
        }
        let subject = Name::read(self.end_entity.subject).map(|name| name.canonical()).ok();
        let dns_names = self.end_entity.extensions.dns_names().take(MOST_NAMES);
        let keys = subject
            .map(|subject| name_key(SUBJECT_KEY, &subject))
            .into_iter()
            .chain(dns_names.map(|name| name_key(DNS_KEY, name.to_ascii_lowercase().as_bytes())));
        let mut found: Option<PartnerView<'_>> = None;
        for index in keys.flat_map(|key| self.policy.partners_of_name(&key)) {
            let partner = self.policy.partner(index).ok_or(Refusal::PolicyUnreadable)?;
            if !partner.trusts_issuer(&path.anchor.fingerprint) {
                continue;
            }
            match found {
                Some(other) if other.index() != partner.index() => {
                    return Err(Refusal::PartnerAmbiguous {
                        certificate: self.shown(),
                        partners: [other.name().to_owned(), partner.name().to_owned()],
                    });
                }
                _ => found = Some(partner),
            }
        }
        Ok(found)
    }

    /// Whether this partner, or an unknown one, may have this session.
    pub(crate) fn admitted(
        &self,
        found: Option<PartnerView<'a>>,
        path: Option<&Path<'_>>,
    ) -> Result<Option<PartnerView<'a>>, Refusal> {
        let partner = match self.presented.peer {
            Peer::Caller => found,
            Peer::Called { partner: called } => Some(self.called(called, found, path)?),
        };
        match partner {
            Some(partner) if !partner.enabled() => Err(Refusal::PartnerDisabled { partner: partner.name().to_owned() }),
            Some(partner) => {
                if self.presented.peer == Peer::Caller && !partner.allows_address(self.source) {
                    let address = crate::address::plain(self.source);
                    let (partner, allowed) = (partner.name().to_owned(), partner.allowed_addresses());
                    return Err(Refusal::PartnerAddress { partner, address, allowed });
                }
                Ok(Some(partner))
            }
            None if self.policy.unknown_partners() == UnknownPartners::Accept => Ok(None),
            None => Err(Refusal::PartnerUnknown { certificate: self.shown() }),
        }
    }

    /// The partner that was called, if the certificate is its own: by certificate or subject, or, where neither is
    /// configured, by its `server_name` in a chain to one of its issuers. A `server_name` must fit in every case.
    fn called(
        &self,
        called: &str,
        found: Option<PartnerView<'a>>,
        path: Option<&Path<'_>>,
    ) -> Result<PartnerView<'a>, Refusal> {
        let unknown = || Refusal::PartnerUnknown { certificate: self.shown() };
        let partner = self.policy.partner_named(called).ok_or_else(unknown)?;
        match found {
            Some(found) if found.index() == partner.index() => {}
            Some(found) => {
                return Err(Refusal::PartnerNotCalled { called: called.to_owned(), found: found.name().to_owned() });
            }
            None => {
                let by_name = !partner.matches_certificates() && partner.server_name().is_some();
                if !by_name || !path.is_some_and(|path| partner.trusts_issuer(&path.anchor.fingerprint)) {
                    return Err(unknown());
                }
            }
        }
        if let Some(name) = partner.server_name() {
            self.check_server_name(name)?;
        }
        Ok(partner)
    }

    fn check_server_name(&self, expected: &str) -> Result<(), Refusal> {
        let fits = || {
            let name = ServerName::try_from(expected).ok()?;
            let certificate = webpki::EndEntityCert::try_from(self.presented.chain.first()?).ok()?;
            certificate.verify_is_valid_for_subject_name(&name).ok()
        };
        fits().ok_or_else(|| Refusal::ServerName {
            certificate: self.shown(),
            expected: expected.to_owned(),
            presented: if self.facts.dns_names.is_empty() {
                "no DNS name".to_owned()
            } else {
                name::bounded(self.facts.dns_names.join(", "), 256)
            },
        })
    }
}

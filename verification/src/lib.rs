//! The judgement of a partner: certificates, revocation, which partner it is. Pure, no I/O.

//! Client of the Seon API: configuration, CRLs, events, session records

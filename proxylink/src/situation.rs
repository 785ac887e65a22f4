//! The table of situations: everything an administrator can meet, each with one code, severity, sentence and advice.
//!
//! Log line, event, closing frame, manual page and tests all take it from here. A situation's place in the table is its
//! number on the link: new ones are added at the end.

use std::fmt;

use log::{Level, Record};
use serde::{Deserialize, Serialize};

use crate::pairing::SessionId;
use crate::particulars::{Keys, Particulars};

/// How grave a situation is, and where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Log only.
    Note,
    /// Log, and the system log of the backend.
    Info,
    /// A fault that somebody should look at: log and system log.
    Error,
    /// The daemon ends, or cannot do its work: log and system log.
    Fatal,
}

impl Severity {
    /// Whether an event goes to the backend's system log.
    pub const fn is_event(self) -> bool {
        !matches!(self, Self::Note)
    }

    /// The word in an event (`info`, `error`, `fatal`).
    pub const fn event_word(self) -> &'static str {
        match self {
            Self::Note | Self::Info => "info",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }
}

macro_rules! situations {
    ($($name:ident $code:literal $severity:ident $sentence:literal $advice:literal;)*) => {
        /// One thing that can happen. [`Situation::code`] is stable between releases.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Situation {
            $(#[doc = $sentence] $name,)*
        }

        impl Situation {
            /// The whole table, in its order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Stable kebab-case name.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// How grave it is.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }

            /// What it means, in one sentence.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }

            /// What to do about it.
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$name => $advice,)* }
            }

            /// The situation with this code.
            pub fn by_code(code: &str) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }
        }
    };
}

situations! {
    // Daemons
    ServerStarted "server-started" Info "The proxyserver has started." "Nothing to do.";
    ServerStopped "server-stopped" Info "The proxyserver has ended." "Nothing to do if it was meant to.";
    ClientStarted "client-started" Info "The proxyclient has started." "Nothing to do.";
    ClientStopped "client-stopped" Info "The proxyclient has ended." "Nothing to do if it was meant to.";
    StopRequested "stop-requested" Note "A signal, or the end of the other daemon, asks this one to end." "Nothing to do; sessions get drain_timeout_s to end.";
    RoleDied "role-died" Error "A process of the daemon died and is started anew; running sessions go on." "See whether somebody killed it, or the kernel for want of memory; otherwise send the log around this line to the makers.";
    SessionCrashed "session-crashed" Error "A session's process died by a fault; its peer is held responsible." "Look who the peer is; repeated crashes make the gate start afresh.";
    SessionKilled "session-killed" Error "A session's process was killed, by somebody or by the kernel for want of memory, and not by the daemon; its peer is not at fault." "See who killed it; `journalctl -k` has what the kernel killed for want of memory. What was not acknowledged is sent again in the next session.";
    ConfinementIncomplete "confinement-incomplete" Note "The kernel lacks a means of confinement; the rest is in force." "A newer kernel (Landlock, seccomp) confines sessions better.";
    LogLevelChanged "log-level-changed" Note "A signal changed the log level of this process." "Nothing to do.";
    LogRecordsDropped "log-records-dropped" Error "Log records were lost because they came faster than they could be written." "See whether the disk is full, or what floods the log; raise the level threshold if needed.";
    // Licence
    LicenceInvalid "licence-invalid" Fatal "There is no usable licence for this proxyserver." "Do as the line says; a licence is made for one Proxy ID, which `seon_proxyserver2 -L` prints.";
    LicenceExpires "licence-expires" Error "The licence ends soon." "Ask the issuer for a new one in time.";
    LicenceExpired "licence-expired" Error "The licence has ended: running sessions go on, new ones are refused." "Install a new licence file; it is taken over within seconds.";
    // Link
    LinkListening "link-listening" Note "The proxyserver waits for its proxyclient." "Start the proxyclient if it does not come.";
    LinkUp "link-up" Info "Proxyserver and proxyclient are linked." "Nothing to do.";
    LinkDown "link-down" Error "The link between proxyserver and proxyclient is lost; sessions in flight go on, nothing new is taken." "See whether the other daemon runs and the network between them works.";
    LinkUnreachable "link-unreachable" Error "The proxyserver cannot be reached; the proxyclient keeps trying, after a link that stood for 45 s." "Check address and port given with -S, the firewall towards the DMZ, and that seon_proxyserver2 runs.";
    LinkGone "link-gone" Error "A link that stood has been gone for 45 s in spite of redialling: the proxyclient ends when its sessions have." "See why the proxyserver is away. A service manager starts the proxyclient again (Restart=always in its unit); one that was started by hand must be started by hand again.";
    LinkGoodbye "link-goodbye" Info "The other side of the link ends in an orderly way; a proxyclient ends with its proxyserver." "Nothing to do if it was meant to; a service manager starts the proxyclient again (Restart=always in its unit).";
    LinkRefused "link-refused" Error "A connection to the link's port was refused." "If it was the proxyclient's, see what the message says; otherwise something else talks to this port.";
    LinkClientUnlicensed "link-client-unlicensed" Error "A proxyclient whose key is not in the licence file wanted to link." "Add the line that `seon_proxyclient2 --print-client-line` prints to the licence file; it is read again within seconds.";
    LinkServerWrong "link-server-wrong" Error "The server at the link's address is not the one with the configured Proxy ID." "Compare `seon_proxyserver2 -L` with proxy_id in the configuration.";
    LinkSecondClient "link-second-client" Error "A second proxyclient wanted to link; this version serves one at a time." "Stop one of the two proxyclients.";
    LinkMessageInvalid "link-message-invalid" Error "The other side of the link sent what it may not send; the connection was ended." "Both daemons should be of the same version; if they are, treat that host as suspect.";
    InsideMissing "inside-missing" Error "No proxyclient is linked; partners cannot be served." "Start the proxyclient, or see why it cannot link.";
    DataConnectionRefused "data-connection-refused" Error "A data connection with an unknown, spent or wrong pairing token or key was refused." "Treat the source as suspect if it is not the proxyclient.";
    // Configuration
    ConfigurationTaken "configuration-taken" Info "A new configuration is in force." "Nothing to do.";
    ConfigurationInvalid "configuration-invalid" Error "The configuration is not valid; the last good one stays in force." "Correct the place that is named.";
    ConfigurationUnsupported "configuration-unsupported" Error "The configuration asks for something that this version does not do; the last good one stays in force." "Remove the setting that is named.";
    BackendDown "backend-down" Error "The Seon API cannot be reached or answers wrongly; the last configuration stays in force." "Check the URL given with -U, the backend, and its certificate.";
    BackendUp "backend-up" Info "The Seon API answers again." "Nothing to do.";
    TokenRefused "token-refused" Error "The Seon API refuses the security token." "Check the token given with -T; `seon_backend token list` shows the known ones.";
    SnapshotRefused "snapshot-refused" Error "The proxyserver could not take the configuration over." "See the reason in the message; the one before stays in force.";
    CrlLeftOut "crl-left-out" Error "A CRL is not usable and was left out." "See the reason; have the backend fetch it again, or remove it.";
    CrlMissing "crl-missing" Error "No current CRL of the issuer is at hand." "Let the backend fetch the CRL; `revocation = prefer` would accept such a certificate.";
    CrlExpired "crl-expired" Error "The CRL of the issuer is past its nextUpdate." "Let the backend fetch a new one.";
    ExpiryWarning "expiry-warning" Error "A certificate, CRL or licence ends soon." "Renew it in time.";
    OutgoingIpUnavailable "outgoing-ip-unavailable" Fatal "The configured outgoing_ip is no address of the DMZ host." "Correct outgoing_ip in the configuration, or give the address to the host.";
    // Partner port
    PartnerPortOpen "partner-port-open" Info "Partners can connect." "Nothing to do.";
    PartnerPortClosed "partner-port-closed" Info "Partners cannot connect." "Nothing to do if a daemon was stopped; see the lines before it otherwise.";
    PartnerPortUnavailable "partner-port-unavailable" Error "An address for partners cannot be listened on." "See whether another program holds the port, or the address is not on this host.";
    // Sessions before pairing
    SessionPaired "session-paired" Info "A partner was verified and its session is paired." "Nothing to do.";
    LimitReached "limit-reached" Error "A connection was refused because a limit is reached." "See which limit, and from where the connections come.";
    AddressRefused "partner-address-refused" Error "The partner may not connect from this address." "Correct allow_from of the partner if the address is right.";
    HandshakeTimeout "handshake-timeout" Error "The peer did not finish the TLS handshake in time." "A port scanner needs no care; a partner should check its side.";
    HandshakeFailed "handshake-failed" Error "The TLS handshake with the peer failed." "See the reason in the message.";
    TlsTooOld "tls-too-old" Error "The peer only offers TLS that is no longer acceptable." "The partner must offer TLS 1.2 or 1.3 with ECDHE and AES-GCM or ChaCha20.";
    SigningFailed "signing-failed" Error "The inside did not sign the handshake." "See the line of the proxyclient at the same time.";
    SigningRefused "signing-refused" Error "The proxyserver asked for a signature on something that is no handshake of its session." "Treat the DMZ host as suspect.";
    PairingTimeout "pairing-timeout" Error "The inside did not pair the session in time." "See the proxyclient's log at the same time.";
    PairingRefused "pairing-refused" Error "The inside refused the session." "See the proxyclient's log at the same time.";
    // Judgement of partners (crate verification)
    CertificateMissing "partner-certificate-missing" Error "The peer showed no certificate." "The partner must configure a client certificate.";
    CertificateUnreadable "partner-certificate-unreadable" Error "The certificate cannot be read." "The partner must use a proper X.509 certificate.";
    CertificateExpired "partner-certificate-expired" Error "The certificate is no longer valid." "The partner must renew it.";
    CertificateNotYetValid "partner-certificate-not-yet-valid" Error "The certificate is not valid yet." "Compare the clocks; otherwise wait or get another one.";
    CertificateRevoked "partner-certificate-revoked" Error "The certificate is revoked." "The partner must get a new one; treat this use as suspect.";
    CertificateIssuerUnknown "partner-certificate-issuer-unknown" Error "The certificate does not chain to a configured anchor." "Add the issuer to anchors_pem or pin the certificate, if the partner is to be trusted; see whether an intermediate was not sent.";
    CertificateNotPinned "partner-certificate-not-pinned" Error "The certificate is none of the pinned ones." "Pin the new certificate if the partner announced it.";
    CertificateKeyTooWeak "partner-certificate-key-too-weak" Error "The key of a certificate is too weak." "The partner needs RSA from 2048 bits, P-256 or better.";
    CertificateSignatureInvalid "partner-certificate-signature-invalid" Error "A signature in the chain is wrong or of a kind that is not accepted." "The partner needs a chain signed with SHA-256 or better.";
    CertificateUsage "partner-certificate-usage" Error "The certificate may not be used for this." "The partner needs clientAuth (callers) or serverAuth (called), or set extended_key_usage to ignore.";
    CertificateChainInvalid "partner-certificate-chain-invalid" Error "The chain breaks a rule of RFC 5280." "See the rule in the message; the partner's CA must mend it.";
    CertificateNameMismatch "partner-certificate-name-mismatch" Error "The called partner's certificate is for another name." "Compare server_name with the certificate.";
    HandshakeSignatureInvalid "partner-handshake-signature-invalid" Error "The peer could not prove the key of its certificate." "Treat it as suspect.";
    PartnerUnknown "partner-unknown" Error "The certificate is valid and belongs to no configured partner." "Configure the partner, or unknown_partners.";
    PartnerDisabled "partner-disabled" Error "The partner is disabled." "Enable it if it may connect.";
    PartnerSessionsFull "partner-sessions-full" Error "The partner already has as many sessions as it may." "Raise max_sessions of the partner if that is meant.";
    SignatureReplayed "handshake-signature-replayed" Error "The proxyserver presented a handshake signature a second time." "Treat the DMZ host as suspect.";
    // Sessions after pairing
    SessionEnded "session-ended" Info "A session ended in order." "Nothing to do.";
    SessionAborted "session-aborted" Error "A session ended before its time." "See who ended it and with which reason.";
    SessionTimeout "session-timeout" Error "A session was ended because nothing came any more." "See which side was silent.";
    ProtocolViolation "oftp2-protocol-violation" Error "A peer broke a rule of RFC 5024; its message was not passed on." "Tell the partner (or the maker of the station) rule and section.";
    SsidCodeRefused "ssid-code-refused" Error "The identification code in SSID is not one of the partner's, or is another partner's." "Add it to this partner's ssid_codes if it may use it, too.";
    DeviationTolerated "oftp2-deviation-tolerated" Note "A peer deviates from RFC 5024 in a way that is tolerated; the message was passed on." "Nothing to do, but to tell the partner of a warning; the line says what `conformance: strict` would do.";
    DaemonUnreachable "receive-daemon-unreachable" Error "The receive daemon cannot be reached." "See whether it runs, and host and port of receive_daemon.";
    DaemonLost "receive-daemon-lost" Error "The receive daemon closed a session before its end." "See the receive daemon's own log.";
    PartnerLost "partner-lost" Error "The partner closed a session before its end." "The partner restarts the file; see its log if it repeats.";
    DataConnectionLost "data-connection-lost" Error "The data connection between the two daemons broke." "See whether the network between them works.";
    SessionStopped "session-stopped" Info "A session was ended because the daemon ends." "Nothing to do; the partner resumes later.";
    SessionWithdrawn "session-withdrawn" Error "A running session was ended because its partner no longer stands in the configuration." "Nothing to do if that was meant.";
    // Reports
    SpoolFull "spool-full" Error "Reports were dropped because the spool is full." "Bring the backend back; the numbers tell what is missing.";
    SpoolUnwritable "spool-unwritable" Error "Reports cannot be kept on disk." "See space and rights of the state directory.";
    InternalFault "internal-fault" Fatal "A process of the program has a fault and ended." "Send the log around this line to the makers.";
    SessionMisconduct "session-misconduct" Error "A session process asked for something that it may not ask for, and was ended." "Treat its peer, or the DMZ host, as suspect.";
    OutgoingOff "outgoing-off" Info "Outgoing sessions are off." "Inside stations must reach their partners another way.";
    GateAnew "gate-anew" Error "Sessions crashed again and again, so the gate executes itself anew; sessions in flight go on." "See the session-crashed lines before it and their peers; send the log around them to the makers.";
    IdentityUnreadable "identity-unreadable" Fatal "The identity key of this proxyserver cannot be read or made." "See the reason; the state directory must belong to the user that the proxyserver runs as.";
    ReportRefused "report-refused" Error "The backend refuses a report for ever; this one was dropped." "See the reason; backend and proxyclient should be of the same version.";
    // Outgoing sessions
    OutgoingPortOpen "outgoing-port-open" Info "Inside stations can connect for outgoing sessions." "Nothing to do.";
    OutgoingPortUnavailable "outgoing-port-unavailable" Error "An address for outgoing sessions of inside stations cannot be listened on." "See whether another program holds the port, or the address of the clients entry is not on this host.";
    StationRefused "outgoing-station-refused" Error "An inside station may not use the proxy for outgoing sessions from its address." "Add its address to allow_from of the clients entry if it may.";
    StationRequestInvalid "outgoing-request-invalid" Error "An inside station did not name a partner in a way that is understood." "Point the station here as HTTP (CONNECT) or SOCKS5 proxy without authentication, or use the partner's own listen_port.";
    TargetRefused "outgoing-target-refused" Error "An inside station asked for something that is no enabled partner's address." "Configure the partner's address, or correct host and port in the station.";
    StationLeft "outgoing-station-left" Info "The inside station left before its session stood." "Nothing to do if it was meant to.";
    CallNameUnknown "call-name-unknown" Error "The name in the partner's address cannot be resolved in the DMZ." "Check the partner's address and the name service of the DMZ host.";
    CallRefused "call-refused" Error "The partner's host refuses the connection." "Check the partner's address; its station may be down.";
    CallTimeout "call-timeout" Error "The partner's host does not answer." "Check the partner's address, the firewall of the DMZ towards it, and that the partner admits outgoing_ip.";
    CallUnreachable "call-unreachable" Error "The partner's host cannot be reached." "See the reason: routing and firewall of the DMZ host.";
    CallSourceUnavailable "call-source-unavailable" Error "The outgoing_ip to call a partner from is no address of the DMZ host; nobody can be called from it." "Correct outgoing_ip of the partner, or the common one, or give the address to the host.";
    CallAlert "call-alert" Error "The called partner ended the TLS handshake with an alert." "See which alert; the partner's log says why.";
    OwnCertificateRefused "own-certificate-refused" Error "The called partner refuses our certificate." "The partner must trust the proxy's certificate (identity); send it to them, and see whether it has ended.";
    CallSilent "call-silent" Error "The called partner answered in TLS and sent no SSRM." "See whether the address is that of an OFTP2 station; its log may say more.";
    Suspended "daemon-suspended" Note "The daemon was stopped from its terminal (Ctrl-Z), or goes on after that." "`fg` or `bg` in its shell lets it go on; until then nothing new is taken and nothing logged.";
    StationLost "outgoing-station-lost" Error "The inside station closed an outgoing session before its end." "See the station's own log.";
    // Checks and renewal
    LinkChecked "link-checked" Note "A --check asked whether the link would stand, and was answered." "Nothing to do.";
    LicenceRenewed "licence-renewed" Info "The licence file was changed and is in force." "Nothing to do.";
    LicenceUnusable "licence-unusable" Error "The licence file was changed and is not usable; the licence before it stays in force." "Correct the file as the message says; it is read again within seconds.";
    // Defence
    OffenderRefused "offender-refused" Error "An address was at fault again and again; nothing is taken from there for a while (offender_refuse_s)." "See its lines before this one; put the address into the partner's allow_from if it is a partner's.";
    LinkMisconduct "link-misconduct" Error "The proxyserver asked again and again for what no healthy one asks; the link is ended and dialled again after a pause." "Treat the DMZ host as suspect: see the lines before this one.";
    IgnoreEntryExpired "ignore-entry-expired" Info "An entry of the ignore list of seon_backend is over and was removed from its configuration file." "Nothing to do; add it again with a later `until` if its events are still not worth storing.";
    // Backend
    ConfigurationMended "configuration-mended" Info "The backend's configuration is good again." "Nothing to do.";
    ReportsWait "reports-wait" Error "Reports have waited for minutes because the backend does not take them; they stay in the spool." "See the reason; if the backend is there otherwise, its own log or that of a web server in front of it may say more.";
    ReportsArrive "reports-arrive" Info "The backend takes reports again." "Nothing to do.";
    // Files
    FileRefused "file-refused" Note "A station refused a file, or told that one was not delivered." "See reason and text; the log of the station that refused says more.";
    // Limits
    ExchangeBufferTooLarge "exchange-buffer-too-large" Error "Both stations agreed on larger data buffers than the configuration allows." "Raise limits.max_exchange_buffer, or have one of the two stations offer less.";
}

impl Situation {
    /// Writes the situation to the log, at the level of its severity. `text` says who, what was seen, what was expected;
    /// what comes from a peer must be escaped in it. A process that serves one session names it in every line by itself.
    pub fn tell(self, text: impl fmt::Display) {
        self.tell_about(&Particulars::default(), text);
    }

    /// As [`Situation::tell`] for one that is only a note, but at the level of a warning.
    pub fn warn(self, text: impl fmt::Display) {
        self.tell_at(Level::Warn, module_path!(), &Particulars::default(), text);
    }

    /// As [`Situation::tell`], with what is known beside the text.
    pub fn tell_about(self, about: &Particulars, text: impl fmt::Display) {
        let (level, target) = match self.severity() {
            Severity::Note | Severity::Info => (Level::Info, module_path!()),
            Severity::Error => (Level::Error, module_path!()),
            Severity::Fatal => (Level::Error, "FATAL"),
        };
        self.tell_at(level, target, about, text);
    }

    fn tell_at(self, level: Level, target: &str, about: &Particulars, text: impl fmt::Display) {
        if level > log::max_level() {
            return;
        }
        let pairs = about.pairs();
        let keys = Keys(self.code(), &pairs);
        let record = &mut Record::builder();
        let record = record.level(level).target(target).key_values(&keys);
        log::logger().log(&record.args(format_args!("{text}")).build());
    }

    /// Whether the DMZ may report it, or give it as the reason why a session never came to be. What only the inside can
    /// know (configuration, backend, token, its own start and end) the DMZ cannot.
    pub const fn of_dmz(self) -> bool {
        match self {
            // The daemon, its licence, its ports.
            Self::ServerStarted
            | Self::ServerStopped
            | Self::RoleDied
            | Self::SessionCrashed
            | Self::SessionKilled
            | Self::SessionMisconduct
            | Self::InternalFault
            | Self::GateAnew
            | Self::SnapshotRefused
            | Self::IdentityUnreadable
            | Self::LogRecordsDropped
            | Self::LicenceInvalid
            | Self::LicenceExpires
            | Self::LicenceExpired
            | Self::LicenceRenewed
            | Self::LicenceUnusable
            | Self::OutgoingIpUnavailable
            | Self::PartnerPortOpen
            | Self::PartnerPortClosed
            | Self::PartnerPortUnavailable
            // The link, from its side.
            | Self::LinkDown
            | Self::LinkGoodbye
            | Self::LinkRefused
            | Self::LinkClientUnlicensed
            | Self::LinkSecondClient
            | Self::LinkMessageInvalid
            | Self::InsideMissing
            | Self::DataConnectionRefused
            // Sessions that never came to be.
            | Self::LimitReached
            | Self::OffenderRefused
            | Self::AddressRefused
            | Self::HandshakeTimeout
            | Self::HandshakeFailed
            | Self::TlsTooOld
            | Self::SigningFailed
            | Self::SigningRefused
            | Self::PairingTimeout
            | Self::PairingRefused
            | Self::SessionAborted
            | Self::SessionStopped
            // What its judgement refuses.
            | Self::CertificateMissing
            | Self::CertificateUnreadable
            | Self::CertificateExpired
            | Self::CertificateNotYetValid
            | Self::CertificateRevoked
            | Self::CertificateIssuerUnknown
            | Self::CertificateNotPinned
            | Self::CertificateKeyTooWeak
            | Self::CertificateSignatureInvalid
            | Self::CertificateUsage
            | Self::CertificateChainInvalid
            | Self::CertificateNameMismatch
            | Self::HandshakeSignatureInvalid
            | Self::CrlMissing
            | Self::CrlExpired
            | Self::PartnerUnknown
            | Self::PartnerDisabled
            // What the inside gave as the reason of its refusal, which the DMZ's record repeats.
            | Self::PartnerSessionsFull
            | Self::SignatureReplayed
            | Self::DaemonUnreachable
            // Calls that came to nothing.
            | Self::CallNameUnknown
            | Self::CallRefused
            | Self::CallTimeout
            | Self::CallUnreachable
            | Self::CallSourceUnavailable
            | Self::CallAlert
            | Self::OwnCertificateRefused
            | Self::CallSilent
            | Self::TargetRefused
            | Self::StationLeft => true,
            _ => false,
        }
    }

    /// Whether a session that ended so ended by the fault of its peer, whose address may be refused for it.
    pub const fn is_fault_of_peer(self) -> bool {
        matches!(
            self,
            Self::HandshakeTimeout
                | Self::HandshakeFailed
                | Self::TlsTooOld
                | Self::AddressRefused
                | Self::CertificateMissing
                | Self::CertificateUnreadable
                | Self::CertificateExpired
                | Self::CertificateNotYetValid
                | Self::CertificateRevoked
                | Self::CertificateIssuerUnknown
                | Self::CertificateNotPinned
                | Self::CertificateKeyTooWeak
                | Self::CertificateSignatureInvalid
                | Self::CertificateUsage
                | Self::CertificateChainInvalid
                | Self::HandshakeSignatureInvalid
                | Self::PartnerUnknown
                | Self::ProtocolViolation
                | Self::SsidCodeRefused
        )
    }

    /// Whether the DMZ's side of a paired session may give it as the reason of its end (closing frame).
    pub const fn of_dmz_session(self) -> bool {
        matches!(
            self,
            Self::SessionEnded
                | Self::SessionAborted
                | Self::SessionTimeout
                | Self::ProtocolViolation
                | Self::SsidCodeRefused
                | Self::ExchangeBufferTooLarge
                | Self::PartnerLost
                | Self::DataConnectionLost
                | Self::SessionStopped
                | Self::OwnCertificateRefused
                | Self::CallAlert
                | Self::CallSilent
        )
    }

    /// As [`Situation::tell`], for a process that serves many sessions.
    pub fn tell_of(self, session: SessionId, text: impl fmt::Display) {
        self.tell_about(&Particulars { session: Some(session), ..Particulars::default() }, text);
    }
}

impl fmt::Display for Situation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_kebab_case_and_lead_back() {
        for (place, situation) in Situation::ALL.iter().enumerate() {
            let code = situation.code();
            assert!(
                code.bytes().all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-'),
                "{code}"
            );
            assert_eq!(Situation::by_code(code), Some(*situation));
            assert_eq!(postcard::to_allocvec(situation).unwrap(), [u8::try_from(place).unwrap()]);
            assert!(situation.sentence().ends_with('.') && situation.advice().ends_with('.'), "{code}");
        }
    }

    #[test]
    fn every_refusal_has_its_situation() {
        for code in verification::Refusal::CODES {
            assert!(Situation::by_code(code).is_some_and(Situation::of_dmz), "{code}");
        }
    }

    #[test]
    fn the_dmz_does_not_speak_for_the_inside() {
        for situation in Situation::ALL {
            let code = situation.code();
            let inside =
                ["configuration-", "backend-", "client-", "token-", "receive-daemon-lost", "crl-left", "spool-"];
            if inside.iter().any(|start| code.starts_with(start)) || code == "session-paired" {
                assert!(!situation.of_dmz() && !situation.of_dmz_session(), "{code}");
            }
        }
        // Why the relay of the DMZ ends, and nothing from before it.
        assert!(Situation::ProtocolViolation.of_dmz_session() && !Situation::ProtocolViolation.of_dmz());
        assert!(!Situation::HandshakeFailed.of_dmz_session() && !Situation::SessionWithdrawn.of_dmz_session());
    }
}

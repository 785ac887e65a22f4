//! Where a session is, and what may come there: the RFC's states (RFC 5024, 9.3) and the rows of its tables.

use super::{Monitor, Peer, Violation};
use crate::{
    command::{CommandName, Level},
    deviation::Deviation,
};
use std::{borrow::Cow, fmt};

/// Where a session is, named after the state of the side that acts next or, in the data phase, of the Speaker.
///
/// Between two stations the states of both are known from what has passed: beside each stands the state of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// `I_WF_RM`: the SSRM is due.
    IWfRm,
    /// `A_NC_ONLY` / `I_WF_RM`: the Initiator's SSID is due.
    ANcOnly,
    /// `A_WF_CONRS` / `I_WF_SSID`: the Responder's SSID is due.
    AWfConrs,
    /// `WF_SECD` / `WF_AUCH`: SECD of this side is due.
    WfSecd(Peer),
    /// `WF_AUCH` / `WF_AURP`: AUCH of this side is due.
    WfAuch(Peer),
    /// `WF_AURP` / `WF_SECD`: AURP of this side is due.
    WfAurp(Peer),
    /// `IDLESP` / `IDLELI`: nothing in progress.
    IdleSp,
    /// `IDLESP` / `IDLELI`, the turn having just been given because it was asked for.
    IdleSpRequested,
    /// `IDLESPCD` / `IDLELICD`: the turn has just been given without being asked for.
    IdleSpCd,
    /// `OPOP` / `OPIP`: a file is offered.
    OpOp,
    /// `OPO` / `OPI`: a file is sent, credit is left.
    Opo,
    /// `OPOWFC` / `OPI`: a file is sent, credit is used up.
    OpoWfc,
    /// `CLOP` / `CLIP`: a file has been sent, the answer is due.
    Clop,
    /// `WF_CD`: the Listener has asked for the turn.
    WfCd,
    /// `WF_RTR` / `RTRP`: EERP or NERP has been sent.
    WfRtr,
    /// `WF_NDISC`: the session is over.
    WfNdisc,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::IWfRm => "I_WF_RM",
            Self::ANcOnly => "A_NC_ONLY",
            Self::AWfConrs => "A_WF_CONRS",
            Self::WfSecd(_) => "WF_SECD",
            Self::WfAuch(_) => "WF_AUCH",
            Self::WfAurp(_) => "WF_AURP",
            Self::IdleSp | Self::IdleSpRequested => "IDLESP",
            Self::IdleSpCd => "IDLESPCD",
            Self::OpOp => "OPOP",
            Self::Opo => "OPO",
            Self::OpoWfc => "OPOWFC",
            Self::Clop => "CLOP",
            Self::WfCd => "WF_CD",
            Self::WfRtr => "WF_RTR",
            Self::WfNdisc => "WF_NDISC",
        })
    }
}

/// What the tables say of a command in a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// It may come now.
    Now,
    /// The tables forbid it; real stations do it.
    Tolerated(Deviation),
    /// It may not come.
    Never,
}

impl Monitor {
    /// Whether this command may come now from this side; a deviation is to be told, or refused where the RFC's word is
    /// insisted on. ESID is not asked for: it may come at any time from either side.
    pub(super) fn due(&self, from: Peer, name: CommandName) -> Result<Option<Deviation>, Violation> {
        match self.row(from, name) {
            Due::Now => Ok(None),
            Due::Tolerated(deviation) => Ok(Some(deviation)),
            Due::Never => {
                let row = self.row_against(from == self.speaker, name);
                Err(Violation::out_of_place(from, row, name, self.what_is_due(from), self.phase))
            }
        }
    }

    /// RFC 5024, 9.8 and 9.10 to 9.12, with the letters of their rows.
    fn row(&self, from: Peer, name: CommandName) -> Due {
        use CommandName::{
            Auch, Aurp, Cd, Cdt, Data, Eerp, Efid, Efna, Efpa, Nerp, Rtr, Secd, Sfid, Sfna, Sfpa, Ssid, Ssrm,
        };
        use Due::{Never, Now, Tolerated};
        use Phase::{
            ANcOnly, AWfConrs, Clop, IWfRm, IdleSp, IdleSpCd, IdleSpRequested, OpOp, Opo, OpoWfc, WfAuch, WfAurp, WfCd,
            WfRtr, WfSecd,
        };
        let initiator = from == Peer::Initiator;
        let speaker = from == self.speaker;
        match (self.phase, name) {
            // RFC 5024, 9.8
            (IWfRm, Ssrm) if !initiator => Now,      // H
            (ANcOnly, Ssid) if initiator => Now,     // E
            (AWfConrs, Ssid) if !initiator => Now,   // D
            (WfSecd(by), Secd) if by == from => Now, // J
            (WfAuch(by), Auch) if by == from => Now, // I
            (WfAurp(by), Aurp) if by == from => Now, // K
            // RFC 5024, 9.12: what the Speaker may send
            (IdleSp | IdleSpRequested | IdleSpCd, Sfid | Eerp | Nerp) if speaker => Now, // A, E, L
            (IdleSp | IdleSpRequested, Cd) if speaker => Now,                            // C
            (Opo, Data) if speaker => Now,                                               // I
            (Opo, Efid) if speaker => Now,                                               // J
            (WfCd, Cd) if speaker => Now,                                                // 9.10 H
            (WfCd, Sfid | Eerp | Nerp) if speaker && self.may_keep_the_turn() => Now,    // RFC 2204, 8.11 C
            // RFC 5024, 9.10 and 9.11: what the Listener may send
            (OpOp, Sfpa | Sfna) if !speaker => Now, // K, L
            (OpoWfc, Cdt) if !speaker => Now,       // O
            (Clop, Efpa | Efna) if !speaker => Now, // 9.11 C, D
            (WfRtr, Rtr) if !speaker => Now,        // N
            // Tolerated: credit is given in advance, to keep the line busy (D15).
            (Opo, Cdt) if !speaker => Tolerated(Deviation::EarlyCredit), // P
            // RFC 5024, 9.12: the last credit is answered, whether the Speaker waits for that or not.
            (Clop, Cdt) if !speaker && self.credit_is_due() => Now,
            // Tolerated: such credit then meets the end of the file (D16).
            (Clop, Cdt) if !speaker => Tolerated(Deviation::CreditAfterEndOfFile), // C
            // Tolerated: the Speaker does not wait for credit it needs no more (D16).
            (OpoWfc, Efid) if speaker => Tolerated(Deviation::EndOfFileWithoutCredit), // 9.11 E
            // The tables' own answer to everything else is ESID 02.
            _ => Never,
        }
    }

    /// RFC 2204 gives the turn away after EFPA(Y) only when both sides send files; its Speaker may go on otherwise.
    fn may_keep_the_turn(&self) -> bool {
        self.agreement.as_ref().is_some_and(|agreement| {
            agreement.level <= Level::L2 && !(agreement.initiator_sends && agreement.responder_sends)
        })
    }

    /// The row that ends with ESID 02 for a command out of place.
    fn row_against(&self, speaker: bool, name: CommandName) -> &'static str {
        use CommandName::{Cdt, Data, Efna, Efpa};
        match (self.phase, name) {
            (Phase::IWfRm | Phase::ANcOnly | Phase::AWfConrs, _) => "9.8",
            (Phase::WfSecd(_) | Phase::WfAuch(_) | Phase::WfAurp(_), _) => "9.8 L",
            (Phase::OpoWfc, Data) if speaker => "9.12 I",
            (Phase::Opo, Cdt) if !speaker => "9.10 P",
            (Phase::Opo | Phase::OpoWfc, Efpa | Efna) if !speaker => "9.11 B",
            _ if speaker => "9.12 B",
            _ => "9.10 C",
        }
    }

    /// What this side may send here.
    fn what_is_due(&self, from: Peer) -> Cow<'static, str> {
        let exists = |name: CommandName| self.level().is_none_or(|level| name.exists_at(level));
        let due: Vec<&str> = CommandName::ALL
            .iter()
            .filter(|name| exists(**name) && self.row(from, **name) == Due::Now)
            .map(|name| name.as_str())
            .collect();
        match due.as_slice() {
            [] => Cow::Borrowed("nothing but ESID expected from this side"),
            commands => Cow::Owned(format!("{} or ESID expected", commands.join(", "))),
        }
    }
}

//! Transfer of a file: SFID to EFPA or EFNA, credit, and the turn (RFC 5024, 9.10 to 9.12).

use super::{
    FileName, FileOffer, Monitor, Notice, Peer, Phase, Place, Violation,
    tally::{Records, Tally},
};
use crate::{
    command::{CommandName, Efid, Efna, Efpa, Sfid, Sfna, Sfpa, torn},
    deviation::{Conformance, Deviation, Deviations},
    reason::SessionEndReason,
    subrecord,
};

/// The file in progress.
#[derive(Debug)]
pub(super) struct OpenFile {
    name: FileName,
    from: Peer,
    signed_response: bool,
    /// SFIDREST.
    restart_offered: u64,
    /// SFPAACNT.
    restart: u64,
    tally: Tally,
    /// Data buffers that may still come: exact for stations that give credit when it is used up, else the upper bound.
    credit: u64,
    /// The EFID did not wait for the CDT that its last data buffer is owed.
    credit_due: bool,
}

impl OpenFile {
    pub(super) fn name(&self) -> &FileName {
        &self.name
    }

    pub(super) fn from(&self) -> Peer {
        self.from
    }

    pub(super) fn signed_response(&self) -> bool {
        self.signed_response
    }
}

impl Monitor {
    /// RFC 5024, 9.12 A.
    pub(super) fn sfid(&mut self, from: Peer, sfid: &Sfid) -> Result<Notice, Violation> {
        let refuse = |field, position, expected: &'static str, seen: String| {
            let place = Some(Place { field, position });
            let reason = SessionEndReason::ProtocolViolation;
            Err(Violation::of_rule(from, "9.12 A", Some(CommandName::Sfid), place, expected.into(), seen, reason))
        };
        if let Some(agreement) = &self.agreement {
            // RFC 5024, 9.12 A, P1.
            if !agreement.may_send_files(from) {
                return refuse("SFIDCMD", 0, "no file from a side that agreed only to receive", "SFID".to_owned());
            }
            if sfid.restart.get() > 0 && !agreement.restart {
                let position = if agreement.level == crate::command::Level::L5 { 138 } else { 119 };
                return refuse("SFIDREST", position, "0 without agreed restart expected", sfid.restart.to_string());
            }
        }
        let offer = FileOffer {
            from,
            file: FileName::from(sfid),
            format: sfid.format,
            record_length: sfid.record_length,
            size: sfid.size,
            original_size: sfid.original_size,
            restart: sfid.restart.get(),
            protection: sfid.protection,
            description: sfid.description.clone(),
        };
        self.file = Some(OpenFile {
            name: offer.file.clone(),
            from,
            signed_response: sfid.protection.signed_response(),
            restart_offered: offer.restart,
            restart: 0,
            tally: Tally::new(Records::of(sfid)),
            credit: 0,
            credit_due: false,
        });
        self.has_done_something = true;
        self.phase = Phase::OpOp;
        Ok(Notice::FileOffered(Box::new(offer)))
    }

    /// RFC 5024, 9.10 K.
    pub(super) fn sfpa(&mut self, from: Peer, sfpa: Sfpa) -> Result<Notice, Violation> {
        let restart = sfpa.answer_count.get();
        let window = self.window();
        if let Some(file) = &mut self.file {
            // RFC 5024, 9.10 K, P2.
            if restart > file.restart_offered {
                return Err(Violation::of_rule(
                    from,
                    "9.10 K",
                    Some(CommandName::Sfpa),
                    Some(Place { field: "SFPAACNT", position: 1 }),
                    format!("at most the {} of SFIDREST expected", file.restart_offered).into(),
                    restart.to_string(),
                    SessionEndReason::ProtocolViolation,
                ));
            }
            file.restart = restart;
            file.credit = window;
        }
        self.phase = Phase::Opo;
        Ok(Notice::FileAccepted { restart })
    }

    /// RFC 5024, 9.10 L.
    pub(super) fn sfna(&mut self, sfna: Sfna) -> Notice {
        self.file = None;
        self.phase = Phase::IdleSp;
        Notice::FileRefused { reason: sfna.reason, retry: sfna.retry, text: sfna.text }
    }

    /// RFC 5024, 9.12 I. Steps over the headers of the subrecords; allocates and copies nothing.
    pub(super) fn data(
        &mut self,
        from: Peer,
        exchange_buffer: &[u8],
        seen: &mut Deviations,
    ) -> Result<Notice, Violation> {
        let (largest, compression) = match &self.agreement {
            Some(agreement) => (agreement.buffer_size.octets() as usize, agreement.compression),
            None => (0, false),
        };
        if exchange_buffer.len() > largest {
            return Err(Violation::of_rule(
                from,
                "5.3.6",
                Some(CommandName::Data),
                Some(Place { field: "length", position: 0 }),
                format!("at most the {largest} octets of SSIDSDEB as agreed expected").into(),
                format!("{} octets", exchange_buffer.len()),
                SessionEndReason::ExchangeBufferSize,
            ));
        }
        let subrecords = exchange_buffer.get(1..).unwrap_or_default();
        let walk = subrecord::walk(subrecords).map_err(|error| Violation::of_decoding(from, torn(error)))?;
        let Some(file) = &mut self.file else { return Ok(Notice::Data { units: 0 }) };
        file.credit = file.credit.saturating_sub(1);
        if file.credit == 0 {
            self.phase = Phase::OpoWfc;
        }
        let mut odd = file.tally.add(&walk);
        if subrecords.is_empty() {
            // Tolerated: not excluded, and it costs one credit (D57).
            odd.insert(Deviation::EmptyDataBuffer);
        }
        if walk.compressed && !compression {
            // Tolerated: most stations expand what comes, agreed or not (D40).
            odd.insert(Deviation::CompressionNotAgreed);
        }
        if !odd.is_empty() {
            self.tolerate_all(from, CommandName::Data, odd, seen)?;
        }
        Ok(Notice::Data { units: walk.units })
    }

    /// RFC 5024, 9.10 O. A CDT says no number; it fills the credit up.
    pub(super) fn cdt(&mut self) -> Notice {
        let window = self.window();
        let strict = self.settings.conformance == Conformance::Strict;
        if let Some(file) = self.file.as_mut().filter(|_| self.phase == Phase::Clop) {
            file.credit_due = false;
        } else if let Some(file) = &mut self.file {
            // A CDT given early crosses buffers that the Listener has not seen, and the Speaker may have spent all its
            // old credit before it comes: the bound is the sum. Given at zero, as the RFC wants it, both are the same.
            file.credit = if strict { window } else { file.credit.saturating_add(window) };
            self.phase = Phase::Opo;
        }
        Notice::Credit
    }

    /// RFC 5024, 9.12 J.
    pub(super) fn efid(&mut self, from: Peer, efid: Efid, seen: &mut Deviations) -> Result<Notice, Violation> {
        let (mut odd, mut counted) = Default::default();
        if let Some(file) = &self.file {
            odd = file.tally.end(file.restart, efid);
            counted = file.tally.count();
        }
        self.tolerate_all(from, CommandName::Efid, odd, seen)?;
        if let Some(file) = &mut self.file {
            file.credit_due = self.phase == Phase::OpoWfc;
        }
        self.phase = Phase::Clop;
        Ok(Notice::FileEnded { records: efid.records.get(), units: efid.units.get(), counted })
    }

    /// RFC 5024, 9.11 C.
    pub(super) fn efpa(&mut self, efpa: Efpa) -> Notice {
        if let Some(file) = self.file.take() {
            self.known_files.remember(&file);
        }
        self.phase = if efpa.change_direction { Phase::WfCd } else { Phase::IdleSp };
        Notice::FileAcknowledged { turn_requested: efpa.change_direction }
    }

    /// RFC 5024, 9.11 D. The turn stays where it is.
    pub(super) fn efna(&mut self, efna: Efna) -> Notice {
        self.file = None;
        self.phase = Phase::IdleSp;
        Notice::FileRejected { reason: efna.reason, text: efna.text }
    }

    /// RFC 5024, 9.10 H and 9.12 C.
    pub(super) fn cd(&mut self) -> Notice {
        self.has_done_something = true;
        self.speaker = self.speaker.other();
        self.phase = if self.phase == Phase::WfCd { Phase::IdleSpRequested } else { Phase::IdleSpCd };
        Notice::TurnChanged { speaker: self.speaker }
    }

    /// Whether a CDT has still to come although the EFID has passed.
    pub(super) fn credit_is_due(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.credit_due)
    }

    fn window(&self) -> u64 {
        self.agreement.as_ref().map_or(0, |agreement| agreement.credit.buffers().into())
    }

    fn tolerate_all(
        &self,
        from: Peer,
        name: CommandName,
        odd: Deviations,
        seen: &mut Deviations,
    ) -> Result<(), Violation> {
        odd.iter().try_for_each(|deviation| self.tolerate(from, name, deviation, seen))
    }
}

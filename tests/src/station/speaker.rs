//! A file on its way out (RFC 5024, 9.10 and 9.11): SFID, DATA within the credit, EFID.

use super::command::{Command, FileId, Sfid};
use super::data::Packer;
use super::event::Event;
use super::failure::{Failure, Malformed};
use super::files::{BLOCK, Format, Opened, OutgoingFile};
use super::report::{Outcome, Sent};
use super::session::{Session, next};

/// How a file came out, as far as the turn goes.
pub(super) struct FileDone {
    /// EFPA asked for the turn.
    pub turn_wanted: bool,
}

impl Session<'_> {
    /// Sends one file. A refusal (SFNA, EFNA) is a result, not a failure.
    pub(super) fn send_file(&mut self, file: &OutgoingFile) -> Result<FileDone, Failure> {
        let failed = |source| Failure::File { path: file.path(), source };
        let mut content = file.open().map_err(failed)?;
        let octets = content.octets;
        let sfid = self.announce(file, &content)?;
        let place = self.report.sent.len();
        let (id, outcome) = (sfid.id.clone(), Outcome::Incomplete);
        self.report.sent.push(Sent { file: id, octets, sha256: None, outcome, responded: false });
        self.connection.send(&Command::Sfid(sfid.clone()))?;
        let count = match next(self.connection)? {
            Command::Sfpa { count } if count <= sfid.restart => count,
            Command::Sfpa { count } => {
                let what = format!("SFPAACNT {count} is more than SFIDREST {}", sfid.restart);
                return Err(Malformed { esid: super::reason::esid::PROTOCOL, what }.into());
            }
            Command::Sfna { reason, retry, text } => return self.refused(place, file, reason, retry, text),
            other => return Err(Malformed::out_of_place(other.name(), "OPOP").into()),
        };
        let records = file.format.records();
        let from = content.skip(count, records).map_err(failed)?;
        let dataset = file.dataset.clone();
        self.settings.tell(Event::FileStarted { sending: true, dataset, octets, from })?;

        let left = content.raw;
        let counted = content.records;
        let mut packer = Packer::new(&mut content, left, records, self.agreement.compression);
        self.send_data(&mut packer, file, from, octets).map_err(|failure| match failure {
            Failure::Io { doing: READ, source } => failed(source),
            other => other,
        })?;
        self.connection.send(&Command::Efid { records: counted, octets })?;
        loop {
            match next(self.connection)? {
                Command::Efpa { turn } => {
                    let sha256 = content.sha256();
                    if let Some(sent) = self.report.sent.get_mut(place) {
                        (sent.sha256, sent.outcome) = (Some(sha256.clone()), Outcome::Accepted);
                    }
                    self.settings.tell(Event::FileSent { dataset: file.dataset.clone(), octets, sha256 })?;
                    return Ok(FileDone { turn_wanted: turn });
                }
                Command::Efna { reason, text } => return self.refused(place, file, reason, false, text),
                Command::Cdt => {} // Tolerated: sent before the EFID had arrived.
                other => return Err(Malformed::out_of_place(other.name(), "CLOP").into()),
            }
        }
    }

    fn send_data<R: std::io::Read>(
        &mut self,
        packer: &mut Packer<R>,
        file: &OutgoingFile,
        from: u64,
        octets: u64,
    ) -> Result<(), Failure> {
        let room = usize::try_from(self.agreement.buffer_size).unwrap_or(usize::MAX) - 1;
        let mut credit = self.agreement.credit;
        let mut subrecords = Vec::with_capacity(room);
        while packer.next(room, &mut subrecords).map_err(Failure::io(READ))? {
            while credit == 0 {
                match next(self.connection)? {
                    Command::Cdt => credit = self.agreement.credit,
                    other => return Err(Malformed::out_of_place(other.name(), "OPOWFC").into()),
                }
            }
            let data = Command::Data(std::mem::take(&mut subrecords));
            self.connection.send(&data)?;
            if let Command::Data(sent) = data {
                subrecords = sent;
            }
            credit -= 1;
            let done = from + packer.packed();
            self.settings.tell(Event::Progress { sending: true, dataset: file.dataset.clone(), done, octets })?;
            match self.connection.receive_if_there()? {
                None => {}
                Some(Command::Cdt) => credit = self.agreement.credit,
                Some(Command::Esid { reason, text }) => return Err(Failure::Esid { code: reason, text }),
                Some(other) => return Err(Malformed::out_of_place(other.name(), "OPO").into()),
            }
        }
        // RFC 5024, 9.11 E: no EFID while the credit is used up.
        while credit == 0 && self.connection.waits_for_credit() {
            match next(self.connection)? {
                Command::Cdt => credit = self.agreement.credit,
                other => return Err(Malformed::out_of_place(other.name(), "OPOWFC").into()),
            }
        }
        Ok(())
    }

    fn announce(&self, file: &OutgoingFile, content: &Opened) -> Result<Sfid, Failure> {
        let octets = content.octets;
        let blocks = octets.div_ceil(BLOCK);
        let (format, record_length, whole) = match file.format {
            Format::Unstructured => ('U', 0, octets / BLOCK),
            Format::Text => ('T', 0, octets / BLOCK),
            Format::Fixed(length) => ('F', u64::from(length), content.records),
            Format::Variable(most) => ('V', u64::from(most), content.records),
        };
        if format == 'F' && (record_length == 0 || !octets.is_multiple_of(record_length)) {
            let dataset = &file.dataset;
            return Err(Failure::Setting(format!("{dataset}: {octets} octets are no records of {record_length}")));
        }
        let (date, time) = file.stamp.clone();
        let destination = file.destination.clone().unwrap_or_else(|| self.agreement.peer_code.clone());
        let originator = self.settings.code.clone();
        Ok(Sfid {
            id: FileId { dataset: file.dataset.clone(), date, time, destination, originator },
            format,
            record_length,
            size: blocks,
            original_size: blocks,
            // Any position will do: the other end knows what it has.
            restart: if self.agreement.restart { whole } else { 0 },
            security: 0,
            cipher: file.signed_response.map_or(0, u64::from),
            compressed: false,
            enveloped: false,
            signed_response: file.signed_response.is_some(),
            description: file.description.clone(),
        })
    }

    fn refused(
        &mut self,
        place: usize,
        file: &OutgoingFile,
        reason: u8,
        retry: bool,
        text: String,
    ) -> Result<FileDone, Failure> {
        if let Some(sent) = self.report.sent.get_mut(place) {
            sent.outcome = Outcome::Refused { reason, retry };
        }
        self.settings.tell(Event::FileRefused { dataset: file.dataset.clone(), reason, retry, text })?;
        Ok(FileDone { turn_wanted: false })
    }
}

const READ: &str = "read the file";

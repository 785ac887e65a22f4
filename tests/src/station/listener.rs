//! A file on its way in (RFC 5024, 9.12): the answer to SFID, DATA and credit, the answer to EFID.

use std::path::Path;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA3_512, SHA256, SHA512};

use super::command::{Command, Sfid};
use super::data::{Records, unpack};
use super::event::Event;
use super::failure::{Failure, Malformed};
use super::files::{Content, Decline, Format, Incoming, OutgoingFile, response_hash};
use super::reason::{esid, file as refused};
use super::report::Received;
use super::session::{Response, Session, Turn, next};

impl Session<'_> {
    /// Takes one file, or declines it.
    pub(super) fn receive_file(&mut self, sfid: Sfid) -> Result<Turn, Failure> {
        if sfid.restart > 0 && !self.agreement.restart {
            let what = format!("SFIDREST is {} and restart was not agreed on", sfid.restart);
            return Err(Malformed { esid: esid::PROTOCOL, what }.into());
        }
        let mut file = match self.open(&sfid) {
            Ok(file) => file,
            Err(decline) => {
                let (dataset, text) = (sfid.id.dataset, decline.text);
                let (reason, retry) = (decline.reason, decline.retry);
                self.settings.tell(Event::FileDeclined { dataset, reason, text: text.clone() })?;
                self.report.declined += 1;
                self.connection.send(&Command::Sfna { reason, retry, text })?;
                return Ok(Turn::Listen { after_cd: false });
            }
        };
        let (dataset, from) = (sfid.id.dataset.clone(), file.octets);
        let octets = sfid.size.saturating_mul(1024);
        self.settings.tell(Event::FileStarted { sending: false, dataset, octets, from })?;
        self.connection.send(&Command::Sfpa { count: file.position })?;

        let counted = self.receive_data(&sfid, &mut file)?;
        let layout = file.layout;
        // The counts of enveloped files are told in two ways by partners (RFC 5024, 5.3.3); theirs is not looked at.
        let counts_records = !is_enveloped(&sfid);
        let expected = if layout == Records::One { 0 } else { file.records };
        let result = match counted {
            Command::Efid { records: announced, .. } if counts_records && announced != expected => {
                file.discard();
                Err(decline(refused::RECORDS, format!("{announced} records announced, {expected} came")))
            }
            Command::Efid { octets: announced, .. } if announced != file.octets => {
                let text = format!("{announced} octets announced, {} came", file.octets);
                file.discard();
                Err(decline(refused::OCTETS, text))
            }
            _ => {
                let octets = file.octets;
                file.finish().map(|(path, sha256)| (octets, path, sha256))
            }
        };
        let dataset = sfid.id.dataset.clone();
        match result {
            Ok((octets, path, sha256)) => {
                let (file, stored) = (sfid.id.clone(), path.clone());
                let received = Received { file, octets, sha256: sha256.clone(), path: path.clone() };
                self.report.received.push(received);
                self.settings.tell(Event::FileReceived { dataset, octets, sha256, path })?;
                self.owe(sfid, &stored, layout)?;
                let turn = self.settings.ask_for_turn && !(self.responses.is_empty() && self.outbox.is_empty());
                self.connection.send(&Command::Efpa { turn })?;
                if turn { self.wait_for_turn() } else { Ok(Turn::Listen { after_cd: false }) }
            }
            Err(Decline { reason, text, .. }) => {
                self.settings.tell(Event::FileDeclined { dataset, reason, text: text.clone() })?;
                self.report.declined += 1;
                self.connection.send(&Command::Efna { reason, text })?;
                Ok(Turn::Listen { after_cd: false })
            }
        }
    }

    fn open(&self, sfid: &Sfid) -> Result<Incoming, Decline> {
        let Some(store) = &self.store else {
            return Err(decline(refused::DIRECTION, "this station takes no files".into()));
        };
        store.begin(sfid, self.agreement.restart)
    }

    /// Notes what the originator of a file that has come gets for it: a response, the file itself in `echo`.
    fn owe(&mut self, sfid: Sfid, path: &Path, layout: Records) -> Result<(), Failure> {
        if self.settings.echo {
            let format = match (sfid.format, layout) {
                ('V', Records::Variable) => Format::Variable(u32::try_from(sfid.record_length).unwrap_or(u32::MAX)),
                ('F', Records::Fixed(length)) => Format::Fixed(u32::try_from(length).unwrap_or(u32::MAX)),
                ('T', _) => Format::Text,
                _ => Format::Unstructured,
            };
            let mut back = OutgoingFile::from_octets(&sfid.id.dataset, []);
            back.content = Content::Path(path.to_owned());
            (back.format, back.description) = (format, sfid.description);
            back.destination = Some(sfid.id.originator.clone());
            self.outbox.push_back(back);
        }
        if !self.settings.eerp && self.settings.negative_response.is_none() {
            return Ok(());
        }
        let mut signed = None;
        if sfid.signed_response
            && let Some(signature) = &self.settings.signature
        {
            let algorithm = match sfid.cipher {
                1 | 2 => &SHA1_FOR_LEGACY_USE_ONLY,
                5 | 6 | 9 => &SHA512,
                7 | 10 => &SHA3_512,
                _ => &SHA256,
            };
            let hash = response_hash(path, layout, algorithm)
                .map_err(|source| Failure::File { path: path.to_owned(), source })?;
            signed = Some((hash, signature.to_vec()));
        }
        self.responses.push_back(Response { file: sfid.id, signed });
        Ok(())
    }

    /// Takes DATA until the EFID, which is returned.
    fn receive_data(&mut self, sfid: &Sfid, file: &mut Incoming) -> Result<Command, Failure> {
        let window = self.agreement.credit;
        let mut credit = window;
        let (mut octets, mut ends) = (Vec::new(), Vec::new());
        loop {
            match next(self.connection)? {
                Command::Data(_) if credit == 0 => {
                    let what = "DATA with the credit used up".into();
                    return Err(Malformed { esid: esid::PROTOCOL, what }.into());
                }
                Command::Data(subrecords) if subrecords.len() as u64 + 1 > self.agreement.buffer_size => {
                    let (length, agreed) = (subrecords.len() + 1, self.agreement.buffer_size);
                    return Err(Malformed::size(format!("DATA has {length} octets, {agreed} agreed on")).into());
                }
                Command::Data(subrecords) => {
                    octets.clear();
                    ends.clear();
                    unpack(&subrecords, &mut octets, &mut ends)?;
                    file.write(&octets, &ends);
                    credit -= 1;
                    if credit == 0 {
                        self.connection.send(&Command::Cdt)?;
                        credit = window;
                    }
                    let (dataset, done) = (sfid.id.dataset.clone(), file.octets);
                    let octets = sfid.size.saturating_mul(1024).max(done);
                    self.settings.tell(Event::Progress { sending: false, dataset, done, octets })?;
                }
                efid @ Command::Efid { .. } => return Ok(efid),
                other => return Err(Malformed::out_of_place(other.name(), "OPI").into()),
            }
        }
    }

    /// After EFPA(Y) the other end gives the turn at once (RFC 5024, 9.11 C).
    fn wait_for_turn(&mut self) -> Result<Turn, Failure> {
        match next(self.connection)? {
            Command::Cd => Ok(Turn::Speak),
            other => Err(Malformed::out_of_place(other.name(), "WF_CD").into()),
        }
    }
}

fn is_enveloped(sfid: &Sfid) -> bool {
    sfid.security != 0 || sfid.compressed
}

fn decline(reason: u8, text: String) -> Decline {
    Decline { reason, retry: false, text }
}

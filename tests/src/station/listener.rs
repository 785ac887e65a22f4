//! A file on its way in (RFC 5024, 9.12): the answer to SFID, DATA and credit, the answer to EFID.

use super::command::{Command, Sfid};
use super::data::unpack;
use super::event::Event;
use super::failure::{Failure, Malformed};
use super::files::{Decline, Incoming};
use super::reason::{esid, file as refused};
use super::report::Received;
use super::session::{Session, Turn, next};

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
        self.connection.send(&Command::Sfpa { count: file.blocks })?;

        let (records, counted) = self.receive_data(&sfid, &mut file)?;
        let fixed = sfid.format == 'F' && !is_enveloped(&sfid);
        let result = match counted {
            Command::Efid { records: announced, .. } if fixed && announced != records => {
                file.discard();
                Err(decline(refused::RECORDS, format!("{announced} records announced, {records} came")))
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
                let received = Received { file: sfid.id.clone(), octets, sha256: sha256.clone(), path: path.clone() };
                self.report.received.push(received);
                self.settings.tell(Event::FileReceived { dataset, octets, sha256, path })?;
                if self.settings.eerp {
                    self.responses.push_back(sfid.id);
                }
                let turn = self.settings.ask_for_turn && (self.settings.eerp || !self.outbox.is_empty());
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
        if sfid.format == 'V' && !is_enveloped(sfid) {
            return Err(decline(refused::FORMAT, "format V".into()));
        }
        // A restart position counts records in format F; this store counts blocks.
        store.begin(sfid, self.agreement.restart && sfid.format != 'F')
    }

    /// Takes DATA until the EFID, which is returned with the number of records seen.
    fn receive_data(&mut self, sfid: &Sfid, file: &mut Incoming) -> Result<(u64, Command), Failure> {
        let window = self.agreement.credit;
        let (mut credit, mut records) = (window, 0);
        let mut octets = Vec::new();
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
                    records += unpack(&subrecords, &mut octets)?.records;
                    file.write(&octets);
                    credit -= 1;
                    if credit == 0 {
                        self.connection.send(&Command::Cdt)?;
                        credit = window;
                    }
                    let (dataset, done) = (sfid.id.dataset.clone(), file.octets);
                    let octets = sfid.size.saturating_mul(1024).max(done);
                    self.settings.tell(Event::Progress { sending: false, dataset, done, octets })?;
                }
                efid @ Command::Efid { .. } => return Ok((records, efid)),
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

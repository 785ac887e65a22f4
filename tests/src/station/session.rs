//! One session from both SSIDs to its end: who holds the turn (RFC 5024, 3.3.4 and 9.10 to 9.12) and what it does with it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::command::{Command, Eerp, FileId, Level, Nerp};
use super::connection::Connection;
use super::event::Event;
use super::failure::{Failure, Malformed};
use super::files::{OutgoingFile, Store};
use super::misbehaviour::Terms;
use super::negotiation::{Agreement, initiate, respond};
use super::report::Report;
use super::{Settings, authentication, reason};

/// How this end came to the turn, or what it waits for.
pub(super) enum Turn {
    /// First Speaker, or turn received after EFPA(Y): the session cannot be ended with ESID 00 here.
    Speak,
    /// A CD that nobody asked for: having nothing to say, this end may end the session.
    SpeakOrEnd,
    /// The other end has the turn. `after_cd`: it may end the session, as this end has given the turn away.
    Listen { after_cd: bool },
    /// ESID 00 has passed.
    Ended,
}

/// What the originator of a file that has come is to get.
pub(super) struct Response {
    pub file: FileId,
    /// Hash and signature, where they were asked for and this end has them.
    pub signed: Option<(Vec<u8>, Vec<u8>)>,
}

/// A running session.
pub(super) struct Session<'a> {
    pub connection: &'a mut Connection,
    pub settings: &'a Settings,
    pub agreement: Agreement,
    pub outbox: VecDeque<OutgoingFile>,
    pub store: Option<Arc<Store>>,
    /// Files received and not yet answered with EERP or NERP.
    pub responses: VecDeque<Response>,
    pub report: &'a mut Report,
}

/// Runs a session on a connection that stands. `called`: this end is the Responder.
pub(super) fn run(
    connection: &mut Connection,
    settings: &Settings,
    called: bool,
    outbox: Vec<OutgoingFile>,
    store: Option<Arc<Store>>,
    report: &mut Report,
) -> Result<(), Failure> {
    connection.set_tamper(settings.tamper.clone());
    connection.set_rule(settings.misbehave);
    let agreement = if called { respond(connection, settings)? } else { initiate(connection, settings)? };
    connection.set_terms(&agreement);
    if agreement.authentication {
        authentication::run(connection, called)?;
    }
    report.agreement = Some(agreement.clone());
    settings.tell(Event::SessionStarted {
        peer_code: agreement.peer_code.clone(),
        level: agreement.level,
        buffer_size: agreement.buffer_size,
        credit: agreement.credit,
        restart: agreement.restart,
    })?;
    let outbox = outbox.into();
    let mut session = Session { connection, settings, agreement, outbox, store, responses: VecDeque::new(), report };
    // RFC 5024, 3.3.4.1: the Initiator is the first Speaker.
    let mut turn = if called { Turn::Listen { after_cd: false } } else { Turn::Speak };
    loop {
        turn = match turn {
            Turn::Speak => session.speak(false)?,
            Turn::SpeakOrEnd => session.speak(true)?,
            Turn::Listen { after_cd } => session.listen(after_cd)?,
            Turn::Ended => return settings.tell(Event::SessionEnded),
        };
    }
}

/// The next command; an ESID ends the session wherever it comes.
pub(super) fn next(connection: &mut Connection) -> Result<Command, Failure> {
    match connection.receive()? {
        Command::Esid { reason, text } => Err(Failure::Esid { code: reason, text }),
        command => Ok(command),
    }
}

impl Session<'_> {
    fn may_send(&self) -> bool {
        self.agreement.may_send || self.settings.misbehave.is_some_and(|rule| rule.terms == Terms::OnlyReceives)
    }

    /// EERPs first, then files, then the turn is given away (RFC 5024, 4.3.8).
    fn speak(&mut self, may_end: bool) -> Result<Turn, Failure> {
        let mut nothing_said = true;
        while let Some(response) = self.responses.pop_front() {
            nothing_said &= !self.give(response)?;
        }
        while self.may_send()
            && let Some(file) = self.outbox.pop_front()
        {
            nothing_said = false;
            if self.send_file(&file)?.turn_wanted {
                self.connection.send(&Command::Cd)?;
                return Ok(Turn::Listen { after_cd: false });
            }
        }
        if may_end && nothing_said {
            self.connection.send(&Command::Esid { reason: reason::esid::NORMAL, text: String::new() })?;
            // Something else may have been said in its place: who does not take it answers.
            if self.settings.misbehave.is_some_and(|rule| rule.on == "ESID")
                && let Err(failure @ Failure::Esid { .. }) = next(self.connection)
            {
                return Err(failure);
            }
            self.connection.wait_for_close();
            return Ok(Turn::Ended);
        }
        self.connection.send(&Command::Cd)?;
        Ok(Turn::Listen { after_cd: true })
    }

    /// Sends EERP or NERP and takes the RTR. False: this level knows no NERP, and nothing was sent.
    fn give(&mut self, response: Response) -> Result<bool, Failure> {
        let Response { file, signed } = response;
        let dataset = file.dataset.clone();
        let (hash, signature) = signed.unwrap_or_default();
        let (command, event) = match self.settings.negative_response {
            Some(_) if self.agreement.level < Level::Four => return Ok(false),
            Some(reason) => {
                let (creator, text) = (self.settings.code.clone(), String::new());
                let nerp = Nerp { file, creator, reason, text, hash, signature };
                (Command::Nerp(nerp), Event::NegativeResponseSent { dataset, reason })
            }
            None => (Command::Eerp(Eerp { file, hash, signature }), Event::ResponseSent { dataset }),
        };
        self.connection.send(&command)?;
        match next(self.connection)? {
            Command::Rtr => self.settings.tell(event)?,
            other => return Err(Malformed::out_of_place(other.name(), "WF_RTR").into()),
        }
        Ok(true)
    }

    fn listen(&mut self, after_cd: bool) -> Result<Turn, Failure> {
        match self.connection.receive()? {
            Command::Sfid(sfid) if self.agreement.may_receive => self.receive_file(sfid),
            Command::Eerp(eerp) => {
                let signed = !eerp.signature.is_empty();
                self.settings.tell(Event::ResponseReceived { dataset: eerp.file.dataset.clone(), signed })?;
                self.report.responded(&eerp.file, None);
                self.connection.send(&Command::Rtr)?;
                Ok(Turn::Listen { after_cd: false })
            }
            Command::Nerp(nerp) => {
                let dataset = nerp.file.dataset.clone();
                self.report.responded(&nerp.file, Some(nerp.reason));
                self.settings.tell(Event::NegativeResponseReceived {
                    dataset,
                    reason: nerp.reason,
                    text: nerp.text,
                })?;
                self.connection.send(&Command::Rtr)?;
                Ok(Turn::Listen { after_cd: false })
            }
            // RFC 5024, 9.12 B: two unsolicited CDs in a row would go on for ever.
            Command::Cd if !after_cd => Ok(Turn::SpeakOrEnd),
            Command::Esid { reason: reason::esid::NORMAL, .. } if after_cd => Ok(Turn::Ended),
            Command::Esid { reason, text } => Err(Failure::Esid { code: reason, text }),
            other => Err(Malformed::out_of_place(other.name(), if after_cd { "IDLELICD" } else { "IDLELI" }).into()),
        }
    }
}

//! Sessions in set-up: what they ask is passed on, what comes for them is handed over, and misconduct ends them.

use proxylink::particulars::Particulars;

use super::sessions::Misconduct;
use super::*;

impl Switchboard {
    pub(super) fn admit(&mut self, session: SessionId, parties: Parties, channel: OwnedFd) -> std::io::Result<()> {
        let channel = Arc::new(AsyncChannel::new(Channel::from(channel), LARGEST)?);
        let Some(linked) = &self.linked else {
            let text = "no proxyclient is linked".to_owned();
            return channel.send(&ToSession::Refused(Refused { situation: Situation::LinkDown, text }), &[]);
        };
        self.sessions.add(session, Arc::clone(&channel), parties, linked.number);
        let reader = tokio::spawn(listen(session, channel, self.events.clone()));
        self.sessions.listened_to_by(session, reader.abort_handle());
        Ok(())
    }

    pub(super) fn data_connection(&mut self, token: Token, socket: TcpStream, from: SocketAddr) {
        match self.sessions.connect(token, socket) {
            Ok(None) => {}
            Ok(Some((session, waiting, socket))) => {
                if waiting.channel.send(&ToSession::DataConnection, &[socket.as_fd()]).is_err() {
                    self.gone(session);
                }
            }
            Err(unknown) => self.refused(Situation::DataConnectionRefused, &unknown.to_string(), from),
        }
    }

    pub(super) fn hear_session(&mut self, session: SessionId, heard: Heard) {
        let question = match heard {
            Heard::End => return self.gone(session),
            Heard::Garbage(text) => return self.expel(session, &text),
            Heard::Further => return self.talks_on(session),
            // Of a session that was expelled meanwhile.
            Heard::Question(_) if !self.sessions.is_waiting(session) => return,
            Heard::Question(question) => question,
        };
        match self.sessions.permit(session, question) {
            Ok(Permitted::Sign(request)) => self.ask(session, &FromServer::Sign(session, request)),
            Ok(Permitted::Pair(request)) => self.ask(session, &FromServer::Pair(session, request)),
            Ok(Permitted::Done) => {}
            Ok(Permitted::Ended(record, about)) => self.session_refused(session, record, &about),
            Ok(Permitted::CallFailed(failed, about)) => self.send_call_failed(session, *failed, &about),
            Err(misconduct) => self.expel(session, &misconduct.to_string()),
        }
    }

    /// A session that does what it may not do is heard no more and killed.
    fn expel(&mut self, session: SessionId, text: &str) {
        let outgoing = self.sessions.is_outgoing(session);
        if self.sessions.expel(session) {
            Situation::SessionMisconduct.tell_of(session, format_args!("{text}; it is ended"));
            self.report(Situation::SessionMisconduct, text.to_owned(), None);
            self.to_gate(&FromSwitchboard::Kill(session), &[]);
            if outgoing {
                self.call_failed(session, died());
            } else {
                self.send(FromServer::Gone(session));
            }
        }
    }

    /// A session that goes on speaking when all is said: nothing is known of it any more, but it is killed all the same.
    fn talks_on(&mut self, session: SessionId) {
        let text = "a session went on speaking after its last word";
        Situation::SessionMisconduct.tell_of(session, format_args!("{text}; it is ended"));
        self.report(Situation::SessionMisconduct, text.to_owned(), None);
        self.to_gate(&FromSwitchboard::Kill(session), &[]);
    }

    /// A session that ended before it was paired: told singly while there are few, counted in a storm.
    fn session_refused(&mut self, session: SessionId, record: Box<SessionReport>, about: &Particulars) {
        self.send(FromServer::Gone(session));
        let now = std::time::Instant::now();
        if self.tally.refused(record.situation, "", record.peer, now).is_some() {
            record.situation.tell_about(about, &record.detail);
            self.send(FromServer::Record(record));
        }
    }

    /// A connection to the link's port was refused.
    pub(super) fn refused(&mut self, situation: Situation, text: &str, from: SocketAddr) {
        if let Some(line) = self.tally.refused(situation, text, from, std::time::Instant::now()) {
            situation.tell_about(&Particulars::of_peer(from), &line.text);
            self.report(situation, line.text, Some(from));
        }
    }

    /// Passes a question on, or refuses it when nobody is there to ask. Who asks what cannot be passed on is at fault.
    fn ask(&mut self, session: SessionId, question: &FromServer) {
        match self.linked.as_ref().map_or(Err(Unsent::Lost), |linked| linked.outbox.send(question)) {
            Ok(()) => {}
            Err(Unsent::TooLarge) => self.expel(session, &Misconduct::TooLarge.to_string()),
            Err(Unsent::Lost) => {
                let Some(waiting) = self.sessions.refuse(session) else { return };
                let text = "the inside cannot be asked".to_owned();
                let refused = Refused { situation: Situation::LinkDown, text };
                let _ = waiting.channel.send(&ToSession::Refused(refused), &[]);
            }
        }
    }

    pub(super) fn gone(&mut self, session: SessionId) {
        match self.sessions.forget(session) {
            Some(waiting) if waiting.is_outgoing() => self.call_failed(session, died()),
            Some(_) => self.send(FromServer::Gone(session)),
            None => {}
        }
    }
}

/// Hears a session until it has gone, or has said what it may not say. Behind its last word comes nothing but its end.
async fn listen(session: SessionId, channel: Arc<AsyncChannel>, events: mpsc::Sender<Event>) {
    let mut all_is_said = false;
    loop {
        let heard = match channel.receive::<FromSession>().await {
            Ok(Some(_)) if all_is_said => Heard::Further,
            Ok(Some((question, descriptors))) if descriptors.is_empty() => Heard::Question(question),
            Ok(Some(_)) => Heard::Garbage("a question came with a descriptor".to_owned()),
            Err(error) if error.kind() != std::io::ErrorKind::InvalidData => Heard::End,
            Err(_) if all_is_said => Heard::Further,
            Err(error) => Heard::Garbage(error.to_string()),
            Ok(None) => Heard::End,
        };
        let goes_on = matches!(heard, Heard::Question(_));
        all_is_said = matches!(&heard, Heard::Question(question) if question.is_last());
        if events.send(Event::Session(session, heard)).await.is_err() || !goes_on {
            return;
        }
    }
}

/// An outgoing session that could not say itself why it is no more.
fn died() -> Refused {
    let text = "the session's process in the DMZ has ended before the session stood".to_owned();
    Refused { situation: Situation::SessionAborted, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_talks_on_after_its_last_word_is_told_once_and_heard_no_more() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let session = SessionId::from_random([1; 16]);
            let linked = postcard::to_allocvec(&FromSession::Linked).unwrap();
            for further in [&linked[..], b"\xffnonsense"] {
                let (theirs, ours) = Channel::pair().unwrap();
                let (events, mut heard) = mpsc::channel(8);
                let listening =
                    tokio::spawn(listen(session, Arc::new(AsyncChannel::new(ours, LARGEST).unwrap()), events));
                theirs.send(&linked, &[]).unwrap();
                let first = heard.recv().await.unwrap();
                assert!(matches!(first, Event::Session(_, Heard::Question(FromSession::Linked))));
                (0..3).for_each(|_| theirs.send(further, &[]).unwrap());
                assert!(matches!(heard.recv().await.unwrap(), Event::Session(_, Heard::Further)));
                listening.await.unwrap();
                assert!(heard.recv().await.is_none(), "nobody listens any more");
                assert!(theirs.send(&linked, &[]).is_err());
            }
        });
    }

    #[test]
    fn who_goes_after_its_last_word_is_not_blamed() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (theirs, ours) = Channel::pair().unwrap();
            let (events, mut heard) = mpsc::channel(8);
            theirs.send(&postcard::to_allocvec(&FromSession::Linked).unwrap(), &[]).unwrap();
            drop(theirs);
            let channel = Arc::new(AsyncChannel::new(ours, LARGEST).unwrap());
            listen(SessionId::from_random([1; 16]), channel, events).await;
            assert!(matches!(heard.recv().await.unwrap(), Event::Session(_, Heard::Question(FromSession::Linked))));
            assert!(matches!(heard.recv().await.unwrap(), Event::Session(_, Heard::End)));
        });
    }
}

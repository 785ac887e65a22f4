//! The one client that is linked: how its link begins and ends, what it says, and the snapshots it sends.

use super::*;

impl Switchboard {
    pub(super) fn link(&mut self, control: Control) {
        if let Some(linked) = &self.linked {
            if linked.key != control.key || linked.instance != control.hello.instance {
                let text = format!("the proxyclient at {} is linked already; this version serves one", linked.from);
                Situation::LinkSecondClient.tell(format_args!("peer={}: {text}", control.from));
                let goodbye = Goodbye { situation: Situation::LinkSecondClient, text };
                let _ = control.outbox.send(&FromServer::Goodbye(goodbye));
                return;
            }
            // The same client again: its side saw the old connection break before we did.
            self.unlink("the same proxyclient has linked anew");
        }
        self.links += 1;
        let number = self.links;
        Situation::LinkUp.tell(format_args!(
            "peer={}: proxyclient {} on {} (pid {}), key {}",
            control.from,
            escape(&control.hello.version),
            escape(&control.hello.host),
            control.hello.pid,
            control.client
        ));
        let events = self.events.clone();
        let mut inbox = control.inbox;
        let reader = tokio::spawn(async move {
            while let Some(message) = inbox.recv().await {
                if events.send(Event::Client(number, message)).await.is_err() {
                    return;
                }
            }
        })
        .abort_handle();
        self.port.places.lock().unwrap_or_else(PoisonError::into_inner).client_is(control.from.ip());
        *self.port.linked.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(link::Holder { key: control.key, instance: control.hello.instance });
        self.linked = Some(Linked {
            number,
            key: control.key,
            instance: control.hello.instance,
            newest: 0,
            from: control.from,
            outbox: control.outbox,
            snapshots: Snapshots::default(),
            directory: None,
            reader,
        });
        self.told_running = 0;
        for report in std::mem::take(&mut self.waiting_reports) {
            self.send(FromServer::Report(report));
        }
        self.report_licence();
    }

    pub(super) fn link_ended(&mut self, end: &ControlEnd) {
        if end.is_misconduct() {
            self.misconduct(&end.to_string());
        } else {
            self.unlink(&end.to_string());
        }
    }

    /// Ends the link because the inside sent what it may not send.
    pub(super) fn misconduct(&mut self, text: &str) {
        Situation::LinkMessageInvalid.tell(text);
        self.send(FromServer::Goodbye(Goodbye { situation: Situation::LinkMessageInvalid, text: text.to_owned() }));
        self.unlink("it was ended because of an invalid message");
    }

    pub(super) fn unlink(&mut self, why: &str) {
        let Some(from) = self.part() else { return };
        let text = format!("peer={from}: {why}; the partner port closes, sessions in flight go on");
        Situation::LinkDown.tell(&text);
        self.report(Situation::LinkDown, text, Some(from));
    }

    /// The link ends; with whom it stood.
    pub(super) fn part(&mut self) -> Option<SocketAddr> {
        let linked = self.linked.take()?;
        *self.port.linked.lock().unwrap_or_else(PoisonError::into_inner) = None;
        linked.reader.abort();
        self.to_gate(&FromSwitchboard::Unlinked, &[]);
        let refused = Refused { situation: Situation::LinkDown, text: "the link to the inside is lost".to_owned() };
        self.give_up_calls_of(linked.number);
        for waiting in self.sessions.refuse_of(linked.number) {
            let _ = waiting.channel.send(&ToSession::Refused(refused.clone()), &[]);
        }
        Some(linked.from)
    }

    pub(super) fn send(&self, message: FromServer) {
        let Some(linked) = &self.linked else { return };
        match linked.outbox.send(&message) {
            Ok(()) => {}
            Err(Unsent::Lost) => log::debug!("a message to the inside was not sent: the link is about to end"),
            Err(error @ Unsent::TooLarge) => log::error!("a message to the inside is not sent: {error}"),
        }
    }

    pub(super) async fn stop(&mut self) {
        let text = "the proxyserver ends".to_owned();
        self.send(FromServer::Goodbye(Goodbye { situation: Situation::LinkGoodbye, text }));
        if let Some(linked) = self.linked.take() {
            drop(linked.outbox);
            // The goodbye goes out before the connection closes; the inside closes when it has it.
            let _ = tokio::time::timeout(Duration::from_secs(1), async {
                while !linked.reader.is_finished() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
        }
    }

    pub(super) fn hear_client(&mut self, message: FromClient) {
        match message {
            FromClient::Ping => {}
            FromClient::Hello(_) => self.misconduct("a second introduction came"),
            FromClient::Check(_) => self.misconduct("a check came on a link that stands"),
            FromClient::Goodbye(goodbye) => {
                Situation::LinkGoodbye.tell(escape(&goodbye.text));
                self.part();
            }
            FromClient::Part(part) => {
                let Some(linked) = &mut self.linked else { return };
                match linked.snapshots.take(part) {
                    Ok(Progress::More) => {}
                    Ok(Progress::Want(hashes)) => self.send(FromServer::WantCrls(hashes)),
                    Ok(Progress::Complete(ready)) => {
                        let (events, link) = (self.events.clone(), linked.number);
                        tokio::spawn(async move {
                            let number = ready.number();
                            let compiled = tokio::task::spawn_blocking(move || ready.compile()).await;
                            let compiled = match compiled {
                                Ok(compiled) => compiled.map_err(|text| (number, text)),
                                Err(error) => Err((number, error.to_string())),
                            };
                            let _ = events.send(Event::Compiled(link, compiled)).await;
                        });
                    }
                    Err(misfit) => self.misconduct(&misfit.to_string()),
                }
            }
            FromClient::Signed(session, signature) => {
                // A session that has ended meanwhile is no fault of the inside's.
                if let Some(waiting) = self.sessions.awaits_signature(session) {
                    let _ = waiting.channel.send(&ToSession::Signed(signature), &[]);
                }
            }
            FromClient::Paired(session, key) => {
                let Some((waiting, early)) = self.sessions.paired(session) else { return };
                let _ = waiting.channel.send(&ToSession::Paired(key), &[]);
                if let Some(socket) = early {
                    let _ = waiting.channel.send(&ToSession::DataConnection, &[socket.as_fd()]);
                }
                self.to_gate(&FromSwitchboard::Verified(session), &[]);
            }
            FromClient::Call(session, call) => self.call(session, call),
            FromClient::CallOff(session, why) => self.call_off(session, why),
            FromClient::PairRefused(session, refused) => {
                if let Some(waiting) = self.sessions.refuse(session) {
                    let _ = waiting.channel.send(&ToSession::Refused(refused), &[]);
                }
            }
        }
    }

    pub(super) fn compiled(&mut self, compiled: Result<Compiled, (u64, String)>) {
        let taken = match compiled {
            // Two compilations may overtake each other.
            Ok(compiled) if self.linked.as_ref().is_some_and(|linked| compiled.number < linked.newest) => return,
            Ok(compiled) => self.put_in_force(compiled),
            Err(refused) => Err(refused),
        };
        match taken {
            Ok(number) => self.send(FromServer::SnapshotTaken(number)),
            Err((number, text)) => {
                Situation::SnapshotRefused.tell(format_args!("snapshot {number}: {text}"));
                self.send(FromServer::SnapshotRefused(number, text));
            }
        }
    }

    /// Hands a prepared snapshot to the gate. One that does not get there is not in force.
    fn put_in_force(&mut self, compiled: Compiled) -> Result<u64, (u64, String)> {
        let number = compiled.number;
        if let Err(error) = self.gate.post(&FromSwitchboard::Snapshot { number }, &[compiled.file.as_fd()]) {
            return Err((number, format!("the gate does not take it: {error}")));
        }
        let Compiled { size, left_out, .. } = compiled;
        log::debug!("snapshot {number} is prepared ({size} octets, {left_out} CRLs left out)");
        if let Some(linked) = &mut self.linked {
            linked.newest = number;
            linked.directory = Some(compiled.directory);
        }
        Ok(number)
    }
}

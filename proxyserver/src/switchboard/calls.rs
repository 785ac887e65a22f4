//! Partners that the inside has us call: whom the snapshot permits, where they are, and what becomes of each call until
//! its session asks for itself.

use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};

use proxylink::message::{Call, CallFailed};
use proxylink::pairing::Direction;
use proxylink::particulars::Particulars;
use proxylink::snapshot::Snapshot;
use tokio::sync::Semaphore;

use super::sessions::Parties;
use super::*;
use crate::between::{Errand, MOST_ADDRESSES};
use crate::target::{Host, Target};

/// Calls whose session is not forked yet.
const MOST_CALLS: usize = 1024;
/// Names that are resolved at once. A resolver that hangs holds its thread longer than we wait for it.
const MOST_RESOLVING: usize = 64;
/// For the name service to answer, waiting for a turn included.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);

/// Whom a snapshot lets us call. Nobody else can be.
#[derive(Debug, Default)]
pub struct Directory(HashMap<String, Entry>);

#[derive(Debug)]
struct Entry {
    enabled: bool,
    target: Option<Target>,
    from: Option<IpAddr>,
}

impl Directory {
    /// Reads it from a snapshot.
    ///
    /// # Errors
    /// The place of an address that cannot be read.
    pub fn of(snapshot: &Snapshot) -> Result<Self, String> {
        let mut partners = HashMap::new();
        for (place, partner) in snapshot.policy.partners.iter().enumerate() {
            let target =
                match &partner.address {
                    Some(address) => Some(Target::read(address).ok_or_else(|| {
                        format!("partners[{place}].address is {}, host:port expected", escape(address))
                    })?),
                    None => None,
                };
            let from = partner.outgoing_ip.or(snapshot.outgoing_ip).map(|from| from.to_canonical());
            partners.insert(partner.name.clone(), Entry { enabled: partner.enabled, target, from });
        }
        Ok(Self(partners))
    }

    /// Where to call a partner, and from which address.
    fn find(&self, partner: &str) -> Result<(&Target, Option<IpAddr>), Refused> {
        let refused = |situation, text| Err(Refused { situation, text });
        match self.0.get(partner) {
            Some(Entry { enabled: true, target: Some(target), from }) => Ok((target, *from)),
            Some(Entry { enabled: false, .. }) => {
                refused(Situation::PartnerDisabled, format!("partner {} is not enabled", escape(partner)))
            }
            Some(Entry { target: None, .. }) => {
                let text = format!("partner {} has no address in the configuration", escape(partner));
                refused(Situation::CallUnreachable, text)
            }
            None => refused(Situation::PartnerUnknown, format!("the DMZ knows no partner {} (yet)", escape(partner))),
        }
    }
}

/// One call whose session is not forked yet.
#[derive(Debug)]
struct Calling {
    link: u64,
    partner: String,
    from: Option<IpAddr>,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// The name is being resolved.
    Resolving(AbortHandle),
    /// The gate is asked.
    Asked(Vec<SocketAddr>),
}

/// All calls whose sessions are not forked yet.
#[derive(Debug)]
pub struct Calls {
    waiting: HashMap<SessionId, Calling>,
    turns: Arc<Semaphore>,
}

impl Default for Calls {
    fn default() -> Self {
        Self { waiting: HashMap::new(), turns: Arc::new(Semaphore::new(MOST_RESOLVING)) }
    }
}

impl Calls {
    fn remove(&mut self, session: SessionId) -> Option<Calling> {
        let calling = self.waiting.remove(&session)?;
        if let Step::Resolving(task) = &calling.step {
            task.abort();
        }
        Some(calling)
    }
}

impl Switchboard {
    /// The inside has a partner called.
    pub(super) fn call(&mut self, session: SessionId, call: Call) {
        let Some(linked) = &self.linked else { return };
        if self.calls.waiting.contains_key(&session) || self.sessions.is_waiting(session) {
            return self.misconduct("a call came for a session that there is already");
        }
        if self.calls.waiting.len() >= MOST_CALLS {
            let text = format!("{MOST_CALLS} calls are being set up already");
            return self.call_failed(session, Refused { situation: Situation::LimitReached, text });
        }
        let (target, from) = match linked.directory.find(&call.partner) {
            Ok((target, from)) => (target.clone(), from),
            Err(refused) => return self.call_failed(session, refused),
        };
        log::debug!("session {session}: partner {} is called at {target}", escape(&call.partner));
        let (link, events) = (linked.number, self.events.clone());
        let port = target.port;
        let addresses = match target.host {
            Host::Address(address) => Some(vec![SocketAddr::new(address, port)]),
            Host::Name(_) => None,
        };
        let turns = Arc::clone(&self.calls.turns);
        // Also where there is nothing to resolve: what comes of it comes by one way.
        let task = tokio::spawn(async move {
            let found = match addresses {
                Some(addresses) => Ok(addresses),
                None => resolve(&target, turns).await,
            };
            let _ = events.send(Event::Resolved(session, found)).await;
        });
        let step = Step::Resolving(task.abort_handle());
        self.calls.waiting.insert(session, Calling { link, partner: call.partner, from, step });
    }

    /// The name service has answered.
    pub(super) fn resolved(&mut self, session: SessionId, found: Result<Vec<SocketAddr>, Refused>) {
        // One that was called off meanwhile is not there any more.
        let Some(calling) = self.calls.waiting.get_mut(&session) else { return };
        match found.and_then(|found| fitting(found, calling.from)) {
            Ok(to) => {
                let (partner, from) = (calling.partner.clone(), calling.from);
                calling.step = Step::Asked(to.clone());
                self.to_gate(&FromSwitchboard::Call(Errand { session, partner, to, from }), &[]);
            }
            Err(refused) => {
                self.calls.remove(session);
                self.call_failed(session, refused);
            }
        }
    }

    /// The gate has forked the session.
    pub(super) fn called(&mut self, session: SessionId, channel: Option<OwnedFd>) {
        self.running += 1;
        let admitted = match (self.calls.remove(session), channel) {
            (Some(Calling { step: Step::Asked(to), from, .. }), Some(channel)) => {
                self.admit(session, Parties::Outgoing { to, from }, channel)
            }
            // Called off meanwhile, or asked for by a switchboard that is no more: the session finds nobody.
            _ => return self.to_gate(&FromSwitchboard::Kill(session), &[]),
        };
        if let Err(error) = admitted {
            self.to_gate(&FromSwitchboard::Kill(session), &[]);
            let text = format!("no process or descriptor: {error}");
            self.call_failed(session, Refused { situation: Situation::LimitReached, text });
        }
    }

    /// The gate forks no session.
    pub(super) fn not_called(&mut self, session: SessionId, refused: Refused) {
        if self.calls.remove(session).is_some() {
            self.call_failed(session, refused);
        }
    }

    /// The inside station is gone.
    pub(super) fn call_off(&mut self, session: SessionId) {
        if self.give_up(session) {
            let text = "the inside has called it off".to_owned();
            self.call_failed(session, Refused { situation: Situation::StationLeft, text });
        }
    }

    /// All calls of a link that is lost, in whatever step of their set-up.
    pub(super) fn give_up_calls_of(&mut self, link: u64) {
        let waiting =
            self.calls.waiting.iter().filter(|(_, calling)| calling.link == link).map(|(session, _)| *session);
        let all: Vec<_> = waiting.chain(self.sessions.outgoing_of(link)).collect();
        for session in all {
            if self.give_up(session) {
                Situation::LinkDown.tell_of(session, "it was being set up for an inside station and is ended");
            }
        }
    }

    /// Ends an outgoing session in set-up; whether there was one.
    fn give_up(&mut self, session: SessionId) -> bool {
        let forked = match self.calls.remove(session) {
            Some(calling) => matches!(calling.step, Step::Asked(_)),
            None if self.sessions.is_outgoing(session) => self.sessions.expel(session),
            None => return false,
        };
        if forked {
            self.to_gate(&FromSwitchboard::Kill(session), &[]);
        }
        true
    }

    /// A call has come to nothing, before its session could say so itself.
    pub(super) fn call_failed(&self, session: SessionId, refused: Refused) {
        let direction = Some(Direction::Outgoing);
        let about = Particulars { session: Some(session), direction, ..Particulars::default() };
        self.send_call_failed(session, CallFailed { refused, record: None }, &about);
    }

    pub(super) fn send_call_failed(&self, session: SessionId, failed: CallFailed, about: &Particulars) {
        let text = failed.record.as_ref().map_or(&failed.refused.text, |record| &record.detail);
        failed.refused.situation.tell_about(about, text);
        self.send(FromServer::CallFailed(session, Box::new(failed)));
    }
}

/// The addresses of a name, at most [`MOST_ADDRESSES`].
async fn resolve(target: &Target, turns: Arc<Semaphore>) -> Result<Vec<SocketAddr>, Refused> {
    let Host::Name(name) = &target.host else { return Ok(Vec::new()) };
    let failed = |reason: String| Refused {
        situation: Situation::CallNameUnknown,
        text: format!("the name {} cannot be resolved in the DMZ: {reason}", escape(name)),
    };
    let (host, port) = (name.clone(), target.port);
    let looked_up = async {
        let turn = turns.acquire_owned().await.map_err(|error| error.to_string())?;
        // The turn ends with the thread, which may be later than anybody waits for it.
        let task = tokio::task::spawn_blocking(move || {
            let found = (host.as_str(), port).to_socket_addrs().map(|found| found.take(MOST_ADDRESSES).collect());
            drop(turn);
            found
        });
        task.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    };
    let found: Vec<SocketAddr> = match tokio::time::timeout(RESOLVE_DEADLINE, looked_up).await {
        Ok(found) => found.map_err(failed)?,
        Err(_) => return Err(failed(format!("no answer within {} s", RESOLVE_DEADLINE.as_secs()))),
    };
    if found.is_empty() { Err(failed("it has no address".to_owned())) } else { Ok(found) }
}

/// Those that can be called from our address, whose family decides.
fn fitting(mut found: Vec<SocketAddr>, from: Option<IpAddr>) -> Result<Vec<SocketAddr>, Refused> {
    let Some(from) = from else { return Ok(found) };
    let all = found.iter().map(|to| to.ip().to_string()).collect::<Vec<_>>().join(", ");
    found.retain(|to| to.is_ipv4() == from.is_ipv4());
    if found.is_empty() {
        let text = format!("outgoing_ip {from} is of another family than all addresses of the partner ({all})");
        return Err(Refused { situation: Situation::CallUnreachable, text });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switchboard::snapshots::tests::snapshot;
    use verification::PartnerSource;

    fn partner(name: &str, address: Option<&str>) -> PartnerSource {
        PartnerSource { address: address.map(str::to_owned), ..PartnerSource::named(name) }
    }

    fn addresses(all: &[&str]) -> Vec<SocketAddr> {
        all.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn only_enabled_partners_with_an_address_are_found() {
        let mut snapshot = snapshot(1, Vec::new());
        snapshot.outgoing_ip = Some("192.0.2.1".parse().unwrap());
        snapshot.policy.partners = vec![
            partner("ACME", Some("oftp.acme.example:6619")),
            PartnerSource { outgoing_ip: Some("192.0.2.2".parse().unwrap()), ..partner("OWN", Some("192.0.2.7:1")) },
            PartnerSource { enabled: false, ..partner("OFF", Some("192.0.2.7:1")) },
            partner("CALLS", None),
        ];
        let directory = Directory::of(&snapshot).unwrap();
        let found = |name: &str| {
            let found = directory.find(name).map(|(target, from)| (target.to_string(), from.unwrap().to_string()));
            found.map_err(|refused| refused.situation)
        };
        assert_eq!(found("ACME"), Ok(("oftp.acme.example:6619".into(), "192.0.2.1".into())));
        assert_eq!(found("OWN"), Ok(("192.0.2.7:1".into(), "192.0.2.2".into())));
        assert_eq!(found("OFF"), Err(Situation::PartnerDisabled));
        assert_eq!(found("CALLS"), Err(Situation::CallUnreachable));
        for stranger in ["acme", "oftp.acme.example:6619", ""] {
            assert_eq!(found(stranger), Err(Situation::PartnerUnknown), "{stranger:?}");
        }
        snapshot.policy.partners.push(partner("BAD", Some("no port")));
        let place = Directory::of(&snapshot).unwrap_err();
        assert!(place.contains("partners[4].address"), "{place}");
    }

    #[test]
    fn the_family_of_the_source_address_decides() {
        let both = || addresses(&["192.0.2.7:1", "[2001:db8::7]:1"]);
        let from = |from: &str| Some(from.parse().unwrap());
        assert_eq!(fitting(both(), None).unwrap(), both());
        assert_eq!(fitting(both(), from("192.0.2.1")).unwrap(), addresses(&["192.0.2.7:1"]));
        assert_eq!(fitting(both(), from("2001:db8::1")).unwrap(), addresses(&["[2001:db8::7]:1"]));
        let none = fitting(addresses(&["192.0.2.7:1"]), from("2001:db8::1")).unwrap_err();
        assert!(none.text.contains("2001:db8::1") && none.text.contains("192.0.2.7"), "{}", none.text);
    }

    #[test]
    fn a_name_is_resolved_and_one_that_cannot_be_is_told_with_its_reason() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ask = |text: &str| {
            let target = Target::read(text).unwrap();
            runtime.block_on(resolve(&target, Arc::new(Semaphore::new(1))))
        };
        assert!(ask("localhost:6619").unwrap().iter().all(|to| to.ip().is_loopback() && to.port() == 6619));
        // RFC 6761, 6.4: `invalid` never exists.
        let refused = ask("partner.invalid:6619").unwrap_err();
        assert_eq!(refused.situation, Situation::CallNameUnknown);
        assert!(refused.text.contains("partner.invalid"), "{}", refused.text);
    }
}

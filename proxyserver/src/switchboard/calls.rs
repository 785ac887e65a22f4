//! Partners that the inside has us call: whom the snapshot permits, where they are, and what becomes of each call until
//! its session asks for itself.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, ToSocketAddrs};

use proxylink::message::{Call, CallFailed, RESOLVED_WITHIN};
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
/// What the gate is asked at once. It forks one after the other; more would fill the way to it.
const MOST_ASKED: usize = 32;
/// Of a name, before those are left out that cannot be called from here.
const MOST_FOUND: usize = 64;

/// Whom a snapshot lets us call. Nobody else can be.
#[derive(Debug)]
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
                refused(Situation::TargetRefused, format!("partner {} is not enabled in the DMZ", escape(partner)))
            }
            Some(Entry { target: None, .. }) => {
                let text = format!("partner {} has no address in the configuration", escape(partner));
                refused(Situation::CallUnreachable, text)
            }
            None => refused(Situation::TargetRefused, format!("the DMZ knows no partner {} (yet)", escape(partner))),
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
    /// The gate is to be asked.
    Found(Vec<SocketAddr>),
    /// The gate is asked.
    Asked(Vec<SocketAddr>),
}

/// All calls whose sessions are not forked yet.
#[derive(Debug)]
pub struct Calls {
    waiting: HashMap<SessionId, Calling>,
    turns: Arc<Semaphore>,
    /// Those that the gate is to be asked for, in their order; some may have been called off since.
    found: VecDeque<SessionId>,
    /// How many answers of the gate are to come. It answers each question.
    asked: usize,
}

impl Default for Calls {
    fn default() -> Self {
        let turns = Arc::new(Semaphore::new(MOST_RESOLVING));
        Self { waiting: HashMap::new(), turns, found: VecDeque::new(), asked: 0 }
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

    /// The next one that the gate is to be asked for, if it has answered enough of those before.
    fn next_errand(&mut self) -> Option<Errand> {
        while self.asked < MOST_ASKED {
            let session = self.found.pop_front()?;
            let Some(calling) = self.waiting.get_mut(&session) else { continue };
            let Step::Found(to) = &mut calling.step else { continue };
            let to = std::mem::take(to);
            calling.step = Step::Asked(to.clone());
            self.asked += 1;
            return Some(Errand { session, partner: calling.partner.clone(), to, from: calling.from });
        }
        None
    }

    /// The gate has answered for this session: what it was asked, unless that was called off meanwhile.
    fn answered(&mut self, session: SessionId) -> Option<Calling> {
        self.asked = self.asked.saturating_sub(1);
        self.remove(session)
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
        let Some(directory) = &linked.directory else {
            let text = "the proxyserver has no configuration yet".to_owned();
            return self.call_failed(session, Refused { situation: Situation::LinkDown, text });
        };
        let (target, from) = match directory.find(&call.partner) {
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
        if !matches!(calling.step, Step::Resolving(_)) {
            return;
        }
        match found.and_then(|found| fitting(found, calling.from)) {
            Ok(to) => {
                calling.step = Step::Found(to);
                self.calls.found.push_back(session);
                self.ask_gate();
            }
            Err(refused) => {
                self.calls.remove(session);
                self.call_failed(session, refused);
            }
        }
    }

    fn ask_gate(&mut self) {
        while let Some(errand) = self.calls.next_errand() {
            let session = errand.session;
            if let Err(error) = self.gate.post(&FromSwitchboard::Call(errand), &[]) {
                self.calls.answered(session);
                let text = format!("the gate of the proxyserver does not take it: {error}");
                self.call_failed(session, Refused { situation: Situation::LimitReached, text });
            }
        }
    }

    /// The gate has forked the session.
    pub(super) fn called(&mut self, session: SessionId, channel: Option<OwnedFd>) {
        self.running += 1;
        let calling = self.calls.answered(session);
        self.ask_gate();
        let admitted = match (calling, channel) {
            (Some(Calling { step: Step::Asked(to), from, .. }), Some(channel)) => {
                self.admit(session, Parties::Outgoing { to, from }, channel)
            }
            // Called off meanwhile, or asked for by a switchboard that is no more: the session finds nobody.
            _ => return self.to_gate(&FromSwitchboard::GiveUp(session), &[]),
        };
        if let Err(error) = admitted {
            self.to_gate(&FromSwitchboard::GiveUp(session), &[]);
            let text = format!("no process or descriptor: {error}");
            self.call_failed(session, Refused { situation: Situation::LimitReached, text });
        }
    }

    /// The gate forks no session.
    pub(super) fn not_called(&mut self, session: SessionId, refused: Refused) {
        if self.calls.answered(session).is_some() {
            self.call_failed(session, refused);
        }
        self.ask_gate();
    }

    /// Nobody waits for it any more.
    pub(super) fn call_off(&mut self, session: SessionId, why: Situation) {
        if self.give_up(session) {
            let text = "the inside has called it off".to_owned();
            self.call_failed(session, Refused { situation: why, text });
        }
    }

    /// All calls of a link that is lost, in whatever step of their set-up.
    pub(super) fn give_up_calls_of(&mut self, link: u64) {
        let waiting =
            self.calls.waiting.iter().filter(|(_, calling)| calling.link == link).map(|(session, _)| *session);
        let all: Vec<_> = waiting.chain(self.sessions.outgoing_of(link)).collect();
        for session in all {
            if self.sessions.may_be_linked(session) {
                // It hears of it with all others, and may still say that it is linked.
                continue;
            }
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
            self.to_gate(&FromSwitchboard::GiveUp(session), &[]);
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

/// The addresses of a name, at most [`MOST_FOUND`].
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
            let found = (host.as_str(), port).to_socket_addrs().map(|found| found.take(MOST_FOUND).collect());
            drop(turn);
            found
        });
        task.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    };
    let found: Vec<SocketAddr> = match tokio::time::timeout(RESOLVED_WITHIN, looked_up).await {
        Ok(found) => found.map_err(failed)?,
        Err(_) => return Err(failed(format!("no answer within {} s", RESOLVED_WITHIN.as_secs()))),
    };
    if found.is_empty() { Err(failed("it has no address".to_owned())) } else { Ok(found) }
}

/// Those that can be called, at most [`MOST_ADDRESSES`]: of the family of our address, or of both in turn where we have
/// none of our own, so that none of a family without a route keeps those of the other from being tried.
fn fitting(mut found: Vec<SocketAddr>, from: Option<IpAddr>) -> Result<Vec<SocketAddr>, Refused> {
    let told = |found: &[SocketAddr]| found.iter().map(|to| to.ip().to_string()).collect::<Vec<_>>().join(", ");
    let all = told(&found);
    found.retain(|to| is_of_one_host(to.ip().to_canonical()));
    if found.is_empty() {
        // Linux takes 0.0.0.0 and :: for the host itself.
        let text = format!(
            "no host can have what stands for the partner's address ({all}); a name service that blocks a name answers so"
        );
        return Err(Refused { situation: Situation::CallUnreachable, text });
    }
    let Some(from) = from else { return Ok(in_turn(found)) };
    found.retain(|to| to.is_ipv4() == from.is_ipv4());
    if found.is_empty() {
        let text = format!("outgoing_ip {from} is of another family than all addresses of the partner ({all})");
        return Err(Refused { situation: Situation::CallUnreachable, text });
    }
    found.truncate(MOST_ADDRESSES);
    Ok(found)
}

/// Whether it is not everybody's, or nobody's.
fn is_of_one_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !(broadcast || address.is_unspecified() || address.is_multicast())
}

/// One of each family in turn, beginning with the family that the name service prefers (RFC 8305, 4).
fn in_turn(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = found.first().map(SocketAddr::is_ipv4) else { return found };
    let (preferred, other): (Vec<_>, Vec<_>) = found.into_iter().partition(|to| to.is_ipv4() == first);
    let (mut preferred, mut other) = (preferred.into_iter(), other.into_iter());
    let pairs = std::iter::from_fn(|| Some([preferred.next(), other.next()]).filter(|pair| *pair != [None, None]));
    pairs.flatten().flatten().take(MOST_ADDRESSES).collect()
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
        assert_eq!(found("OFF"), Err(Situation::TargetRefused));
        assert_eq!(found("CALLS"), Err(Situation::CallUnreachable));
        for stranger in ["acme", "oftp.acme.example:6619", ""] {
            assert_eq!(found(stranger), Err(Situation::TargetRefused), "{stranger:?}");
        }
        snapshot.policy.partners.push(partner("BAD", Some("no port")));
        let place = Directory::of(&snapshot).unwrap_err();
        assert!(place.contains("partners[4].address"), "{place}");
    }

    #[test]
    fn the_gate_is_asked_in_order_and_no_more_than_it_can_take() {
        let mut calls = Calls::default();
        let session = |number: u8| SessionId::from_random([number; 16]);
        let many = u8::try_from(MOST_ASKED).unwrap() + 3;
        for number in 0..many {
            let step = Step::Found(addresses(&["192.0.2.7:1"]));
            calls.waiting.insert(session(number), Calling { link: 1, partner: "ACME".into(), from: None, step });
            calls.found.push_back(session(number));
        }
        // Called off before the gate was asked.
        assert!(calls.remove(session(1)).is_some());
        let asked: Vec<_> = std::iter::from_fn(|| calls.next_errand()).map(|errand| errand.session).collect();
        assert_eq!(asked.len(), MOST_ASKED);
        assert_eq!(asked[..2], [session(0), session(2)]);
        // Called off while it is asked: the answer comes all the same, and makes room.
        assert!(calls.remove(session(0)).is_some());
        assert!(calls.answered(session(0)).is_none() && calls.answered(session(2)).is_some());
        let rest: Vec<_> = std::iter::from_fn(|| calls.next_errand()).map(|errand| errand.session).collect();
        assert_eq!(rest, [session(many - 2), session(many - 1)]);
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
    fn addresses_of_one_family_leave_room_for_those_of_the_other() {
        let six = (1..=9).map(|number| format!("[2001:db8::{number}]:1"));
        let all: Vec<String> = six.chain(["192.0.2.7:1".to_owned()]).collect();
        let found = || addresses(&all.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(fitting(found(), Some("192.0.2.1".parse().unwrap())).unwrap(), addresses(&["192.0.2.7:1"]));
        let both = fitting(found(), None).unwrap();
        assert_eq!(both.len(), MOST_ADDRESSES);
        assert_eq!(both[..3], addresses(&["[2001:db8::1]:1", "192.0.2.7:1", "[2001:db8::2]:1"]));
    }

    #[test]
    fn what_is_no_address_of_a_host_is_not_called() {
        let nobody = ["0.0.0.0:1", "[::]:1", "[::ffff:0.0.0.0]:1", "224.0.0.1:1", "[ff02::1]:1", "255.255.255.255:1"];
        for nobody in nobody {
            let refused = fitting(addresses(&[nobody]), None).unwrap_err();
            assert_eq!(refused.situation, Situation::CallUnreachable);
            let address = nobody.parse::<SocketAddr>().unwrap().ip().to_string();
            assert!(refused.text.contains(&address), "{}", refused.text);
            let with_a_good_one = addresses(&[nobody, "192.0.2.7:1"]);
            assert_eq!(fitting(with_a_good_one, None).unwrap(), addresses(&["192.0.2.7:1"]));
        }
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

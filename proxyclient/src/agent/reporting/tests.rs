//! A backend on loopback that answers as each test wants, or not at all.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;

use proxylink::pairing::{Direction, SessionId};
use proxylink::record::{SessionOutcome, UnixMillis};
use seonapi_client::{CaTrust, Timeouts};
use serde_json::Value;

use super::*;

const SOON: Duration = Duration::from_secs(90);

/// Path below `/proxy/v1/`, body, and the place for the status; no status is silence.
type Answering = Box<dyn FnMut(&str, &Value) -> Option<u16> + Send>;

fn backend(answering: Answering) -> Arc<SeonApi> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answering = Arc::new(Mutex::new(answering));
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let answering = Arc::clone(&answering);
            std::thread::spawn(move || serve(&socket.unwrap(), &answering));
        }
    });
    api(address)
}

fn api(address: SocketAddr) -> Arc<SeonApi> {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let trust = CaTrust::Certificates(vec![key.cert.der().clone()]);
    let url = format!("http://{address}").parse().unwrap();
    Arc::new(SeonApi::new(url, "token", &trust, Timeouts::default()).unwrap())
}

fn serve(socket: &TcpStream, answering: &Mutex<Answering>) {
    let mut reader = BufReader::new(socket);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line == "\r\n" {
                break;
            }
            head.push(line.to_ascii_lowercase());
        }
        let path = head[0].split(' ').nth(1).unwrap().trim_start_matches("/proxy/v1/").to_owned();
        let length = head.iter().find_map(|line| line.strip_prefix("content-length:"));
        let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
        reader.read_exact(&mut body).unwrap();
        let status = answering.lock().unwrap()(&path, &serde_json::from_slice(&body).unwrap_or_default());
        let Some(status) = status else {
            // Silent until the other side gives up.
            let _ = reader.read(&mut [0]);
            return;
        };
        let answer = match path.as_str() {
            _ if status == 204 => "",
            "crl-urls" => r#"{"added":0,"known":0}"#,
            _ => r#"{"stored":0,"ignored":0,"duplicate":0}"#,
        };
        let length = if status == 204 { String::new() } else { format!("Content-Length: {}\r\n", answer.len()) };
        // The other refusals are as those of a web server in front of the backend.
        let kind = if status == 400 { "problem+json" } else { "json" };
        let answer = format!("HTTP/1.1 {status} x\r\nContent-Type: application/{kind}\r\n{length}\r\n{answer}");
        (&*socket).write_all(answer.as_bytes()).unwrap();
    }
}

/// What a healthy backend says.
fn taken(path: &str) -> u16 {
    if path == "status" { 204 } else { 202 }
}

fn run<T>(what: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(what)
}

fn report(text: &str) -> Report {
    Report {
        time: now(),
        situation: Situation::LimitReached,
        pid: 1,
        text: text.to_owned(),
        session: None,
        partner: None,
        peer: None,
    }
}

fn session(number: u32) -> Box<SessionReport> {
    let mut octets = [0; 16];
    octets[..4].copy_from_slice(&number.to_be_bytes());
    Box::new(SessionReport {
        id: SessionId::from_random(octets),
        direction: Direction::Incoming,
        partner: None,
        ssid_code: None,
        peer: "192.0.2.1:1".parse().unwrap(),
        called: None,
        certificate: None,
        tls: None,
        started: UnixMillis(0),
        ended: now(),
        outcome: SessionOutcome::Aborted,
        situation: Situation::SessionAborted,
        detail: number.to_string(),
        octets_from_partner: 0,
        octets_to_partner: 0,
        files: Vec::new(),
    })
}

fn begin(api: Arc<SeonApi>, scratch: &tempfile::TempDir) -> Reporter {
    start(api, || Directory::open(scratch.path())).unwrap()
}

fn lines(scratch: &tempfile::TempDir, file: &str) -> usize {
    std::fs::read_to_string(scratch.path().join(file)).unwrap().lines().count()
}

/// Everything that arrives, until so much has.
async fn arrived(arrivals: mpsc::Receiver<Value>, member: &'static str, most: usize) -> Vec<Value> {
    let all = tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        while all.len() < most {
            let body = arrivals.recv_timeout(SOON).unwrap();
            all.extend(body[member].as_array().into_iter().flatten().cloned());
        }
        all
    });
    all.await.unwrap()
}

#[test]
fn with_a_silent_backend_everything_is_on_disk_and_an_orderly_stop_loses_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let (asked, is_asked) = mpsc::channel();
    run(async {
        let silent = backend(Box::new(move |_, _| {
            asked.send(()).unwrap();
            None
        }));
        let reporter = begin(silent, &scratch);
        reporter.tell(Tell::Inside(report("first")));
        tokio::task::spawn_blocking(move || is_asked.recv_timeout(SOON).unwrap()).await.unwrap();
        // The delivery hangs now. More than any queue between would hold:
        for number in 0..3000 {
            reporter.tell(Tell::Inside(report(&number.to_string())));
        }
        reporter.tell(Tell::Session(session(1)));
        reporter.flush(Duration::ZERO).await;
    });
    assert_eq!(lines(&scratch, "events.spool"), 3001);
    assert_eq!(lines(&scratch, "sessions.spool"), 1);
}

#[test]
fn what_waits_from_before_a_restart_is_delivered() {
    let scratch = tempfile::tempdir().unwrap();
    run(async {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let reporter = begin(api(closed), &scratch);
        reporter.tell(Tell::Inside(report("left over")));
        reporter.flush(SOON).await;
    });
    run(async {
        let (arrive, arrivals) = mpsc::channel();
        let api = backend(Box::new(move |path, body| {
            arrive.send(body.clone()).unwrap();
            Some(taken(path))
        }));
        let reporter = begin(api, &scratch);
        let all = arrived(arrivals, "events", 1).await;
        assert_eq!(all[0]["message"], "left over");
        reporter.flush(SOON).await;
        assert_eq!(reporter.0.spool.oldest(Lane::Events, 9).len(), 0);
    });
}

#[test]
fn a_damaged_line_of_the_spool_is_passed_over_and_the_others_arrive_as_they_were_told() {
    let scratch = tempfile::tempdir().unwrap();
    run(async {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let reporter = begin(api(closed), &scratch);
        reporter.tell(Tell::Inside(report("first")));
        reporter.tell(Tell::Inside(report("second")));
        reporter.flush(Duration::ZERO).await;
    });
    let file = scratch.path().join("events.spool");
    let told = std::fs::read_to_string(&file).unwrap();
    let [first, second] = told.lines().collect::<Vec<_>>()[..] else { panic!("{told}") };
    let whole = [first, second].map(|line| serde_json::from_str::<Value>(line).unwrap());
    std::fs::write(&file, format!("{first}\n{}\n{{}}\n{second}\n", &second[..second.len() / 2])).unwrap();
    let (arrives, arrivals) = mpsc::channel();
    run(async {
        let healthy = backend(Box::new(move |path, body| {
            arrives.send(body.clone()).unwrap();
            Some(taken(path))
        }));
        let _reporter = begin(healthy, &scratch);
        assert_eq!(arrived(arrivals, "events", 2).await, whole);
    });
}

#[test]
fn a_flood_from_the_dmz_drops_nothing_of_the_inside_and_comes_after_it() {
    let scratch = tempfile::tempdir().unwrap();
    run(async {
        let (arrive, arrivals) = mpsc::channel();
        let api = backend(Box::new(move |path, body| {
            arrive.send(body.clone()).unwrap();
            Some(taken(path))
        }));
        let reporter = begin(api, &scratch);
        // The task that delivers does not run before this one waits.
        for number in 0..5003 {
            reporter.tell(Tell::Dmz(report("flood"), "dmz1".to_owned()));
            reporter.tell(Tell::Provoked(report("provoked")));
            reporter.tell(Tell::DmzSession(session(number)));
        }
        reporter.tell(Tell::Inside(report("inside")));
        reporter.tell(Tell::Session(session(1_000_000)));
        let bodies = tokio::task::spawn_blocking(move || {
            let mut bodies: Vec<Value> = Vec::new();
            let (mut events, mut sessions) = (0, 0);
            // Of the inside: its event, the one about what was dropped, a record.
            while (events, sessions) != (5002, 5001) {
                let body = arrivals.recv_timeout(SOON).unwrap();
                events += body["events"].as_array().map_or(0, Vec::len);
                sessions += body["sessions"].as_array().map_or(0, Vec::len);
                bodies.push(body);
            }
            bodies
        });
        let bodies = bodies.await.unwrap();
        let messages: Vec<_> = bodies[0]["events"].as_array().unwrap().iter().map(|event| &event["message"]).collect();
        assert_eq!(messages[0], "inside");
        let dropped = "dropped since the last such line: 5006 events of the DMZ, 3 session records of the DMZ";
        assert_eq!(messages[1..], [dropped]);
        assert_eq!(bodies[0]["events"][1]["code"], "spool-full");
        assert_eq!(bodies[1]["sessions"][0]["detail"], "session-aborted: 1000000");
        assert_eq!(bodies[2]["events"][0]["message"], "flood");
        assert_eq!(bodies[2]["events"][0]["component"], "proxyserver");
        assert_eq!(bodies[2]["events"][1]["component"], "proxyclient");
    });
}

#[test]
fn what_a_full_lane_of_events_lost_comes_to_the_system_log_when_there_is_room() {
    let scratch = tempfile::tempdir().unwrap();
    run(async {
        let (arrive, arrivals) = mpsc::channel();
        let api = backend(Box::new(move |path, body| {
            arrive.send(body.clone()).unwrap();
            Some(taken(path))
        }));
        let reporter = begin(api, &scratch);
        // The task that delivers does not run before this one waits.
        (0..20_005).for_each(|_| reporter.tell(Tell::Inside(report("flood"))));
        reporter.flush(SOON).await;
        reporter.flush(SOON).await;
        let all = arrived(arrivals, "events", 20_001).await;
        let last = all.last().unwrap();
        assert_eq!(
            (&last["code"], &last["message"]),
            (&"spool-full".into(), &"dropped since the last such line: 5 events".into())
        );
    });
}

/// What a backend has, and how many times it was asked.
#[derive(Default)]
struct Stored {
    details: HashSet<String>,
    messages: Vec<String>,
    asked: usize,
}

/// Sends records `0..count` to a backend that refuses a request with one of `poison` in it by that status.
fn with_poison(status: u16, count: u32, poison: &[u32]) -> Stored {
    let scratch = tempfile::tempdir().unwrap();
    let refused: Vec<_> = poison.iter().map(|number| format!("session-aborted: {number}")).collect();
    let stored = Arc::new(Mutex::new(Stored::default()));
    let store = Arc::clone(&stored);
    let answering = move |path: &str, body: &Value| {
        let mut store = store.lock().unwrap();
        let texts = |member: &str, name: &str| -> Vec<String> {
            let members = body[member].as_array().into_iter().flatten();
            members.map(|member| member[name].as_str().unwrap().to_owned()).collect()
        };
        store.messages.extend(texts("events", "message"));
        let details = texts("sessions", "detail");
        store.asked += usize::from(!details.is_empty());
        if details.iter().any(|detail| refused.contains(detail)) {
            return Some(status);
        }
        store.details.extend(details);
        Some(taken(path))
    };
    run(async {
        let reporter = begin(backend(Box::new(answering)), &scratch);
        for number in 0..count {
            reporter.tell(Tell::Session(session(number)));
        }
        reporter.flush(SOON).await;
        // The event about what was refused.
        reporter.flush(SOON).await;
    });
    std::mem::take(&mut *stored.lock().unwrap())
}

#[test]
fn of_a_batch_only_the_record_that_is_refused_is_lost_and_it_is_told_with_its_name() {
    for status in [400, 413] {
        let stored = with_poison(status, 450, &[3, 77, 201]);
        assert_eq!(stored.details.len(), 447, "{status}");
        for number in [3, 77, 201] {
            assert!(!stored.details.contains(&format!("session-aborted: {number}")));
            let name = session(number).id.to_string();
            let told = stored.messages.iter().filter(|message| message.contains(&name)).count();
            assert_eq!(told, 1, "{:?}", stored.messages);
        }
        assert!(stored.asked < 80, "{}", stored.asked);
    }
}

#[test]
fn a_backend_that_refuses_everything_does_not_empty_the_spool() {
    // 422 comes without a problem document, so from a web server in front of the backend.
    for (status, most) in [(400, MOST_REFUSED), (413, MOST_REFUSED), (422, 0)] {
        let scratch = tempfile::tempdir().unwrap();
        run(async {
            let reporter = begin(backend(Box::new(move |_, _| Some(status))), &scratch);
            for number in 0..100 {
                reporter.tell(Tell::Session(session(number)));
            }
            // However often it is tried.
            for _ in 0..5 {
                reporter.flush(SOON).await;
            }
            assert_eq!(reporter.0.spool.oldest(Lane::Sessions, 100).len(), 100 - most, "{status}");
        });
    }
}

/// A healthy backend but for a request to `path` with a report of `poison` in it, which it answers with that status. What it takes
/// of that path is sent on.
fn stumbling(status: u16, path: &'static str, poison: &[u32], taken_of_path: mpsc::Sender<String>) -> Arc<SeonApi> {
    let poison: Vec<_> = poison.iter().map(|number| format!("session-aborted: {number}")).collect();
    let member = if path == "events" { ("events", "message") } else { ("sessions", "detail") };
    backend(Box::new(move |asked, body| {
        let texts =
            body[member.0].as_array().into_iter().flatten().map(|one| one[member.1].as_str().unwrap().to_owned());
        let texts: Vec<_> = texts.collect();
        if asked == path && (poison.is_empty() || texts.iter().any(|text| poison.contains(text))) {
            return Some(status);
        }
        texts.into_iter().for_each(|text| taken_of_path.send(text).unwrap());
        Some(taken(asked))
    }))
}

/// A heartbeat, and a round or two.
async fn go_round(reporter: &Reporter) {
    let status = serde_json::from_value(serde_json::json!({ "client": {}, "link": "down" })).unwrap();
    reporter.tell(Tell::Status(Box::new(status)));
    reporter.flush(SOON).await;
}

#[test]
fn a_report_that_the_backend_stumbles_over_waits_behind_the_others_and_is_given_up_at_last() {
    for status in [500, 404, 403] {
        let scratch = tempfile::tempdir().unwrap();
        let (take, taken) = mpsc::channel();
        run(async {
            let api = stumbling(status, "sessions", &[3, 7], take);
            let open = || Directory::open(scratch.path());
            let reporter = start_with(api, open, PATIENCE).unwrap();
            (0..10).for_each(|number| reporter.tell(Tell::Session(session(number))));
            for _ in 0..SEVERAL + 3 {
                go_round(&reporter).await;
            }
            let expected = [0, 1, 2, 4, 5, 6, 8, 9].map(|number| format!("session-aborted: {number}"));
            assert_eq!(taken.try_iter().collect::<HashSet<_>>(), HashSet::from(expected), "{status}");
            assert_eq!(reporter.0.spool.count(Lane::Sessions), 2, "nothing is dropped");
            reporter.tell(Tell::Session(session(10)));
            go_round(&reporter).await;
            assert_eq!(taken.try_iter().collect::<Vec<_>>(), ["session-aborted: 10"], "{status}");
        });
        // With all patience gone they are dropped, once others were taken behind them.
        let scratch = tempfile::tempdir().unwrap();
        let (take, taken) = mpsc::channel();
        run(async {
            let api = stumbling(status, "sessions", &[3, 7], take);
            let open = || Directory::open(scratch.path());
            let reporter = start_with(api, open, Patience { give_up: Duration::ZERO, ..PATIENCE }).unwrap();
            [3, 7].into_iter().for_each(|number| reporter.tell(Tell::Session(session(number))));
            for _ in 0..SEVERAL + 3 {
                go_round(&reporter).await;
            }
            assert_eq!(reporter.0.spool.count(Lane::Sessions), 2, "nothing else is taken: {status}");
            reporter.tell(Tell::Session(session(11)));
            go_round(&reporter).await;
            go_round(&reporter).await;
            assert!(reporter.0.spool.is_empty(Lane::Sessions), "{status}");
            assert_eq!(taken.try_iter().collect::<Vec<_>>(), ["session-aborted: 11"]);
        });
    }
}

#[test]
fn a_path_that_is_forbidden_alone_holds_nothing_else_up_and_loses_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let (take, _taken) = mpsc::channel();
    run(async {
        let api = stumbling(403, "events", &[], take);
        let patience = Patience { give_up: Duration::ZERO, ..PATIENCE };
        let reporter = start_with(api, || Directory::open(scratch.path()), patience).unwrap();
        for number in 0..20 {
            reporter.tell(Tell::Inside(report(&number.to_string())));
            reporter.tell(Tell::Session(session(number)));
        }
        for _ in 0..SEVERAL + 20 {
            go_round(&reporter).await;
        }
        assert_eq!((reporter.0.spool.count(Lane::Events), reporter.0.spool.count(Lane::Sessions)), (20, 0));
    });
}

#[test]
fn reports_that_wait_for_long_are_told_once_and_that_they_arrive_again() {
    let scratch = tempfile::tempdir().unwrap();
    let is_full = Arc::new(Mutex::new(true));
    let (arrive, arrivals) = mpsc::channel();
    run(async {
        let full = Arc::clone(&is_full);
        let answering = move |path: &str, body: &Value| {
            if path == "sessions" && *full.lock().unwrap() {
                return Some(507);
            }
            let events = body["events"].as_array().cloned().unwrap_or_default();
            events.into_iter().for_each(|event| arrive.send(event).unwrap());
            Some(taken(path))
        };
        let patience = Patience { waits: Duration::ZERO, ..PATIENCE };
        let reporter = start_with(backend(Box::new(answering)), || Directory::open(scratch.path()), patience).unwrap();
        reporter.tell(Tell::Session(session(1)));
        reporter.tell(Tell::Session(session(2)));
        for _ in 0..3 {
            reporter.flush(SOON).await;
        }
        *is_full.lock().unwrap() = false;
        for _ in 0..3 {
            reporter.flush(SOON).await;
        }
    });
    let told: Vec<_> = arrivals.try_iter().map(|event| (event["code"].clone(), event["message"].clone())).collect();
    let codes: Vec<_> = told.iter().map(|(code, _)| code.as_str().unwrap()).collect();
    assert_eq!(codes, ["reports-wait", "reports-arrive"]);
    let expected = "the backend answers 507 where 202 was expected; waiting: 2 session records";
    assert_eq!(told[0].1, expected);
}

fn crl_url(number: usize) -> CrlUrl {
    let certificate = seonapi_client::Fingerprint::from([1; 32]);
    CrlUrl::new(&format!("http://ca.example/{number}.crl"), certificate, "CN=CA").unwrap()
}

#[test]
fn crl_urls_beyond_one_request_all_arrive_once_and_again_with_another_configuration() {
    let scratch = tempfile::tempdir().unwrap();
    run(async {
        let (arrive, arrivals) = mpsc::channel();
        let answering = move |path: &str, body: &Value| {
            arrive.send(body.clone()).unwrap();
            Some(taken(path))
        };
        let reporter = begin(backend(Box::new(answering)), &scratch);
        let tell = || reporter.tell(Tell::CrlUrls((0..100).map(crl_url).collect()));
        let count = || arrivals.try_iter().map(|body| body["crl_urls"].as_array().map_or(0, Vec::len)).sum::<usize>();
        tell();
        tell();
        reporter.flush(SOON).await;
        assert_eq!(count(), 100);
        tell();
        reporter.flush(SOON).await;
        assert_eq!(count(), 0);
        reporter.tell(Tell::Configured);
        tell();
        reporter.flush(SOON).await;
        assert_eq!(count(), 100);
    });
}

#[test]
fn a_crl_url_that_is_refused_is_not_sent_again_and_the_others_arrive() {
    let scratch = tempfile::tempdir().unwrap();
    run(async {
        let (arrive, arrivals) = mpsc::channel();
        let answering = move |path: &str, body: &Value| {
            let urls = body["crl_urls"].as_array().cloned().unwrap_or_default();
            let refused = urls.iter().any(|url| url["url"] == "http://ca.example/7.crl");
            arrive.send((refused, urls.len())).unwrap();
            Some(if refused { 400 } else { taken(path) })
        };
        let reporter = begin(backend(Box::new(answering)), &scratch);
        reporter.tell(Tell::CrlUrls((0..10).map(crl_url).collect()));
        reporter.flush(SOON).await;
        let asked: Vec<_> = arrivals.try_iter().collect();
        assert_eq!(asked.iter().filter(|(refused, _)| !refused).map(|(_, urls)| urls).sum::<usize>(), 9);
        reporter.tell(Tell::CrlUrls((0..10).map(crl_url).collect()));
        reporter.flush(SOON).await;
        assert_eq!(arrivals.try_iter().count(), 0);
    });
}

#[test]
fn with_the_backend_away_crl_urls_wait() {
    let scratch = tempfile::tempdir().unwrap();
    run(async {
        let (arrive, arrivals) = mpsc::channel();
        let mut answers = 0;
        let answering = move |path: &str, body: &Value| {
            answers += 1;
            if answers == 1 {
                return Some(503);
            }
            arrive.send(body.clone()).unwrap();
            Some(taken(path))
        };
        let reporter = begin(backend(Box::new(answering)), &scratch);
        reporter.tell(Tell::CrlUrls((0..10).map(crl_url).collect()));
        reporter.flush(SOON).await;
        reporter.tell(Tell::CrlUrls((0..10).map(crl_url).collect()));
        reporter.flush(SOON).await;
        assert_eq!(arrivals.try_iter().map(|body| body["crl_urls"].as_array().unwrap().len()).sum::<usize>(), 10);
    });
}

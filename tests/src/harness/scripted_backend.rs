//! A Seon API backend that notes every request and answers as a scenario tells it to.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::Trouble;
use crate::station::{Identity, TlsSettings, TlsVersions, Trust, sha256};

/// Path of the API on this backend.
pub const BASE: &str = "/seonapi/index.php";

/// No request of the API is larger.
const LARGEST_BODY: u64 = 2 * 1024 * 1024;

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// When it had been read.
    pub at: Instant,
    /// GET, POST or PUT.
    pub method: String,
    /// Path without [`BASE`]: `/proxy/v1/config`.
    pub path: String,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Request {
    /// The header of that name (in small letters).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body, read as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers beside the length.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// JSON with that status.
    pub fn json(status: u16, value: &Value) -> Self {
        let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        Self { status, headers, body: value.to_string().into_bytes() }
    }

    /// `application/problem+json`, as the contract has it for refusals.
    pub fn problem(status: u16, title: &str) -> Self {
        let headers = vec![("Content-Type".to_owned(), "application/problem+json".to_owned())];
        Self { status, headers, body: json!({ "title": title, "status": status }).to_string().into_bytes() }
    }
}

/// Answers a request instead of the backend; `None` leaves it to the backend.
pub type Script = Box<dyn FnMut(&Request) -> Option<Answer> + Send>;

/// The backend. It stops answering, and drops its connections, when dropped.
pub struct ScriptedBackend {
    address: SocketAddr,
    listener: TcpListener,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Default)]
struct State {
    token: String,
    config: Value,
    requests: Vec<Request>,
    script: Option<Script>,
    connections: Vec<TcpStream>,
    stopped: bool,
}

impl ScriptedBackend {
    /// Listens on a free loopback port, with that certificate, and takes that security token only.
    pub fn start(identity: Identity, token: &str) -> Result<Self, Trouble> {
        let tls =
            TlsSettings { identity: Some(identity), trust: Trust::Anybody, versions: TlsVersions::Both }.server()?;
        let listener = TcpListener::bind("127.0.0.1:0").map_err(Trouble::io("backend"))?;
        let address = listener.local_addr().map_err(Trouble::io("backend"))?;
        let state = State { token: token.to_owned(), ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), more: Condvar::new() });
        let (serving, accepts) = (shared.clone(), listener.try_clone().map_err(Trouble::io("backend"))?);
        thread::spawn(move || {
            for socket in accepts.incoming() {
                let mut state = serving.lock();
                if state.stopped {
                    return;
                }
                let Ok(socket) = socket else { continue };
                state.connections.extend(socket.try_clone());
                let (shared, tls) = (serving.clone(), tls.clone());
                thread::spawn(move || shared.serve(socket, tls));
            }
        });
        Ok(Self { address, listener, shared })
    }

    /// What a proxyclient takes with `-U`.
    pub fn url(&self) -> String {
        format!("https://{}{BASE}", self.address)
    }

    /// The configuration that is answered from now on.
    pub fn set_config(&self, config: Value) {
        self.shared.lock().config = config;
    }

    /// Who is asked first from now on.
    pub fn set_script(&self, script: impl FnMut(&Request) -> Option<Answer> + Send + 'static) {
        self.shared.lock().script = Some(Box::new(script));
    }

    /// From now on the backend answers for itself again.
    pub fn clear_script(&self) {
        self.shared.lock().script = None;
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// Waits for a request that `wanted` takes, since the start.
    pub fn wait_for(
        &self,
        what: &str,
        patience: Duration,
        wanted: impl Fn(&Request) -> bool,
    ) -> Result<Request, Trouble> {
        let end = Instant::now() + patience;
        let mut state = self.shared.lock();
        loop {
            if let Some(found) = state.requests.iter().find(|request| wanted(request)) {
                return Ok(found.clone());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let seen: Vec<String> =
                    state.requests.iter().map(|request| format!("  {} {}\n", request.method, request.path)).collect();
                return Err(Trouble(format!("the backend was not asked for {what}; it was asked:\n{}", seen.concat())));
            }
            state = self.shared.more.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// All session records so far.
    pub fn session_records(&self) -> Vec<Value> {
        self.posted("/proxy/v1/sessions", "sessions")
    }

    /// All events so far.
    pub fn events(&self) -> Vec<Value> {
        self.posted("/proxy/v1/events", "events")
    }

    /// Waits for a session record that `wanted` takes.
    pub fn wait_for_record(
        &self,
        what: &str,
        patience: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, Trouble> {
        let in_it = |request: &Request| {
            request.path == "/proxy/v1/sessions"
                && request.json()["sessions"].as_array().is_some_and(|records| records.iter().any(&wanted))
        };
        let request = self.wait_for(what, patience, in_it)?;
        let records = request.json()["sessions"].as_array().cloned().unwrap_or_default();
        records.into_iter().find(wanted).ok_or_else(|| Trouble("no such record".into()))
    }

    fn posted(&self, path: &str, member: &str) -> Vec<Value> {
        // Read when nobody waits for an answer any more: there may be thousands of them.
        let requests: Vec<Request> =
            self.shared.lock().requests.iter().filter(|request| request.path == path).cloned().collect();
        requests.iter().flat_map(|request| request.json()[member].as_array().cloned().unwrap_or_default()).collect()
    }
}

impl Drop for ScriptedBackend {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stopped = true;
        for connection in state.connections.drain(..) {
            // It may be closed already.
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
        drop(state);
        // Wakes the thread that accepts; a call would not, from another network namespace.
        let _ = nix::sys::socket::shutdown(self.listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, socket: TcpStream, tls: Arc<ServerConfig>) {
        let Ok(connection) = ServerConnection::new(tls) else { return };
        let mut stream = BufReader::new(StreamOwned::new(connection, socket));
        // Any trouble with a connection is the caller's to see.
        while let Ok(Some(request)) = read(&mut stream) {
            let answer = self.answer(request);
            if write(stream.get_mut(), &answer).is_err() {
                return;
            }
        }
    }

    fn answer(&self, request: Request) -> Answer {
        let mut state = self.lock();
        let scripted = state.script.as_mut().and_then(|script| script(&request));
        let answer = scripted.unwrap_or_else(|| state.ordinary(&request));
        state.requests.push(request);
        self.more.notify_all();
        answer
    }
}

impl State {
    fn ordinary(&self, request: &Request) -> Answer {
        if request.header("x-seon-token") != Some(&self.token) {
            return Answer::problem(401, "No token, or an unknown one");
        }
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/proxy/v1/config") => {
                let etag = format!("\"{}\"", &sha256(self.config.to_string().as_bytes()));
                let mut answer = if request.header("if-none-match") == Some(&etag) {
                    Answer { status: 304, headers: Vec::new(), body: Vec::new() }
                } else {
                    Answer::json(200, &self.config)
                };
                answer.headers.push(("ETag".to_owned(), etag));
                answer
            }
            ("POST", "/proxy/v1/events") => {
                let count = request.json()["events"].as_array().map_or(0, Vec::len);
                Answer::json(202, &json!({ "stored": count, "ignored": 0, "duplicate": 0 }))
            }
            ("POST", "/proxy/v1/crl-urls") => Answer::json(202, &json!({ "added": 0, "known": 0 })),
            ("POST", "/proxy/v1/sessions") => Answer { status: 202, headers: Vec::new(), body: Vec::new() },
            ("PUT", "/proxy/v1/status") => Answer { status: 204, headers: Vec::new(), body: Vec::new() },
            _ => Answer::problem(404, "No such thing"),
        }
    }
}

/// The next request; `None` when the caller has closed.
fn read(stream: &mut impl BufRead) -> io::Result<Option<Request>> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Err(invalid("request line")) };
    let (method, path) = (method.to_owned(), path.trim_start_matches(BASE).to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    let mut request = Request { at: Instant::now(), method, path, headers, body: Vec::new() };
    let length: u64 = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    if length > LARGEST_BODY {
        return Err(invalid("content-length"));
    }
    stream.take(length).read_to_end(&mut request.body)?;
    request.at = Instant::now();
    Ok(Some(request))
}

fn write(stream: &mut impl Write, answer: &Answer) -> io::Result<()> {
    let Answer { status, headers, body } = answer;
    let mut head = format!("HTTP/1.1 {status} -\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    // RFC 9110, 8.6: neither of both has a body, nor a length.
    if !matches!(status, 204 | 304) {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    stream.write_all(&[head.as_bytes(), b"\r\n", body].concat())?;
    stream.flush()
}

//! A backend of one test: a folder made by `init`, the running binary, and callers.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use seonapi_client::{CaTrust, SeonApi, Timeouts};

pub const PROXY_ID: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015adpx";
const SERVE: [&str; 6] = ["serve", "--config", "b/seon_backend.toml", "--listen", "127.0.0.1:0", "--access-log"];
/// Longer than anything takes; only a failing test waits for it.
const DEADLINE: Duration = Duration::from_secs(90);

/// A folder made by `seon_backend init`.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// Made with more options.
    pub fn with(options: &[&str]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let made = folder.run(&[&["init", "b", "--proxy-id", PROXY_ID], options].concat());
        assert!(made.status.success(), "{made:?}");
        folder
    }

    /// Runs the binary to its end in the folder that holds `b`.
    pub fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_seon_backend")).current_dir(self.0.path()).args(arguments).output().unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("b").join(name)
    }

    /// Of a file beside `b`.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn config(&self) -> String {
        fs::read_to_string(self.path("seon_backend.toml")).unwrap()
    }

    /// Replaces the configuration file as editors do: the new one takes the old one's name.
    pub fn set_config(&self, text: &str) {
        let draft = self.path("seon_backend.toml.new");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, self.path("seon_backend.toml")).unwrap();
    }

    /// Replaces one part of the configuration, which must be there.
    pub fn change_config(&self, old: &str, new: &str) {
        let text = self.config();
        assert!(text.contains(old), "{old} is not in {text}");
        self.set_config(&text.replacen(old, new, 1));
    }

    /// What `config check` says, and whether it found the file good.
    pub fn check(&self) -> (bool, String) {
        let output = self.run(&["config", "check", "b/seon_backend.toml"]);
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    }

    pub fn token(&self, name: &str) -> String {
        let output = self.run(&["token", "new", "--name", name, "--config", "b/seon_backend.toml"]);
        assert!(output.status.success(), "{output:?}");
        text(&output.stdout).trim().to_owned()
    }

    pub fn serve(&self) -> Serving {
        self.serve_with(&[])
    }

    /// Serves with more options. HTTPS to others trusts the backend's own CA.
    pub fn serve_with(&self, options: &[&str]) -> Serving {
        Serving::start(self.0.path(), &[&SERVE, options].concat(), &self.path("https/ca.pem"), &[])
    }

    /// Serves with more in its environment.
    pub fn serve_in(&self, environment: &[(&str, &OsStr)]) -> Serving {
        Serving::start(self.0.path(), &SERVE, &self.path("https/ca.pem"), environment)
    }

    /// A client with this token, for the backend at this address.
    pub fn client(&self, serving: &Serving, token: &str) -> SeonApi {
        let url = format!("https://{}/seonapi/index.php", serving.address).parse().unwrap();
        let trust = CaTrust::File(self.path("https/ca.pem"));
        SeonApi::new(url, token, &trust, Timeouts::default()).unwrap()
    }

    /// Sends a request as it stands and gives the whole answer.
    pub fn raw(&self, serving: &Serving, request: &[u8]) -> String {
        self.raw_to("localhost", serving, request)
    }

    /// Sends a request to a backend that must be the one of this name.
    pub fn raw_to(&self, name: &str, serving: &Serving, request: &[u8]) -> String {
        let roots = CertificateDer::from_pem_file(self.path("https/ca.pem")).unwrap();
        let mut store = RootCertStore::empty();
        store.add(roots).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(store)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let socket = TcpStream::connect(serving.address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(tls), name).unwrap(), socket);
        // The backend may answer and close before it has read everything.
        let _ = std::io::Write::write_all(&mut stream, request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    /// Sends a request with this body and gives status line, headers and body.
    pub fn call(&self, serving: &Serving, line: &str, token: &str, body: &str) -> String {
        let request = format!(
            "{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-seon-token: {token}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.raw(serving, request.as_bytes())
    }
}

/// The running binary. It is ended with the test.
pub struct Serving {
    child: Child,
    pub address: SocketAddr,
    lines: Mutex<Receiver<String>>,
    said: Mutex<Vec<String>>,
}

impl Serving {
    fn start(folder: &Path, arguments: &[&str], system_ca: &Path, environment: &[(&str, &OsStr)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_seon_backend"))
            .current_dir(folder)
            .args(arguments)
            .env("SSL_CERT_FILE", system_ca)
            .env_remove("SSL_CERT_DIR")
            .env_remove("CREDENTIALS_DIRECTORY")
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let errors = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || errors.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let address =
            ready.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{ready:?}")).parse().unwrap();
        Self { child, address, lines: Mutex::new(lines), said: Mutex::new(Vec::new()) }
    }

    /// Waits for a line on standard error with this text, among those that came before too.
    pub fn wait_for(&self, part: &str) -> String {
        let mut said = self.said.lock().unwrap();
        if let Some(line) = said.iter().find(|line| line.contains(part)) {
            return line.clone();
        }
        let lines = self.lines.lock().unwrap();
        let end = Instant::now() + DEADLINE;
        loop {
            match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    said.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {part:?} among {said:#?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("ended without {part:?}: {said:#?}"),
            }
        }
    }

    /// How many lines with this text came so far, once one with `after` has come.
    pub fn count(&self, part: &str, after: &str) -> usize {
        self.wait_for(after);
        self.said.lock().unwrap().iter().filter(|line| line.contains(part)).count()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Sends the signal and gives the exit code.
    pub fn end(mut self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn text(octets: &[u8]) -> String {
    String::from_utf8(octets.to_vec()).unwrap()
}

//! A machine that is a folder: `/opt`, `/etc`, `/usr` and `/var` of the pages are in it, and systemd is the test.
//!
//! Replaced are only what a test cannot have: the root of the file system, users, fixed ports and the service manager,
//! which here starts what the installed units say.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use nix::unistd::User;
use tests::harness::{Process, Scratch, ServiceManager, binary};

use crate::page::commands;

/// Ports instead of 6619, 2878, 8443, 3305, 3306, and the partner's own 6619.
#[derive(Clone, Copy)]
pub struct Ports {
    pub partners: u16,
    pub link: u16,
    pub backend: u16,
    pub station: u16,
    pub proxy: u16,
    pub called: u16,
}

impl Ports {
    /// Where the partner of the pages is called, and inside stations call.
    fn of_calls(self, text: &str) -> String {
        let called = format!("127.0.0.1:{}", self.called);
        text.replace("oftp2.acme.example:6619", &called).replace("3306", &self.proxy.to_string())
    }
}

/// The machine.
pub struct Machine {
    root: PathBuf,
    ports: Ports,
    user: Vec<String>,
    /// Whom the units' `User=` is here; nobody else than now, where the test is not root's.
    runs_as: Option<User>,
    /// For the sockets of service managers.
    scratch: Scratch,
    services: RefCell<HashMap<String, (ServiceManager, Process)>>,
}

impl Machine {
    /// With the built programs under `target/release`, and the project's folders.
    pub fn new(scratch: &Scratch, name: &str, ports: Ports) -> Self {
        let root = scratch.directory(name).unwrap();
        for directory in ["etc/systemd/system", "opt", "usr/local/share/man", "var/lib", "work/target"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        // Whoever the daemons become has to get through.
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
        for name in ["etc", "docs", "README.md"] {
            symlink(project.join(name), root.join("work").join(name)).unwrap();
        }
        let programs = binary("seon_backend").unwrap();
        symlink(programs.parent().unwrap(), root.join("work/target/release")).unwrap();
        Self {
            root,
            ports,
            runs_as: scratch.user_options().get(1).and_then(|name| User::from_name(name).unwrap()),
            user: scratch.user_options(),
            scratch: Scratch::new().unwrap(),
            services: RefCell::default(),
        }
    }

    /// A file in the folder where commands are given.
    pub fn put(&self, name: &str, content: &str) {
        fs::write(self.root.join("work").join(name), content).unwrap();
    }

    /// The same, if it is there.
    pub fn get(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.root.join("work").join(name)).ok()
    }

    /// Gives the commands of a block, one after the other. Each has to succeed. Returns what they print.
    pub fn run(&self, block: &str) -> String {
        let mut said = String::new();
        for command in commands(block) {
            match command.strip_prefix("systemctl ") {
                Some(order) => self.systemctl(order),
                None => said += &self.shell(&command),
            }
        }
        said
    }

    fn shell(&self, command: &str) -> String {
        let here = self.here(command);
        // Users are those of the machine that runs the test.
        if here.starts_with("useradd ") || (here.starts_with("chown ") && self.user.is_empty()) {
            return String::new();
        }
        if here.contains("/proc/") && self.runs_as.is_none() {
            println!("skipped: only root sees what the daemons have open");
            return String::new();
        }
        if here.starts_with("systemd-analyze ") && Command::new("systemd-analyze").arg("--version").output().is_err() {
            println!("skipped: there is no systemd-analyze here");
            return String::new();
        }
        let mut bash = Command::new("bash");
        let done =
            bash.args(["-euc", &here]).current_dir(self.root.join("work")).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(
            done.status.success(),
            "{command}\n({here})\n{}\n{said}{}",
            done.status,
            String::from_utf8_lossy(&done.stderr)
        );
        // A page may show what is told on standard error, as the client line.
        said + &String::from_utf8_lossy(&done.stderr)
    }

    /// The command with this machine's root, ports and users.
    fn here(&self, command: &str) -> String {
        let mut text = self.paths(command);
        let user = self.user.get(1).map_or("", String::as_str);
        let group = self.runs_as.as_ref().map_or_else(String::new, |user| format!(" -g {}", user.gid));
        for name in ["seon_proxyserver", "seon_proxyclient", "seon_backend"] {
            let shared = if user.is_empty() { String::new() } else { format!(" -o root{group}") };
            text = text.replace(&format!(" -o root -g {name}"), &shared);
            if user.is_empty() {
                text = text.replace(&format!(" -o {name} -g {name}"), "").replace(&format!(" -u {name} "), " ");
                text = text.strip_suffix(&format!(" -u {name}")).map_or(text.clone(), str::to_owned);
            } else {
                text = text.replace(&format!(" -o {name} -g {name}"), &format!(" -o {user}"));
                text = text.replace(&format!(" -u {name}"), &format!(" -u {user}"));
                text = text.replace(&format!("chown {name} "), &format!("chown {user} "));
                text = text.replace(&format!("chown -R {name}: "), &format!("chown -R {user} "));
            }
        }
        let root = self.root.display();
        let Ports { partners, link, backend, station, .. } = self.ports;
        let options = [
            (
                "/seon_proxyserver2 ",
                format!("--state-dir {root}/var/lib/seon_proxy -l {root}/etc/seon_proxy.lic -i 127.0.0.1:{link} "),
            ),
            ("/seon_proxyclient2 ", format!("--state-dir {root}/var/lib/seon_proxyclient ")),
        ];
        if !text.starts_with("install ") {
            for (program, options) in options {
                text = text.replace(program, &format!("{program}{options}"));
            }
        }
        let text = self.ports.of_calls(&text);
        text.replace("DMZ-HOST:6619", &format!("127.0.0.1:{partners}"))
            .replace("DMZ-HOST", &format!("127.0.0.1:{link}"))
            .replace(":8443", &format!(":{backend}"))
            .replace("3305", &station.to_string())
            // Licences of the pages end; those of tests do not.
            .replace("--from 2026-01-01 --until 2027-12-31", "--from 2020-01-01 --until 2099-12-31")
            .replace("seon_backend init ", "seon_backend init --listen 127.0.0.1:PORT ")
            .replace("127.0.0.1:PORT", &format!("127.0.0.1:{backend}"))
    }

    /// Absolute paths, in this machine's folder.
    fn paths(&self, text: &str) -> String {
        let mut made = String::new();
        let mut before = ' ';
        for (place, octet) in text.char_indices() {
            let begins = " @=\"(\n:".contains(before) && octet == '/';
            let ours = ["/opt/", "/etc/", "/usr/local/", "/var/lib/"];
            if begins && ours.iter().any(|path| text[place..].starts_with(path)) {
                made += &self.root.to_string_lossy();
            }
            made.push(octet);
            before = octet;
        }
        made
    }

    /// Sets what the page shows in the backend's configuration: members of tables there, new entries of lists.
    pub fn configure(&self, wanted: &str) {
        let path = self.root.join("var/lib/seon_backend/seon_backend.toml");
        let mut lines: Vec<String> = fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
        let mut table = String::new();
        let wanted = self.ports.of_calls(&wanted.replace("3305", &self.ports.station.to_string()));
        for line in wanted.lines().filter(|line| !line.is_empty()) {
            if line.starts_with('[') {
                line.clone_into(&mut table);
                if line.starts_with("[[") {
                    lines.push(line.to_owned());
                }
                continue;
            }
            let name = line.split_whitespace().next().unwrap();
            if table.starts_with("[[") {
                lines.push(line.to_owned());
                continue;
            }
            let begin = lines.iter().position(|there| *there == table).unwrap_or_else(|| panic!("no {table}"));
            let member = lines.iter().skip(begin + 1).take_while(|there| !there.starts_with('['));
            match member.into_iter().position(|there| there.starts_with(&format!("{name} ="))) {
                Some(place) => line.clone_into(&mut lines[begin + 1 + place]),
                None => lines.insert(begin + 1, line.to_owned()),
            }
        }
        for line in &mut lines {
            *line = line.replace("tls_port = 6619", &format!("tls_port = {}", self.ports.partners));
        }
        fs::write(&path, lines.join("\n") + "\n").unwrap();
    }

    // The service manager

    fn systemctl(&self, order: &str) {
        let words: Vec<_> = order.split_whitespace().collect();
        match words.as_slice() {
            ["daemon-reload"] => {}
            ["enable", "--now", unit] => self.start(unit),
            ["status", unit] => {
                let services = self.services.borrow();
                let (manager, _) = services.get(*unit).unwrap_or_else(|| panic!("{unit} was not started"));
                manager.hears("STATUS=linked, the partner port is open").unwrap();
            }
            ["stop" | "restart", unit] => {
                // It is ended in order, and waited for, when it is dropped.
                drop(self.services.borrow_mut().remove(*unit));
                let pid_files = self.beside(unit).filter(|path| path.extension().is_some_and(|word| word == "pid"));
                assert_eq!(pid_files.count(), 0, "{unit} has left its PID file");
                if words[0] == "restart" {
                    self.start(unit);
                }
            }
            other => panic!("systemctl {other:?} is not known here"),
        }
    }

    /// What is in the folder of the program.
    pub fn beside(&self, name: &str) -> impl Iterator<Item = PathBuf> {
        let folder = self.root.join("opt/seon").join(name.trim_start_matches("seon_").trim_end_matches('2'));
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())
    }

    /// A log file of that day, as old as it says, beside the program.
    pub fn old_log(&self, name: &str, days: u64) -> PathBuf {
        let log = self.beside(name).find(|path| path.extension().is_some_and(|word| word == "log")).unwrap();
        let stem = log.file_name().unwrap().to_string_lossy();
        let stem = stem.split_once('-').unwrap().0;
        let written = SystemTime::now() - Duration::from_secs(days * 86_400);
        let date = chrono::DateTime::<chrono::Local>::from(written).format("%Y-%m-%d");
        let old = log.with_file_name(format!("{stem}-{date}.log"));
        fs::File::create(&old).unwrap().set_modified(written).unwrap();
        old
    }

    /// The daemon's user cannot put something else in the place of what root will execute, or of what it reads.
    pub fn keeps_from_its_daemon(&self, name: &str) {
        let Some(user) = &self.runs_as else {
            println!("skipped: only root can try to replace {name} as its user");
            return;
        };
        let files = |path: &PathBuf| path.ends_with(name) || path.extension().is_some_and(|word| word == "logrc");
        for path in self.beside(name).filter(files) {
            let before = fs::metadata(&path).unwrap();
            for attempt in ["rm -f \"$0\"", "mv -f \"$0\" \"$0.old\"", "echo >> \"$0\"", "chmod a+w \"$0\""] {
                let mut sh = Command::new("sh");
                sh.args(["-c", attempt]).arg(&path).uid(user.uid.as_raw()).gid(user.gid.as_raw());
                assert!(!sh.output().unwrap().status.success(), "{attempt}: {}", path.display());
            }
            let after = fs::metadata(&path).unwrap();
            assert_eq!((before.ino(), before.mode(), before.len()), (after.ino(), after.mode(), after.len()));
        }
        // While the daemon's own log is there.
        assert!(self.beside(name).any(|path| path.extension().is_some_and(|word| word == "log")), "{name} has no log");
    }

    /// Starts what the installed unit says, with its environment and credentials, and waits until it is ready.
    fn start(&self, name: &str) {
        let unit = fs::read_to_string(self.root.join(format!("etc/systemd/system/{name}.service"))).unwrap();
        let all = |key: &str| {
            unit.lines()
                .filter_map(|line| line.strip_prefix(key))
                .map(|value| self.paths(&format!(" {value}")))
                .collect::<Vec<_>>()
        };
        let mut environment = HashMap::new();
        for file in all("EnvironmentFile=") {
            for line in fs::read_to_string(file.trim()).unwrap().lines() {
                let (variable, value) = line.split_once('=').unwrap();
                environment.insert(variable.to_owned(), value.to_owned());
            }
        }
        let mut start = all("ExecStart=").remove(0).trim().to_owned();
        for (variable, value) in &environment {
            start = start.replace(&format!("${{{variable}}}"), value).replace(&format!("${variable}"), value);
        }
        let start = self.here(&start);
        let mut words = start.split_whitespace();
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        if let Some(user) = &self.runs_as {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        let credentials = self.scratch.directory(&format!("{name}.credentials")).unwrap();
        for credential in all("LoadCredential=") {
            let (id, path) =
                credential.trim().split_once(':').map(|(id, path)| (id.to_owned(), path.to_owned())).unwrap();
            self.scratch.write(&format!("{name}.credentials/{id}"), fs::read(path).unwrap()).unwrap();
        }
        command.env("CREDENTIALS_DIRECTORY", credentials);
        let notify = format!("{name}.notify");
        // The socket of its life before, if it is started again.
        let _ = fs::remove_file(self.scratch.path().join(&notify));
        let manager = ServiceManager::new(&self.scratch, &notify).unwrap();
        let process = Process::start(name, manager.starts(&mut command)).unwrap();
        if let Err(trouble) = manager.hears("READY=1") {
            panic!("{start}\n{trouble}\n{}", process.last_lines(20));
        }
        self.services.borrow_mut().insert(name.to_owned(), (manager, process));
    }
}

/// nft reads the rules, in a network of its own, where it is there and may.
pub fn check_firewall(rules: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.nft");
    fs::write(&file, rules).unwrap();
    match Command::new("unshare").args(["--net", "nft", "--check", "--file"]).arg(&file).output() {
        Ok(done) if done.status.success() => {}
        Ok(done) => {
            let told = String::from_utf8_lossy(&done.stderr);
            let cannot =
                ["not permitted", "No such file", "not found", "cannot run"].iter().any(|word| told.contains(word));
            assert!(cannot, "{told}");
            println!("skipped: nft cannot be asked here: {}", told.trim());
        }
        Err(error) => println!("skipped: {error}"),
    }
}

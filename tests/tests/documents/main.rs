//! The pages in `docs` are followed command by command, with the built programs, on two machines that are folders.

mod machine;
mod page;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tests::harness::{PATIENCE, Process, Scratch, binary, free_port, until};
use tests::pki::{Authority, Purpose, Wanted};

use self::machine::{Machine, Ports};
use self::page::{Block, blocks};

fn document(name: &str) -> Vec<Block> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    blocks(&fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// Two machines, a partner, and the station inside; what a reader of the pages has.
struct Site {
    dmz: Machine,
    inside: Machine,
    partner: Machine,
    received: PathBuf,
    taken_by_partner: PathBuf,
    proxy_id: String,
    client_line: String,
    fingerprint: String,
    _stations: [Process; 2],
    _scratch: Scratch,
}

impl Site {
    fn new() -> Self {
        let scratch = Scratch::new().unwrap();
        let port = || free_port().unwrap();
        let received = scratch.directory("received").unwrap();
        let mut station = std::process::Command::new(binary("oftp2_station").unwrap());
        station.args([
            "receive",
            "--listen",
            "127.0.0.1:0",
            "--code",
            "O0013000000INSIDE",
            "--password",
            "INSIDE",
            "--eerp",
        ]);
        let station = Process::start("station", station.arg("--directory").arg(&received)).unwrap();
        let listening = station.wait_for_text("listening on ").unwrap();
        let station_port = listening.rsplit(':').next().and_then(|port| port.trim().parse().ok()).unwrap();
        let (proxy, called) = (port(), port());
        let ports = Ports { partners: port(), link: port(), backend: port(), station: station_port, proxy, called };
        let authority = Authority::new("Partners").unwrap();
        let acme =
            authority.issue(&Wanted { name: "acme.example", purpose: Purpose::Both, ..Wanted::default() }).unwrap();
        let machine = |name: &str| {
            let machine = Machine::new(&scratch, name, ports);
            machine.put("acme.pem", &acme.chain_pem);
            machine.put("acme.key", &acme.key_pem);
            machine
        };
        let taken = scratch.directory("taken-by-partner").unwrap();
        let mut listens = std::process::Command::new(binary("oftp2_station").unwrap());
        listens.args(["receive", "--listen", &format!("127.0.0.1:{called}"), "--code", "O0013000000ACME", "--eerp"]);
        listens.args(["--tls-insecure", "--cert"]).arg(scratch.write("acme.pem", &acme.chain_pem).unwrap());
        listens.arg("--key").arg(scratch.write("acme.key", &acme.key_pem).unwrap()).arg("--directory").arg(&taken);
        let called = Process::start("the partner's station", &mut listens).unwrap();
        let (dmz, inside, partner) = (machine("dmz"), machine("inside"), machine("partner"));
        let empty = String::new;
        Self {
            dmz,
            inside,
            partner,
            received,
            taken_by_partner: taken,
            proxy_id: empty(),
            client_line: empty(),
            fingerprint: empty(),
            _stations: [station, called],
            _scratch: scratch,
        }
    }

    /// Does what a block says, and keeps what a reader would write down.
    fn follow(&mut self, block: &Block) -> String {
        let text = block
            .text
            .replace("PROXY-ID", &self.proxy_id)
            .replace("CLIENT-LINE", &self.client_line)
            .replace("FINGERPRINT", &self.fingerprint);
        let said = match block.kind.as_str() {
            "sh dmz" => self.dmz.run(&text),
            "sh inside" => self.inside.run(&text),
            "sh partner" => self.partner.run(&text),
            // The programs are built before any test is.
            "sh build" => {
                assert_eq!(text, "cargo build --release\n");
                String::new()
            }
            "toml" => {
                self.inside.configure(&text);
                String::new()
            }
            "nft" => {
                machine::check_firewall(&text);
                String::new()
            }
            other => panic!("a block of kind {other:?} is not followed:\n{text}"),
        };
        for line in said.lines() {
            let hex = |text: &str| text.len() >= 64 && text.bytes().take(64).all(|octet| octet.is_ascii_hexdigit());
            let word = line.split_whitespace().next().unwrap_or_default();
            if word.ends_with("px") && hex(word) {
                word.clone_into(&mut self.proxy_id);
            } else if line.starts_with("client:") {
                line.clone_into(&mut self.client_line);
            } else if block.text.contains("fingerprint") && hex(word) {
                self.fingerprint = word[..64].to_owned();
            }
        }
        // The licence is carried over by hand.
        if let Some(licence) = self.inside.get("seon_proxy.lic") {
            self.dmz.put("seon_proxy.lic", &licence);
        }
        said
    }
}

/// As the set-up page leaves it.
fn set_up() -> Site {
    let mut site = Site::new();
    for block in document("set-up.md") {
        site.follow(&block);
    }
    site
}

#[test]
fn set_up_leads_from_nothing_to_the_first_file() {
    let site = set_up();
    assert_eq!(site.proxy_id.len(), 66);
    site.dmz.keeps_from_its_daemon("seon_proxyserver2");
    site.inside.keeps_from_its_daemon("seon_proxyclient2");
    let sent = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    for place in [&site.received, &site.taken_by_partner] {
        let mut arrived = fs::read_dir(place).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap());
        assert!(arrived.any(|file| file == sent), "the file is not in {} as it was sent", place.display());
    }
    // The records are there a moment after the files; then these commands show them.
    let mut blocks = document("set-up.md").into_iter();
    let shows = blocks.find(|block| block.text.contains("seon_backend sessions ")).unwrap();
    let both = |said: &String| said.matches("completed").count() >= 2;
    let shown = until(PATIENCE, || Some(site.inside.run(&shows.text)).filter(both));
    let shown = shown.unwrap_or_else(|| panic!("no session records: {}", site.inside.run(&shows.text)));
    assert!(shown.contains("ACME") && shown.contains("link-up"), "{shown}");
}

#[test]
fn the_other_pages_can_be_followed_on_what_was_set_up() {
    let mut site = set_up();
    let logs = |days| [site.dmz.old_log("seon_proxyserver2", days), site.inside.old_log("seon_proxyclient2", days)];
    let (old, kept) = (logs(92), logs(89));
    let beside = |site: &Site| {
        let of = [site.dmz.beside("seon_proxyserver2"), site.inside.beside("seon_proxyclient2")];
        of.into_iter().flatten().filter(|path| !old.contains(path)).collect::<BTreeSet<_>>()
    };
    let before = beside(&site);
    for page in ["troubleshooting.md", "security.md", "migration.md"] {
        for block in document(page) {
            site.follow(&block);
        }
    }
    // Of what is beside the programs, the logs that are too old have gone, and nothing else.
    assert!(old.iter().all(|path| !path.exists()) && kept.iter().all(|path| before.contains(path)), "{old:?} {kept:?}");
    assert!(beside(&site).is_superset(&before), "{before:?}");
}

/// Codes in the pages are those of the table, so that they can be found.
#[test]
fn the_pages_name_situations_that_there_are() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    for page in ["set-up.md", "troubleshooting.md", "security.md", "migration.md"] {
        let text = fs::read_to_string(folder.join(page)).unwrap();
        for word in text.split('`').skip(1).step_by(2) {
            let is_code = word.contains('-') && word.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'-');
            let is_other = word.starts_with('-') || word.contains("--") || page == "set-up.md";
            let known = proxylink::situation::Situation::by_code(word).is_some();
            assert!(!is_code || is_other || known, "{page}: {word}");
        }
    }
}

//! What becomes of a bad event: the script that is started, or the web-hook that is called.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use seonapi_client::{Event, Severity};
use serde_json::Value;

use crate::backend::{Folder, Serving, text};
use crate::operations::event;
use crate::receiver::Web;

const DEADLINE: Duration = Duration::from_secs(90);

/// A folder with a script, and members of `[backend]` beside it.
fn with_script(script: &str, members: &str) -> Folder {
    let folder = Folder::new();
    fs::write(folder.path("on_event.sh"), script).unwrap();
    fs::set_permissions(folder.path("on_event.sh"), Permissions::from_mode(0o755)).unwrap();
    folder.change_config("[backend]", &format!("[backend]\nevent_script = \"on_event.sh\"\n{members}"));
    folder
}

/// A folder with a web-hook.
fn with_hook(members: &str) -> Folder {
    let folder = Folder::new();
    folder.change_config("[identity]", &format!("[backend.web_hook]\n{members}\n[identity]"));
    folder
}

async fn tell(folder: &Folder, serving: &Serving, events: &[Event]) {
    let token = folder.token(&format!("for {}", events[0].id));
    folder.client(serving, &token).add_events(events).await.unwrap();
}

/// The content of a file that a script writes, once it is there and whole.
fn written(folder: &Folder, name: &str) -> String {
    let end = Instant::now() + DEADLINE;
    loop {
        match fs::read_to_string(folder.path(name)) {
            Ok(text) if text.ends_with("\nend\n") => return text,
            _ => assert!(Instant::now() < end, "{name} was not written"),
        }
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_script_that_is_none_is_told() {
    let folder = with_script("#!/bin/sh\n", "");
    fs::set_permissions(folder.path("on_event.sh"), Permissions::from_mode(0o644)).unwrap();
    let (good, said) = folder.check();
    assert!(!good && said.contains("backend.event_script: on_event.sh is no program that can be started"), "{said}");
}

#[tokio::test]
async fn the_event_script_is_started_once_for_each_new_bad_event() {
    let script =
        "#!/bin/sh\necho \"started for $SEON_EVENT_MESSAGE\"\ncase \"$SEON_EVENT_MESSAGE\" in fail*) exit 3; esac\n";
    let folder = with_script(script, "event_script_at_once = 1\n");
    let token = folder.token("inside1");
    let serving = folder.serve();
    let api = folder.client(&serving, &token);
    let mut harmless = event(1, "harmless");
    harmless.severity = Severity::Info;
    let mut fatal = event(4, "fatal");
    fatal.severity = Severity::Fatal;
    api.add_events(&[harmless, event(2, "bad"), event(2, "bad")]).await.unwrap();
    api.add_events(&[event(2, "bad"), event(3, "fail"), fatal, event(5, "last")]).await.unwrap();
    serving.wait_for("it failed: exit status: 3");
    assert_eq!(serving.count("says: started for ", "says: started for last"), 4);
    assert_eq!(serving.count("says: started for bad", "says: started for last"), 1);
    assert_eq!(serving.count("says: started for harmless", "says: started for last"), 0);
}

#[tokio::test]
async fn the_script_gets_the_event_as_it_is_and_no_shell_sees_it() {
    // It prints its environment as the kernel has it, one value behind the other, and its standard input.
    let script = "#!/bin/sh\ncd \"${0%/*}\"\n{ tr '\\0' '\\n' < /proc/self/environ; cat; printf '\\nend\\n'; } > draft\nmv draft told\n";
    let folder = with_script(script, "");
    let serving = folder.serve();
    let message = r"$(touch hacked) `touch hacked`; touch hacked #\\u0000\\u001b'";
    let mut bad = event(1, &message.replace(r"\\", r"\"));
    bad.host = Some("dmz1".to_owned());
    bad.session_id = Some("7f3a".to_owned());
    bad.peer_address = Some("203.0.113.7:1234".to_owned());
    tell(&folder, &serving, &[bad.clone()]).await;
    let told = written(&folder, "told");
    for line in [
        "SEON_EVENT_NUMBER=1",
        "SEON_EVENT_ID=00000000-0000-4000-8000-000000000001",
        "SEON_EVENT_TIME=2026-03-01T00:00:01.000Z",
        "SEON_EVENT_SEVERITY=error",
        "SEON_EVENT_COMPONENT=proxyserver",
        "SEON_EVENT_PID=7",
        "SEON_EVENT_HOST=dmz1",
        "SEON_EVENT_CODE=link-down",
        "SEON_EVENT_MESSAGE=$(touch hacked) `touch hacked`; touch hacked #\u{1b}'",
        "SEON_EVENT_SESSION_ID=7f3a",
        "SEON_EVENT_PARTNER=ACME",
        "SEON_EVENT_PEER_ADDRESS=203.0.113.7:1234",
    ] {
        assert!(told.lines().any(|told| told == line), "{line}: {told}");
    }
    let json = told.lines().find(|line| line.starts_with('{')).unwrap();
    assert_eq!(serde_json::from_str::<Event>(json).unwrap(), bad);
    assert!(!folder.path("hacked").exists() && !folder.path("../hacked").exists());
}

#[tokio::test]
async fn a_script_that_takes_too_long_is_ended_with_all_it_started() {
    let script = "#!/bin/sh\ncd \"${0%/*}\"\nsleep 1000 & printf '%s\\nend\\n' $! > pid\nwait\n";
    let folder = with_script(script, "event_script_timeout_s = 1\n");
    let serving = folder.serve();
    tell(&folder, &serving, &[event(1, "bad")]).await;
    serving.wait_for("it was ended after 1 s");
    let pid: i32 = written(&folder, "pid").lines().next().unwrap().parse().unwrap();
    let end = Instant::now() + DEADLINE;
    // Init may take a moment to bury it.
    while nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None).is_ok() && !is_dead(pid) {
        assert!(Instant::now() < end, "process {pid} lives");
        std::thread::yield_now();
    }
}

fn is_dead(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

#[tokio::test]
async fn not_more_scripts_run_at_once_than_are_permitted() {
    // Each waits until two are there; a third one would be seen by the two.
    let script = "#!/bin/sh\ncd \"${0%/*}\"\nmkdir -p runs\ntouch runs/$$\n\
        while [ ! -e enough ] && [ $(ls runs | wc -l) -lt 2 ]; do :; done\ntouch enough\n\
        echo \"beside $(ls runs | wc -l)\"\nrm runs/$$\n";
    let folder = with_script(script, "event_script_at_once = 2\n");
    let serving = folder.serve();
    let events: Vec<Event> = (1..=6).map(|number| event(number, "bad")).collect();
    tell(&folder, &serving, &events).await;
    for number in 1..=6 {
        let line = serving.wait_for(&format!("for event {number} says: beside "));
        assert!(line.ends_with("beside 1") || line.ends_with("beside 2"), "{line}");
    }
    assert!(serving.count("beside 2", "for event 6 says: beside ") > 0);
}

#[tokio::test]
async fn an_alarm_that_waits_outlives_the_end_of_the_backend() {
    let web = Web::http();
    let folder = with_hook(&format!("url = \"http://{}/alarm\"\nat_once = 1", web.address));
    let serving = folder.serve();
    web.answer(&[""]);
    tell(&folder, &serving, &[event(1, "first"), event(2, "second")]).await;
    assert!(web.request().contains("first"));
    // In the middle of it, as a loss of power would.
    assert_eq!(serving.end(Signal::SIGKILL), None);
    let _serving = folder.serve();
    assert!(web.request().contains("first"), "what was under way may have been lost");
    assert!(web.request().contains("second"));
}

#[tokio::test]
async fn the_web_hook_is_told_of_a_bad_event_over_https_with_the_secret() {
    let web = Web::https();
    let folder = with_hook(&format!(
        "url = \"https://localhost:{}/alarm?room=1\"\nca = \"alarm-ca.pem\"\nsecret_file = \"secret\"\nsecret_header = \"Authorization\"",
        web.address.port()
    ));
    fs::write(folder.path("alarm-ca.pem"), &web.ca).unwrap();
    fs::write(folder.path("secret"), "Bearer t0p-s3cret\n").unwrap();
    fs::set_permissions(folder.path("secret"), Permissions::from_mode(0o600)).unwrap();
    folder.change_config("[backend]", "[backend]\nlog_level = \"trace\"");
    let serving = folder.serve();
    tell(&folder, &serving, &[event(1, "bad")]).await;
    let request = web.request();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /alarm?room=1 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nauthorization: Bearer t0p-s3cret\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!((&body["version"], &body["number"]), (&1.into(), &1.into()));
    assert_eq!(serde_json::from_value::<Event>(body["event"].clone()).unwrap(), event(1, "bad"));
    assert_eq!(serving.count("s3cret", "for event 1 (00000000-0000-4000-8000-000000000001): done"), 0);
}

#[tokio::test]
async fn without_an_authority_of_its_own_a_web_hook_is_trusted_as_the_system_says() {
    let web = Web::https();
    let folder = with_hook(&format!("url = \"https://localhost:{}/\"", web.address.port()));
    fs::write(folder.path("system.pem"), &web.ca).unwrap();
    let serving = folder.serve_in(&[("SSL_CERT_FILE", folder.path("system.pem").as_os_str())]);
    tell(&folder, &serving, &[event(1, "bad")]).await;
    assert!(web.request().starts_with("POST / "));
}

#[tokio::test]
async fn a_web_hook_whose_certificate_is_of_nobody_we_trust_is_told_nothing() {
    let web = Web::https();
    let folder =
        with_hook(&format!("url = \"https://localhost:{}/\"\nca = \"https/ca.pem\"\ntries = 1", web.address.port()));
    let serving = folder.serve();
    tell(&folder, &serving, &[event(1, "bad")]).await;
    let line = serving.wait_for("it cannot be reached: ");
    assert!(line.contains("certificate") && line.contains("given up after 1 tries"), "{line}");
    assert!(web.is_quiet());
}

#[tokio::test]
async fn what_may_get_better_is_tried_again_and_not_for_ever() {
    let web = Web::http();
    let folder = with_hook(&format!("url = \"http://{}/\"\ntries = 2\nat_once = 1", web.address));
    let serving = folder.serve();
    web.answer(&["503 Service Unavailable", "204 No Content"]);
    tell(&folder, &serving, &[event(1, "first")]).await;
    assert!(web.request().contains("first") && web.request().contains("first"));
    web.answer(&["500 Internal Server Error", "429 Too Many Requests"]);
    tell(&folder, &serving, &[event(2, "second")]).await;
    assert!(web.request().contains("second") && web.request().contains("second"));
    let line = serving.wait_for("given up after 2 tries");
    assert!(line.contains(" ERROR ") && line.contains("429"), "{line}");
    tell(&folder, &serving, &[event(3, "third")]).await;
    assert!(web.request().contains("third") && web.is_quiet());
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_a_refusal_is_final() {
    let (web, other) = (Web::http(), Web::http());
    let folder = with_hook(&format!("url = \"http://{}/\"\nat_once = 1", web.address));
    let serving = folder.serve();
    for (number, status) in (1..).zip(["301", "302", "303", "307", "308", "400", "401", "404"]) {
        web.answer(&[&format!("{status} X\r\nlocation: http://{}/", other.address)]);
        tell(&folder, &serving, &[event(number, "bad")]).await;
        assert!(web.request().contains(&format!("\"number\":{number}")));
        let line = serving.wait_for(&format!("for event {number} ("));
        assert!(line.contains(status) && line.contains("given up after 1 tries"), "{line}");
    }
    assert!(web.is_quiet() && other.is_quiet());
}

#[tokio::test]
async fn a_silent_web_hook_is_given_up_in_time() {
    let web = Web::http();
    let folder = with_hook(&format!("url = \"http://{}/\"\ntries = 1\ntimeout_s = 1", web.address));
    let serving = folder.serve();
    web.answer(&[""]);
    tell(&folder, &serving, &[event(1, "bad")]).await;
    serving.wait_for("it does not answer in time; given up after 1 tries");
}

#[test]
fn every_mistake_in_a_web_hook_is_told_with_its_place() {
    for (members, member, reason) in [
        ("url = \"http://192.0.2.1/\" # mark", "url", "https expected"),
        ("url = \"ftp://localhost/\" # mark", "url", "an https URL expected"),
        ("url = \"https://a:b@localhost/\" # mark", "url", "secret_file"),
        ("url = \"https://localhost/\"\nca = \"nowhere.pem\" # mark", "ca", "cannot be read"),
        ("url = \"https://localhost/\"\nca = \"https/key.pem\" # mark", "ca", "has no certificate"),
        ("url = \"https://localhost/\"\nsecret_file = \"nowhere\" # mark", "secret_file", "cannot be read"),
        ("url = \"https://localhost/\"\nsecret_credential = \"../x\" # mark", "secret_credential", "plain name"),
        ("url = \"https://localhost/\"\nsecret_file = \"https/key.pem\" # mark", "secret_file", "one line"),
        ("url = \"https://localhost/\"\ntries = 0 # mark", "tries", "1 to 20"),
        ("url = \"https://localhost/\"\ntimeout_s = 0 # mark", "timeout_s", "1 to 3600"),
        ("url = \"https://localhost/\"\nat_once = 17 # mark", "at_once", "1 to 16"),
        ("url = \"https://localhost/\"\nredirects = true # mark", "redirects", "no such member"),
    ] {
        let folder = with_hook(members);
        let (good, said) = folder.check();
        let line = 1 + folder.config().lines().position(|line| line.ends_with("# mark")).unwrap();
        let place = format!("b/seon_backend.toml:{line}: backend.web_hook.{member}: ");
        assert!(!good && said.contains(&place) && said.contains(reason), "{members}: {said}");
    }
    let folder = with_script("#!/bin/sh\n", "");
    folder.change_config("[identity]", "[backend.web_hook]\nurl = \"https://localhost/\"\n[identity]");
    let (good, said) = folder.check();
    assert!(!good && said.contains("backend.web_hook: there is an event_script already"), "{said}");
}

#[test]
fn a_service_without_the_credential_that_it_needs_does_not_begin() {
    let folder = with_hook("url = \"https://localhost/\"\nsecret_credential = \"hook\"");
    let (good, said) = folder.check();
    assert!(good && said.contains("the credential \"hook\" is there for the service only"), "{said}");
    let output = folder.run(&["serve", "--config", "b/seon_backend.toml", "--listen", "127.0.0.1:0"]);
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(3) && said.contains("backend.web_hook.secret_credential: "), "{output:?}");
}

#[tokio::test]
async fn a_secret_may_come_as_a_credential_of_the_service_manager() {
    let web = Web::http();
    let folder = with_hook(&format!("url = \"http://{}/\"\nsecret_credential = \"hook\"", web.address));
    fs::create_dir(folder.path("credentials")).unwrap();
    fs::write(folder.path("credentials/hook"), "t0p-s3cret").unwrap();
    let serving = folder.serve_in(&[("CREDENTIALS_DIRECTORY", folder.path("credentials").as_os_str())]);
    tell(&folder, &serving, &[event(1, "bad")]).await;
    let request = web.request();
    assert!(request.contains("\r\nx-seon-secret: t0p-s3cret\r\n"), "{request}");
}

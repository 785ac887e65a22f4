//! The program `seon_license`: a licence from the issuer's key to the check, and what it says when it cannot.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use assert_cmd::Command;

const PROXY_ID: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015adpx";
const CLIENT: &str = "ed25519:cfd2659f2fa691b44831cc62a36da5995a3508a339b590ce89f73544f62f2da0";

fn seon_license(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_seon_license")).current_dir(folder).args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn issue<'a>(until: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["issue", "--licensee", "ACME", "--proxy-id", PROXY_ID, "--from", "2026-01-01"];
    arguments.extend(["--until", until, "--issuer-key", "issuer.key"]);
    arguments.extend(more);
    arguments
}

fn with_issuer() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (code, public, _) = seon_license(folder.path(), &["issuer", "new", "issuer.key"]);
    assert_eq!(code, Some(0));
    assert!(fs::read_to_string(folder.path().join("issuer.key.pub")).unwrap().contains(public.trim()));
    folder
}

#[test]
fn a_licence_from_issuer_to_check() {
    let folder = with_issuer();
    let client_line = format!("client: {CLIENT} inside 1");
    let (code, licence, _) =
        seon_license(folder.path(), &issue("9999-12-31", &["--client", CLIENT, "--client", &client_line]));
    assert_eq!(code, Some(0));
    assert!(licence.contains("valid-from: 2026-01-01T00:00:00Z\nvalid-until: 9999-12-31T23:59:59Z\n"), "{licence}");
    fs::write(folder.path().join("lic"), licence).unwrap();
    let (code, shown, _) = seon_license(folder.path(), &["show", "lic", "--issuer", "issuer.key.pub"]);
    assert_eq!(code, Some(0));
    for part in ["ACME", PROXY_ID, "9999-12-31T23:59:59Z", "days left", &format!("{CLIENT} inside 1\n")] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let check = ["check", "lic", "--proxy-id", PROXY_ID, "--issuer", "issuer.key.pub"];
    let (code, said, _) = seon_license(folder.path(), &check);
    assert_eq!((code, said.as_str()), (Some(0), "valid until 9999-12-31T23:59:59Z, 2 proxyclient(s) may link\n"));
}

#[test]
fn the_shipped_community_issuer_makes_licences_for_a_build_without_more_options() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(
        concat!(env!("CARGO_MANIFEST_DIR"), "/../etc/seon_community_issuer.key"),
        folder.path().join("issuer.key"),
    )
    .unwrap();
    let (code, ..) = seon_license(folder.path(), &issue("9999-12-31", &["--client", CLIENT, "--out", "lic"]));
    assert_eq!(code, Some(0));
    assert_eq!(seon_license(folder.path(), &["check", "lic", "--proxy-id", PROXY_ID]).0, Some(0));
}

#[test]
fn a_refused_licence_gives_code_1_and_its_name() {
    let folder = with_issuer();
    let check = ["check", "lic", "--proxy-id", PROXY_ID, "--issuer", "issuer.key.pub"];
    for (until, more, name) in [
        ("2026-01-01T00:00:01Z", vec!["--client", CLIENT], "licence-expired"),
        ("9999-12-31", vec![], "licence-no-client"),
    ] {
        let (_, licence, _) = seon_license(folder.path(), &issue(until, &more));
        fs::write(folder.path().join("lic"), licence).unwrap();
        let (code, _, complaint) = seon_license(folder.path(), &check);
        assert_eq!(code, Some(4));
        assert!(complaint.contains(&format!("{name}: ")), "{complaint}");
    }
    let (code, _, complaint) = seon_license(folder.path(), &["show", "lic"]);
    assert!(code == Some(4) && complaint.contains("licence-signature-wrong"), "{complaint}");
    let (code, _, complaint) = seon_license(folder.path(), &["show", "nowhere"]);
    assert!(code == Some(4) && complaint.contains("licence-missing"), "{complaint}");
}

#[test]
fn the_private_key_is_the_owners_alone_and_nothing_is_overwritten() {
    let folder = with_issuer();
    let key = folder.path().join("issuer.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&key).unwrap();
    let (code, _, complaint) = seon_license(folder.path(), &["issuer", "new", "issuer.key"]);
    assert!(code == Some(1) && complaint.contains("issuer.key cannot be written"), "{complaint}");
    assert_eq!(fs::read(&key).unwrap(), before);
}

#[test]
fn wrong_options_are_told_in_words() {
    let folder = with_issuer();
    for (option, value, sentence) in [
        ("--client", "ed25519:12", "64 digits"),
        ("--until", "tomorrow", "2026-12-31"),
        ("--proxy-id", "12px", "seon_proxyserver2 -L"),
    ] {
        let mut arguments = issue("9999-12-31", &[]);
        match arguments.iter().position(|argument| *argument == option) {
            Some(at) => arguments[at + 1] = value,
            None => arguments.extend([option, value]),
        }
        let (code, _, complaint) = seon_license(folder.path(), &arguments);
        assert!(code == Some(2) && complaint.contains(sentence), "{option}: {complaint}");
    }
    let (code, _, complaint) = seon_license(folder.path(), &issue("2025-12-31", &[]));
    assert!(code == Some(2) && complaint.contains("before it begins"), "{complaint}");
    let (code, _, complaint) = seon_license(folder.path(), &[]);
    assert!(code == Some(2) && complaint.contains("Usage"), "{complaint}");
}

#[test]
fn a_public_key_in_place_of_the_private_one_is_told() {
    let folder = with_issuer();
    let mut arguments = issue("9999-12-31", &[]);
    let at = arguments.len() - 1;
    arguments[at] = "issuer.key.pub";
    let (code, _, complaint) = seon_license(folder.path(), &arguments);
    assert!(code == Some(1) && complaint.contains("no private issuer key"), "{complaint}");
}

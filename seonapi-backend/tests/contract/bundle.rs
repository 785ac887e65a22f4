//! A configuration that is taken to another host in one file.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use seonapi_client::{ConfigAnswer, CrlUrl, Fingerprint, ProxyConfig};
use serde_json::{Value, json};

use crate::backend::{Folder, Serving, text};
use crate::configuration::ca;

/// A folder with something of everything, and a token.
fn full() -> (Folder, String) {
    let folder = Folder::new();
    let token = folder.token("inside1");
    fs::write(folder.path("ca.pem"), format!("the first\n{}", ca("first").pem())).unwrap();
    fs::write(folder.beside("elsewhere.pem"), ca("second").pem()).unwrap();
    fs::write(folder.path("crls/one.crl"), [0x30, 0x03, 0x02, 0x01, 0x05]).unwrap();
    fs::write(folder.path("on_event.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(folder.path("on_event.sh"), Permissions::from_mode(0o755)).unwrap();
    let elsewhere = fs::canonicalize(folder.beside("elsewhere.pem")).unwrap();
    folder.change_config("anchors = []", &format!("anchors = [\n  \"ca.pem\",  # a remark\n  {elsewhere:?},\n]"));
    folder.change_config("[backend]", "[backend]\nevent_script = \"on_event.sh\"");
    let partner = "\n[[partners]]\nname = \"ACME\"\nssid_codes = [\"O0013000000ACME\"]\n";
    folder.set_config(&(folder.config() + partner));
    (folder, token)
}

fn export(folder: &Folder, options: &[&str]) -> Value {
    let place = ["config", "export", "--out", "bundle.json", "--config", "b/seon_backend.toml"];
    let output = folder.run(&[&place, options].concat());
    assert!(output.status.success(), "{output:?}");
    let file = folder.beside("bundle.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let bundle = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    fs::remove_file(file).unwrap();
    bundle
}

/// Imports into `b` of this folder; gives the exit code and all that was said.
fn import(folder: &Folder, bundle: &Value, options: &[&str]) -> (Option<i32>, String) {
    fs::write(folder.beside("bundle.json"), bundle.to_string()).unwrap();
    let place = ["config", "import", "bundle.json", "--config", "b/seon_backend.toml"];
    let output = folder.run(&[&place, options].concat());
    fs::remove_file(folder.beside("bundle.json")).unwrap();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

/// A folder for another host, without `b`.
fn empty() -> Folder {
    let folder = Folder::new();
    fs::remove_dir_all(folder.path("")).unwrap();
    folder
}

/// Every file below `b`, with its permissions.
fn files(folder: &Folder) -> BTreeMap<PathBuf, (Vec<u8>, u32)> {
    fn gather(folder: &Path, found: &mut BTreeMap<PathBuf, (Vec<u8>, u32)>) {
        for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            match entry.path().is_dir() {
                true => gather(&entry.path(), found),
                false => drop(found.insert(entry.path(), (fs::read(entry.path()).unwrap(), mode))),
            }
        }
    }
    let mut found = BTreeMap::new();
    gather(&folder.path(""), &mut found);
    found
}

async fn served(folder: &Folder, serving: &Serving, token: &str) -> ProxyConfig {
    match folder.client(serving, token).config(None).await.unwrap() {
        ConfigAnswer::Config { config, .. } => *config,
        ConfigAnswer::NotModified => panic!("a configuration expected"),
    }
}

fn paths(bundle: &Value) -> Vec<&str> {
    bundle["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn another_host_goes_on_with_what_was_exported() {
    let (folder, token) = full();
    let serving = folder.serve();
    let url = CrlUrl::new("http://127.0.0.1:9/told.crl", Fingerprint::of(b"certificate"), "CN=CA").unwrap();
    folder.client(&serving, &token).add_crl_urls(&[url]).await.unwrap();
    let before = served(&folder, &serving, &token).await;
    let bundle = export(&folder, &["--with-private-keys"]);
    drop(serving);

    let other = empty();
    fs::create_dir(other.path("")).unwrap();
    fs::set_permissions(other.path(""), Permissions::from_mode(0o700)).unwrap();
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(other.path(""), Some(65_534), None).unwrap();
    }
    let (code, said) = import(&other, &bundle, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("b/seon_backend.toml is in force: 1 partner(s), ") && said.contains("1 new token(s)\n"),
        "{said}"
    );
    // The CA of its HTTPS certificate is no part of the configuration.
    fs::copy(folder.path("https/ca.pem"), other.path("https/ca.pem")).unwrap();
    let (good, said) = other.check();
    assert!(good && said.contains("1 partner(s), 2 anchor(s), 0 pinned certificate(s), 1 CRL(s)"), "{said}");
    let serving = other.serve();
    assert_eq!(served(&other, &serving, &token).await, before);
    drop(serving);
    let mode = |name: &str| fs::metadata(other.path(name)).unwrap().permissions().mode() & 0o777;
    for (name, expected) in [("identity/key.pem", 0o600), ("https/key.pem", 0o600), ("on_event.sh", 0o755), ("", 0o700)]
    {
        assert_eq!(mode(name), expected, "{name}");
    }
    // What root makes belongs to whoever the folder belongs to.
    let owner = fs::metadata(other.path("")).unwrap().uid();
    for name in ["identity", "identity/key.pem", "crls/one.crl", "seon_backend.toml", "seon_backend.sqlite"] {
        assert_eq!(fs::metadata(other.path(name)).unwrap().uid(), owner, "{name}");
    }
    // And from there to a third one: nothing was lost on the way.
    let (mut first, mut second) = (bundle, export(&other, &["--with-private-keys"]));
    (first["made"], second["made"]) = (json!(""), json!(""));
    assert_eq!(first, second);
    assert!(
        fs::read_dir(other.path("")).unwrap().all(|entry| !entry
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with(".seon"))
    );
}

#[test]
fn private_keys_are_in_a_bundle_on_explicit_request_only() {
    let (folder, _) = full();
    folder
        .change_config("[backend]", "[backend]\nweb_hook = { url = \"https://localhost/\", secret_file = \"secret\" }");
    folder.change_config("event_script = \"on_event.sh\"\n", "");
    fs::write(folder.path("secret"), "t0p-s3cret").unwrap();
    let bundle = export(&folder, &[]);
    assert!(!bundle.to_string().contains("PRIVATE KEY") && !bundle.to_string().contains("t0p-s3cret"));
    assert_eq!(
        paths(&bundle),
        ["ca.pem", "crls/one.crl", "elsewhere/trust-anchors-1/elsewhere.pem", "https/chain.pem", "identity/chain.pem"]
    );
    let whole = export(&folder, &["--with-private-keys"]);
    for name in ["https/key.pem", "identity/key.pem", "secret"] {
        assert!(paths(&whole).contains(&name), "{name}");
    }
    // A chain and its key in one file are not torn apart.
    let both = fs::read_to_string(folder.path("identity/chain.pem")).unwrap()
        + &fs::read_to_string(folder.path("identity/key.pem")).unwrap();
    fs::write(folder.path("identity/chain.pem"), both).unwrap();
    let output = folder.run(&["config", "export", "--out", "bundle.json", "--config", "b/seon_backend.toml"]);
    assert!(output.status.code() == Some(1) && text(&output.stderr).contains("holds a private key"), "{output:?}");
    assert!(!folder.beside("bundle.json").exists());
}

#[test]
fn a_configuration_with_mistakes_is_not_exported_and_no_file_is_overwritten() {
    let (folder, _) = full();
    fs::write(folder.beside("bundle.json"), "mine").unwrap();
    let export = ["config", "export", "--out", "bundle.json", "--config", "b/seon_backend.toml"];
    let output = folder.run(&export);
    assert!(
        output.status.code() == Some(1) && text(&output.stderr).contains("bundle.json cannot be made"),
        "{output:?}"
    );
    assert_eq!(fs::read_to_string(folder.beside("bundle.json")).unwrap(), "mine");
    fs::remove_file(folder.beside("bundle.json")).unwrap();
    folder.change_config("tls_port = 6619", "tls_port = 0");
    let output = folder.run(&export);
    assert!(output.status.code() == Some(3) && text(&output.stderr).contains("listen.tls_port"), "{output:?}");
    assert!(!folder.beside("bundle.json").exists());
}

#[tokio::test]
async fn an_import_replaces_everything_at_once_keeps_the_old_and_a_running_backend_follows() {
    let (folder, token) = full();
    let bundle = export(&folder, &[]);
    let old = "[[partners]]\nname = \"OLD\"\n";
    folder.set_config(&folder.config().replace("[[partners]]\nname = \"ACME\"", old.trim()).replace("6619", "7000"));
    fs::write(folder.path("crls/two.crl"), [0x30, 0x00]).unwrap();
    fs::write(folder.path("ca.pem"), ca("other").pem()).unwrap();
    let key = fs::read(folder.path("identity/key.pem")).unwrap();
    let before = files(&folder);
    let serving = folder.serve();
    assert_eq!(served(&folder, &serving, &token).await.listen.tls_port, 7000);

    let (code, said) = import(&folder, &bundle, &["--dry-run"]);
    assert!(
        code == Some(0) && said.contains("bundle.json is good: 1 partner(s), 6 file(s); nothing was changed"),
        "{said}"
    );
    assert_eq!(served(&folder, &serving, &token).await.listen.tls_port, 7000);

    let (code, said) = import(&folder, &bundle, &[]);
    assert!(code == Some(0) && said.contains("0 new token(s); what was there is in b/backup-"), "{said}");
    let config = served(&folder, &serving, &token).await;
    assert_eq!((config.listen.tls_port, config.partners[0].name.as_str()), (6619, "ACME"));
    assert_eq!(config.trust.crls, [Fingerprint::of(&[0x30, 0x03, 0x02, 0x01, 0x05])]);
    assert_eq!(fs::read(folder.path("identity/key.pem")).unwrap(), key, "the key of this host");
    let backup = said.split("what was there is in b/").nth(1).unwrap().lines().next().unwrap();
    for name in ["seon_backend.toml", "ca.pem", "crls/two.crl"] {
        let kept = fs::read(folder.path(backup).join(name)).unwrap();
        assert_eq!(kept, before[&folder.path(name)].0, "{name}");
    }
    assert!(!folder.path("crls/two.crl").exists());
}

/// A change to a good bundle, and what must be said of it.
struct Case {
    change: fn(&mut Value),
    place: String,
}

fn case(change: fn(&mut Value), place: String) -> Case {
    Case { change, place }
}

#[test]
fn a_bundle_with_mistakes_changes_nothing_and_each_is_told_with_its_place() {
    let (folder, _) = full();
    let good = export(&folder, &[]);
    let line_of =
        |part: &str| 1 + good["configuration"].as_str().unwrap().lines().position(|line| line.contains(part)).unwrap();
    let port = line_of("tls_port");
    let cases = [
        case(
            |b| b["seon_backend_bundle"] = json!(2),
            "bundle.json: seon_backend_bundle: this release knows version 1, not 2".into(),
        ),
        case(|b| *b = json!({}), "bundle.json: no bundle: seon_backend_bundle is missing".into()),
        case(|b| b["files"][1]["path"] = json!(7), "bundle.json: files[1].path: invalid type".into()),
        case(|b| b["files"][1]["base64"] = json!("???"), "bundle.json: files[1].base64: no base64".into()),
        case(|b| b["files"][1]["mode"] = json!("0777"), "unknown field `mode`".into()),
        case(
            |b| b["database"]["tokens"][0]["enabled"] = json!("yes"),
            "bundle.json: database.tokens[0].enabled: ".into(),
        ),
        case(
            |b| b["database"]["tokens"][0]["sha256"] = json!("00"),
            "bundle.json: database.tokens[0].sha256: 64 hex digits".into(),
        ),
        case(
            |b| b["database"]["tokens"][0]["sha256"] = json!("0".repeat(64)),
            "database.tokens[0].name: the database here has another".into(),
        ),
        case(
            |b| b["files"][0]["path"] = json!("../ca.pem"),
            "bundle.json: files[0].path: \"../ca.pem\" is no path into the folder".into(),
        ),
        case(
            |b| b["files"][0]["path"] = json!("/etc/passwd"),
            "files[0].path: \"/etc/passwd\" is no path into the folder".into(),
        ),
        case(
            |b| b["files"][0]["path"] = json!("seon_backend.toml"),
            "files[0].path: \"seon_backend.toml\" is no path".into(),
        ),
        case(
            |b| b["files"][0]["path"] = json!("unasked.pem"),
            "files[0].path: \"unasked.pem\" is a file that nothing in".into(),
        ),
        case(
            |b| b["files"][0]["path"] = json!("crls/../ca.pem"),
            "files[0].path: \"crls/../ca.pem\" is no path".into(),
        ),
        case(|b| b["files"][1] = b["files"][0].clone(), "files[1].path: \"ca.pem\" stands here twice".into()),
        case(|b| b["files"][0]["text"] = Value::Null, "files[0].path: \"ca.pem\" has neither text nor base64".into()),
        case(|b| b["files"][0]["text"] = json!("no certificate"), "bundle.json: configuration:".into()),
        case(
            |b| {
                b["configuration"] =
                    json!(b["configuration"].as_str().unwrap().replace("tls_port = 6619", "tls_port = 0"))
            },
            format!("bundle.json: configuration:{port}: listen.tls_port: 0 is no port"),
        ),
        case(
            |b| {
                b["configuration"] =
                    json!(b["configuration"].as_str().unwrap().replace("tls_port = 6619", "tls_port = "))
            },
            format!("bundle.json: configuration:{port}: "),
        ),
        case(
            |b| {
                b["configuration"] =
                    json!(b["configuration"].as_str().unwrap().replace("identity/key.pem", "keys/none.pem"))
            },
            "identity.private_key: keys/none.pem cannot be read".into(),
        ),
    ];
    let before = files(&folder);
    for Case { change, place } in cases {
        let mut bundle = good.clone();
        change(&mut bundle);
        for options in [&[][..], &["--dry-run"]] {
            let (code, said) = import(&folder, &bundle, options);
            assert!(code == Some(3) && said.contains(&place), "{place}: {said}");
            assert!(!said.contains(".seon_backend-import"), "{said}");
            assert!(files(&folder) == before, "{place}: something has changed");
        }
    }
    let cut = good.to_string();
    fs::write(folder.beside("bundle.json"), &cut[..cut.len() / 2]).unwrap();
    let output = folder.run(&["config", "import", "bundle.json", "--config", "b/seon_backend.toml"]);
    assert!(output.status.code() == Some(3) && text(&output.stderr).contains("no JSON"), "{output:?}");
    assert!(files(&folder) == before);
}

#[test]
fn all_mistakes_of_a_bundle_are_told_at_once() {
    let (folder, _) = full();
    let mut bundle = export(&folder, &[]);
    bundle["files"][0]["path"] = json!("../one.pem");
    bundle["files"][1]["path"] = json!("../two.pem");
    let (_, said) = import(&folder, &bundle, &[]);
    assert!(said.contains("files[0].path") && said.contains("files[1].path"), "{said}");
}

#[test]
fn without_its_keys_a_host_refuses_and_says_what_to_do() {
    let (folder, _) = full();
    let bundle = export(&folder, &[]);
    let other = empty();
    let (code, said) = import(&other, &bundle, &[]);
    assert!(code == Some(3) && said.contains("identity.private_key: identity/key.pem cannot be read"), "{said}");
    assert!(said.contains("bundle.json: it has no private keys: put them where"), "{said}");
    assert!(!other.path("").exists(), "the folder was made for nothing");
}

#[tokio::test]
async fn a_backend_finishes_the_import_that_was_cut_off() {
    let (folder, token) = full();
    fs::write(folder.path(".toml.import"), folder.config().replace("6619", "6620")).unwrap();
    let list = json!({"renames": [[".toml.import", "seon_backend.toml"]], "removals": ["crls/one.crl"]});
    fs::write(folder.path(".seon_backend-import.json"), list.to_string()).unwrap();
    let serving = folder.serve();
    let config = served(&folder, &serving, &token).await;
    assert_eq!((config.listen.tls_port, config.trust.crls.len()), (6620, 0));
    assert!(!folder.path(".seon_backend-import.json").exists() && !folder.path(".toml.import").exists());
}

#[tokio::test]
async fn a_backend_goes_on_with_what_is_there_where_an_import_cannot_be_finished() {
    let (folder, token) = full();
    let imported = "1111111111111111111111111111111111111111111111111111111111111111";
    let tokens = json!([{"name": "imported", "sha256": imported, "created": "2026-03-01T00:00:00Z", "enabled": true}]);
    let list = json!({
        "renames": [[".on_event.sh.import", "on_event.sh"], [".toml.import", "seon_backend.toml"]],
        "removals": [],
        "database": {"path": "seon_backend.sqlite", "tokens": tokens, "crl_urls": []},
    });
    fs::write(folder.path(".toml.import"), folder.config().replace("6619", "6620")).unwrap();
    fs::rename(folder.path("on_event.sh"), folder.path(".on_event.sh.import")).unwrap();
    folder.change_config("event_script = \"on_event.sh\"\n", "");
    fs::create_dir(folder.path("on_event.sh")).unwrap();
    fs::write(folder.path(".seon_backend-import.json"), list.to_string()).unwrap();

    // Where what is there is not good, both are told.
    folder.change_config("tls_port = 6619", "tls_port = 0");
    let output = folder.run(&["serve", "--config", "b/seon_backend.toml", "--listen", "127.0.0.1:0"]);
    let said = text(&output.stderr);
    assert!(said.contains("b/on_event.sh: ") && said.contains("listen.tls_port: 0 is no port"), "{said}");
    assert_eq!(output.status.code(), Some(3));
    folder.change_config("tls_port = 0", "tls_port = 6619");

    let serving = folder.serve();
    let said = serving.wait_for("an import into b is checked and begun, and cannot be finished");
    for part in ["b/on_event.sh: ", "remove b/.seon_backend-import.json", "at a start the files that are there count"] {
        assert!(said.contains(part), "{said}");
    }
    // What came into force stays, as what is there may be half of an import.
    assert_eq!(served(&folder, &serving, &token).await.listen.tls_port, 6619);
    folder.change_config("6619", "7000");
    assert_eq!(served(&folder, &serving, &token).await.listen.tls_port, 6619);
    let known = || text(&folder.run(&["token", "list", "--config", "b/seon_backend.toml"]).stdout);
    assert!(!known().contains("imported"), "{}", known());
    // Nobody takes half of an import along.
    let output = folder.run(&["config", "export", "--out", "bundle.json", "--config", "b/seon_backend.toml"]);
    assert!(output.status.code() == Some(1) && text(&output.stderr).contains("b/on_event.sh: "), "{output:?}");

    fs::remove_dir(folder.path("on_event.sh")).unwrap();
    assert_eq!(served(&folder, &serving, &token).await.listen.tls_port, 6620);
    assert!(known().contains("imported"), "{}", known());
    assert!(!folder.path(".seon_backend-import.json").exists());
    assert_eq!(serving.count("cannot be finished", "no import is left to be finished"), 1);
}

#[test]
fn a_file_that_cannot_be_replaced_is_told_before_anything_changes() {
    let (folder, _) = full();
    let bundle = export(&folder, &["--with-private-keys"]);
    // One without a database, and one where others are known.
    let (new, other) = (empty(), Folder::new());
    other.token("another");
    for host in [&new, &other] {
        let _ = fs::remove_file(host.path("identity/chain.pem"));
        fs::create_dir_all(host.path("identity/chain.pem")).unwrap();
        let before = files(host);
        for options in [&[][..], &["--dry-run"]] {
            let (code, said) = import(host, &bundle, options);
            let told = "b/identity/chain.pem is a directory, and a file is to take its place";
            assert!(code == Some(1) && said.contains(told) && said.contains("nothing was changed"), "{said}");
            assert!(files(host) == before, "something has changed");
        }
    }
    let output = other.run(&["token", "list", "--config", "b/seon_backend.toml"]);
    assert!(!text(&output.stdout).contains("inside1"), "{output:?}");
    fs::remove_dir(new.path("identity/chain.pem")).unwrap();
    let (code, said) = import(&new, &bundle, &[]);
    assert!(code == Some(0) && said.contains("1 new token(s)"), "{said}");
}

#[test]
fn a_configuration_file_that_is_mounted_by_itself_is_told_before_anything_changes() {
    let (folder, _) = full();
    let bundle = export(&folder, &[]);
    fs::write(folder.beside("bundle.json"), bundle.to_string()).unwrap();
    fs::copy(folder.path("seon_backend.toml"), folder.beside("mounted.toml")).unwrap();
    let before = files(&folder);
    let script = format!(
        "mount --bind mounted.toml b/seon_backend.toml && exec {} config import bundle.json --config b/seon_backend.toml",
        env!("CARGO_BIN_EXE_seon_backend")
    );
    let mut unshare = std::process::Command::new("unshare");
    let output = unshare.args(["-rm", "sh", "-c", &script]).current_dir(folder.beside("")).output().unwrap();
    let said = text(&output.stderr);
    if said.starts_with("unshare: ") || said.starts_with("mount: ") {
        eprintln!("not tested: this host lets nobody mount: {said}");
        return;
    }
    assert!(said.contains("b/seon_backend.toml is a mount point") && said.contains("nothing was changed"), "{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(files(&folder) == before, "something has changed");
}

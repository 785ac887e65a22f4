//! Who may know whom, held over what cargo says: the import graph of ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Each crate of ours and those of ours that it may import.
const MAY_IMPORT: [(&str, &[&str]); 14] = [
    ("oftp2-codec", &[]),
    ("verification", &[]),
    ("seonapi-client", &[]),
    ("command-line", &[]),
    ("proxydaemon", &["command-line"]),
    ("license", &["command-line"]),
    ("proxylink", &["verification", "license"]),
    ("relay", &["oftp2-codec", "proxylink", "proxydaemon"]),
    ("seonapi-backend", &["command-line", "seonapi-client", "verification", "license"]),
    ("proxyserver", &["command-line", "relay", "oftp2-codec", "proxylink", "proxydaemon", "verification", "license"]),
    (
        "proxyclient",
        &[
            "command-line",
            "relay",
            "oftp2-codec",
            "proxylink",
            "proxydaemon",
            "verification",
            "license",
            "seonapi-client",
        ],
    ),
    (
        "tests",
        &[
            "command-line",
            "oftp2-codec",
            "verification",
            "seonapi-client",
            "proxydaemon",
            "license",
            "proxylink",
            "relay",
            "seonapi-backend",
            "proxyserver",
            "proxyclient",
        ],
    ),
    // The daemons' own sources, built with misbehaviour in them.
    (
        "evil",
        &[
            "command-line",
            "relay",
            "oftp2-codec",
            "proxylink",
            "proxydaemon",
            "verification",
            "license",
            "seonapi-client",
        ],
    ),
    ("fuzz", &["oftp2-codec", "verification", "proxylink"]),
];

/// Never in any program: other TLS libraries and a second provider of cryptography.
const NOWHERE: [&str; 4] = ["openssl", "openssl-sys", "native-tls", "ring"];

/// Never in the program that stands in the DMZ: HTTP, JSON over it, a database.
const NOT_IN_THE_DMZ: [&str; 7] = ["reqwest", "hyper", "http", "axum", "rusqlite", "seonapi-client", "seonapi-backend"];

fn metadata() -> Metadata {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    // What is for other systems alone need not be here.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let options = vec!["--offline".to_owned(), "--filter-platform".to_owned(), platform];
    MetadataCommand::new().manifest_path(manifest).other_options(options).exec().unwrap()
}

fn ours(metadata: &Metadata) -> BTreeMap<String, &Package> {
    metadata.workspace_packages().into_iter().map(|package| (package.name.to_string(), package)).collect()
}

/// All crates that are built into `package`, by name. `cargo tree` tells them: the graph of `cargo metadata` also has
/// those that a feature merely mentions (`ring?/alloc`).
fn tree(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--edges", "normal,build", "--prefix", "none", "--format", "{p}", "--package"])
        .arg(package)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && !said.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    said.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn every_crate_imports_only_whom_it_may() {
    let metadata = metadata();
    let ours = ours(&metadata);
    for (name, package) in &ours {
        let (_, allowed) = MAY_IMPORT
            .iter()
            .find(|(known, _)| known == name)
            .unwrap_or_else(|| panic!("{name} is new: say what it may"));
        for dependency in &package.dependencies {
            let imports_one_of_ours = ours.contains_key(&dependency.name);
            let allowed = allowed.contains(&dependency.name.as_str());
            // What tests of a crate use says nothing about the crate.
            let of_tests = dependency.kind == DependencyKind::Development;
            assert!(!imports_one_of_ours || allowed || of_tests, "{name} imports {}", dependency.name);
        }
    }
}

#[test]
fn the_program_in_the_dmz_has_no_http_and_no_database() {
    let tree = tree("proxyserver");
    assert!(tree.contains("rustls"), "the tree is read: {tree:?}");
    for name in NOT_IN_THE_DMZ {
        assert!(!tree.contains(name), "proxyserver depends on {name}");
    }
}

#[test]
fn codec_and_judgement_have_no_input_and_output_of_their_own() {
    for name in ["oftp2-codec", "verification"] {
        let tree = tree(name);
        for foreign in ["tokio", "mio", "nix", "log4rs"] {
            assert!(!tree.contains(foreign), "{name} depends on {foreign}");
        }
    }
}

#[test]
fn one_provider_of_cryptography_and_no_other_tls() {
    for name in ours(&metadata()).into_keys() {
        let tree = tree(&name);
        for foreign in NOWHERE {
            assert!(!tree.contains(foreign), "{name} depends on {foreign}");
        }
    }
}

/// `[lints] workspace = true` brings `unsafe_code = "forbid"`; one crate alone has rules of its own.
#[test]
fn unsafe_is_forbidden_in_all_crates_but_one() {
    let metadata = metadata();
    let workspace = std::fs::read_to_string(metadata.workspace_root.join("Cargo.toml")).unwrap();
    assert!(workspace.contains("unsafe_code = \"forbid\""));
    for (name, package) in ours(&metadata) {
        let manifest = std::fs::read_to_string(&package.manifest_path).unwrap();
        let forbids = manifest.contains("[lints]\nworkspace = true");
        assert_eq!(forbids, name != "proxydaemon", "{name}: {}", package.manifest_path);
    }
}

/// The daemons that misbehave for the tests are programs of their own, of a feature that only the tests ask for.
#[test]
fn misbehaviour_is_in_no_normal_build() {
    let metadata = metadata();
    let ours = ours(&metadata);
    for name in ["proxyserver", "proxyclient"] {
        assert!(ours[name].features.is_empty(), "{name} has features");
        let programs: Vec<_> = ours[name].targets.iter().filter(|target| target.is_bin()).collect();
        assert_eq!(programs.len(), 1, "{programs:?}");
        let others: Vec<_> = ours
            .iter()
            .filter(|(_, package)| package.dependencies.iter().any(|dependency| dependency.name == "evil"))
            .collect();
        assert_eq!(others.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["tests"]);
        assert!(others[0].1.dependencies.iter().all(|dependency| {
            dependency.name != "evil"
                || dependency.kind == DependencyKind::Development && dependency.features.is_empty()
        }));
    }
    let evil = ours["evil"];
    assert!(!evil.features.contains_key("default"));
    for program in evil.targets.iter().filter(|target| target.is_bin()) {
        assert_eq!(program.required_features, ["evil"], "{}", program.name);
    }
    for program in ["seon_proxyserver2", "seon_proxyclient2"] {
        let octets = std::fs::read(tests::harness::binary(program).unwrap()).unwrap();
        let holds = |text: &str| octets.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(holds(program), "the program can be searched");
        assert!(!holds(attempts::FILE) && !holds("nobody minded"), "{program} holds misbehaviour");
    }
}

#[test]
fn nothing_in_the_daemons_asks_to_be_told_of_forks() {
    // The C library forks without telling (`proxydaemon::fork`).
    for daemon in ["seon_proxyserver2", "seon_proxyclient2"] {
        let octets = std::fs::read(tests::harness::binary(daemon).unwrap()).unwrap();
        let holds = |text: &str| octets.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(holds("_Fork") && !holds("pthread_atfork") && !holds("__register_atfork"), "{daemon}");
    }
}

/// The threat model names the test that holds each row; a test that was renamed is no evidence.
#[test]
fn the_threat_model_names_tests_that_there_are() {
    let root = metadata().workspace_root;
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let (_, after) = text.split_once("### What holds each row").expect("the threat model is there");
    let (model, _) = after.split_once("### What a break-in yields").expect("it ends");
    let named: Vec<&str> = model.split('`').skip(1).step_by(2).filter(|word| word.matches('_').count() > 3).collect();
    assert!(named.len() > 40, "{named:?}");
    let mut sources = String::new();
    let mut folders = vec![root.join("tests/tests").into_std_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    for name in named {
        assert!(sources.contains(&format!("#[test]\nfn {name}()")), "there is no test {name}");
    }
}

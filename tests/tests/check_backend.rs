//! `seon_backend serve --check`: all is well, and each single fault, with the built program.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;

use tests::harness::{Backend, Chain, Plan, Trouble, binary};

/// Exit code, and what was said.
fn check(config: &Path, further: &[&str]) -> (Option<i32>, Vec<String>) {
    let mut command = Command::new(binary("seon_backend").unwrap());
    let output = command.args(["serve", "--check", "--config"]).arg(config).args(further).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), said.lines().map(str::to_owned).collect())
}

fn only_wrong((code, lines): (Option<i32>, Vec<String>), expected: i32, subject: &str, part: &str) {
    let wrong: Vec<_> = lines.iter().filter(|line| line.starts_with("WRONG ")).collect();
    assert_eq!(wrong.len(), 1, "{lines:#?}");
    assert!(wrong[0].contains(&format!(" {subject}: ")) && wrong[0].contains(part), "{part}: {}", wrong[0]);
    assert!(wrong[0].contains(". To do: "), "{}", wrong[0]);
    assert_eq!(code, Some(expected), "{lines:#?}");
}

fn config(chain: &Chain) -> &Path {
    match &chain.backend {
        Backend::Seon { config, .. } => config,
        Backend::Scripted(_) => panic!("the plan has seon_backend"),
    }
}

#[test]
fn a_backend_that_serves_is_found_in_order_and_not_disturbed() -> Result<(), Trouble> {
    let chain = Plan::new().with_seon_backend().start()?;
    let url = chain.backend.url();
    let address = url.trim_start_matches("https://").split('/').next().unwrap();
    for _ in 0..2 {
        let (code, lines) = check(config(&chain), &["--listen", address]);
        assert_eq!(code, Some(0), "{lines:#?}");
        assert!(lines.iter().all(|line| line.starts_with("OK ")), "{lines:#?}");
        for part in [
            "configuration: ",
            "HTTPS certificate: it has its key",
            "certificate of the proxy: it has its key",
            "database: ",
            "1 token(s)",
            "is held by a backend with this certificate",
        ] {
            assert!(lines.iter().any(|line| line.contains(part)), "{part}: {lines:#?}");
        }
    }
    // The proxyclient's own check finds it as before.
    let output = chain.client_command()?.arg("--check").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

#[test]
fn each_fault_around_the_backend_is_named_with_what_to_do() -> Result<(), Trouble> {
    let chain = Plan::new().with_seon_backend().prepare()?;
    let sound = config(&chain);
    let text = std::fs::read_to_string(sound).unwrap();
    let (code, lines) = check(sound, &[]);
    assert_eq!(code, Some(0), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("can be bound")), "{lines:#?}");

    let broken = chain.scratch.write("broken.toml", text.replace("tls_port", "tls_prot"))?;
    let (code, lines) = check(&broken, &[]);
    assert_eq!(code, Some(3), "{lines:#?}");
    let told =
        |line: &String| line.starts_with("WRONG ") && line.contains("`tls_port`") && line.contains("broken.toml");
    assert!(lines.iter().any(told), "{lines:#?}");

    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = other.local_addr().unwrap().to_string();
    let taking = std::thread::spawn(move || other.accept().map(drop));
    only_wrong(check(sound, &["--listen", &address]), 8, "port", "not by this backend");
    taking.join().unwrap().unwrap();
    only_wrong(check(sound, &["--listen", "192.0.2.1:8443"]), 8, "port", "192.0.2.1:8443");

    let garbage = chain.scratch.path().join("garbage.sqlite");
    std::fs::write(&garbage, "no database at all, whatever its name says").unwrap();
    only_wrong(check(sound, &["--database", garbage.to_str().unwrap()]), 1, "database", "garbage.sqlite");
    let absent = chain.scratch.path().join("absent.sqlite");
    let (code, lines) = check(sound, &["--database", absent.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("WARNING database: ")), "{lines:#?}");
    assert!(!absent.exists(), "a check makes no database");
    Ok(())
}

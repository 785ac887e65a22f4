//! Security tokens: who may call.

use license::{LinkKey, SecurityToken, client_line};
use seonapi_client::ApiError;

use crate::backend::{Folder, text};

#[tokio::test]
async fn a_disabled_token_is_refused_at_once_and_works_again_when_enabled() {
    let folder = Folder::new();
    let token = folder.token("inside1");
    let serving = folder.serve();
    let api = folder.client(&serving, &token);
    api.config(None).await.unwrap();
    let switch = |verb: &str| {
        assert!(folder.run(&["token", verb, "inside1", "--config", "b/seon_backend.toml"]).status.success());
    };
    switch("disable");
    let error = api.config(None).await.unwrap_err();
    assert!(matches!(error, ApiError::TokenRefused { status: 403, .. }), "{error}");
    serving.wait_for("comes with the disabled token \"inside1\"");
    switch("enable");
    api.config(None).await.unwrap();
}

#[tokio::test]
async fn without_a_known_token_nothing_is_told_and_the_caller_is_logged() {
    let folder = Folder::new();
    let serving = folder.serve();
    let unknown = SecurityToken::new_random().unwrap();
    for token in [unknown.reveal(), "guess", ""] {
        for call in ["GET /proxy/v1/config", "GET /proxy/v1/crls/00", "POST /proxy/v1/events", "PUT /proxy/v1/status"] {
            let answer = folder.call(&serving, call, token, "{}");
            assert!(
                answer.starts_with("HTTP/1.1 401") && answer.contains("application/problem+json"),
                "{call}: {answer}"
            );
        }
    }
    let answer = folder.raw(&serving, b"GET /proxy/v1/config HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let line = serving.wait_for("comes without a known token");
    assert!(line.contains("WARN 127.0.0.1:"), "{line}");
    let api = folder.client(&serving, unknown.reveal());
    assert!(api.config(None).await.unwrap_err().refuses_token());
}

#[test]
fn only_the_hash_of_a_token_is_kept() {
    let folder = Folder::new();
    let token = folder.token("inside1");
    let database = std::fs::read(folder.path("seon_backend.sqlite")).unwrap();
    let holds = |part: &str| database.windows(part.len()).any(|octets| octets == part.as_bytes());
    assert!(!holds(&token) && !holds(&token[5..]), "the token stands in the database");
    assert!(holds(&token.parse::<SecurityToken>().unwrap().sha256_hex()));
    let listed = text(&folder.run(&["token", "list", "--config", "b/seon_backend.toml"]).stdout);
    assert!(listed.contains("enabled") && listed.ends_with("inside1\n") && !listed.contains(&token), "{listed}");
}

#[test]
fn the_database_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    folder.token("inside1");
    let mode = std::fs::metadata(folder.path("seon_backend.sqlite")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_new_token_comes_with_the_line_for_the_licence() {
    let folder = Folder::new();
    let output = folder.run(&["token", "new", "--name", "inside1", "--database", "tokens.sqlite"]);
    let token: SecurityToken = text(&output.stdout).parse().unwrap();
    let line = client_line(&LinkKey::derive(&token), Some("inside1"));
    let said = text(&output.stderr);
    assert!(said.ends_with(&format!("{line}\n")) && !said.contains(token.reveal()), "{said}");
}

#[test]
fn names_are_given_once_and_missed_by_name() {
    let folder = Folder::new();
    folder.token("inside1");
    let output = folder.run(&["token", "new", "--name", "inside1", "--config", "b/seon_backend.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty() && text(&output.stderr).contains("already"), "{output:?}");
    let output = folder.run(&["token", "disable", "nobody", "--config", "b/seon_backend.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no token with the name \"nobody\""), "{output:?}");
}

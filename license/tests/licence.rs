//! What a licence says, and each reason to refuse one.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use license::{Grant, GrantError, IssuerSecret, Licence, LicenceError, LinkKey, ProxyId, SecurityToken, client_line};

fn time(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn at(text: &str) -> SystemTime {
    time(text).into()
}

struct Scene {
    issuer: IssuerSecret,
    proxy_id: ProxyId,
    link_key: LinkKey,
    text: String,
}

fn scene() -> Scene {
    let issuer = IssuerSecret::new_random().unwrap();
    let proxy_id = ProxyId::of_spki(b"this proxyserver");
    let link_key = LinkKey::derive(&SecurityToken::new_random().unwrap());
    let grant = Grant {
        licensee: "Zulieferer Müller GmbH".to_owned(),
        proxy_id,
        valid_from: time("2026-01-01T00:00:00Z"),
        valid_until: time("2026-12-31T23:59:59Z"),
    };
    let text = format!("{}{}\n", grant.issue(&issuer).unwrap(), client_line(&link_key, Some("inside 1")));
    Scene { issuer, proxy_id, link_key, text }
}

impl Scene {
    fn read(&self, text: &str) -> Result<Licence, LicenceError> {
        Licence::read(text, &self.issuer.public())
    }

    /// The refusal of these lines. They are looked at before the signature, so its being wrong does not matter.
    fn refusal(&self, lines: &str) -> LicenceError {
        self.read(&format!("{lines}signature: {}\n", "0".repeat(128))).unwrap_err()
    }

    fn signature_line(&self) -> &str {
        self.text.lines().find(|line| line.starts_with("signature:")).unwrap()
    }
}

#[test]
fn an_issued_licence_reads_back() {
    let scene = scene();
    let licence = scene.read(&scene.text).unwrap();
    assert_eq!(licence.grant().licensee, "Zulieferer Müller GmbH");
    assert_eq!(licence.grant().valid_until, time("2026-12-31T23:59:59Z"));
    let valid = licence.check(scene.proxy_id, at("2026-06-01T00:00:00Z")).unwrap();
    assert_eq!(valid.clients().len(), 1);
    let client = valid.client(scene.link_key.spki()).unwrap();
    assert_eq!((client.key, client.name.as_deref()), (scene.link_key.client_key(), Some("inside 1")));
}

#[test]
fn a_key_without_a_client_line_may_not_link() {
    let scene = scene();
    let valid = scene.read(&scene.text).unwrap().check(scene.proxy_id, at("2026-06-01T00:00:00Z")).unwrap();
    let stranger = LinkKey::derive(&SecurityToken::new_random().unwrap());
    assert!(valid.client(stranger.spki()).is_none());
}

#[test]
fn white_space_at_line_ends_comments_and_client_lines_leave_the_signature_whole() {
    let scene = scene();
    let edited = scene.text.replace('\n', "  \r\n")
        + "\r\n# added later\r\nclient: "
        + &scene.text[scene.text.find("ed25519:").unwrap()..];
    assert_eq!(scene.read(&edited).unwrap().clients().len(), 2);
}

#[test]
fn every_changed_character_above_the_signature_is_noticed() {
    let scene = scene();
    let end = scene.text.find("signature:").unwrap() + "signature: ".len() + 128;
    for (place, old) in scene.text[..end].char_indices() {
        let new = if old == '1' { '2' } else { '1' };
        let mut changed = scene.text.clone();
        changed.replace_range(place..place + old.len_utf8(), &new.to_string());
        let answer = scene.read(&changed);
        assert!(answer.is_err(), "{place}: {old:?} became {new:?} and nobody noticed");
    }
}

#[test]
fn a_line_added_above_the_signature_is_noticed() {
    let scene = scene();
    for added in ["# a comment\n", "\n"] {
        let error = scene.read(&format!("{added}{}", scene.text)).unwrap_err();
        assert_eq!(error.code(), "licence-signature-wrong");
    }
}

#[test]
fn another_issuer_is_refused() {
    let scene = scene();
    let other = IssuerSecret::new_random().unwrap();
    let error = Licence::read(&scene.text, &other.public()).unwrap_err();
    assert_eq!(error.code(), "licence-signature-wrong");
    assert!(error.to_string().contains(&other.public().to_string()), "{error}");
}

#[test]
fn validity_counts_to_the_second() {
    let scene = scene();
    let licence = scene.read(&scene.text).unwrap();
    for (now, code) in [
        ("2025-12-31T23:59:59Z", Some("licence-not-yet-valid")),
        ("2026-01-01T00:00:00Z", None),
        ("2026-12-31T23:59:59Z", None),
        ("2027-01-01T00:00:00Z", Some("licence-expired")),
    ] {
        let answer = licence.check(scene.proxy_id, at(now));
        assert_eq!(answer.as_ref().err().map(LicenceError::code), code, "{now}");
    }
}

#[test]
fn refusals_name_what_was_seen_and_what_to_do() {
    let scene = scene();
    let licence = scene.read(&scene.text).unwrap();
    let other = ProxyId::of_spki(b"another proxyserver");
    let sentence = licence.check(other, at("2026-06-01T00:00:00Z")).unwrap_err().to_string();
    assert!(sentence.contains(&scene.proxy_id.to_string()) && sentence.contains(&format!("issued for {other}")));
    let sentence = licence.check(scene.proxy_id, at("2027-01-01T00:00:00Z")).unwrap_err().to_string();
    assert!(sentence.contains("2026-12-31T23:59:59Z") && sentence.contains(&scene.proxy_id.to_string()), "{sentence}");
}

#[test]
fn a_licence_without_client_lines_is_refused() {
    let scene = scene();
    let text = scene.text.replace("client:", "# client:");
    let error = scene.read(&text).unwrap().check(scene.proxy_id, at("2026-06-01T00:00:00Z")).unwrap_err();
    assert_eq!(error.code(), "licence-no-client");
}

#[test]
fn damage_is_told_with_its_line() {
    let scene = scene();
    let head = "seon-proxy-licence: 1\nlicensee: X\n";
    for (lines, place) in [
        ("nonsense\n", 1),
        ("seon-proxy-licence: 1\nlicensee: X\nlicensee: Y\n", 3),
        ("seon-proxy-licence: 1\nclient: ed25519:00\n", 2),
        ("seon-proxy-licence: 1\nunknown: 1\n", 2),
    ] {
        match scene.refusal(lines) {
            LicenceError::Unreadable { line, .. } => assert_eq!(line, place, "{lines}"),
            other => panic!("{lines}: {other}"),
        }
    }
    for (text, place) in [("", 1), (head, 3), (&format!("{head}signature: 12\n"), 3)] {
        match scene.read(text).unwrap_err() {
            error @ LicenceError::Unreadable { line, .. } => {
                assert_eq!((line, error.code()), (place, "licence-unreadable"), "{text}");
            }
            other => panic!("{text}: {other}"),
        }
    }
}

#[test]
fn a_wrong_line_below_the_signature_is_told_with_its_number() {
    let scene = scene();
    for (added, reason) in [("client: ed25519:12\n", "64 digits"), ("licensee: me\n", "only `client:` lines")] {
        let error = scene.read(&format!("{}{added}", scene.text)).unwrap_err();
        assert_eq!(error.code(), "licence-unreadable");
        let sentence = error.to_string();
        assert!(sentence.contains("line 8") && sentence.contains(reason), "{sentence}");
    }
}

#[test]
fn every_cut_is_refused_until_the_signature_is_whole() {
    let scene = scene();
    let whole = scene.text.find(scene.signature_line()).unwrap() + scene.signature_line().len();
    for cut in (0..whole).filter(|cut| scene.text.is_char_boundary(*cut)) {
        assert!(scene.read(&scene.text[..cut]).is_err(), "cut at {cut}");
    }
    assert!(scene.read(&scene.text[..whole]).is_ok());
}

#[test]
fn days_left_are_whole_days_rounded_down() {
    let scene = scene();
    let licence = scene.read(&scene.text).unwrap();
    let end = at("2026-12-31T23:59:59Z");
    let day = Duration::from_secs(86_400);
    assert_eq!(licence.days_left(end - 30 * day), 30);
    assert_eq!(licence.days_left(end - 30 * day + Duration::from_secs(1)), 29);
    assert_eq!(licence.days_left(end - Duration::from_secs(1)), 0);
    assert_eq!(licence.days_left(end + Duration::from_secs(1)), -1);
    let valid = licence.check(scene.proxy_id, end).unwrap();
    assert!(!valid.has_expired(end) && valid.has_expired(end + Duration::from_secs(1)));
}

#[test]
fn a_missing_file_and_one_that_is_no_text_are_told_apart() {
    let scene = scene();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seon_proxy.lic");
    let load = || Licence::load(&path, &scene.issuer.public());
    assert_eq!(load().unwrap_err().code(), "licence-missing");
    std::fs::write(&path, b"licensee: X\n\xff\n").unwrap();
    assert!(matches!(load().unwrap_err(), LicenceError::Unreadable { line: 2, .. }));
    std::fs::write(&path, &scene.text).unwrap();
    assert!(load().is_ok());
}

#[test]
fn a_grant_that_no_licence_can_hold_is_not_issued() {
    let scene = scene();
    let grant = scene.read(&scene.text).unwrap().grant().clone();
    for licensee in ["", "  ", "two\nlines"] {
        let grant = Grant { licensee: licensee.to_owned(), ..grant.clone() };
        assert_eq!(grant.issue(&scene.issuer), Err(GrantError::Licensee));
    }
    let grant = Grant { valid_until: time("2025-12-31T23:59:59Z"), ..grant };
    assert!(matches!(grant.issue(&scene.issuer), Err(GrantError::NeverValid { .. })));
}

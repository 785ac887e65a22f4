//! Builds the issuer's public key in: the community issuer's, or the one that `SEON_LICENCE_ISSUER` names, either as
//! the key itself (`ed25519:` and 64 hex digits) or as the path of a file that holds it.

use std::path::{Path, PathBuf};
use std::{env, fs};

const COMMUNITY: &str = "../etc/seon_community_issuer.pub";

fn main() {
    println!("cargo::rerun-if-env-changed=SEON_LICENCE_ISSUER");
    println!("cargo::rerun-if-changed={COMMUNITY}");
    let key = match env::var("SEON_LICENCE_ISSUER") {
        Ok(key) if key.starts_with("ed25519:") => octets(&key, "SEON_LICENCE_ISSUER"),
        Ok(path) => {
            println!("cargo::rerun-if-changed={path}");
            from_file(Path::new(&path))
        }
        Err(_) => from_file(Path::new(COMMUNITY)),
    };
    let out: PathBuf = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR").into();
    fs::write(out.join("issuer.rs"), format!("{key:?}")).expect("OUT_DIR can be written");
}

fn from_file(path: &Path) -> Vec<u8> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("issuer key {}: {error}", path.display()));
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    octets(line.unwrap_or_default(), &path.display().to_string())
}

fn octets(key: &str, origin: &str) -> Vec<u8> {
    let digits = key.trim().strip_prefix("ed25519:").unwrap_or_default();
    assert!(
        digits.len() == 64 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')),
        "{origin}: `ed25519:` and 64 digits of 0-9 and a-f expected"
    );
    (0..32).map(|at| u8::from_str_radix(&digits[at * 2..at * 2 + 2], 16).expect("two hex digits")).collect()
}

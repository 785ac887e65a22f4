//! The built programs: beside the one that runs, and never older than their sources.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::Trouble;

/// The program of that name, after all of them have been built once in this process.
pub fn binary(name: &str) -> Result<PathBuf, Trouble> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    built(&BUILT, &[], name)
}

/// The same for the daemons that misbehave, which no other build makes.
pub fn evil_binary(name: &str) -> Result<PathBuf, Trouble> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    built(&BUILT, &["--features", "evil/evil"], name)
}

fn built(once: &OnceLock<Result<PathBuf, String>>, options: &[&str], name: &str) -> Result<PathBuf, Trouble> {
    let directory = once.get_or_init(|| build(options).map_err(|trouble| trouble.0)).clone().map_err(Trouble)?;
    let path = directory.join(name);
    if path.is_file() { Ok(path) } else { Err(Trouble(format!("{} was not built", path.display()))) }
}

/// Builds into the directory that this program comes from, in its profile. Returns that directory.
fn build(options: &[&str]) -> Result<PathBuf, Trouble> {
    let running = env::current_exe().map_err(Trouble::io("find the running program"))?;
    let beside = running.parent().unwrap_or(Path::new("/"));
    // Tests lie one directory below programs.
    let directory = if beside.ends_with("deps") { beside.parent().unwrap_or(beside) } else { beside };
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--workspace", "--bins", "--quiet", "--profile", profile, "--target-dir"])
        .arg(directory.parent().unwrap_or(directory))
        .args(options)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .output()
        .map_err(Trouble::io("cargo build"))?;
    if output.status.success() {
        Ok(directory.to_owned())
    } else {
        Err(Trouble(format!("cargo build:\n{}", String::from_utf8_lossy(&output.stderr))))
    }
}

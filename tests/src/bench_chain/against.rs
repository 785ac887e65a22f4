//! `--against REVISION`: codec and chain beside those of an earlier commit, built from a temporary work tree of it.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::chain::{LARGE, SMALL, of};
use super::load::{self, Bulk};
use super::network;
use super::options::Options;
use super::proxy;
use super::table::Table;
use super::topology::Peer;
use super::world::World;
use crate::harness::{Process, Scratch, Trouble, binary};
use crate::pki::KeyKind;

/// Measures both in rounds in which they take turns, and prints the ratios. Nothing is written.
pub fn run(options: &Options, revision: &str) -> Result<(), Trouble> {
    let own = binary("seon_proxyserver2")?;
    let target = own.ancestors().nth(2).unwrap_or(Path::new("target")).to_owned();
    let scratch = Scratch::new()?;
    let tree = WorkTree::of(revision, scratch.path().join("earlier"))?;
    eprintln!("building {revision}");
    let earlier = target.join("against");
    tree.cargo(&["build", "--release", "--workspace", "--bins", "--quiet"], &earlier)?;

    let trees = [
        Tree { peer: Peer::Proxy, directory: here(), target: &target, programs: None },
        Tree { peer: Peer::Earlier, directory: &tree.path, target: &earlier, programs: Some(earlier.join("release")) },
    ];
    for tree in &trees {
        // Built here, as cargo may have to fetch something: where chains are measured it could not.
        codec(tree.directory, tree.target)?;
    }
    network::within(|| measure(options, revision, &trees))
}

/// One of the two that are compared.
struct Tree<'a> {
    peer: Peer,
    directory: &'a Path,
    target: &'a Path,
    programs: Option<PathBuf>,
}

fn measure(options: &Options, revision: &str, trees: &[Tree<'_>]) -> Result<(), Trouble> {
    let world = World::new(KeyKind::P256)?;
    let caller = world.caller()?;
    let mut table = Table::default();
    let mut topologies = Vec::new();
    for Tree { peer, programs, .. } in trees {
        topologies.push((*peer, proxy::start(&world, programs.as_deref(), None).map_err(of(*peer))?));
    }
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        for Tree { peer, directory, target, .. } in trees {
            for (name, nanoseconds) in codec(directory, target)? {
                table.add(&format!("codec: {name}, ns"), *peer, nanoseconds);
            }
        }
        for (name, sessions, shape, mib) in
            [("8 sessions", 8, LARGE, 1024), ("8 sessions, buffers of 4,096", 8, SMALL, 256)]
        {
            for (peer, topology) in &topologies {
                let plan = Bulk { sessions, shape, mib: options.amount(mib, mib / 8) };
                let moved = load::bulk(&caller, topology.address, &topology.roots, plan).map_err(of(*peer))?;
                table.add(&format!("{name}, MiB/s"), *peer, moved.mib_per_second);
                table.add(&format!("{name}, CPU s/GiB"), *peer, moved.cpu_per_gib);
            }
        }
        for (peer, topology) in &topologies {
            let count = options.amount(1000, 100);
            let called = load::sessions(&caller, topology.address, &topology.roots, count).map_err(of(*peer))?;
            table.add("sessions/s", *peer, called.per_second);
            table.add("session, CPU ms", *peer, called.cpu_ms);
        }
    }
    println!("\nNow beside {revision}:\n\n{}", table.markdown());
    Ok(())
}

/// A work tree of a commit, removed when dropped.
struct WorkTree {
    path: PathBuf,
}

impl WorkTree {
    fn of(revision: &str, path: PathBuf) -> Result<Self, Trouble> {
        let mut add = git();
        Process::run(
            "git worktree add",
            add.args(["worktree", "add", "--detach", "--force"]).arg(&path).arg(revision),
        )?;
        Ok(Self { path })
    }

    fn cargo(&self, arguments: &[&str], target: &Path) -> Result<String, Trouble> {
        cargo(&self.path, arguments, target)
    }
}

impl Drop for WorkTree {
    fn drop(&mut self) {
        // Its directory is removed with the scratch directory in any case; git forgets what is not there.
        let _ = git().args(["worktree", "remove", "--force"]).arg(&self.path).output();
    }
}

/// Median of each case of the codec's benchmark, in nanoseconds.
fn codec(directory: &Path, target: &Path) -> Result<Vec<(String, f64)>, Trouble> {
    Ok(medians(&cargo(directory, &["bench", "--quiet", "-p", "oftp2-codec", "--bench", "judge"], target)?))
}

fn cargo(directory: &Path, arguments: &[&str], target: &Path) -> Result<String, Trouble> {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    // What cargo has set for this program is not meant for the other one.
    for (name, _) in env::vars_os().filter(|(name, _)| is_cargos(name)) {
        command.env_remove(name);
    }
    command.args(arguments).arg("--target-dir").arg(target).current_dir(directory);
    Process::run("cargo", &mut command)
}

fn is_cargos(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
}

fn git() -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(here());
    git
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The third column (median) of the tree that divan prints, with the names of all branches above.
fn medians(said: &str) -> Vec<(String, f64)> {
    let mut branches: Vec<String> = Vec::new();
    let mut found = Vec::new();
    for line in said.lines() {
        let Some(place) = line.find(['├', '╰']) else { continue };
        let depth = line.get(..place).unwrap_or_default().chars().count() / 3;
        let rest = line.get(place..).unwrap_or_default().trim_start_matches(['├', '╰', '─', ' ']);
        let mut columns = rest.split('│');
        let first = columns.next().unwrap_or_default();
        let (name, fastest) = first.split_once("  ").unwrap_or((first, ""));
        branches.truncate(depth);
        branches.push(name.trim().to_owned());
        // Without figures it is a branch.
        if let (false, Some(median)) = (fastest.trim().is_empty(), columns.nth(1).and_then(nanoseconds)) {
            found.push((branches.join(" "), median));
        }
    }
    found
}

fn nanoseconds(shown: &str) -> Option<f64> {
    let (value, unit) = shown.trim().split_once(' ')?;
    let factor = match unit {
        "ns" => 1.0,
        "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return None,
    };
    Some(value.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_divans_tree() {
        let said = "\
judge             fastest       │ slowest       │ median        │ mean          │ samples │ iters
├─ cold                         │               │               │               │         │
│  ├─ 1024        71.02 ns      │ 90.1 ns       │ 80.5 ns       │ 80 ns         │ 100     │ 100
│  │              14 GB/s       │ 11 GB/s       │ 12 GB/s       │ 12 GB/s       │         │
│  ╰─ 4096        1.2 µs        │ 2 µs          │ 1.5 µs        │ 1.5 µs        │ 100     │ 100
╰─ sessions       3 ms          │ 4 ms          │ 3.5 ms        │ 3.5 ms        │ 10      │ 10
";
        let expected = [("cold 1024", 80.5), ("cold 4096", 1500.0), ("sessions", 3.5e6)];
        assert_eq!(medians(said), expected.map(|(name, median)| (name.to_owned(), median)));
    }
}

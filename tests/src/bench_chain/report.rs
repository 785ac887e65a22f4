//! The report: printed, and put between its markers in `docs/performance.md`, whose prose stays as people wrote it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::network;
use super::options::Options;
use super::topology::Peer;
use crate::harness::Trouble;

/// Prints a part of the report and, if it is complete and nobody wanted less, writes it down.
pub fn show(part: &str, texts: &[String], options: &Options, complete: bool) -> Result<(), Trouble> {
    let text = texts.iter().filter(|text| !text.is_empty()).cloned().collect::<Vec<_>>().join("\n");
    println!("\n{text}");
    if !complete || options.quick || options.no_write {
        return Ok(());
    }
    let path = page();
    let page = fs::read_to_string(&path).map_err(Trouble::io(path.display()))?;
    let machine = machine(options);
    let page = replace(&page, part, &format!("{machine}\n\n{text}")).ok_or_else(|| {
        Trouble(format!("{} has no markers \"{}\" and \"{}\"", path.display(), begin(part), end(part)))
    })?;
    fs::write(&path, page).map_err(Trouble::io(path.display()))?;
    println!("written to {}", path.display());
    Ok(())
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/performance.md")
}

fn begin(part: &str) -> String {
    format!("<!-- measured: {part} -->")
}

fn end(part: &str) -> String {
    format!("<!-- end of {part} -->")
}

/// The page with another text between the markers of this part.
fn replace(page: &str, part: &str, text: &str) -> Option<String> {
    let (before, rest) = page.split_once(&begin(part))?;
    let (_, after) = rest.split_once(&end(part))?;
    Some(format!("{before}{}\n{}\n{}{after}", begin(part), text.trim(), end(part)))
}

/// On what, with what, and how often it was measured.
fn machine(options: &Options) -> String {
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success());
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of = |name: &str| {
        let line = processors.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(": ")).map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = format!("{} (family {}, model {})", of("model name"), of("cpu family"), of("model\t"));
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() >> 20;
    let mut versions: Vec<String> = Peer::USUAL.iter().filter_map(|peer| peer.version().ok()).collect();
    versions.dedup();
    let directory = env!("CARGO_MANIFEST_DIR");
    format!(
        "Commit {}, {}, {} rounds, on {}: {cores} cores of {model}, {memory} GiB, TCP with {}. With {}; {}; load by rustls with aws-lc.",
        said("git", &["-C", directory, "describe", "--always", "--dirty", "--abbrev=10"]),
        said("date", &["+%Y-%m-%d"]),
        options.rounds,
        said("uname", &["-srm"]),
        network::congestion_control(),
        versions.join("; "),
        said("rustc", &["--version"]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_markers_is_replaced() {
        let page = "Prose.\n<!-- measured: chain -->\nold\n<!-- end of chain -->\nMore prose.\n";
        let expected = "Prose.\n<!-- measured: chain -->\nnew\n<!-- end of chain -->\nMore prose.\n";
        assert_eq!(replace(page, "chain", "\nnew\n").as_deref(), Some(expected));
        assert_eq!(replace(page, "growth", "new"), None);
    }

    #[test]
    fn the_page_has_all_markers() {
        let page = fs::read_to_string(page()).unwrap();
        for part in ["chain", "growth", "fairness"] {
            assert!(replace(&page, part, "").is_some(), "{part}");
        }
    }
}

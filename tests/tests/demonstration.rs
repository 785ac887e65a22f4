//! `cargo demo` as people run it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tests::harness::{PATIENCE, Process, Trouble, binary, made_octets, table, until};
use tests::station::sha256;

/// A place for the demonstration's scratch folder, and a file to send.
struct Place {
    directory: TempDir,
    file: PathBuf,
}

impl Place {
    fn new(size: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // The daemons' user has to reach what lies below.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let file = directory.path().join("small.bin");
        fs::write(&file, made_octets(size)).unwrap();
        fs::create_dir(directory.path().join("tmp")).unwrap();
        fs::set_permissions(directory.path().join("tmp"), Permissions::from_mode(0o755)).unwrap();
        Self { directory, file }
    }

    fn demo(&self) -> Result<Command, Trouble> {
        let mut demo = Command::new(binary("demo")?);
        demo.arg(&self.file).env("TMPDIR", self.scratch());
        Ok(demo)
    }

    fn scratch(&self) -> PathBuf {
        self.directory.path().join("tmp")
    }

    fn assert_nothing_is_left(&self, family: &[table::Entry]) {
        let left: Vec<_> = fs::read_dir(self.scratch()).unwrap().flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(family.iter().all(|entry| !entry.still_there()), "{family:?}");
    }
}

fn is_in(line: &str, directory: &Path) -> bool {
    line.contains(directory.to_str().unwrap())
}

#[test]
fn the_demonstration_ends_well_and_leaves_nothing_behind() -> Result<(), Trouble> {
    let place = Place::new(200_000);
    let said = Process::run("demo", &mut place.demo()?)?;
    let sum = sha256(&made_octets(200_000));
    assert!(said.contains(&format!("SHA-256 sent      {sum}\nSHA-256 received  {sum}")), "{said}");
    assert!(said.contains("has arrived byte for byte"), "{said}");
    for process in ["switchboard", "session", "agent"] {
        assert!(said.contains(&format!("{process}[")), "what the {process} saw is shown: {said}");
    }
    assert!(said.contains("outcome              \"completed\""), "the session record is shown: {said}");
    place.assert_nothing_is_left(&[]);
    Ok(())
}

#[test]
fn it_stays_until_ctrl_c_tells_how_to_reach_it_and_leaves_nothing_behind() -> Result<(), Trouble> {
    let place = Place::new(1000);
    let demo = Process::start("demo", place.demo()?.arg("--stay"))?;
    demo.wait_for_text("Ctrl-C ends it")?;
    // The command line that it recommends works as it stands.
    let lines = demo.lines();
    let line = lines.iter().find(|line| line.contains("oftp2_station send --to ")).expect("an example");
    let mut words = line.split_whitespace();
    let mut station = Command::new(words.next().expect("the program"));
    let other = place.directory.path().join("other.bin");
    fs::write(&other, made_octets(500)).unwrap();
    station.args(words.filter(|word| *word != "FILE")).arg(&other);
    assert!(Process::run("the recommended command", &mut station)?.contains("sent OTHER.BIN, 500 octets"));
    demo.wait_for_text("session-ended")?;

    let family = table::below(demo.pid());
    assert!(family.iter().any(|entry| is_in(&entry.command_line, &place.scratch())), "{family:?}");
    demo.signal(Signal::SIGINT);
    assert!(demo.wait_for_end()?.success(), "{}", demo.last_lines(20));
    place.assert_nothing_is_left(&family);
    Ok(())
}

#[test]
fn ctrl_c_in_the_middle_leaves_nothing_behind() -> Result<(), Trouble> {
    let place = Place::new(200_000_000);
    let demo = Process::start("demo", &mut place.demo()?)?;
    demo.wait_for_text("sends SMALL.BIN")?;
    let family = table::below(demo.pid());
    demo.signal(Signal::SIGINT);
    assert!(!demo.wait_for_end()?.success(), "{}", demo.last_lines(20));
    until(PATIENCE, || family.iter().all(|entry| !entry.still_there()).then_some(()));
    place.assert_nothing_is_left(&family);
    Ok(())
}

#[test]
fn outgoing_a_station_inside_calls_a_partner_and_the_recommended_command_does_the_same() -> Result<(), Trouble> {
    let place = Place::new(200_000);
    let demo = Process::start("demo", place.demo()?.args(["--outgoing", "--stay"]))?;
    demo.wait_for_text("Ctrl-C ends it")?;
    let sum = sha256(&made_octets(200_000));
    let lines = demo.lines();
    for line in [format!("SHA-256 sent      {sum}"), format!("SHA-256 received  {sum}")] {
        assert!(lines.contains(&line), "{}", demo.last_lines(60));
    }
    assert!(lines.iter().any(|line| line.contains("direction") && line.contains("\"outgoing\"")), "the session record");
    let line = lines.iter().find(|line| line.contains("oftp2_station send --to ")).expect("an example");
    let mut words = line.split_whitespace();
    let mut station = Command::new(words.next().expect("the program"));
    let other = place.directory.path().join("other.bin");
    fs::write(&other, made_octets(500)).unwrap();
    station.args(words.filter(|word| *word != "FILE")).arg(&other);
    assert!(Process::run("the recommended command", &mut station)?.contains("sent OTHER.BIN, 500 octets"));

    let family = table::below(demo.pid());
    demo.signal(Signal::SIGINT);
    assert!(demo.wait_for_end()?.success(), "{}", demo.last_lines(20));
    place.assert_nothing_is_left(&family);
    Ok(())
}

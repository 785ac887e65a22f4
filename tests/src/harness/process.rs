//! A program that the harness has started: what it says, line by line, and its end.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use super::{Trouble, table};

/// Longest wait for anything that should happen: it costs nothing when it happens, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// How often a wait looks whether the program has ended without a last word.
const LOOK: Duration = Duration::from_millis(50);

/// For what a program that has ended has said and nobody has read yet; what it has left behind may keep its outputs open.
const LAST_WORDS: Duration = Duration::from_secs(5);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes every wait for a program end with trouble, so that all that was started is ended in order.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

/// Whether [`interrupt`] was called.
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// A started program. It is ended, with all that it has started itself, when this is dropped.
pub struct Process {
    name: String,
    pid: i32,
    child: Mutex<Child>,
    said: Arc<Said>,
}

/// What a program has printed on both its outputs so far.
#[derive(Default)]
struct Said {
    lines: Mutex<Vec<String>>,
    more: Condvar,
    /// Outputs that have not been read to their ends.
    open: AtomicUsize,
}

/// A place in what a program says: see [`Process::mark`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark(usize);

impl Mark {
    /// So many lines later.
    pub fn after(self, lines: usize) -> Self {
        Self(self.0 + lines)
    }
}

impl Process {
    /// Starts `command` in a process group of its own, so that a Ctrl-C in the terminal is the harness's to answer.
    pub fn start(name: &str, command: &mut Command) -> Result<Self, Trouble> {
        Self::start_with(name, command, Stdio::null()).map(|(process, _)| process)
    }

    /// As [`Process::start`], for a program that reads what is written to it.
    pub fn start_to_write(name: &str, command: &mut Command) -> Result<(Self, ChildStdin), Trouble> {
        let (process, input) = Self::start_with(name, command, Stdio::piped())?;
        Ok((process, input.ok_or_else(|| Trouble(format!("{name} has no input")))?))
    }

    fn start_with(name: &str, command: &mut Command, input: Stdio) -> Result<(Self, Option<ChildStdin>), Trouble> {
        use std::os::unix::process::CommandExt;
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child =
            with_default_signals(|| command.spawn()).map_err(Trouble::io(format!("start {name}: {command:?}")))?;
        let said = Arc::new(Said::default());
        let streams: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|stream| Box::new(stream) as _),
            child.stderr.take().map(|stream| Box::new(stream) as _),
        ];
        for stream in streams.into_iter().flatten() {
            let said = said.clone();
            said.open.fetch_add(1, Ordering::SeqCst);
            thread::spawn(move || said.listen_to(stream));
        }
        let pid = i32::try_from(child.id()).map_err(|_| Trouble("a process id over 31 bits".into()))?;
        let input = child.stdin.take();
        Ok((Self { name: name.to_owned(), pid, child: Mutex::new(child), said }, input))
    }

    /// Runs `command` to its end and returns what it said; anything but exit code 0 is trouble.
    pub fn run(name: &str, command: &mut Command) -> Result<String, Trouble> {
        let output = command.stdin(Stdio::null()).output().map_err(Trouble::io(format!("start {name}")))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(said);
        }
        Err(Trouble(format!("{name}: {}\n{said}{}", output.status, String::from_utf8_lossy(&output.stderr))))
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// All lines so far, of both its outputs.
    pub fn lines(&self) -> Vec<String> {
        self.lines_after(Mark::default())
    }

    /// All lines after `mark`.
    pub fn lines_after(&self, mark: Mark) -> Vec<String> {
        self.said.lock().iter().skip(mark.0).cloned().collect()
    }

    /// This moment: only lines after it count in [`Self::wait_after`].
    pub fn mark(&self) -> Mark {
        Mark(self.said.lock().len())
    }

    /// Waits for a line that `wanted` takes, since the start.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String, Trouble> {
        self.wait_after(Mark::default(), what, wanted)
    }

    /// Waits for a line with `text` in it, since the start.
    pub fn wait_for_text(&self, text: &str) -> Result<String, Trouble> {
        self.wait_after(Mark::default(), text, |line| line.contains(text))
    }

    /// Waits for a line after `mark` that `wanted` takes, [`PATIENCE`] at most; ends early when the program has ended.
    pub fn wait_after(&self, mark: Mark, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String, Trouble> {
        self.wait_within(PATIENCE, mark, what, wanted)
    }

    /// As [`Self::wait_after`], for what takes its time.
    pub fn wait_within(
        &self,
        patience: Duration,
        mark: Mark,
        what: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String, Trouble> {
        let end = Instant::now() + patience;
        let mut looked_at = mark.0;
        let mut ended = None;
        let mut lines = self.said.lock();
        loop {
            if let Some(found) = lines.iter().skip(looked_at).find(|line| wanted(line)) {
                return Ok(found.clone());
            }
            looked_at = lines.len();
            if let Some(status) = ended {
                return Err(self.trouble(&format!("ended ({status}) without \"{what}\""), &lines));
            }
            if is_interrupted() {
                return Err(Trouble("interrupted".into()));
            }
            if Instant::now() >= end {
                let seconds = patience.as_secs();
                return Err(self.trouble(&format!("did not say \"{what}\" within {seconds} s"), &lines));
            }
            let waited = self.said.more.wait_timeout(lines, LOOK);
            lines = waited.unwrap_or_else(PoisonError::into_inner).0;
            if looked_at == lines.len()
                && let Some(status) = self.status()
            {
                drop(lines);
                self.said.wait_for_the_last();
                ended = Some(status);
                lines = self.said.lock();
            }
        }
    }

    /// Waits for its end, [`PATIENCE`] at most, and for all that it has said.
    pub fn wait_for_end(&self) -> Result<ExitStatus, Trouble> {
        match self.ends_within(PATIENCE) {
            Some(status) => {
                self.said.wait_for_the_last();
                Ok(status)
            }
            None => Err(self.trouble(&format!("did not end within {} s", PATIENCE.as_secs()), &self.said.lock())),
        }
    }

    /// How it ended; none while it runs.
    pub fn status(&self) -> Option<ExitStatus> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait().ok().flatten()
    }

    /// Sends it a signal, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        if self.status().is_none() {
            // It may end between both lines; it is still ours until it has been waited for.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Its last lines, for people.
    pub fn last_lines(&self, count: usize) -> String {
        last(&self.said.lock(), count)
    }

    fn ends_within(&self, patience: Duration) -> Option<ExitStatus> {
        until(patience, || self.status())
    }

    fn trouble(&self, what: &str, lines: &[String]) -> Trouble {
        Trouble(format!("{} {what}; its last lines:\n{}", self.name, last(lines, 40)))
    }
}

impl Drop for Process {
    /// TERM, a second TERM, KILL; then KILL for what it has left behind. Only what descends from it.
    fn drop(&mut self) {
        let below = table::below(self.pid);
        self.signal(Signal::SIGTERM);
        if self.ends_within(Duration::from_millis(300)).is_none() {
            self.signal(Signal::SIGTERM);
        }
        if self.ends_within(Duration::from_secs(3)).is_none() {
            self.signal(Signal::SIGKILL);
            self.ends_within(Duration::from_secs(3));
        }
        for left in below.iter().filter(|left| left.still_there()) {
            // It may have ended by itself since.
            let _ = kill(Pid::from_raw(left.pid), Signal::SIGKILL);
        }
        until(Duration::from_secs(3), || below.iter().all(|left| !left.still_there()).then_some(()));
    }
}

impl Said {
    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen_to(&self, stream: impl Read) {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            self.lock().push(String::from_utf8_lossy(&line).trim_end().to_owned());
            self.more.notify_all();
            line.clear();
        }
        let lines = self.lock();
        self.open.fetch_sub(1, Ordering::SeqCst);
        drop(lines);
        self.more.notify_all();
    }

    /// Waits until both outputs of a program that has ended have been read to their ends, [`LAST_WORDS`] at most.
    fn wait_for_the_last(&self) {
        let some_left = |_: &mut Vec<String>| self.open.load(Ordering::SeqCst) > 0;
        // Who has the outputs now may never end; what it says is no last word.
        let _ = self.more.wait_timeout_while(self.lock(), LAST_WORDS, some_left);
    }
}

/// A program inherits which signals are blocked; one that cannot be told to end would have to be killed.
fn with_default_signals<T>(start: impl FnOnce() -> T) -> T {
    let before = SigSet::thread_get_mask();
    let unblocked = SigSet::from_iter([Signal::SIGTERM, Signal::SIGHUP]).thread_unblock();
    let started = start();
    if let (Ok(before), Ok(())) = (before, unblocked) {
        // It was in force a moment ago.
        let _ = before.thread_set_mask();
    }
    started
}

/// Looks again and again whether something has happened that nobody can tell us.
pub fn until<T>(patience: Duration, happened: impl Fn() -> Option<T>) -> Option<T> {
    let end = Instant::now() + patience;
    loop {
        match happened() {
            Some(found) => return Some(found),
            None if Instant::now() >= end => return None,
            None => thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn last(lines: &[String], count: usize) -> String {
    let from = lines.len().saturating_sub(count);
    lines.iter().skip(from).map(|line| format!("  {line}\n")).collect()
}

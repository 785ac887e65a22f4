//! Reports that the backend does not have yet: in memory and, so that a restart loses nothing, in files of JSON lines.
//!
//! Four lanes, each bounded on its own, so that nothing the DMZ causes erases or delays what the inside has to tell. Who
//! has something to tell adds it and goes on; a thread of its own writes, as a full or slow disk must hold nobody up.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proxydaemon::descriptors::Directory;
use proxylink::situation::Situation;
use serde::Serialize;

use super::appending::Appending;

/// One kind of reports, in the order in which they are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Events of the inside.
    Events,
    /// Records of sessions that the inside served.
    Sessions,
    /// Events that the DMZ tells or causes.
    DmzEvents,
    /// Records of sessions that never came inside.
    DmzSessions,
}

impl Lane {
    /// All, the most important first.
    pub const ALL: [Self; 4] = [Self::Events, Self::Sessions, Self::DmzEvents, Self::DmzSessions];

    const fn file(self) -> &'static str {
        match self {
            Self::Events => "events.spool",
            Self::Sessions => "sessions.spool",
            Self::DmzEvents => "events-dmz.spool",
            Self::DmzSessions => "sessions-dmz.spool",
        }
    }

    /// What it holds, for messages.
    pub const fn what(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Sessions => "session records",
            Self::DmzEvents => "events of the DMZ",
            Self::DmzSessions => "session records of the DMZ",
        }
    }

    const fn quota(self) -> Quota {
        const MIB: usize = 1024 * 1024;
        match self {
            Self::Events => Quota { reports: 20_000, octets: 32 * MIB },
            Self::Sessions => Quota { reports: 50_000, octets: 64 * MIB },
            Self::DmzEvents | Self::DmzSessions => Quota { reports: 5000, octets: 8 * MIB },
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Quota {
    reports: usize,
    octets: usize,
}

/// A report as a JSON line.
#[derive(Clone)]
pub struct Line {
    /// With its line break.
    octets: Arc<[u8]>,
    is_from_disk: bool,
    put_behind: Option<PutBehind>,
}

/// A report that was put behind all others of its lane, as the backend did not take it and was well otherwise.
#[derive(Debug, Clone, Copy)]
pub struct PutBehind {
    /// Since when it is so while the backend takes others of its lane.
    pub since: Instant,
    /// When that was done last.
    pub last: Instant,
    /// The round of delivery in which it was done last.
    pub round: u64,
}

impl Line {
    /// Whether it was put behind others since the start of this agent.
    pub const fn put_behind(&self) -> Option<PutBehind> {
        self.put_behind
    }

    /// Whether it was read from a file, and may be anything but a report.
    pub const fn is_from_disk(&self) -> bool {
        self.is_from_disk
    }

    fn len(&self) -> usize {
        self.octets.len()
    }
}

impl AsRef<[u8]> for Line {
    /// The report alone.
    fn as_ref(&self) -> &[u8] {
        self.octets.strip_suffix(b"\n").unwrap_or(&self.octets)
    }
}

/// From one round of writing to the next one that nobody asks for: what comes meanwhile is written together. What is written
/// outlives the agent.
const TOGETHER: Duration = Duration::from_millis(10);
/// From one commit to the disk to the next one that nobody asks for. Each costs much, for each lane that has changed, and a
/// session tells several things. What is committed outlives a power cut.
const COMMITTED: Duration = Duration::from_millis(100);
/// Between two attempts to write while the disk makes trouble, and to make a file shorter that could not be.
const RETRY: Duration = Duration::from_secs(15);
/// Octets that are written at once.
const PIECE: usize = 256 * 1024;
/// Octets of a file that are read at a start. More than both halves of the largest quota.
const LARGEST_FILE: u64 = 256 * 1024 * 1024;

/// The lanes. Its clones share them; the thread that writes ends with the last one.
#[derive(Clone)]
pub struct Spool {
    shared: Arc<Shared>,
    _last: Arc<Last>,
}

struct Shared {
    state: Mutex<State>,
    /// There is something to write.
    work: Condvar,
    /// A round of writing is done.
    done: Condvar,
}

struct Last(Arc<Shared>);

#[derive(Default)]
struct State {
    lanes: [Waiting; 4],
    /// Something was added or delivered since the last round of writing.
    changed: bool,
    /// Rounds that were asked for whatever the time, and the last of them that was done.
    asked: u64,
    answered: u64,
    trouble: Option<String>,
    closed: bool,
}

/// Reports of one lane. They are numbered in the order in which they came.
#[derive(Default)]
struct Waiting {
    lines: VecDeque<Line>,
    octets: usize,
    /// Number of the oldest.
    first: u64,
    /// Those with lower numbers are in the file.
    written: u64,
    dropped: u64,
}

impl Spool {
    /// Opens the spool's files, takes in what they hold, and begins to write.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub fn open(open: impl Fn() -> io::Result<Directory>) -> io::Result<Self> {
        let mut state = State::default();
        let mut files = Vec::new();
        for lane in Lane::ALL {
            let (file, lines) = LaneFile::open(open()?, lane)?;
            let waiting = state.of(lane);
            waiting.octets = lines.iter().map(|line| line.len()).sum();
            waiting.written = lines.len() as u64;
            waiting.lines = lines.into();
            files.push(file);
        }
        let shared = Arc::new(Shared { state: Mutex::new(state), work: Condvar::new(), done: Condvar::new() });
        let writing = Arc::clone(&shared);
        std::thread::Builder::new().name("spool".to_owned()).spawn(move || write(&writing, &mut files))?;
        Ok(Self { _last: Arc::new(Last(Arc::clone(&shared))), shared })
    }

    /// Adds a report; `false` when its lane is full and it was dropped (and counted).
    pub fn add(&self, lane: Lane, report: &impl Serialize) -> bool {
        let is_added = self.offer(lane, report);
        if !is_added {
            self.shared.lock().of(lane).dropped += 1;
        }
        is_added
    }

    /// Adds a report if its lane has room for it, and counts nothing.
    pub fn offer(&self, lane: Lane, report: &impl Serialize) -> bool {
        let line = serde_json::to_vec(report);
        let mut state = self.shared.lock();
        let (waiting, quota) = (state.of(lane), lane.quota());
        let line = match line {
            Ok(mut line) if waiting.lines.len() < quota.reports && waiting.octets + line.len() < quota.octets => {
                line.push(b'\n');
                Line { octets: line.into(), is_from_disk: false, put_behind: None }
            }
            _ => return false,
        };
        waiting.octets += line.len();
        waiting.lines.push_back(line);
        self.shared.change(state);
        true
    }

    /// The oldest reports of a lane, at most `most`.
    pub fn oldest(&self, lane: Lane, most: usize) -> Vec<Line> {
        self.shared.lock().of(lane).lines.iter().take(most).cloned().collect()
    }

    /// Whether nothing waits in a lane.
    pub fn is_empty(&self, lane: Lane) -> bool {
        self.shared.lock().of(lane).lines.is_empty()
    }

    /// The oldest `count` of a lane are delivered.
    pub fn delivered(&self, lane: Lane, count: usize) {
        let mut state = self.shared.lock();
        let waiting = state.of(lane);
        let count = count.min(waiting.lines.len());
        waiting.octets -= waiting.lines.drain(..count).map(|line| line.len()).sum::<usize>();
        waiting.first += count as u64;
        self.shared.change(state);
    }

    /// The oldest of a lane goes behind all others of it, in this round of delivery; once more, if others were taken since it
    /// did last, or as if for the first time.
    pub fn put_behind(&self, lane: Lane, round: u64, once_more: bool) {
        let mut state = self.shared.lock();
        let waiting = state.of(lane);
        let Some(mut line) = waiting.lines.pop_front() else { return };
        let last = Instant::now();
        let since = line.put_behind.filter(|_| once_more).map_or(last, |before| before.since);
        line.put_behind = Some(PutBehind { since, last, round });
        if waiting.lines.is_empty() {
            return waiting.lines.push_front(line);
        }
        // In the file it comes once more behind the others; where it was, it counts as delivered.
        waiting.first += 1;
        waiting.lines.push_back(line);
        self.shared.change(state);
    }

    /// How many wait in a lane.
    pub fn count(&self, lane: Lane) -> usize {
        self.shared.lock().of(lane).lines.len()
    }

    /// How many of a lane were dropped since the last question.
    pub fn take_dropped(&self, lane: Lane) -> u64 {
        std::mem::take(&mut self.shared.lock().of(lane).dropped)
    }

    /// Why reports cannot be kept on disk, while that is so.
    pub fn trouble(&self) -> Option<String> {
        self.shared.lock().trouble.clone()
    }

    /// Has everything written that was added until now, and waits for it; whether it is on disk. Blocks, at most so long.
    pub fn keep(&self, at_most: Duration) -> bool {
        let deadline = Instant::now() + at_most;
        let mut state = self.shared.lock();
        state.asked += 1;
        let mine = state.asked;
        self.shared.work.notify_one();
        while state.answered < mine {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.shared.done.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.trouble.is_none()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is something to write. The thread that writes is woken by the first change of a round alone.
    fn change(&self, mut state: MutexGuard<'_, State>) {
        let first = !std::mem::replace(&mut state.changed, true);
        drop(state);
        if first {
            self.work.notify_one();
        }
    }
}

impl State {
    const fn of(&mut self, lane: Lane) -> &mut Waiting {
        let [events, sessions, dmz_events, dmz_sessions] = &mut self.lanes;
        match lane {
            Lane::Events => events,
            Lane::Sessions => sessions,
            Lane::DmzEvents => dmz_events,
            Lane::DmzSessions => dmz_sessions,
        }
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.work.notify_one();
    }
}

/// The thread that writes.
fn write(shared: &Shared, files: &mut [LaneFile]) {
    let (mut not_before, mut next_commit) = (Instant::now(), Instant::now());
    // The last round committed nothing.
    let mut owed = false;
    loop {
        let mut state = shared.lock();
        // What comes soon after a round waits, and while the disk makes trouble for longer.
        while !state.closed && state.asked == state.answered {
            let to_write = (state.changed || state.trouble.is_some()).then_some(not_before);
            let to_commit = owed.then_some(next_commit.max(not_before));
            let Some(at) = to_write.into_iter().chain(to_commit).min() else {
                state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = shared.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let (asked, closed) = (state.asked, state.closed);
        let commit = closed || asked != state.answered || Instant::now() >= next_commit;
        state.changed = false;
        drop(state);
        let mut trouble = None;
        for file in &mut *files {
            if let Err(error) = file.write(shared, commit) {
                trouble.get_or_insert(error.to_string());
            }
        }
        let now = Instant::now();
        not_before = now + if trouble.is_some() { RETRY } else { TOGETHER };
        owed = !commit;
        if commit {
            next_commit = now + COMMITTED;
        }
        let mut state = shared.lock();
        match (&trouble, state.trouble.is_some()) {
            (Some(trouble), false) => {
                Situation::SpoolUnwritable.tell(format_args!("{trouble}; reports are kept in memory only"));
            }
            (None, true) => {
                log::info!(code = Situation::SpoolUnwritable.code(); "reports are kept on disk again");
            }
            _ => {}
        }
        (state.trouble, state.answered) = (trouble, asked);
        drop(state);
        shared.done.notify_all();
        if closed {
            return;
        }
    }
}

/// The file of one lane: lines that were delivered, then lines that wait.
struct LaneFile {
    directory: Directory,
    lane: Lane,
    file: Option<Appending<File>>,
    /// Number and octets of each line, except for those that are known to be delivered.
    lines: VecDeque<(u64, usize)>,
    /// Octets of those.
    gone: u64,
    /// Something was written since the last commit to the disk.
    uncommitted: bool,
    /// Writing has failed.
    doubtful: bool,
    shorten_after: Option<Instant>,
}

impl LaneFile {
    fn open(directory: Directory, lane: Lane) -> io::Result<(Self, Vec<Line>)> {
        let mut lines = Vec::new();
        match directory.open_file(lane.file()) {
            Ok(file) => {
                let mut reader = BufReader::new(io::Read::take(file, LARGEST_FILE));
                let mut line = Vec::new();
                // A line that a power cut left unfinished is passed over.
                while reader.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
                    let octets = std::mem::take(&mut line).into();
                    lines.push(Line { octets, is_from_disk: true, put_behind: None });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let octets = lines.iter().map(|line| line.len() as u64).sum();
        let file = directory.append(lane.file(), 0o600).ok().map(|file| Appending::new(file, octets));
        let numbered = (0..).zip(lines.iter().map(|line| line.len())).collect();
        let file = Self {
            directory,
            lane,
            file,
            lines: numbered,
            gone: 0,
            uncommitted: false,
            doubtful: false,
            shorten_after: None,
        };
        Ok((file, lines))
    }

    /// Writes what is not written. To commit is to have the disk keep it, and to drop what is delivered when that pays.
    fn write(&mut self, shared: &Shared, commit: bool) -> io::Result<()> {
        // What is put behind others while this writes is not in the file again yet, and must not go from its old place.
        let first = shared.lock().of(self.lane).first;
        if std::mem::take(&mut self.doubtful) {
            self.reopen(shared);
        }
        loop {
            let (piece, numbers) = self.next_piece(shared);
            if piece.is_empty() {
                break;
            }
            let file = match &mut self.file {
                Some(file) => file,
                None => self.file.insert(Appending::new(self.directory.append(self.lane.file(), 0o600)?, 0)),
            };
            if let Err(error) = file.append(&piece) {
                self.doubtful = true;
                return Err(error);
            }
            shared.lock().of(self.lane).written = numbers.last().map_or(0, |(last, _)| last + 1);
            self.lines.extend(numbers);
            self.uncommitted = true;
        }
        if !commit {
            return Ok(());
        }
        if let Some(file) = self.file.as_ref().filter(|_| self.uncommitted) {
            file.store().sync_data()?;
        }
        self.uncommitted = false;
        self.shorten(first)
    }

    fn next_piece(&self, shared: &Shared) -> (Vec<u8>, Vec<(u64, usize)>) {
        let mut state = shared.lock();
        let waiting = state.of(self.lane);
        let from = waiting.written.max(waiting.first);
        let skip = usize::try_from(from - waiting.first).unwrap_or(usize::MAX);
        let (mut piece, mut numbers) = (Vec::new(), Vec::new());
        for (number, line) in (from..).zip(waiting.lines.iter().skip(skip)) {
            if !piece.is_empty() && piece.len() + line.len() > PIECE {
                break;
            }
            piece.extend_from_slice(&line.octets);
            numbers.push((number, line.len()));
        }
        (piece, numbers)
    }

    /// After a failure: the file may have been removed or replaced to mend it. All that waits is then written again.
    fn reopen(&mut self, shared: &Shared) {
        let Some(old) = self.file.take() else { return };
        let reopened = self.directory.append(self.lane.file(), 0o600);
        match reopened {
            Ok(file) if file.metadata().is_ok_and(|metadata| metadata.len() >= old.whole()) => {
                self.file = Some(Appending::new(file, old.whole()));
            }
            _ => {
                (self.lines, self.gone) = (VecDeque::new(), 0);
                let mut state = shared.lock();
                let waiting = state.of(self.lane);
                waiting.written = waiting.first;
            }
        }
    }

    /// Drops those before this one.
    fn shorten(&mut self, first: u64) -> io::Result<()> {
        while let Some((_, octets)) = self.lines.pop_front_if(|(number, _)| *number < first) {
            self.gone += octets as u64;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let whole = file.whole();
        if self.gone == 0 {
            return Ok(());
        }
        if self.lines.is_empty() {
            self.gone = 0;
            return file.clear();
        }
        // Copying costs what is left, so it pays when that is no more than what goes.
        if self.gone < whole / 2 || self.shorten_after.is_some_and(|after| Instant::now() < after) {
            return Ok(());
        }
        match self.copy_rest(whole) {
            Ok(file) => {
                (self.file, self.gone, self.shorten_after) = (Some(file), 0, None);
            }
            Err(error) => {
                // All that waits is on disk nevertheless.
                log::debug!("the spool of {} cannot be made shorter: {error}", self.lane.what());
                self.shorten_after = Some(Instant::now() + RETRY);
            }
        }
        Ok(())
    }

    fn copy_rest(&self, whole: u64) -> io::Result<Appending<File>> {
        let new = format!("{}.new", self.lane.file());
        match self.directory.remove(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut source = self.directory.open_file(self.lane.file())?;
        source.seek(SeekFrom::Start(self.gone))?;
        let left = whole - self.gone;
        let mut copy = self.directory.create_new(&new, 0o600)?;
        let copied = io::copy(&mut io::Read::take(source, left), &mut copy)
            .and_then(|copied| if copied == left { copy.sync_all() } else { Err(io::ErrorKind::UnexpectedEof.into()) });
        // Opened for appending before it stands under its name, so that the two cannot part.
        let appending = copied.and_then(|()| self.directory.append(&new, 0o600));
        let moved = appending.and_then(|file| self.directory.rename(&new, self.lane.file()).map(|()| file));
        if moved.is_err() {
            let _ = self.directory.remove(&new);
        }
        Ok(Appending::new(moved?, left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Lane::{DmzEvents, Events};

    const SOON: Duration = Duration::from_secs(90);

    fn open(scratch: &tempfile::TempDir) -> Spool {
        Spool::open(|| Directory::open(scratch.path())).unwrap()
    }

    fn waiting(spool: &Spool, lane: Lane) -> Vec<u32> {
        let lines = spool.oldest(lane, usize::MAX);
        lines.iter().map(|line| serde_json::from_slice(line.as_ref()).unwrap()).collect()
    }

    #[test]
    fn what_is_not_delivered_outlives_a_restart_in_order() {
        let scratch = tempfile::tempdir().unwrap();
        let spool = open(&scratch);
        for report in 1..=5_u32 {
            assert!(spool.add(Events, &report));
        }
        assert!(spool.keep(SOON));
        spool.delivered(Events, 2);
        assert!(spool.keep(SOON));
        let spool = open(&scratch);
        // What was delivered may come once more, what was not is never missing.
        let left = waiting(&spool, Events);
        assert!(left.ends_with(&[3, 4, 5]), "{left:?}");
        spool.delivered(Events, left.len());
        assert!(spool.keep(SOON));
        assert!(open(&scratch).is_empty(Events));
    }

    #[test]
    fn what_comes_soon_after_a_round_is_written_though_nobody_asks_for_it() {
        let scratch = tempfile::tempdir().unwrap();
        let spool = open(&scratch);
        for report in 1..=3_u32 {
            assert!(spool.add(Events, &report));
            let deadline = Instant::now() + SOON;
            let mut state = spool.shared.lock();
            while state.of(Events).written < u64::from(report) {
                let left = deadline.saturating_duration_since(Instant::now());
                assert!(!left.is_zero(), "{report} is not written");
                state = spool.shared.done.wait_timeout(state, left).unwrap().0;
            }
        }
        assert_eq!(std::fs::read_to_string(scratch.path().join("events.spool")).unwrap(), "1\n2\n3\n");
    }

    #[test]
    fn the_file_does_not_keep_what_is_delivered() {
        let scratch = tempfile::tempdir().unwrap();
        let spool = open(&scratch);
        for report in 0..1000_u32 {
            assert!(spool.add(Events, &report));
            if report >= 10 {
                spool.delivered(Events, 1);
            }
            assert!(spool.keep(SOON));
            let octets = std::fs::metadata(scratch.path().join("events.spool")).unwrap().len();
            assert!(octets <= 2 * 11 * 4, "{octets}");
        }
        assert_eq!(
            waiting(&open(&scratch), Events).last_chunk::<10>().unwrap(),
            &[990, 991, 992, 993, 994, 995, 996, 997, 998, 999]
        );
    }

    #[test]
    fn what_is_put_behind_the_others_outlives_a_restart_there() {
        let scratch = tempfile::tempdir().unwrap();
        let spool = open(&scratch);
        for report in 1..=4_u32 {
            assert!(spool.add(Events, &report));
        }
        assert!(spool.keep(SOON));
        spool.put_behind(Events, 1, false);
        assert_eq!(waiting(&spool, Events), [2, 3, 4, 1]);
        spool.delivered(Events, 2);
        assert!(spool.keep(SOON));
        assert!(waiting(&open(&scratch), Events).ends_with(&[4, 1]));
        spool.delivered(Events, 1);
        spool.put_behind(Events, 2, true);
        let put_behind = spool.oldest(Events, 1)[0].put_behind().unwrap();
        assert_eq!((put_behind.round, spool.count(Events)), (2, 1));
        assert!(spool.keep(SOON));
        assert_eq!(waiting(&open(&scratch), Events), [1]);
    }

    #[test]
    fn the_patience_with_what_is_put_behind_begins_anew_while_nothing_else_is_taken() {
        let scratch = tempfile::tempdir().unwrap();
        let spool = open(&scratch);
        assert!(spool.add(Events, &1_u32));
        let put_behind = |round, once_more| {
            spool.put_behind(Events, round, once_more);
            spool.oldest(Events, 1)[0].put_behind().unwrap()
        };
        let first = put_behind(1, false);
        let others_taken = put_behind(2, true);
        assert!(others_taken.since == first.since && others_taken.last > first.last);
        let nothing_taken = put_behind(3, false);
        assert!(nothing_taken.since > others_taken.last);
    }

    #[test]
    fn a_full_lane_drops_the_newest_counts_and_leaves_the_others_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let spool = open(&scratch);
        for report in 0..5010_u32 {
            assert_eq!(spool.add(DmzEvents, &report), report < 5000);
        }
        assert!(spool.add(Events, &1_u32));
        assert_eq!(waiting(&spool, DmzEvents), (0..5000).collect::<Vec<_>>());
        assert_eq!(
            [spool.take_dropped(DmzEvents), spool.take_dropped(DmzEvents), spool.take_dropped(Events)],
            [10, 0, 0]
        );
    }

    #[test]
    fn a_lane_is_bounded_in_octets_too() {
        let scratch = tempfile::tempdir().unwrap();
        let spool = open(&scratch);
        let report = "x".repeat(1024 * 1024);
        assert_eq!((0..9).filter(|_| spool.add(DmzEvents, &report)).count(), 7);
        assert_eq!(spool.take_dropped(DmzEvents), 2);
    }

    #[test]
    fn a_line_cut_by_a_power_failure_is_passed_over_and_nothing_is_joined_to_it() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("events.spool"), "1\n2\n\"cut").unwrap();
        let spool = open(&scratch);
        assert_eq!(waiting(&spool, Events), [1, 2]);
        assert!(spool.add(Events, &3_u32));
        assert!(spool.keep(SOON));
        assert_eq!(waiting(&open(&scratch), Events), [1, 2, 3]);
    }

    #[test]
    fn with_the_disk_full_nothing_is_written_between_the_attempts_and_nothing_is_missing_later() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("events.spool");
        let spool = open(&scratch);
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/dev/full", &file).unwrap();
        let (mut lanes, state) =
            (LaneFile::open(Directory::open(scratch.path()).unwrap(), DmzEvents).unwrap(), State::default());
        lanes.0.lane = Events;
        lanes.0.file = Some(Appending::new(File::options().append(true).open(&file).unwrap(), 0));
        drop(spool);
        let shared = Shared { state: Mutex::new(state), work: Condvar::new(), done: Condvar::new() };
        let shared = Arc::new(shared);
        let writing = Arc::clone(&shared);
        let mut files = vec![lanes.0];
        std::thread::spawn(move || write(&writing, &mut files));
        let spool = Spool { _last: Arc::new(Last(Arc::clone(&shared))), shared };

        assert!(spool.add(Events, &1_u32));
        assert!(!spool.keep(SOON));
        assert!(spool.trouble().is_some());
        std::fs::remove_file(&file).unwrap();
        // There is room again, and yet nobody tries for each report.
        for report in 2..=1000_u32 {
            assert!(spool.add(Events, &report));
        }
        spool.delivered(Events, 1);
        assert!(spool.trouble().is_some());
        assert!(!file.exists() || std::fs::metadata(&file).unwrap().len() == 0);
        // Who asks has it tried at once.
        assert!(spool.keep(SOON));
        assert_eq!(spool.trouble(), None);
        let content = std::fs::read_to_string(&file).unwrap();
        assert_eq!(
            content.lines().map(|line| line.parse().unwrap()).collect::<Vec<u32>>(),
            (2..=1000).collect::<Vec<_>>()
        );
    }
}

//! The process title: what `ps` shows, and no secret in it.

use std::io;
use std::sync::Mutex;

use nix::libc;

/// The octets of the command line and of the environment as the kernel laid them out, free to be written over.
#[derive(Clone, Copy)]
struct Area {
    start: usize,
    len: usize,
}

static AREA: Mutex<Option<Area>> = Mutex::new(None);

/// Finds the place of the title and frees it: every environment variable is moved elsewhere first.
///
/// To be called in `main` before anything starts a thread. Whoever kept a pointer into the old environment (no Rust code
/// can) would see it overwritten later.
///
/// # Errors
/// `/proc/self/stat` cannot be read; titles then show in the short name alone, and [`wipe_arguments`] fails.
pub fn prepare() -> io::Result<()> {
    let area = find()?;
    for (name, value) in std::env::vars_os() {
        // SAFETY: called before any thread is started, as the documentation demands.
        unsafe { std::env::set_var(name, value) };
    }
    *lock() = Some(area);
    Ok(())
}

fn lock() -> std::sync::MutexGuard<'static, Option<Area>> {
    AREA.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Fields 48 to 51 of proc_pid_stat(5): arg_start, arg_end, env_start, env_end.
fn find() -> io::Result<Area> {
    let unknown = || io::Error::other("/proc/self/stat does not tell where the command line is");
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The second field, the name in parentheses, may hold anything; field 3 follows its last parenthesis.
    let (_, fields) = stat.rsplit_once(')').ok_or_else(unknown)?;
    let mut fields = fields.split_whitespace().skip(48 - 3).map(str::parse::<usize>);
    let mut next = || fields.next().and_then(Result::ok).filter(|address| *address != 0).ok_or_else(unknown);
    let (arg_start, arg_end, env_start, env_end) = (next()?, next()?, next()?, next()?);
    let end = if env_start == arg_end && env_end > arg_end { env_end } else { arg_end };
    let len = end.checked_sub(arg_start).ok_or_else(unknown)?;
    Ok(Area { start: arg_start, len })
}

/// Shows `title` in the process list, cut at the room that command line and environment left. The part after the last
/// `": "` (the role) becomes the short name, cut at 15 octets.
///
/// After this and after [`wipe_arguments`] the arguments can no longer be read from `std::env::args`.
pub fn set_title(title: &str) {
    let short = title.rsplit(": ").next().unwrap_or(title);
    set_short_name(short);
    if let Some(area) = *lock() {
        area.write(title.as_bytes());
    }
}

/// Writes `program` over the whole command line, so that secrets in it vanish from the process list, and zeros over the
/// environment the process was started with. To be called as soon as the command line has been read.
///
/// # Errors
/// [`prepare`] was not called or failed.
pub fn wipe_arguments(program: &str) -> io::Result<()> {
    let area = lock().ok_or_else(|| io::Error::other("the place of the command line is not known"))?;
    set_short_name(program);
    area.write(program.as_bytes());
    Ok(())
}

impl Area {
    /// Fills the area with `text` and zeros. At least the last octet stays zero. The kernel shows a text that is longer
    /// than the command line was as well, as the octet where that ended is then not zero.
    fn write(self, text: &[u8]) {
        let Some(room) = self.len.checked_sub(1) else { return };
        let text = text.get(..room).unwrap_or(text);
        let start = std::ptr::with_exposed_provenance_mut::<u8>(self.start);
        // SAFETY: the kernel mapped `len` writable octets at `start` on the stack before `main` and nobody unmaps them.
        // `prepare` moved the environment away and only one thread writes at a time (`AREA` is locked by the callers or
        // copied by the only thread of a fresh process). Readers of the argument vector see strings that end before the
        // last octet, which stays zero.
        unsafe {
            start.write_bytes(0, self.len);
            start.copy_from_nonoverlapping(text.as_ptr(), text.len());
        }
    }
}

/// Shows `name`, cut at 15 octets, as the short name alone.
pub(crate) fn set_short_name(name: &str) {
    let name: Vec<u8> = name.bytes().filter(|octet| *octet != 0).take(15).collect();
    if let Ok(name) = std::ffi::CString::new(name) {
        // SAFETY: PR_SET_NAME reads at most 16 octets of a string that ends with zero.
        unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    }
}

/// The name of the program that process `pid` shows: the first word of its title or command line, without directories.
///
/// # Errors
/// There is no such process, or it hides (`hidepid`).
pub fn program_of(pid: nix::unistd::Pid) -> io::Result<String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline"))?;
    let first = line.split(|octet| *octet == 0).next().unwrap_or_default();
    let first = String::from_utf8_lossy(first);
    let program = first.split(": ").next().unwrap_or_default().trim();
    let program = program.rsplit('/').next().unwrap_or_default();
    if !program.is_empty() {
        return Ok(program.to_owned());
    }
    // Kernel threads and the ended have no command line.
    Ok(std::fs::read_to_string(format!("/proc/{pid}/comm"))?.trim_end().to_owned())
}

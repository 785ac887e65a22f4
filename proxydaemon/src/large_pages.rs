//! The program's own code and constants in large pages, for the sake of a gate's many children.
//!
//! A forked process begins without code. Each stretch of 64 KiB in which it executes a function costs it a page fault that maps
//! sixteen pages, one by one, and at its end they are unmapped one by one: some seventy faults in a process that lives for one
//! session. In pages of 2 MiB it is one fault for each of them.
//!
//! The kernel keeps files of most file systems in small pages alone. What it does put in large ones is memory: so the code is
//! copied to a memory file, which is sealed against every change before it is mapped, and takes the place of the program's file.
//! Nothing is ever writable and executable. The linker leaves room for it (`build.rs` of both daemons), on x86-64 alone: where
//! addresses are chosen among fewer, multiples of 2 MiB would leave too few.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use serde::{Deserialize, Serialize};

use crate::checked;
use crate::fork::threads;

/// What the linker aligns the parts of the program to.
const LARGE: usize = 2 * 1024 * 1024;
/// Beyond it, it would be memory for code that hardly anybody executes.
const MOST: usize = 32 * 1024 * 1024;
/// Smaller libraries are not worth a large page of their own.
const LIBRARY: usize = LARGE / 2;

/// Sealed copies of code and constants, from which they are mapped: those of this process, and others that earlier gates have made and
/// later ones may use.
///
/// The children of all gates would share the pages of one copy; a copy for each gate would be memory that any session which lives
/// long keeps. So there is a copy for each 512 sessions at the same time, and never more than eight.
#[derive(Debug, Default)]
pub struct Copies {
    all: Vec<Vec<File>>,
    /// Which of them is that of this process.
    here: usize,
    /// No gate before this one has used it.
    fresh: bool,
}

/// What a gate that executes itself anew tells of its [`Copies`], beside their descriptors.
#[derive(Debug, Serialize, Deserialize)]
pub struct Kept {
    files: Vec<usize>,
    here: usize,
    fresh: bool,
}

impl Copies {
    /// So many copies at most, of some 10 MiB each.
    const MOST: usize = 8;
    /// Sessions at the same time for which there is one.
    const SESSIONS: usize = 512;

    /// Those of the gate before this one, whose descriptors come one by one, for a gate that has so many sessions. What has not been
    /// sealed for good is left out.
    ///
    /// # Errors
    /// There are fewer descriptors than were told.
    pub fn take_over(kept: Kept, sessions: usize, mut next: impl FnMut() -> io::Result<OwnedFd>) -> io::Result<Self> {
        let Kept { files, here, fresh } = kept;
        let mut all = Vec::new();
        for count in files {
            let files: Vec<OwnedFd> = (0..count).map(|_| next()).collect::<io::Result<_>>()?;
            all.push(files.into_iter().filter(is_sealed).map(File::from).collect());
        }
        let wanted = (sessions / Self::SESSIONS + 1).min(Self::MOST);
        Ok(if all.len() < wanted {
            let here = all.len();
            all.push(Vec::new());
            Self { all, here, fresh: true }
        } else {
            // Two gates in a row use a new one, and after that each the next.
            let here = if fresh { here } else { here + 1 } % all.len();
            Self { all, here, fresh: false }
        })
    }

    /// For the gate that follows, with what [`Copies::descriptors`] gives.
    pub fn kept(&self) -> Kept {
        Kept { files: self.all.iter().map(Vec::len).collect(), here: self.here, fresh: self.fresh }
    }

    /// All of them.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.all.iter().flatten().map(AsFd::as_fd)
    }

    /// How many octets that of this process has.
    pub fn octets(&self) -> u64 {
        let files = self.all.get(self.here).into_iter().flatten();
        files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
    }

    /// The files of this process' copy; they are given back by [`Copies::put`].
    fn take(&mut self) -> Vec<File> {
        if self.all.is_empty() {
            (self.all, self.fresh) = (vec![Vec::new()], true);
        }
        self.all.get_mut(self.here).map(std::mem::take).unwrap_or_default()
    }

    fn put(&mut self, file: File) {
        if let Some(files) = self.all.get_mut(self.here) {
            files.push(file);
        }
    }
}

/// The file among these that holds just this, from `at` on, and has `whole` octets.
fn take_fitting(files: &mut Vec<File>, whole: usize, at: usize, content: &[u8]) -> Option<File> {
    let zeros = vec![0; at.max(whole.saturating_sub(at + content.len()))];
    let fits = |file: &File| {
        let behind = zeros.get(..whole.checked_sub(at + content.len())?)?;
        let pieces = [(0, zeros.get(..at)?), (at, content), (at + content.len(), behind)];
        let same = |(at, piece): &(usize, &[u8])| holds(file, *at as u64, piece).is_ok_and(|same| same);
        (file.metadata().ok()?.len() == whole as u64 && pieces.iter().all(same)).then_some(())
    };
    let place = files.iter().position(|file| fits(file).is_some())?;
    Some(files.swap_remove(place))
}

static IN_USE: AtomicBool = AtomicBool::new(false);

/// Whether code of this process lies in large pages.
pub(crate) fn in_use() -> bool {
    IN_USE.load(Ordering::Relaxed)
}

/// Puts the code and the constants of this program in large pages, the code of large libraries too. Of the copy in
/// `copies` that is meant for this process what holds the same is used; what is mapped stands there afterwards, also after an error. For a gate with one thread, before its first child.
///
/// # Errors
/// Some of it, or all, is where it was, and the process works as well. [`io::ErrorKind::Unsupported`]: not on this processor, or this
/// kernel (before Linux 6.1, or told so) has no large pages for memory files. Others: the program was linked without room, or somebody
/// traces it, so that it is not what its file says.
pub fn use_for_the_program(copies: &mut Copies) -> io::Result<()> {
    if cfg!(not(target_arch = "x86_64")) {
        return Err(unsupported("not on this processor"));
    }
    if threads().ok() != Some(1) {
        return Err(io::Error::other("the process has more than one thread"));
    }
    let size = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size").unwrap_or_default();
    if size.trim() != LARGE.to_string() {
        return Err(unsupported("this kernel has no large pages of 2 MiB"));
    }
    let areas: Vec<Area> = fs::read_to_string("/proc/self/maps")?.lines().filter_map(Area::read).collect();
    let here = use_for_the_program as *const () as usize;
    let code = areas.iter().find(|area| area.start <= here && here < area.end);
    let file = code.and_then(|code| code.file).ok_or_else(|| io::Error::other("the program lies in no file"))?;
    let mut earlier = copies.take();
    for Part { area, from, to } in parts(&areas, file) {
        let own = area.file == Some(file);
        if own && from == area.start && to == area.end && !from.is_multiple_of(LARGE) || to - from > MOST {
            return Err(io::Error::other("the program was linked without room for large pages, or is too large"));
        }
        // As `/proc/PID/maps` shows it.
        let (path, name) = if own { (Path::new("/proc/self/exe"), c"program") } else { (&*area.path, c"library") };
        copies.put(replace(area, path, from, to, name, &mut earlier)?);
        IN_USE.store(true, Ordering::Relaxed);
    }
    Ok(())
}

fn unsupported(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, why.to_owned())
}

/// What is to be replaced, and from where to where that is mapped.
#[derive(Debug, PartialEq, Eq)]
struct Part<'a> {
    area: &'a Area,
    from: usize,
    to: usize,
}

/// The constants at the beginning of the program's file, and all code. What is fixed up at the start of a process lies elsewhere in
/// a file and stays.
///
/// Where there is room around it, as in the program, a part extends to whole large pages, and each takes one fault. A library lies where
/// it was put, without room: its code is mapped as before, but all of it comes from one large page, which is less to keep account of.
fn parts(areas: &[Area], program: FileId) -> impl Iterator<Item = Part<'_>> {
    areas.iter().enumerate().filter_map(move |(place, area)| {
        let own = area.file == Some(program);
        let constants = own && area.offset == 0 && !area.execute;
        let code = area.execute && (own || area.file.is_some() && area.end - area.start >= LIBRARY);
        if !(constants || code) || area.write || !area.read {
            return None;
        }
        let before = place.checked_sub(1).and_then(|place| areas.get(place)).map_or(0, |area| area.end);
        let behind = areas.get(place + 1).map_or(usize::MAX, |area| area.start);
        let (from, to) = (area.start / LARGE * LARGE, area.end.next_multiple_of(LARGE));
        let room = before <= from && to <= behind;
        Some(if room { Part { area, from, to } } else { Part { area, from: area.start, to: area.end } })
    })
}

/// Maps a sealed copy of `area`, which comes from the file `path`, in its place, from `from` to `to`, which hold nothing else. The copy.
fn replace(area: &Area, path: &Path, from: usize, to: usize, name: &CStr, earlier: &mut Vec<File>) -> io::Result<File> {
    // SAFETY: the kernel has just told of this area that it is mapped readable and not writable, and nobody unmaps parts of
    // the program, so its octets are there and do not change.
    let content = unsafe { std::slice::from_raw_parts(area.start as *const u8, area.end - area.start) };
    let (whole, at) = ((to - from).next_multiple_of(LARGE), area.start - from);
    let mut protection = ProtFlags::PROT_READ;
    protection.set(ProtFlags::PROT_EXEC, area.execute);
    let size = |octets| NonZeroUsize::new(octets).ok_or(io::ErrorKind::InvalidInput);
    let copy = match take_fitting(earlier, whole, at, content) {
        Some(copy) => copy,
        None => {
            is_as_in_its_file(path, area.offset, content)?;
            let copy = create(name)?;
            copy.set_len(whole as u64)?;
            copy.write_all_at(content, at as u64)?;
            fcntl(&copy, FcntlArg::F_ADD_SEALS(seals()))?;
            collapse(&copy, size(whole)?, protection)?;
            copy
        }
    };
    claim(from, area.start)?;
    claim(area.end, to)?;
    // SAFETY: from `from` to `to` nothing is mapped but `area` and what was just claimed, and what takes its place in one step has
    // the same octets at the same addresses and can be changed by nobody. The functions that are being executed go on in it.
    unsafe {
        mmap(Some(size(from)?), size(to - from)?, protection, MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED, &copy, 0)
    }?;
    Ok(copy)
}

/// Against every change, for good.
fn seals() -> SealFlag {
    SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL
}

fn is_sealed(file: &OwnedFd) -> bool {
    fcntl(file, FcntlArg::F_GET_SEALS).is_ok_and(|all| SealFlag::from_bits_truncate(all).contains(seals()))
}

/// Whoever traces the program puts breakpoints into its code; a copy of those would end it, as nobody knows them there.
fn is_as_in_its_file(path: &Path, offset: usize, content: &[u8]) -> io::Result<()> {
    if holds(&File::open(path)?, offset as u64, content)? {
        return Ok(());
    }
    Err(io::Error::other(
        "the code in memory is not that of its file, which was replaced, or the program is being traced; a new start helps",
    ))
}

/// Whether the file has this content from `offset` on. What lies behind its end is taken to be zeros, as a mapping shows it.
fn holds(file: &File, mut offset: u64, content: &[u8]) -> io::Result<bool> {
    let mut octets = vec![0; 64 * 1024];
    for piece in content.chunks(octets.len()) {
        let mut there = 0;
        while there < piece.len() {
            match file.read_at(octets.get_mut(there..piece.len()).unwrap_or_default(), offset + there as u64)? {
                0 => break,
                read => there += read,
            }
        }
        let (read, behind) = piece.split_at(there);
        if octets.get(..there) != Some(read) || behind.iter().any(|octet| *octet != 0) {
            return Ok(false);
        }
        offset += piece.len() as u64;
    }
    Ok(true)
}

/// Takes addresses that nothing has.
fn claim(from: usize, to: usize) -> io::Result<()> {
    let (Some(start), Some(length)) = (NonZeroUsize::new(from), NonZeroUsize::new(to.saturating_sub(from))) else {
        return Ok(());
    };
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED_NOREPLACE;
    // SAFETY: the kernel refuses where something is mapped, so no existing object is touched.
    unsafe { mmap_anonymous(Some(start), length, ProtFlags::PROT_NONE, flags) }?;
    Ok(())
}

fn create(name: &CStr) -> io::Result<File> {
    /// For hosts where a memory file is not executable unless somebody says so; since Linux 6.3.
    const MFD_EXEC: libc::c_uint = 0x10;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    match memfd_create(name, flags | MFdFlags::from_bits_retain(MFD_EXEC)) {
        Err(Errno::EINVAL) => Ok(memfd_create(name, flags)?.into()),
        Err(Errno::EACCES) => Err(unsupported("this host permits no memory files with code (vm.memfd_noexec)")),
        made => Ok(made?.into()),
    }
}

/// Has the kernel put the whole of a memory file in large pages, as seen at an address of its own for the moment.
fn collapse(file: &File, length: NonZeroUsize, protection: ProtFlags) -> io::Result<()> {
    /// Since Linux 6.1.
    const MADV_COLLAPSE: libc::c_int = 25;
    let reserved = length.checked_add(LARGE).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: a new mapping at an address the kernel chooses touches no existing object.
    let start = unsafe { mmap_anonymous(None, reserved, ProtFlags::PROT_NONE, MapFlags::MAP_PRIVATE) }?;
    let aligned = (start.as_ptr() as usize).next_multiple_of(LARGE);
    let fixed = MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED;
    // SAFETY: `length` octets from the first multiple of `LARGE` on lie within what was just reserved and holds nothing.
    let collapsed = unsafe { mmap(NonZeroUsize::new(aligned), length, protection, fixed, file, 0) }
        .map_err(io::Error::from)
        .and_then(|seen| {
            // SAFETY: the advice concerns the mapping just made and changes no content.
            checked(i64::from(unsafe { libc::madvise(seen.as_ptr(), length.get(), MADV_COLLAPSE) }))
        });
    // SAFETY: the whole reservation is ours, with what was mapped in it, and nothing refers to it.
    unsafe { munmap(NonNull::cast(start), reserved.get()) }?;
    match collapsed {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            Err(unsupported("this kernel puts no memory files in large pages"))
        }
        collapsed => collapsed.map(drop),
    }
}

/// Device and inode.
type FileId = (u64, u64);

/// A line of `/proc/PID/maps` (proc_pid_maps(5)).
#[derive(Debug, PartialEq, Eq)]
struct Area {
    start: usize,
    end: usize,
    read: bool,
    write: bool,
    execute: bool,
    offset: usize,
    file: Option<FileId>,
    path: PathBuf,
}

impl Area {
    fn read(line: &str) -> Option<Self> {
        let mut words = line.splitn(6, ' ');
        let (start, end) = words.next()?.split_once('-')?;
        let may = words.next()?;
        let offset = words.next()?;
        let (major, minor) = words.next()?.split_once(':')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let address = |text| usize::from_str_radix(text, 16).ok();
        let device = number(major)? << 32 | number(minor)?;
        let inode: u64 = words.next()?.parse().ok()?;
        Some(Self {
            start: address(start)?,
            end: address(end)?,
            read: may.contains('r'),
            write: may.contains('w'),
            execute: may.contains('x'),
            offset: address(offset)?,
            file: (inode != 0).then_some((device, inode)),
            path: words.next().unwrap_or_default().trim_start().into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel_is_read() {
        let line = "55b566a00000-55b566f32000 r-xp 00175000 fe:00 10010644                   /opt/seon proxy/seon_proxyserver2";
        let area = Area::read(line).unwrap();
        assert_eq!((area.start, area.end, area.offset), (0x55b5_66a0_0000, 0x55b5_66f3_2000, 0x17_5000));
        assert!(area.read && area.execute && !area.write);
        assert_eq!(area.file, Some((0xfe << 32, 10_010_644)));
        assert_eq!(area.path.to_str(), Some("/opt/seon proxy/seon_proxyserver2"));
        let memory = Area::read("7ffd7a414000-7ffd7a436000 rw-p 00000000 00:00 0                  [stack]").unwrap();
        assert_eq!((memory.file, memory.write), (None, true));
        assert_eq!(Area::read("no line of it"), None);
    }

    #[test]
    fn an_earlier_copy_is_used_if_it_is_sealed_and_holds_the_same() {
        let copy = |content: &[u8], sealed: bool| {
            let copy = create(c"copy").unwrap();
            copy.set_len(LARGE as u64).unwrap();
            copy.write_all_at(content, 4096).unwrap();
            if sealed {
                fcntl(&copy, FcntlArg::F_ADD_SEALS(seals())).unwrap();
            }
            OwnedFd::from(copy)
        };
        let (this, other) = (vec![7; 100_000], vec![8; 100_000]);
        let ordinary = OwnedFd::from(tempfile::tempfile().unwrap());
        let mut given = vec![copy(&other, true), copy(&this, false), ordinary, copy(&this, true)].into_iter();
        let kept = Kept { files: vec![4], here: 0, fresh: true };
        let mut copies =
            Copies::take_over(kept, 256, || given.next().ok_or_else(|| io::ErrorKind::InvalidData.into())).unwrap();
        assert_eq!((copies.descriptors().count(), copies.octets()), (2, 2 * LARGE as u64));
        let mut files = copies.take();
        let mut take = |whole, at, content: &[u8]| take_fitting(&mut files, whole, at, content).is_some();
        assert!(!take(2 * LARGE, 4096, &this), "of another size");
        assert!(!take(LARGE, 0, &this), "elsewhere");
        assert!(!take(LARGE, 4096, &[7; 100_001]), "more of it");
        assert!(!take(LARGE, 4096, &[7; 99_999]), "something behind it");
        assert!(!take(LARGE, 4097, &[7; 99_999]), "something before it");
        assert!(take(LARGE, 4096, &this));
        assert!(!take(LARGE, 4096, &this), "taken");
        assert_eq!(files.len(), 1);
    }

    #[test]
    fn there_is_a_copy_for_each_512_sessions_and_never_more_than_eight() {
        let sealed = || {
            let copy = create(c"copy").unwrap();
            fcntl(&copy, FcntlArg::F_ADD_SEALS(seals())).unwrap();
            copy
        };
        let mut copies = Copies::default();
        assert!(copies.take().is_empty());
        copies.put(sealed());
        let mut used = Vec::new();
        for sessions in (256..=20 * 256).step_by(256).chain([600; 4]) {
            let kept: Kept = postcard::from_bytes(&postcard::to_allocvec(&copies.kept()).unwrap()).unwrap();
            let files: Vec<OwnedFd> = copies.descriptors().map(|file| file.try_clone_to_owned().unwrap()).collect();
            let mut files = files.into_iter();
            copies = Copies::take_over(kept, sessions, || Ok(files.next().unwrap())).unwrap();
            assert!(files.next().is_none());
            if copies.take().is_empty() {
                assert!(copies.fresh);
            }
            copies.put(sealed());
            used.push(copies.here);
        }
        let grown = [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7];
        assert_eq!((&used[..15], &used[15..]), (&grown[..], &[0, 1, 2, 3, 4, 5, 6, 7, 0][..]));
        assert_eq!(copies.all.len(), Copies::MOST);
    }

    #[test]
    fn code_and_the_first_constants_are_replaced_and_what_was_fixed_up_is_not() {
        let lines = [
            "400000-576000 r--p 00000000 fe:00 7 /opt/p",
            "600000-b32000 r-xp 00175000 fe:00 7 /opt/p",
            "c00000-c1c000 r--p 006a6000 fe:00 7 /opt/p",
            "e00000-e01000 rw-p 006c1000 fe:00 7 /opt/p",
            "7f0000000000-7f0000100000 r--p 00000000 fe:00 8 /usr/lib/libc.so.6",
            "7f0000100000-7f0000200000 r-xp 00026000 fe:00 8 /usr/lib/libc.so.6",
            "7f0000200000-7f0000300000 r--p 00126000 fe:00 8 /usr/lib/libc.so.6",
            "7ffd7a4fe000-7ffd7a500000 r-xp 00000000 00:00 0 [vdso]",
        ];
        let areas: Vec<Area> = lines.iter().filter_map(|line| Area::read(line)).collect();
        let found: Vec<_> = parts(&areas, (0xfe << 32, 7)).map(|part| (part.area.start, part.from, part.to)).collect();
        let (constants, code) = ((0x40_0000, 0x40_0000, 0x60_0000), (0x60_0000, 0x60_0000, 0xc0_0000));
        assert_eq!(found, [constants, code, (0x7f00_0010_0000, 0x7f00_0010_0000, 0x7f00_0020_0000)]);
    }
}

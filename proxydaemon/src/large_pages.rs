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
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use crate::checked;
use crate::fork::threads;

/// What the linker aligns the parts of the program to.
const LARGE: usize = 2 * 1024 * 1024;
/// Beyond it, it would be memory for code that hardly anybody executes.
const MOST: usize = 32 * 1024 * 1024;
/// Smaller libraries are not worth a large page of their own.
const LIBRARY: usize = LARGE / 2;

/// Sealed copies of code and constants, from which they are mapped.
///
/// A gate that executes itself anew hands them to the next one, which saves memory, and that one no further: the children of all
/// would share their pages.
#[derive(Debug, Default)]
pub struct Copies {
    files: Vec<File>,
    /// Some of them are those of the gate before.
    inherited: bool,
}

impl Copies {
    /// Those of a gate that has executed itself anew. What has not been sealed for good is left out.
    pub fn take_over(files: Vec<OwnedFd>) -> Self {
        Self { files: files.into_iter().filter(is_sealed).map(File::from).collect(), inherited: true }
    }

    /// For the gate that follows.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.files.iter().filter(|_| !self.inherited).map(AsFd::as_fd)
    }

    /// How many octets they have.
    pub fn octets(&self) -> u64 {
        self.files.iter().filter_map(|file| Some(file.metadata().ok()?.len())).sum()
    }

    /// The one that holds just this, from `at` on, and has `whole` octets.
    fn take(&mut self, whole: usize, at: usize, content: &[u8]) -> Option<File> {
        let fits = |file: &File| {
            file.metadata().is_ok_and(|file| file.len() == whole as u64)
                && holds(file, at as u64, content).is_ok_and(|same| same)
        };
        let place = self.files.iter().position(fits)?;
        Some(self.files.swap_remove(place))
    }
}

static IN_USE: AtomicBool = AtomicBool::new(false);

/// Whether code of this process lies in large pages.
pub(crate) fn in_use() -> bool {
    IN_USE.load(Ordering::Relaxed)
}

/// Puts the code and the constants of this program in large pages, the code of large libraries too, and returns the copies that are
/// mapped. Of `earlier` ones those that hold the same are used. For a gate with one thread, before its first child.
///
/// # Errors
/// Some of it, or all, is where it was, and the process works as well. [`io::ErrorKind::Unsupported`]: not on this processor, or this
/// kernel (before Linux 6.1, or told so) has no large pages for memory files. Others: the program was linked without room, or somebody
/// traces it, so that it is not what its file says.
pub fn use_for_the_program(mut earlier: Copies) -> io::Result<Copies> {
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
    let mut copies = Copies { files: Vec::new(), inherited: !earlier.files.is_empty() };
    for Part { area, from, to } in parts(&areas, file) {
        let own = area.file == Some(file);
        if own && from == area.start && to == area.end && !from.is_multiple_of(LARGE) || to - from > MOST {
            return Err(io::Error::other("the program was linked without room for large pages, or is too large"));
        }
        // As `/proc/PID/maps` shows it.
        copies.files.push(replace(area, from, to, if own { c"program" } else { c"library" }, &mut earlier)?);
        IN_USE.store(true, Ordering::Relaxed);
    }
    Ok(copies)
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

/// Maps a sealed copy of `area` in its place, from `from` to `to`, which hold nothing else. The copy.
fn replace(area: &Area, from: usize, to: usize, name: &CStr, earlier: &mut Copies) -> io::Result<File> {
    // SAFETY: the kernel has just told of this area that it is mapped readable and not writable, and nobody unmaps parts of
    // the program, so its octets are there and do not change.
    let content = unsafe { std::slice::from_raw_parts(area.start as *const u8, area.end - area.start) };
    let (whole, at) = ((to - from).next_multiple_of(LARGE), area.start - from);
    let mut protection = ProtFlags::PROT_READ;
    protection.set(ProtFlags::PROT_EXEC, area.execute);
    let size = |octets| NonZeroUsize::new(octets).ok_or(io::ErrorKind::InvalidInput);
    let copy = match earlier.take(whole, at, content) {
        Some(copy) => copy,
        None => {
            is_as_in_its_file(area, content)?;
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
fn is_as_in_its_file(area: &Area, content: &[u8]) -> io::Result<()> {
    if holds(&File::open(&area.path)?, area.offset as u64, content)? {
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
        let mut copies = Copies::take_over(vec![copy(&other, true), copy(&this, false), ordinary, copy(&this, true)]);
        assert_eq!((copies.files.len(), copies.octets()), (2, 2 * LARGE as u64));
        assert!(copies.take(2 * LARGE, 4096, &this).is_none(), "of another size");
        assert!(copies.take(LARGE, 0, &this).is_none(), "elsewhere");
        assert!(copies.take(LARGE, 4096, &[7; 100_001]).is_none(), "more of it");
        assert!(copies.take(LARGE, 4096, &this).is_some());
        assert!(copies.take(LARGE, 4096, &this).is_none(), "taken");
        assert_eq!((copies.files.len(), copies.descriptors().count()), (1, 0), "handed on once");
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

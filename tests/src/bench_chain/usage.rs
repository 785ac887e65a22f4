//! What processes have used: CPU time of a family with all that it has had, memory that is its own, memory of the kernel.

use std::fs;

use crate::harness::table;

/// CPU seconds of these processes, of all that descend from them, and of those descendants that have ended.
pub fn cpu_seconds(roots: &[i32]) -> f64 {
    family(roots).iter().filter_map(|pid| of_process(*pid)).map(|(own, ended_children)| own + ended_children).sum()
}

/// CPU seconds of these processes without any that descends from them.
pub fn own_cpu_seconds(processes: &[i32]) -> f64 {
    processes.iter().filter_map(|pid| of_process(*pid)).map(|(own, _)| own).sum()
}

/// CPU seconds of each of these processes, to be compared by [`own_since`].
pub fn own_of_each(processes: &[i32]) -> Vec<(i32, f64)> {
    processes.iter().filter_map(|pid| Some((*pid, of_process(*pid)?.0))).collect()
}

/// CPU seconds since then, of those that are still there.
pub fn own_since(before: &[(i32, f64)]) -> f64 {
    before.iter().filter_map(|(pid, before)| Some(of_process(*pid)?.0 - before)).sum()
}

/// The kernel's own threads, where they can be seen (not from within a container).
///
/// proc_pid_stat(5): field 9 holds flags, PF_KTHREAD among them.
pub fn kernel_threads() -> Vec<i32> {
    const PF_KTHREAD: u32 = 0x0020_0000;
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_of_kernel = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let flags: u32 = stat.rsplit_once(')')?.1.split_whitespace().nth(6)?.parse().ok()?;
        Some(flags & PF_KTHREAD != 0)
    };
    pids.filter(|pid| is_of_kernel(pid) == Some(true)).collect()
}

/// These processes and all that descend from them.
pub fn family(roots: &[i32]) -> Vec<i32> {
    let mut family: Vec<i32> = roots.to_vec();
    for root in roots {
        family.extend(table::below(*root).iter().map(|process| process.pid));
    }
    family.sort_unstable();
    family.dedup();
    family
}

/// Its own CPU seconds, and those of its descendants that have ended.
///
/// proc_pid_stat(5): utime, stime, cutime and cstime are fields 14 to 17. Of a process that lives they are cut to ticks of
/// 10 ms, which would be much among a thousand sessions: its scheduler statistics tell nanoseconds.
fn of_process(pid: i32) -> Option<(f64, f64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |from: usize| -> Option<f64> {
        let two: Option<Vec<f64>> = fields.get(from..from + 2)?.iter().map(|field| field.parse().ok()).collect();
        Some(two?.iter().sum::<f64>() / TICKS)
    };
    let (own, ended_children) = (ticks(11)?, ticks(13)?);
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let precise: f64 = threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok())
        .filter_map(|line| line.split(' ').next()?.parse::<f64>().ok())
        .sum();
    // Threads that have ended are in the ticks alone.
    Some((own.max(precise / 1e9), ended_children))
}

/// USER_HZ, which Linux has never changed.
const TICKS: f64 = 100.0;

/// KiB of memory of these processes, shared pages divided among those that share them (PSS). None without the right to look.
pub fn proportional_kib(processes: &[i32]) -> Option<f64> {
    let mut sum = 0.0;
    for pid in processes {
        let Ok(rollup) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
            // It may have ended meanwhile; one that lives and may not be looked at is another matter.
            if fs::exists(format!("/proc/{pid}")).unwrap_or(false) {
                return None;
            }
            continue;
        };
        sum += kib_of(&rollup, "Pss:")?;
    }
    Some(sum)
}

/// KiB that the whole kernel uses for processes and connections.
pub fn kernel_kib() -> Option<f64> {
    let memory = fs::read_to_string("/proc/meminfo").ok()?;
    // Memory files that nobody has mapped are in no process's account.
    ["Slab:", "KernelStack:", "PageTables:", "Shmem:"].iter().map(|name| kib_of(&memory, name)).sum()
}

fn kib_of(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_has_used_is_of_the_family_and_not_of_the_parent() {
        let loops = "n=0; while [ $n -lt 400000 ]; do n=$((n+1)); done";
        let mut parent = std::process::Command::new("sh")
            .args(["-c", &format!("sh -c '{loops}'; echo; read wait")])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = i32::try_from(parent.id()).unwrap();
        let mut ended = [0];
        std::io::Read::read_exact(&mut parent.stdout.take().unwrap(), &mut ended).unwrap();
        let (own, all) = (own_cpu_seconds(&[pid]), cpu_seconds(&[pid]));
        drop(parent.stdin.take());
        parent.wait().unwrap();
        assert!(own + 0.03 < all, "{own} of {all}");
    }

    #[test]
    fn who_has_ended_meanwhile_takes_nothing_from_the_others() {
        let own = i32::try_from(std::process::id()).unwrap();
        let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let [mut before_of_own, before_of_other] =
            own_of_each(&[own, i32::try_from(other.id()).unwrap()]).try_into().unwrap();
        other.kill().unwrap();
        other.wait().unwrap();
        before_of_own.1 -= 1.0;
        assert!(own_since(&[before_of_own, (before_of_other.0, 1000.0)]) >= 1.0);
    }

    #[test]
    fn no_program_is_a_thread_of_the_kernel() {
        let threads = kernel_threads();
        // Who is not in a container sees the one that begins all others.
        let sees_them = fs::read("/proc/2/comm").is_ok_and(|name| name == b"kthreadd\n");
        assert_eq!(threads.contains(&2), sees_them);
        assert!(!threads.contains(&i32::try_from(std::process::id()).unwrap()));
        // Only a process has a program. A thread may have ended meanwhile.
        assert!(
            threads.iter().all(|pid| fs::read(format!("/proc/{pid}/cmdline")).map_or(true, |line| line.is_empty()))
        );
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        let own = i32::try_from(std::process::id()).unwrap();
        let before = cpu_seconds(&[own]);
        let mut number = 1_u64;
        while cpu_seconds(&[own]) < before + 0.02 {
            number = std::hint::black_box(number.wrapping_mul(3));
        }
        assert!(proportional_kib(&[own]).unwrap() > 100.0);
        assert!(kernel_kib().unwrap() > 100.0);
    }
}

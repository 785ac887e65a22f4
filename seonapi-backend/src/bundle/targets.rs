//! Whether another file can take a name.

use std::fs::{self, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

use crate::replacing::folder_of;

/// Why no file can take this name, and what to do about it; none where nothing is known to be in the way.
pub(super) fn cannot_be_replaced(path: &Path) -> Option<&'static str> {
    // A symbolic link is replaced itself, whatever it leads to.
    if !fs::symlink_metadata(path).ok()?.is_dir() {
        let reason = "is a mount point, and no other file can take its place: mount the folder that it is in instead";
        return is_mount_point(path).then_some(reason);
    }
    Some("is a directory, and a file is to take its place: remove it or give it another name")
}

/// Whether something is mounted on this very name. The device tells nothing: it may be a file of the same one.
fn is_mount_point(path: &Path) -> bool {
    // The folder may be a symbolic link itself.
    let mounts = mount_of(&folder_of(path).join(".")).zip(mount_of(path));
    mounts.is_some_and(|(of_folder, own)| of_folder != own)
}

/// The number of the mount that it is on; none where the system does not tell.
fn mount_of(path: &Path) -> Option<String> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).ok()?;
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", opened.as_raw_fd())).ok()?;
    about.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(|number| number.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_told_from_what_is_in_a_mounted_folder() {
        assert!(is_mount_point(Path::new("/proc")));
        assert!(!is_mount_point(Path::new("/proc/version")));
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "").unwrap();
        std::os::unix::fs::symlink("/proc/version", at("link")).unwrap();
        std::os::unix::fs::symlink(folder.path(), at("inner")).unwrap();
        for name in ["file", "link", "inner/file", "none"] {
            assert_eq!(cannot_be_replaced(&at(name)), None, "{name}");
        }
        assert!(cannot_be_replaced(folder.path()).is_some_and(|reason| reason.contains("is a directory")));
    }
}

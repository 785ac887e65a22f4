//! Files that are whole at every moment: the new one is written beside the old one, and then takes its name.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

/// Replaces the file, or makes it, with this content and these permissions. What fails leaves it as it was.
///
/// # Errors
/// It cannot be written, with the reason.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), String> {
    let draft = draft(path);
    let replaced =
        write_new(&draft, content, mode).and_then(|()| fs::rename(&draft, path)).and_then(|()| sync_folder(path));
    replaced.map_err(|error| {
        // What is left of it would only be in the way.
        let _ = fs::remove_file(&draft);
        format!("{} cannot be written: {error}", path.display())
    })
}

/// Writes a file that is not there yet, down to the disk.
///
/// # Errors
/// It is there, or cannot be written.
pub fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode & 0o700).open(path)?;
    owned_as_its_folder(path)?;
    file.write_all(content)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

/// Gives what root makes to the owner of the folder that it is in: it is made for the backend, which is another user.
///
/// # Errors
/// The system refuses.
pub fn owned_as_its_folder(path: &Path) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let about = fs::metadata(folder_of(path))?;
    chown(path, Some(about.uid()), Some(about.gid()))
}

/// The folder of a file; that of a plain name is the current one.
pub fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Brings names in the folder of this file down to the disk.
///
/// # Errors
/// The disk fails.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

/// Hidden, and named after the process, so that two of them do not meet.
fn draft(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", std::process::id()))
}

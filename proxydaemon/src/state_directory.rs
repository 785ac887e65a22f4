//! The fixed directory of a daemon: made at the first start, for the user that the daemon runs as and nobody else.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use nix::unistd::{Uid, chown};

use crate::user::User;

/// Makes the directory if it is not there, and gives it to `user` when root has just made it.
///
/// # Errors
/// It cannot be made, or belongs to somebody else than the user that the daemon runs as.
pub fn prepare(path: &Path, user: Option<&User>) -> io::Result<()> {
    let owner = user.map_or_else(Uid::effective, |user| user.uid);
    match std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let found = std::fs::metadata(path)?;
    if let Some(user) = user
        && found.uid() != user.uid.as_raw()
        && std::fs::read_dir(path)?.next().is_none()
    {
        chown(path, Some(user.uid), Some(user.gid))?;
        return Ok(());
    }
    if found.uid() != owner.as_raw() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("it belongs to user {}, and the daemon runs as user {owner}; give it to that user", found.uid()),
        ));
    }
    Ok(())
}

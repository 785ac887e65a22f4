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

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::Gid;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_made_for_its_owner_alone_and_found_again() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("lib").join("seon");
        for _ in 0..2 {
            prepare(&path, None).unwrap();
            let found = std::fs::metadata(&path).unwrap();
            assert_eq!((found.permissions().mode() & 0o777, found.uid()), (0o700, Uid::effective().as_raw()));
        }
    }

    #[test]
    fn a_directory_of_somebody_else_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("seon");
        let user = User { name: "seon".into(), uid: Uid::from_raw(64123), gid: Gid::from_raw(64123) };
        prepare(&path, None).unwrap();
        std::fs::write(path.join("identity.key"), "key").unwrap();
        let refused = prepare(&path, Some(&user)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert!(refused.to_string().contains("64123"), "{refused}");
        std::fs::remove_file(path.join("identity.key")).unwrap();
        // Still empty, it is given to the user, which only root can do.
        match prepare(&path, Some(&user)) {
            Ok(()) => assert_eq!(std::fs::metadata(&path).unwrap().uid(), 64123),
            Err(error) => assert!(!Uid::effective().is_root(), "{error}"),
        }
    }
}

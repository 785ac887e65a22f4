//! The fixed directory of a daemon: made at the first start, for the user that the daemon runs as and nobody else.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use nix::unistd::{AccessFlags, Uid, access, chown};

use crate::user::User;

/// Makes the directory if it is not there, and gives it to `user` when root has just made it.
///
/// # Errors
/// It cannot be made, or belongs to somebody else than the user that the daemon runs as.
pub fn prepare(path: &Path, user: Option<&User>) -> io::Result<()> {
    let owner = user.map_or_else(Uid::effective, |user| user.uid);
    // Those above it, made by root, must let its user through.
    let absent: Vec<_> =
        path.ancestors().skip(1).take_while(|above| !above.as_os_str().is_empty() && !above.exists()).collect();
    for above in absent.into_iter().rev() {
        std::fs::create_dir(above)?;
        // Whatever the umask.
        std::fs::set_permissions(above, std::fs::Permissions::from_mode(0o755))?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
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

/// Whether a directory that is not there could be made by this process: the nearest of those above it that is there must be
/// a directory and writable.
///
/// # Errors
/// Why not, with the directory that stands in the way.
pub fn may_be_made(path: &Path) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    for above in path.ancestors().skip(1) {
        let in_the_way = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", above.display()));
        match std::fs::metadata(above) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(in_the_way(error)),
            Ok(found) if !found.is_dir() => return Err(in_the_way(io::ErrorKind::NotADirectory.into())),
            Ok(_) => {
                let rights = access(above, AccessFlags::W_OK | AccessFlags::X_OK);
                return rights.map_err(|errno| in_the_way(errno.into()));
            }
        }
    }
    Err(io::ErrorKind::NotFound.into())
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
    fn those_above_let_its_user_through() {
        let scratch = tempfile::tempdir().unwrap();
        let above = scratch.path().join("lib");
        prepare(&above.join("seon"), None).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!((mode(&above) & 0o700, mode(&above.join("seon")) & 0o777), (0o700, 0o700));
        // Unless the umask of whoever runs this is stricter.
        let beside = scratch.path().join("beside");
        std::fs::create_dir(&beside).unwrap();
        assert_eq!(mode(&above), mode(&beside));
    }

    #[test]
    fn what_stands_in_the_way_of_one_that_is_not_there_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("file");
        std::fs::write(&file, "").unwrap();
        may_be_made(&scratch.path().join("lib/seon")).unwrap();
        let refused = may_be_made(&file.join("seon")).unwrap_err().to_string();
        assert!(refused.starts_with(&format!("{}: ", file.display())), "{refused}");
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

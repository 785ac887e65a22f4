//! The user a daemon runs as: never root.

use std::io;

use nix::unistd::{Gid, Uid, getresgid, getresuid, setgroups, setresgid, setresuid};

/// Why the daemon must not run as it was started.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// Root, and nobody said which user to become.
    #[error(
        "started as root: the proxy does not run with root's rights. Start it with -u USER (a user that owns nothing but its \
         state directory), or as that user"
    )]
    Root,
    /// The user to become is root.
    #[error("-u {0} is root: name a user without privileges")]
    BecomeRoot(String),
    /// There is no such user.
    #[error("-u {0}: there is no such user on this host; create it, for example with: useradd --system {0}")]
    Unknown(String),
    /// The user database cannot be read.
    #[error("-u {name}: the user cannot be looked up: {source}")]
    LookUp {
        /// The user asked for.
        name: String,
        /// What the look-up answered.
        source: io::Error,
    },
    /// Started by another user than the one to become, without the right to change.
    #[error("-u {name}: only root can become another user, and this process was started by user {started_by}")]
    NotRoot {
        /// The user asked for.
        name: String,
        /// Who started the process.
        started_by: Uid,
    },
    /// The kernel refused to change.
    #[error("cannot become user {name}: {step}: {source}")]
    Refused {
        /// The user asked for.
        name: String,
        /// What was tried.
        step: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The change succeeded, and root came back.
    #[error("cannot become user {0} for good: the rights of root could be taken back")]
    ComesBack(String),
}

/// A user to become, looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The number.
    pub uid: Uid,
    /// The number of the user's own group.
    pub gid: Gid,
}

/// Decides at start which user to become: the one of `-u`, or none when there is no `-u` and no need.
///
/// # Errors
/// Root without `-u`, a user that does not exist or is root, another user than the present one without being root.
pub fn for_start(option: Option<&str>) -> Result<Option<User>, UserError> {
    decide(option, Uid::effective(), resolve)
}

fn decide(
    option: Option<&str>,
    present: Uid,
    resolve: impl FnOnce(&str) -> Result<User, UserError>,
) -> Result<Option<User>, UserError> {
    let Some(name) = option else {
        return if present.is_root() { Err(UserError::Root) } else { Ok(None) };
    };
    let user = resolve(name)?;
    if user.uid.is_root() {
        return Err(UserError::BecomeRoot(user.name));
    }
    match present {
        present if present.is_root() => Ok(Some(user)),
        present if present == user.uid => Ok(None),
        started_by => Err(UserError::NotRoot { name: user.name, started_by }),
    }
}

/// Looks a user up by name. May read files and load libraries: before anything is confined.
///
/// # Errors
/// There is no such user, or the look-up fails.
pub fn resolve(name: &str) -> Result<User, UserError> {
    match nix::unistd::User::from_name(name) {
        Ok(Some(user)) => Ok(User { name: user.name, uid: user.uid, gid: user.gid }),
        Ok(None) => Err(UserError::Unknown(name.to_owned())),
        Err(error) => Err(UserError::LookUp { name: name.to_owned(), source: error.into() }),
    }
}

impl User {
    /// Becomes this user for good: its group alone, its number, and root does not come back (tried).
    ///
    /// # Errors
    /// The kernel refuses one step, or lets root come back; the process must then end.
    pub fn become_user(&self) -> Result<(), UserError> {
        let refused =
            |step| move |error: nix::Error| UserError::Refused { name: self.name.clone(), step, source: error.into() };
        setgroups(&[self.gid]).map_err(refused("groups"))?;
        setresgid(self.gid, self.gid, self.gid).map_err(refused("group"))?;
        setresuid(self.uid, self.uid, self.uid).map_err(refused("user"))?;
        let users = getresuid().map_err(refused("user"))?;
        let groups = getresgid().map_err(refused("group"))?;
        let settled = [users.real, users.effective, users.saved].iter().all(|uid| *uid == self.uid)
            && [groups.real, groups.effective, groups.saved].iter().all(|gid| *gid == self.gid);
        let root = Uid::from_raw(0);
        if !settled || setresuid(root, root, root).is_ok() {
            return Err(UserError::ComesBack(self.name.clone()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str) -> Result<User, UserError> {
        let number = match name {
            "root" => 0,
            "seon" => 990,
            _ => return Err(UserError::Unknown(name.to_owned())),
        };
        Ok(User { name: name.to_owned(), uid: Uid::from_raw(number), gid: Gid::from_raw(number) })
    }

    #[test]
    fn root_needs_a_user_and_is_told_so() {
        let root = Uid::from_raw(0);
        let told = decide(None, root, known).unwrap_err().to_string();
        assert!(told.contains("started as root") && told.contains("-u USER"), "{told}");
        assert_eq!(decide(Some("seon"), root, known).unwrap().unwrap().uid, Uid::from_raw(990));
        assert!(matches!(decide(Some("root"), root, known), Err(UserError::BecomeRoot(_))));
        assert!(matches!(decide(Some("nobody-at-all"), root, known), Err(UserError::Unknown(_))));
    }

    #[test]
    fn an_ordinary_user_stays_what_it_is() {
        let seon = Uid::from_raw(990);
        assert_eq!(decide(None, seon, known).unwrap(), None);
        assert_eq!(decide(Some("seon"), seon, known).unwrap(), None);
        assert!(matches!(decide(Some("seon"), Uid::from_raw(5), known), Err(UserError::NotRoot { .. })));
    }

    #[test]
    fn the_users_of_this_host_are_found() {
        assert!(resolve("root").unwrap().uid.is_root());
        assert!(matches!(resolve("no-such-user-here"), Err(UserError::Unknown(_))));
    }
}

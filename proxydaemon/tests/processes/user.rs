//! Becoming an ordinary user for good.

use nix::unistd::{Gid, Uid, getgroups, setgroups, setresuid};
use proxydaemon::user::{User, UserError, for_start};

use crate::Test;

pub const TESTS: &[Test] = tests![root_becomes_a_user_and_does_not_come_back, the_start_is_refused_to_root_alone];

fn root_becomes_a_user_and_does_not_come_back() {
    let user = User { name: "seon".into(), uid: Uid::from_raw(64123), gid: Gid::from_raw(64124) };
    if !Uid::effective().is_root() {
        assert!(matches!(user.become_user(), Err(UserError::Refused { .. })));
        return;
    }
    setgroups(&[Gid::from_raw(0), Gid::from_raw(4)]).unwrap();
    user.become_user().unwrap();
    assert_eq!((Uid::current(), Uid::effective(), Gid::effective()), (user.uid, user.uid, user.gid));
    assert_eq!(getgroups().unwrap(), [user.gid]);
    let root = Uid::from_raw(0);
    assert!(setresuid(root, root, root).is_err());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    for set in ["CapPrm", "CapEff"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000")), "{status}");
    }
}

fn the_start_is_refused_to_root_alone() {
    match (for_start(None), Uid::effective().is_root()) {
        (Err(UserError::Root), true) | (Ok(None), false) => {}
        (decision, root) => panic!("root: {root}: {decision:?}"),
    }
}

//! The identity key: made once, kept from others, never replaced behind the administrator's back.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use license::{IDENTITY_FILE, IdentityError, IdentityKey};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn it_is_made_once_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("a/state");
    let made = IdentityKey::load_or_create(&state).unwrap();
    assert_eq!((mode(&state), mode(&state.join(IDENTITY_FILE))), (0o700, 0o600));
    let again = IdentityKey::load_or_create(&state).unwrap();
    assert_eq!((made.pkcs8(), made.spki(), made.proxy_id()), (again.pkcs8(), again.spki(), again.proxy_id()));
    assert!(made.proxy_id().matches_spki(made.spki()));
    assert_eq!(fs::read_dir(&state).unwrap().count(), 1, "no draft stays behind");
}

#[test]
fn an_open_directory_is_enough_even_when_its_name_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (folder.path().join("before"), folder.path().join("after"));
    fs::create_dir(&before).unwrap();
    let opened = fs::File::open(&before).unwrap();
    fs::rename(&before, &after).unwrap();
    let made = IdentityKey::load_or_create_at(opened.as_fd(), &before).unwrap();
    assert_eq!(IdentityKey::load_at(opened.as_fd(), &before).unwrap().proxy_id(), made.proxy_id());
    assert!(after.join(IDENTITY_FILE).exists() && !before.exists());
}

#[test]
fn two_proxyservers_have_different_ones() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ids = [&one, &two].map(|folder| IdentityKey::load_or_create(folder.path()).unwrap().proxy_id());
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn it_is_a_p_256_key() {
    let folder = tempfile::tempdir().unwrap();
    let key = IdentityKey::load_or_create(folder.path()).unwrap();
    // RFC 5480, 2.1.1: id-ecPublicKey with secp256r1; then a bit string with an uncompressed point.
    let head = "3059301306072a8648ce3d020106082a8648ce3d03010703420004";
    let spki: String = key.spki().iter().map(|octet| format!("{octet:02x}")).collect();
    assert!(spki.starts_with(head) && spki.len() == 2 * 91, "{spki}");
}

#[test]
fn many_at_once_get_the_same_one() {
    let folder = tempfile::tempdir().unwrap();
    let ids: Vec<_> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| IdentityKey::load_or_create(folder.path()).unwrap().proxy_id().to_string()))
            .collect();
        makers.into_iter().map(|maker| maker.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn loading_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(IdentityKey::load(folder.path()), Err(IdentityError::Missing(_))));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn one_that_others_can_read_is_refused_with_the_command_that_helps() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(IDENTITY_FILE);
    IdentityKey::load_or_create(folder.path()).unwrap();
    for exposed in [0o640, 0o604, 0o620, 0o601] {
        fs::set_permissions(&path, fs::Permissions::from_mode(exposed)).unwrap();
        let error = IdentityKey::load_or_create(folder.path()).unwrap_err();
        assert!(matches!(error, IdentityError::Exposed { mode, .. } if mode == exposed), "{error}");
        assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())), "{error}");
    }
}

#[test]
fn a_damaged_one_is_told_and_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(IDENTITY_FILE);
    let whole = IdentityKey::load_or_create(folder.path()).unwrap().pkcs8().to_vec();
    for damaged in [&whole[..0], &whole[..whole.len() - 1], &vec![0; 4096]] {
        fs::write(&path, damaged).unwrap();
        let error = IdentityKey::load_or_create(folder.path()).unwrap_err();
        assert!(matches!(error, IdentityError::Damaged(_)), "{error}");
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }
}

#[test]
fn a_link_or_a_directory_in_its_place_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(IDENTITY_FILE);
    symlink("/etc/hostname", &path).unwrap();
    assert!(matches!(IdentityKey::load_or_create(folder.path()), Err(IdentityError::NoFile(_))));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(IdentityKey::load_or_create(folder.path()), Err(IdentityError::NoFile(_))));
}

#[test]
fn a_state_directory_that_cannot_be_made_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = IdentityKey::load_or_create(&file.join("state")).unwrap_err();
    assert!(error.to_string().contains("--state-dir"), "{error}");
}

/// Needs the right to give files away, so it tells nothing where it runs as an ordinary user.
#[test]
fn root_makes_it_for_the_owner_of_the_directory_and_refuses_strangers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(IDENTITY_FILE);
    if chown(folder.path(), Some(4711), Some(4712)).is_err() {
        return;
    }
    IdentityKey::load_or_create(folder.path()).unwrap();
    let about = fs::metadata(&path).unwrap();
    assert_eq!((about.uid(), about.gid()), (4711, 4712));
    IdentityKey::load_or_create(folder.path()).unwrap();
    chown(&path, Some(4713), None).unwrap();
    let error = IdentityKey::load_or_create(folder.path()).unwrap_err();
    assert!(matches!(error, IdentityError::Owner { owner: 4713, user: 0, .. }), "{error}");
}

#[test]
fn it_is_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let key = IdentityKey::load_or_create(folder.path()).unwrap();
    assert_eq!(format!("{key:?}"), format!("IdentityKey(private ***, {})", key.proxy_id()));
}

//! The folder that a page lies in: made so that readers can enter it, and told from one that somebody else put there.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// Readers are other users, who enter and do not write.
const MODE: u32 = 0o755;
/// Who else could change what lies in a folder: its group and everybody.
const OTHERS_WRITE: u32 = 0o022;

/// Makes `folder` and what is missing above it. What is there already stays as it is.
pub(crate) fn make(folder: &Path) -> io::Result<()> {
    match make_one(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(folder.parent().filter(|above| !above.as_os_str().is_empty()).ok_or(error)?)?;
            // Once: in some folders that are there nothing can be made, and they say that it was not found.
            make_one(folder)
        }
        made => made,
    }
}

fn make_one(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(MODE).create(folder) {
        // The umask does not apply, as for the page.
        Ok(()) => fs::set_permissions(folder, Permissions::from_mode(MODE)),
        Err(_) if folder.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether `folder` is a folder, no link, that belongs to this user and that nobody else can write to. One in a place where
/// everybody can make folders is anybody's otherwise.
pub(crate) fn is_own(folder: &Path) -> bool {
    fs::symlink_metadata(folder).is_ok_and(|there| {
        there.is_dir() && there.uid() == rustix::process::geteuid().as_raw() && there.mode() & OTHERS_WRITE == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::scratch;

    fn mode(folder: &Path) -> u32 {
        fs::metadata(folder).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    #[expect(unsafe_code, reason = "a umask of one's own is asked for so")]
    fn readers_can_enter_what_is_made_and_nothing_else_is_touched() {
        let top = scratch("folders").with_file_name("above");
        fs::create_dir(&top).unwrap();
        fs::set_permissions(&top, Permissions::from_mode(0o700)).unwrap();
        let folder = top.join("a/b");
        let strict = || {
            // SAFETY: this thread alone goes on with a copy of the umask and the current folder, and shares no less than that
            // with the others.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FS) }.unwrap();
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
            make(&folder).unwrap();
        };
        std::thread::scope(|scope| scope.spawn(strict).join().unwrap());
        assert_eq!([mode(&top), mode(&top.join("a")), mode(&folder)], [0o700, 0o755, 0o755]);
        make(&folder).unwrap();
        make(&top).unwrap();
        assert_eq!(mode(&top), 0o700);
        fs::write(folder.join("file"), "").unwrap();
        assert!(make(&folder.join("file/below")).is_err());
        assert!(make(Path::new("/proc/chronotick/below")).is_err(), "nobody makes folders there");
        fs::remove_dir_all(top.parent().unwrap()).unwrap();
    }

    #[test]
    fn only_a_folder_that_nobody_else_can_write_to_is_ones_own() {
        let folder = scratch("own").with_file_name("folder");
        assert!(!is_own(&folder), "none is there");
        fs::create_dir(&folder).unwrap();
        for (mode, own) in [(0o755, true), (0o700, true), (0o775, false), (0o757, false), (0o1777, false)] {
            fs::set_permissions(&folder, Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_own(&folder), own, "{mode:o}");
        }
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        let link = folder.with_file_name("link");
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        assert!(!is_own(&link), "a link leads where somebody else wants");
        let file = folder.with_file_name("file");
        fs::write(&file, "").unwrap();
        assert!(!is_own(&file));
        // Whoever runs this, the other one's is not theirs.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&folder, Some(65534), None).unwrap();
            assert!(!is_own(&folder));
        } else {
            assert!(!is_own(Path::new("/")));
        }
        fs::remove_dir_all(folder.parent().unwrap()).unwrap();
    }
}

//! Where the page is when the configuration does not say.

use std::path::{Path, PathBuf};

use super::Page;
use crate::shm::folder;
use crate::shm::page::PageError;

impl Page {
    /// Where a daemon puts its page.
    pub fn path_for_daemon(&self) -> PathBuf {
        if let Some(path) = &self.path {
            return path.clone();
        }
        Places::here().for_daemon().join(PAGE_NAME)
    }

    /// Where a reader looks for it: the first of the daemon's places that has one, else where a daemon would put it. A place
    /// that anybody could have made is left out unless it is this user's alone.
    pub fn path_for_reader(&self) -> PathBuf {
        if let Some(path) = &self.path {
            return path.clone();
        }
        Places::here().for_reader().join(PAGE_NAME)
    }

    /// Makes the daemon's folder where others could make it first, and refuses theirs.
    pub(crate) fn claim_folder(&self) -> Result<(), PageError> {
        if self.path.is_some() { Ok(()) } else { Places::here().claim() }
    }
}

const PAGE_NAME: &str = "clock";

/// The folders that come into question.
struct Places {
    /// The user's choice.
    chosen: Option<PathBuf>,
    /// The system's.
    system: PathBuf,
    /// The session's.
    session: Option<PathBuf>,
    /// The one that can always be made, by anybody.
    shared: PathBuf,
}

impl Places {
    fn here() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let user = rustix::process::geteuid().as_raw();
        Self {
            chosen: variable("CHRONOTICK_DIR"),
            system: PathBuf::from("/run/chronotick"),
            session: variable("XDG_RUNTIME_DIR").map(|folder| folder.join("chronotick")),
            shared: PathBuf::from(format!("/dev/shm/chronotick-{user}")),
        }
    }

    fn for_daemon(&self) -> &Path {
        let system = || Some(&self.system).filter(|folder| writable(folder));
        self.chosen.as_ref().or_else(system).or(self.session.as_ref()).unwrap_or(&self.shared)
    }

    fn for_reader(&self) -> &Path {
        if let Some(chosen) = &self.chosen {
            return chosen;
        }
        let shared = Some(&self.shared).filter(|folder| folder.symlink_metadata().is_err() || folder::is_own(folder));
        let places = || [Some(&self.system), self.session.as_ref(), shared].into_iter().flatten();
        let holds = |folder: &&PathBuf| folder.join(PAGE_NAME).exists();
        let daemons = || Some(self.for_daemon()).filter(|&folder| folder != self.shared || shared.is_some());
        // A page that may not be read is named, so that the error says so.
        let found = places().find(holds).or_else(|| places().find(|folder| is_closed(&folder.join(PAGE_NAME))));
        found.map(PathBuf::as_path).or_else(daemons).unwrap_or(&self.system)
    }

    fn claim(&self) -> Result<(), PageError> {
        let folder = self.for_daemon();
        if folder != self.shared {
            return Ok(());
        }
        folder::make(folder).map_err(|source| PageError::Unmakeable { path: folder.to_owned(), source })?;
        if folder::is_own(folder) { Ok(()) } else { Err(PageError::Foreign { folder: folder.to_owned() }) }
    }
}

/// Whether a folder on the way to it may not be entered.
fn is_closed(page: &Path) -> bool {
    std::fs::metadata(page).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

/// Whether files can be made in `folder`, or the folder itself where it is missing.
fn writable(folder: &Path) -> bool {
    let there = if folder.exists() { Some(folder) } else { folder.parent() };
    there.is_some_and(|folder| rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::shm::scratch;

    /// Places of a machine of its own; its `/run` cannot be written.
    fn places(name: &str) -> Places {
        let top = scratch(name).with_file_name("machine");
        fs::create_dir(&top).unwrap();
        Places { chosen: None, system: top.join("run/chronotick"), session: None, shared: top.join("shm") }
    }

    fn page_in(folder: &Path, mode: u32) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join(PAGE_NAME), "").unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn clear(places: &Places) {
        fs::remove_dir_all(places.shared.parent().and_then(Path::parent).unwrap()).unwrap();
    }

    #[test]
    fn a_place_that_anybody_can_make_has_to_be_this_users() {
        let places = places("places");
        assert_eq!((places.for_daemon(), places.for_reader()), (&*places.shared, &*places.shared), "none is there yet");
        for (mode, own) in [(0o755, true), (0o777, false), (0o775, false)] {
            page_in(&places.shared, mode);
            assert_eq!(places.for_reader() == places.shared, own, "{mode:o}");
            assert_eq!(places.claim().is_ok(), own, "{mode:o}");
        }
        let told = places.claim().unwrap_err().to_string();
        assert!(told.contains("chmod go-w") && told.contains("CHRONOTICK_DIR"), "{told}");
        // Where it lies does not matter to those who chose it.
        let chosen = Places { chosen: Some(places.shared.clone()), shared: PathBuf::from("/nowhere"), ..places };
        assert_eq!(chosen.for_reader(), chosen.for_daemon());
        assert!(chosen.claim().is_ok());
        fs::remove_dir_all(chosen.for_daemon().parent().and_then(Path::parent).unwrap()).unwrap();
    }

    #[test]
    fn the_folder_that_is_claimed_is_this_users_and_open_to_readers() {
        let places = places("claimed");
        places.claim().unwrap();
        assert_eq!(fs::metadata(&places.shared).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(places.for_reader(), places.shared);
        clear(&places);
    }

    #[test]
    fn the_systems_page_is_everybodys_whoever_made_it() {
        let places = places("systems");
        page_in(&places.system, 0o777);
        page_in(&places.shared, 0o755);
        assert_eq!(places.for_reader(), places.system);
        clear(&places);
    }
}

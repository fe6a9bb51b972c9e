//! Where the page is when the configuration does not say.

use std::path::{Path, PathBuf};

use super::Page;

impl Page {
    /// Where a daemon puts its page.
    pub fn path_for_daemon(&self) -> PathBuf {
        if let Some(path) = &self.path {
            return path.clone();
        }
        let [chosen, system, session, shared] = folders();
        let folder = chosen.or(system.filter(|folder| writable(folder))).or(session).or(shared);
        folder.unwrap_or_default().join(PAGE_NAME)
    }

    /// Where a reader looks for it: the first of the daemon's places that has one, else where a daemon would put it.
    pub fn path_for_reader(&self) -> PathBuf {
        if let Some(path) = &self.path {
            return path.clone();
        }
        let [chosen, system, session, shared] = folders();
        let places = if chosen.is_some() { [chosen, None, None] } else { [system, session, shared] };
        let pages = places.into_iter().flatten().map(|folder| folder.join(PAGE_NAME));
        pages.into_iter().find(|page| page.exists()).unwrap_or_else(|| self.path_for_daemon())
    }
}

const PAGE_NAME: &str = "clock";

/// The user's choice, the system's folder, the session's, and the one that always exists.
fn folders() -> [Option<PathBuf>; 4] {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = rustix::process::geteuid().as_raw();
    [
        variable("CHRONOTICK_DIR"),
        Some(PathBuf::from("/run/chronotick")),
        variable("XDG_RUNTIME_DIR").map(|folder| folder.join("chronotick")),
        Some(PathBuf::from(format!("/dev/shm/chronotick-{user}"))),
    ]
}

/// Whether files can be made in `folder`, or the folder itself where it is missing.
fn writable(folder: &Path) -> bool {
    let there = if folder.exists() { Some(folder) } else { folder.parent() };
    there.is_some_and(|folder| rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok())
}

//! Files that are written are no files that are read, nor each other: a slip of the hand costs no recording.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Failure, Outcome};

/// Nothing `written` is among what is `read` or written twice. Devices and pipes may be.
///
/// # Errors
/// One line that names the file.
pub(crate) fn apart<const R: usize, const W: usize>(read: [Option<&Path>; R], written: [Option<&Path>; W]) -> Outcome {
    let mut taken: Vec<PathBuf> = read.into_iter().flatten().map(place).collect();
    for path in written.into_iter().flatten() {
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            continue;
        }
        let place = place(path);
        if taken.contains(&place) {
            return Err(Failure::Failed(format!(
                "{} would be overwritten by what this command writes: name another file",
                path.display()
            )));
        }
        taken.push(place);
    }
    Ok(())
}

/// The same for every way to name a file, whether it is there already or not.
fn place(path: &Path) -> PathBuf {
    let folder = || {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        Some(fs::canonicalize(parent).ok()?.join(path.file_name()?))
    };
    fs::canonicalize(path).ok().or_else(folder).unwrap_or_else(|| path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_any_name() {
        let folder = std::env::temp_dir().join(format!("chronotick-apart-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("inner")).unwrap();
        let trace = folder.join("trace.csv");
        fs::write(&trace, "").unwrap();
        let link = folder.join("link");
        std::os::unix::fs::symlink(&trace, &link).unwrap();
        let roundabout = folder.join("inner/../trace.csv");
        let new = folder.join("new.csv");
        let also_new = folder.join("inner/../new.csv");
        let refused = |read: &Path, written: [&Path; 2]| apart([Some(read)], written.map(Some)).is_err();
        assert!(refused(&trace, [&new, &link]));
        assert!(refused(&trace, [&roundabout, &new]));
        assert!(refused(&trace, [&new, &also_new]));
        assert!(!refused(&trace, [&new, Path::new("/dev/null")]));
        assert!(!refused(Path::new("/dev/null"), [Path::new("/dev/null"), Path::new("/dev/null")]));
        fs::remove_dir_all(&folder).unwrap();
    }
}

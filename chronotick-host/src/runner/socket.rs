//! The daemon's end of a Unix socket that lies beside its page.

use std::cell::Cell;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

use crate::error::{Error, Kind};

/// How long nobody is let in after somebody could not be.
const REST: Duration = Duration::from_secs(1);

/// A listening socket beside a page; it goes with the daemon.
pub(super) struct PageSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Which file at the path is this one's.
    file: (u64, u64),
    /// Until when nobody is let in. Who waits outside keeps the listener readable, so without a rest the loop would spin for
    /// as long as there are no descriptors left.
    resting: Cell<Option<Instant>>,
}

impl PageSocket {
    /// Listens at `path`. A socket that lies there is left over from a daemon before, unless one answers that has another page in
    /// the same folder: that one keeps it.
    ///
    /// Whoever may enter the folder may connect: what is told is what the page's readers can see, and how it came about.
    /// Nothing can be asked for or changed, so there is nothing to keep from them.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        if is_answered(&path) {
            let told = "another daemon's is there: give this page a folder of its own";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, told));
        }
        match fs::symlink_metadata(&path) {
            Ok(there) if there.file_type().is_socket() || there.is_symlink() => fs::remove_file(&path)?,
            Ok(_) => {
                let told = format!("{} is no socket and is kept: give this page a folder of its own", path.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, told));
            }
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(cause),
        }
        let listener = UnixListener::bind(&path)?;
        let file = fs::symlink_metadata(&path).map(|file| (file.dev(), file.ino()))?;
        let socket = Self { listener, path, file, resting: Cell::new(None) };
        fs::set_permissions(&socket.path, fs::Permissions::from_mode(0o666))?;
        socket.listener.set_nonblocking(true)?;
        Ok(socket)
    }

    /// The next one who has connected, if any; does not wait.
    pub(super) fn accept(&self, now: Instant) -> Option<UnixStream> {
        self.fd(now)?;
        match self.listener.accept() {
            Ok((stream, _)) => stream.set_nonblocking(true).ok().map(|()| stream),
            Err(cause) if matches!(cause.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted) => None,
            Err(cause) => {
                tracing::debug!(%cause, path = %self.path.display(), "nobody is let in for a moment");
                self.resting.set(now.checked_add(REST));
                None
            }
        }
    }

    /// What to wait for, unless it rests.
    pub(super) fn fd(&self, now: Instant) -> Option<BorrowedFd<'_>> {
        self.resting.get().is_none_or(|until| until <= now).then(|| self.listener.as_fd())
    }
}

impl Drop for PageSocket {
    fn drop(&mut self) {
        let own = fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.file);
        if own {
            // Gone already: as wished.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether somebody listens at `path`, without waiting for one who is busy.
fn is_answered(path: &Path) -> bool {
    let connected = || {
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)
    };
    matches!(connected(), Ok(()) | Err(Errno::AGAIN))
}

/// Connects to a daemon's socket at `path`.
///
/// # Errors
/// `is_not_running` when no daemon listens there.
pub(super) fn connect(path: &Path) -> Result<UnixStream, Error> {
    UnixStream::connect(path).map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::new(
            Kind::NotRunning,
            format!("no daemon answers at {}: start one with `chronotick run`", path.display()),
        ),
        _ => unreadable(path, cause),
    })
}

/// A daemon's socket that cannot be used.
pub(super) fn unreadable(path: &Path, cause: io::Error) -> Error {
    Error::system(format!("cannot ask the daemon at {}", path.display()), cause)
}

/// A daemon that does not speak as this program does.
pub(super) fn foreign(path: &Path, cause: serde_json::Error) -> Error {
    let told = format!("the daemon at {} speaks of another version", path.display());
    Error::new(Kind::Incompatible, told).caused_by(cause)
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn anybody_may_connect_and_what_was_left_over_is_replaced() {
        let folder = std::env::temp_dir().join(format!("chronotick-socket-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("temporary folder");
        let path = folder.join("a.sock");
        // A listener by itself leaves its file behind.
        drop(UnixListener::bind(&path).expect("temporary socket"));
        let socket = PageSocket::open(path.clone()).expect("it listens");
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o666);
        let now = Instant::now();
        assert!(socket.accept(now).is_none() && socket.fd(now).is_some());
        let client = connect(&path).expect("it listens");
        assert!(socket.accept(now).is_some());
        drop((client, socket));
        assert!(connect(&path).expect_err("it is gone").is_not_running());
        fs::remove_dir_all(&folder).expect("temporary folder");
    }

    #[test]
    fn what_is_no_socket_is_kept() {
        let folder = std::env::temp_dir().join(format!("chronotick-no-socket-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("temporary folder");
        let path = folder.join("a.sock");
        fs::write(&path, "buy milk").expect("temporary file");
        let told = PageSocket::open(path.clone()).err().expect("it is in the way").to_string();
        assert!(told.contains("a.sock") && told.contains("a folder of its own"), "{told}");
        assert_eq!(fs::read(&path).expect("it is there"), b"buy milk");
        fs::remove_dir_all(&folder).expect("temporary folder");
    }

    #[test]
    fn a_daemon_beside_another_ones_page_leaves_it_its_socket() {
        let folder = std::env::temp_dir().join(format!("chronotick-two-sockets-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("temporary folder");
        let path = folder.join("a.sock");
        let first = PageSocket::open(path.clone()).expect("it listens");
        let told = PageSocket::open(path.clone()).err().expect("the first one listens").to_string();
        assert!(told.contains("a folder of its own"), "{told}");
        assert!(connect(&path).is_ok());
        // One that has lost its place does not take the next one's.
        fs::remove_file(&path).expect("it is there");
        let second = PageSocket::open(path.clone()).expect("it listens");
        drop(first);
        assert!(connect(&path).is_ok());
        drop(second);
        assert!(!path.exists());
        fs::remove_dir_all(&folder).expect("temporary folder");
    }

    #[test]
    fn one_that_cannot_let_anybody_in_is_not_waited_for_until_it_has_rested() {
        // Readable for good, and nobody can be accepted, as when there are no descriptors left.
        let (stream, other) = UnixStream::pair().expect("descriptors");
        drop(other);
        let listener = UnixListener::from(OwnedFd::from(stream));
        let path = std::env::temp_dir().join(format!("chronotick-resting-{}.sock", std::process::id()));
        let socket = PageSocket { listener, path, file: (0, 0), resting: Cell::new(None) };
        let now = Instant::now();
        assert!(socket.fd(now).is_some() && socket.accept(now).is_none());
        assert!(socket.fd(now).is_none() && socket.accept(now + REST / 2).is_none());
        assert!(socket.fd(now + REST).is_some());
    }
}

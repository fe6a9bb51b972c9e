//! Starting a child process that holds nothing it should not and does not outlive this one.
//!
//! The child gets `/dev/null` for input and output, a pipe for standard error whose last line becomes the reason when it
//! dies, exactly the descriptors handed over, an environment of its own, its own process group (a Ctrl-C at the terminal
//! is for the service) and resource limits. Linux kills it when the *thread* that started it ends, so every child is
//! started by one thread that lives as long as the process.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, mpsc};

use rustix::process::{Resource, Rlimit, Signal};

/// Most bytes of a child's standard error that are kept.
const KEPT_STDERR: usize = 2048;

/// What to start.
#[derive(Debug)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments, the name excluded.
    pub arguments: Vec<OsString>,
    /// Its whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Descriptors that it inherits under the numbers that they have here; all others are closed.
    pub inherited: Vec<OwnedFd>,
    /// Limit of its address space, in bytes. Like the next one it gives way to a lower one that this process has itself.
    pub memory_limit: u64,
    /// Limit of its descriptor numbers.
    pub file_limit: u64,
}

/// A started process. Dropping it kills and reaps it.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    stderr: VecDeque<u8>,
    exited: Option<ExitStatus>,
}

impl Program {
    /// Starts it.
    pub fn start(self) -> io::Result<Child> {
        on_spawning_thread(move || self.start_here())?
    }

    fn start_here(self) -> io::Result<Child> {
        let parent = rustix::process::getpid();
        let inherited: Vec<RawFd> = self.inherited.iter().map(AsRawFd::as_raw_fd).collect();
        let limits = [
            (Resource::As, self.memory_limit),
            (Resource::Nofile, self.file_limit),
            (Resource::Fsize, 0),
            (Resource::Core, 0),
        ]
        .map(|(resource, wanted)| (resource, within_own(resource, wanted)));
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0);
        // SAFETY: between fork and exec only async-signal-safe calls are made: system calls without allocation or locks.
        unsafe {
            command.pre_exec(move || {
                end_with_parent()?;
                // The parent may have died before the line above took effect.
                if rustix::process::getppid() != Some(parent) {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
                close_others_on_exec(&inherited)?;
                for (resource, value) in limits {
                    rustix::process::setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })?;
                }
                Ok(())
            });
        }
        let process = command.spawn()?;
        if let Some(stderr) = &process.stderr {
            set_nonblocking(stderr)?;
        }
        Ok(Child { process, stderr: VecDeque::new(), exited: None })
    }
}

/// Asks the kernel to kill this process when the thread that started it ends.
///
/// A start asks for it as well, but the kernel forgets that when the program has capabilities or another owner of its own:
/// a program that must not outlive its parent asks again.
pub fn end_with_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// `wanted`, or this process's own limit where that is lower: raising it again is a privilege.
fn within_own(resource: Resource, wanted: u64) -> u64 {
    rustix::process::getrlimit(resource).maximum.map_or(wanted, |own| own.min(wanted))
}

/// Marks everything from descriptor 3 on close-on-exec, except `kept`, which is marked to stay.
fn close_others_on_exec(kept: &[RawFd]) -> io::Result<()> {
    // SAFETY: takes numbers only and changes flags of this (forked) process's descriptors.
    let marked = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if marked != 0 {
        // Kernels before 5.11: one by one. Numbers that are not open report an error that means nothing.
        let limit = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(65_536).min(1 << 20);
        for fd in 3..i32::try_from(limit).unwrap_or(i32::MAX) {
            // SAFETY: takes numbers only.
            let _ = unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    for &fd in kept {
        // SAFETY: takes numbers only; `fd` is open in this process (the caller owns it until after the spawn).
        if unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Takes over descriptors that the parent handed over by number. `None` if one is not open, or if called before.
pub fn take_inherited<const N: usize>(numbers: [RawFd; N]) -> Option<[OwnedFd; N]> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let distinct = numbers.iter().enumerate().all(|(index, number)| !numbers[..index].contains(number));
    // SAFETY: takes numbers only.
    let open = |&number: &RawFd| number > 2 && unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == 0;
    if !distinct || !numbers.iter().all(open) || TAKEN.swap(true, Ordering::Relaxed) {
        return None;
    }
    // SAFETY: open, distinct, above the standard ones, and taken once: nothing else in this process owns them, as they
    // came from the parent through exec and only this function takes such descriptors.
    Some(numbers.map(|number| unsafe { OwnedFd::from_raw_fd(number) }))
}

/// Makes reads and writes of a descriptor return instead of wait.
pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    Ok(rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?)
}

impl Child {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// How it ended, if it has. Never waits.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.read_stderr();
        if self.exited.is_none() {
            // An error means that somebody else reaped it; what is left is to say that it is gone.
            self.exited = self.process.try_wait().unwrap_or_else(|_| Some(ExitStatus::from_raw(0)));
            self.read_stderr();
        }
        self.exited
    }

    /// Sends SIGKILL, which a stopped process obeys as well.
    pub fn kill(&mut self) {
        if self.exited.is_none() {
            // An error means that it has ended already.
            let _ = self.process.kill();
        }
    }

    /// The last line that it wrote to standard error, printable characters only. Rust's advice on backtraces is not meant.
    pub fn last_words(&self) -> Option<String> {
        let (head, tail) = self.stderr.as_slices();
        let text = [head, tail].concat();
        let text = String::from_utf8_lossy(&text);
        text.lines().rev().map(printable).find(|line| !line.is_empty() && !line.starts_with("note: run with"))
    }

    fn read_stderr(&mut self) {
        let Some(pipe) = &mut self.process.stderr else { return };
        let mut buffer = [0; 512];
        // Bounded, so that a child that writes without end does not hold up its parent.
        for _ in 0..64 {
            match pipe.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(count) => self.stderr.extend(&buffer[..count]),
            }
            let excess = self.stderr.len().saturating_sub(KEPT_STDERR);
            self.stderr.drain(..excess);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.exited().is_none() {
            self.kill();
            // After SIGKILL this returns as soon as the kernel has taken the process down.
            let _ = self.process.wait();
        }
    }
}

/// Text from a process that is not trusted, fit for a log line.
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect::<String>().trim().to_owned()
}

/// "exited with code 3", "killed by SIGKILL".
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("killed by {}", signal_name(signal)),
        (None, None) => "ended".to_owned(),
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGABRT => "SIGABRT (abort)",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGILL => "SIGILL",
        libc::SIGINT => "SIGINT",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGSYS => "SIGSYS (a system call that its sandbox forbids)",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

type Job = Box<dyn FnOnce() + Send>;

/// Runs `job` on the thread that starts all children, and waits for its result.
fn on_spawning_thread<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    static JOBS: OnceLock<Mutex<mpsc::Sender<Job>>> = OnceLock::new();
    let jobs = match JOBS.get() {
        Some(jobs) => jobs,
        None => {
            let (sender, receiver) = mpsc::channel::<Job>();
            std::thread::Builder::new().name("chronotick-spawn".into()).stack_size(128 * 1024).spawn(move || {
                receiver.into_iter().for_each(|job| job());
            })?;
            // If another thread was faster, its spawner stays and this one ends with its sender.
            JOBS.get_or_init(|| Mutex::new(sender))
        }
    };
    let (answer, result) = mpsc::channel();
    let gone = || io::Error::other("the thread that starts processes has ended");
    let job: Job = Box::new(move || {
        // The receiver waits below; if it is gone there is nobody to tell.
        let _ = answer.send(job());
    });
    jobs.lock().map_err(|_| gone())?.send(job).map_err(|_| gone())?;
    result.recv().map_err(|_| gone())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn shell(script: &str, inherited: Vec<OwnedFd>) -> Child {
        let program = Program {
            path: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: Vec::new(),
            inherited,
            memory_limit: 1 << 30,
            file_limit: 64,
        };
        program.start().unwrap()
    }

    fn end_of(child: &mut Child) -> ExitStatus {
        child.process.wait().unwrap();
        child.exited().unwrap()
    }

    #[test]
    fn only_the_descriptors_handed_over_are_open() {
        let (leaked, _other) = rustix::pipe::pipe().unwrap();
        let (handed, _writer) = rustix::pipe::pipe().unwrap();
        let name = |fd: &OwnedFd| format!("pipe:[{}]", rustix::fs::fstat(fd).unwrap().st_ino);
        let (leaked, handed_name) = (name(&leaked), name(&handed));
        let mut child = shell("echo $(readlink /proc/$$/fd/*) >&2", vec![handed]);
        assert!(end_of(&mut child).success());
        let words = child.last_words().unwrap();
        assert!(words.contains(&handed_name) && !words.contains(&leaked), "{words}");
        // Nothing twice as standard input and output, standard error, ours, and the pipe of the shell's substitution, of which
        // the shell may have closed one end already.
        let names: std::collections::BTreeSet<_> = words.split(' ').collect();
        assert_eq!(names.len(), 4, "{words}");
    }

    #[test]
    fn the_end_and_the_last_words_are_told() {
        let mut child = shell("printf 'no \\033[1mmodels\\nnote: run with more\\n\\n' >&2; exit 7", Vec::new());
        assert_eq!(describe(end_of(&mut child)), "exited with code 7");
        assert_eq!(child.last_words().unwrap(), "no [1mmodels");
        let mut child = shell("kill -9 $$", Vec::new());
        assert_eq!(describe(end_of(&mut child)), "killed by SIGKILL");
    }

    #[test]
    fn a_child_survives_the_thread_that_asked_for_it_but_not_its_handle() {
        let (asked, question) = rustix::pipe::pipe().unwrap();
        // Answers every line until it is killed, or nobody can ask any more.
        let script = format!("while read -r word; do echo $word >&2; done </proc/self/fd/{}", asked.as_raw_fd());
        let asking = std::thread::spawn(move || (shell(&script, vec![asked]), rustix::thread::gettid()));
        let (mut child, thread) = asking.join().unwrap();
        // Its parent-death signal would be sent by the time that the thread is gone, which is after it was joined.
        while Path::new(&format!("/proc/self/task/{thread}")).exists() {
            std::thread::yield_now();
        }
        rustix::io::write(&question, b"alive\n").unwrap();
        let stderr = child.process.stderr.as_ref().unwrap();
        let mut answered = [rustix::event::PollFd::new(stderr, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut answered, None).unwrap();
        assert_eq!(child.exited(), None);
        assert_eq!(child.last_words().as_deref(), Some("alive"));
        let pid = child.pid();
        drop(child);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn a_missing_program_is_an_error() {
        let program = Program {
            path: "/nonexistent/worker".into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            inherited: Vec::new(),
            memory_limit: 1 << 30,
            file_limit: 64,
        };
        assert_eq!(program.start().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

//! How the worker is run.

use std::path::PathBuf;
use std::time::Duration;

/// Where the models run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// In a process of their own: whatever happens there costs one tier of accuracy and nothing else.
    #[default]
    Process,
    /// In a thread of this process: for platforms without processes to spare, and for tests.
    Thread,
    /// Nowhere.
    Off,
}

/// On which cores the worker runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Affinity {
    /// Not core 0, not the one that the service starts it from.
    #[default]
    Auto,
    /// These; wherever the kernel likes if empty.
    Cores(Vec<usize>),
}

/// How the worker is run. [`WorkerConfig::default`] suits a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerConfig {
    /// Process, thread or off.
    pub mode: Mode,
    /// The worker's executable. Absent: `CHRONOTICK_WORKER`, this program if it can be its own worker
    /// ([`crate::worker::hook`]), `chronotick` beside this program, `chronotick` on the PATH.
    pub path: Option<PathBuf>,
    /// Cores of the worker.
    pub cpu_affinity: Affinity,
    /// Its niceness, 0 to 19.
    pub nice: u8,
    /// Whether it runs only when nothing else wants the core (SCHED_IDLE). The time-outs of its start and of its heartbeats are
    /// sixty times as long then.
    pub idle: bool,
    /// Limit of its address space, in MiB.
    pub memory_mib: u32,
    /// Folder of the model files. Absent: see [`crate::worker::files::models_folder`].
    pub models: Option<PathBuf>,
    /// Whether it gives up files, network and most system calls.
    pub sandbox: bool,
    /// A forecast later than this is dropped and counted.
    pub deadline: Duration,
    /// How often it is asked for a sign of life.
    pub heartbeat: Duration,
    /// A worker that gives no sign of life for this long is replaced.
    pub heartbeat_timeout: Duration,
    /// A worker that is not ready this long after its start is replaced.
    pub start_timeout: Duration,
    /// Pause before the first restart; doubled for each further one until a worker has answered.
    pub backoff: Duration,
    /// Longest pause before a restart.
    pub backoff_limit: Duration,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            mode: Mode::Process,
            path: None,
            cpu_affinity: Affinity::Auto,
            nice: 10,
            idle: false,
            memory_mib: 512,
            models: None,
            sandbox: true,
            deadline: Duration::from_secs(10),
            heartbeat: Duration::from_secs(1),
            heartbeat_timeout: Duration::from_secs(2),
            start_timeout: Duration::from_secs(10),
            backoff: Duration::from_millis(100),
            backoff_limit: Duration::from_secs(30),
        }
    }
}

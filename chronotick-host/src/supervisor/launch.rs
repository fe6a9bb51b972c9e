//! Bringing a worker into being: finding its executable, starting it, and the two kinds of body it can have.

use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
#[cfg(feature = "inference")]
use std::thread::JoinHandle;

use super::config::{Affinity, Mode, WorkerConfig};
use crate::link::process::{Handover, ServiceEnd};
use crate::link::{Boot, Link, Order, Reply};
use crate::os::affinity;
use crate::os::spawn::{Child, Program, describe};
use crate::worker::LINK_VARIABLE;
use crate::worker::files::models_folder;

/// Names the worker's executable.
pub const WORKER_VARIABLE: &str = "CHRONOTICK_WORKER";
/// Largest descriptor number of a worker, plus one.
const FILE_LIMIT: u64 = 64;

pub(super) type ServiceLink = Box<dyn Link<Out = Order, In = Reply> + Send>;

/// What a worker lives in.
#[derive(Debug)]
pub(super) enum Body {
    Process(Child),
    #[cfg(feature = "inference")]
    Thread(JoinHandle<()>),
}

impl Body {
    pub(super) fn pid(&self) -> Option<u32> {
        match self {
            Self::Process(child) => Some(child.pid()),
            #[cfg(feature = "inference")]
            Self::Thread(_) => None,
        }
    }

    /// How it ended and its last words, if it has ended.
    pub(super) fn exited(&mut self) -> Option<(String, Option<String>)> {
        match self {
            Self::Process(child) => child.exited().map(|status| (describe(status), child.last_words())),
            #[cfg(feature = "inference")]
            Self::Thread(thread) => thread.is_finished().then(|| ("thread ended".to_owned(), None)),
        }
    }

    /// Ends it, if it can be ended: a thread cannot, it ends when it notices that its link is gone.
    pub(super) fn kill(&mut self) {
        match self {
            Self::Process(child) => child.kill(),
            #[cfg(feature = "inference")]
            Self::Thread(thread) => thread.thread().unpark(),
        }
    }
}

/// Starts a worker and sends its first order.
pub(super) fn launch(config: &WorkerConfig) -> Result<(ServiceLink, Body), String> {
    let boot = Boot {
        models: models_folder(config.models.as_deref()).map(|path| path.to_string_lossy().into_owned()),
        cpu_affinity: match &config.cpu_affinity {
            Affinity::Auto => affinity::beside_caller(),
            Affinity::Cores(cores) => cores.clone(),
        },
        nice: config.nice,
        idle: config.idle,
        sandbox: config.sandbox,
    };
    match config.mode {
        Mode::Off => Err("the worker is switched off".to_owned()),
        Mode::Process => launch_process(config, boot),
        Mode::Thread => launch_thread(boot),
    }
}

fn launch_process(config: &WorkerConfig, boot: Boot) -> Result<(ServiceLink, Body), String> {
    let path = find_executable(config.path.as_deref())?;
    let (mut link, Handover { region, wake_worker, wake_service }) =
        ServiceEnd::create().map_err(|error| error.to_string())?;
    link.send(Order::Boot(boot)).map_err(|error| error.to_string())?;
    let inherited = vec![region, wake_worker, wake_service];
    let numbers: Vec<String> = inherited.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
    let mut environment: Vec<(OsString, OsString)> = vec![
        (LINK_VARIABLE.into(), numbers.join(",").into()),
        // One thread needs one arena.
        ("MALLOC_ARENA_MAX".into(), "1".into()),
        // A backtrace would open files, which the sandbox forbids.
        ("RUST_BACKTRACE".into(), "0".into()),
    ];
    environment.extend(std::env::var_os("LD_LIBRARY_PATH").map(|value| ("LD_LIBRARY_PATH".into(), value)));
    let program = Program {
        path: path.clone(),
        arguments: vec!["worker".into()],
        environment,
        inherited,
        memory_limit: u64::from(config.memory_mib) << 20,
        file_limit: FILE_LIMIT,
    };
    let child = program.start().map_err(|error| format!("{} cannot be started: {error}", path.display()))?;
    Ok((Box::new(link), Body::Process(child)))
}

/// Where the worker's executable is.
fn find_executable(configured: Option<&Path>) -> Result<PathBuf, String> {
    let named = configured
        .map(|path| (path.to_path_buf(), "WorkerConfig::path"))
        .or_else(|| std::env::var_os(WORKER_VARIABLE).map(|path| (PathBuf::from(path), WORKER_VARIABLE)));
    if let Some((path, origin)) = named {
        let path = std::path::absolute(&path).unwrap_or(path);
        return if path.is_file() {
            Ok(path)
        } else {
            Err(format!("worker binary not found: {} does not exist (named by {origin})", path.display()))
        };
    }
    if crate::worker::hooked() {
        // Also right after the file was replaced or deleted by an upgrade.
        return Ok(PathBuf::from("/proc/self/exe"));
    }
    let name = format!("chronotick{}", std::env::consts::EXE_SUFFIX);
    let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join(&name)));
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(std::env::split_paths(&on_path).map(|folder| folder.join(&name)))
        .find(|candidate| candidate.is_absolute() && candidate.is_file())
        .ok_or_else(|| {
            format!(
                "worker binary not found: no {name} beside this program or on the PATH; \
                 name it in {WORKER_VARIABLE}, or call chronotick_host::worker::hook() first in main"
            )
        })
}

#[cfg(feature = "inference")]
fn launch_thread(boot: Boot) -> Result<(ServiceLink, Body), String> {
    use crate::link::Ready;
    use crate::link::thread::pair;
    use crate::worker::{inference::Forecasters, serve};

    let (service, mut worker) = pair();
    let body = std::thread::Builder::new().name("chronotick-worker".into()).spawn(move || {
        let warnings = if boot.cpu_affinity.is_empty() { None } else { affinity::pin(&boot.cpu_affinity).err() };
        let mut forecasters = Forecasters::load(boot.models.as_deref().map(Path::new));
        let ready = Ready {
            cpu_affinity: affinity::current(),
            warnings: warnings.into_iter().collect(),
            models: forecasters.states(),
            ..Ready::default()
        };
        // Errors mean that the service has let go of the link: the thread's work is done.
        if worker.send(Reply::Ready(Box::new(ready))).is_ok() {
            let _ = serve(&mut worker, &mut forecasters);
        }
    });
    body.map(|thread| (Box::new(service) as ServiceLink, Body::Thread(thread)))
        .map_err(|error| format!("the worker thread cannot be started: {error}"))
}

#[cfg(not(feature = "inference"))]
fn launch_thread(_: Boot) -> Result<(ServiceLink, Body), String> {
    Err("this build has no models: enable the feature `inference` or use worker.mode = \"process\"".to_owned())
}

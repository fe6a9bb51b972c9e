//! The worker's life: attach, set up, seal, load, then answer until told to stop.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use super::LINK_VARIABLE;
use super::inference::Forecasters;
use crate::link::process::{Handover, WorkerEnd};
use crate::link::{Boot, Link, LinkError, Order, Ready, Reply, SendError};
use crate::os::{affinity, sandbox, spawn};

/// How long it sleeps when nobody wakes it. Only a safety net: what is sent wakes it, and so does the end of the service.
const NAP: Duration = Duration::from_secs(5);
/// How long a fresh worker waits for its first order.
const BOOT_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs the worker process; returns its exit code: 0 told to stop, 1 failed (with one line on standard error), 2 not
/// started by a service.
pub fn main() -> i32 {
    if std::env::var_os(LINK_VARIABLE).is_none() {
        eprintln!("chronotick: the worker is started by the daemon; to start the daemon: chronotick run");
        return 2;
    }
    // Where the kernel cannot promise it, the link still notices that the service is gone: it only takes until the next wait.
    let _ = spawn::end_with_parent();
    // The service reads standard error but waits for nobody, so neither does this side.
    let _ = spawn::set_nonblocking(std::io::stderr());
    let outcome = attach().and_then(|mut link| run(&mut link).map_err(|error| error.to_string()));
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            // The service may be gone, and nobody reads.
            let _ = writeln!(std::io::stderr(), "{error}");
            1
        }
    }
}

/// The link that the service handed to this process when it started it. It can be taken once.
///
/// # Errors
/// One line on what was handed over instead.
pub fn attach() -> Result<WorkerEnd, String> {
    let link = std::env::var(LINK_VARIABLE).map_err(|_| format!("{LINK_VARIABLE} is not set"))?;
    let handover = handover(&link).ok_or_else(|| format!("{LINK_VARIABLE}={link}: not three open descriptors"))?;
    let link = WorkerEnd::attach(handover).map_err(|error| error.to_string())?;
    Ok(link.until_hung_up(std::io::stderr()))
}

/// Answers orders on `link` until told to stop or until the link breaks.
///
/// # Errors
/// When the other side broke the link.
pub fn serve<L: Link<Out = Reply, In = Order>>(link: &mut L, forecasters: &mut Forecasters) -> Result<(), LinkError> {
    loop {
        let Some(order) = link.receive()? else {
            link.wait(NAP);
            continue;
        };
        let reply = match order {
            Order::Stop => return Ok(()),
            Order::Boot(_) => continue,
            Order::Ping(number) => Reply::Pong(number),
            Order::Forecast(request) => {
                let started = Instant::now();
                match forecasters.answer(&request) {
                    Ok(forecast) => Reply::Forecast {
                        forecast: Box::new(forecast),
                        inference_ns: u32::try_from(started.elapsed().as_nanos()).unwrap_or(u32::MAX),
                    },
                    Err(error) => Reply::Refused { id: request.id, reason: error.to_string() },
                }
            }
        };
        deliver(link, reply)?;
    }
}

fn run(link: &mut WorkerEnd) -> Result<(), LinkError> {
    let boot = first_order(link)?;
    let mut warnings = Vec::new();
    warnings.extend(affinity::set_nice(boot.nice.into()).err().map(|e| format!("priority not lowered: {e}")));
    if boot.idle {
        warnings.extend(affinity::set_idle().err().map(|e| format!("SCHED_IDLE not granted: {e}")));
    }
    if !boot.cpu_affinity.is_empty() {
        warnings.extend(affinity::pin(&boot.cpu_affinity).err());
    }
    let cpu_affinity = affinity::current();
    // The files are read before the seal and parsed behind it: a malicious model meets a process that can do nothing.
    let files = Forecasters::read(boot.models.as_deref().map(Path::new));
    probe_machine();
    let sandbox = if boot.sandbox { sandbox::seal() } else { sandbox::Sandbox::default() };
    let mut forecasters = Forecasters::from_files(files);
    affinity::trim_memory();
    let models = forecasters.states();
    deliver(link, Reply::Ready(Box::new(Ready { cpu_affinity, warnings, sandbox, models })))?;
    serve(link, &mut forecasters)
}

/// Has tract learn about the processor, which it does once and when it first needs to know: that has to be before the seal.
///
/// It reads files: /sys for the sizes of the caches, and on ARM /proc/cpuinfo for the instruction set, which x86-64 tells without
/// one. So a worker that starts on one processor is no proof for another: tract-linalg, the only part that reads, has to be read.
fn probe_machine() {
    use tract_core::tract_linalg::{cache, isa};
    let _ = (cache::cache_info(), cache::last_level_cache(), isa::native());
}

fn first_order(link: &mut WorkerEnd) -> Result<Boot, LinkError> {
    let limit = Instant::now() + BOOT_TIMEOUT;
    while Instant::now() < limit {
        match link.receive()? {
            Some(Order::Boot(boot)) => return Ok(boot),
            Some(_) => return Err(LinkError::Undecodable),
            None => link.wait(Duration::from_millis(100)),
        }
    }
    Err(LinkError::Closed)
}

/// Sends, waiting while the service has not read what was sent before.
fn deliver<L: Link<Out = Reply, In = Order>>(link: &mut L, reply: Reply) -> Result<(), LinkError> {
    loop {
        match link.send(reply.clone()) {
            Ok(()) => return Ok(()),
            Err(SendError::Broken(error)) => return Err(error),
            // The service is behind by dozens of answers. It will read or it will end this process.
            Err(SendError::Full) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// The inherited descriptors named in the environment.
fn handover(link: &str) -> Option<Handover> {
    let numbers: Vec<i32> = link.split(',').map(|n| n.parse().ok()).collect::<Option<_>>()?;
    let [region, wake_worker, wake_service] = numbers[..].try_into().ok()?;
    spawn::take_inherited([region, wake_worker, wake_service]).map(|[region, wake_worker, wake_service]| Handover {
        region,
        wake_worker,
        wake_service,
    })
}

//! Everything that can go wrong with the forecast worker, while a service keeps time beside it. Its models: `worker_models`.
//!
//! In every test the service of `chronotick_tests::supervised` checks at each step that served time never goes back, that
//! the truth is inside the hard bound, and that tier and reason are those of what is the case. Faults that need no waiting are
//! repeated a hundred times in one test; with `CHRONOTICK_STRESS=full` every test repeats its fault a hundred times. Nothing may
//! be left behind.

use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process;
use std::time::{Duration, Instant};

use chronotick_host::link::process::ServiceEnd;
use chronotick_host::link::{Boot, Link, ModelState, Order, Reply};
use chronotick_host::os::sandbox::Grant;
use chronotick_host::os::spawn::describe;
use chronotick_host::supervisor::{Affinity, Backlog, Mode, Supervisor, WorkerConfig, WorkerHealth};
use chronotick_tests::supervised::{
    DOWN, Holdings, PATIENCE, RECOVERY, Service, Workshop, alone, is_dead, repetitions, resident_mb, signal,
};
use rustix::process::Signal;

const PROGRAM: &str = env!("CARGO_BIN_EXE_faulty-worker");
/// A worker that does `fault` when asked is replaced for a reason that names `expected`; an honest one after it recovers,
/// and after all repetitions nothing is left behind.
fn is_replaced(fault: &str, kind: &str, tune: impl Fn(&mut WorkerConfig)) -> WorkerHealth {
    let _alone = alone();
    let workshop = Workshop::new(fault, PROGRAM, "honest");
    let mut config = workshop.config();
    tune(&mut config);
    let mut service = Service::start(config);
    service.run_until_forecast(PATIENCE);
    let (holdings, resident) = (Holdings::now(), resident_mb());
    for _ in 0..repetitions() {
        service.verdicts.clear();
        workshop.set_mode(fault);
        // The honest worker goes, so that the next one starts in the new mode.
        let pid = service.health().pid.expect("the worker runs");
        signal(pid, Signal::KILL);
        service.run_until("the worker to be replaced", PATIENCE, |s| s.health().pid.is_some_and(|new| new != pid));
        let before = service.health();
        let seen = |health: &WorkerHealth| health.restart_reasons.get(kind).copied().unwrap_or(0);
        service.run_until(kind, PATIENCE, |service| seen(&service.health()) > seen(&before));
        workshop.set_mode("honest");
        let recovered = service.run_until_forecast(PATIENCE);
        assert!(recovered < RECOVERY, "recovered after {recovered:?}");
        service.was_told();
        service.is_over();
    }
    service.run_until("the last process to be reaped", PATIENCE, |_| Holdings::now() == holdings);
    let grown = resident_mb() - resident;
    assert!(grown < 8.0, "this process grew by {grown} MB");
    let health = service.health();
    drop(service);
    assert_eq!(Holdings::now().regions, 0);
    assert_eq!(Holdings::now().children, holdings.children - 1);
    health
}

#[test]
fn killed() {
    let _alone = alone();
    let workshop = Workshop::new("killed", PROGRAM, "honest");
    let mut service = Service::start(workshop.config());
    service.run_until_forecast(PATIENCE);
    let holdings = Holdings::now();
    for n in 1..=repetitions() {
        service.verdicts.clear();
        let pid = service.health().pid.expect("the worker runs");
        signal(pid, Signal::KILL);
        service.run_until("the death to be noticed", PATIENCE, |service| service.health().restarts == n);
        let recovered = service.run_until_forecast(PATIENCE);
        assert!(recovered < RECOVERY, "recovered after {recovered:?}");
        assert_eq!(service.health().last_reason.as_deref(), Some("killed by SIGKILL"));
        service.was_told();
        service.is_over();
    }
    service.run_until("the last process to be reaped", PATIENCE, |_| Holdings::now() == holdings);
}

/// The trained models ask the system for more than the fixtures do: they must answer behind the seal as well.
#[test]
fn shipped_models_answer_behind_the_seal() {
    let _alone = alone();
    let workshop = Workshop::new("shipped", PROGRAM, "honest");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let mut service = Service::start(WorkerConfig { models: Some(shipped), ..workshop.config() });
    service.run_until("both models", PATIENCE, |service| service.health().answered >= 6);
    let health = service.health();
    assert_eq!(health.restarts, 0, "{health:?}");
    assert!(health.models.iter().all(|model| matches!(model, ModelState::Loaded { .. })), "{health:?}");
    assert!(health.rss_mb < 60.0, "resident {} MB", health.rss_mb);
}

#[test]
fn stopped_for_half_a_minute() {
    let _alone = alone();
    let workshop = Workshop::new("stopped", PROGRAM, "honest");
    // The times of a real service.
    let config = WorkerConfig { path: Some(workshop.worker()), models: Some(workshop.models()), ..Default::default() };
    let mut service = Service::start(config);
    service.run_until_forecast(PATIENCE);
    let pid = service.health().pid.expect("the worker runs");
    service.verdicts.clear();
    signal(pid, Signal::STOP);
    let stopped = Instant::now();
    service.run_until("the silence to be noticed", PATIENCE, |service| service.health().restarts == 1);
    service.run_until_forecast(PATIENCE);
    assert!(stopped.elapsed() < RECOVERY, "recovered after {:?}", stopped.elapsed());
    assert_eq!(service.health().last_reason.as_deref(), Some("no sign of life"));
    service.was_told();
    service.is_over();
    // A stopped process obeys SIGKILL: it does not come back when the half minute is over.
    service.run_for(Duration::from_secs(if repetitions() == 100 { 30 } else { 3 }));
    assert!(is_dead(pid));
    assert_eq!(service.health().restarts, 1);
}

#[test]
fn hangs() {
    is_replaced("hangs", "no sign of life", |_| {});
}

#[test]
fn never_gets_ready() {
    is_replaced("silent", "not ready in time", |config| config.start_timeout = Duration::from_secs(1));
}

#[test]
fn exits_in_mid_frame() {
    let health = is_replaced("exits-in-mid-frame", "a frame claims 2000 bytes, which is impossible", |_| {});
    assert!(health.corrupt >= repetitions());
}

#[test]
fn writes_garbage_all_over_the_ring() {
    let health = is_replaced("garbage", "the peer's position in the ring is impossible", |_| {});
    assert!(health.corrupt >= repetitions());
}

#[test]
fn claims_a_huge_frame() {
    let health = is_replaced("huge-length", "a frame claims 4294967280 bytes, which is impossible", |_| {});
    assert!(health.corrupt >= repetitions());
}

#[test]
fn reports_its_set_up_twice() {
    let health = is_replaced("reports-twice", "it reported its set-up twice", |_| {});
    assert!(health.corrupt >= repetitions());
}

#[test]
fn speaks_another_version() {
    is_replaced("another-version", "the other side speaks worker protocol 99", |_| {});
}

#[test]
fn panics() {
    let health = is_replaced("panics", "exited with code 101", |_| {});
    assert!(health.restart_reasons.contains_key("exited with code 101"));
}

#[test]
fn hits_its_memory_cap() {
    is_replaced("leaks", "killed by SIGABRT (abort)", |config| config.memory_mib = 160);
}

#[test]
fn floods_the_link() {
    is_replaced("floods", "no sign of life", |_| {});
}

#[test]
fn tries_what_the_sandbox_forbids() {
    for fault in ["sealed-opens-a-file", "sealed-opens-a-socket", "sealed-runs-a-program", "sealed-starts-a-thread"] {
        is_replaced(fault, "killed by SIGSYS (a system call that its sandbox forbids)", |_| {});
    }
}

#[test]
fn overruns_the_deadline() {
    let _alone = alone();
    let workshop = Workshop::new("late", PROGRAM, "honest");
    workshop.set_mode("is-late");
    let config = WorkerConfig {
        deadline: Duration::from_millis(100),
        heartbeat_timeout: Duration::from_secs(2),
        ..workshop.config()
    };
    let mut service = Service::start(config);
    service.run_until("late answers", PATIENCE, |service| service.health().late >= 3);
    assert_eq!((service.forecasts, service.health().answered), (0, 0));
    assert_eq!(service.health().success_rate, 0.0);
    assert_eq!(service.health().restarts, 0, "slow is not dead");
    assert_eq!(service.verdict(), DOWN, "and alive is not answering");
}

#[test]
fn answers_what_nobody_asked() {
    let _alone = alone();
    let workshop = Workshop::new("another-question", PROGRAM, "honest");
    workshop.set_mode("answers-another-question");
    let mut service = Service::start(WorkerConfig { deadline: Duration::from_millis(200), ..workshop.config() });
    service.run_until("unanswered questions", PATIENCE, |service| service.health().late >= 2);
    assert_eq!(service.forecasts, 0);
    assert_eq!(service.pipeline.counts().forecasts_accepted, 0);
    assert_eq!(service.verdict(), DOWN);
}

#[test]
fn binary_missing_until_it_appears() {
    let _alone = alone();
    let workshop = Workshop::new("missing", PROGRAM, "honest");
    std::fs::remove_file(workshop.worker()).expect("it was there");
    let mut service = Service::start(workshop.config());
    service.run_until("several tries", PATIENCE, |service| service.health().restarts >= 3);
    let health = service.health();
    assert!(!health.alive);
    let reason = health.last_reason.expect("there is a reason");
    assert!(reason.starts_with("worker binary not found: ") && reason.contains("WorkerConfig::path"), "{reason}");
    assert_eq!(service.verdict(), DOWN);
    let holdings = Holdings::now();
    service.run_for(Duration::from_millis(500));
    assert_eq!(Holdings::now(), holdings, "tries leave nothing behind");
    std::os::unix::fs::symlink(PROGRAM, workshop.worker()).expect("the folder can be written to");
    assert!(service.run_until_forecast(PATIENCE) < RECOVERY);
    service.is_over();
}

#[test]
fn a_core_that_does_not_exist() {
    let _alone = alone();
    let workshop = Workshop::new("core", PROGRAM, "honest");
    let mut service = Service::start(WorkerConfig { cpu_affinity: Affinity::Cores(vec![1000]), ..workshop.config() });
    service.run_until_forecast(PATIENCE);
    let health = service.health();
    assert!(health.warnings.iter().any(|warning| warning.contains("[1000] not available")), "{health:?}");
    assert!(!health.cpu_affinity.is_empty());
    service.is_over();
}

#[test]
fn pinned_and_sealed_as_configured() {
    let _alone = alone();
    let workshop = Workshop::new("pinned", PROGRAM, "honest");
    let core = chronotick_host::os::affinity::current().last().copied().expect("this thread runs somewhere");
    let mut service = Service::start(WorkerConfig {
        cpu_affinity: Affinity::Cores(vec![core]),
        // The one value that is never higher than what these tests may run at themselves.
        nice: 19,
        idle: true,
        ..workshop.config()
    });
    service.run_until_forecast(PATIENCE);
    let health = service.health();
    assert_eq!((health.cpu_affinity.as_slice(), health.warnings.as_slice()), (&[core][..], &[][..]));
    let pid = health.pid.expect("the worker runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the worker runs");
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    assert_eq!(field("Cpus_allowed_list:"), Some(core.to_string().as_str()));
    assert_eq!(field("NoNewPrivs:"), Some("1"));
    // Whether the report is true: the kernel's own word on the filter.
    assert_eq!(field("Seccomp:"), Some(if health.sandbox.seccomp == Grant::Full { "2" } else { "0" }));
    assert_eq!(field("Threads:"), Some("1"));
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the worker runs");
    let fields: Vec<&str> = stat.rsplit_once(") ").expect("a stat line").1.split(' ').collect();
    assert_eq!((fields[16], fields[38]), ("19", "5"), "nice, and the policy SCHED_IDLE");
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("same user").count();
    assert_eq!(descriptors, 5, "three standard ones and two eventfds; the region is mapped");
}

/// A service in a process of its own, which is killed when dropped.
struct Apart {
    service: process::Child,
    worker: u32,
}

impl Apart {
    /// After `settings` of the shell; its worker is the honest one, started as `worker` says: a script that finds it at `$0.real`.
    fn start(workshop: &Workshop, settings: &str, worker: &str) -> Self {
        let honest = workshop.folder().join("honest");
        std::fs::create_dir_all(&honest).expect("the folder can be written to");
        std::os::unix::fs::symlink(PROGRAM, honest.join("worker.real")).expect("the folder can be written to");
        std::fs::write(honest.join("mode"), "honest").expect("the folder can be written to");
        std::fs::write(honest.join("worker"), format!("#!/bin/sh\n{worker}\n")).expect("the folder can be written to");
        std::fs::set_permissions(honest.join("worker"), std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        workshop.set_mode("service");
        let service = process::Command::new("/bin/sh")
            .args(["-c", &format!("{settings} exec \"$0\"")])
            .arg(workshop.worker())
            .spawn()
            .expect("the service starts");
        let mut apart = Self { service, worker: 0 };
        in_patience("a worker", || {
            let pid = std::fs::read_to_string(workshop.folder().join("pid")).ok().and_then(|pid| pid.parse().ok());
            apart.worker = pid.unwrap_or(0);
            pid.is_some()
        });
        apart
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // An error means that it has ended by itself.
        let _ = (self.service.kill(), self.service.wait());
    }
}

/// A worker whose service is gone ends by itself. Where it does not, it is not left behind.
fn ends(worker: u32) {
    let started = Instant::now();
    while !is_dead(worker) && started.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let ended = is_dead(worker);
    if !ended {
        signal(worker, Signal::KILL);
    }
    assert!(ended, "the worker outlives its service");
}

fn in_patience(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The service itself is killed: its worker does not survive it.
#[test]
fn parent_killed() {
    let _alone = alone();
    for n in 0..repetitions() {
        let workshop = Workshop::new(&format!("parent-{n}"), PROGRAM, "honest");
        let apart = Apart::start(&workshop, "", r#"exec "$0.real" worker"#);
        let worker = apart.worker;
        drop(apart);
        ends(worker);
    }
}

/// The kernel forgets whom a process is to die with when its program has capabilities of its own, and when it forks, which any
/// user can do. The worker says it again: even stopped it does not outlive the process that started it.
#[test]
fn parent_killed_and_the_kernel_does_not_know_the_parent() {
    let _alone = alone();
    let workshop = Workshop::new("forgotten", PROGRAM, "honest");
    let apart = Apart::start(&workshop, "", r#""$0.real" worker & wait"#);
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", apart.worker)).expect("it runs");
    let worker = children.trim().parse().expect("the shell has one child");
    signal(worker, Signal::STOP);
    drop(apart);
    ends(worker);
}

/// Where the service was gone before the worker could ask the kernel for anything, there is still the pipe between them.
#[test]
fn parent_gone_unnoticed() {
    let _alone = alone();
    let workshop = Workshop::new("gone", PROGRAM, "honest");
    let (mut link, handover) = ServiceEnd::create().expect("memory can be shared");
    let numbers = [&handover.region, &handover.wake_worker, &handover.wake_service].map(|fd| {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).expect("it is open");
        fd.as_raw_fd().to_string()
    });
    let mut worker = process::Command::new(workshop.worker())
        .arg("worker")
        .env("CHRONOTICK_WORKER_LINK", numbers.join(","))
        .stderr(process::Stdio::piped())
        .spawn()
        .expect("the worker starts");
    let models = Some(workshop.models().display().to_string());
    link.send(Order::Boot(Boot { models, sandbox: true, ..Boot::default() })).expect("the link is empty");
    in_patience("the worker's report", || matches!(link.receive(), Ok(Some(Reply::Ready(_)))));
    drop(worker.stderr.take());
    ends(worker.id());
    worker.wait().expect("it is ours");
}

/// A service that is allowed less than its worker would be hands on what it has: raising it again is a privilege.
#[test]
fn limits_of_the_service_hold_for_its_worker() {
    let _alone = alone();
    let workshop = Workshop::new("limits", PROGRAM, "honest");
    let apart = Apart::start(&workshop, "ulimit -v 400000; ulimit -n 48;", r#"exec "$0.real" worker"#);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", apart.worker)).expect("the worker runs");
    let limit = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel knows it");
        line.split_whitespace().take(2).map(|value| value.parse().expect("a number")).collect::<Vec<u64>>()
    };
    assert_eq!(limit("Max address space"), [400_000 << 10; 2]);
    assert_eq!(limit("Max open files"), [48; 2]);
    assert_eq!(limit("Max file size"), [0; 2], "lower than the service's own");
}

/// Everything that needs no waiting, a hundred times, in one service; what takes a worker a tenth of a second or more, ten times.
#[test]
fn a_hundred_of_every_quick_fault_leave_nothing() {
    const TIMES: u64 = 100;
    const FORBIDDEN: &str = "killed by SIGSYS (a system call that its sandbox forbids)";
    let _alone = alone();
    let workshop = Workshop::new("hundred", PROGRAM, "honest");
    let pause = Duration::from_millis(1);
    let config = WorkerConfig { memory_mib: 160, backoff: pause, backoff_limit: pause, ..workshop.config() };
    let mut service = Service::start(config);
    service.run_until_forecast(PATIENCE);
    let (holdings, resident) = (Holdings::now(), resident_mb());
    let again = |service: &mut Service, kind: &str, times: u64, kill: bool| {
        let seen = |service: &Service| service.health().restart_reasons.get(kind).copied().unwrap_or(0);
        let wanted = seen(service) + times;
        let limit = PATIENCE * u32::try_from(times).unwrap_or(1);
        service.run_until(kind, limit, |service| {
            let health = service.health();
            if let Some(pid) = health.pid.filter(|_| kill && health.alive) {
                signal(pid, Signal::KILL);
            }
            seen(service) >= wanted
        });
    };
    let slow = if repetitions() == TIMES { TIMES } else { 10 };
    let started = Instant::now();
    again(&mut service, "killed by SIGKILL", TIMES, true);
    println!("killed: {:.1} s", started.elapsed().as_secs_f64());
    for (fault, kind) in [
        ("exits-in-mid-frame", "a frame claims 2000 bytes, which is impossible"),
        ("garbage", "the peer's position in the ring is impossible"),
        ("huge-length", "a frame claims 4294967280 bytes, which is impossible"),
        ("reports-twice", "it reported its set-up twice"),
        ("another-version", "the other side speaks worker protocol 99"),
        ("panics", "exited with code 101"),
        ("leaks", "killed by SIGABRT (abort)"),
        ("sealed-opens-a-file", FORBIDDEN),
        ("sealed-opens-a-socket", FORBIDDEN),
        ("sealed-runs-a-program", FORBIDDEN),
        ("sealed-starts-a-thread", FORBIDDEN),
    ] {
        let started = Instant::now();
        workshop.set_mode(fault);
        // A worker of the mode before goes, whatever it is at: an honest one would stay.
        if let Some(pid) = service.health().pid {
            signal(pid, Signal::KILL);
        }
        again(&mut service, kind, if fault == "leaks" { slow } else { TIMES }, false);
        println!("{fault}: {:.1} s", started.elapsed().as_secs_f64());
    }
    let started = Instant::now();
    std::fs::remove_file(workshop.worker()).expect("it was there");
    again(&mut service, "worker binary not found", TIMES, false);
    workshop.set_mode("honest");
    std::os::unix::fs::symlink(PROGRAM, workshop.worker()).expect("the folder can be written to");
    println!("missing: {:.1} s", started.elapsed().as_secs_f64());
    for kind in ["wrong-output", "nan", "swapped", "wild"] {
        let started = Instant::now();
        workshop.set_models(kind);
        for _ in 0..slow {
            let before = service.health();
            service.run_until("a new worker", PATIENCE, |service| {
                let health = service.health();
                let settled = health.answered + health.refused > before.answered + before.refused;
                settled && health.alive
            });
            again(&mut service, "killed by SIGKILL", 1, true);
        }
        println!("{kind}: {:.1} s", started.elapsed().as_secs_f64());
    }
    workshop.set_models("honest");
    again(&mut service, "killed by SIGKILL", 1, true);
    service.run_until_forecast(PATIENCE);
    service.is_over();
    service.run_until("the last process to be reaped", PATIENCE, |_| Holdings::now() == holdings);
    let grown = resident_mb() - resident;
    println!("{} workers, {grown:.1} MB grown, {holdings:?}", service.health().restarts);
    assert!(grown < 8.0, "this process grew by {grown} MB");
    drop(service);
    assert_eq!((Holdings::now().regions, Holdings::now().children), (0, holdings.children - 1));
}

/// Nanoseconds that a task has been on a processor.
fn on_processor(schedstat: &str) -> u64 {
    let text = std::fs::read_to_string(schedstat).expect("this kernel counts");
    text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number comes first")
}

/// At the default cadence, both shipped models loaded: the worker, and the service's part in keeping it.
#[test]
fn a_worker_at_rest_takes_less_than_half_a_percent_of_a_core() {
    let _alone = alone();
    let workshop = Workshop::new("rest", PROGRAM, "honest");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let config = WorkerConfig { path: Some(workshop.worker()), models: Some(shipped), ..Default::default() };
    let mut supervisor = Supervisor::start(config);
    let limit = Instant::now() + PATIENCE;
    while !supervisor.alive() {
        assert!(Instant::now() < limit, "{:#?}", supervisor.health());
        supervisor.poll(Instant::now());
        std::thread::sleep(Duration::from_millis(5));
    }
    let worker = format!("/proc/{}/schedstat", supervisor.health().pid.expect("the worker runs"));
    let service = "/proc/thread-self/schedstat";
    // Whatever else runs on a machine can only add to what they take: a stretch in which both take little is proof.
    let mut tries = 5;
    loop {
        let (before, started) = ((on_processor(&worker), on_processor(service)), Instant::now());
        while started.elapsed() < Duration::from_secs(4) {
            supervisor.poll(Instant::now());
            std::thread::sleep(Duration::from_millis(250));
        }
        let most = u64::try_from(started.elapsed().as_nanos() / 200).expect("a few seconds");
        let (worker, service) = (on_processor(&worker) - before.0, on_processor(service) - before.1);
        println!("at rest: worker {worker} ns, service {service} ns of {} ns", 200 * most);
        if worker < most && service < most {
            break;
        }
        tries -= 1;
        assert!(tries > 0, "worker {worker} ns, service {service} ns, at most {most} ns");
    }
}

#[test]
fn stops_within_a_second_and_leaves_nothing() {
    let _alone = alone();
    let before = Holdings::now();
    for mode in ["honest", "hangs"] {
        let workshop = Workshop::new("stop", PROGRAM, "honest");
        workshop.set_mode(mode);
        let mut service = Service::start(WorkerConfig { heartbeat_timeout: PATIENCE, ..workshop.config() });
        service
            .run_until("a question", PATIENCE, |service| service.supervisor.alive() && service.health().submitted > 0);
        // Long enough for the question to arrive, which is what it hangs over.
        service.run_for(Duration::from_millis(100));
        let pid = service.health().pid.expect("the worker runs");
        let started = Instant::now();
        service.supervisor.stop();
        let took = started.elapsed();
        assert!(took < Duration::from_secs(1), "{mode}: took {took:?}");
        assert!(mode != "hangs" || took > Duration::from_millis(300), "{mode}: it was given {took:?} to end by itself");
        assert!(is_dead(pid));
        service.step();
        assert!(!service.supervisor.alive());
    }
    let after = Holdings::now();
    assert_eq!((after.children, after.regions), (before.children, before.regions));
}

/// Closing what it holds is a system call too: a sealed worker ends with a farewell, not with a signal.
#[test]
fn a_sealed_worker_told_to_stop_ends_well() {
    let _alone = alone();
    let workshop = Workshop::new("farewell", PROGRAM, "honest");
    let (mut link, mut worker) = workshop.direct();
    let models = Some(workshop.models().display().to_string());
    let boot = Boot { models, cpu_affinity: Vec::new(), nice: 0, idle: false, sandbox: true };
    for order in [Order::Boot(boot), Order::Stop] {
        link.send(order).expect("the link is empty");
    }
    let limit = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = worker.exited() {
            break status;
        }
        assert!(Instant::now() < limit, "it does not stop");
        link.wait(Duration::from_millis(10));
    };
    assert!(status.success(), "{}: {:?}", describe(status), worker.last_words());
}

#[test]
fn off_means_off() {
    let _alone = alone();
    let workshop = Workshop::new("off", PROGRAM, "honest");
    let mut service = Service::start(WorkerConfig { mode: Mode::Off, ..workshop.config() });
    service.run_for(Duration::from_millis(300));
    assert_eq!((service.health().pid, service.health().restarts), (None, 0));
    assert_eq!(service.verdict(), DOWN);
    assert_eq!(service.refusal, Some(Backlog::Off));
}

#[test]
fn a_thread_answers_like_a_process() {
    let _alone = alone();
    let workshop = Workshop::new("thread", PROGRAM, "honest");
    let before = Holdings::now();
    let mut service = Service::start(WorkerConfig { mode: Mode::Thread, ..workshop.config() });
    service.run_until_forecast(PATIENCE);
    let health = service.health();
    assert_eq!((health.pid, health.restarts), (None, 0));
    assert_eq!(health.sandbox.seccomp, Grant::None, "a thread shares the service's rights, and says so");
    assert!(health.models.iter().all(|model| matches!(model, ModelState::Loaded { .. })), "{health:?}");
    assert_eq!(Holdings::now().threads, before.threads + 1);
    drop(service);
    let limit = Instant::now() + Duration::from_secs(1);
    while Holdings::now().threads > before.threads {
        assert!(Instant::now() < limit, "the thread ends with its service");
        std::thread::sleep(Duration::from_millis(5));
    }
}

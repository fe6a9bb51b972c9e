//! What the worker costs: a frame's round trip spinning and woken, an inference, resident memory and processor time.
//!
//! ```text
//! cargo bench -p chronotick-benches --bench worker_link [-- --test]
//! ```
//!
//! The other side is this same executable, started again as the service starts its worker. Medians and 99 % quantiles.

use std::hint::spin_loop;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use chronotick_core::forecast::{Forecast, ForecastRequest, Model, Outlook};
use chronotick_core::units::{Rate, Span, Timestamp};
use chronotick_core::window::{COARSE, FINE, Grid, History, MIDDLE};
use chronotick_host::link::process::{ServiceEnd, WorkerEnd};
use chronotick_host::link::{Link, Order, Reply, thread};
use chronotick_host::os::affinity;
use chronotick_host::os::spawn::{Child, Program};
use chronotick_host::shm::region::Direction;
use chronotick_host::shm::ring::{Consumer, Producer};
use chronotick_host::supervisor::{Affinity, Supervisor, WorkerConfig};
use chronotick_host::worker::inference::Forecasters;

/// Tells the started copy of this program what to do; the supervisor's own workers have no such word.
const ROLE_VARIABLE: &str = "CHRONOTICK_BENCH_ROLE";

fn main() {
    match std::env::var(ROLE_VARIABLE).as_deref() {
        Ok("raw") => return echo_frames(&attach()),
        Ok("spin") => return echo_messages(attach(), false),
        Ok("wake") => return echo_messages(attach(), true),
        _ => {}
    }
    chronotick_host::worker::hook();
    let quick = std::env::args().any(|argument| argument == "--test");
    let scale = if quick { 200 } else { 1 };
    let cores = affinity::current();
    let [mine, theirs] = [cores[0], cores[cores.len() - 1]];
    if affinity::pin(&[mine]).is_err() || mine == theirs {
        println!("only one core: spinning round trips take whole time slices and mean nothing here");
    }
    println!("cores {mine} and {theirs}; times are medians (99 % quantile)\n");

    let mut other = start("raw", theirs);
    let mut producer = Producer::new(other.link.region().ring(Direction::ToWorker));
    let mut consumer = Consumer::new(other.link.region().ring(Direction::FromWorker));
    let mut frame = Vec::new();
    report("ring, 32 bytes, both spin", 200_000 / scale, || {
        producer.push(&[7; 32]).expect("the ring is empty");
        while !consumer.pop(&mut frame).expect("the echo is honest") {
            spin_loop();
        }
    });
    other.child.kill();

    let mut other = start("spin", theirs);
    let request = request(Model::Near);
    report("ping and pong as messages, both spin", 200_000 / scale, || {
        spin_trip(&mut other.link, &Order::Ping(1));
    });
    let question = Order::Forecast(Box::new(request.clone()));
    report("question and forecast (4.2 and 2.3 kB), both spin", 20_000 / scale, || {
        spin_trip(&mut other.link, &question);
    });
    other.child.kill();

    let mut other = start("wake", theirs);
    report("ping and pong, both sleep and are woken (eventfd)", 20_000 / scale, || wake_trip(&mut other.link));
    drop(other);

    let (mut service, mut worker) = thread::pair();
    let echo = std::thread::spawn(move || {
        affinity::pin(&[theirs]).expect("the core exists");
        loop {
            match worker.receive() {
                Ok(Some(Order::Ping(n))) => worker.send(Reply::Pong(n)).expect("there is room for one"),
                Ok(Some(_)) | Err(_) => return,
                Ok(None) => worker.wait(Duration::from_secs(1)),
            }
        }
    });
    report("the same between threads (rtrb, condition variable)", 20_000 / scale, || wake_trip(&mut service));
    service.send(Order::Stop).expect("there is room for one");
    echo.join().expect("the echo ends");

    println!();
    let mut forecasters = Forecasters::load(None);
    for model in Model::ALL {
        let request = self::request(model);
        report_timed(
            &format!("inference, {model:?}, tensors included, processor time"),
            2_000 / scale,
            processor_time,
            || {
                forecasters.answer(&request).expect("the shipped model answers");
            },
        );
    }
    drop(forecasters);

    println!();
    worker_at_rest(theirs, if quick { Duration::from_secs(1) } else { Duration::from_secs(20) });
}

/// A real worker with both shipped models: memory after some work, and processor time at the default heartbeat.
fn worker_at_rest(core: usize, span: Duration) {
    let config = WorkerConfig { cpu_affinity: Affinity::Cores(vec![core]), ..WorkerConfig::default() };
    let started = Instant::now();
    let mut supervisor = Supervisor::start(config);
    let answer = |supervisor: &mut Supervisor, id| {
        for model in Model::ALL {
            supervisor.submit(&ForecastRequest { id, ..request(model) }).expect("there is room for two");
        }
        let mut answers = 0;
        let limit = Instant::now() + Duration::from_secs(8);
        while answers < 2 {
            assert!(Instant::now() < limit, "the worker does not answer: {:#?}", supervisor.health());
            answers += u32::from(supervisor.poll(Instant::now()).is_some());
            std::thread::sleep(Duration::from_micros(200));
        }
    };
    answer(&mut supervisor, 0);
    println!("worker: from nothing to both first forecasts {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
    (1..=50).for_each(|id| answer(&mut supervisor, id));
    let before = supervisor.health();
    let started = Instant::now();
    let mut next = Duration::ZERO;
    while started.elapsed() < span {
        // Far more often than any configuration asks: a question to each model every two seconds.
        if started.elapsed() >= next {
            answer(&mut supervisor, 1000);
            next += Duration::from_secs(2);
        }
        let _ = supervisor.poll(Instant::now());
        std::thread::sleep(Duration::from_millis(50));
    }
    let health = supervisor.health();
    let share = 100.0 * (health.cpu_s - before.cpu_s) / started.elapsed().as_secs_f64();
    println!("worker: resident {:.1} MB after 50 forecasts of each model", health.rss_mb);
    println!("worker: {share:.2} % of a core at one question to each model every 2 s and a heartbeat every second");
    println!("worker: landlock {:?}, seccomp {:?}", health.sandbox.landlock, health.sandbox.seccomp);
}

struct Other {
    link: ServiceEnd,
    child: Child,
}

fn start(role: &str, core: usize) -> Other {
    let (mut link, handover) = ServiceEnd::create().expect("memory can be shared");
    let inherited = vec![handover.region, handover.wake_worker, handover.wake_service];
    let numbers: Vec<String> = inherited.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
    let program = Program {
        path: "/proc/self/exe".into(),
        arguments: vec![core.to_string().into()],
        environment: vec![
            ("CHRONOTICK_WORKER_LINK".into(), numbers.join(",").into()),
            (ROLE_VARIABLE.into(), role.into()),
        ],
        inherited,
        memory_limit: 1 << 32,
        file_limit: 64,
    };
    let child = program.start().expect("this program starts again");
    if role == "raw" {
        while link.region().worker_protocol() == 0 {
            std::thread::yield_now();
        }
    } else {
        spin_trip(&mut link, &Order::Ping(0));
    }
    Other { link, child }
}

fn attach() -> WorkerEnd {
    let core = std::env::args().nth(1).and_then(|core| core.parse().ok()).expect("the core is the argument");
    affinity::pin(&[core]).expect("the core exists");
    chronotick_host::worker::attach().expect("the link was handed over")
}

fn echo_frames(link: &WorkerEnd) {
    let mut consumer = Consumer::new(link.region().ring(Direction::ToWorker));
    let mut producer = Producer::new(link.region().ring(Direction::FromWorker));
    let mut frame = Vec::new();
    loop {
        if consumer.pop(&mut frame).expect("the service is honest") {
            producer.push(&frame).expect("one frame at a time");
        }
        spin_loop();
    }
}

fn echo_messages(mut link: WorkerEnd, sleeps: bool) {
    let rows = (0..64).map(|_| [1e-6; 9]).collect();
    let forecast = Reply::Forecast {
        forecast: Box::new(Forecast { id: 0, model: Model::Near, hash: [0; 8], quantiles: rows }),
        inference_ns: 0,
    };
    loop {
        let reply = match link.receive().expect("the service is honest") {
            Some(Order::Ping(number)) => Reply::Pong(number),
            Some(Order::Stop) => return,
            Some(_) => forecast.clone(),
            None if sleeps => {
                link.wait(Duration::from_secs(1));
                continue;
            }
            None => {
                spin_loop();
                continue;
            }
        };
        if sleeps {
            link.send(reply).expect("one message at a time");
        } else {
            link.send_quietly(&reply).expect("one message at a time");
        }
    }
}

fn spin_trip(link: &mut ServiceEnd, order: &Order) {
    link.send_quietly(order).expect("one message at a time");
    // A sleeping echo is woken by its own time-out in `start`; elsewhere it spins.
    while link.receive().expect("the echo is honest").is_none() {
        spin_loop();
    }
}

fn wake_trip<L: Link<Out = Order, In = Reply>>(link: &mut L) {
    link.send(Order::Ping(1)).expect("one message at a time");
    while link.receive().expect("the echo is honest").is_none() {
        link.wait(Duration::from_secs(1));
    }
}

/// A request with full grids, as after days of measurements.
fn request(model: Model) -> ForecastRequest {
    #[allow(clippy::cast_possible_truncation, reason = "a rate")]
    let wave = |i: usize, step: f64| (1e-8 * (i as f64 * step * 0.05).sin()) as f32;
    let temperature = |i: usize| 25.0 + (i % 17) as f32 * 0.1;
    ForecastRequest {
        id: 0,
        model,
        origin: Timestamp::from_nanos(1_000_000_000),
        step: Span::from_secs(64),
        rate: Rate::from_ppm(12.0),
        offset_deviation: 1e-6,
        rate_deviation: 1e-9,
        outlook: Outlook::default(),
        history: History {
            fine: Grid {
                rate: (0..FINE).map(|i| wave(i, 1.0)).collect(),
                temperature: (0..FINE).map(temperature).collect(),
            },
            middle: Grid {
                rate: (0..MIDDLE).map(|i| wave(i, 4.0)).collect(),
                temperature: (0..MIDDLE).map(temperature).collect(),
            },
            coarse: Grid {
                rate: (0..COARSE).map(|i| wave(i, 16.0)).collect(),
                temperature: (0..COARSE).map(temperature).collect(),
            },
        },
    }
}

fn report(what: &str, count: usize, once: impl FnMut()) {
    let origin = Instant::now();
    report_timed(what, count, || origin.elapsed(), once);
}

/// Of this thread: what others do on the machine does not count.
fn processor_time() -> Duration {
    Duration::try_from(rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime)).unwrap_or_default()
}

fn report_timed(what: &str, count: usize, clock: impl Fn() -> Duration, mut once: impl FnMut()) {
    (0..count.max(10) / 10).for_each(|_| once());
    let mut times: Vec<Duration> = (0..count.max(10))
        .map(|_| {
            let started = clock();
            once();
            clock() - started
        })
        .collect();
    times.sort_unstable();
    let (median, p99) = (times[times.len() / 2], times[(times.len() * 99).div_ceil(100) - 1]);
    println!("{what:<56} {:>9.2} us ({:.2})", median.as_secs_f64() * 1e6, p99.as_secs_f64() * 1e6);
}

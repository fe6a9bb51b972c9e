//! A forecast worker that misbehaves as the file `mode` beside its executable says, for the tests of the supervisor.
//!
//! In mode `honest` it is the real worker. In mode `service` it is a service with a worker of its own, to be killed.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::exit;
use std::time::{Duration, Instant};

use chronotick_host::link::process::WorkerEnd;
use chronotick_host::link::{Boot, Link, Order, Ready, Reply};
use chronotick_host::os::sandbox;
use chronotick_host::shm::region::Direction;
use chronotick_host::shm::ring::{Consumer, Memory, Producer, PushError};
use chronotick_host::supervisor::{Supervisor, WorkerConfig};
use chronotick_host::worker::inference::Forecasters;
use rand::{Rng, SeedableRng};

fn main() {
    let folder: PathBuf = std::env::args_os().next().map_or_else(PathBuf::new, PathBuf::from);
    let folder = folder.parent().unwrap_or(Path::new(".")).to_path_buf();
    let mode = std::fs::read_to_string(folder.join("mode")).unwrap_or_default();
    match mode.trim() {
        "honest" => chronotick_host::worker::hook(),
        "service" => service(&folder),
        "silent" => sleep_forever(),
        "echoes-frames" => echo_frames(),
        fault => misbehave(fault),
    }
}

/// Starts a worker, tells its process id, and lives on.
fn service(folder: &Path) {
    let path = Some(folder.join("honest/worker"));
    let models = Some(folder.join("models"));
    let mut supervisor = Supervisor::start(WorkerConfig { path, models, ..WorkerConfig::default() });
    loop {
        supervisor.poll(Instant::now());
        if supervisor.alive() {
            let pid = supervisor.health().pid.map_or(String::new(), |pid| pid.to_string());
            // Whole or not at all: the test reads it as soon as it is there.
            let _ = std::fs::write(folder.join("pid.part"), pid);
            let _ = std::fs::rename(folder.join("pid.part"), folder.join("pid"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends back every frame, until it is killed.
fn echo_frames() {
    let link = match chronotick_host::worker::attach() {
        Ok(link) => link,
        Err(error) => return eprintln!("{error}"),
    };
    let mut consumer = Consumer::new(link.region().ring(Direction::ToWorker));
    let mut producer = Producer::new(link.region().ring(Direction::FromWorker));
    let mut frame = Vec::new();
    loop {
        match consumer.pop(&mut frame) {
            Ok(true) => {
                while producer.push(&frame) == Err(PushError::Full) {
                    std::thread::yield_now();
                }
            }
            Ok(false) => std::thread::yield_now(),
            Err(error) => return eprintln!("{error}"),
        }
    }
}

fn misbehave(fault: &str) {
    let mut link = match chronotick_host::worker::attach() {
        Ok(link) => link,
        Err(error) => return eprintln!("{error}"),
    };
    let boot = loop {
        match link.receive() {
            Ok(Some(Order::Boot(boot))) => break boot,
            Ok(_) => link.wait(Duration::from_millis(100)),
            Err(error) => return eprintln!("{error}"),
        }
    };
    if fault == "another-version" {
        link.region().announce(99);
    }
    let mut forecasters = set_up(&mut link, &boot, fault);
    loop {
        match link.receive() {
            Ok(Some(Order::Stop)) => return,
            Ok(Some(Order::Ping(number))) => say(&mut link, Reply::Pong(number)),
            Ok(Some(Order::Forecast(request))) => {
                commit(&mut link, fault);
                if let Ok(mut forecast) = forecasters.answer(&request) {
                    if fault == "answers-another-question" {
                        forecast.id ^= 1;
                    }
                    say(&mut link, Reply::Forecast { forecast: Box::new(forecast), inference_ns: 1 });
                }
            }
            Ok(_) => link.wait(Duration::from_millis(100)),
            Err(error) => return eprintln!("{error}"),
        }
    }
}

fn set_up(link: &mut WorkerEnd, boot: &Boot, fault: &str) -> Forecasters {
    let files = Forecasters::read(boot.models.as_deref().map(Path::new));
    let sandbox = if fault.starts_with("sealed-") { sandbox::seal() } else { sandbox::Sandbox::default() };
    let forecasters = Forecasters::from_files(files);
    let models = forecasters.states();
    say(link, Reply::Ready(Box::new(Ready { sandbox, models, ..Ready::default() })));
    forecasters
}

/// Does what it is there for, when the first question comes.
fn commit(link: &mut WorkerEnd, fault: &str) {
    let ring = link.region().ring(Direction::FromWorker);
    // Where the next frame would start; the ring's indices are masked by its number of words.
    let start = usize::try_from(ring.head()).unwrap_or(0) % ring.words();
    match fault {
        "exits-in-mid-frame" => {
            // A header that promises 2,000 bytes, a hundred of them, and the end.
            ring.set_word(start, 2000 | 0xdead_beef << 32);
            ring.set_head(ring.head() + 14);
            exit(0);
        }
        "huge-length" => {
            ring.set_word(start, 0xffff_fff0);
            ring.set_head(ring.head() + 14);
            sleep_forever();
        }
        "garbage" => {
            let seed = u64::from(std::process::id());
            let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            for direction in [Direction::FromWorker, Direction::ToWorker] {
                let ring = link.region().ring(direction);
                (0..ring.words()).for_each(|index| ring.set_word(index, random.next_u64()));
                ring.set_head(random.next_u64());
                ring.set_tail(random.next_u64());
            }
            sleep_forever();
        }
        "floods" => loop {
            // The ring is full most of the time.
            let _ = link.send_quietly(&Reply::Pong(0));
        },
        "hangs" => sleep_forever(),
        "is-late" => std::thread::sleep(Duration::from_millis(400)),
        "leaks" => {
            let mut kept: Vec<Vec<u8>> = Vec::new();
            loop {
                kept.push(vec![1; 1 << 20]);
                black_box(&kept);
            }
        }
        "panics" => {
            #[expect(clippy::panic, reason = "what this worker is for")]
            {
                panic!("the model went astray");
            }
        }
        // What is told once.
        "reports-twice" => say(link, Reply::Ready(Box::default())),
        "sealed-opens-a-file" => drop(std::fs::File::open("/etc/hostname")),
        "sealed-opens-a-socket" => drop(std::net::UdpSocket::bind("127.0.0.1:0")),
        "sealed-runs-a-program" => drop(std::process::Command::new("/bin/true").status()),
        "sealed-starts-a-thread" => drop(std::thread::Builder::new().spawn(|| ())),
        _ => {}
    }
}

/// Sends, and does not care what becomes of it.
fn say(link: &mut WorkerEnd, reply: Reply) {
    let _ = link.send(reply);
}

fn sleep_forever() {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

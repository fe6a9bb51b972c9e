//! A UDP relay between a client and a server that does to packets what networks and attackers do: delay, asymmetry, jitter,
//! loss, duplication, reordering, corruption, replay, and packets out of nowhere. Everything random comes from the seed.

use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What happens to packets. Probabilities are for each packet in each direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Delay of every request.
    pub out: Duration,
    /// Delay of every answer.
    pub back: Duration,
    /// Mean of a further, exponential delay.
    pub jitter: Duration,
    /// Probability that a packet is lost.
    pub loss: f64,
    /// Probability that one byte of it is changed.
    pub corruption: f64,
    /// Probability that it comes twice.
    pub duplication: f64,
    /// Probability that it is held back until long after the next.
    pub reordering: f64,
    /// Probability that an old answer is sent along with an answer.
    pub replay: f64,
    /// Probability that an answer is accompanied by one to no request at all.
    pub stray: f64,
}

/// How often which fault happened.
#[derive(Debug, Default)]
pub struct Done {
    /// Packets that arrived at the relay.
    pub packets: AtomicU64,
    /// Packets dropped.
    pub lost: AtomicU64,
    /// Answers changed on their way to the client.
    pub corrupted_answers: AtomicU64,
    /// Old or doubled answers sent to the client.
    pub replayed: AtomicU64,
    /// Packets invented.
    pub stray: AtomicU64,
}

/// A relay at work.
pub struct Relay {
    /// Where clients send to.
    pub address: SocketAddr,
    /// What it did.
    pub done: Arc<Done>,
    faults: Arc<Mutex<Faults>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// A relay at `here` in front of `server`.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn start(here: SocketAddr, server: SocketAddr, faults: Faults, seed: u64) -> io::Result<Self> {
        let front = UdpSocket::bind(here)?;
        front.set_nonblocking(true)?;
        let address = front.local_addr()?;
        let (done, faults) = (Arc::new(Done::default()), Arc::new(Mutex::new(faults)));
        let over = Arc::new(AtomicBool::new(false));
        let mut path = Path {
            front,
            server,
            backs: HashMap::new(),
            waiting: BinaryHeap::new(),
            answers: VecDeque::new(),
            random: ChaCha8Rng::seed_from_u64(seed),
            sequence: 0,
            done: Arc::clone(&done),
        };
        let (shared, ended) = (Arc::clone(&faults), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let faults = *shared.lock().unwrap_or_else(PoisonError::into_inner);
                path.turn(&faults);
            }
        });
        Ok(Self { address, done, faults, over, thread: Some(thread) })
    }

    /// From now on this happens.
    pub fn set(&self, faults: Faults) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Path {
    front: UdpSocket,
    server: SocketAddr,
    /// One socket towards the server for every client.
    backs: HashMap<SocketAddr, UdpSocket>,
    waiting: BinaryHeap<Waiting>,
    /// Recent answers, to be replayed.
    answers: VecDeque<Vec<u8>>,
    random: ChaCha8Rng,
    sequence: u64,
    done: Arc<Done>,
}

#[derive(PartialEq, Eq)]
struct Waiting {
    due: Instant,
    sequence: u64,
    client: SocketAddr,
    to_server: bool,
    bytes: Vec<u8>,
}

impl Ord for Waiting {
    /// The earliest is the greatest.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.due.cmp(&self.due).then(other.sequence.cmp(&self.sequence))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Path {
    fn turn(&mut self, faults: &Faults) {
        let now = Instant::now();
        let next = self.waiting.peek().map_or(Duration::from_millis(50), |w| w.due.saturating_duration_since(now));
        let wait = next.min(Duration::from_millis(50));
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        let sockets = self.backs.values().chain([&self.front]);
        let mut fds: Vec<_> = sockets.map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
        let _ = poll(&mut fds, Some(&timeout));

        let mut buffer = [0; 2048];
        while let Ok((length, client)) = self.front.recv_from(&mut buffer) {
            self.take(buffer[..length].to_vec(), client, true, faults);
        }
        let mut answers = Vec::new();
        for (client, back) in &self.backs {
            while let Ok(length) = back.recv(&mut buffer) {
                answers.push((buffer[..length].to_vec(), *client));
            }
        }
        for (bytes, client) in answers {
            self.take(bytes, client, false, faults);
        }
        while self.waiting.peek().is_some_and(|waiting| waiting.due <= Instant::now()) {
            let Some(Waiting { client, to_server, bytes, .. }) = self.waiting.pop() else { break };
            // What cannot be sent is lost, as on any network.
            let _ = if to_server {
                self.back(client).and_then(|back| back.send(&bytes))
            } else {
                self.front.send_to(&bytes, client)
            };
        }
    }

    fn back(&mut self, client: SocketAddr) -> io::Result<&UdpSocket> {
        if !self.backs.contains_key(&client) {
            let back = UdpSocket::bind("127.0.0.1:0")?;
            back.connect(self.server)?;
            back.set_nonblocking(true)?;
            self.backs.insert(client, back);
        }
        self.backs.get(&client).ok_or_else(|| io::Error::other("just inserted"))
    }

    fn take(&mut self, bytes: Vec<u8>, client: SocketAddr, to_server: bool, faults: &Faults) {
        self.count(|done| &done.packets);
        let mut delay = if to_server { faults.out } else { faults.back };
        if faults.jitter > Duration::ZERO {
            delay += faults.jitter.mul_f64(-(1.0 - self.random.random::<f64>()).ln());
        }
        let gap = Duration::from_millis(3);
        if !to_server {
            if self.happens(faults.replay)
                && let Some(old) = self.answers.front().cloned()
            {
                self.count(|done| &done.replayed);
                self.post(old, client, false, delay);
            }
            if self.happens(faults.stray) {
                self.count(|done| &done.stray);
                let mut invented = vec![0; 48];
                self.random.fill_bytes(&mut invented);
                invented[0] = 0x24;
                invented[1] = 1;
                self.post(invented, client, false, delay);
            }
            self.answers.push_back(bytes.clone());
            if self.answers.len() > 4 {
                self.answers.pop_front();
            }
        }
        if self.happens(faults.loss) {
            self.count(|done| &done.lost);
            return;
        }
        if self.happens(faults.duplication) {
            if !to_server {
                self.count(|done| &done.replayed);
            }
            self.post(bytes.clone(), client, to_server, delay + gap);
        }
        if self.happens(faults.reordering) {
            delay += Duration::from_millis(250);
        }
        let mut bytes = bytes;
        if self.happens(faults.corruption) && !bytes.is_empty() {
            let at = self.random.random_range(0..bytes.len());
            bytes[at] ^= self.random.random_range(1..=u8::MAX);
            if !to_server {
                self.count(|done| &done.corrupted_answers);
            }
        }
        self.post(bytes, client, to_server, delay);
    }

    fn post(&mut self, bytes: Vec<u8>, client: SocketAddr, to_server: bool, delay: Duration) {
        self.sequence += 1;
        self.waiting.push(Waiting { due: Instant::now() + delay, sequence: self.sequence, client, to_server, bytes });
    }

    fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.random.random::<f64>() < probability
    }

    fn count(&self, which: impl Fn(&Done) -> &AtomicU64) {
        which(&self.done).fetch_add(1, Ordering::Relaxed);
    }
}

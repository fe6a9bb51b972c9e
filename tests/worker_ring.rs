//! Two processes, one ring each way: every frame arrives once, whole and in order.
//!
//! `CHRONOTICK_RING_FRAMES` sets the number of frames (10,000,000 by default), which go there and come back.

use std::time::{Duration, Instant};

use chronotick_host::os::spawn::describe;
use chronotick_host::shm::region::Direction;
use chronotick_host::shm::ring::{Consumer, Producer, PushError};
use chronotick_tests::supervised::{Workshop, frame_content};

const PROGRAM: &str = env!("CARGO_BIN_EXE_faulty-worker");

#[test]
fn ten_million_frames_go_there_and_back() {
    let frames: u64 = std::env::var("CHRONOTICK_RING_FRAMES").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000_000);
    let workshop = Workshop::new("ring", PROGRAM, "honest");
    workshop.set_mode("echoes-frames");
    let (link, mut echo) = workshop.direct();

    let mut producer = Producer::new(link.region().ring(Direction::ToWorker));
    let mut consumer = Consumer::new(link.region().ring(Direction::FromWorker));
    let (mut sent, mut received) = (0, 0);
    let (mut outgoing, mut incoming) = (Vec::new(), Vec::new());
    let mut progress = Instant::now();
    while received < frames {
        let before = (sent, received);
        while sent < frames {
            frame_content(sent, &mut outgoing);
            match producer.push(&outgoing) {
                Ok(()) => sent += 1,
                Err(PushError::Full) => break,
                Err(error) => panic!("frame {sent}: {error}"),
            }
        }
        while consumer.pop(&mut incoming).unwrap_or_else(|error| panic!("frame {received}: {error}")) {
            frame_content(received, &mut outgoing);
            assert_eq!(incoming, outgoing, "frame {received}");
            received += 1;
        }
        if before == (sent, received) {
            let ended = echo.exited().map(|status| (describe(status), echo.last_words()));
            assert_eq!(ended, None, "the other process is still there");
            assert!(progress.elapsed() < Duration::from_secs(20), "no progress at {sent} sent, {received} received");
            std::thread::yield_now();
        } else {
            progress = Instant::now();
        }
    }
    assert_eq!(consumer.pop(&mut incoming), Ok(false), "nothing comes twice");
}

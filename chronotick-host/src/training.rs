//! Training sets for the two models: what our own pipeline asks, beside what then happened.
//!
//! The pipeline runs over a simulated world, or over a recorded trace. Whenever it asks a model, the model's input tensors
//! are written down exactly as the worker would build them, with the target: for each step, the future offset minus the
//! request's line, in units of the contract's normaliser ([`Normaliser::unit`]). No answer is handed back, so nothing of a
//! model ever enters its own training.
//!
//! A shard is two files: `NAME.f32`, one row of little-endian `f32` a window (context, scalars, targets; NaN where the
//! truth ends); `NAME.json`, what it holds. A shard depends on its seeds alone, whatever the number of threads. Whoever trains
//! reads all shards of a folder, so a set is written into a folder that has none.
//!
//! Recorded traces have no truth. Their targets come from hindsight: around each instant a line is fitted to the exchanges
//! on both sides, weighted by their delays. Its error is part of the targets, which makes them noisier but not biased.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use chronotick_core::forecast::{ForecastRequest, Model};
use chronotick_core::pipeline::{Config, Pipeline};
use chronotick_core::sample::Sample;
use chronotick_core::units::{Local, Offset, Span, Timestamp};
use rand::RngExt;

use crate::sim::kinds::{Kind, Split};
use crate::sim::network::ServerParams;
use crate::sim::stream;
use crate::sim::world::{Recording, Truth, World};
use crate::worker::tensors::{self, Inputs, Normaliser, SCALARS};

/// Worlds of one shard.
const WORLDS_PER_SHARD: u64 = 32;
/// Shortest and longest history of a world, in hours: young clocks, and such whose coarse grid is full.
const HOURS: (f64, f64) = (6.0, 60.0);
/// Of every five worlds, so many are drawn with a pattern to learn; in most of the others there is none.
const PATTERNED: u64 = 3;
/// How long the truth goes on after the last exchange, in s: the far model's reach.
const AFTER: f64 = 16_384.0 + 64.0;
/// One in so many questions to each model is kept: consecutive ones share nearly all their history.
const KEPT: [u32; 2] = [3, 4];
/// Step of the hindsight's fits; their half-width, in s; and the fewest exchanges for one.
const HINDSIGHT_STEP: Span = Span::from_secs(16);
const HINDSIGHT: f64 = 512.0;
const HINDSIGHT_SAMPLES: usize = 6;
/// Share of a recorded trace that trains; the rest validates.
const RECORDED_TRAINING: f64 = 0.8;

/// Which part of a training set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// To train on.
    Train,
    /// To stop early by, and to judge.
    Valid,
}

impl Part {
    /// As in the names of shards.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Valid => "valid",
        }
    }
}

/// How many windows were written, by [`Model::index`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// To train on.
    pub train: [u64; 2],
    /// Held out.
    pub valid: [u64; 2],
}

/// Writes `worlds` random training worlds, and a tenth as many held-out ones, into the folder `out`.
///
/// World `i` has the seed `seed * 2^32 + i`, held-out ones count on from 2^31. `done` is called after each world.
///
/// # Errors
/// `DirectoryNotEmpty` when the folder has shards already; else what the operating system says.
pub fn write_simulated(
    worlds: u64,
    seed: u64,
    threads: usize,
    out: &Path,
    done: &(dyn Fn() + Sync),
) -> io::Result<Written> {
    claim(out)?;
    let held_out = worlds.div_ceil(10);
    let shards: Vec<(Part, u64, Range<u64>)> = [(Part::Train, worlds), (Part::Valid, held_out)]
        .into_iter()
        .flat_map(|(part, worlds)| {
            let ranges = (0..worlds.div_ceil(WORLDS_PER_SHARD)).map(move |shard| {
                let first = shard * WORLDS_PER_SHARD;
                (part, shard, first..worlds.min(first + WORLDS_PER_SHARD))
            });
            ranges.collect::<Vec<_>>()
        })
        .collect();
    let next = AtomicU64::new(0);
    let work = || -> io::Result<Written> {
        let mut written = Written::default();
        while let Ok(index) = usize::try_from(next.fetch_add(1, Ordering::Relaxed))
            && let Some((part, shard, range)) = shards.get(index)
        {
            let mut windows = Windows::default();
            for world in range.clone() {
                add_world(&mut windows, *part, (seed << 32) + world);
                done();
            }
            let origin = serde_json::json!({
                "worlds": [range.start, range.end],
                "kind": if *part == Part::Train { "random" } else { "held-out" },
            });
            windows.write(out, *part, &format!("{shard:04}"), seed, &origin, &mut written)?;
        }
        Ok(written)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let mut total = Written::default();
        for thread in threads {
            // A panic of a thread goes on here: there is no set without its shards.
            let written = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            total.add(&written);
        }
        Ok(total)
    })
}

/// Writes the windows of recorded traces into the folder `out`: their first four fifths train, the rest validates.
///
/// # Errors
/// As of [`write_simulated`].
pub fn write_recorded(traces: &[(PathBuf, Vec<Sample>)], out: &Path) -> io::Result<Written> {
    claim(out)?;
    let mut written = Written::default();
    for (index, (path, samples)) in traces.iter().enumerate() {
        let truth = hindsight(samples);
        let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let [mut train, mut valid] = [Windows::default(), Windows::default()];
        if let (Some(first), Some(last)) = (samples.first(), samples.last()) {
            let whole = last.local.since(first.local).as_secs_f64();
            let cut = first.local.saturating_add(Span::from_secs_f64(RECORDED_TRAINING * whole));
            run(samples, [1; 2], 0, |request, line| {
                let windows = if request.origin < cut { &mut train } else { &mut valid };
                windows.push(request, line, |at| {
                    if request.origin < cut && at >= cut { None } else { offset_at(&truth, at) }
                });
            });
        }
        let origin = serde_json::json!({ "trace": name });
        train.write(out, Part::Train, &format!("recorded-{index:02}"), 0, &origin, &mut written)?;
        valid.write(out, Part::Valid, &format!("recorded-{index:02}"), 0, &origin, &mut written)?;
    }
    Ok(written)
}

/// Makes the folder, unless it has shards: those of two sets would be trained on as one.
fn claim(out: &Path) -> io::Result<()> {
    fs::create_dir_all(out)?;
    let shards: Vec<_> = Model::ALL
        .into_iter()
        .flat_map(|model| [Part::Train, Part::Valid].map(|part| format!("{}-{}-", name_of(model), part.name())))
        .collect();
    for entry in fs::read_dir(out)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if shards.iter().any(|shard| name.starts_with(shard.as_str())) {
            let told = format!("{}: has {name} of another set: name another folder, or empty this one", out.display());
            return Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, told));
        }
    }
    Ok(())
}

/// As in the names of shards.
fn name_of(model: Model) -> &'static str {
    match model {
        Model::Near => "near",
        Model::Far => "far",
    }
}

fn add_world(windows: &mut Windows, part: Part, seed: u64) {
    let split = if part == Part::Train { Split::Training } else { Split::HeldOut };
    let kind = if seed % 5 < PATTERNED { Kind::Patterned(split) } else { Kind::Random(split) };
    let seed = if part == Part::Train { seed } else { seed + (1 << 31) };
    let length = stream(seed, "length").random::<f64>();
    let seconds = 3600.0 * HOURS.0 * (HOURS.1 / HOURS.0).powf(length);
    let params = kind.params(seed);
    let Recording { mut samples, mut truth } = World::new(&params, seed).record(seconds + AFTER);
    // Half the difference between the ways out and back shifts every measurement alike. Nothing can see it, so it is no
    // target: the models are to say what the oscillator does.
    let unseen = params.servers.first().map_or(0.0, ServerParams::unseen);
    for instant in &mut truth {
        instant.offset = instant.offset.saturating_add(Span::from_secs_f64(unseen));
    }
    let end = crate::sim::world::START.saturating_add(Span::from_secs_f64(seconds));
    samples.retain(|s| s.local <= end);
    // Which questions are kept differs from world to world.
    let phase = u32::try_from(seed % 12).unwrap_or(0);
    run(&samples, KEPT, phase, |request, line| windows.push(request, line, |at| offset_at(&truth, at)));
}

/// Runs a fresh pipeline over `samples` and shows every kept question with the line's offset at its origin.
fn run(samples: &[Sample], kept: [u32; 2], phase: u32, mut asked: impl FnMut(&ForecastRequest, Offset)) {
    let mut pipeline: Pipeline = Pipeline::new(Config::default());
    let mut asked_before = [phase; 2];
    for sample in samples {
        let now = sample.local;
        if pipeline.poll_timeout().is_some_and(|due| due <= now) {
            pipeline.handle_timeout(now);
        }
        // The samples that the pipeline refuses are part of what it has to live with.
        let _ = pipeline.handle_sample(now, sample);
        while let Some(request) = pipeline.poll_request(now) {
            let slot = request.model.index();
            asked_before[slot] = (asked_before[slot] + 1) % kept[slot];
            if asked_before[slot] == 0
                && let Some(line) = pipeline.line_offset()
            {
                asked(&request, line);
            }
        }
    }
}

/// The windows of one shard, by [`Model::index`].
#[derive(Debug, Default)]
struct Windows {
    rows: [Vec<f32>; 2],
    count: [u64; 2],
}

impl Windows {
    /// Appends the question and what then happened: `truth` gives the offset at an instant, while it is known.
    #[expect(clippy::cast_possible_truncation, reason = "the models' numbers are f32")]
    fn push(&mut self, request: &ForecastRequest, line: Offset, truth: impl Fn(Timestamp<Local>) -> Option<Offset>) {
        let Inputs { context, scalars, normaliser } = tensors::inputs(request);
        let targets = targets(request, line, &normaliser, truth);
        let slot = request.model.index();
        self.rows[slot].extend_from_slice(&context);
        self.rows[slot].extend_from_slice(&scalars);
        self.rows[slot].extend(targets.map(|t| t as f32));
        self.count[slot] += 1;
    }

    /// Writes the shards of both models; a model without a window gets none.
    fn write(
        &self,
        out: &Path,
        part: Part,
        name: &str,
        seed: u64,
        origin: &serde_json::Value,
        written: &mut Written,
    ) -> io::Result<()> {
        for model in Model::ALL {
            let slot = model.index();
            if self.count[slot] == 0 {
                continue;
            }
            let base = out.join(format!("{}-{}-{name}", name_of(model), part.name()));
            write_floats(&base.with_extension("f32"), &self.rows[slot])?;
            let [channels, cells] = tensors::context_shape(model);
            let header = serde_json::json!({
                "model": name_of(model),
                "split": part.name(),
                "windows": self.count[slot],
                "dtype": "<f4",
                "row": { "context": [channels, cells], "scalars": [SCALARS], "target": [model.steps()] },
                "step_s": Config::default().forecast_step.as_secs_f64(),
                "seed": seed,
                "origin": origin,
            });
            fs::write(base.with_extension("json"), format!("{header:#}\n"))?;
            match part {
                Part::Train => written.train[slot] += self.count[slot],
                Part::Valid => written.valid[slot] += self.count[slot],
            }
        }
        Ok(())
    }
}

impl Written {
    fn add(&mut self, other: &Self) {
        for slot in 0..2 {
            self.train[slot] += other.train[slot];
            self.valid[slot] += other.valid[slot];
        }
    }
}

/// In units of the normaliser, one a step; NaN where the truth is not known.
fn targets(
    request: &ForecastRequest,
    line: Offset,
    normaliser: &Normaliser,
    truth: impl Fn(Timestamp<Local>) -> Option<Offset>,
) -> impl Iterator<Item = f64> {
    (0..request.model.steps()).map(move |row| {
        let h = normaliser.horizon(row);
        let at = request.origin.saturating_add(Span::from_secs_f64(h));
        truth(at).map_or(f64::NAN, |truth| {
            (truth.since(line).as_secs_f64() - request.rate.value() * h) / normaliser.unit(row)
        })
    })
}

/// The offset at `at`, linear between the instants of `truth`, unless they are further apart than the hindsight reaches.
fn offset_at(truth: &[Truth], at: Timestamp<Local>) -> Option<Offset> {
    let next = truth.partition_point(|t| t.local < at);
    let after = truth.get(next)?;
    if after.local == at {
        return Some(after.offset);
    }
    let before = &truth[next.checked_sub(1)?];
    let gap = after.local.since(before.local).as_secs_f64();
    let share = at.since(before.local).as_secs_f64() / gap;
    let moved = after.offset.since(before.offset).as_secs_f64() * share;
    (gap <= 2.0 * HINDSIGHT).then(|| before.offset.saturating_add(Span::from_secs_f64(moved)))
}

/// The offset every 16 s as the exchanges on both sides tell it; instants with too few of them are left out.
fn hindsight(samples: &[Sample]) -> Vec<Truth> {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Vec::new() };
    let (mut from, mut until) = (0, 0);
    let mut truth = Vec::new();
    let mut at = first.local;
    while at <= last.local {
        let near = |s: &Sample| s.local.since(at).as_secs_f64();
        while from < samples.len() && near(&samples[from]) < -HINDSIGHT {
            from += 1;
        }
        until = until.max(from);
        while until < samples.len() && near(&samples[until]) <= HINDSIGHT {
            until += 1;
        }
        if let Some((offset, rate)) = line_through(&samples[from..until], at) {
            truth.push(Truth { local: at, offset, rate });
        }
        // Nothing is near throughout a gap, however long: on to its end, in whole steps.
        let gap = match samples.get(until) {
            Some(next) if from == until => {
                let gap = next.local.since(at).saturating_sub(Span::from_secs_f64(HINDSIGHT));
                gap.as_nanos() / HINDSIGHT_STEP.as_nanos()
            }
            _ => 0,
        };
        let next = at.saturating_add(HINDSIGHT_STEP.saturating_mul(gap.max(1)));
        // At the end of time there is no further step.
        if next == at {
            break;
        }
        at = next;
    }
    truth
}

/// Offset at `at` and slope of the line through `samples`, each weighted by (1 + excess delay / median excess)^-4.
fn line_through(samples: &[Sample], at: Timestamp<Local>) -> Option<(Offset, f64)> {
    if samples.len() < HINDSIGHT_SAMPLES {
        return None;
    }
    let mut delays: Vec<f64> = samples.iter().map(|s| s.delay.as_secs_f64()).collect();
    delays.sort_by(f64::total_cmp);
    let least = delays[0];
    let spread = (delays[delays.len() / 2] - least).max(1e-7);
    let base = samples[0].offset;
    let mut sums = [0.0; 5];
    for sample in samples {
        let w = (1.0 + (sample.delay.as_secs_f64() - least) / spread).powi(-4);
        let t = sample.local.since(at).as_secs_f64();
        let x = sample.offset.since(base).as_secs_f64();
        for (sum, value) in sums.iter_mut().zip([w, w * t, w * x, w * t * t, w * t * x]) {
            *sum += value;
        }
    }
    let [w, t, x, tt, tx] = sums;
    let spread = tt - t * t / w;
    // An instant outside its exchanges would be extrapolated, which is what the models are to learn, not to be given.
    let inside = samples[0].local <= at && samples[samples.len() - 1].local >= at;
    let slope = if spread > 0.0 { (tx - t * x / w) / spread } else { return None };
    inside.then(|| (base.saturating_add(Span::from_secs_f64((x - slope * t) / w)), slope))
}

fn write_floats(path: &Path, values: &[f32]) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, fs::File::create(path)?);
    for value in values {
        out.write_all(&value.to_le_bytes())?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_what_happened_beyond_the_line() {
        // The offset bends by 1e-12 h^2 beyond a line of 1e-6 s/s.
        let truth = |at: Timestamp<Local>| {
            let h = at.since(Timestamp::from_nanos(5_000_000_000)).as_secs_f64();
            (h < 3000.0).then(|| Offset::from_secs_f64(0.25 + 1e-6 * h + 1e-9 * h * h))
        };
        let request = ForecastRequest {
            id: 1,
            model: Model::Near,
            origin: Timestamp::from_nanos(5_000_000_000),
            step: Span::from_secs(64),
            rate: chronotick_core::Rate::new(1e-6),
            offset_deviation: 3e-6,
            rate_deviation: 1e-8,
            outlook: chronotick_core::forecast::Outlook::default(),
            history: chronotick_core::window::History { fine: grid(), middle: grid(), coarse: grid() },
        };
        let normaliser = tensors::inputs(&request).normaliser;
        let made: Vec<f64> = targets(&request, Offset::from_secs_f64(0.25), &normaliser, truth).collect();
        for (row, value) in made.iter().enumerate() {
            let h = 64.0 * (row as f64 + 1.0);
            if h < 3000.0 {
                let expected = 1e-9 * h * h / (1e-8 * h).hypot(3e-6);
                assert!((value / expected - 1.0).abs() < 1e-3, "row {row}: {value} {expected}");
            } else {
                assert!(value.is_nan());
            }
        }
    }

    fn grid<const N: usize>() -> chronotick_core::window::Grid<N> {
        chronotick_core::window::Grid {
            rate: [1e-8; N].into_iter().collect(),
            temperature: [f32::NAN; N].into_iter().collect(),
        }
    }

    #[test]
    fn hindsight_finds_the_clock_through_the_noise() {
        let seed = 4;
        let recording = World::new(&Kind::RoomLan.params(seed), seed).record(20_000.0);
        let found = hindsight(&recording.samples);
        assert!(found.len() > 1000);
        let mut worst: f64 = 0.0;
        for truth in &found[40..found.len() - 40] {
            let error = recording.offset_since(truth.offset, truth.local).expect("inside");
            worst = worst.max(error.abs());
        }
        assert!(worst < 2e-5, "{worst:e}");
    }

    #[test]
    fn hindsight_ends_with_time_itself_and_goes_over_gaps_on_its_grid() {
        let recorded = World::new(&Kind::RoomLan.params(4), 4).record(4_000.0).samples;
        let first = recorded[0].local;
        let starting = |at: i64| {
            let moved = |s: &Sample| Timestamp::from_nanos(at.saturating_add(s.local.since(first).as_nanos()));
            recorded.iter().map(|s| Sample { local: moved(s), ..*s }).collect::<Vec<_>>()
        };
        let last = recorded.len() - 1;
        let whole = recorded[last].local.since(first).as_nanos();
        let [early, late] = [i64::MIN, i64::MAX - whole].map(starting);
        assert_eq!(late[last].local, Timestamp::from_nanos(i64::MAX));
        let found = hindsight(&[early.clone(), late].concat());
        assert!(found.len() > 2 * (hindsight(&early).len() - 2));
        let grid = i128::from(HINDSIGHT_STEP.as_nanos());
        let off = |t: &Truth| (i128::from(t.local.as_nanos()) - i128::from(i64::MIN)) % grid;
        assert!(found.iter().all(|t| off(t) == 0 || t.local.as_nanos() == i64::MAX));
        let two = [early[0], Sample { local: Timestamp::from_nanos(i64::MAX), ..early[0] }];
        assert!(hindsight(&two).is_empty());
    }

    #[test]
    fn a_shard_depends_on_its_seeds_alone() {
        let folder = std::env::temp_dir().join(format!("chronotick-training-{}", std::process::id()));
        let read = |threads| {
            let _ = fs::remove_dir_all(&folder);
            let written = write_simulated(2, 9, threads, &folder, &|| ()).expect("the temporary folder is writable");
            let floats = fs::read(folder.join("near-train-0000.f32")).expect("written");
            (written, floats)
        };
        let (once, again) = (read(1), read(2));
        let mixed = write_recorded(&[], &folder).expect_err("the folder is taken");
        assert_eq!(mixed.kind(), io::ErrorKind::DirectoryNotEmpty);
        assert!(mixed.to_string().contains("name another folder"), "{mixed}");
        fs::remove_dir_all(&folder).expect("made above");
        assert!(once.0.train.iter().all(|&n| n > 0));
        let row = 4 * (2 * 256 + SCALARS + 64) as u64;
        assert_eq!(once.1.len() as u64, once.0.train[0] * row);
        assert!(once == again);
    }
}

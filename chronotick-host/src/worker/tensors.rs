//! What a model reads and what its answer means: the one place where requests become tensors.
//!
//! The worker and the writer of training sets both call these functions, so a model is trained on exactly what it will be
//! given. Everything is `f32`, batch 1, row-major, and relative to the request's base rate:
//!
//! | input | near | far |
//! |---|---|---|
//! | `context` | `[1, 2, 256]`: fine rate / scale, mask | `[1, 9, 128]`: rate / scale, temperature, mask of fine (its last 128), middle, coarse |
//! | `scalars` | `[1, 14]`, or the first 4 | `[1, 14]`, or the first 4 |
//! | output `quantiles` | `[1, 64, 9]` | `[1, 16, 9]` |
//!
//! * `scale` is the root mean square of the valid relative rates among the cells read, at least [`MIN_SCALE`].
//! * A missing cell is 0 with mask 0. A value that is not finite counts as missing.
//! * Temperatures are relative to the newest valid one among the cells read, in degrees Celsius.
//! * `scalars` = ln(rate deviation / scale) and ln(offset deviation / (scale x step)), both clipped to +-[`MAX_LOG`]; the
//!   share of valid rates; 1 if any temperature is valid, else 0; then what the classical experts expect at each of
//!   [`OUTLOOK_STEPS`], in an output's units there, clipped to +-[`MAX_UNITS`]; then ln(its claimed deviation / unit), clipped to
//!   +-[`MAX_LOG`].
//! * An output is in units of [`Normaliser::unit`]: `sqrt((scale x h)^2 + offset deviation^2)` seconds, where `h` is the
//!   row's horizon in seconds. Nothing is sorted and nothing is repaired here: the core checks answers.

use chronotick_core::forecast::{ForecastRequest, LEVELS, MAX_STEPS, Model, OUTLOOK_STEPS};
use chronotick_core::window::{COARSE, FINE, MIDDLE};

/// Smallest scale of the rates, in s/s: an oscillator without any measured movement is not blown up to noise.
pub const MIN_SCALE: f64 = 1e-12;
/// Limit of the magnitude of the logarithms among the scalars.
pub const MAX_LOG: f64 = 10.0;
/// Limit of the magnitude of what is expected, in an output's units.
pub const MAX_UNITS: f64 = 16.0;
/// Scalars of the history. A model that does not care what the classical experts expect takes these alone.
pub const HISTORY_SCALARS: usize = 4;
/// Scalars beside the context: those of the history, and two for each step of the outlook.
pub const SCALARS: usize = HISTORY_SCALARS + 2 * OUTLOOK_STEPS.len();
/// Cells of each grid that the far model reads.
const FAR_CELLS: usize = 128;

const _: () = assert!(FINE >= FAR_CELLS && MIDDLE == FAR_CELLS && COARSE == FAR_CELLS);

/// Channels and cells of a model's `context`: the tensor is `[1, channels, cells]`.
pub const fn context_shape(model: Model) -> [usize; 2] {
    match model {
        Model::Near => [2, FINE],
        Model::Far => [9, FAR_CELLS],
    }
}

/// Rows and columns of a model's `quantiles`: the tensor is `[1, steps, levels]`.
pub const fn output_shape(model: Model) -> [usize; 2] {
    [model.steps(), LEVELS.len()]
}

/// A request as a model's inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs {
    /// `[1, channels, cells]` of [`context_shape`], row-major.
    pub context: Vec<f32>,
    /// `[1, 14]`.
    pub scalars: [f32; SCALARS],
    /// How to read the output.
    pub normaliser: Normaliser,
}

/// The units of a model's output for one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normaliser {
    /// Root mean square of the relative rates, in s/s.
    pub scale: f64,
    /// Standard deviation of the line's offset at the origin, in s; a value that is not finite or negative is taken as 0.
    pub offset_deviation: f64,
    /// Time from the origin to the first row and between rows, in s.
    pub row_step: f64,
}

impl Normaliser {
    /// The horizon of `row`, in s: the first row is one step away.
    pub fn horizon(&self, row: usize) -> f64 {
        (row as f64 + 1.0) * self.row_step
    }

    /// How many seconds an output of 1 means in `row`.
    pub fn unit(&self, row: usize) -> f64 {
        self.unit_at(self.horizon(row))
    }

    /// The same, `horizon` s after the origin.
    pub fn unit_at(&self, horizon: f64) -> f64 {
        (self.scale * horizon).hypot(self.offset_deviation)
    }
}

/// The inputs for the model that the request names.
pub fn inputs(request: &ForecastRequest) -> Inputs {
    match request.model {
        Model::Near => near(request),
        Model::Far => far(request),
    }
}

/// A model's output as the forecast's rows: quantiles in seconds beyond the request's line.
///
/// `output` is `[1, steps, levels]`, row-major. `None` if it holds another number of values than the model's
/// [`output_shape`]. Values that are not finite pass through: the core refuses them.
#[expect(clippy::cast_possible_truncation, reason = "quantiles travel as f32; the rounding is 6e-8 of the value")]
pub fn quantiles(
    model: Model,
    normaliser: &Normaliser,
    output: &[f32],
) -> Option<heapless::Vec<[f32; LEVELS.len()], MAX_STEPS>> {
    let [steps, levels] = output_shape(model);
    let (rows, rest) = output.as_chunks::<{ LEVELS.len() }>();
    if output.len() != steps * levels || !rest.is_empty() {
        return None;
    }
    let in_seconds = |(row, values): (usize, &[f32; LEVELS.len()])| {
        let unit = normaliser.unit(row);
        values.map(|value| (f64::from(value) * unit) as f32)
    };
    Some(rows.iter().enumerate().map(in_seconds).collect())
}

fn near(request: &ForecastRequest) -> Inputs {
    let fine = &request.history.fine;
    let rates = [last_cells::<FINE>(&fine.rate)];
    let temperatures = [last_cells::<FINE>(&fine.temperature)];
    let (scale, scalars) = summary(request, &rates, &temperatures);
    let mut context = Vec::with_capacity(2 * FINE);
    context.extend(relative_rates(&rates[0], scale));
    context.extend(mask(&rates[0]));
    Inputs { context, scalars, normaliser: normaliser(request, scale) }
}

fn far(request: &ForecastRequest) -> Inputs {
    let history = &request.history;
    let rates: [[f32; FAR_CELLS]; 3] =
        [last_cells(&history.fine.rate), last_cells(&history.middle.rate), last_cells(&history.coarse.rate)];
    let temperatures: [[f32; FAR_CELLS]; 3] = [
        last_cells(&history.fine.temperature),
        last_cells(&history.middle.temperature),
        last_cells(&history.coarse.temperature),
    ];
    let (scale, scalars) = summary(request, &rates, &temperatures);
    // The finest grid that has one holds the newest.
    let newest = temperatures.iter().find_map(|grid| grid.iter().rev().copied().find(|t| t.is_finite()));
    let mut context = Vec::with_capacity(9 * FAR_CELLS);
    for (rate, temperature) in rates.iter().zip(&temperatures) {
        context.extend(relative_rates(rate, scale));
        context.extend(
            temperature.iter().map(|&t| newest.map_or(0.0, |newest| if t.is_finite() { t - newest } else { 0.0 })),
        );
        context.extend(mask(rate));
    }
    Inputs { context, scalars, normaliser: normaliser(request, scale) }
}

/// The newest `N` cells, aligned at the end; what the grid lacks is NaN in front.
fn last_cells<const N: usize>(grid: &[f32]) -> [f32; N] {
    let mut cells = [f32::NAN; N];
    let kept = grid.len().min(N);
    cells[N - kept..].copy_from_slice(&grid[grid.len() - kept..]);
    cells
}

#[expect(clippy::cast_possible_truncation, reason = "model inputs are f32")]
fn relative_rates(rates: &[f32], scale: f64) -> impl Iterator<Item = f32> {
    rates.iter().map(move |&rate| if rate.is_finite() { (f64::from(rate) / scale) as f32 } else { 0.0 })
}

fn mask(rates: &[f32]) -> impl Iterator<Item = f32> {
    rates.iter().map(|rate| f32::from(u8::from(rate.is_finite())))
}

/// The scale of the cells read and the four scalars.
#[expect(clippy::cast_possible_truncation, reason = "model inputs are f32")]
fn summary<const N: usize, const GRIDS: usize>(
    request: &ForecastRequest,
    rates: &[[f32; N]; GRIDS],
    temperatures: &[[f32; N]; GRIDS],
) -> (f64, [f32; SCALARS]) {
    let valid = || rates.as_flattened().iter().filter(|rate| rate.is_finite()).map(|&rate| f64::from(rate));
    let count = valid().count();
    let mean_square = valid().map(|rate| rate * rate).sum::<f64>() / (count.max(1) as f64);
    let scale = mean_square.sqrt().max(MIN_SCALE);
    let share = count as f64 / (N * GRIDS) as f64;
    let any_temperature = temperatures.as_flattened().iter().any(|t| t.is_finite());
    let mut scalars = [0.0; SCALARS];
    let (own, outlook) = scalars.split_at_mut(HISTORY_SCALARS);
    own.copy_from_slice(&[
        log_ratio(f64::from(request.rate_deviation), scale),
        log_ratio(f64::from(request.offset_deviation), scale * request.step.as_secs_f64()),
        share as f32,
        f32::from(u8::from(any_temperature)),
    ]);
    let units = normaliser(request, scale);
    let (expected, claimed) = outlook.split_at_mut(OUTLOOK_STEPS.len());
    for (i, steps) in OUTLOOK_STEPS.into_iter().enumerate() {
        let unit = units.unit_at(f64::from(steps) * request.step.as_secs_f64());
        let away = f64::from(request.outlook.displacement[i]) / unit;
        expected[i] = if away.is_finite() { away.clamp(-MAX_UNITS, MAX_UNITS) as f32 } else { 0.0 };
        claimed[i] = log_ratio(f64::from(request.outlook.deviation[i]), unit);
    }
    (scale, scalars)
}

/// ln(deviation / unit), clipped; a deviation that is not a number says that nothing is known, which is the upper end.
#[expect(clippy::cast_possible_truncation, reason = "model inputs are f32")]
fn log_ratio(deviation: f64, unit: f64) -> f32 {
    let log = (deviation.max(0.0) / unit).ln();
    if deviation.is_nan() || log.is_nan() { MAX_LOG as f32 } else { log.clamp(-MAX_LOG, MAX_LOG) as f32 }
}

fn normaliser(request: &ForecastRequest, scale: f64) -> Normaliser {
    let deviation = f64::from(request.offset_deviation);
    Normaliser {
        scale,
        offset_deviation: if deviation.is_finite() { deviation.max(0.0) } else { 0.0 },
        row_step: request.step.as_secs_f64() * request.model.stride() as f64,
    }
}

#[cfg(test)]
mod tests {
    use chronotick_core::forecast::Outlook;
    use chronotick_core::units::{Rate, Span, Timestamp};
    use chronotick_core::window::{Grid, History};

    use super::*;

    fn grid<const N: usize>(rate: impl Fn(usize) -> f32, temperature: impl Fn(usize) -> f32) -> Grid<N> {
        Grid { rate: (0..N).map(rate).collect(), temperature: (0..N).map(temperature).collect() }
    }

    fn request(model: Model, history: History) -> ForecastRequest {
        ForecastRequest {
            id: 7,
            model,
            origin: Timestamp::from_nanos(1),
            step: Span::from_secs(64),
            rate: Rate::ZERO,
            offset_deviation: 1e-6,
            rate_deviation: 1e-9,
            outlook: Outlook::default(),
            history,
        }
    }

    fn constant(rate: f32, temperature: f32) -> History {
        History {
            fine: grid(|_| rate, |_| temperature),
            middle: grid(|_| rate, |_| temperature),
            coarse: grid(|_| rate, |_| temperature),
        }
    }

    #[test]
    fn a_constant_rate_becomes_ones() {
        let made = inputs(&request(Model::Near, constant(-2e-9, f32::NAN)));
        assert!((made.normaliser.scale - 2e-9).abs() < 1e-15);
        assert!(made.context[..256].iter().all(|&v| (v + 1.0).abs() < 1e-6));
        assert!(made.context[256..].iter().all(|&v| v == 1.0));
        assert!((made.scalars[0] - (0.5f32).ln()).abs() < 1e-6);
        assert!((f64::from(made.scalars[1]) - (1e-6 / (2e-9 * 64.0f64)).ln()).abs() < 1e-5);
        assert_eq!(made.scalars[2..4], [1.0, 0.0]);
    }

    #[test]
    fn missing_cells_are_zero_and_masked_and_do_not_count() {
        let mut history = constant(1e-8, f32::NAN);
        for cell in [0, 100, 255] {
            history.fine.rate[cell] = f32::NAN;
        }
        history.fine.rate[3] = f32::INFINITY;
        let made = inputs(&request(Model::Near, history));
        for cell in [0, 3, 100, 255] {
            assert_eq!((made.context[cell], made.context[256 + cell]), (0.0, 0.0));
        }
        assert!((made.normaliser.scale - 1e-8).abs() < 1e-14);
        assert_eq!(made.scalars[2], 252.0 / 256.0);
    }

    #[test]
    fn the_far_context_holds_three_grids_and_the_newest_fine_cells() {
        let history = History {
            fine: grid(|i| if i < 128 { 1.0 } else { 1e-9 }, |i| i as f32),
            middle: grid(|_| 2e-9, |_| f32::NAN),
            coarse: grid(|_| f32::NAN, |_| 20.0),
        };
        let made = inputs(&request(Model::Far, history));
        let scale = ((1e-18f64 + 4e-18) / 2.0).sqrt();
        assert!((made.normaliser.scale / scale - 1.0).abs() < 1e-6, "the fine cells that are not read do not count");
        let channel = |c: usize| &made.context[c * 128..(c + 1) * 128];
        assert!((f64::from(channel(0)[0]) - 1e-9 / scale).abs() < 1e-6);
        assert_eq!((channel(1)[0], channel(1)[127]), (-127.0, 0.0));
        assert!(channel(2).iter().all(|&v| v == 1.0));
        assert!((f64::from(channel(3)[5]) - 2e-9 / scale).abs() < 1e-6);
        assert!(channel(4).iter().all(|&v| v == 0.0));
        assert!(channel(6).iter().all(|&v| v == 0.0) && channel(8).iter().all(|&v| v == 0.0));
        assert!(channel(7).iter().all(|&v| v == 20.0 - 255.0));
        assert_eq!(made.scalars[2..4], [2.0 / 3.0, 1.0]);
    }

    #[test]
    fn the_outlook_is_in_the_units_of_the_answer() {
        let mut asked = request(Model::Far, constant(1e-9, f32::NAN));
        asked.outlook.displacement = [2e-6, -3e-6, 1e-3, f32::NAN, 0.0];
        asked.outlook.deviation = [1e-6; 5];
        let made = inputs(&asked);
        let unit = |steps: f64| (1e-9 * 64.0 * steps).hypot(1e-6);
        assert!((f64::from(made.scalars[4]) - 2e-6 / unit(1.0)).abs() < 1e-5);
        assert!((f64::from(made.scalars[5]) + 3e-6 / unit(4.0)).abs() < 1e-5);
        assert_eq!(made.scalars[6..8], [16.0, 0.0], "limited, and what is not a number is nothing");
        assert!((f64::from(made.scalars[13]) - (1e-6 / unit(225.0)).ln()).abs() < 1e-5);
    }

    #[test]
    fn no_history_and_no_knowledge_still_give_finite_inputs() {
        for model in Model::ALL {
            let empty = History {
                fine: Grid { rate: heapless::Vec::new(), temperature: heapless::Vec::new() },
                middle: Grid { rate: heapless::Vec::new(), temperature: heapless::Vec::new() },
                coarse: Grid { rate: heapless::Vec::new(), temperature: heapless::Vec::new() },
            };
            for deviation in [0.0, -1.0, f32::NAN, f32::INFINITY, f32::MAX] {
                for step in [0, 1, i64::MAX] {
                    let mut asked = request(model, empty.clone());
                    (asked.rate_deviation, asked.offset_deviation) = (deviation, deviation);
                    asked.outlook = Outlook { displacement: [deviation; 5], deviation: [deviation; 5] };
                    asked.step = Span::from_nanos(step);
                    let made = inputs(&asked);
                    let [channels, cells] = context_shape(model);
                    assert_eq!(made.context.len(), channels * cells);
                    assert!(made.context.iter().chain(&made.scalars).all(|v| v.is_finite()), "{asked:?}");
                    assert!(made.normaliser.unit(0).is_finite());
                }
            }
        }
    }

    #[test]
    fn short_grids_are_aligned_at_the_origin() {
        let mut history = constant(1e-9, f32::NAN);
        history.fine.rate.truncate(10);
        let made = inputs(&request(Model::Near, history));
        assert!(made.context[256..256 + 246].iter().all(|&v| v == 0.0));
        assert!(made.context[256 + 246..].iter().all(|&v| v == 1.0));
    }

    #[test]
    fn outputs_are_scaled_by_horizon_and_offset_deviation() {
        let made = inputs(&request(Model::Far, constant(1e-9, f32::NAN)));
        let output = vec![2.0f32; 16 * 9];
        let rows = quantiles(Model::Far, &made.normaliser, &output).unwrap();
        let h = 16.0 * 64.0 * 16.0;
        let expected = 2.0 * (1e-9f64 * h).hypot(1e-6);
        assert!((f64::from(rows[15][4]) / expected - 1.0).abs() < 1e-6);
        assert_eq!(rows.len(), 16);
        assert!(quantiles(Model::Near, &made.normaliser, &output).is_none());
        assert!(quantiles(Model::Far, &made.normaliser, &output[..143]).is_none());
    }
}

//! A worker's answers, right and wrong in every way that a worker can be.

use chronotick_core::forecast::{Forecast, ForecastRequest};
use chronotick_core::units::Span;

/// What the worker does with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// There is no worker.
    None,
    /// Never answers.
    Silent,
    /// Answers an hour late.
    Late,
    /// Answers twice.
    Twice,
    /// Not numbers.
    NotANumber,
    /// Quantiles that descend.
    Disordered,
    /// Too few rows.
    Short,
    /// Somebody else's question.
    WrongId,
    /// The line goes on, surely.
    Zero,
    /// The line goes on, most uncertainly.
    Vague,
    /// Always the same drift, as fast as is plausible.
    Drift,
    /// Back and forth, surely.
    Alternating,
    /// Beyond everything.
    Huge,
}

impl Answers {
    /// All that answer or pretend to.
    pub const ALL: [Self; 12] = [
        Self::Silent,
        Self::Late,
        Self::Twice,
        Self::NotANumber,
        Self::Disordered,
        Self::Short,
        Self::WrongId,
        Self::Zero,
        Self::Vague,
        Self::Drift,
        Self::Alternating,
        Self::Huge,
    ];

    /// Whether the core has to refuse answer number `copy` to a question.
    pub fn is_nonsense(self, copy: usize) -> bool {
        match self {
            Self::Late | Self::NotANumber | Self::Disordered | Self::Short | Self::WrongId | Self::Huge => true,
            Self::Twice => copy > 0,
            Self::None | Self::Silent | Self::Zero | Self::Vague | Self::Drift | Self::Alternating => false,
        }
    }

    /// The answers to `request`, each with how long it takes.
    pub fn to(self, request: &ForecastRequest) -> Vec<(Span, Forecast)> {
        let step = request.step.as_secs_f64() * request.model.stride() as f64;
        let sign = if request.id.is_multiple_of(2) { 1.0 } else { -1.0 };
        let row = |row: usize| -> [f32; 9] {
            #[expect(clippy::cast_possible_truncation, reason = "forecasts are f32")]
            let h = ((row as f64 + 1.0) * step) as f32;
            let spread = |centre: f32, width: f32| std::array::from_fn(|i| centre + width * (i as f32 - 4.0));
            match self {
                Self::NotANumber => [f32::NAN; 9],
                Self::Disordered => std::array::from_fn(|i| -(i as f32) * 1e-9),
                Self::Vague => spread(0.0, 1e-5 * h),
                Self::Drift => spread(2e-5 * h, 1e-9),
                Self::Alternating => spread(sign * 1e-6 * h, 1e-9),
                Self::Huge => spread(1e30, 1e28),
                _ => spread(0.0, 1e-10),
            }
        };
        let rows = if self == Self::Short { 3 } else { request.model.steps() };
        let id = if self == Self::WrongId { request.id.wrapping_add(77) } else { request.id };
        let forecast =
            Forecast { id, model: request.model, hash: *b"chaotic!", quantiles: (0..rows).map(row).collect() };
        let soon = Span::from_millis(20);
        match self {
            Self::None | Self::Silent => Vec::new(),
            Self::Late => vec![(Span::from_secs(3600), forecast)],
            Self::Twice => vec![(soon, forecast.clone()), (Span::from_secs(5), forecast)],
            _ => vec![(soon, forecast)],
        }
    }
}

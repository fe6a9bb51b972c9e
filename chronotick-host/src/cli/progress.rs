//! How far long work has come: a bar on a terminal, nothing in pipes.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar, or a spinner, on standard error; hidden when that is no terminal.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Work of known length.
    pub(crate) fn bar(what: &'static str, length: u64) -> Self {
        Self::of(ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr_with_hz(8)), what, {
            "{msg} [{bar:32}] {percent:>3} %  {elapsed} of about {duration}"
        })
    }

    /// Work whose end is not known.
    pub(crate) fn spinner(what: &'static str) -> Self {
        let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(8));
        spinner.enable_steady_tick(Duration::from_millis(125));
        Self::of(spinner, what, "{spinner} {msg} {elapsed}")
    }

    fn of(bar: ProgressBar, what: &'static str, template: &str) -> Self {
        // Without colours; a template of this file that is wrong falls back to the library's.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what);
        Self(bar)
    }

    /// So much is done.
    pub(crate) fn set(&self, done: u64) {
        self.0.set_position(done);
    }

    /// So much more is done.
    pub(crate) fn add(&self, more: u64) {
        self.0.inc(more);
    }

    /// Leaves no trace on the terminal.
    pub(crate) fn end(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

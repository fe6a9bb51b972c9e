//! The one error of this crate: a line for people, predicates for programs, the cause behind it.

use std::error::Error as StdError;
use std::fmt::{self, Write as _};
use std::io;

/// Why something failed. Its `Display` is one line that says what to do next, the cause included; [`StdError::source`] has
/// the cause again for programs that want to look at it.
///
/// Falling back to a lower tier is a state of the clock and never an error.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What went wrong, in the few classes that a caller can react to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A configuration that cannot be used.
    Config,
    /// A trace, model or state file that cannot be used.
    Input,
    /// No daemon has published a page.
    NotRunning,
    /// Another daemon owns the page.
    AlreadyRunning,
    /// A page or peer of another version, machine or boot.
    Incompatible,
    /// The operating system refused something.
    System,
    /// The forecast worker could not be used.
    Worker,
}

impl Error {
    /// An error of `kind` with a one-line message.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), source: None }))
    }

    /// The operating system refused: `what` says what was tried ("cannot open /run/x") and the cause follows it.
    pub(crate) fn system(what: impl Into<String>, cause: impl Into<io::Error>) -> Self {
        Self::new(Kind::System, what).caused_by(cause.into())
    }

    /// Adds the cause; it is shown after the message.
    #[must_use]
    pub(crate) fn caused_by(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(cause.into());
        self
    }

    /// The configuration cannot be used.
    pub fn is_config(&self) -> bool {
        self.0.kind == Kind::Config
    }
    /// A trace, model or state file cannot be used.
    pub fn is_input(&self) -> bool {
        self.0.kind == Kind::Input
    }
    /// No daemon has published a page where one was looked for.
    pub fn is_not_running(&self) -> bool {
        self.0.kind == Kind::NotRunning
    }
    /// Another daemon already owns the page.
    pub fn is_already_running(&self) -> bool {
        self.0.kind == Kind::AlreadyRunning
    }
    /// The page or the peer is of another version, machine or boot.
    pub fn is_incompatible(&self) -> bool {
        self.0.kind == Kind::Incompatible
    }
    /// The operating system refused something; the source is an [`io::Error`].
    pub fn is_system(&self) -> bool {
        self.0.kind == Kind::System
    }
    /// The forecast worker could not be used.
    pub fn is_worker(&self) -> bool {
        self.0.kind == Kind::Worker
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = OneLine(f);
        line.write_str(&self.0.message)?;
        match &self.0.source {
            Some(source) => write!(line, ": {source}"),
            None => Ok(()),
        }
    }
}

/// Writes control characters as escapes: a path, a key or a value may hold line breaks, and what a terminal would obey.
struct OneLine<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl fmt::Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|character| {
            if character.is_control() {
                write!(self.0, "{}", character.escape_debug())
            } else {
                self.0.write_char(character)
            }
        })
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_with_the_cause_at_its_end() {
        let cause = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = Error::system("cannot create /run/x/clock", cause);
        assert!(error.is_system() && !error.is_config());
        assert_eq!(error.to_string(), "cannot create /run/x/clock: permission denied");
        assert!(error.source().is_some_and(|s| s.downcast_ref::<io::Error>().is_some()));
    }

    #[test]
    fn one_line_whatever_it_quotes() {
        let cause = io::Error::other("bell \u{7}");
        let error = Error::new(Kind::Config, "unknown key `a\r\nb\u{1b}[31m` in ö").caused_by(cause);
        assert_eq!(error.to_string(), r"unknown key `a\r\nb\u{1b}[31m` in ö: bell \u{7}");
    }
}

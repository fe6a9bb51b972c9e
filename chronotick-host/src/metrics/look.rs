//! What the daemon says and what readers see, at one moment.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Error;
use crate::reader::Reader;
use crate::runner::Status;

/// The page as a reader in this process sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageView {
    /// How old the published line is.
    pub(super) age: Duration,
    /// How long ago the daemon gave its last sign of life.
    pub(super) heartbeat_age: Duration,
}

/// The daemon and its page at one moment.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) status: Status,
    /// Absent when no reader can attach.
    pub(super) page: Option<PageView>,
}

/// Looks at a daemon from outside, as any other process would.
pub(super) struct Onlooker {
    page: PathBuf,
    reader: Option<Reader>,
}

impl Onlooker {
    /// Looks at the daemon whose page is `page`.
    pub(super) fn new(page: &Path) -> Self {
        Self { page: page.to_owned(), reader: None }
    }

    /// # Errors
    /// `is_not_running` when no daemon answers.
    pub(super) fn status(&self) -> Result<Status, Error> {
        Status::ask(&self.page)
    }

    /// # Errors
    /// As of [`Onlooker::status`].
    pub(super) fn look(&mut self) -> Result<Look, Error> {
        Ok(Look { status: self.status()?, page: self.page() })
    }

    fn page(&mut self) -> Option<PageView> {
        if self.reader.is_none() {
            self.reader = Reader::attach(&self.page).ok();
        }
        let reader = self.reader.as_ref()?;
        Some(PageView { age: reader.now().age(), heartbeat_age: reader.heartbeat_age() })
    }
}

//! What is known of the daemon that is watched.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::runner::Status;
use crate::runner::journal::{Event, Exchange, Served, Thinned, Writer};

/// How much is kept: as much as the daemon does.
const EXCHANGES: usize = 1024;
const CHANGES: usize = 128;
const POINTS: usize = 1440;

/// What is known of a daemon, from its status and its journal.
#[derive(Clone, Debug)]
pub struct State {
    /// The page.
    pub page: PathBuf,
    /// The newest status.
    pub status: Option<Status>,
    /// Why there is no newer one.
    pub trouble: Option<String>,
    /// Who writes the journal.
    pub writer: Option<Writer>,
    /// Whether the remembered part of the journal is over.
    pub caught_up: bool,
    /// The newest exchanges, oldest first.
    pub exchanges: VecDeque<Exchange>,
    /// What was served, oldest first.
    pub served: Thinned<Served>,
    /// The newest point of that, kept or not.
    pub newest: Option<Served>,
    /// Tier changes and disruptions, oldest first.
    pub changes: VecDeque<Event>,
}

impl State {
    /// Nothing is known yet of the daemon that owns `page`.
    pub fn new(page: &Path) -> Self {
        Self {
            page: page.to_owned(),
            status: None,
            trouble: None,
            writer: None,
            caught_up: false,
            exchanges: VecDeque::new(),
            served: Thinned::new(POINTS),
            newest: None,
            changes: VecDeque::new(),
        }
    }

    /// The daemon answered.
    pub fn set_status(&mut self, status: Status) {
        self.status = Some(status);
        self.trouble = None;
    }

    /// It did not.
    pub fn set_trouble(&mut self, trouble: String) {
        self.trouble = Some(trouble);
    }

    /// Takes in a line of the journal.
    pub fn push(&mut self, event: &Event) {
        match event {
            Event::Daemon(writer) => {
                // The journal is told from its beginning, also by the same daemon to one who comes again.
                let Self { page, status, trouble, .. } = Self::new(&self.page.clone());
                *self = Self { status: self.status.take().or(status), trouble, ..Self::new(&page) };
                self.writer = Some(writer.clone());
            }
            Event::Exchange(exchange) => keep(&mut self.exchanges, exchange.clone(), EXCHANGES),
            Event::Served(served) => {
                self.newest = Some(served.clone());
                self.served.push(served.clone());
            }
            Event::Tier(_) | Event::Disruption(_) => keep(&mut self.changes, event.clone(), CHANGES),
            Event::CaughtUp => self.caught_up = true,
        }
    }

    /// The points of the served clock, the newest included.
    pub fn points(&self) -> Vec<&Served> {
        let mut points: Vec<_> = self.served.items().iter().collect();
        if let Some(newest) = &self.newest
            && points.last().is_none_or(|last| last.local_ns < newest.local_ns)
        {
            points.push(newest);
        }
        points
    }

    /// How many of the exchanges that were used contradict the hard bound predicted for them beyond what their own delay and
    /// budget leave open, and how many had one.
    pub fn contradicted(&self) -> (usize, usize) {
        let used = self.exchanges.iter().filter(|e| e.refused.is_none());
        let judged = used.filter_map(|e| {
            let own = (e.delay_ns / 2).saturating_add(e.root_distance_ns);
            Some(e.residual_ns?.saturating_abs() > e.bound_ns?.saturating_add(own))
        });
        judged.fold((0, 0), |(beyond, all), is_beyond| (beyond + usize::from(is_beyond), all + 1))
    }
}

fn keep<T>(list: &mut VecDeque<T>, item: T, capacity: usize) {
    if list.len() >= capacity {
        list.pop_front();
    }
    list.push_back(item);
}

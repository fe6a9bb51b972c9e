//! `chronotick watch`: a running daemon on a terminal, or as lines for a pipe.
//!
//! ```text
//! journal.sock --> State <-- status.sock (a thread asks once a second)
//!                    |
//!          terminal: view   pipe: plain
//! ```
//!
//! The terminal is put back as it was when the program ends, by a key, a signal or a panic alike.

mod plain;
mod state;
mod view;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

pub use plain::{Form, lines};
pub use state::State;
pub use view::{Look, draw};

use crate::error::Error;
use crate::runner::Status;
use crate::runner::journal::{Event, Subscription};

/// How often the daemon is asked for its status.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long a key waits at most, and how often the picture is renewed.
const FRAME: Duration = Duration::from_millis(200);
/// How often a daemon that is gone is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Shows the daemon that owns `page` until `q`, Ctrl-C, SIGTERM, SIGINT or SIGHUP. A daemon that goes away is waited for.
///
/// # Errors
/// `is_not_running` when none answers at the start; `is_system` when the terminal cannot be used.
pub fn on_terminal(page: &Path, colours: bool) -> Result<(), Error> {
    let mut daemon = Daemon::open(page)?;
    let ended = ended()?;
    end_with_terminal()?;
    let mut state = State::new(page);
    // Restores the terminal before a panic is shown.
    let mut terminal = ratatui::try_init()
        .map_err(|cause| Error::system("cannot draw on this terminal; try `chronotick watch --plain`", cause))?;
    let mut look = Look { colours, ..Look::default() };
    let outcome = loop {
        if ended.load(Ordering::Relaxed) {
            break Ok(());
        }
        daemon.update(&mut state, Duration::ZERO);
        let shown = if look.paused { Ok(()) } else { terminal.draw(|frame| draw(frame, &state, &look)).map(|_| ()) };
        let step = || -> io::Result<bool> {
            shown?;
            if !event::poll(FRAME)? {
                return Ok(false);
            }
            match event::read()? {
                event::Event::Key(key) if key.kind == KeyEventKind::Press => {
                    let quit = press(&mut look, key);
                    // A pause and the help are seen at once.
                    terminal.draw(|frame| draw(frame, &state, &look))?;
                    Ok(quit)
                }
                event::Event::Resize(..) => terminal.draw(|frame| draw(frame, &state, &look)).map(|_| false),
                _ => Ok(false),
            }
        };
        match step() {
            Ok(false) => {}
            Ok(true) => break Ok(()),
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => break Err(Error::system("cannot use the terminal", cause)),
        }
    };
    ratatui::restore();
    outcome
}

/// Calls `line` with lines of `form` until it returns false or a signal comes.
///
/// # Errors
/// `is_not_running` when no daemon answers at the start.
pub fn on_pipe(page: &Path, form: Form, mut line: impl FnMut(&str) -> bool) -> Result<(), Error> {
    let mut daemon = Daemon::open(page)?;
    let ended = ended()?;
    let mut state = State::new(page);
    let mut past = true;
    if let Some(header) = form.header()
        && !line(&header)
    {
        return Ok(());
    }
    while !ended.load(Ordering::Relaxed) {
        for event in daemon.update(&mut state, FRAME) {
            past &= event != Event::CaughtUp;
            for text in lines(form, &event, page, past) {
                if !line(&text) {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Whether `key` ends the watch.
fn press(look: &mut Look, key: KeyEvent) -> bool {
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc if look.help => look.help = false,
        KeyCode::Char('q') => return true,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
        KeyCode::Char('p' | ' ') => look.paused = !look.paused,
        KeyCode::Char('?' | 'h') => look.help = !look.help,
        KeyCode::Char('w') => look.span = look.span.next(),
        _ => {}
    }
    false
}

/// SIGHUP ends the program at once: the terminal is gone, nothing is left to restore, and waiting for its keys would never end.
fn end_with_terminal() -> Result<(), Error> {
    signal_hook::flag::register_conditional_shutdown(signal_hook::consts::SIGHUP, 0, Arc::new(AtomicBool::new(true)))
        .map(|_| ())
        .map_err(|cause| Error::system("cannot handle signals", cause))
}

/// A flag that SIGTERM, SIGINT and SIGHUP raise.
fn ended() -> Result<Arc<AtomicBool>, Error> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&flag))
            .map_err(|cause| Error::system("cannot handle signals", cause))?;
    }
    Ok(flag)
}

/// Both sockets of a daemon.
struct Daemon {
    page: PathBuf,
    journal: Option<Subscription>,
    looked: Instant,
    answers: Receiver<Result<Status, Error>>,
}

impl Daemon {
    fn open(page: &Path) -> Result<Self, Error> {
        let journal = Subscription::open(page)?;
        let (sender, answers) = channel();
        let asked = page.to_owned();
        // A daemon that hangs must not hang the terminal. The thread ends when nobody listens any more.
        thread::Builder::new()
            .name("chronotick-ask".to_owned())
            .spawn(move || {
                while sender.send(Status::ask(&asked)).is_ok() {
                    thread::sleep(ASK_EVERY);
                }
            })
            .map_err(|cause| Error::system("cannot start a thread", cause))?;
        Ok(Self { page: page.to_owned(), journal: Some(journal), looked: Instant::now(), answers })
    }

    /// Takes in what has arrived; waits for `patience` at most when nothing has.
    fn update(&mut self, state: &mut State, patience: Duration) -> Vec<Event> {
        loop {
            match self.answers.try_recv() {
                Ok(Ok(status)) => state.set_status(status),
                Ok(Err(error)) => state.set_trouble(error.to_string()),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        if self.journal.is_none() && self.looked.elapsed() >= LOOK_EVERY {
            self.looked = Instant::now();
            self.journal = Subscription::open(&self.page).ok();
        }
        let Some(journal) = &mut self.journal else {
            thread::sleep(patience);
            return Vec::new();
        };
        match journal.wait(patience) {
            Ok(events) => {
                events.iter().for_each(|event| state.push(event));
                events
            }
            Err(error) => {
                state.set_trouble(error.to_string());
                self.journal = None;
                Vec::new()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let mut look = Look::default();
        let key = |code| KeyEvent::new(KeyCode::Char(code), KeyModifiers::NONE);
        assert!(!press(&mut look, key('p')) && look.paused);
        assert!(!press(&mut look, key('p')) && !look.paused);
        assert!(!press(&mut look, key('?')) && look.help);
        assert!(!press(&mut look, key('q')) && !look.help, "q closes the help first");
        assert!(press(&mut look, key('q')));
        assert!(press(&mut look, KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
        assert!(!press(&mut look, key('c')));
    }
}

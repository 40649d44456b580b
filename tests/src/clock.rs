//! The clock of programs under test (`tests/shims/clock.c`), which can be advanced, set in either
//! direction, and suspended while they run (Linux only).

use std::{
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use mailqos_model::{Micros, UtcMicros};

use crate::shims;

/// What a program needs to use the clock.
#[derive(Debug, Clone)]
pub struct Given {
    file: PathBuf,
    library: PathBuf,
}

impl Given {
    /// Gives the clock to a program that is about to be started.
    pub fn give_to<'command>(&self, command: &'command mut Command) -> &'command mut Command {
        command.env("LD_PRELOAD", &self.library).env("MAILQOS_CLOCK", &self.file)
    }
}

/// The clock, shared by all programs that it is given to.
#[derive(Debug)]
pub struct SetClock {
    given: Given,
    ahead: Micros,
    set: Micros,
    slept: Micros,
}

impl SetClock {
    /// Creates a clock that shows the current time; its files are in this folder.
    ///
    /// # Errors
    /// There is no C compiler, or the folder can't be written.
    pub fn new(folder: &Path) -> io::Result<Self> {
        let file = folder.join("clock");
        std::fs::write(&file, [0; 24])?;
        let library = shims::build("clock", folder)?;
        Ok(Self {
            given: Given { file, library },
            ahead: Micros::ZERO,
            set: Micros::ZERO,
            slept: Micros::ZERO,
        })
    }

    /// Gives the clock to a program that is about to be started.
    pub fn give_to<'command>(&self, command: &'command mut Command) -> &'command mut Command {
        self.given.give_to(command)
    }

    /// Returns what a program needs to use it.
    pub fn given(&self) -> Given {
        self.given.clone()
    }

    /// Returns the time that it shows.
    pub fn now(&self) -> UtcMicros {
        UtcMicros::now() + self.ahead + self.set + self.slept
    }

    /// Returns by how much it was advanced.
    pub fn ahead(&self) -> Micros {
        self.ahead + self.slept
    }

    /// Advances the clock, never backwards.
    pub fn put_forward(&mut self, by: Micros) {
        self.ahead = Micros(self.ahead.0 + by.0.max(0));
        self.write(0, self.ahead);
    }

    /// Sets the wall clock forward or, if negative, back.
    pub fn set(&mut self, by: Micros) {
        self.set = self.set + by;
        self.write(8, self.set);
    }

    /// Suspends the machine for this long.
    pub fn suspend(&mut self, lasts: Micros) {
        self.slept = Micros(self.slept.0 + lasts.0.max(0));
        self.write(16, self.slept);
    }

    fn write(&self, place: u64, value: Micros) {
        let written = std::fs::File::options()
            .write(true)
            .open(&self.given.file)
            .and_then(|file| file.write_all_at(&(value.0 * 1_000).to_ne_bytes(), place));
        assert!(written.is_ok(), "the clock is not set: {written:?}");
    }
}

//! The clock of programs under test (`tests/shims/clock.c`): it can be put forward, set in either
//! direction, and slept through, while they run (Linux only).

use std::{
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use mailqos_model::{Micros, UtcMicros};

use crate::shims;

/// What programs need to have the clock.
#[derive(Debug, Clone)]
pub struct Given {
    file: PathBuf,
    library: PathBuf,
}

impl Given {
    /// Gives it to a program that is about to be started.
    pub fn give_to<'command>(&self, command: &'command mut Command) -> &'command mut Command {
        command.env("LD_PRELOAD", &self.library).env("MAILQOS_CLOCK", &self.file)
    }
}

/// The clock; all programs that it is given to have the same.
#[derive(Debug)]
pub struct SetClock {
    given: Given,
    ahead: Micros,
    set: Micros,
    slept: Micros,
}

impl SetClock {
    /// Makes a clock that shows the time; its files are in this folder.
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

    /// Gives it to a program that is about to be started.
    pub fn give_to<'command>(&self, command: &'command mut Command) -> &'command mut Command {
        self.given.give_to(command)
    }

    /// What programs need to have it.
    pub fn given(&self) -> Given {
        self.given.clone()
    }

    /// What it shows.
    pub fn now(&self) -> UtcMicros {
        UtcMicros::now() + self.ahead + self.set + self.slept
    }

    /// By how much time has been let pass.
    pub fn ahead(&self) -> Micros {
        self.ahead + self.slept
    }

    /// Lets time pass; never backwards.
    pub fn put_forward(&mut self, by: Micros) {
        self.ahead = Micros(self.ahead.0 + by.0.max(0));
        self.write(0, self.ahead);
    }

    /// Somebody sets the clock on the wall: forward, or (negative) back.
    pub fn set(&mut self, by: Micros) {
        self.set = self.set + by;
        self.write(8, self.set);
    }

    /// The machine is suspended for so long.
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

//! The emulated machines: entry, exit, a cycle-exact stopwatch and the stack's high-water mark.
//!
//! All the unsafe code of the firmware is in this folder.

#[cfg(target_arch = "arm")]
mod arm;
#[cfg(target_arch = "arm")]
pub use arm::*;

#[cfg(target_arch = "riscv32")]
mod riscv;
#[cfg(target_arch = "riscv32")]
pub use riscv::*;

#[cfg(feature = "defmt")]
mod executor;
#[cfg(feature = "defmt")]
pub use executor::run_tasks;

mod stack;
pub use stack::peak_stack;

use semihosting::process::ExitCode;

/// Leaves the emulator: status 0 when everything held, 1 otherwise.
pub fn exit(all_held: bool) -> ! {
    let code = if all_held { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    code.exit_process()
}

/// Makes a function without arguments, whose result says whether everything held, the program.
#[macro_export]
macro_rules! program {
    ($main:path) => {
        #[cfg_attr(target_arch = "arm", cortex_m_rt::entry)]
        #[cfg_attr(target_arch = "riscv32", riscv_rt::entry)]
        fn entry() -> ! {
            $crate::board::start();
            $crate::board::exit($main())
        }
    };
}

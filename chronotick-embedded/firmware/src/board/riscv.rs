//! `virt` (RV32IMAC): the instructions-retired counter is the stopwatch.

/// Instructions for one tick of the stopwatch.
pub const INSTRUCTIONS_PER_TICK: u64 = 1;

/// Nothing to start.
pub fn start() {}

/// Instructions retired since reset.
pub fn ticks() -> u64 {
    riscv::register::minstret::read64()
}

/// Sleeps until an interrupt is pending.
pub fn wait_for_interrupt() {
    riscv::asm::wfi();
}

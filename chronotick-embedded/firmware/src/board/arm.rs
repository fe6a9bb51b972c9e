//! `mps2-an386` (Cortex-M4F) and `mps2-an385` (Cortex-M3): two timers at 25 MHz, one counting freely, one as the alarm of
//! embassy-time.
#![allow(unsafe_code)]

use core::cell::{Cell, RefCell};
use core::ptr;
use core::task::Waker;

use critical_section::{CriticalSection, Mutex};
use embassy_time_driver::Driver;
use embassy_time_queue_utils::Queue;

const ALARM: usize = 0x4000_0000;
const COUNTER: usize = 0x4000_1000;
const CTRL: usize = 0x0;
const VALUE: usize = 0x4;
const RELOAD: usize = 0x8;
const INTCLEAR: usize = 0xC;
/// Ticks between wraps of the counter: a power of two of microseconds, so that no read of the time divides 64 bits.
const PERIOD: u32 = TICKS_PER_MICROSECOND << PERIOD_BITS;
const PERIOD_BITS: u32 = 27;
const TICKS_PER_MICROSECOND: u32 = 25;
const ENABLE_WITH_INTERRUPT: u32 = 1 | 1 << 3;
const ALARM_IRQ: Irq = Irq(8);
const COUNTER_IRQ: Irq = Irq(9);

/// Instructions for one tick of the stopwatch: the emulator is run with one instruction a nanosecond.
pub const INSTRUCTIONS_PER_TICK: u64 = 40;

/// Starts the counter and lets its interrupts through.
pub fn start() {
    write(COUNTER, RELOAD, PERIOD - 1);
    write(COUNTER, VALUE, PERIOD - 1);
    write(COUNTER, CTRL, ENABLE_WITH_INTERRUPT);
    for irq in [ALARM_IRQ, COUNTER_IRQ] {
        // SAFETY: the handler below exists and takes its data through critical sections only.
        unsafe { cortex_m::peripheral::NVIC::unmask(irq) };
    }
}

/// Ticks of 25 MHz since [`start`]; wraps after 134 s.
pub fn ticks() -> u64 {
    u64::from(PERIOD - 1 - read(COUNTER, VALUE))
}

/// Sleeps until an interrupt is pending.
pub fn wait_for_interrupt() {
    cortex_m::asm::wfi();
}

struct TimeDriver {
    /// How often the counter has wrapped, as the interrupt has seen it.
    wraps: Mutex<Cell<u32>>,
    queue: Mutex<RefCell<Queue>>,
}

embassy_time_driver::time_driver_impl!(static DRIVER: TimeDriver = TimeDriver {
    wraps: Mutex::new(Cell::new(0)),
    queue: Mutex::new(RefCell::new(Queue::new())),
});

impl TimeDriver {
    fn micros(&self, cs: CriticalSection) -> u64 {
        let mut wraps = self.wraps.borrow(cs).get();
        let mut value = read(COUNTER, VALUE);
        if read(COUNTER, INTCLEAR) & 1 != 0 {
            // Wrapped, and the interrupt has not been served yet. The value may stem from before or after: read it again.
            value = read(COUNTER, VALUE);
            wraps = wraps.wrapping_add(1);
        }
        u64::from(wraps) << PERIOD_BITS | u64::from((PERIOD - 1 - value) / TICKS_PER_MICROSECOND)
    }

    /// Sets the alarm for the next waiting task.
    fn arm(&self, cs: CriticalSection) {
        let mut queue = self.queue.borrow_ref_mut(cs);
        loop {
            let now = self.micros(cs);
            let next = queue.next_expiration(now);
            if next == u64::MAX {
                return write(ALARM, CTRL, 0);
            }
            let wait = next.saturating_sub(self.micros(cs));
            if wait > 0 {
                // A long wait is cut into pieces that fit the timer: waking early only arms the alarm again.
                let wait = u32::try_from(wait).unwrap_or(u32::MAX).min(1 << PERIOD_BITS) * TICKS_PER_MICROSECOND;
                write(ALARM, CTRL, 0);
                write(ALARM, INTCLEAR, 1);
                write(ALARM, RELOAD, wait);
                write(ALARM, VALUE, wait);
                return write(ALARM, CTRL, ENABLE_WITH_INTERRUPT);
            }
        }
    }

    fn interrupt(&self) {
        critical_section::with(|cs| {
            if read(COUNTER, INTCLEAR) & 1 != 0 {
                write(COUNTER, INTCLEAR, 1);
                let wraps = self.wraps.borrow(cs);
                wraps.set(wraps.get().wrapping_add(1));
            }
            if read(ALARM, INTCLEAR) & 1 != 0 {
                write(ALARM, INTCLEAR, 1);
            }
            self.arm(cs);
        });
    }
}

impl Driver for TimeDriver {
    fn now(&self) -> u64 {
        critical_section::with(|cs| self.micros(cs))
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|cs| {
            let changed = self.queue.borrow_ref_mut(cs).schedule_wake(at, waker);
            if changed {
                self.arm(cs);
            }
        });
    }
}

#[derive(Clone, Copy)]
struct Irq(u16);

// SAFETY: 8 and 9 are the numbers of the two timers on this board.
unsafe impl cortex_m::interrupt::InterruptNumber for Irq {
    fn number(self) -> u16 {
        self.0
    }
}

// SAFETY: reached only through the vector table, for the two timers that `start` unmasks.
#[cortex_m_rt::exception]
unsafe fn DefaultHandler(_irq: i16) {
    DRIVER.interrupt();
}

fn read(timer: usize, register: usize) -> u32 {
    // SAFETY: the registers of a CMSDK timer of this board, aligned, without side effects on reading.
    unsafe { ptr::read_volatile(ptr::with_exposed_provenance(timer + register)) }
}

fn write(timer: usize, register: usize, value: u32) {
    // SAFETY: the registers of a CMSDK timer of this board, which nothing but this module uses.
    unsafe { ptr::write_volatile(ptr::with_exposed_provenance_mut(timer + register), value) }
}

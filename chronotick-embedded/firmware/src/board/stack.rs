//! How much stack a call needs at its deepest: the unused stack is painted, the call made, and the paint looked at.
#![allow(unsafe_code)]

use core::ptr;

const PAINT: u32 = 0x5AFE_C10C;
/// Left alone below the current frame for the painting function itself.
const OWN_FRAME: usize = 512;

unsafe extern "C" {
    /// The end of static data, from the linker script; the stack grows down towards it.
    #[cfg_attr(target_arch = "arm", link_name = "__sheap")]
    #[cfg_attr(target_arch = "riscv32", link_name = "_sheap")]
    static mut STATICS_END: u32;
}

/// Bytes of stack that `call` used below this frame, to a word; what it used of the first 512 bytes counts as all of them.
///
/// At most `reach` bytes are looked at.
#[inline(never)]
pub fn peak_stack(reach: usize, call: impl FnOnce()) -> usize {
    let here = (&raw const reach).cast::<u8>() as usize & !7;
    let lowest = (&raw const STATICS_END) as usize + 64;
    let top = here - OWN_FRAME;
    let bottom = top.saturating_sub(reach).max(lowest) & !7;
    for address in (bottom..top).step_by(4) {
        // SAFETY: between the end of static data and 512 bytes below this frame lies only unused stack: interrupts are
        // not enabled by the programs that measure, and the only stack is this one.
        unsafe { ptr::write_volatile(ptr::with_exposed_provenance_mut::<u32>(address), PAINT) };
    }
    call();
    let touched = (bottom..top).step_by(4).find(|&address| {
        // SAFETY: the same words as above, aligned and inside RAM; any value is a valid u32.
        unsafe { ptr::read_volatile(ptr::with_exposed_provenance::<u32>(address)) != PAINT }
    });
    here - touched.unwrap_or(top)
}

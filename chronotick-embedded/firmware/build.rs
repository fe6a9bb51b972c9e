//! The memory map of the emulated machine and the linker's arguments.

use std::env;
use std::fs;
use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = env::var("TARGET").unwrap_or_default();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for build scripts"));
    let (memory, arguments): (&str, &[&str]) = match target.as_str() {
        // `mps2-an386` (Cortex-M4F) and `mps2-an385` (Cortex-M3, for code of smaller cores): 4 MiB of each.
        "thumbv7em-none-eabihf" | "thumbv6m-none-eabi" => {
            ("MEMORY { FLASH : ORIGIN = 0x00000000, LENGTH = 4M\nRAM : ORIGIN = 0x20000000, LENGTH = 4M }", &[])
        }
        // RV32IMAC, `virt`: everything in one memory.
        "riscv32imac-unknown-none-elf" => (
            "MEMORY { RAM : ORIGIN = 0x80000000, LENGTH = 16M }\n\
             REGION_ALIAS(\"REGION_TEXT\", RAM); REGION_ALIAS(\"REGION_RODATA\", RAM);\n\
             REGION_ALIAS(\"REGION_DATA\", RAM); REGION_ALIAS(\"REGION_BSS\", RAM);\n\
             REGION_ALIAS(\"REGION_HEAP\", RAM); REGION_ALIAS(\"REGION_STACK\", RAM);",
            &["-Tmemory.x"],
        ),
        _ => return,
    };
    fs::write(out.join("memory.x"), memory).expect("the build directory is writable");
    println!("cargo:rustc-link-search={}", out.display());
    for argument in arguments.iter().chain(&["-Tlink.x", "--nmagic"]) {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    if env::var_os("CARGO_FEATURE_DEFMT").is_some() {
        println!("cargo:rustc-link-arg-bins=-Tdefmt.x");
    }
}

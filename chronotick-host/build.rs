//! Embeds the shipped models, where this checkout or package has them.

use std::fmt::Write;
use std::path::Path;

fn main() {
    // Asked when the script runs: a script that was compiled for another checkout in the same target folder knows that one's.
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let models = Path::new(&folder).join("../models");
    println!("cargo:rerun-if-changed=build.rs");
    if models.is_dir() {
        // Only then: cargo takes a missing path for one that always changes.
        println!("cargo:rerun-if-changed={}", models.display());
    }
    let mut source = String::from("/// The shipped models, by `Model::index`.\nconst EMBEDDED: [Option<&[u8]>; 2] = [");
    for name in ["chronotick-near.onnx", "chronotick-far.onnx"] {
        match models.join(name).canonicalize() {
            Ok(path) => {
                println!("cargo:rerun-if-changed={}", path.display());
                write!(source, "Some(include_bytes!({:?})),", path.display().to_string())
            }
            Err(_) => write!(source, "None,"),
        }
        .expect("writing to a string does not fail");
    }
    source.push_str("];\n");
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    std::fs::write(Path::new(&out).join("embedded_models.rs"), source).expect("OUT_DIR can be written to");
}

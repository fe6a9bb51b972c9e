//! Where model files are found, and the bytes of them.

use std::borrow::Cow;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use chronotick_core::forecast::Model;
use sha2::{Digest, Sha256};

/// Names the folder of the model files.
pub const MODELS_VARIABLE: &str = "CHRONOTICK_MODELS";
/// A model file beyond this is refused: nothing of the kind belongs here.
const MAX_BYTES: u64 = 256 << 20;
/// Optional list of checksums beside the model files, in the format of `sha256sum`.
const CHECKSUMS: &str = "SHA256SUMS";

include!(concat!(env!("OUT_DIR"), "/embedded_models.rs"));

/// A model file's content.
#[derive(Clone)]
pub struct ModelFile {
    /// Where it came from, for people.
    pub name: String,
    /// The ONNX bytes.
    pub bytes: Cow<'static, [u8]>,
    /// First eight bytes of their SHA-256.
    pub hash: [u8; 8],
}

impl fmt::Debug for ModelFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelFile({}, {} bytes)", self.name, self.bytes.len())
    }
}

/// Why a model cannot be used: one line with the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelError {
    /// The file.
    pub file: String,
    /// What is wrong with it and what to do.
    pub problem: String,
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.problem)
    }
}

impl std::error::Error for ModelError {}

/// A model's file name.
pub const fn file_name(model: Model) -> &'static str {
    match model {
        Model::Near => "chronotick-near.onnx",
        Model::Far => "chronotick-far.onnx",
    }
}

/// The folder of the model files: `configured`, else `CHRONOTICK_MODELS`, else a `models` folder beside the executable's
/// installation. `None`: the copies in the executable are used.
pub fn models_folder(configured: Option<&Path>) -> Option<PathBuf> {
    let named = configured.map(Path::to_path_buf).or_else(|| std::env::var_os(MODELS_VARIABLE).map(PathBuf::from));
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    named.map(absolute).or_else(|| {
        let executable = std::env::current_exe().ok()?;
        let folder = executable.parent()?;
        [folder.join("models"), folder.join("../share/chronotick/models")]
            .into_iter()
            .find(|candidate| Model::ALL.iter().any(|&model| candidate.join(file_name(model)).is_file()))
    })
}

impl ModelFile {
    /// The file of `model` in `folder`, or the copy in the executable.
    ///
    /// A `SHA256SUMS` file in the folder that lists the model is checked, so that a damaged file is refused by name.
    pub fn read(model: Model, folder: Option<&Path>) -> Result<Self, ModelError> {
        match folder {
            Some(folder) => Self::read_from(model, folder),
            None => Self::embedded(model),
        }
    }

    /// From bytes that are there already; `name` is for people.
    pub fn from_bytes(name: String, bytes: Cow<'static, [u8]>) -> Self {
        let mut hash = [0; 8];
        hash.copy_from_slice(&Sha256::digest(&bytes)[..8]);
        Self { name, bytes, hash }
    }

    fn embedded(model: Model) -> Result<Self, ModelError> {
        let name = format!("{} (built in)", file_name(model));
        match EMBEDDED[model.index()] {
            Some(bytes) => Ok(Self::from_bytes(name, Cow::Borrowed(bytes))),
            None => Err(ModelError {
                file: name,
                problem: format!("not part of this build; name a folder that has it in {MODELS_VARIABLE}"),
            }),
        }
    }

    fn read_from(model: Model, folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join(file_name(model));
        let file = path.display().to_string();
        let failed = |problem: String| ModelError { file: file.clone(), problem };
        let opened = std::fs::File::open(&path).map_err(|error| {
            failed(format!("cannot be opened: {error}; name the folder that has it: models.dir or --models"))
        })?;
        let mut bytes = Vec::new();
        opened
            .take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| failed(format!("cannot be read: {error}")))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(failed(format!("longer than {} MiB, which no model of this kind is", MAX_BYTES >> 20)));
        }
        check_listed(&folder.join(CHECKSUMS), file_name(model), &bytes).map_err(failed)?;
        Ok(Self::from_bytes(file, Cow::Owned(bytes)))
    }
}

/// Compares with the list of checksums, if there is one that names the file.
fn check_listed(list: &Path, name: &str, bytes: &[u8]) -> Result<(), String> {
    let Ok(text) = std::fs::read_to_string(list) else { return Ok(()) };
    let listed = text.lines().find_map(|line| {
        let (sum, file) = line.split_once(char::is_whitespace)?;
        (file.trim_start().trim_start_matches(['*', '.', '/']) == name).then(|| sum.to_ascii_lowercase())
    });
    let actual: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    match listed {
        Some(sum) if sum != actual => {
            Err(format!("damaged: its SHA-256 is not the one in {CHECKSUMS}; restore the file"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("chronotick-files-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_missing_file_is_one_line_with_its_path() {
        let empty = folder("missing");
        let error = ModelFile::read(Model::Near, Some(&empty)).unwrap_err().to_string();
        assert!(error.contains("chronotick-near.onnx: cannot be opened") && !error.contains('\n'), "{error}");
        std::fs::remove_dir_all(empty).unwrap();
    }

    #[test]
    fn checksums_are_checked_when_listed() {
        let folder = folder("sums");
        std::fs::write(folder.join(file_name(Model::Far)), b"abc").unwrap();
        assert!(ModelFile::read(Model::Far, Some(&folder)).is_ok());
        let right = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        std::fs::write(folder.join(CHECKSUMS), format!("{right}  chronotick-far.onnx\n")).unwrap();
        let file = ModelFile::read(Model::Far, Some(&folder)).unwrap();
        assert_eq!(file.hash, [0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea]);
        std::fs::write(folder.join(file_name(Model::Far)), b"abd").unwrap();
        let error = ModelFile::read(Model::Far, Some(&folder)).unwrap_err().to_string();
        assert!(error.contains("damaged"), "{error}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}

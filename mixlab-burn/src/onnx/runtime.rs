//! onnxruntime, found on this machine, and a file that it runs.

use std::env;
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use ort::memory::Allocator;
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Tensor, TensorElementType, ValueType};

/// Names a library that onnxruntime is in.
const VARIABLE: &str = "ORT_DYLIB_PATH";
/// Prints the folder of the Python package.
const ASK_PYTHON: &str = "import importlib.util as u; s = u.find_spec('onnxruntime'); \
                          print(s.submodule_search_locations[0] if s else '')";

/// Why a file was not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// There is no onnxruntime.
    #[error(
        "no onnxruntime is found in `{VARIABLE}`, where libraries are, or in the Python of PATH\n  \
         hint: `pip install onnxruntime`, or set {VARIABLE} to its libonnxruntime.so"
    )]
    Missing,
    /// It cannot be loaded, or it refused a file or a run.
    #[error("onnxruntime: {0}")]
    Refused(String),
    /// The file is none that this crate writes.
    #[error("`{}` has no {what}\n  hint: name a file that `export --onnx` wrote", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it should have.
        what: String,
    },
}

impl<R> From<ort::Error<R>> for RuntimeError {
    fn from(error: ort::Error<R>) -> Self {
        Self::Refused(error.to_string())
    }
}

/// An onnxruntime that was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Runtime {
    /// Where it lies.
    pub path: PathBuf,
    /// What it says of itself, as `1.32.0`.
    pub version: String,
}

/// Loads onnxruntime, once in a process.
///
/// It is looked for in the variable `ORT_DYLIB_PATH`, in folders of libraries, and in the package
/// `onnxruntime` of the Python that is first on PATH.
///
/// # Errors
/// If there is none, or if it is too old.
pub fn load_runtime() -> Result<&'static Runtime, RuntimeError> {
    static LOADED: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = LOADED.get() {
        return Ok(runtime);
    }
    let path = find().ok_or(RuntimeError::Missing)?;
    ort::init_from(&path)?.with_name("mixlab").commit();
    let version = version(&path).map_err(|error| RuntimeError::Refused(error.to_string()))?;
    Ok(LOADED.get_or_init(|| Runtime { path, version }))
}

/// The version of the library at `path`, which `ort` has loaded and keeps for itself.
fn version(path: &Path) -> Result<String, libloading::Error> {
    type Base = unsafe extern "C" fn() -> *const ort::sys::OrtApiBase;
    // SAFETY: `ort` has called the same symbol of this library, which stays loaded; the version is a
    // constant text of it.
    let text = unsafe {
        let library = libloading::Library::new(path)?;
        let base = library.get::<Base>(b"OrtGetApiBase")?();
        CStr::from_ptr(((*base).GetVersionString)())
    };
    Ok(text.to_string_lossy().into_owned())
}

fn find() -> Option<PathBuf> {
    if let Some(named) = env::var_os(VARIABLE).filter(|named| !named.is_empty()) {
        return Some(named.into());
    }
    let listed = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let multiarch = format!("/usr/lib/{}-linux-gnu", env::consts::ARCH);
    let usual = ["/usr/local/lib", "/usr/lib", "/usr/lib64", &multiarch, "/opt/homebrew/lib"];
    let folders = env::split_paths(&listed).chain(usual.map(PathBuf::from));
    folders.filter_map(|folder| library(&folder)).next().or_else(of_python)
}

/// The library in `folder`, if it is there.
fn library(folder: &Path) -> Option<PathBuf> {
    let mut names: Vec<PathBuf> =
        folder.read_dir().ok()?.flatten().map(|entry| entry.path()).collect();
    names.sort();
    names.into_iter().find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let stem = name.strip_prefix(env::consts::DLL_PREFIX).unwrap_or_default();
        stem.starts_with("onnxruntime.") && name.contains(env::consts::DLL_SUFFIX)
    })
}

/// The library in the package of Python.
fn of_python() -> Option<PathBuf> {
    ["python3", "python"].iter().find_map(|python| {
        let answer = Command::new(python).args(["-c", ASK_PYTHON]).output().ok()?;
        let folder = String::from_utf8(answer.stdout).ok()?;
        library(&Path::new(folder.trim()).join("capi"))
    })
}

/// A state that a file takes.
struct Past {
    name: String,
    present: String,
    kind: TensorElementType,
    /// How long each axis is: always, or for each row.
    axes: Vec<(usize, bool)>,
}

/// A file that onnxruntime has loaded.
pub(super) struct Runner {
    session: Session,
    past: Vec<Past>,
    /// Whether it asks for the number of tokens so far.
    masked: bool,
}

/// What tokens left, by the name of the input that takes it; and how many they were.
pub(super) struct PastValues {
    values: Vec<(String, DynValue)>,
    tokens: usize,
}

impl Runner {
    pub fn open(path: &Path) -> Result<Self, RuntimeError> {
        load_runtime()?;
        // Products with 4-bit weights are of 32-bit floats, as the model's are; by default onnxruntime
        // rounds what it multiplies them with to 8 bits.
        let session = Session::builder()?
            .with_config_entry("session.qdq_matmulnbits_accuracy_level", "1")?
            .commit_from_file(path)?;
        let (mut past, mut masked) = (Vec::new(), false);
        for input in session.inputs() {
            masked |= input.name() == "attention_mask";
            let Some(of) = input.name().strip_prefix("past_") else { continue };
            let foreign = || RuntimeError::Foreign {
                path: path.into(),
                what: format!("state `{}` of a known shape", input.name()),
            };
            let ValueType::Tensor { ty, shape, dimension_symbols } = input.dtype() else {
                return Err(foreign());
            };
            let lengths = shape.iter().zip(dimension_symbols.iter());
            let axes: Option<Vec<_>> = lengths.map(|(n, symbol)| axis(*n, symbol)).collect();
            let present = format!("present_{of}").replace("present_key_values.", "present.");
            let (name, axes) = (input.name().into(), axes.ok_or_else(foreign)?);
            past.push(Past { name, present, kind: *ty, axes });
        }
        Ok(Self { session, past, masked })
    }

    /// Whether the file goes on from what earlier tokens left.
    pub fn is_stateful(&self) -> bool {
        !self.past.is_empty()
    }

    /// What there is before the first token of `rows` rows.
    pub fn start(&self, rows: usize) -> Result<PastValues, RuntimeError> {
        let zeros = |past: &Past| {
            let length = |(n, row): &(usize, bool)| (if *row { n * rows } else { *n }) as i64;
            let shape: Vec<i64> = past.axes.iter().map(length).collect();
            let value = match past.kind {
                TensorElementType::Int64 => zeros::<i64>(shape)?,
                _ => zeros::<f32>(shape)?,
            };
            Ok((past.name.clone(), value))
        };
        let values = self.past.iter().map(zeros).collect::<Result<_, RuntimeError>>()?;
        Ok(PastValues { values, tokens: 0 })
    }

    /// The logits `[rows, T, V]` of `ids` `[rows, T]`, flat, after what `past` says; and what is left then.
    pub fn read(
        &mut self,
        ids: &[i64],
        rows: usize,
        past: PastValues,
    ) -> Result<(Vec<f32>, PastValues), RuntimeError> {
        let columns = ids.len() / rows;
        let tokens = past.tokens + columns;
        let mut inputs: Vec<(String, SessionInputValue<'_>)> =
            past.values.into_iter().map(|(name, value)| (name, value.into())).collect();
        let ids = Tensor::from_array(([rows, columns], ids.to_vec()))?;
        inputs.push(("input_ids".into(), ids.into()));
        if self.masked {
            let mask = Tensor::from_array(([rows, tokens], vec![1i64; rows * tokens]))?;
            inputs.push(("attention_mask".into(), mask.into()));
        }
        let mut outputs = self.session.run(inputs)?;
        let mut take = |name: &str| {
            let missing = || RuntimeError::Refused(format!("the file has no output `{name}`"));
            outputs.remove(name).ok_or_else(missing)
        };
        let logits = take("logits")?.try_extract_tensor::<f32>()?.1.to_vec();
        let values = self.past.iter().map(|past| Ok((past.name.clone(), take(&past.present)?)));
        let values = values.collect::<Result<_, RuntimeError>>()?;
        Ok((logits, PastValues { values, tokens }))
    }
}

/// The length of an axis before the first token, and whether it is for each row; none if its symbol
/// says something else.
fn axis(length: i64, symbol: &str) -> Option<(usize, bool)> {
    match symbol {
        "" => Some((usize::try_from(length).ok()?, false)),
        "past" => Some((0, false)),
        "batch" => Some((1, true)),
        _ => Some((symbol.strip_suffix("*batch")?.parse().ok()?, true)),
    }
}

/// A tensor of zeros, of which there may be none.
fn zeros<T>(shape: Vec<i64>) -> Result<DynValue, RuntimeError>
where
    T: ort::value::PrimitiveTensorElementType + Default + Copy + core::fmt::Debug + 'static,
{
    let mut tensor = Tensor::<T>::new(&Allocator::default(), shape)?;
    tensor.extract_tensor_mut().1.fill(T::default());
    Ok(tensor.into_dyn())
}

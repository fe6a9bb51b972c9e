//! Running the models: ONNX files through tract, one thread, no network.

use std::path::Path;
use std::sync::Arc;

use chronotick_core::forecast::{Forecast, ForecastRequest, Model};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::DimLike;

use super::files::{ModelError, ModelFile};
use super::tensors::{self, HISTORY_SCALARS, Inputs, SCALARS};
use crate::link::ModelState;

/// The models that could be loaded, ready to answer.
#[derive(Debug)]
pub struct Forecasters {
    slots: [Result<Forecaster, ModelError>; Model::ALL.len()],
}

/// One loaded model.
#[derive(Debug)]
pub struct Forecaster {
    model: Model,
    name: String,
    hash: [u8; 8],
    prepared: Prepared,
}

/// A model that can be run.
#[derive(Debug)]
struct Prepared {
    state: TypedSimpleState,
    /// Where tract wants `context` and `scalars`: the order of the file's inputs.
    context_first: bool,
    /// How many of the scalars it takes.
    scalars: usize,
}

impl Forecasters {
    /// Loads both models from `folder`, or the copies in the executable. A model that cannot be used is a state.
    pub fn load(folder: Option<&Path>) -> Self {
        Self::from_files(Self::read(folder))
    }

    /// The bytes of both files, to be parsed later with [`Forecasters::from_files`].
    pub fn read(folder: Option<&Path>) -> [Result<ModelFile, ModelError>; Model::ALL.len()] {
        Model::ALL.map(|model| ModelFile::read(model, folder))
    }

    /// Parses both files.
    pub fn from_files(files: [Result<ModelFile, ModelError>; Model::ALL.len()]) -> Self {
        let mut files = files.into_iter();
        let slots = Model::ALL.map(|model| match files.next() {
            Some(file) => file.and_then(|file| Forecaster::load(model, &file)),
            None => Err(ModelError { file: String::new(), problem: "no file given".to_owned() }),
        });
        Self { slots }
    }

    /// What became of each model.
    pub fn states(&self) -> [ModelState; Model::ALL.len()] {
        Model::ALL.map(|model| match &self.slots[model.index()] {
            Ok(loaded) => ModelState::Loaded { file: loaded.name.clone(), hash: loaded.hash },
            Err(error) => ModelState::Failed(error.to_string()),
        })
    }

    /// A model's answer. The error says which file and what is wrong.
    pub fn answer(&mut self, request: &ForecastRequest) -> Result<Forecast, ModelError> {
        match &mut self.slots[request.model.index()] {
            Ok(loaded) => loaded.answer(request),
            Err(error) => Err(error.clone()),
        }
    }
}

impl Forecaster {
    /// Parses and prepares a model, checks the shapes of its inputs and output, and runs it once.
    pub fn load(model: Model, file: &ModelFile) -> Result<Self, ModelError> {
        let failed = |problem: String| ModelError { file: file.name.clone(), problem };
        // A malformed file must not take more down than itself, whatever the parser thinks of it.
        let prepared = std::panic::catch_unwind(|| prepare(model, &file.bytes))
            .map_err(|_| failed("cannot be used: the ONNX parser gave up on it; restore the file".to_owned()))?;
        let prepared = prepared.map_err(failed)?;
        let mut loaded = Self { model, name: file.name.clone(), hash: file.hash, prepared };
        let [channels, cells] = tensors::context_shape(model);
        let nothing = vec![0.0; channels * cells];
        loaded.run(&nothing, [0.0; SCALARS])?;
        Ok(loaded)
    }

    /// Its answer to a request.
    pub fn answer(&mut self, request: &ForecastRequest) -> Result<Forecast, ModelError> {
        let Inputs { context, scalars, normaliser } = tensors::inputs(request);
        let output = self.run(&context, scalars)?;
        match tensors::quantiles(self.model, &normaliser, &output) {
            Some(quantiles) => Ok(Forecast { id: request.id, model: self.model, hash: self.hash, quantiles }),
            None => Err(self.failed(format!("gave {} values", output.len()))),
        }
    }

    /// Its raw output, `[1, steps, levels]` row-major, for inputs of [`tensors::context_shape`].
    pub fn run(&mut self, context: &[f32], scalars: [f32; SCALARS]) -> Result<Vec<f32>, ModelError> {
        let output = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.evaluate(context, scalars)))
            .unwrap_or_else(|_| Err("the model's evaluation panicked".to_owned()));
        output.map_err(|problem| self.failed(problem))
    }

    fn evaluate(&mut self, context: &[f32], scalars: [f32; SCALARS]) -> Result<Vec<f32>, String> {
        let [channels, cells] = tensors::context_shape(self.model);
        let context = Tensor::from_shape(&[1, channels, cells], context).map_err(one_line)?.into_tvalue();
        let taken = self.prepared.scalars;
        let scalars = Tensor::from_shape(&[1, taken], &scalars[..taken]).map_err(one_line)?.into_tvalue();
        let inputs = if self.prepared.context_first { tvec![context, scalars] } else { tvec![scalars, context] };
        let outputs = self.prepared.state.run(inputs).map_err(one_line)?;
        let [steps, levels] = tensors::output_shape(self.model);
        let output = outputs.first().ok_or("no output")?;
        if output.shape() != [1, steps, levels] {
            return Err(format!("its output has shape {:?}, not [1, {steps}, {levels}]", output.shape()));
        }
        let view = output.to_plain_array_view::<f32>().map_err(one_line)?;
        Ok(view.iter().copied().collect())
    }

    fn failed(&self, problem: String) -> ModelError {
        ModelError { file: self.name.clone(), problem }
    }
}

/// The runnable plan, and what it takes.
fn prepare(model: Model, mut bytes: &[u8]) -> Result<Prepared, String> {
    let mut parsed = tract_onnx::onnx()
        .model_for_read(&mut bytes)
        .map_err(|error| format!("not a usable ONNX file ({}); restore it or train again", one_line(error)))?;
    let names: Vec<String> =
        parsed.input_outlets().map_err(one_line)?.iter().map(|outlet| parsed.node(outlet.node).name.clone()).collect();
    let context_first = match names.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["context", "scalars"] => true,
        ["scalars", "context"] => false,
        _ => return Err(format!("its inputs are {names:?}, not context and scalars")),
    };
    let [channels, cells] = tensors::context_shape(model);
    let mut scalars = SCALARS;
    for (index, name) in names.iter().enumerate() {
        let mut shape: TVec<usize> = if name == "context" { tvec![1, channels, cells] } else { tvec![1, SCALARS] };
        let declared = parsed.input_fact(index).map_err(one_line)?.shape.concretize();
        if let Some(declared) = declared {
            let declared: Option<TVec<usize>> = declared.iter().map(|dim| dim.to_usize().ok()).collect();
            if name == "scalars" && declared.as_deref() == Some(&[1, HISTORY_SCALARS]) {
                (shape, scalars) = (tvec![1, HISTORY_SCALARS], HISTORY_SCALARS);
            }
            if declared.as_ref().is_some_and(|declared| *declared != shape) {
                return Err(format!("its input {name} has shape {:?}, not {shape:?}", declared.unwrap_or_default()));
            }
        }
        parsed.set_input_fact(index, f32::fact(&shape).into()).map_err(one_line)?;
    }
    let optimised = parsed.into_optimized().map_err(|error| format!("cannot be prepared: {}", one_line(error)))?;
    let plan: Arc<TypedSimplePlan> = optimised.into_runnable().map_err(one_line)?;
    Ok(Prepared { state: plan.spawn().map_err(one_line)?, context_first, scalars })
}

/// An error and its causes on one line.
#[expect(clippy::needless_pass_by_value, reason = "for use in map_err")]
fn one_line(error: TractError) -> String {
    crate::os::spawn::printable(&format!("{error:#}").replace('\n', " "))
}

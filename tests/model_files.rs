//! The model files in tract, and the fixtures that belong to them.

use std::path::{Path, PathBuf};

use tract_onnx::prelude::*;

/// A model ready to run.
pub(crate) type Runnable = Arc<TypedRunnableModel>;

/// One input with PyTorch's output.
pub(crate) struct Case {
    #[allow(dead_code, reason = "only the parity test prints it")]
    pub(crate) name: String,
    pub(crate) context: Vec<f32>,
    pub(crate) scalars: Vec<f32>,
    pub(crate) expected: Vec<f32>,
}

pub(crate) struct Fixture {
    pub(crate) context: [usize; 2],
    pub(crate) scalars: usize,
    pub(crate) quantiles: [usize; 2],
    pub(crate) cases: Vec<Case>,
}

pub(crate) fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("models")
}

pub(crate) fn model_file(models: &Path, name: &str) -> PathBuf {
    models.join(format!("chronotick-{name}.onnx"))
}

pub(crate) fn fixture(models: &Path, name: &str) -> Fixture {
    let header: serde_json::Value =
        serde_json::from_slice(&std::fs::read(models.join(format!("fixtures/{name}.json"))).unwrap()).unwrap();
    let size = |value: &serde_json::Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let pair = |key: &str| [size(&header[key][0]), size(&header[key][1])];
    let (context, scalars, quantiles) = (pair("context"), size(&header["scalars"]), pair("quantiles"));
    let bytes = std::fs::read(models.join(format!("fixtures/{name}.f32"))).unwrap();
    let mut values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    let mut take = |count: usize| values.by_ref().take(count).collect::<Vec<f32>>();
    let cases: Vec<Case> = header["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| Case {
            name: name.as_str().unwrap().to_owned(),
            context: take(context[0] * context[1]),
            scalars: take(scalars),
            expected: take(quantiles[0] * quantiles[1]),
        })
        .collect();
    assert!(cases.iter().all(|case| case.expected.len() == quantiles[0] * quantiles[1]), "the fixture is cut short");
    Fixture { context, scalars, quantiles, cases }
}

pub(crate) fn load(models: &Path, name: &str, fixture: &Fixture) -> Runnable {
    let [channels, cells] = fixture.context;
    tract_onnx::onnx()
        .model_for_path(model_file(models, name))
        .unwrap()
        .with_input_fact(0, f32::fact([1, channels, cells]).into())
        .unwrap()
        .with_input_fact(1, f32::fact([1, fixture.scalars]).into())
        .unwrap()
        .into_optimized()
        .unwrap()
        .into_runnable()
        .unwrap()
}

pub(crate) fn infer(model: &Runnable, fixture: &Fixture, context: &[f32], scalars: &[f32]) -> Vec<f32> {
    let [channels, cells] = fixture.context;
    let inputs = tvec!(
        Tensor::from_shape(&[1, channels, cells], context).unwrap().into(),
        Tensor::from_shape(&[1, fixture.scalars], scalars).unwrap().into()
    );
    let output = model.run(inputs).unwrap();
    let [rows, levels] = fixture.quantiles;
    assert_eq!(output[0].shape(), [1, rows, levels]);
    output[0].to_plain_array_view::<f32>().unwrap().iter().copied().collect()
}

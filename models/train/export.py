"""Writes a trained checkpoint as ONNX for tract and checks it against PyTorch.

usage: python export.py near.pt ../chronotick-near.onnx
"""

import argparse
import hashlib

import numpy as np
import onnx
import onnxruntime
import torch

from fixtures import cases
from forecaster import load, place, replacing

OPSET = 17
# Largest difference from PyTorch, relative to the largest quantile of the row; that of tests/model_parity.rs.
TOLERANCE = 1e-4


def difference(path, model, context, scalars):
    """The largest one between the file and PyTorch on each of `n` inputs, relative to the largest quantile of its row."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for one in zip(context.split(1), scalars.split(1)):
        answer, = session.run(["quantiles"], {"context": one[0].numpy(), "scalars": one[1].numpy()})
        with torch.no_grad():
            expected = model(*one).numpy()
        # A NaN is the largest.
        worst = np.maximum(worst, (np.abs(answer - expected) / np.abs(expected).max(-1, keepdims=True)).max())
    return worst


def export(model, shape, path):
    """Writes `model` (in evaluation mode) to `path`, if the file says what PyTorch says on the fixtures' inputs."""
    context, scalars = (torch.from_numpy(np.stack(column)) for column in zip(*(inputs for _, inputs in cases(shape))))
    with replacing(path) as fresh:
        torch.onnx.export(model, (context[:1], scalars[:1]), fresh, dynamo=False, opset_version=OPSET, do_constant_folding=True,
                          input_names=["context", "scalars"], output_names=["quantiles"])
        graph = onnx.load(fresh)
        # Names and doc strings that carry local paths do not belong in a shipped file.
        for node in graph.graph.node:
            node.doc_string = ""
        graph.producer_name, graph.producer_version, graph.doc_string = "chronotick", "", ""
        onnx.checker.check_model(graph)
        onnx.save(graph, fresh)
        worst = difference(fresh, model, context, scalars)
        if not worst <= TOLERANCE:
            raise SystemExit(f"{path}: differs from PyTorch by {worst:.1e} of a row's largest quantile ({TOLERANCE:g} at most); not written")
    data = path.read_bytes()
    print(f"{path}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}, largest relative difference from PyTorch {worst:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("onnx", type=place)
    args = parser.parse_args()
    model, _ = load(args.checkpoint)
    model.network.freeze()
    export(model, model.network.shape, args.onnx)


if __name__ == "__main__":
    main()

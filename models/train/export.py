"""Writes a trained checkpoint as ONNX for tract and checks it against PyTorch.

usage: python export.py near.pt ../chronotick-near.onnx
"""

import argparse
import hashlib
import pathlib

import numpy as np
import onnx
import onnxruntime
import torch

from contract import SCALARS
from forecaster import load

OPSET = 17


def export(model, path):
    """Writes `model` (a Forecaster in evaluation mode) to `path`; returns the SHA-256 of the file in hex."""
    shape = model.network.shape
    model.network.freeze()
    example = (torch.zeros(1, shape.channels, shape.cells), torch.zeros(1, SCALARS))
    torch.onnx.export(model, example, path, dynamo=False, opset_version=OPSET, do_constant_folding=True,
                      input_names=["context", "scalars"], output_names=["quantiles"])
    graph = onnx.load(path)
    # Names and doc strings that carry local paths do not belong in a shipped file.
    for node in graph.graph.node:
        node.doc_string = ""
    graph.producer_name, graph.producer_version, graph.doc_string = "chronotick", "", ""
    onnx.checker.check_model(graph)
    onnx.save(graph, path)
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def run_onnx(path, context, scalars):
    """Outputs `[n, rows, 9]` of the file for each of `n` inputs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    rows = [session.run(None, {"context": context[i:i + 1], "scalars": scalars[i:i + 1]})[0] for i in range(len(context))]
    return np.concatenate(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("onnx")
    args = parser.parse_args()
    model, _ = load(args.checkpoint)
    digest = export(model, args.onnx)
    shape = model.network.shape
    generator = torch.Generator().manual_seed(1)
    context = torch.randn(64, shape.channels, shape.cells, generator=generator)
    scalars = torch.randn(64, SCALARS, generator=generator)
    with torch.no_grad():
        expected = model(context, scalars).numpy()
    difference = np.abs(run_onnx(args.onnx, context.numpy(), scalars.numpy()) - expected).max()
    size = pathlib.Path(args.onnx).stat().st_size
    print(f"{args.onnx}: {size} bytes, sha256 {digest}, largest difference from PyTorch {difference:.1e}")


if __name__ == "__main__":
    main()

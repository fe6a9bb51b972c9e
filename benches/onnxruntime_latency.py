"""Latency of the shipped models in ONNX Runtime, one thread, beside `cargo bench -p chronotick-benches --bench worker_link`.

    pip install onnxruntime==1.32.0 numpy==2.4.6
    python benches/onnxruntime_latency.py [models]

Times are processor time of the calling thread, which runs the model: what others do on the machine does not count.
"""

import pathlib
import resource
import sys
import time

import numpy as np
import onnxruntime

FOLDER = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent / "models")
ROUNDS = 2000
MODELS = ("near", "far")

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
random = np.random.default_rng(1)
print(f"ONNX Runtime {onnxruntime.__version__}, one thread, {ROUNDS} rounds")
for name in MODELS:
    path = str(FOLDER / f"chronotick-{name}.onnx")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    context, scalars = (np.ones(tensor.shape, np.float32) for tensor in session.get_inputs())
    context[:, 0] = random.standard_normal(context.shape[2])
    scalars[:] = 0.1 * random.standard_normal(scalars.shape)
    inputs = {"context": context, "scalars": scalars}
    times = []
    for round_ in range(ROUNDS + 200):
        started = time.thread_time_ns()
        session.run(["quantiles"], inputs)
        if round_ >= 200:
            times.append((time.thread_time_ns() - started) / 1e3)
    print(f"{name:5} p50 {np.percentile(times, 50):7.1f} us   p99 {np.percentile(times, 99):7.1f} us")
print(f"resident at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB, Python included")

"""Models with prefixes through torch.export, with any number of texts of any length."""

from importlib.util import find_spec

import pytest
import torch
from torch.export import Dim, export

import spt
from tests.conftest import batch
from tests.families import EAGER_ONLY, FAMILIES, family

GATED = spt.PrefixConfig(4)
SHIFTED = spt.PrefixConfig(4, alpha=None, shift_positions=True)
CASES = [
    *((name, "sentence", FAMILIES[name][1], GATED) for name in ("BERT", "DeBERTa-v2/v3")),
    *(pytest.param(name, "sentence", FAMILIES[name][1], GATED, marks=pytest.mark.soak) for name in ("ALBERT", "Llama")),
    *(("RoBERTa", task_type, "pooler", SHIFTED) for task_type in ("token", "choice")),
    ("BERT", "sentence", "last", SHIFTED),
]


def exported(name: str, task_type: str, pooling: str, config: spt.PrefixConfig):
    """A model, example inputs, and which of their dimensions vary."""
    encoder = family(name, "eager" if name in EAGER_ONLY else "sdpa")
    model = spt.TaskModel(encoder, task_type, 1 if task_type == "regression" else 3, pooling=pooling)
    inputs = texts(task_type, 3, 10)
    dynamic = {0: Dim.DYNAMIC, inputs["input_ids"].dim() - 1: Dim.DYNAMIC}
    return spt.attach(model, config).eval(), inputs, dict.fromkeys(inputs, dynamic)


def texts(task_type: str, rows: int, length: int) -> dict[str, torch.Tensor]:
    return batch(rows, length, choices=3 if task_type == "choice" else None)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "task_type", "pooling", "config"), CASES)
def test_an_exported_model_computes_batches_of_all_shapes(name, task_type, pooling, config):
    model, inputs, shapes = exported(name, task_type, pooling, config)
    program = export(model, (), inputs, dynamic_shapes=shapes).module()
    for rows, length in ((3, 10), (1, 7), (5, 23)):
        others = texts(task_type, rows, length)
        if rows == 5:  # padded on the left
            others = {name: tensor.flip(-1) for name, tensor in others.items()}
        torch.testing.assert_close(program(**others).logits, model(**others).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(
    not all(map(find_spec, ("onnx", "onnxscript", "onnxruntime"))), reason="needs onnx, onnxscript and onnxruntime"
)
@pytest.mark.parametrize("task_type", ["sentence", "token", "choice"])
def test_an_onnx_file_computes_batches_of_all_shapes(task_type, tmp_path):
    from onnxruntime import InferenceSession

    model, inputs, shapes = exported("BERT", task_type, "pooler", GATED)
    path = tmp_path / "model.onnx"
    torch.onnx.export(model, (), path, kwargs=inputs, dynamic_shapes=shapes, dynamo=True)
    session = InferenceSession(path)
    for rows, length in ((3, 10), (1, 7), (5, 23)):
        others = texts(task_type, rows, length)
        (logits,) = session.run(None, {name: tensor.numpy() for name, tensor in others.items()})
        torch.testing.assert_close(torch.from_numpy(logits), model(**others).logits, rtol=1e-4, atol=1e-5)

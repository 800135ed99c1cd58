"""The precision that settings ask for, and the settings that an adapter is evaluated with."""

from types import SimpleNamespace

import pytest
import torch
from accelerate.state import is_initialized

from spt.records import provenance
from spt.training import process_group
from spt.training.process_group import join
from spt.training.settings import precision, recorded_settings, trainer_settings
from spt.training.trainer_schema import TrainerSettings


@pytest.mark.parametrize(("asked", "products", "dtype"), [({}, "highest", None), ({"tf32": True}, "high", None),
                                                          ({"bf16": True}, "highest", torch.bfloat16)])  # fmt: skip
def test_precision_lasts_as_long_as_its_block(asked, products, dtype):
    before, matrix = torch.get_float32_matmul_precision(), torch.eye(2)
    with precision(trainer_settings({"learning_rate": 1.0} | asked), torch.device("cpu")):
        assert torch.get_float32_matmul_precision() == products
        assert (matrix @ matrix).dtype == (dtype or torch.float32)
    assert torch.get_float32_matmul_precision() == before and (matrix @ matrix).dtype == torch.float32


@pytest.mark.parametrize("has_accelerator", [True, False])
def test_a_run_in_float16_is_evaluated_without_an_accelerator_too(has_accelerator, monkeypatch, caplog):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: has_accelerator)
    trainer = {"learning_rate": 0.1, "fp16": True, "per_device_eval_batch_size": 4, "optim": "of an earlier version"}
    adapter = SimpleNamespace(training=SimpleNamespace(trainer=trainer))
    settings = recorded_settings(adapter)  # type: ignore[arg-type]
    assert (settings.fp16, settings.per_device_eval_batch_size) == (has_accelerator, 4)
    assert has_accelerator != ("float16" in caplog.text)
    assert recorded_settings(adapter, 7).per_device_eval_batch_size == 7  # type: ignore[arg-type]


def test_a_run_on_the_cpu_is_of_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = provenance.hardware.__wrapped__(use_cpu=True)
    assert found["accelerator"] is None and found["accelerators"] == 0
    assert provenance.PeakMemory(use_cpu=True).bytes() > 2**20


def test_a_run_on_another_device_than_the_one_before(monkeypatch):
    """accelerate keeps the first run's device for all later runs of a process."""
    settings, made = TrainerSettings(learning_rate=0.1, use_cpu=True), []
    assert join(settings).device.type == "cpu" and is_initialized()
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(process_group, "Accelerator", lambda cpu, **_: made.append((cpu, is_initialized())))
    join(settings)
    join(settings.model_copy(update={"use_cpu": False}))
    assert made == [(True, True), (False, False)]


def test_peak_memory_without_its_line_in_proc(monkeypatch):
    memory = provenance.PeakMemory(use_cpu=True)
    monkeypatch.setattr(provenance.Path, "read_text", lambda *_, **__: "Name: python")
    assert memory.bytes() > 2**20

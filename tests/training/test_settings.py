"""The precision that settings ask for, and the settings that an adapter is evaluated with."""

import os
from types import SimpleNamespace

import pytest
import torch
from accelerate.state import AcceleratorState, is_initialized

from spt.errors import SptError
from spt.modeling.matmul_precision import matmul_precision
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


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="torch before 2.9")
def test_precision_that_the_program_has_set_by_backend():
    cuda = torch.backends.cuda.matmul
    before, cuda.fp32_precision = cuda.fp32_precision, "tf32"
    try:
        torch.backends.mkldnn.matmul.fp32_precision = "ieee"
        with matmul_precision("highest"):
            assert torch.get_float32_matmul_precision() == "highest" and cuda.fp32_precision == "ieee"
        assert cuda.fp32_precision == "tf32"
    finally:
        torch.set_float32_matmul_precision("highest")
        cuda.fp32_precision = before


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
    device = SimpleNamespace(type="cuda")

    def accelerator(cpu, **_):
        made.append((cpu, is_initialized()))
        return SimpleNamespace(device=device)

    monkeypatch.setattr(process_group, "Accelerator", accelerator)
    join(settings)
    join(settings.model_copy(update={"use_cpu": False}))
    assert made == [(True, True), (False, False)]
    device.type = "cpu"  # as ACCELERATE_USE_CPU makes it
    with pytest.raises(SptError, match="accelerate is set up for the CPU"):
        join(settings.model_copy(update={"use_cpu": False}))


def test_a_process_of_a_job_of_mpi_trains_a_run_of_its_own(monkeypatch):
    monkeypatch.setattr(process_group, "is_initialized", lambda: False)
    AcceleratorState._reset_state(reset_partial_state=True)
    for name, value in {"PMI_SIZE": "4", "PMI_RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    accelerator = join(TrainerSettings(learning_rate=0.1, use_cpu=True))
    assert accelerator.num_processes == 1 and os.environ["PMI_SIZE"] == "4" and "WORLD_SIZE" not in os.environ


def test_float16_needs_an_accelerator():
    with pytest.raises(SptError, match="fp16 needs an accelerator"):
        join(TrainerSettings(learning_rate=0.1, use_cpu=True, fp16=True))


def test_peak_memory_without_its_line_in_proc(monkeypatch):
    memory = provenance.PeakMemory(use_cpu=True)
    monkeypatch.setattr(provenance.Path, "read_text", lambda *_, **__: "Name: python")
    assert memory.bytes() > 2**20

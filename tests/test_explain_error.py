"""Errors of other packages end in a message of their own; "(unexpected; ...)" is for bugs."""

import queue
from concurrent.futures import BrokenExecutor

import pytest
import torch
from hydra import initialize_config_dir
from hydra.errors import InstantiationException
from torch.utils.data import dataloader
from yaml import YAMLError

from spt.explain_error import explain
from spt.paths import CONF

ERRORS = {
    "no memory": (MemoryError(), "out of memory: halve trainer.per_device_train_batch_size"),
    "no memory on a CPU": (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory: halve"),
    "no memory on a GPU": (torch.OutOfMemoryError("CUDA out of memory.\nTried to"), "out of memory: halve"),
    "a GPU's error": (torch.AcceleratorError("CUDA error: an illegal memory access"), "CUDA_LAUNCH_BLOCKING=1"),
    "a lost process": (torch.distributed.DistNetworkError("connection reset"), "the processes of the run lost each"),
    "a package that is missing": (ModuleNotFoundError("No module named 'umap'"), "'umap': install the package"),
    "a package of another version": (ImportError("cannot import name 'x'"), "'x': install the package (in a version"),
    "a _target_ of nothing": (
        InstantiationException("Error"), "cannot import 'a.b': install the package (in a version"
    ),
    "a full disk": (OSError(28, "No space left on device", "runs/a"), "runs/a: No space left on device"),
    "an error without a number": (OSError("the file is of another system"), "the file is of another system"),
    "a broken config": (YAMLError("mapping values are not allowed\n  in a.yaml, line 3"), "allowed in a.yaml, line 3"),
    "a dead worker": (BrokenExecutor("terminated"), "a worker process died"),
}  # fmt: skip
ERRORS["a _target_ of nothing"][0].__cause__ = ImportError("cannot import\n'a.b'")


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_of_another_package_has_a_message(case):
    error, message = ERRORS[case]
    assert message in explain(error) and "unexpected" not in explain(error) and "\n" not in explain(error)


def test_a_bug_is_unexpected():
    assert explain(ZeroDivisionError("division by zero")).endswith("(unexpected; -v shows the traceback)")


def test_a_dead_reader_of_data(monkeypatch):
    """torch raises a plain RuntimeError where a process of the data loader died."""

    def poll(*args, **kwargs):
        raise queue.Empty

    loader = iter(torch.utils.data.DataLoader([1, 2], num_workers=1))
    monkeypatch.setattr(loader._data_queue, "get", poll)
    loader._workers[0].kill()
    loader._workers[0].join()
    with pytest.raises(RuntimeError) as error:
        next(loader)
    assert error.type is RuntimeError and dataloader.__name__ == error.traceback[-1].frame.f_globals["__name__"]
    assert "trainer.dataloader_num_workers=0" in explain(error.value)


def test_a_command_inside_another_hydra_program(train):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        code, _, err = train("task=demo_pair", "model=demo")
    assert code == 1 and "GlobalHydra is already initialized" in err and "unexpected" not in err

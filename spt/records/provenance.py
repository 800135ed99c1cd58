"""Where a result comes from: commit, versions of packages, hardware, peak memory."""

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

from spt import __version__, distributed
from spt.numerics_version import NUMERICS
from spt.paths import CHECKOUT

PACKAGES = (
    *("torch", "transformers", "accelerate", "datasets", "tokenizers", "safetensors", "numpy"),
    *("huggingface_hub", "peft", "scikit-learn", "scipy", "seqeval", "hydra-core", "omegaconf"),
)


@cache
def versions() -> dict[str, str]:
    """The versions of Python, this package and the packages that a result depends on."""
    own = {"python": platform.python_version(), "spt": __version__}
    return own | {name: importlib.metadata.version(name) for name in PACKAGES}


@cache
def origin() -> dict[str, Any]:
    """The git state and the numerics of the running code, read once: the working tree may change during a run."""
    return {"git": git_state(), "numerics": NUMERICS}


@cache
def hardware(use_cpu: bool = False) -> dict[str, Any]:
    """The machine: system, processor, cores, threads and the accelerators that a run uses, none on the CPU."""
    accelerator = None if use_cpu else torch.accelerator.current_accelerator(check_available=True)
    is_cuda = accelerator is not None and accelerator.type == "cuda"
    name = torch.cuda.get_device_name() if is_cuda else accelerator and accelerator.type
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": name,
        "accelerators": 0 if accelerator is None else distributed.count(),
    }


def _processor() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


class PeakMemory:
    """The peak memory since this object was made: of the GPU if there is one and it is used, else of the process."""

    def __init__(self, use_cpu: bool = False) -> None:
        self.cuda = torch.cuda.is_available() and not use_cpu
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_bytes(b"5")  # resets the peak of resident memory (VmHWM)

    def bytes(self) -> int:
        """The peak so far."""
        if self.cuda:
            return torch.cuda.max_memory_allocated()
        try:
            status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
            return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        except (OSError, StopIteration):  # gVisor leaves the line out; macOS has no /proc, and counts bytes, not KiB
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return peak if sys.platform == "darwin" else 1024 * peak


def git_state() -> dict[str, Any]:
    """The commit of this code and whether the working tree differs from it, outside `results/`.

    None without git, and where the package is installed: a repository around it is another's.
    """
    if CHECKOUT is None:
        return {"commit": None, "dirty": None}
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--", ":/", ":(top,exclude)results")
    return {"commit": commit, "dirty": None if commit is None else bool(changes)}


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(CHECKOUT), *arguments]
    try:
        return subprocess.run(command, capture_output=True, check=True).stdout.decode(errors="replace").strip()
    except (OSError, subprocess.CalledProcessError):
        return None

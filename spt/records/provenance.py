"""Where a result came from: commit, versions, hardware, peak memory."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from spt.numerics import NUMERICS

PACKAGES = (
    *("torch", "transformers", "accelerate", "datasets", "tokenizers", "safetensors", "numpy"),
    *("huggingface_hub", "peft", "scikit-learn", "scipy", "seqeval", "hydra-core", "omegaconf"),
)


def versions() -> dict[str, str]:
    """Python's version, ours, and those of the packages a result depends on."""
    from spt import __version__

    return {"python": platform.python_version(), "spt": __version__} | {
        name: importlib.metadata.version(name) for name in PACKAGES
    }


@cache
def origin() -> dict[str, Any]:
    """The commit and the numerics of the code that this process runs: as they were when first asked for."""
    return {"git": git_state(), "numerics": NUMERICS}


@cache
def hardware() -> dict[str, Any]:
    """The machine: system, processor, cores, threads and accelerator; as it was when this was first asked."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if cuda else None,
        "accelerators": torch.cuda.device_count() if cuda else 0,
    }


def _processor() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


class PeakMemory:
    """The most memory taken since this was made, on the accelerator where there is one, else by the process."""

    def __init__(self) -> None:
        import torch

        self.cuda = torch.cuda.is_available()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            return
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark of resident memory

    def bytes(self) -> int:
        """The peak so far."""
        if self.cuda:
            import torch

            return torch.cuda.max_memory_allocated()
        try:
            status = Path("/proc/self/status").read_text().splitlines()
            return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        except OSError:
            import resource

            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return peak if sys.platform == "darwin" else 1024 * peak


def git_state() -> dict[str, Any]:
    """The commit of this code, and whether the working tree differs from it; None where there is no repository.

    Files in `results/` do not count: a report that was just written changes no code.
    """
    commit = _git("rev-parse", "HEAD")
    return {
        "commit": commit,
        "dirty": None if commit is None else bool(_git("status", "--porcelain", "--", ":/", ":(top,exclude)results")),
    }


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None

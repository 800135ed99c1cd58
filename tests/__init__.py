"""No test asks the hub for anything; each process computes on one thread, so that several share a machine."""

import os
import tempfile
from pathlib import Path

if "PYTEST_VERSION" in os.environ:  # scripts.gpu_check uses modules of the tests, too
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HOME"] = str(Path(tempfile.gettempdir()) / f"spt-tests-{os.getuid()}")  # not the user's downloads
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        os.environ.pop(name, None)

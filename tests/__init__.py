"""No test asks the hub for anything; each process computes on one thread, so that several share a machine."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

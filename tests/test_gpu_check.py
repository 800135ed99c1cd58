"""The command that proves the project on a GPU: on a CPU it runs every check that needs none, and a check can fail."""

import json
import time

import pytest

from scripts import gpu_check
from scripts.gpu_check import CHECKS, Check, Given, perform
from spt.modeling.gated_attention import kernel_attention
from tests.conftest import run

SKIPPED = {
    "several GPUs": "needs two GPUs, and there are 0",
    **{check.name: "bert-large is measured on a GPU alone" for check in CHECKS if "large" in check.name},
    **{check.name: "torch.compile is measured on a GPU alone" for check in CHECKS if "compiled" in check.name},
}


@pytest.mark.soak
def test_every_check_runs_on_a_cpu(tmp_path):
    options = ["--device", "cpu", "--size", "tiny", "--folder", str(tmp_path), "--name", "tried", "--minutes", "20"]
    done = run("-m", "scripts.gpu_check", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "gpu-tried.json").read_text())
    assert [check["name"] for check in result["checks"]] == [check.name for check in CHECKS]
    for check in result["checks"]:
        if check["name"] in SKIPPED:
            assert (check["status"], check["message"]) == ("skipped", SKIPPED[check["name"]])
        else:
            assert check["status"] == "passed" and check["measured"], check
    text = (tmp_path / "gpu-tried.md").read_text()
    assert (
        "| attention | passed |" in text and "| spt | bfloat16, padded |" in text and "spt takes at most 1.10" in text
    )


@pytest.fixture
def given():
    return Given("cpu", "tiny", time.monotonic() + 100)


def test_a_kernel_without_the_gate_fails(given, monkeypatch):
    def ungated(query, key, value, mask, settings):
        return kernel_attention(query, key, value, mask, settings._replace(alpha=None))

    monkeypatch.setattr(gpu_check, "kernel_attention", ungated)
    result = perform(Check("attention", gpu_check.attention, 1), given)
    assert result["status"] == "failed" and "kernel_attention is off by" in result["message"]


def test_a_check_is_skipped_or_ended_when_the_time_is_up(given):
    result = perform(Check("long", gpu_check.attention, 1000), given)
    assert (result["status"], result["message"]) == ("skipped", "no time left: it may take 1000 s")
    result = perform(Check("hangs", lambda *_: time.sleep(60), 0), Given("cpu", "tiny", time.monotonic() + 0.1))
    assert result["status"] == "failed" and "allow more --minutes" in result["message"] and result["seconds"] < 30

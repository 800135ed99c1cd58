"""The benchmark's contenders compute what they say, and its command leaves its numbers."""

import json

import pytest
import torch

import spt
from scripts import benchmark
from scripts.benchmark import CONTENDERS, PADDED, Work, varied_in
from spt.modeling.prefix_parameters import prefixes
from tests.conftest import run


def work(contender, **settings):
    defaults = {"prefix_length": 3, "batch": 2, "length": 9, "task": None, "data_dir": None, "tokenizer": None}
    return Work(contender, size="tiny", device="cpu", **defaults | settings)


def test_the_yardstick_is_spt():
    """Texts padded to 128 tokens or not: the same loss of each example, without dropouts, to 1e-5 in float32."""
    torch.manual_seed(0)
    ours, _ = CONTENDERS["spt"](work("spt"), "sentence")
    theirs, _ = CONTENDERS["published"](work("published"), "sentence")
    for prefix, layer in zip(prefixes(ours), theirs.encoder.encoder.layer, strict=True):
        torch.nn.init.normal_(prefix.key_prefix)
        torch.nn.init.normal_(prefix.value_prefix)
        layer.attention.self.key_prefix.data.copy_(prefix.key_prefix)
        layer.attention.self.value_prefix.data.copy_(prefix.value_prefix)
    missing, unexpected = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert all("_prefix" in name for name in (*missing, *unexpected))
    kind, (batch,) = benchmark.batches(work("spt"))
    assert kind == "sentence"
    padded = {n: torch.nn.functional.pad(t, (0, PADDED - 9)) if t.dim() == 2 else t for n, t in batch.items()}
    ours.eval(), theirs.eval()
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(benchmark, "DROPOUT", 0.0)
        for row in range(2):
            one, other = ({n: t[row : row + 1] for n, t in its.items()} for its in (batch, padded))
            torch.testing.assert_close(ours(**one).loss, theirs(**other).loss, rtol=1e-5, atol=1e-5)


def test_what_trains():
    sizes = {}
    for name, build in CONTENDERS.items():
        torch.manual_seed(0)
        model, loss = build(work(name), "sentence")
        _, (batch,) = benchmark.batches(work(name))
        loss(batch).backward()
        trained = [p for p in model.parameters() if p.requires_grad]
        assert all(p.grad is not None for p in trained), name
        sizes[name] = sum(p.numel() for p in trained)
    prefix = 2 * 2 * 3 * 32
    assert sizes["prefix_tuning"] == sizes["spt"] == sizes["spt_sl"] == sizes["published"] == sizes["floor"] + prefix
    assert sizes["fine_tuning"] > 1e6


def test_one_setting_varies():
    results = [{"prefix_length": p, "length": 128, "batch": 16} for p in (1, 4)]
    assert varied_in(results) == "prefix_length"
    assert varied_in(results[:1]) is None
    assert varied_in([*results, {"prefix_length": 4, "length": 64, "batch": 16}]) is None


@pytest.mark.soak
def test_the_command(tmp_path, monkeypatch):
    code = (
        "from pathlib import Path; from scripts import benchmark; "
        f"benchmark.FOLDER = Path({str(tmp_path)!r}); benchmark.main()"
    )
    options = ["--size", "tiny", "--contenders", "floor,spt+bfloat16", "--prefix_length", "2,4", "--length", "16"]
    done = run("-c", code, *options, "--batch", "2", "--rounds", "1", "--name", "tried")
    assert done.returncode == 0, done.stderr
    tried = json.loads((tmp_path / "tried.json").read_text())
    assert [result["prefix_length"] for result in tried["results"]] == [2, 4]
    for result in tried["results"]:
        assert all(len(its["seconds"]) == 1 for its in result["contenders"].values())
    text = (tmp_path / "README.md").read_text()
    assert "spt+bfloat16" in text and "tried.svg" in text and (tmp_path / "tried.svg").exists()
    assert spt.__version__ == tried["versions"]["spt"]


def test_an_unknown_contender_is_refused(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["benchmark", "--contenders", "spt+fast"])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "'spt+fast' is none of floor" in capsys.readouterr().err

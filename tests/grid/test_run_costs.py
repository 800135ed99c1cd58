"""What runs cost: by finished runs, and by the sizes of their encoder and data."""

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from transformers import BertConfig

from spt.grid.cells import cells
from spt.grid.compose_configs import Composer
from spt.grid.gpu_speed import achieved_tflops
from spt.grid.match_records import Finished
from spt.grid.run_costs import Costs, forward_flops, run_flops
from spt.paths import CONF
from spt.reproduce import _cost


@pytest.fixture
def planned():
    """The config of a run of each cell by its name, and the known sizes."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config, composer = compose("reproduce", ["profile=[cpu,paper]"]), Composer()
        yield {cell.name: composer.config(cell.jobs(None)[0]) for cell in cells(config)}, config.costs


def test_the_flops_of_a_layer_are_those_of_its_matrices():
    hidden, inner, tokens = 8, 32, 5
    weights = 4 * hidden * hidden + 2 * hidden * inner
    scores_and_sums = 2 * tokens * tokens * hidden * 2
    assert forward_flops(3, hidden, inner, tokens, tokens) == 3 * (2 * tokens * weights + scores_and_sums)


def test_a_run_takes_more_with_more_epochs_examples_slots_and_a_trained_backbone(planned):
    configs, sizes = planned
    spt = configs["superglue/rte/bert-base-cased/spt"]
    flops = run_flops(spt, sizes)
    doubled = spt | {"trainer": spt["trainer"] | {"num_train_epochs": 2 * spt["trainer"]["num_train_epochs"]}}
    assert run_flops(doubled, sizes) == pytest.approx(2 * flops)
    assert run_flops(spt | {"method": spt["method"] | {"prefix_length": 200}}, sizes) > flops
    assert run_flops(spt | {"task": spt["task"] | {"train_examples": 10}}, sizes) < flops / 2
    tuned = spt | {"method": configs["superglue/rte/bert-base-cased/fine_tuning"]["method"]}
    assert 1.3 * flops < run_flops(tuned, sizes) < 1.5 * flops
    assert run_flops(spt | {"model": spt["model"] | {"name": "another"}}, sizes) is None


def test_max_steps_limit_the_examples(planned):
    configs, sizes = planned
    spt = configs["superglue/rte/bert-base-cased/spt"]
    trainer = spt["trainer"] | {"max_steps": 10, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2}
    limited = spt | {"trainer": trainer}
    epochs = 160 / spt["task"]["sizes"]["train"]
    share = epochs / spt["trainer"]["num_train_epochs"]
    assert run_flops(limited, sizes) / run_flops(spt, sizes) == pytest.approx(share)


def test_every_cell_of_paper_and_cpu_has_an_estimate(planned):
    configs, sizes = planned
    assert all(run_flops(config, sizes) for config in configs.values())


def test_times_are_of_the_machines_that_ran_it(planned):
    configs, sizes = planned
    config = configs["superglue/cb/minilm/spt"]
    names = {group: config[group]["name"] for group in ("task", "model", "method")}
    machines = [{"accelerator": None, "processor": "A CPU", "threads": 1}, {"accelerator": "A GPU"}]
    runs = [
        Finished(
            names | {"status": "finished", "wall_seconds": seconds, "hardware": machine, "config": config},
            CONF,
        )
        for seconds, machine in zip((100.0, 20.0), machines, strict=True)
    ]
    short = config | {"trainer": config["trainer"] | {"max_steps": 3}}  # says nothing of a whole run
    trial = Finished(runs[0].record | {"config": short, "wall_seconds": 1.0}, CONF)
    costs = Costs([*runs, trial], sizes)
    assert costs.by_machine(config) == pytest.approx({"A CPU, threads: 1": 100, "A GPU": 20})
    assert Costs([trial], sizes).by_machine(config) == {}
    longer = config["trainer"] | {"num_train_epochs": 3 * config["trainer"]["num_train_epochs"]}
    assert costs.by_machine(config | {"trainer": longer})["A GPU"] == pytest.approx(60)

    few = config | {"task": config["task"] | {"train_examples": 10}}  # and an evaluation of dev after every epoch
    train, dev = config["task"]["sizes"]["train"] * (1 - config["task"]["held_out"]), 56
    assert costs.by_machine(few)["A GPU"] == pytest.approx(20 * (2 * 10 + dev) / (2 * train + dev))
    unknown = config | {"task": config["task"] | {"sizes": None}}
    of_unknown = Costs([Finished(runs[0].record | {"config": unknown}, CONF)], sizes)
    assert [*of_unknown.by_machine(unknown).values()] == pytest.approx([100])


def test_the_speed_of_a_device_is_measured():
    tiny = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    assert achieved_tflops("cpu", tiny) > 0
    planned, real = (OmegaConf.create({"tflops": None, "dry_run": dry_run}) for dry_run in (True, False))
    assert ("GPU-hours" in _cost(1e15, planned)) == torch.cuda.is_available() != ("tflops=<" in _cost(1e15, planned))
    assert "tflops=<" in _cost(1e15, real)
    assert (
        _cost(3.6e17, OmegaConf.create({"tflops": 100, "dry_run": False})) == "1.00 GPU-hours: 360 PFLOP at 100 TFLOP/s"
    )

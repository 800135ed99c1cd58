"""Searches through Optuna: they vary existing settings, and do not change the config of other runs."""

import json
import shutil

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from spt.errors import SptError
from spt.paths import CONF
from spt.records.fingerprint import fingerprint
from spt.sweeps.hydra_launchers import check
from tests.conftest import DEMO, run
from tests.test_configs import composed, options

CELLS = [
    [],
    ["task=rte", "method=spt_sl"],
    ["task=conll04", "method=prefix_tuning", "model=bert-large-uncased"],
    ["task=copa", "method=fine_tuning", "model=roberta-large", "recipe=none"],
]


def resolved(conf, *overrides):
    with initialize_config_dir(str(conf), version_base="1.3"):
        return OmegaConf.to_container(compose("train", list(overrides)), resolve=True)


@pytest.mark.parametrize("cell", CELLS, ids=" ".join)
def test_the_group_does_not_change_other_runs(cell, tmp_path):
    conf = shutil.copytree(CONF, tmp_path / "conf")
    lines = (conf / "train.yaml").read_text().splitlines(keepends=True)
    without = [line for line in lines if "hparams_search" not in line]
    assert len(without) == len(lines) - 1
    (conf / "train.yaml").write_text("".join(without))
    before, now = resolved(conf, *cell), resolved(CONF, *cell)
    assert before == now and fingerprint(before) == fingerprint(now)


@pytest.mark.parametrize("name", options("hparams_search"))
def test_a_search_varies_existing_settings(name):
    implementation = pytest.importorskip("hydra_plugins.hydra_optuna_sweeper._impl")
    method = ["method=fine_tuning" if name == "fine_tuning" else "method=spt_sl"]
    chosen = [*method, f"hparams_search={name}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["hydra.mode=MULTIRUN", *chosen], return_hydra_config=True)
    sweeper = config.hydra.sweeper
    assert sweeper._target_.endswith("OptunaSweeper") and sweeper.direction == "maximize" and sweeper.storage is None
    space, fixed = implementation.create_params_from_overrides([f"{k}={v}" for k, v in sweeper.params.items()])
    assert space and not fixed
    for key, distribution in space.items():
        value = OmegaConf.select(config, key)
        assert distribution._contains(distribution.to_internal_repr(value)), (
            f"{key}: {value} is not among {distribution}"
        )
    task, _, model = name.partition("_")
    if (CONF / "model" / f"{model}.yaml").exists():
        assert config.recipe.name == f"spt_sl/{task}/{model}"


def test_fixed_settings_of_a_search_reach_its_runs():
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    plain, searched = composed("method=spt_sl"), composed("hparams_search=rte_bert-base-cased")
    assert (plain.trainer.num_train_epochs, searched.trainer.num_train_epochs) == (50, 30)
    assert composed("method=spt_sl", "hparams_search=general") == plain


@pytest.mark.parametrize(("name", "value"), [("n_trials", 0), ("n_jobs", 1.5), ("direction", "sideways")])
def test_a_search_without_trials_is_refused(name, value):
    hydra = {"sweeper": {name: value}, "launcher": {"_target_": "a.Launcher"}}
    with pytest.raises(SptError, match=f"hydra.sweeper.{name} must be .*, not {value!r}"):
        check(OmegaConf.create({"hydra": hydra}))


QUICK = ("task=demo_pair", "method=spt_sl", *DEMO, "trainer.per_device_train_batch_size=64")


def search(folder, *overrides):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    settings = ("hparams_search=general", "hydra.sweeper.n_trials=3", f"output_dir={folder}")
    return run("-m", "spt.train", "--multirun", *QUICK, *settings, *overrides)


def records(folder):
    return [json.loads(path.read_text()) for path in folder.glob("*/record.json")]


def best(folder):
    (path,) = folder.glob("sweeps/*/optimization_results.yaml")
    return OmegaConf.load(path)


@pytest.mark.slow
def test_a_search_shows_its_best_trial(tmp_path):
    done = search(tmp_path, "hydra.sweeper.n_jobs=2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert done.returncode == 0, done.stderr
    trials = records(tmp_path)
    assert len({record["config"]["trainer"]["learning_rate"] for record in trials}) == 3
    shown = best(tmp_path)
    assert shown.best_value == max(record["metrics"]["best_dev"] for record in trials)
    assert f"trainer.learning_rate={shown.best_params['trainer.learning_rate']}" in done.stdout
    (winner,) = [
        record
        for record in trials
        if record["config"]["trainer"]["learning_rate"] == shown.best_params["trainer.learning_rate"]
    ]
    again = run("-m", *winner["command"].split()[2:])
    assert again.returncode == 0 and "finished before" in again.stdout, again.stderr


@pytest.mark.slow
def test_a_trial_that_fails_or_diverges_does_not_end_the_search(tmp_path):
    fixed = ("method.alpha=8.0", "method.sl_weight=0", "method.prefix_length=choice(0,4)")
    rates = ("trainer.max_grad_norm=0", "trainer.learning_rate=choice(1e-2,1e30)", "hydra.sweeper.n_trials=6")
    done = search(tmp_path, *fixed, *rates)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    message = done.stderr.split("these runs of the sweep failed, the others are done")[1]
    assert "method.prefix_length=0" in message and "loss became" in message
    assert dict(best(tmp_path).best_params) == {"method.prefix_length": 4, "trainer.learning_rate": 1e-2}
    assert "best dev of the search" in done.stdout


def test_a_search_without_multirun_is_refused(train):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    code, _, err = train(*QUICK, "hparams_search=general", "method.alpha=8.0")
    assert code == 1 and "add --multirun" in err and "method.prefix_length" in err and "method.alpha" not in err

"""The shipped tables and profiles mean runs that exist, and records find the cells they belong to."""

import itertools
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf

from spt.errors import SptError
from spt.grid.cells import Cell, Job, cells
from spt.grid.compose_configs import Composer
from spt.grid.local_data import LocalSources
from spt.grid.match_records import Finished, Records, Result, choose
from spt.paths import CONF
from spt.records.comparable_settings import identity
from spt.records.fingerprint import fingerprint
from spt.records.schema import read_record
from spt.report.published_numbers import read_numbers

TABLES = sorted(path.stem for path in (CONF / "table").glob("*.yaml"))
PROFILES = sorted(path.stem for path in (CONF / "profile").glob("*.yaml"))
PARTS = [
    (path.stem, profile)
    for path in sorted((CONF / "table").glob("*.yaml"))
    for profile in OmegaConf.load(path).profiles
]


COMPOSER = Composer()  # which keeps what it has composed


@pytest.fixture(autouse=True)
def composer():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield COMPOSER


def grid(*overrides):
    return cells(compose("reproduce", list(overrides)))


def test_the_shipped_tables():
    assert set(TABLES) == {
        "superglue", "ner", "glue", "ablation", "prefix_length", "sl_weight", "alpha", "train_size"
    }  # fmt: skip
    assert set(PROFILES) == {"smoke", "cpu", "paper", "published"}
    published = {(c.task, c.model, c.row) for c in grid("profile=paper", "table=[superglue,ner]")}
    four = ("fine_tuning", "prefix_tuning", "spt", "spt_sl")
    bert = ("bert-base-cased", "bert-large-cased", "roberta-large")
    assert set(itertools.product(("boolq", "copa", "rte", "wic", "wsc"), bert, four)) <= published
    assert {task for task, _, _ in published} >= {"conll03", "conll04", "ontonotes"}
    real = {(c.task, c.row) for c in grid("profile=cpu", "table=[superglue,ner,glue]")}
    six = (*four, "linear_probe", "ungated")
    assert real == set(itertools.product(("cb", "copa", "wsc", "conll04", "wnut17", "stsb"), six))
    factors = {c.row for c in grid("profile=paper", "table=ablation")}
    assert len(factors) == 12  # gate x SL x key dropout x score dropout, where there is a gate


def test_all_training_examples_are_the_runs_of_the_other_tables(composer):
    found = grid("profile=cpu", "table=[train_size,prefix_length]")
    runs = {cell.name: {composer.identity(job) for job in cell.jobs(None)} for cell in found}
    for row in ("ungated", "spt", "spt_sl"):
        assert runs[f"train_size/conll04/minilm/{row}/922"] == runs[f"prefix_length/conll04/minilm/{row}/20"]


@pytest.mark.parametrize(("table", "profile"), PARTS)
def test_every_cell_is_a_run(table, profile, composer):
    found = grid(f"table={table}", f"profile={profile}")
    assert found and len({cell.name for cell in found}) == len(found)
    kinds = {(cell.row, cell.point): cell for cell in found} | {(cell.task, cell.model): cell for cell in found}
    for cell in kinds.values():
        job = cell.jobs(cell.learning_rates[0] if cell.learning_rates else None)[0]
        config = composer.config(job)
        assert (config["task"]["name"], config["model"]["name"]) == (cell.task, cell.model)
        assert config["seed"] == cell.seeds[0]
        if job.learning_rate is not None:
            assert config["trainer"]["learning_rate"] == job.learning_rate
        if cell.point is not None:
            group, key = cell.point[0].split(".")
            assert config[group][key] == (None if cell.point == ("task.train_examples", 922) else cell.point[1])
    assert config == OmegaConf.to_container(compose("train", job.overrides), resolve=True)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["method=lora"],
        ["task=conll03", "method=prefix_tuning"],
        ["recipe=none"],
        ["recipe=spt_sl/rte/bert-base-cased", "method=spt"],
        ["recipe=no/such/one"],
        ["+trainer.eval_delay=1", "logger=wandb"],
        ["trainer={max_steps: 3}", "task.labels=[a,b]", "task.hub={path: x}"],
        ["++model.config.a=2", "output_dir=${task.name}"],
        ["method=spt_sl", "method.alpha=null", "task.sizes.train=5", "model.revision='a b'"],
        ["trainer=default", "hydra.verbose=true"],
    ],
)
def test_configs_are_those_that_hydra_composes(overrides, composer):
    given = {"task": "task=rte", "model": "model=bert-base-cased", "method": "method=spt_sl"}
    names = [override.partition("=")[0] for override in overrides]
    overrides = [*(choice for group, choice in given.items() if group not in names), *overrides]
    cell = Cell("table", "profile", "rte", "bert-base-cased", "row", None, tuple(overrides), (11,), ())
    expected = OmegaConf.to_container(compose("train", [*overrides, "seed=11"]), resolve=True)
    assert composer.config(Job(cell, 11, None)) == expected


def test_an_interpolation_of_seed_and_learning_rate_is_that_of_the_run(composer):
    own = ("++model.config.note=${seed}", "++model.config.rate=${trainer.learning_rate}")
    overrides = ("task=rte", "model=demo", "method=spt", *own)
    cell = Cell("table", "profile", "rte", "demo", "row", None, overrides, (11, 12), ())
    for seed, rate in ((11, 0.5), (12, 0.25)):
        job = Job(cell, seed, rate)
        expected = OmegaConf.to_container(compose("train", job.overrides), resolve=True)
        assert composer.config(job) == expected and expected["model"]["config"] == {"note": seed, "rate": rate}


@pytest.mark.parametrize(
    "override", ["method.nonsense=1", "task=nope", "method.alpha=1,2", "~task.nonsense", "trainer.optim.foo=1"]
)
def test_an_override_that_hydra_refuses_ends_in_its_message(override, composer):
    overrides = [
        o for o in ("task=rte", "model=demo", "method=spt") if o.partition("=")[0] != override.partition("=")[0]
    ]
    cell = Cell("table", "profile", "rte", "demo", "row", None, (*overrides, override), (11,), ())
    with pytest.raises(HydraException) as expected:
        compose("train", [*overrides, override])
    with pytest.raises(HydraException) as error:
        composer.config(Job(cell, 11, None))
    assert str(error.value) == str(expected.value)


def test_the_paper_s_recipes_are_taken(composer):
    (cell,) = [c for c in grid("profile=paper", "table=superglue") if c.name == "superglue/rte/bert-base-cased/spt"]
    config = composer.config(cell.jobs(None)[0])
    assert config["recipe"]["name"] == "spt_sl/rte/bert-base-cased"
    assert (config["method"]["prefix_length"], config["method"]["sl_weight"]) == (8, 0)
    assert config["trainer"]["num_train_epochs"] == 50 and config["seed"] == 44


def test_the_published_seed_comes_first():
    seeds = {cell.name: cell.seeds for cell in grid("profile=paper", "table=[superglue,glue]")}
    assert seeds["superglue/wsc/bert-base-cased/spt_sl"] == (100, 11, 12, 13, 14)
    assert seeds["superglue/wsc/bert-base-cased/spt"] == (100, 11, 12, 13, 14)  # of the recipe that the row names
    assert seeds["superglue/boolq/bert-base-cased/spt_sl"] == (11, 12, 13, 14, 15)
    assert seeds["glue/cola/roberta-large/spt"] == (11, 12, 13, 14, 15)  # none is published


def test_profile_published_is_the_cells_with_a_published_number():
    numbers = read_numbers()
    cells_with_one = {(row["task"], row["model"], row["method"]) for row in numbers}
    found = grid("profile=published")
    assert {(cell.task, cell.model, cell.row) for cell in found} == cells_with_one and len(found) == len(cells_with_one)
    assert all(len(cell.seeds) == 1 for cell in found)


def test_identity_is_what_was_run_not_where(composer):
    (cell,) = [c for c in grid("profile=cpu", "table=glue") if c.row == "spt"]
    config = composer.config(Job(cell, 11, 0.01))
    elsewhere = config | {
        "task": config["task"] | {"data_dir": "/elsewhere", "hub": None},
        "model": config["model"] | {"name_or_path": "/there/minilm", "revision": "x"},
        "output_dir": "other",
    }
    assert identity(config) == identity(elsewhere) == composer.identity(Job(cell, 11, 0.01))
    assert identity(config) != composer.identity(Job(cell, 12, 0.01)) != composer.identity(Job(cell, 11, 0.02))
    assert identity(config) != identity(config | {"method": config["method"] | {"alpha": 4.0}})
    weights = config["model"]["name_or_path"].replace("/", "--")
    cached = config | {"model": config["model"] | {"name_or_path": f"/hub/models--{weights}/snapshots/0123abcd"}}
    assert identity(config) == identity(cached)
    other = config | {"model": config["model"] | {"name_or_path": "my/own-encoder"}}
    assert identity(config) != identity(other)


def test_a_run_of_several_processes_is_no_cells(composer):
    (cell,) = [c for c in grid("profile=cpu", "table=glue") if c.row == "spt"]
    config = composer.config(Job(cell, 11, 0.01))
    one, two = (Finished({"config": config, "processes": count}, Path()).identity for count in (1, 2))
    assert one == composer.identity(Job(cell, 11, 0.01)) != two


def test_local_copies_are_where_the_folders_say(composer, tmp_path):
    config = compose("reproduce", ["profile=cpu", "table=[glue,ner]"])
    (cell,) = [c for c in cells(config) if (c.task, c.row) == ("stsb", "spt")]
    sources = LocalSources(config.folders, lambda task: task["data_dir"], str(tmp_path), str(tmp_path))
    settings = {"task.data_dir": f"{tmp_path}/glue/STS-B", "model.name_or_path": f"{tmp_path}/minilm"}
    assert sources.settings(cell) == settings
    run = sources.config(Job(cell, 11, 0.01), composer)
    assert (run["task"]["data_dir"], run["model"]["name_or_path"]) == tuple(settings.values())
    assert sources.fingerprint_of(Job(cell, 11, 0.01), composer) == f"{tmp_path}/glue/STS-B"
    assert composer.config(Job(cell, 11, 0.01))["task"]["data_dir"] is None


def test_a_class_may_move_and_committed_records_stay_apart(composer):
    (cell,) = [c for c in grid("profile=cpu", "table=glue") if c.row == "spt"]
    config = composer.config(Job(cell, 11, 0.01))
    moved = config | {"task": config["task"] | {"_target_": "spt.elsewhere.Task"}}
    assert identity(moved) == identity(config) and fingerprint(moved) == fingerprint(config)
    records = [read_record(path) for path in (CONF.parent / "results" / "records").glob("*/record.json")]
    assert len({identity(record["config"]) for record in records}) == len(records) > 100


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["tables.ner.profiles.smoke.rows=[spt,sptt]"], "has no row 'sptt': did you mean 'spt'"),
        (
            ["+tables.ner.rows.odd={methods: spt}", "tables.ner.profiles.smoke.rows=[odd]"],
            r"tables.ner .conf/table.: rows.odd.method: Field required; rows.odd.methods: Extra inputs are not",
        ),
        (["+tables.ner.sweep={a.b: [1], c.d: [2]}"], "a table sweeps one setting"),
        (
            ["+tables.ner.sweep={trainer.optim: [adamw_torch, sgd]}"],
            "a point of a sweep is a number, or .*'adamw_torch'",
        ),
        (["+tables.ner.serach=false"], "serach: Extra inputs are not permitted"),
        (["profiles.smoke.learning_rates.spt_sl=[0]"], "learning_rates.spt_sl.0: Input should be greater than 0"),
        (
            ["+profiles.smoke.tasks={demo_nre: []}"],
            "profile smoke: unknown task 'demo_nre': .*'demo_ner'",
        ),
        (["+profiles.smoke.learning_rates.spt_ls=[0.01]"], "profile smoke: unknown method 'spt_ls': .*'spt_sl'"),
        (["tables.ner.rows.spt.recipe=spt_ls"], "table ner: conf/recipe has no recipes of 'spt_ls': .*'spt_sl'"),
        (["~tables.ner.profiles.smoke"], "tables ner have no part for profile smoke"),
    ],
)
def test_a_table_that_says_nonsense_is_refused(overrides, message):
    with pytest.raises(SptError, match=message):
        grid("table=ner", "profile=smoke", *overrides)


def run_of(score, status="finished"):
    return Finished({"metrics": {"best_dev": score}, "status": status}, CONF)


def test_the_best_dev_score_chooses_the_learning_rate():
    (cell,) = [c for c in grid("profile=cpu", "table=glue") if c.row == "spt"]
    first, second, third = cell.learning_rates
    seed = cell.seeds[0]

    def chosen(a, b, c, **failures):
        return choose(Result(cell, trials={first: a, second: b, third: c}, **failures))

    assert chosen(run_of(0.5), run_of(0.7), run_of(0.6)) == second
    assert chosen(run_of(0.7), run_of(0.6), run_of(0.7)) == first  # the first of equals
    assert chosen(run_of(0.5), run_of(0.9, "diverged"), run_of(0.6)) == third
    assert chosen(run_of(0.5), None, run_of(0.6)) is None  # not all is known yet
    assert chosen(run_of(0.5), None, run_of(0.6), failures={(seed, second): "out of memory"}) == third
    assert chosen(None, None, None, failures={(seed, rate): "broken" for rate in cell.learning_rates}) is None


def test_a_folder_without_records_is_empty(tmp_path):
    assert Records(tmp_path, tmp_path / "none").finished == {}

"""Bad input of every kind, to every command: it ends in one message that says what is wrong and what to do, and leaves
nothing that looks like a result.
"""

import gzip
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.conftest import DEMO, REPO

PAIR, NER = [*DEMO, "task=demo_pair"], [*DEMO, "task=demo_ner"]
OWN = [*DEMO, "task=custom", "task.train={tmp}/train.csv", "task.validation={tmp}/dev.csv", "task.text=[text]"]
REVIEWS = "text,label\nthe old apple,a\nthe child,b\n"
SENTENCE = "EU B-ORG\nrejects O\n\n"
BEFORE, ENCODER = "tests/fixtures/before/runs", "base_model=spt/demo/encoder"
HAS_OPTUNA = find_spec("optuna") is not None

CONFIGS = {
    "an unknown task": (["task=rtee"], "unknown task 'rtee': did you mean 'rte'"),
    "an unknown method": (["method=spt_ls"], "unknown method 'spt_ls': did you mean 'spt_sl'"),
    "an unknown model": (["model=bert-base"], "unknown model 'bert-base': did you mean .*'bert-base-cased'"),
    "an unknown recipe": (
        ["recipe=spt_sl/rte/bert-base"],
        "unknown recipe .* did you mean 'spt_sl/rte/bert-base-cased'",
    ),
    "an unknown launcher": (
        ["hydra/launcher=slrum"],
        "unknown hydra/launcher 'slrum': did you mean 'slurm'.*pip install",
    ),
    "an unknown option": (["method.prefix_lenght=3"], "method.prefix_lenght.*did you mean 'prefix_length'"),
    "an unknown group": (["tsak=rte"], "unknown option 'tsak': did you mean 'task'"),
    "an unknown trainer setting": ([*PAIR, "+trainer.warmup=3"], "did you mean 'warmup_steps'"),
    "a setting of another method": (["method=fine_tuning", "method.alpha=3"], "method.alpha"),
    "a prefix of length 0": ([*PAIR, "method.prefix_length=0"], "prefix_length must be .* not 0"),
    "a temperature of 0": ([*PAIR, "method.alpha=0"], "alpha must be .* not 0"),
    "a temperature of null": ([*PAIR, "method.alpha=null"], "method=prefix_tuning"),
    "text for a number": (
        [*PAIR, "method.prefix_length=many"],
        "prefix_length must be .* not 'many'",
    ),
    "sl for spt": ([*PAIR, "method.sl_weight=0.1"], "method=spt_sl"),
    "a negative sl_weight": ([*PAIR, "method=spt_sl", "method.sl_weight=-1"], "sl_weight must be"),
    "a missing data folder": ([*DEMO, "task=rte", "task.data_dir=/no/such"], "no data folder '/no/such'.*train.jsonl"),
    "a missing data file": ([*DEMO, "task=rte", "task.data_dir=spt/demo/ner"], "has no train.jsonl"),
    "a label outside task.labels": ([*PAIR, "task.labels=[a,b]"], "train.jsonl, line 1: label '(yes|no)'"),
    "an entity type outside task.labels": ([*NER, "task.labels=[PER]"], "train.txt, line .*: entity type '(LOC|ORG)'"),
    "an unknown template": ([*PAIR, "task.template=7"], "templates 0 to 0, not 7"),
    "a missing model folder": ([*PAIR, "model.name_or_path=/no/such"], "is not a folder with a model"),
    "a folder without a model": ([*PAIR, "model.name_or_path=spt/demo/ner"], "no config.json"),
    "an unknown dtype": ([*PAIR, "model.dtype=float33"], "model.dtype='float33'"),
    "an unknown pooling": ([*PAIR, "model.pooling=max"], "unknown pooling 'max'"),
    "null for the attention": ([*PAIR, "model.attn_implementation=null"], "must be sdpa or eager, not None"),
    "another attention": ([*PAIR, "model.attn_implementation=flex_attention"], "'eager' or 'sdpa'"),
    "a prefix longer than the table": (
        [*PAIR, "method=prefix_tuning", "method.prefix_length=60"],
        "max_length=64 is more than the 36 tokens",
    ),
    "data from an unreachable hub": ([*DEMO, "task=rte"], "cannot load 'aps/super_glue'.*task.data_dir"),
    "a model from an unreachable hub": (
        ["task=demo_pair", "model=bert-base-cased"],
        "cannot load the model 'google-bert/bert-base-cased'.*model.name_or_path",
    ),
    "null for a path": (["task=demo_pair", "model=demo", "model.name_or_path=null"], "model.name_or_path must be"),
    "an option of another method": (
        [*PAIR, "method=prefix_tuning", "recipe=spt_sl/rte/bert-base-cased"],
        "belongs to another method",
    ),
    "a prefix that leaves no room for text": ([*NER, "method=prefix_tuning", "method.prefix_length=95"], "no room"),
    "broken syntax": (["task=[rte"], "no viable alternative at input"),
    "two tasks without --multirun": (["task=rte,cb"], "add --multirun"),
    "text for a seed": (["seed=eleven"], "seed must be a whole number .* not 'eleven'"),
    "a negative seed": (["seed=-1"], "seed must be"),
    "text for force": (["force=perhaps"], "force must be true or false"),
}


CONFIGS |= {
    "a negative learning rate": ([*PAIR, "trainer.learning_rate=-1"], "learning_rate must be a finite number above"),
    "a learning rate in words": ([*PAIR, "trainer.learning_rate=fast"], "trainer.learning_rate must be .* not 'fast'"),
    "an unknown option of a schedule": (
        [*PAIR, "trainer.lr_scheduler_type=linear", "+trainer.lr_scheduler_kwargs={pwoer: 2}"],
        "lr_scheduler_kwargs do not fit lr_scheduler_type=linear",
    ),
    "half precision without a GPU": ([*PAIR, "trainer.fp16=true"], "fp16 needs an accelerator"),
    "all keys dropped": ([*PAIR, "method.key_dropout=1"], "key_dropout is a rate: at least 0 and below 1, not 1"),
    "a negative dropout": ([*PAIR, "method.score_dropout=-0.1"], "score_dropout is a rate"),
    "a dropout in words": ([*PAIR, "method.key_dropout=some"], "key_dropout is a rate.* not 'some'"),
    "an infinite temperature": ([*PAIR, "method.alpha=inf"], "alpha must be a finite number above 0"),
    "a temperature of nan": ([*PAIR, "method.alpha=nan"], "alpha must be"),
    "a fractional prefix length": (
        [*PAIR, "method.prefix_length=2.5"], "prefix_length must be a whole number of at least 1, not 2.5"
    ),
    "true for the prefix length": (
        [*PAIR, "method.prefix_length=true"], "prefix_length must be a whole number .* not True"
    ),
    "a projection of size 0": ([*PAIR, "method=p_tuning_v2", "method.projection=0"], "projection must be"),
    "text for shift_positions": (
        [*PAIR, "method=prefix_tuning", "method.shift_positions=maybe"],
        "shift_positions must be true or false, not 'maybe'",
    ),
    "a weight of nan": ([*PAIR, "method=spt_sl", "method.sl_weight=nan"], "sl_weight must be"),
    "a weight in words": ([*PAIR, "method=spt_sl", "method.sl_weight=light"], "sl_weight must be"),
    "a rank of 0": ([*PAIR, "method=lora", "method.r=0"], "r must be|rank"),
    "a LoRA dropout of 1": ([*PAIR, "method=lora", "method.lora_dropout=1"], "lora_dropout is a rate"),
    "a word for LoRA's modules": (
        [*PAIR, "method=lora", "method.target_modules=query"], "target_modules must be a list of names, not 'query'"
    ),
    "an option too many": ([*PAIR, "+method.extra=1"], "extra.*belongs to another method"),
    "a length of 0": ([*PAIR, "task.max_length=0"], "max_length"),
    "a length in words": ([*PAIR, "task.max_length=long"], "max_length"),
    "no training example": ([*PAIR, "task.train_examples=0"], "train_examples"),
    "more training examples than there are": ([*PAIR, "task.train_examples=1000000"], "there are"),
    "everything held out": ([*PAIR, "task.held_out=1"], "held_out"),
    "a negative share held out": ([*PAIR, "task.held_out=-0.1"], "held_out"),
    "text for the share held out": ([*PAIR, "task.held_out=some"], "held_out"),
    "a seed too large": ([*PAIR, "seed=4294967296"], "seed must be a whole number from 0 to 2"),
    "half a seed": ([*PAIR, "seed=1.5"], "seed must be a whole number"),
    "a true seed": ([*PAIR, "seed=true"], "seed must be a whole number"),
    "an unknown logger": ([*PAIR, "logger=tensorboard"], "unknown logger 'tensorboard'"),
    "an unknown search": ([*PAIR, "hparams_search=all"], "unknown hparams_search 'all'"),
    "null for output_dir": ([*PAIR, "output_dir=null"], "output_dir must be a path"),
    "an unknown entry of the model's configuration": ([*PAIR, "+model.config.no_such_setting=1"], "no_such_setting"),
    "an unknown activation": ([*PAIR, "+model.config.hidden_act=nope"], "cannot load the model .*'nope'"),
    "text for the number of layers": (
        [*PAIR, "+model.config.num_hidden_layers='3'"], "model.config.num_hidden_layers='3': .*num_hidden_layers"
    ),
    "a rate above 1 in a model's configuration": ([*PAIR, "+model.config.hidden_dropout_prob=2"], "dropout"),
    "a word for a list": ([*PAIR, "task.metrics=accuracy"], "task.metrics must be a valid list, as in .*=.accuracy."),
    "a word for a list of files": ([*PAIR, "task.files.train=train.jsonl"], "task.files.train must be a valid list"),
    "null for the file names": ([*PAIR, "task.files=null"], "task.files must be a valid dictionary, not None"),
    "a number for a folder": ([*PAIR, "task.data_dir=1"], "no data folder '1'"),
    "a word for a model's configuration": ([*PAIR, "model.config=abc"], "model.config must be names with values"),
    "a revision for a local folder": ([*PAIR, "model.revision=v2"], "model.revision='v2' is for a model on the hub"),
    "an option that nothing reads": ([*PAIR, "+learning_rate=0.5"], "unknown option 'learning_rate'"),
    "an option of an unknown group": ([*PAIR, "+a.b=1"], "unknown option 'a.b'"),
    "a task name of dots": ([*PAIR, "task.name=.."], "task.name is part of a folder's name"),
    "a number for a name": ([*PAIR, "task.name=2024"], "task.name is part of a folder's name.*as text"),
    "a removed setting": ([*PAIR, "~trainer.learning_rate"], "give trainer.learning_rate another value"),
    "a removed seed": ([*PAIR, "~seed"], "give seed another value"),
    "--resolve without --cfg": (["--resolve", *PAIR], "--resolve flag can only be used in conjunction with --cfg"),
    "0 parallel jobs": (
        ["--multirun", *PAIR, "seed=1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=0"],
        "hydra.launcher.n_jobs must be at least 1, or -1",
    ),
    "several processes a job": (
        ["--multirun", *PAIR, "seed=1,2", "hydra/launcher=local", "hydra.launcher.tasks_per_node=4"],
        "each job of a sweep is one process: leave out hydra.launcher.tasks_per_node",
    ),
    "an unknown search direction": (
        ["--multirun", *PAIR, "hydra/sweeper=search", "seed=1,2", "hydra.sweeper.direction=sideways"],
        "direction must be maximize or minimize, not 'sideways'" if HAS_OPTUNA else "optuna .* is not installed: pip",
    ),
    "an unknown option of a model": ([*PAIR, "+model.poolings=mean"], "unknown option model.poolings: did you mean"),
    "a search of dry runs": (
        ["--multirun", *PAIR, "hparams_search=general", "dry_run=true"],
        "dry_run=true has no scores" if HAS_OPTUNA else "optuna .* is not installed: pip",
    ),
    "a sweep over an empty range": (["--multirun", *PAIR, "seed=range(0)"], "the sweep has no run"),
    "a batch of 0 runs": (["--multirun", *PAIR, "hydra.sweeper.max_batch_size=0"], "max_batch_size must be"),
    "0 runs per GPU": (["--multirun", *PAIR, "seed=1,2", "runs_per_gpu=0"], "runs_per_gpu must be a whole number"),
    "more parameters than fit in memory": ([*PAIR, "method.prefix_length=10000000000"], "out of memory"),
    "a task name that leaves the output folder": (
        [*PAIR, "task.name=../../etc"], "task.name is part of a folder's name"
    ),
    "an empty list of metrics": ([*PAIR, "task.metrics=[]"], "metric"),
    "an unknown metric": ([*PAIR, "task.metrics=[acuracy]"], "acuracy"),
    "a _target_ outside spt": ([*PAIR, "task._target_=os.system"], "task._target_|os.system"),
}  # fmt: skip


def gz(text: str) -> bytes:
    return gzip.compress(text.encode())


DATA: dict[str, tuple[list[str], dict[str, str | bytes], str]] = {
    "an empty file": (OWN, {"train.csv": "", "dev.csv": REVIEWS}, "train.csv"),
    "a header alone": (OWN, {"train.csv": "text,label\n", "dev.csv": REVIEWS}, "train.csv"),
    "an empty dev file": (OWN, {"train.csv": REVIEWS, "dev.csv": "text,label\n"}, "dev.csv|validation"),
    "Latin-1": (OWN, {"train.csv": "text,label\nd\xe9j\xe0,a\n".encode("latin-1"), "dev.csv": REVIEWS}, "not UTF-8"),
    "UTF-16": (OWN, {"train.csv": REVIEWS.encode("utf-16"), "dev.csv": REVIEWS}, "not UTF-8"),
    "gzip under another name": (OWN, {"train.csv": gz(REVIEWS), "dev.csv": REVIEWS}, "train.csv.*not UTF-8"),
    "a kind of file that is not read": (
        [*OWN, "task.train={tmp}/train.csv.gz"], {"train.csv.gz": gz(REVIEWS), "dev.csv": REVIEWS},
        "no reader for this kind of file",
    ),
    "an open quote": (OWN, {"train.csv": 'text,label\n"a,b\n', "dev.csv": REVIEWS}, "a quote left open"),
    "a row too long": (OWN, {"train.csv": "text,label\na,b,c\n", "dev.csv": REVIEWS}, "expected 2 fields"),
    "a row too short": (OWN, {"train.csv": "text,label\na\n", "dev.csv": REVIEWS}, "expected 2 fields"),
    "a column twice": (OWN, {"train.csv": "text,text\na,b\n", "dev.csv": REVIEWS}, "two columns are called 'text'"),
    "no such column": (OWN, {"train.csv": "texts,label\na,b\nc,d\n", "dev.csv": REVIEWS}, "no field 'text': did you"),
    "no label": (OWN, {"train.csv": "text,label\na,\nb,c\n", "dev.csv": REVIEWS}, "label"),
    "one class": (OWN, {"train.csv": "text,label\na,b\nc,b\n", "dev.csv": REVIEWS}, "1 classes, and at least 2"),
    "a dev label that train lacks": (
        OWN, {"train.csv": REVIEWS, "dev.csv": "text,label\nx,c\n"}, "dev.csv, line 2: label 'c' is not a label"
    ),
    "a text for a score": (
        [*OWN, "task.shape=regression"], {"train.csv": REVIEWS, "dev.csv": REVIEWS}, "line 2: label 'a' is not a number"
    ),
    "an infinite score": (
        [*OWN, "task.shape=regression"], {"train.csv": "text,label\nx,inf\ny,1\n", "dev.csv": REVIEWS}, "line 2: .*inf"
    ),
    "a score of nan": (
        [*OWN, "task.shape=regression"], {"train.csv": "text,label\nx,nan\ny,1\n", "dev.csv": REVIEWS}, "line 2: .*nan"
    ),
    "NUL bytes": (OWN, {"train.csv": "text,label\na\0b,c\nd,e\n", "dev.csv": REVIEWS}, "train.csv, line 2: a NUL byte"),
    "a folder for a file": ([*OWN, "task.train={tmp}"], {"dev.csv": REVIEWS}, "no file|no reader"),
    "one number in two ways": (
        OWN, {"train.csv": "text,label\na,1\nb,0\nc,1.0\n", "dev.csv": REVIEWS}, "'1' and '1.0' are one number"
    ),
    "the label for a text": (
        [*OWN, "task.text=[text,label]"], {"train.csv": REVIEWS, "dev.csv": REVIEWS}, "'label' is the label, and cannot"
    ),
    "no such file of one's own": (OWN, {"dev.csv": REVIEWS}, "no file .*train.csv"),
    **{
        f"jsonl: {name}": (
            [*PAIR, "task.data_dir={tmp}"], {f"{split}.jsonl": content for split in ("train", "val", "dev")}, message
        )
        for name, content, message in (
            ("cut off", '{"premise": "a", "hypoth', "train.jsonl, line 1: not JSON"),
            ("a list", "[1, 2]\n", "expected a JSON object, found list"),
            ("text", "premise,hypothesis\n", "line 1: not JSON"),
            ("no field", '{"premise": "a"}\n', "line 1: no field"),
            ("nothing", "", "train.jsonl"),
            ("gzip", gz("{}"), "not UTF-8"),
            ("a number for a text", '{"premise": 3, "hypothesis": "b", "label": "yes"}\n', "line 1: .*premise"),
            ("null for a text", '{"premise": null, "hypothesis": "b", "label": "yes"}\n', "line 1: .*premise"),
            ("a list for a label", '{"premise": "a", "hypothesis": "b", "label": []}\n', "line 1: label"),
            ("a label out of range", '{"premise": "a", "hypothesis": "b", "label": 7}\n', "line 1: label"),
            ("NaN for a label", '{"premise": "a", "hypothesis": "b", "label": NaN}\n', "line 1: .*holds no label"),
            ("a key twice", '{"premise": "a", "premise": "b", "label": "yes"}\n', "line 1: .* the key 'premise' twice"),
            ("half of a character", '{"premise": "\\ud800", "hypothesis": "b"}\n', "line 1: .*surrogate"),
            ("brackets without end", '{"premise": ' + "[" * 5000 + "\n", "line 1: not JSON"),
            ("half a character", b'{"premise": "\xf0\x9f', "not UTF-8"),
        )
    },
    **{
        f"conll: {name}": (
            [*NER, "task.data_dir={tmp}"], {"train.txt": content, "dev.txt": content, "test.txt": content}, message
        )
        for name, content, message in (
            ("nothing", "", "train.txt"),
            ("blank lines", "\n\n\n", "train.txt"),
            ("a ragged line", "EU X B-PER\nrejects O\n", "line 2: expected 3 columns"),
            ("a word alone", "EU\n", "line 1: expected 2 columns"),
            ("no tag", "EU PER\n", "line 1, last column: 'PER' is not a tag"),
            ("a tag of another scheme", "EU S-PER\n", "'S-PER' is not a tag"),
            ("an unknown entity", "EU B-CITY\n", "line 1: entity type 'CITY'"),
            ("Latin-1", "caf\xe9 O\n".encode("latin-1"), "not UTF-8"),
            ("NUL bytes", "a\0b O\n", "line 1: a NUL byte"),
            ("JSON", '{"tokens": ["a"], "tags": ["O"]}\n', "line 1"),
        )
    },
    "no train split": ([*NER, "task.data_dir={tmp}"], {"dev.txt": SENTENCE}, "has no train.txt"),
    "no dev split": ([*NER, "task.data_dir={tmp}"], {"train.txt": SENTENCE}, "has no dev.txt"),
    "a file for a folder": ([*NER, "task.data_dir={tmp}/train.txt"], {"train.txt": SENTENCE}, "no data folder"),
}  # fmt: skip


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def with_config(**changes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def tampered(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def lacking_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights.pop(next(name for name in weights if name.endswith("layer.1.attention.self.query.weight")))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def no_numbers(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(
        {n: t * float("nan") for n, t in weights.items()}, folder / "model.safetensors", metadata={"format": "pt"}
    )


def half_a_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text()[:500])


def of_another_vocabulary(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("word_embeddings.weight"))
    weights[name] = weights[name][:10].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with_config(vocab_size=10)(folder)


MODELS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (without("config.json"), "no config.json"),
    "no weights": (without("model.safetensors"), "model.safetensors"),
    "no tokenizer": (without("tokenizer.json"), "tokenizer"),
    "half a tokenizer": (half_a_tokenizer, "tokenizer"),
    "a tokenizer of another vocabulary": (of_another_vocabulary, "does not fit its tokenizer.* embeddings for 10"),
    "half a config": (lambda folder: (folder / "config.json").write_text('{"model_type": '), "config.json"),
    "a config that is a list": (lambda folder: (folder / "config.json").write_text("[]"), "config.json"),
    "an unknown architecture": (with_config(model_type="bort"), "bort"),
    "no architecture": (with_config(model_type=None), "model_type|config.json"),
    "other shapes": (with_config(hidden_size=256), "shape|size|hidden_size"),
    "more layers than weights": (with_config(num_hidden_layers=9), "lack|missing|without"),
    "heads that do not divide": (with_config(num_attention_heads=7), "heads"),
    "code of its own": (
        with_config(model_type="mine", auto_map={"AutoModel": "modeling_mine.Mine"}), "mine"
    ),
    "weights cut off": (cut, "model.safetensors"),
    "weights tampered with": (tampered, "model.safetensors"),
    "a pickle": (pickled, "pickle|safetensors"),
    "a missing matrix": (lacking_weights, "query.weight"),
    "weights that are no numbers": (no_numbers, "not all numbers in .* are finite"),
}  # fmt: skip


def record(**changes) -> str:
    empty = {name: {} for name in ("config", "git", "hardware", "versions")}
    return json.dumps(
        {"schema": 2, "task": "t", "model": "m", "method": "x", "seed": 1, "fingerprint": "f"} | empty | changes
    )


OTHERS: dict[str, tuple[str, list[str], dict[str, str | bytes], str]] = {
    "runs: no folder": ("runs", ["output_dir=/no/such"], {}, "holds no finished run"),
    "runs: half a record": ("runs", ["output_dir={tmp}"], {"a/record.json": '{"schema": 2'}, "is not a valid record"),
    "runs: bytes": ("runs", ["output_dir={tmp}"], {"a/record.json": b"\xff\0"}, "is not a valid record"),
    "runs: a list": ("runs", ["output_dir={tmp}"], {"a/record.json": "[]"}, "is not a valid record"),
    "runs: a later schema": ("runs", ["output_dir={tmp}"], {"a/record.json": record(schema=99)}, "schema: Input"),
    "runs: a record with nothing in it": (
        "runs", ["output_dir={tmp}"], {"a/record.json": record()}, "a/record.json .*command: Field required"
    ),
    "runs: a record of another type": (
        "runs", ["output_dir={tmp}"], {"a/record.json": record(seed="11", command="")}, "seed: Input .*delete it"
    ),
    "runs: an unknown option": ("runs", ["ouput_dir=x"], {}, "unknown option 'ouput_dir': did you mean 'output_dir'"),
    "report: a record with nothing in it": (
        "report", ["results_dir={tmp}"], {"records/a/record.json": record()}, "a/record.json"
    ),
    "report: half a record": ("report", ["results_dir={tmp}"], {"records/a/record.json": "{"}, "is not a valid record"),
    "report: an unknown table": ("report", ["table=supergleu"], {}, "unknown table 'supergleu': did you mean"),
    "report: an unknown profile": ("report", ["profile=gpu"], {}, "unknown profile 'gpu'"),
    "report: an unknown cell": ("report", ["cell=superglue/rte/bert"], {}, "unknown cell"),
    "report: no folder": ("report", ["results_dir=null"], {}, "results_dir must be a folder"),
    "report: a file for a folder": (
        "report", ["table=ner", "profile=cpu", "results_dir={tmp}/a"], {"a": ""}, "cannot write .*/a: .*set results_dir"
    ),
    "report: an unknown format": ("report", ["format=tex"], {}, "unknown format 'tex': .*known: csv, latex, markdown"),
    "report: an unknown width": ("report", ["figures=pages"], {}, "unknown figures 'pages': did you mean 'page'"),
    "report: two things": ("report", ["format=csv", "figures=page"], {}, "give one of format and figures"),
    "report: columns of a report": ("report", ["columns=[cb]"], {}, "columns chooses .*: give format="),
    "report: a report without what is published": ("report", ["published=false"], {}, "published chooses .*format="),
    "report: a column": ("report", ["format=csv", "columns=cb"], {}, r"columns must be a list of names, as in col"),
    "report: an unknown column": (
        "report", ["table=superglue", "format=latex", "columns=[copas]", "results_dir={tmp}"], {},
        "unknown column 'copas' of table superglue: did you mean 'copa'",
    ),
    "report: an unknown row": (
        "report", ["table=ner", "format=latex", "rows=[spt_ls]", "results_dir={tmp}"], {},
        "unknown row 'spt_ls' of table ner: did you mean 'spt_sl'",
    ),
    "report: a table without numbers": (
        "report", ["table=alpha", "format=latex", "results_dir={tmp}"], {}, "no cell has a number yet"
    ),
    "report: no numbers of a row": (
        "report", ["table=ner", "format=latex", "rows=[spt]", "results_dir={tmp}"], {}, "no numbers of what columns"
    ),
    "report: no figures": ("report", ["table=ner", "figures=page", "results_dir={tmp}"], {}, "numbers of a figure"),
    "report: marks": ("report", ["format=csv", "marks=1"], {}, "marks must be true or false"),
    "report: the output of a report": ("report", ["output=a.tex"], {}, "output is where format and figures go"),
    "report: no file for the output": (
        "report", ["table=ner", "format=csv", "output={tmp}", "results_dir={tmp}"], {}, "cannot write .*set output"
    ),
    "report: no table": ("report", ["table=[]"], {}, "no table is chosen"),
    "reproduce: no table": ("reproduce", ["table=[]"], {}, "no table is chosen"),
    **{
        f"reproduce: {option}": ("reproduce", ["table=ner", "--dry-run", option], {}, message)
        for option, message in (
            ("dry_run=perhaps", "dry_run must be true or false"),
            ("tflops=0", "tflops must be a finite number above 0, not 0"),
            ("tflops=fast", "tflops must be a finite number above 0, not 'fast'"),
            ("force=perhaps", "force must be true or false"),
            ("output_dir=null", "output_dir must be a folder"),
            ("profiles.smoke.seeds=[]", "seeds: must be a list of different whole numbers"),
            ("profiles.smoke.seeds=[1,1]", "seeds: must be a list of different whole numbers"),
            ("profiles.smoke.seeds=3", "seeds: must be a list of different whole numbers"),
            ("tables.ner.profiles.smoke.models=demo", "profiles.smoke.0.models: Input should be a valid list"),
            ("+foo=1", "unknown option 'foo'"),
        )
    },
    "reproduce: a negative batch of runs": (
        "reproduce",
        ["profile=smoke", "output_dir={tmp}/runs", "results_dir={tmp}", "hydra.sweeper.max_batch_size=-1"],
        {},
        "max_batch_size must be a whole number",
    ),
    "reproduce: an unknown table": ("reproduce", ["table=nerr"], {}, "unknown table 'nerr'"),
    "reproduce: demo and real": ("reproduce", ["profile=[smoke,cpu]"], {}, "give it alone"),
    "reproduce: no data": ("reproduce", ["data_dir=/no/such"], {}, "data_dir=/no/such is no folder"),
    "reproduce: no models": ("reproduce", ["model_dir=/no/such"], {}, "model_dir=/no/such is no folder"),
    "evaluate: no run": ("evaluate", [], {}, "run is missing"),
    "evaluate: no such run": ("evaluate", ["run=/no/such"], {}, "/no/such"),
    "evaluate: an empty folder": ("evaluate", ["run={tmp}"], {}, "is not the folder of a run or an adapter"),
    "evaluate: half an adapter": (
        "evaluate", ["run={tmp}"], {"adapter.json": "{", "adapter.safetensors": b""}, "adapter.json"
    ),
    "evaluate: an adapter that is a list": (
        "evaluate", ["run={tmp}"], {"adapter.json": "[]", "adapter.safetensors": b""}, "adapter.json"
    ),
    "inspect: no run": ("inspect", [], {}, "run is missing"),
    "inspect: no such run": ("inspect", ["run=/no/such"], {}, "/no/such"),
    "inspect: an empty folder": ("inspect", ["run={tmp}"], {}, "is not the folder of a run or an adapter"),
    "inspect: half an adapter": (
        "inspect", ["run={tmp}"], {"adapter.json": "{", "adapter.safetensors": b""}, "adapter.json"
    ),
    "inspect: interventions that are no choice": (
        "inspect", ["run={tmp}", "interventions=many"], {}, "interventions must be true or false, not 'many'"
    ),
    "inspect: output is a file": ("inspect", ["run={tmp}", "output={tmp}/a"], {"a": ""}, "output must name a folder"),
    "inspect: an empty text": ("inspect", ["run={tmp}", "text= "], {}, "text is empty: there is nothing to look at"),
    "inspect: an empty second text": ("inspect", ["run={tmp}", "text=a", "text_pair="], {}, "text_pair is empty"),
    "inspect: a second text alone": ("inspect", ["run={tmp}", "text_pair=a"], {}, "give text=.* as well"),
    "inspect: text and several runs": ("inspect", ["run=[a,b]", "text=a"], {}, "looked at with one run"),
    "inspect: text and split": ("inspect", ["run={tmp}", "text=a", "split=test"], {}, "give one of text and split"),
    "inspect: text and file": ("inspect", ["run={tmp}", "text=a", "file=b.txt"], {}, "give one of text and file"),
    "inspect: text and data_dir": ("inspect", ["run={tmp}", "text=a", "data_dir=b"], {}, "give one of text and data_d"),
    "inspect: a text of two lines": ("inspect", ["run={tmp}", "text=a\nb"], {}, "text has 2 lines: give one text"),
    "inspect: a text that is not UTF-8": ("inspect", ["run={tmp}", "text=a\udcff"], {}, "text is not UTF-8"),
    "inspect: an unknown option": ("inspect", ["run={tmp}", "spilt=test"], {}, "did you mean 'split'"),
    "inspect: no runs": ("inspect", ["run=[]"], {}, "must name runs, each once"),
    "inspect: a run twice": ("inspect", ["run=[a,a]"], {}, "must name runs, each once"),
    "inspect: one of several runs is not there": ("inspect", ["run=[/no/such,/nor/this]"], {}, "/no/such"),
    "predict: neither text nor input": ("predict", ["run={tmp}"], {}, "give one of text"),
    "predict: text and input": ("predict", ["run={tmp}", "text=a", "input=b"], {}, "give one of text"),
    "predict: an empty text": ("predict", ["run={tmp}", "text= "], {}, "text is empty"),
    "predict: no such input": ("predict", ["run={tmp}", "input=/no/such"], {}, "no file '/no/such'"),
    "predict: output is a device": (
        "predict", ["run={tmp}", "text=a", "output=/dev/null"], {}, "not a regular file"
    ),
    "predict: input and output are the same file": (
        "predict", ["run={tmp}", "input={tmp}/a.jsonl", "output={tmp}/a.jsonl"], {"a.jsonl": "{}"}, "are the same file"
    ),
    "predict: a text that is not UTF-8": ("predict", ["run={tmp}", "text=a\udcff"], {}, "text is not UTF-8"),
    "evaluate: output is a device": ("evaluate", ["run={tmp}", "output=/dev/null"], {}, "not a regular file"),
    "predict: output is a folder": ("predict", ["run={tmp}", "text=a", "output={tmp}"], {}, "is a folder"),
    "prune: no run": ("prune", ["keep=5"], {}, "run is missing"),
    "prune: no number of slots": ("prune", ["run={tmp}"], {}, "keep is missing"),
    "prune: no slots": ("prune", ["run={tmp}", "keep=0"], {}, "keep must be a whole number .* not 0"),
    "prune: slots in words": ("prune", ["run={tmp}", "keep=few"], {}, "keep must be a whole number .* not 'few'"),
    "prune: no adapter": ("prune", ["run={tmp}", "keep=1"], {}, "is not the folder of a run or an adapter"),
    "prune: an output that exists": (
        "prune", ["run={tmp}", "keep=1", "output={tmp}/a"], {"a/b": ""}, "/a is there already: delete it, or"
    ),
    "prune: a default output that exists": (
        "prune", ["run={tmp}", "keep=1"], {"adapter/b": "", "pruned_1": ""}, "pruned_1 is there already"
    ),
    "prune: no output": ("prune", ["run={tmp}", "keep=1", "output="], {}, "output must name a folder, not ''"),
    "prune: more slots than there are": (
        "prune", [f"run={BEFORE}/demo_pair.demo.spt.ce43461f7ccf", "keep=21", ENCODER], {},
        "keep=21 is more than the 20 slots that each layer of .* has",
    ),
    "prune: a run without prefixes": (
        "prune", [f"run={BEFORE}/demo_choice.demo.lora.bcccf440fea0", "keep=1", ENCODER], {}, "has no prefixes to prune"
    ),
    "push: no repository": ("push", ["run={tmp}"], {}, "repository is missing"),
    "push: no adapter": ("push", ["run={tmp}", "repository=a/b"], {}, "is not the folder of a run or an adapter"),
}  # fmt: skip


@pytest.fixture
def fails(monkeypatch, capsys, tmp_path):
    """Call a command that must end in exactly one message, which matches `message`."""
    import importlib

    def call(name: str, arguments: list[str], message: str) -> None:
        module = importlib.import_module("spt.report.__main__" if name == "report" else f"spt.{name}")
        given = [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]
        if name in ("report", "reproduce") and not any("table" in argument for argument in arguments):
            given.append("table=ner")  # one is read sooner than all
        monkeypatch.setattr(sys, "argv", [f"spt.{name}", *given])
        monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
        monkeypatch.chdir(REPO)
        with pytest.raises(SystemExit) as end:
            module.main()
        print(end.value.code, file=sys.stderr)
        output = capsys.readouterr()
        lines = [line for line in output.err.splitlines() if line.startswith("error:")]
        assert end.value.code not in (None, 0) and len(lines) == 1, output.out + output.err
        assert re.search(message, lines[0]), output.err
        assert not re.search("^Traceback|unexpected; -v|Could not append", output.err, re.MULTILINE), output.err

    return call


def made(folder: Path) -> list[Path]:
    return [*folder.glob("runs/*/record.json"), *folder.glob("runs/*/failure.json")]


@pytest.mark.parametrize("case", CONFIGS)
def test_a_bad_config(case, fails, tmp_path):
    arguments, message = CONFIGS[case]
    where = [] if any(argument.startswith("output_dir=") for argument in arguments) else ["output_dir={tmp}/runs"]
    fails("train", [*arguments, *where], message)
    assert not made(tmp_path)


def write(folder: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize("case", DATA)
def test_bad_data(case, fails, tmp_path):
    arguments, files, message = DATA[case]
    write(tmp_path, files)
    fails("train", [*arguments, "output_dir={tmp}/runs"], message)
    assert not made(tmp_path)


@pytest.mark.parametrize("case", MODELS)
def test_a_bad_model(case, fails, tmp_path):
    damage, message = MODELS[case]
    shutil.copytree(REPO / "spt/demo/encoder", tmp_path / "model")
    damage(tmp_path / "model")
    fails("train", [*PAIR, "model.name_or_path={tmp}/model", "output_dir={tmp}/runs"], message)
    assert not made(tmp_path)


@pytest.mark.parametrize("case", OTHERS)
def test_other_bad_input(case, fails, tmp_path):
    command, arguments, files, message = OTHERS[case]
    write(tmp_path, files)
    fails(command, arguments, message)


LONG = 100_000  # words
ODD = {
    "texts": (
        OWN,
        {
            "train.csv": "\ufefftext,label\r\n" + "\r\n".join(
                ("word " * LONG + ",a", '"",b', '"  ",a', "!!! ???,b", "\u200b\ufeff,a", "🎉,b", "cafe\u0301,a", "")
            ),
            "dev.csv": REVIEWS,
        },
        {"examples": 7, "truncated": 1, "lost_words": 0},
    ),
    "sentences": (
        [*NER, "task.data_dir={tmp}"],
        {
            "train.txt": "\ufeff" + "w O\r\n" * LONG + "\r\n!!! O\n... B-PER\n\n\u200b O\n",
            **dict.fromkeys(("dev.txt", "test.txt"), SENTENCE),
        },
        {"examples": 3, "truncated": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_odd_text_is_text(case, train, tmp_path):
    """No example is lost, and truncated ones are counted."""
    arguments, files, expected = ODD[case]
    write(tmp_path, files)
    code, _, err = train(*(argument.replace("{tmp}", str(tmp_path)) for argument in arguments), "trainer.max_steps=1")
    assert code == 0, err
    (path,) = made(tmp_path)
    split = json.loads(path.read_text())["data"]["splits"]["train"]
    assert {name: split[name] for name in expected} == expected
    assert case == "texts" or split["lost_words"] > LONG - 100


ENVIRONMENT = {
    "text for the number of processes": ("WORLD_SIZE", "two", "WORLD_SIZE='two' of the environment"),
    "one process of two": (
        "WORLD_SIZE",
        "2",
        "WORLD_SIZE=2 .* but RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not set",
    ),
    "another precision": ("ACCELERATE_MIXED_PRECISION", "bf16", "ACCELERATE_MIXED_PRECISION=bf16.*ask for, 'no'"),
}


@pytest.mark.parametrize("case", ENVIRONMENT)
def test_a_bad_environment(case, fails, monkeypatch, tmp_path):
    name, value, message = ENVIRONMENT[case]
    monkeypatch.setenv(name, value)
    fails("train", [*PAIR, "output_dir={tmp}/runs"], message)
    assert not made(tmp_path)


def test_slurm_on_a_machine_without_it(fails, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    jobs = ["--multirun", *PAIR, "seed=1,2", "hydra/launcher=slurm", "output_dir={tmp}/runs"]
    fails("train", jobs, "hydra/launcher=slurm: no srun on this machine")
    assert not made(tmp_path)


@pytest.mark.parametrize("name", ["record.json", "train.log", "checkpoint.safetensors", "lock.json", "adapter"])
def test_a_pipe_in_place_of_a_file_of_the_run(name, fails, tmp_path):
    arguments = [*PAIR, "task.labels=[a,b]", "output_dir={tmp}/runs"]
    fails("train", arguments, "label")
    (folder,) = (tmp_path / "runs").iterdir()
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    fails("train", arguments, f"{name} is in the way|{name} is not a valid record")

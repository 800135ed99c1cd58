"""Time and peak memory of a training step of each method, of its lower bound and of other libraries.

    python -m scripts.benchmark --size minilm                          # 16 x 128 tokens in float32
    python -m scripts.benchmark --size minilm --task rte --data_dir folder --tokenizer folder \\
        --contenders spt,spt+bfloat16,published                        # all batches of an epoch
    python -m scripts.benchmark --prefix_length 1,4,16,64,256 --contenders floor,spt

On a CPU, in every round each contender has a process of its own, one after the other: two processes of the same program
differ by some percent in all their steps, by where their memory happens to lie. On a GPU one process measures all.
Ratios are between times of one round, and the tables have the median over rounds. Weights are random, of the size of a
BERT that is named: no time depends on them. A step is the forward and backward pass and, where anything trains, AdamW's
step, with all dropouts on. Results go to results/benchmarks/<name>.json, and all of those make its README.md.
"""

import argparse
import itertools
import json
import multiprocessing
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.utils.data import BatchSampler
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
)
from transformers.masking_utils import eager_mask
from transformers.trainer_pt_utils import LengthGroupedSampler

from spt import methods
from spt.modeling.freeze_parameters import freeze
from spt.modeling.prefix_parameters import INITIALIZER_RANGE
from spt.modeling.pretrained_encoder import load_tokenizer
from spt.modeling.task_model import TaskModel
from spt.paths import CONF
from spt.records.provenance import PeakMemory, git_state, hardware, versions
from spt.tasks.task import Task

FOLDER = Path(__file__).resolve().parent.parent / "results" / "benchmarks"
SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
    "minilm": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    "bert-base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    "bert-large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
}
ALPHA, DROPOUT, SL_WEIGHT = 8.0, 0.1, 1e-4
PUBLISHED = "published"
PADDED = 128  # tokens; published implementations pad every text to this length
OPTIONS = ("bfloat16", "tf32", "compiled")
STEPS, WARM_UP = {"cpu": 4, "cuda": 50}, {"cpu": 2, "cuda": 10}  # timed steps; steps before them
Batch = dict[str, Tensor]
Loss = Callable[[Batch], Tensor]


@dataclass(frozen=True)
class Work:
    """A measurement: `contender` is a method with its options, the other fields say on what it is measured."""

    contender: str
    size: str
    device: str
    prefix_length: int
    batch: int
    length: int
    task: str | None
    data_dir: str | None
    tokenizer: str | None

    @property
    def name(self) -> str:
        """The contender without its options."""
        return self.contender.split("+")[0]

    def has(self, option: str) -> bool:
        """Whether the contender has one of `OPTIONS`."""
        return option in self.contender.split("+")[1:]


def bert(work: Work, **options: Any) -> BertModel:
    """The backbone, with random weights."""
    return BertModel(BertConfig(**SIZES[work.size], **options))


def task_model(work: Work, kind: str, **options: Any) -> TaskModel:
    """The backbone with a head for this kind of task."""
    return TaskModel(bert(work, **options), kind, num_labels=1 if kind in ("choice", "regression") else 2)  # type: ignore[arg-type]


def floor(work: Work, kind: str) -> tuple[nn.Module, Loss]:
    """The lower bound: the frozen backbone alone, forward, and backward to its inputs."""
    model = task_model(work, kind)
    freeze(model)
    model.encoder.embeddings.register_forward_hook(lambda module, inputs, output: output.requires_grad_())
    return model, lambda batch: model(**batch).loss


def prefix_tuning(work: Work, kind: str) -> tuple[nn.Module, Loss]:
    """Prefix tuning, with the dropouts of SPT except that of the gate."""
    model = task_model(work, kind)
    methods.prefix_tuning(model, "prefix_tuning", work.prefix_length, DROPOUT, 0.0, False, None)
    return model, lambda batch: model(**batch).loss


def spt(work: Work, kind: str) -> tuple[nn.Module, Loss]:
    """SPT without the selective loss."""
    model = task_model(work, kind)
    methods.selective_prefix_tuning(model, "spt", work.prefix_length, ALPHA, 0.0, DROPOUT, DROPOUT)
    return model, lambda batch: model(**batch).loss


def spt_sl(work: Work, kind: str) -> tuple[nn.Module, Loss]:
    """SPT with the selective loss."""
    model = task_model(work, kind)
    penalty = methods.selective_prefix_tuning(model, "spt_sl", work.prefix_length, ALPHA, SL_WEIGHT, DROPOUT, DROPOUT)
    assert penalty is not None
    return model, lambda batch: model(**batch).loss + penalty(model)


def fine_tuning(work: Work, kind: str) -> tuple[nn.Module, Loss]:
    """Fine-tuning of the whole backbone."""
    model = task_model(work, kind)
    methods.fine_tuning(model, "fine_tuning")
    return model, lambda batch: model(**batch).loss


def peft(work: Work, kind: str, config: Any) -> tuple[nn.Module, Loss]:
    """A method of PEFT on the model of transformers with a head."""
    from peft import get_peft_model

    model = get_peft_model(BertForSequenceClassification(BertConfig(**SIZES[work.size])), config)
    return model, lambda batch: model(**batch).loss


def peft_prefix_tuning(work: Work, kind: str) -> tuple[nn.Module, Loss]:
    """Prefix tuning of PEFT."""
    from peft import PrefixTuningConfig

    return peft(work, kind, PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=work.prefix_length))


def peft_lora(work: Work, kind: str) -> tuple[nn.Module, Loss]:
    """LoRA of PEFT, rank 8, on queries and values."""
    from peft import LoraConfig

    return peft(work, kind, LoraConfig(task_type="SEQ_CLS", r=8, target_modules=["query", "value"]))


def published(work: Work, kind: str) -> tuple[nn.Module, Loss]:
    """SPT as the formula states it and published implementations compute it: scores, their concatenation, softmax.

    A yardstick: plain operations in their order, on texts padded to 128 tokens.
    """
    AttentionInterface.register(PUBLISHED, _published_attention)
    AttentionMaskInterface.register(PUBLISHED, eager_mask)
    model = task_model(work, kind, attn_implementation=PUBLISHED)
    freeze(model)
    for layer in model.encoder.encoder.layer:
        for name in ("key_prefix", "value_prefix"):
            prefix = nn.Parameter(torch.randn(work.prefix_length, layer.output.dense.out_features) * INITIALIZER_RANGE)
            layer.attention.self.register_parameter(name, prefix)
    return model, lambda batch: model(**batch).loss


def _published_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, *, scaling: float, dropout: float, **_: Any
) -> tuple[Tensor, Tensor]:
    batch, heads, _, width = query.shape

    def spread(prefix: Tensor) -> Tensor:
        return prefix.to(key.dtype).expand(batch, -1, -1).unflatten(-1, (heads, width)).transpose(1, 2)

    prefix_scores = query @ spread(F.dropout(module.key_prefix, DROPOUT)).transpose(2, 3) * scaling
    gate = torch.sigmoid(F.dropout(ALPHA * prefix_scores, DROPOUT))
    text_scores = query @ key.transpose(2, 3) * scaling
    if mask is not None:
        text_scores = text_scores + mask
    weights = torch.cat([prefix_scores + torch.log(gate), text_scores], dim=-1).softmax(dim=-1)
    weights = F.dropout(weights, dropout).to(value.dtype)
    output = weights @ torch.cat([spread(module.value_prefix), value], dim=2)
    return output.transpose(1, 2).contiguous(), weights


CONTENDERS: dict[str, Callable[[Work, str], tuple[nn.Module, Loss]]] = {
    build.__name__: build
    for build in (
        *(floor, prefix_tuning, spt, spt_sl, fine_tuning),
        *(peft_prefix_tuning, peft_lora, published),
    )
}


def batches(work: Work) -> tuple[str, list[Batch]]:
    """The kind of task, and the batches of a round: one batch of random tokens, or the batches of an epoch."""
    generator = torch.Generator().manual_seed(0)
    if work.task is None:
        ids = torch.randint(1000, 30000, (work.batch, work.length), generator=generator)
        labels = torch.randint(0, 2, (work.batch,), generator=generator)
        return "sentence", [{"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}]
    task = real_task(work.task, work.data_dir)
    tokenizer = load_tokenizer(str(work.tokenizer), split_into_words=task.task_type == "token")
    rows = task.encode(task.load()["train"], tokenizer, PADDED).inputs
    names = [*tokenizer.model_input_names, "labels"]
    items = rows.select_columns([name for name in names if name in rows.column_names]).to_list()
    order: Any = torch.randperm(len(items), generator=generator)
    if work.name != PUBLISHED:
        order = LengthGroupedSampler(work.batch, lengths=[_length(item) for item in items], generator=generator)
    collate = task.collator(tokenizer)
    made = [dict(collate([items[i] for i in few])) for few in BatchSampler(order, work.batch, drop_last=False)]
    if task.task_type in ("sentence", "token"):
        for batch in made:
            batch["labels"] = batch["labels"].clamp(max=1)  # the head has two classes for every task
    return task.task_type, [_padded(batch) for batch in made] if work.name == PUBLISHED else made


def real_task(name: str, data_dir: str | None) -> Task:
    """A task of conf/task."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [f"task={name}", f"task.data_dir={data_dir}", "recipe=none"])
    task: Task = instantiate(config.task, _convert_="all")
    return task


def _length(item: dict[str, Any]) -> int:
    ids = item["input_ids"]
    return max(map(len, ids)) if isinstance(ids[0], list) else len(ids)


def _padded(batch: Batch) -> Batch:
    fill = {"labels": -100}
    return {
        name: F.pad(tensor, (0, PADDED - tensor.shape[-1]), value=fill.get(name, 0))
        if name != "labels" or tensor.dim() > 1
        else tensor
        for name, tensor in batch.items()
    }


def compete(work: Work) -> dict[str, Any]:
    """Measure a contender in this process: mean seconds per step, peak memory in bytes, trainable parameters."""
    torch.manual_seed(0)
    kind, given = batches(work)
    given = [{name: tensor.to(work.device) for name, tensor in batch.items()} for batch in given]
    torch.set_float32_matmul_precision("high" if work.has("tf32") else "highest")
    model, loss = CONTENDERS[work.name](work, kind)
    model.to(work.device).train()
    if work.has("compiled"):
        model.compile()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    half = torch.autocast(work.device, torch.bfloat16) if work.has("bfloat16") else nullcontext()

    def steps(of: list[Batch]) -> float:
        started = time.perf_counter()
        for batch in of:
            with half:
                total = loss(batch)
            total.backward()
            optimizer.step()
            optimizer.zero_grad()
        if work.device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - started) / len(of)

    memory = PeakMemory(use_cpu=work.device == "cpu")
    steps((given * WARM_UP[work.device])[: WARM_UP[work.device]])
    return {
        "seconds": steps(given if work.task else given * STEPS[work.device]),
        "peak_memory_bytes": memory.bytes(),
        "trained": sum(parameter.numel() for parameter in trained),
    }


def compare(works: list[Work], rounds: int) -> dict[str, Any]:
    """Per contender the seconds per step in each round, the peak memory and the trainable parameters."""
    measured: dict[str, Any] = {work.contender: {"seconds": [], "peak_memory_bytes": 0} for work in works}
    tasks = 1 if works[0].device == "cpu" else None
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=tasks) as processes:
        for _ in range(rounds):
            for work in works:
                found, its = processes.submit(compete, work).result(), measured[work.contender]
                its["seconds"].append(found["seconds"])
                its["peak_memory_bytes"] = max(its["peak_memory_bytes"], found["peak_memory_bytes"])
                its["trained"] = found["trained"]
    return measured


def ratio(measured: dict[str, Any], contender: str, to: str) -> float:
    """The ratio of the times of two contenders, the median over rounds."""
    return statistics.median(
        a / b for a, b in zip(measured[contender]["seconds"], measured[to]["seconds"], strict=True)
    )


def rows(result: dict[str, Any]) -> Iterator[list[str]]:
    """The Markdown table of a comparison."""
    measured = result["contenders"]
    for name, its in measured.items():
        yield [
            name,
            f"{1000 * statistics.median(its['seconds']):.1f}",
            *(f"{ratio(measured, name, to):.2f}" for to in result["beside"]),
            f"{its['peak_memory_bytes'] / 2**20:.0f}",
            f"{its['trained']:,}",
        ]


def varied_in(results: list[dict[str, Any]]) -> str | None:
    """The setting in which the comparisons differ; None if they have the same settings."""
    names = [name for name in ("prefix_length", "length", "batch") if len({result[name] for result in results}) > 1]
    return names[0] if len(names) == 1 else None


def draw(results: list[dict[str, Any]], varied: str, path: Path) -> None:
    """Plot the time of a step against the varied setting."""
    import matplotlib  # not at the top: the memory of the measured processes would include it
    from matplotlib.figure import Figure

    from spt.figure_style import STYLE, looks

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5, 3.2), layout="constrained")
        axes = figure.subplots()
        for name, look in looks(results[0]["contenders"]).items():
            times = [1000 * statistics.median(result["contenders"][name]["seconds"]) for result in results]
            axes.plot([result[varied] for result in results], times, **look, label=name)
        axes.set(xlabel=varied, ylabel="ms a step", ylim=(0, None))
        axes.legend()
        figure.savefig(path, metadata={"Date": None})


def code_state(git: dict[str, Any]) -> str:
    """The commit of a result, in words."""
    return f"{git['commit'][:7]}{' and changes' * git['dirty']}" if git["commit"] else "an unknown commit"


def report(folder: Path) -> None:
    """Write the README of a folder of results."""
    from spt.report.markdown import markdown_table  # not at the top: see `draw`
    from spt.report.table_model import Column, Table

    lines = [
        "# Benchmarks",
        "",
        "Made by `python -m scripts.benchmark`, whose docstring says what is measured and how. What made it faster,",
        "and what did not: [NOTES.md](NOTES.md). On a GPU:",
        ", ".join(f"[{path.stem}]({path.name})" for path in sorted(folder.glob("gpu-*.md"))) + ".",
        "",
        "- `floor`: the frozen encoder without prefixes, its attention by torch's SDPA, and a head that trains.",
        "  Attention with prefixes has a kernel of its own on a CPU, which is faster than SDPA for long inputs.",
        "- `prefix_tuning`: SPT's prefixes without the gate (in the tables of results the row `ungated`).",
        "- `published`: SPT as published implementations compute it, from the formula.",
        "- × floor: the time of a step, divided by that of `floor`; the other columns with × alike.",
        "",
    ]
    for path in sorted(folder.glob("*.json")):
        run = json.loads(path.read_text())
        if "results" not in run:
            continue  # of scripts.gpu_check, which writes a page of its own
        machine = run["hardware"]
        where = machine["accelerator"] or f"{machine['processor']}, {machine['threads']} threads"
        lines += [
            f"## {path.stem}",
            "",
            f"{where}; torch {run['versions']['torch']}, transformers {run['versions']['transformers']}, peft "
            f"{run['versions']['peft']}; spt at {code_state(run['git'])}",
            "",
            f"    {run['command']}",
            "",
        ]
        for result in run["results"]:
            heads = ["contender", "ms a step", *(f"× {to}" for to in result["beside"]), "peak MiB", "trained"]
            shown = Table(result["about"], [Column(head) for head in heads], list(rows(result)))
            lines += [shown.title, "", markdown_table(shown), ""]
        if varied := varied_in(run["results"]):
            draw(run["results"], varied, folder / f"{path.stem}.svg")
            lines += [f"![time of a step against {varied}]({path.stem}.svg)", ""]
    (folder / "README.md").write_text("\n".join(lines))


def main() -> None:
    """Run the comparisons, write their files and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = lambda text: [int(number) for number in text.split(",")]  # noqa: E731
    parser.add_argument("--size", default="minilm", choices=SIZES)
    parser.add_argument(
        "--contenders", default=",".join(CONTENDERS), help=f"each with options: spt+{'+'.join(OPTIONS)}"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--batch", type=numbers, default=[16], help="examples, or several numbers of them")
    parser.add_argument("--length", type=numbers, default=[128], help="tokens")
    parser.add_argument("--prefix_length", type=numbers, default=[20])
    parser.add_argument("--task", help="of conf/task: its epoch instead of random tokens")
    parser.add_argument("--data_dir", help="the task's files")
    parser.add_argument("--tokenizer", help="a name on the hub, or a folder")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--name", help="of the file of results; without it they are only shown")
    given = parser.parse_args()
    contenders = given.contenders.split(",")
    for contender in contenders:
        name, *options = contender.split("+")
        if name not in CONTENDERS or not set(options) <= set(OPTIONS):
            parser.error(f"{contender!r} is none of {', '.join(CONTENDERS)}, with +{' or +'.join(OPTIONS)}")
    if given.task and not (given.data_dir and given.tokenizer):
        parser.error("--task needs --data_dir and --tokenizer")
    of_peft = [name for name in contenders if name.startswith("peft")]
    if given.task and of_peft and real_task(given.task, given.data_dir).task_type != "sentence":
        parser.error(f"{given.task} is no sentence task: set --contenders without {', '.join(of_peft)}")
    results = []
    for batch, length, prefix_length in itertools.product(given.batch, given.length, given.prefix_length):
        work = Work(
            "", given.size, given.device, prefix_length, batch, length, given.task, given.data_dir, given.tokenizer
        )
        what = f"an epoch of {given.task}, batches of {batch}" if given.task else f"{batch} x {length} tokens"
        result = {
            "about": f"{given.size}, {what}, {prefix_length} prefix slots, {given.rounds} rounds:",
            **{key: value for key, value in asdict(work).items() if key != "contender"},
            "beside": [name for name in ("floor", "prefix_tuning", "spt", PUBLISHED) if name in contenders],
            "contenders": compare([replace(work, contender=contender) for contender in contenders], given.rounds),
        }
        results.append(result)
        print(result["about"], *("  ".join(cell.rjust(14) for cell in row) for row in rows(result)), sep="\n")
    if given.name:
        FOLDER.mkdir(parents=True, exist_ok=True)
        command = shlex.join(["python", "-m", "scripts.benchmark", *sys.argv[1:]])
        run = {
            "command": command,
            "git": git_state(),
            "versions": versions(),
            "hardware": hardware(given.device == "cpu"),
            "results": results,
        }
        (FOLDER / f"{given.name}.json").write_text(json.dumps(run, indent=1) + "\n")
        report(FOLDER)


if __name__ == "__main__":
    main()

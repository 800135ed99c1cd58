"""Prove the project on a GPU: correctness first, then time and memory of a training step.

    python -m scripts.gpu_check                                    # bert-base on cuda, 8 minutes
    python -m scripts.gpu_check --device cpu --size tiny           # the same checks where there is no GPU

A check that fails does not stop the others. One that no longer fits into --minutes is skipped, and its entry says so.
After each check its result is in <folder>/gpu-<name>.json; in the end <folder>/gpu-<name>.md has the tables. The exit
code is 1 where a check failed. A training step is measured as in scripts.benchmark, but all contenders in one process,
one after the other: the time is the median of 3 rounds, the memory what the device's allocator held at most.
"""

import argparse
import copy
import gc
import itertools
import json
import math
import re
import shlex
import signal
import statistics
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from transformers import BertConfig, BertModel

import spt
from scripts.benchmark import ALPHA, CONTENDERS, DROPOUT, FOLDER, SIZES, SL_WEIGHT, Work, batches, code_state
from spt import methods
from spt.modeling import gated_attention as gated
from spt.modeling.gated_attention import Settings, gated_attention, kernel_attention
from spt.modeling.prefix_parameters import is_prefix, prefixes
from spt.modeling.task_model import TaskModel
from spt.records.provenance import PeakMemory, git_state, hardware, versions
from spt.report.markdown import markdown_table
from spt.report.table_model import Column, Table

REPO = Path(__file__).resolve().parent.parent
PREFIX = 20
# Of an output or a gradient to its norm. bfloat16 has 8 bits, and the gate multiplies the rounded score by alpha.
ATTENTION_BOUNDS = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: ALPHA * 2**-8}
# Families whose code computes something in float32 (a norm, rotary angles) whatever the type of the weights.
FLOAT32_INSIDE = {"ModernBERT", "DeBERTa", "Llama", "Qwen2", "Qwen3"}
# Relative error of the loss, and the cosine that the gradient of all prefixes must exceed, beside float64 on the CPU.
PRECISIONS = {"float64": (1e-9, 1 - 1e-9), "float32": (1e-5, 0.99999), "tf32": (1e-3, 0.999), "bfloat16": (1e-2, 0.99)}
VARIANTS = ("float32", "tf32", "bfloat16", "bfloat16, padded")
BASIC, LARGE = ("spt", "prefix_tuning", "floor"), "bert-large"
EAGER, COMPILED = "step: ", "step, compiled: "
# At most this much of the time of another contender's step in bfloat16.
TARGETS = ((EAGER, "spt", "prefix_tuning", 1.10), (EAGER, "spt", "floor", 1.15), (COMPILED, "spt", "floor", 1.10))
COMPILED_GAIN = 3.0  # at least: the time of spt's step in float32, divided by that in bfloat16 with torch.compile
DEMO = "task=demo_pair model=demo method=spt_sl trainer.num_train_epochs=4"
KERNELS = re.compile(r"_scaled_dot_product_(flash|efficient|cudnn|fused)")  # torch's operators with a fused kernel
Measured = dict[str, Any]


class Skip(Exception):
    """The reason why a check does not apply to this machine."""


class OutOfTime(BaseException):
    """The time is up. No Exception, so that a check that goes on after errors ends, too."""


@dataclass(frozen=True)
class Given:
    """What all checks are given: the device, the size of the BERT, and when (in `time.monotonic`) they must end."""

    device: str
    size: str
    end: float

    @property
    def cuda(self) -> bool:
        """Whether the device is a GPU."""
        return self.device != "cpu"

    @property
    def seconds_left(self) -> float:
        """Of the budget."""
        return self.end - time.monotonic()

    def wait(self) -> None:
        """Until the device has done all that was asked of it."""
        if self.cuda:
            torch.cuda.synchronize()


@dataclass(frozen=True)
class Check:
    """A check: a function that fills in what it measured, and about how many seconds it takes on a GPU."""

    name: str
    run: Callable[[Given, Measured], None]
    seconds: float


def require(holds: bool, message: str) -> None:
    """Fail the check with this message unless the condition holds (with a NaN it does not)."""
    if not holds:
        raise AssertionError(message)


def relative(actual: Tensor, expected: Tensor) -> float:
    """‖actual − expected‖ / ‖expected‖."""
    actual, expected = (tensor.detach().double().cpu() for tensor in (actual, expected))
    return float((actual - expected).norm() / expected.norm())


def random(*shape: int, seed: int) -> Tensor:
    """Normal numbers in float64, the same for every device."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def equation(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, settings: Settings) -> Tensor:
    """The output of `gated_attention` without the weights."""
    return gated_attention(query, key, value, mask, settings)[0]


def attention(given: Given, measured: Measured) -> None:
    """The kernel's output and gradients are the equation's, as float64 on the CPU computes it from the same inputs.

    Text lengths are no multiples of 8, for which kernels have other code. See `ATTENTION_BOUNDS` for the bounds.
    """
    cases = itertools.product(ATTENTION_BOUNDS.items(), (13, 37), (None, ALPHA), (None, "boolean", "additive"))
    for (dtype, bound), length, alpha, masked in cases:
        inputs = [random(2, 3, n, 64, seed=n) for n in (length, PREFIX + length, PREFIX + length + 1)]
        inputs = [tensor[:, :, : PREFIX + length].to(dtype) for tensor in inputs]
        mask = random(2, 1, length, length, seed=3) < 0.5 if masked else None
        if mask is not None and masked == "additive":
            mask = torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
        results = []
        for compute, device, inner in ((kernel_attention, given.device, dtype), (equation, "cpu", torch.float64)):
            own = [tensor.to(device, inner).requires_grad_() for tensor in inputs]
            own_mask = mask.to(device, inner) if masked == "additive" else mask if mask is None else mask.to(device)
            output = compute(*own, own_mask, Settings(PREFIX, 64**-0.5, alpha, 0.0, 0.0))
            direction = random(*output.shape, seed=4).to(output)
            results.append((output, *torch.autograd.grad((output * direction).sum(), own)))
        worst = measured.setdefault(str(dtype), {"bound": bound})
        for name, ours, expected in zip(("output", "query", "key", "value"), *results, strict=True):
            error = relative(ours, expected)
            worst[name] = max(worst.get(name, 0.0), error)
            where = f"{name}, {dtype}, {length} tokens, alpha {alpha}, mask {masked}"
            require(error <= bound, f"kernel_attention is off by {error:.1e} (bound {bound:.1e}): {where}")


def fixtures(given: Given, measured: Measured) -> None:
    """Outputs and gradients in float64 are those of the independent implementation (tests/reference.py).

    The bound is that of the CPU's test: rounding differs by the order of sums, about 1e-15.
    """
    from tests.modeling.test_fixtures import CASES, build, close
    from tests.reference import FIXTURES, SL_WEIGHT

    for case, kind in itertools.product(CASES, ("eager", "sdpa")):
        fixture = load_file(FIXTURES / f"{case}.safetensors")
        model = build(case, fixture, kind).to(given.device)
        fixture = {name: tensor.to(given.device) for name, tensor in fixture.items()}
        out = model(**{n.removeprefix("input."): t for n, t in fixture.items() if n.startswith("input.")})
        selective = spt.selective_loss(model)
        (out.loss + SL_WEIGHT * selective).backward()
        pairs = {"logits": out.logits, "loss": out.loss, "selective_loss": selective}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                pairs[f"grad.{name.removeprefix('encoder.')}"] = parameter.grad
        measured[f"{case}, {kind}"] = max(float((t.detach() - fixture[name]).abs().max()) for name, t in pairs.items())
        for name, actual in pairs.items():
            close(actual, fixture[name])


def families(given: Given, measured: Measured) -> None:
    """Each family's output and prefix gradients, eager and sdpa, are those of eager attention on the CPU, in float64.

    The bound is 1e-9, and 1e-4 for families with float32 inside, where devices round differently.
    """
    from tests.families import EAGER_ONLY, FAMILIES, family

    ids = torch.randint(5, 100, (3, 13), generator=torch.Generator().manual_seed(0))
    whole = torch.ones_like(ids)
    whole[1, 9:] = whole[2, 5:] = 0
    failed = []

    def output_and_gradient(name: str, kind: str, device: str) -> tuple[Tensor, Tensor]:
        torch.manual_seed(1)
        encoder = spt.attach(family(name, kind), spt.PrefixConfig(5, key_dropout=0.0, score_dropout=0.0))
        encoder.to(device, torch.float64).eval()
        output = encoder(input_ids=ids.to(device), attention_mask=whole.to(device)).last_hidden_state
        output = output[whole.to(device).bool()]
        (output * random(*output.shape, seed=2).to(output)).sum().backward()
        return output, torch.cat([p.grad.flatten() for n, p in encoder.named_parameters() if is_prefix(n)])

    for name in FAMILIES:
        bound = 1e-4 if name in FLOAT32_INSIDE else 1e-9
        try:
            expected = output_and_gradient(name, "eager", "cpu")
            for kind in ("eager",) if name in EAGER_ONLY else ("eager", "sdpa"):
                found = output_and_gradient(name, kind, given.device)
                errors = measured[f"{name}, {kind}"] = [relative(*pair) for pair in zip(found, expected, strict=True)]
                if not all(error <= bound for error in errors):
                    failed.append(f"{name}, {kind}: output and gradient are off by {errors} (bound {bound})")
        except Exception as error:  # the other families are still of interest
            failed.append(f"{name}: {type(error).__name__}: {error}")
    require(not failed, "; ".join(failed))


def dropout(given: Given, measured: Measured) -> None:
    """Each dropout drops its rate of entries, within 5 sigma, and the backward pass draws again what the forward drew.

    The gradient of the recomputing attention is the one that keeps everything has under the same seed (to 1e-4 in
    float32, whose kernel may add up in any order), and in float64 it is the slope of the output along a direction.
    """

    def rate(name: str, dropped: Tensor) -> None:
        sigma = math.sqrt(DROPOUT * (1 - DROPOUT) / dropped.numel())
        found = measured[name] = float(dropped.double().mean())
        off = abs(found - DROPOUT) / sigma
        require(off <= 5, f"{name} drops {found:.5f} of the entries, not {DROPOUT}: {off:.1f} sigma")

    torch.manual_seed(0)
    encoder = BertModel(BertConfig(**SIZES["tiny"]))
    spt.attach(encoder, spt.PrefixConfig(50, key_dropout=DROPOUT)).to(given.device).train()
    rate("key_dropout", prefixes(encoder)[0](256)[0] == 0)

    settings = Settings(PREFIX, 1.0, ALPHA, DROPOUT, 0.0)
    query, key = (0.1 * random(16, 4, 64, 64, seed=seed).to(given.device, torch.float32) for seed in (0, 1))
    bias = gated._bias(query, key, None, settings)
    assert bias is not None
    rate("score_dropout", bias[..., :PREFIX] == F.logsigmoid(torch.zeros_like(bias[..., :PREFIX])))
    settings = Settings(PREFIX, 1.0, ALPHA, 0.0, DROPOUT)
    identity = torch.eye(64, device=given.device).repeat(16, 4, 1, 1)  # as values: the output is the weights
    weights = kernel_attention(query, key, identity, None, settings)
    rate("attention_dropout of the prefix", weights[..., :PREFIX] == 0)
    rate("attention_dropout of the text", weights[..., PREFIX:] == 0)

    settings, value = Settings(PREFIX, 1.0, ALPHA, 0.4, 0.4), random(16, 4, 64, 64, seed=2).to(query)
    for dtype, bound in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        tensors = [tensor.to(dtype).requires_grad_() for tensor in (query, key, value)]
        gradients = []
        for compute in (gated._recomputed, gated._kernel):
            torch.manual_seed(3)
            output = compute(*tensors, None, settings)
            torch.manual_seed(4)
            gradients.append(torch.autograd.grad(output.sum(), tensors))
        errors = [relative(*pair) for pair in zip(*gradients, strict=True)]
        error = measured[f"gradient, {dtype}"] = max(errors)
        require(error <= bound, f"recomputed dropouts differ: the gradient in {dtype} is off by {error:.1e} ({bound})")
    start, step = query.double().requires_grad_(), 1e-6 * random(*query.shape, seed=5).to(given.device)
    sums = []
    for moved in (start, start + step, start - step):
        torch.manual_seed(3)
        sums.append(gated._recomputed(moved, key.double(), value.double(), None, settings).sum())
    slope = (torch.autograd.grad(sums[0], start)[0] * step).sum()
    error = measured["slope, float64"] = relative((sums[1] - sums[2]) / 2, slope)
    require(error <= 1e-6, f"the gradient under dropout is not the output's slope: off by {error:.1e} (bound 1e-6)")


def without_dropout(given: Given) -> tuple[TaskModel, Callable[[nn.Module], Tensor]]:
    """A BERT with SPT that computes the same at every call, on the CPU, and its selective loss."""
    config = BertConfig(**SIZES[given.size], hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    torch.manual_seed(0)
    model = TaskModel(BertModel(config), "sentence", num_labels=2)
    model.dropout.p = 0.0
    penalty = methods.selective_prefix_tuning(model, "spt_sl", PREFIX, ALPHA, SL_WEIGHT, 0.0, 0.0)
    assert penalty is not None
    return model, penalty


def random_batch(given: Given, length: int) -> dict[str, Tensor]:
    """Four texts of random tokens, on the CPU."""
    return batches(Work("spt_sl", given.size, given.device, PREFIX, 4, length, None, None, None))[1][0]


def prefix_gradient(model: nn.Module) -> Tensor:
    """The gradient of all prefixes, one after the other."""
    return torch.cat([p.grad.flatten() for n, p in model.named_parameters() if is_prefix(n)])


def deviation(
    pair: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], bounds: tuple[float, float]
) -> dict[str, Any]:
    """How far a loss and a gradient are from those expected, beside the bounds (see `PRECISIONS`)."""
    gradient, direction = (own.double().cpu() for _, own in (pair, expected))
    return {
        "loss": relative(pair[0], expected[0]),
        "cosine": float(F.cosine_similarity(gradient, direction, dim=0)),
        "length": float(gradient.norm() / direction.norm()),
        "bounds": list(bounds),
    }


def require_within_bounds(measured: Measured) -> None:
    """Fail the check unless all of its deviations are within their bounds."""
    failed = [
        f"{name}: loss off by {its['loss']:.1e} (bound {bound}), cosine {its['cosine']:.6f} (above {least})"
        for name, its in measured.items()
        for bound, least in [its["bounds"]]
        if not (its["loss"] <= bound and its["cosine"] > least)
    ]
    require(not failed, "; ".join(failed))


def precision(given: Given, measured: Measured) -> None:
    """Loss and gradient of a BERT's prefixes with SPT and the selective loss, beside float64 on the CPU.

    The bounds are `PRECISIONS`: float32 sums thousands of products, TF32 has 11 bits, bfloat16 has 8.
    """
    model, penalty = without_dropout(given)
    batch = padded(random_batch(given, 64))

    def loss_and_gradient(device: str, name: str) -> tuple[Tensor, Tensor]:
        torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
        own = copy.deepcopy(model).to(device, torch.float64 if name == "float64" else torch.float32).train()
        with torch.autocast(device, torch.bfloat16, enabled=name == "bfloat16"):
            loss = own(**{key: tensor.to(device) for key, tensor in batch.items()}).loss
        (loss + penalty(own)).backward()
        return loss.detach(), prefix_gradient(own)

    expected = loss_and_gradient("cpu", "float64")
    for name, bounds in PRECISIONS.items():
        measured[name] = deviation(loss_and_gradient(given.device, name), expected, bounds)
    require_within_bounds(measured)


def compiled_lengths(given: Given, measured: Measured) -> None:
    """With torch.compile, texts of several lengths, padded or not, have the loss and gradient that they have without.

    The bound is that of float32 in `PRECISIONS`: the compiler adds up in another order. A CPU compiles nothing, but
    traces the model as a GPU does.
    """
    model = without_dropout(given)[0].to(given.device).train()
    compiled = torch.compile(model, backend="inductor" if given.cuda else "eager")
    for length, fill in itertools.product((24, 37, 64, 101), (padded, dict)):
        batch = {name: tensor.to(given.device) for name, tensor in fill(random_batch(given, length)).items()}
        pairs = []
        for run in (compiled, model):
            model.zero_grad()
            loss = run(**batch).loss
            loss.backward()
            pairs.append((loss.detach(), prefix_gradient(model)))
        measured[f"{length} tokens{', padded' * (fill is padded)}"] = deviation(*pairs, PRECISIONS["float32"])
    require_within_bounds(measured)


def training(given: Given, measured: Measured) -> None:
    """A run of the real command, stopped by SIGTERM and resumed, ends bit for bit as one without interruption.

    With trainer.full_determinism=true: GPU kernels otherwise add up in any order.
    """
    settings = [*DEMO.split(), "trainer.per_device_train_batch_size=8", "+trainer.full_determinism=true"]
    measured["settings"] = settings = settings if given.cuda else [*settings, "+trainer.use_cpu=true"]
    started: list[subprocess.Popen] = []
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)

        def start(name: str) -> subprocess.Popen:
            command = [sys.executable, "-m", "spt.train", *settings, f"output_dir={folder / name}"]
            with (folder / f"{name}.log").open("a") as log:
                started.append(subprocess.Popen(command, cwd=REPO, stdout=log, stderr=log))
            return started[-1]

        def end(process: subprocess.Popen, name: str, expected: int) -> None:
            code = process.wait(timeout=max(1.0, given.seconds_left))
            shown = (folder / f"{name}.log").read_text()[-1500:]
            require(code == expected, f"the {name} run ended with {code}, not {expected}: {shown}")

        try:
            straight, stopped = start("straight"), start("stopped")
            while stopped.poll() is None and not list(folder.glob("stopped/*/checkpoint.safetensors")):
                time.sleep(0.005)
            stopped.send_signal(signal.SIGTERM)
            end(stopped, "stopped", 75)
            end(start("stopped"), "stopped", 0)
            end(straight, "straight", 0)
        finally:
            for process in started:
                process.kill()
        results = []
        for name in ("straight", "stopped"):
            (run,) = (folder / name).glob("*/record.json")
            record = json.loads(run.read_text())
            rows = [json.loads(line) for line in (run.parent / "history.jsonl").read_text().splitlines()]
            measured[name] = {"resumed": record["resumed"], "on": record["hardware"]["accelerator"], "rows": rows}
            history = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
            results.append((history, load_file(run.parent / "adapter" / "adapter.safetensors")))
        (history, weights), (resumed_history, resumed_weights) = results
        require(measured["stopped"]["resumed"] == 1, "the stopped run did not resume")
        require(history == resumed_history, f"the resumed run has another history: {resumed_history}, not {history}")
        differ = [name for name, tensor in weights.items() if not torch.equal(tensor, resumed_weights[name])]
        require(not differ, f"the resumed run has other weights: {', '.join(differ)}")


def profiled(given: Given, run: Callable[[], None]) -> tuple[list[str], dict[str, float]]:
    """The operators that a run calls, and the milliseconds of each kernel on a GPU (on a CPU, of each operator)."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if given.cuda else [])]
    with profile(activities=activities) as recorded:
        run()
        given.wait()
    events = [event for event in recorded.key_averages() if not getattr(event, "is_user_annotation", False)]
    operators = [event.key for event in events if event.device_type == DeviceType.CPU]
    if given.cuda:
        times = {e.key: e.self_device_time_total / 1000 for e in events if e.device_type == DeviceType.CUDA}
        times = {name: ms for name, ms in times.items() if not name.startswith(("Optimizer.", "ProfilerStep"))}
    else:
        times = {event.key: event.self_cpu_time_total / 1000 for event in events}
    return operators, dict(sorted(times.items(), key=lambda item: -item[1]))


def kernel_runs(given: Given) -> Iterator[tuple[str, Callable[[], None]]]:
    """Forward and backward pass of kernel_attention alone, on the inputs of a training step, in all its variants."""
    batch, heads, length = (32, 12, 128) if given.cuda else (2, 4, 16)
    kept = torch.ones(batch, 1, 1, length, dtype=torch.bool, device=given.device)
    kept[batch // 2 :, ..., length // 2 :] = False
    for dtype, mask, alpha in itertools.product((torch.bfloat16, torch.float32), (None, kept), (ALPHA, None)):
        rows = (length, PREFIX + length, PREFIX + length)
        tensors = [random(batch, heads, n, 64, seed=i).to(given.device, dtype) for i, n in enumerate(rows)]
        settings = Settings(PREFIX, 64**-0.5, alpha, DROPOUT, DROPOUT)
        attend = partial(kernel_attention, *(tensor.requires_grad_() for tensor in tensors), mask, settings)
        about = f"{dtype}, {'gate' if alpha else 'no gate'}, {'no ' if mask is None else ''}mask"
        yield about, lambda attend=attend: attend().sum().backward()  # type: ignore[misc]


def kernels(given: Given, measured: Measured) -> None:
    """What scaled_dot_product_attention chooses for the gate's bias is a fused kernel.

    torch falls back to plain operations (math) without a word where no fused kernel takes the inputs.
    """
    plain = []
    for about, run in kernel_runs(given):
        operators, times = profiled(given, run)
        chosen = [name for name in operators if "scaled_dot_product" in name]
        names = [name for name in times if re.search(r"fmha|flash|sdpa|attention", name.lower())]
        measured[about] = {"operators": chosen, "kernels": names, "ms": 1000 * seconds(given, run, 3)}
        if not any(map(KERNELS.search, chosen)) or any("_math" in name for name in chosen):
            plain.append(about)
    require(not (given.cuda and plain), f"torch computes without a fused kernel: {'; '.join(plain)}")


def kernel_choices(given: Given, measured: Measured) -> None:
    """The time of each of torch's attention kernels where it is the only one allowed, or why it does not run."""
    choices = ("FLASH_ATTENTION", "EFFICIENT_ATTENTION", "CUDNN_ATTENTION", "MATH")
    for (about, run), choice in itertools.product(kernel_runs(given), choices):
        with sdpa_kernel(getattr(SDPBackend, choice)), warnings.catch_warnings(record=True) as reasons:
            warnings.simplefilter("always")
            try:
                measured[f"{about}, {choice}"] = {"ms": 1000 * seconds(given, run, 3)}
            except RuntimeError as error:
                why = [str(reason.message).partition(" (Triggered")[0] for reason in reasons]
                measured[f"{about}, {choice}"] = {"error": [str(error).splitlines()[0], *why]}


def several_gpus(given: Given, measured: Measured) -> None:
    """Two processes that talk by NCCL train the demo and leave one record."""
    gpus = torch.cuda.device_count() if given.cuda else 0
    if gpus < 2:
        raise Skip(f"needs two GPUs, and there are {gpus}")
    with TemporaryDirectory() as folder:
        launch = [sys.executable, *"-m torch.distributed.run --standalone --nproc_per_node=2 -m spt.train".split()]
        limit = max(1.0, given.seconds_left)
        command = [*launch, *DEMO.split(), f"output_dir={folder}"]
        done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=limit)
        require(done.returncode == 0, f"two processes ended with {done.returncode}: {done.stderr[-1500:]}")
        (record,) = Path(folder).glob("*/record.json")
        measured["metrics"] = json.loads(record.read_text())["metrics"]


def padded(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The batch with texts from half its length to all of it."""
    rows, length = batch["input_ids"].shape
    lengths = torch.linspace(length // 2, length, rows, device=batch["input_ids"].device)
    mask = (torch.arange(length, device=lengths.device) < lengths[:, None]).long()
    return {**batch, "attention_mask": mask}


def seconds(given: Given, run: Callable[[], None], warm_up: int) -> float:
    """The time of one run: the median of 3 rounds of 10 (on a CPU, of 1), after some that are not counted."""
    times, warm_up = (10, warm_up) if given.cuda else (1, 1)
    for _ in range(warm_up):
        run()
    rounds = []
    for _ in range(3):
        given.wait()
        started = time.perf_counter()
        for _ in range(times):
            run()
        given.wait()
        rounds.append((time.perf_counter() - started) / times)
    return statistics.median(rounds)


def built(given: Given, contender: str, size: str) -> tuple[nn.Module, Callable[[str], Callable[[], None]]]:
    """A contender's model on the device, and a function that gives its training step in one of the `VARIANTS`."""
    batch, length = (32, 128) if given.cuda else (2, 16)
    work = Work(contender, size, given.device, PREFIX, batch, length, None, None, None)
    torch.manual_seed(0)
    kind, (whole,) = batches(work)
    whole = {name: tensor.to(given.device) for name, tensor in whole.items()}
    model, loss = CONTENDERS[contender](work, kind)
    model.to(given.device).train()

    def step_in(variant: str) -> Callable[[], None]:
        torch.set_float32_matmul_precision("high" if variant == "tf32" else "highest")
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
        own = padded(whole) if variant.endswith("padded") else whole

        def step() -> None:
            half = torch.autocast(given.device, torch.bfloat16) if "bfloat16" in variant else nullcontext()
            with half:
                total = loss(own)
            total.backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    return model, step_in


def steps(given: Given, measured: Measured, contender: str, size: str | None, variants: tuple[str, ...]) -> None:
    """The time of a training step of a contender and its peak memory, in each variant. No time fails it."""
    compiled = "compiled" in variants[0]
    if not given.cuda and (compiled or size is not None):
        raise Skip(f"{'torch.compile' if compiled else size} is measured on a GPU alone")
    measured["before"] = {"allocated_bytes": torch.cuda.memory_allocated() if given.cuda else 0}
    model, step_in = built(given, contender, size or given.size)
    if compiled:
        model.compile()
    for variant in variants:
        step = step_in(variant)
        memory = PeakMemory(not given.cuda)
        took = seconds(given, step, 5)
        measured[variant] = {"ms": 1000 * took, "peak_memory_bytes": memory.bytes()}


def step_profile(given: Given, measured: Measured) -> None:
    """Where a step in bfloat16 spends the device's time, and the share of the wall time in which the device works.

    A share far below 1 means that the step waits for the processor to launch kernels.
    """
    for contender in BASIC:
        _, step_in = built(given, contender, given.size)
        step = step_in("bfloat16")
        wall = 1000 * seconds(given, step, 3)
        _, times = profiled(given, step)
        total = sum(times.values())
        require(total > 0, "the profiler saw no kernel: is CUPTI, its part of CUDA, missing?")
        top = [[name[:200], ms] for name, ms in itertools.islice(times.items(), 12)]
        measured[contender] = {"wall_ms": wall, "device_ms": total, "share": total / wall, "top": top}


def step_check(prefix: str, name: str, size: str | None, variants: tuple[str, ...], seconds: float) -> Check:
    """The check that measures the steps of a contender."""
    return Check(prefix + name, partial(steps, contender=name, size=size, variants=variants), seconds)


CHECKS = [
    *(Check("attention", attention, 10), Check("fixtures", fixtures, 5), Check("families", families, 15)),
    *(Check("dropout", dropout, 5), Check("precision", precision, 15), Check("training", training, 45)),
    *(Check("kernels", kernels, 10), Check("several GPUs", several_gpus, 1)),
    *(step_check(EAGER, name, None, VARIANTS, 12) for name in CONTENDERS),
    Check("step profile", step_profile, 15),
    *(step_check("step, large: ", name, LARGE, VARIANTS[2:], 12) for name in (*BASIC, "fine_tuning")),
    Check("kernel choices", kernel_choices, 5),
    Check("lengths with torch.compile", compiled_lengths, 60),
    *(step_check(COMPILED, name, None, ("bfloat16 compiled",), 60) for name in BASIC),
]


def perform(check: Check, given: Given) -> Measured:
    """Run a check: its status (passed, failed or skipped), seconds, what it measured, and why it failed."""
    result: Measured = {"name": check.name, "status": "passed", "seconds": 0.0, "measured": {}, "message": ""}
    if given.seconds_left < check.seconds:
        return result | {"status": "skipped", "message": f"no time left: it may take {check.seconds:.0f} s"}

    def out_of_time(number: int, frame: Any) -> None:
        raise OutOfTime("the time was up before it ended: allow more --minutes")

    before = signal.signal(signal.SIGALRM, out_of_time)
    signal.setitimer(signal.ITIMER_REAL, given.seconds_left)
    started = time.monotonic()
    try:
        check.run(given, result["measured"])
    except Skip as skip:
        result |= {"status": "skipped", "message": str(skip)}
    except (Exception, OutOfTime) as error:
        message = f"{type(error).__name__}: {error}"[:2000]
        result |= {"status": "failed", "message": message, "traceback": traceback.format_exc()[-6000:]}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    result["seconds"] = round(time.monotonic() - started, 2)
    torch.set_float32_matmul_precision("highest")
    gc.collect()
    if given.cuda:
        torch.cuda.empty_cache()
    return result


def step_rows(checks: list[Measured], prefix: str) -> list[list[str]]:
    """A row per contender and variant: time, its ratio to prefix tuning and to the floor, and peak memory."""
    measured = {c["name"].removeprefix(prefix): c["measured"] for c in checks if c["name"].startswith(prefix)}

    def ratio(name: str, to: str, variant: str) -> str:
        below = measured.get(to, {}).get(variant)
        return f"{measured[name][variant]['ms'] / below['ms']:.2f}" if below else ""

    rows = []
    for name, variant in ((n, v) for n, variants in measured.items() for v, its in variants.items() if "ms" in its):
        its = measured[name][variant]
        beside = [ratio(name, to, variant) for to in ("prefix_tuning", "floor")]
        rows.append([name, variant, f"{its['ms']:.2f}", *beside, f"{its['peak_memory_bytes'] / 2**20:.0f}"])
    return rows


def table(title: str, heads: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    """A table under its title, or nothing where it has no rows."""
    return ["", title, "", markdown_table(Table("", [Column(head) for head in heads], rows))] if rows else []


def page(result: Measured) -> str:
    """The tables of a result, in Markdown."""
    machine = result["hardware"]
    checks: list[Measured] = result["checks"]
    lines = [f"# GPU check: {machine['accelerator'] or machine['processor']}"]
    made = (
        f"Made by `{result['command']}`: torch {result['versions']['torch']}, transformers "
        f"{result['versions']['transformers']}; spt at {code_state(result['git'])}."
    )
    why = [check["message"].partition("\n")[0][:200] for check in checks]
    status = [[c["name"], c["status"], f"{c['seconds']:.1f}", w] for c, w in zip(checks, why, strict=True)]
    lines += table(made, ("check", "status", "seconds", "why"), status)
    batch = "32 x 128" if result["device"] != "cpu" else "2 x 16"
    heads = ("contender", "variant", "ms a step", "× prefix_tuning", "× floor", "peak MiB")
    for prefix, size in {EAGER: result["size"], "step, large: ": LARGE, COMPILED: result["size"]}.items():
        lines += table(f"## {size}, {batch} tokens, {PREFIX} prefix slots", heads, step_rows(checks, prefix))
    for prefix, one, to, most in TARGETS:
        measured = [row for row in step_rows(checks, prefix) if row[0] == one and row[1].startswith("bfloat16")]
        for _, variant, _, to_prefix_tuning, to_floor, _ in measured:
            found = {"prefix_tuning": to_prefix_tuning, "floor": to_floor}[to] or "not measured"
            lines += ["", f"Target in {variant}: {one} takes at most {most:.2f} of {to}. Measured: {found}."]
    times = {(row[0], row[1]): float(row[2]) for part in (EAGER, COMPILED) for row in step_rows(checks, part)}
    if {("spt", "float32"), ("spt", "bfloat16 compiled")} <= times.keys():
        gain = times["spt", "float32"] / times["spt", "bfloat16 compiled"]
        about = "Target: a step of spt in float32 takes at least"
        lines += ["", f"{about} {COMPILED_GAIN:.1f} times that in bfloat16 with torch.compile. Measured: {gain:.2f}."]
    for name, its in next((c["measured"].items() for c in checks if c["name"] == "step profile"), ()):
        about = f"## A step of {name} in bfloat16: {its['device_ms']:.1f} ms of kernels in {its['wall_ms']:.1f} ms"
        lines += table(about, ("kernel", "ms"), [[kernel, f"{ms:.2f}"] for kernel, ms in its["top"]])
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run all checks, write their files, and exit with 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--size", default="bert-base", choices=SIZES)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--name", help="of the files, after gpu-; by default the device's")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all checks together")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU here: check the driver (nvidia-smi), or use --device cpu --size tiny")
    given = Given(options.device, options.size, time.monotonic() + 60 * options.minutes)
    device_name = torch.cuda.get_device_name() if given.cuda else "cpu"
    path = options.folder / f"gpu-{options.name or re.sub('[^a-z0-9]+', '-', device_name.lower())}.json"
    result: Measured = {
        "command": shlex.join(["python", "-m", "scripts.gpu_check", *sys.argv[1:]]),
        **{"device": given.device, "size": given.size},
        **{"git": git_state(), "versions": versions(), "hardware": hardware(not given.cuda), "checks": []},
    }
    options.folder.mkdir(parents=True, exist_ok=True)
    for check in CHECKS:
        done = perform(check, given)
        result["checks"].append(done)
        path.write_text(json.dumps(result, indent=1) + "\n")
        print(f"{done['status']:8} {done['seconds']:6.1f} s  {done['name']}  {done['message']}", flush=True)
    path.with_suffix(".md").write_text(page(result))
    failed = [check["name"] for check in result["checks"] if check["status"] == "failed"]
    print(f"{path}: {len(failed)} checks failed", *failed, sep="\n  ")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()

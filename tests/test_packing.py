"""Runs that train together: each is what it is alone, its dropouts too, whoever the others are."""

import itertools

import pytest
import torch
from hydra.core.utils import JobReturn, JobStatus

import spt
from spt import packing
from spt.encoder import sharing_copy
from spt.errors import SptError
from spt.methods import linear_probe
from spt.model import TaskModel
from spt.pack import Pack, member
from tests.conftest import batch
from tests.families import EAGER_ONLY, FAMILIES, family
from tests.test_configs import composed

CHOICES = {"sentence": None, "choice": 2, "token": None}


def training(base, number, task_type="sentence", pooling="pooler", prefixes=True, steps=3, half=False):
    """A job that trains one run on its own batches: of its own length, prefix length, seed, and number of steps."""

    def job():
        torch.manual_seed(number)
        model = TaskModel(sharing_copy(base), task_type, 2 if task_type == "choice" else 3, pooling)
        if prefixes:
            spt.attach(
                model,
                spt.PrefixConfig(
                    prefix_length=2 + number, alpha=None if number == 1 else 4.0 + number, key_dropout=0.1 * number
                ),
            )
        else:
            linear_probe(model, "linear_probe")
        packing.join(model)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        choices = CHOICES[task_type]
        losses = []
        for step in range(steps + number):
            inputs = batch(length=8 + number + step, choices=choices)
            labels = torch.arange(3).remainder(2)
            if task_type == "token":
                labels = labels[:, None].expand(-1, 8 + number + step)
            model.train()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = model(**inputs, labels=labels).loss
                if prefixes:
                    loss = loss + 0.01 * (1 + number) * spt.selective_loss(model)
            loss.backward()
            model.after_backward()
            optimizer.step()
            optimizer.zero_grad()
            model.eval()
            with torch.no_grad():
                losses.append((float(loss), model(**inputs).logits.float()))
        trained = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
        return JobReturn(_return_value=(losses, trained), status=JobStatus.COMPLETED)

    return job


def packed(*jobs):
    return Pack({f"#{number}": job for number, job in enumerate(jobs)}).run()


def assert_same(alone, packed, **tolerance):
    for one, other in zip(alone, packed, strict=True):
        torch.testing.assert_close(other.return_value, one.return_value, **tolerance)


@pytest.mark.parametrize(
    ("name", "task_type"), [*itertools.product(["BERT"], CHOICES), *((name, "sentence") for name in FAMILIES)][1:]
)
def test_runs_are_what_they_are_alone(name, task_type):
    """Seeds, prefixes, gates, dropouts, loss weights, text lengths and numbers of steps differ."""
    attention = "eager" if name in EAGER_ONLY else "sdpa"
    base = family(name, attention).requires_grad_(False)
    jobs = [training(base, number, task_type, FAMILIES[name][1]) for number in range(3)]
    assert_same([job() for job in jobs], packed(*jobs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_heads_alone_train_together_too(attention):
    base = family("BERT", attention)
    jobs = [training(base, number, prefixes=False) for number in range(3)]
    assert_same([job() for job in jobs], packed(*jobs), rtol=1e-5, atol=1e-5)


def test_in_half_precision():
    base = family("BERT", "sdpa").requires_grad_(False)
    jobs = [training(base, number, half=True) for number in range(3)]
    assert_same([job() for job in jobs], packed(*jobs), rtol=1e-2, atol=1e-2)


def test_what_fails_leaves_the_others_alone():
    base = family("BERT", "sdpa").requires_grad_(False)

    def failing():
        training(base, 1, steps=1)()
        raise SptError("no")

    def job():
        try:
            return failing()
        except SptError as error:
            return JobReturn(_return_value=error, status=JobStatus.FAILED)

    alone = training(base, 0)()
    survivor, failed = packed(training(base, 0), job)
    assert_same([alone], [survivor], rtol=1e-5, atol=1e-5)
    assert failed.status == JobStatus.FAILED


@pytest.mark.parametrize("where", ["encode", "backward"])
def test_an_error_of_the_joint_computation_is_each_runs(where, monkeypatch):
    base = family("BERT", "sdpa").requires_grad_(False)

    def broken(*_):
        raise torch.OutOfMemoryError("too much")

    monkeypatch.setattr(Pack, {"encode": "_forward", "backward": "_backward"}[where], broken)

    def job(number):
        def caught():
            with pytest.raises(torch.OutOfMemoryError, match="too much"):
                training(base, number)()
            return JobReturn(status=JobStatus.FAILED)

        return caught

    assert [returned.status for returned in packed(job(0), job(1))] == [JobStatus.FAILED] * 2


def test_an_interruption_reaches_all_and_ends_all():
    base = family("BERT", "sdpa").requires_grad_(False)
    cleaned = []

    def job(number):
        def cleaning():
            try:
                return training(base, number)()
            finally:
                cleaned.append(number)

        return cleaning

    def interrupted():
        training(base, 3, steps=1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        packed(job(0), job(1), interrupted)
    assert sorted(cleaned) == [0, 1]
    assert member() is None


def test_one_backbone_in_memory(tmp_path):
    encoders = []

    def job(seed):
        def load():
            torch.manual_seed(seed)
            encoder, _ = packing.backbone(name_or_path=str(tmp_path))
            encoders.append(encoder)
            return JobReturn(status=JobStatus.COMPLETED)

        return load

    from spt.backbone import load_backbone

    demo, tokenizer = load_backbone("pkg://spt/demo/encoder")
    tokenizer.save_pretrained(tmp_path)
    demo.save_pretrained(tmp_path)
    packed(job(0), job(1))
    one, other = (dict(encoder.named_parameters()) for encoder in encoders)
    assert all(one[name] is other[name] for name in one)

    encoders.clear()
    demo.pooler = None
    demo.save_pretrained(tmp_path)
    packed(job(0), job(1))
    torch.manual_seed(1)
    alone, _ = load_backbone(str(tmp_path))
    one, other = (dict(encoder.named_parameters()) for encoder in encoders)
    for name, parameter in alone.named_parameters():
        assert (one[name] is other[name]) == (not name.startswith("pooler"))
        assert torch.equal(other[name], parameter)  # the missing pooler is the run's own noise, as alone


TOGETHER = [
    *(
        "seed=7",
        "method.prefix_length=3",
        "method.alpha=2",
        "method=spt_sl",
        "method=spt_sl method.sl_weight=1",
        "output_dir=elsewhere",
    ),
    *("trainer.learning_rate=1", "trainer.num_train_epochs=9", "trainer.lr_scheduler_type=exponential"),
]
APART = [
    *("task=demo_ner", "model=minilm", "method=prefix_tuning"),
    *("trainer.bf16=true", "trainer.per_device_train_batch_size=2", "model.dtype=bfloat16", "task.max_length=9"),
]
ALONE = {"method=lora": "method=lora", "+trainer.gradient_checkpointing=true": "gradient_checkpointing"}


def kind(overrides):
    return packing.kind_of(composed("task=demo_pair", "model=demo", *overrides.split()))


def test_what_runs_with_what():
    configs = [
        composed("task=demo_pair", "model=demo", *overrides.split())
        for overrides in ("seed=1", "method=lora", "seed=2", "task=demo_ner", "method.prefix_length=3")
    ]
    assert list(packing.groups(configs, together=2)) == [
        ([1], "alone, method=lora changes the encoder itself"),
        ([0, 2], "together, 2 runs"),
        ([4], "alone, no other run differs in so little"),
        ([3], "alone, no other run differs in so little"),
    ]


@pytest.mark.parametrize("overrides", TOGETHER)
def test_together(overrides):
    assert kind(overrides) == kind("seed=1")


@pytest.mark.parametrize("overrides", APART)
def test_apart(overrides):
    its, reason = kind(overrides)
    assert reason is None and its != kind("seed=1")[0]


@pytest.mark.parametrize("overrides", ALONE)
def test_alone_with_the_reason(overrides):
    assert ALONE[overrides] in kind(overrides)[1]


def test_shifted_positions_have_one_prefix_length():
    one, other = (kind(f"method=p_tuning_v2 method.prefix_length={length}")[0] for length in (3, 4))
    assert one != other

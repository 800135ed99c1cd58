"""The loop on the embedded demo: schedules, the choice of the best epoch, the penalty, collapse and divergence."""

import math

import pytest
import torch
from accelerate.utils import set_seed

import spt
from spt.hydra_targets import instantiate
from spt.modeling.pretrained_encoder import backbone_settings, load_backbone
from spt.records.run_folder import RunFolder
from spt.records.schema import read_record
from spt.tasks.task import Task, data_fingerprint
from spt.training.assemble import Assembled
from spt.training.batches import epoch_order
from spt.training.loggers import Tracker
from spt.training.loop import TrainingLoop
from spt.training.process_group import join
from spt.training.run_experiment import Experiment
from spt.training.settings import trainer_settings
from tests.test_configs import composed


def experiment(tmp_path, *overrides, rows=24):
    """A run on the first rows of the demo's data, ready to fit."""
    config = composed("model=demo", "task=demo_pair", *overrides, f"output_dir={tmp_path}", "force=true")
    run = RunFolder(config)
    run.start()
    settings = trainer_settings(run.config["trainer"])
    set_seed(0)
    task: Task = instantiate(config.task, _convert_="all")
    encoder, tokenizer = load_backbone(**backbone_settings(run.config["model"]))
    model = spt.TaskModel(encoder, task.task_type, len(task.classes), config.model.pooling)
    penalty = instantiate(config.method, model)
    data = {name: examples[:rows] for name, examples in task.load().items()}
    splits = {name: task.encode(examples, tokenizer, 64) for name, examples in data.items()}
    loop = TrainingLoop(model, task, splits, tokenizer, settings, config.seed, join(settings), penalty)
    return Experiment(run, Assembled(loop, data_fingerprint(data), needs_method=False), Tracker())


def learning_rates(tmp_path, *overrides):
    """The learning rate of every optimizer step."""
    loop = experiment(tmp_path, *overrides).loop
    rates = []
    step = loop.optimizer.step

    def recorded(*args, **kwargs):
        rates.append(loop.optimizer.param_groups[0]["lr"])
        return step(*args, **kwargs)

    loop.optimizer.step = recorded
    loop.run()
    return rates


def test_exponential_schedule_steps_once_an_epoch(tmp_path):
    settings = ("trainer.lr_scheduler_type=exponential", "trainer.learning_rate=1e-2", "trainer.num_train_epochs=3")
    rates = learning_rates(tmp_path, *settings, "trainer.per_device_train_batch_size=10")
    assert rates == pytest.approx([1e-2] * 3 + [0.95e-2] * 3 + [0.95**2 * 1e-2] * 3)
    accumulated = ("trainer.per_device_train_batch_size=5", "trainer.gradient_accumulation_steps=2")
    rates = learning_rates(tmp_path, *settings, *accumulated, "+trainer.lr_scheduler_kwargs.gamma=0.5")
    assert rates == pytest.approx([1e-2] * 3 + [0.5e-2] * 3 + [0.25e-2] * 3)


def test_warmup_is_a_number_of_steps_or_a_share_of_them(tmp_path):
    settings = ("trainer.learning_rate=1e-2", "trainer.num_train_epochs=4", "trainer.per_device_train_batch_size=12")
    for warmup in ("2", "0.25"):
        rates = learning_rates(tmp_path, *settings, f"trainer.warmup_steps={warmup}")
        assert rates == pytest.approx([0, 5e-3, 1e-2, *(1e-2 * left / 6 for left in (5, 4, 3, 2, 1))])


def test_accumulated_batches_are_one_batch(tmp_path):
    """Two halves of 12 rows are the mean of their means, which is the mean of the 24."""
    losses = []
    for batch, accumulation in ((24, 1), (12, 2)):
        made = experiment(
            tmp_path,
            f"trainer.per_device_train_batch_size={batch}",
            f"trainer.gradient_accumulation_steps={accumulation}",
            "trainer.num_train_epochs=2",
            "trainer.train_sampling_strategy=sequential",
            "method.key_dropout=0",
            "method.score_dropout=0",
            "+model.config.hidden_dropout_prob=0",
            "+model.config.attention_probs_dropout_prob=0",
        )
        made.fit()
        losses.append([parameter.detach().clone() for parameter in made.model.parameters() if parameter.requires_grad])
    for once, twice in zip(*losses, strict=True):
        torch.testing.assert_close(once, twice, rtol=1e-4, atol=1e-6)


def test_the_penalty_is_in_both_losses(tmp_path):
    """With a weight that dwarfs the task, the losses are the weighted selective loss."""
    made = experiment(tmp_path, "method=spt_sl", "method.sl_weight=1e4", "trainer.num_train_epochs=1")
    epochs = []
    made.loop.run(epochs.append)
    (epoch,) = epochs
    assert epoch.dev.penalty == pytest.approx(1e4 * spt.selective_loss(made.model).item())
    assert epoch.dev.loss == pytest.approx(epoch.dev.penalty, rel=0.05)
    assert epoch.train_loss > 100


def test_progress_is_shown_from_the_first_step(tmp_path):
    made = experiment(tmp_path, "trainer.per_device_train_batch_size=8", "trainer.num_train_epochs=5")
    steps = []
    made.loop.run(on_step=lambda step, loss: steps.append(step))
    assert steps == [1, 10, 15]


def test_the_frozen_backbone_does_not_move_and_all_else_does(tmp_path):
    made = experiment(tmp_path, "method=spt_sl", "trainer.num_train_epochs=1")
    before = {name: p.detach().clone() for name, p in made.model.named_parameters()}
    trainable = {name for name, p in made.model.named_parameters() if p.requires_grad}
    made.loop.run()
    moved = {name for name, p in made.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == trainable and len(trainable) == 3 * 2 + 2


def test_the_first_of_equal_epochs_is_the_best_and_its_adapter_is_kept(tmp_path, monkeypatch):
    made = experiment(tmp_path, "trainer.num_train_epochs=4")
    scores = iter([0.5, 0.75, 0.75, 0.25])
    weights = []

    def score(self, predictions, examples):
        weights.append(made.model.classifier.weight.detach().clone())
        return {"accuracy": next(scores, 0.0)}  # those after the epochs are baselines

    monkeypatch.setattr(type(made.task), "score", score)
    results = made.fit()
    assert results["best_epoch"] == 2 and results["epochs"] == 4
    assert results["metrics"] == {"best_dev": 0.75, "last_dev": 0.25, "test": None}
    spt.load_adapter(made.model, made.run.adapter)
    assert torch.equal(made.model.classifier.weight, weights[1])


def test_test_is_scored_with_the_best_epochs_adapter(tmp_path, monkeypatch):
    made = experiment(tmp_path, "task=demo_ner", "trainer.num_train_epochs=3")
    scores = iter([0.9, 0.1, 0.1])
    seen = []

    def score(self, predictions, examples):
        seen.append((examples is made.splits["test"].examples, made.model.classifier.weight.detach().clone()))
        return {"f1": next(scores, 0.4)}

    monkeypatch.setattr(type(made.task), "score", score)
    results = made.fit()
    assert results["metrics"] == {"best_dev": 0.9, "last_dev": 0.1, "test": 0.4}
    assert [is_test for is_test, _ in seen] == [False, False, False, True]
    assert torch.equal(seen[3][1], seen[0][1]) and not torch.equal(seen[3][1], seen[2][1])


@pytest.mark.parametrize(
    "settings",
    [
        ("trainer.bf16=true", "+trainer.gradient_checkpointing=true"),
        ("model.dtype=bfloat16",),
        ("model.attn_implementation=eager", "trainer.train_sampling_strategy=random"),
        pytest.param(("+trainer.torch_compile_backend=aot_eager",), marks=pytest.mark.slow),
        ("trainer.max_steps=2",),
        ("method=prefix_tuning", "method.projection=16"),
    ],
)
def test_settings_that_work(settings, tmp_path):
    made = experiment(tmp_path, "method=spt_sl", "trainer.num_train_epochs=1", *settings)
    before = [p.detach().clone() for p in made.model.parameters() if p.requires_grad]
    results = made.fit()
    assert results["status"] == "finished" and results["best_epoch"] == 1
    if "projection" not in settings[-1]:  # whose prefixes are stored free
        after = [p for p in made.model.parameters() if p.requires_grad]
        assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_a_run_that_gives_one_class_says_so(tmp_path):
    made = experiment(tmp_path, "trainer.num_train_epochs=1", "trainer.learning_rate=1e-12")
    made.model.classifier.bias.data[0] = 100.0
    results = made.fit()
    assert results["collapsed"] and "'yes' to every dev example" in results["warnings"][0]


def test_a_loss_that_is_not_finite_ends_the_run_with_a_record(tmp_path):
    made = experiment(tmp_path, "trainer.num_train_epochs=2")
    made.model.classifier.weight.data.fill_(math.nan)
    results = made.fit()
    assert results["status"] == "diverged" and results["metrics"]["best_dev"] is None
    assert "became nan" in results["warnings"][0] and "learning_rate" in results["warnings"][0]
    record = made.run.write_record(results)
    assert read_record(made.run.folder / "record.json") == record


def test_divergence_after_an_epoch_keeps_that_epoch(tmp_path, monkeypatch):
    made = experiment(tmp_path, "task=demo_ner", "trainer.num_train_epochs=3")
    append = made.run.append_history

    def poison(row):
        append(row)
        made.model.classifier.weight.data.fill_(math.nan)

    monkeypatch.setattr(made.run, "append_history", poison)
    results = made.fit()
    assert results["status"] == "diverged" and results["best_epoch"] == results["epochs"] == 1
    assert results["metrics"]["best_dev"] is not None and results["metrics"]["test"] is None
    assert (made.run.adapter / "adapter.safetensors").exists()


@pytest.mark.parametrize("strategy", ["group_by_length", "random"])
def test_the_order_of_examples_is_a_function_of_seed_and_epoch(strategy):
    lengths = [5, 9, 3, 7, 4, 8, 6, 2] * 8

    def order(seed, epoch):
        return epoch_order(lengths, strategy, 4, seed, epoch)

    torch.manual_seed(3)
    first = order(11, 1)
    state = torch.get_rng_state()
    assert order(11, 1) == first and torch.equal(torch.get_rng_state(), state)
    assert sorted(first) == list(range(64))
    assert len({tuple(order(seed, epoch)) for seed in (11, 12) for epoch in (1, 2)}) == 4


def test_batches_of_similar_lengths_begin_with_the_longest():
    lengths = list(range(64))
    order = epoch_order(lengths, "group_by_length", 4, 11, 1)
    assert order[0] == 63
    spread = [max(order[i : i + 4]) - min(order[i : i + 4]) for i in range(4, 64, 4)]
    assert max(spread) < 63 and sum(spread) / len(spread) < 32

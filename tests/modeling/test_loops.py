"""A TaskModel in training loops of others: transformers' Trainer, and accelerate."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from transformers import DataCollatorForTokenClassification, Trainer, TrainingArguments, pipeline

import spt
from spt.modeling.pretrained_encoder import load_tokenizer
from tests.conftest import batch, tiny_encoder

STEPS = [(8, 1), (4, 2), (2, 4)]  # examples in a batch, and batches in a step
SHAPES = {"sentence": 3, "token": 3, "choice": 2, "regression": 1}
WEIGHT = 7.0  # of the selective loss


def model_of(task_type: str) -> spt.TaskModel:
    encoder = tiny_encoder(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    torch.manual_seed(0)
    model = spt.TaskModel(encoder, task_type, SHAPES[task_type])
    return spt.attach(model, spt.PrefixConfig(prefix_length=4, key_dropout=0.0, score_dropout=0.0))


def examples(task_type: str, count: int = 8) -> list[dict[str, torch.Tensor]]:
    inputs = batch(8, 20, choices=2 if task_type == "choice" else None)
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 2, (8, 20) if task_type == "token" else (8,), generator=generator)
    labels = labels + 0.5 if task_type == "regression" else labels
    if task_type == "token":  # as many labels in each example
        labels[:, 3:] = -100
    return [{name: tensor[row] for name, tensor in (inputs | {"labels": labels}).items()} for row in range(count)]


class SelectiveTrainer(Trainer):
    """Adds the selective loss as a user would."""

    def compute_loss(self, model, inputs, return_outputs=False, **options):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **options)
        loss = loss + WEIGHT * spt.selective_loss(model)
        return (loss, outputs) if return_outputs else loss


def trainer_of(kind, model, folder: Path, data=None, **settings) -> Trainer:
    defaults = {"max_steps": 1, "logging_steps": 1, "report_to": [], "use_cpu": True, "disable_tqdm": True}
    data = data or examples(model.task_type)
    arguments = TrainingArguments(str(folder), **defaults | {"per_device_eval_batch_size": 3} | settings)
    return kind(model, arguments, train_dataset=data, eval_dataset=data)


def norm_of_all_at_once(model: spt.TaskModel, task_type: str, weight: float) -> float:
    whole = torch.utils.data.default_collate(examples(task_type))
    (model(**whole).loss + weight * spt.selective_loss(model)).backward()
    return float(nn.utils.get_total_norm(p.grad for p in model.parameters() if p.grad is not None))


@pytest.mark.parametrize("kind", [Trainer, SelectiveTrainer])
@pytest.mark.parametrize("task_type", SHAPES)
def test_the_gradient_depends_on_the_examples_and_not_on_the_accumulation(task_type, kind, tmp_path):
    expected = norm_of_all_at_once(model_of(task_type), task_type, WEIGHT if kind is SelectiveTrainer else 0.0)
    for size, accumulated in STEPS:
        settings = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulated}
        trainer = trainer_of(kind, model_of(task_type), tmp_path, **settings)
        trainer.train()
        assert trainer.state.log_history[0]["grad_norm"] == pytest.approx(expected, rel=1e-4), (size, accumulated)


def test_of_batches_with_different_numbers_of_labels_a_model_may_take_the_mean_over_all(tmp_path):
    data = examples("token")
    for number, example in enumerate(data):
        example["labels"][number + 1 :] = -100
    norms = []
    for size, accumulated in STEPS:
        model = model_of("token")
        model.accepts_loss_kwargs = True
        settings = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulated}
        trainer = trainer_of(Trainer, model, tmp_path, data, **settings)
        trainer.train()
        norms.append(trainer.state.log_history[0]["grad_norm"])
    assert norms[1:] == pytest.approx(norms[:1] * 2, rel=1e-4)


@pytest.mark.parametrize("task_type", SHAPES)
def test_num_items_in_batch_divides_the_sum(task_type):
    model, whole = model_of(task_type).eval(), torch.utils.data.default_collate(examples(task_type))
    counts = whole["labels"].numel() if task_type != "token" else int((whole["labels"] != -100).sum())
    mean = model(**whole).loss
    torch.testing.assert_close(model(**whole, num_items_in_batch=torch.tensor(counts)).loss, mean)
    torch.testing.assert_close(model(**whole, num_items_in_batch=4 * counts).loss, mean / 4)


@pytest.mark.parametrize("weight", [0.0, WEIGHT])
def test_accelerate_accumulates_to_the_same_gradient(weight):
    expected = norm_of_all_at_once(model_of("sentence"), "sentence", weight)
    for size, accumulated in STEPS:
        accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulated)
        model = model_of("sentence")
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.0)
        loader = torch.utils.data.DataLoader(examples("sentence"), size)
        prepared, optimizer, loader = accelerator.prepare(model, optimizer, loader)
        for inputs in loader:
            with accelerator.accumulate(prepared):
                accelerator.backward(prepared(**inputs).loss + weight * spt.selective_loss(prepared))
        norm = accelerator.clip_grad_norm_(model.parameters(), 1e9)
        assert float(norm) == pytest.approx(expected, rel=1e-4), (size, accumulated)


@pytest.mark.filterwarnings("error:`TaskModel`")
def test_a_trainer_evaluates_saves_and_resumes(tmp_path):
    data = [{name: tensor[: 9 + row] for name, tensor in each.items()} for row, each in enumerate(examples("token"))]
    tokenizer = load_tokenizer("pkg://spt/demo/encoder")
    settings = {"max_steps": 4, "save_steps": 2, "save_strategy": "steps", "eval_strategy": "steps", "eval_steps": 2}
    settings |= {"load_best_model_at_end": True, "gradient_checkpointing": True}

    def made() -> Trainer:
        trainer = trainer_of(Trainer, model_of("token"), tmp_path / "out", data, **settings)
        trainer.processing_class, trainer.data_collator = tokenizer, DataCollatorForTokenClassification(tokenizer)
        return trainer

    trainer = made()
    trainer.train()
    predicted = trainer.predict(data)
    model = trainer.model.eval()
    assert predicted.predictions.shape == (8, 16, 3) and trainer.state.total_flos > 0
    for row, example in enumerate(data):
        own = model(**{name: tensor[None] for name, tensor in example.items()}).logits[0]
        kept = example["attention_mask"].bool()
        given = torch.from_numpy(predicted.predictions[row, : len(own)])
        torch.testing.assert_close(given[kept], own[kept], rtol=1e-4, atol=1e-5)
    again = made()
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    for (name, one), other in zip(trainer.model.named_parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other), name
    spt.load_adapter(model_of("token"), spt.save_adapter(trainer.model, tmp_path / "adapter"))


def test_what_loops_look_for():
    model = model_of("sentence")
    assert model.config.num_labels == 3 and model.config.hidden_size == 32 and model.dtype == torch.float32
    assert model.device == torch.device("cpu")
    assert model.num_parameters(only_trainable=True) == sum(p.numel() for p in model.parameters() if p.requires_grad)
    whole = torch.utils.data.default_collate(examples("sentence"))
    loss, logits = model.eval()(**whole, return_dict=False)
    torch.testing.assert_close((loss, logits), (model(**whole).loss, model(**whole).logits))
    assert model(**{n: t for n, t in whole.items() if n != "labels"}, return_dict=False)[0].shape == logits.shape
    wrapped = torch.nn.DataParallel(model)  # as DistributedDataParallel and torch.compile wrap
    assert spt.selective_loss(wrapped) == spt.selective_loss(model)


def test_a_pipeline_counts_the_labels_of_the_head():
    tokenizer = load_tokenizer("pkg://spt/demo/encoder")
    model = model_of("sentence").eval()
    (scores,) = pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None)(["a b"])
    probabilities = model(**tokenizer("a b", return_tensors="pt")).logits.softmax(-1)[0].tolist()
    assert {each["label"]: each["score"] for each in scores} == pytest.approx(
        {f"LABEL_{number}": value for number, value in enumerate(probabilities)}, rel=1e-5
    )
    model = model_of("regression").eval()
    ((score,),) = pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None)(["a b"])
    assert score["score"] == pytest.approx(model(**tokenizer("a b", return_tensors="pt")).logits.item())

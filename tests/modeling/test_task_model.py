"""The head: pooling, losses, shapes."""

import pytest
import torch
import torch.nn.functional as F
from transformers import BertForSequenceClassification

import spt
from spt.methods import fine_tuning
from tests.conftest import batch, tiny_encoder


@pytest.mark.parametrize("pooling", ["pooler", "first", "mean", "last"])
def test_pooling(pooling):
    model = spt.TaskModel(tiny_encoder(), "sentence", num_labels=3, pooling=pooling).eval()
    inputs = batch()
    encoded = model.encoder(**inputs)
    hidden = encoded.last_hidden_state
    lengths = inputs["attention_mask"].sum(1)
    expected = {
        "pooler": encoded.pooler_output,
        "first": hidden[:, 0],
        "mean": torch.stack([h[:n].mean(0) for h, n in zip(hidden, lengths, strict=True)]),
        "last": torch.stack([h[n - 1] for h, n in zip(hidden, lengths, strict=True)]),
    }
    torch.testing.assert_close(model(**inputs).logits, model.classifier(expected[pooling]))


@pytest.mark.parametrize("pooling", ["pooler", "first", "mean", "last"])
def test_the_side_of_the_padding_changes_nothing(pooling):
    right = batch()
    lengths = right["attention_mask"].sum(1).tolist()
    left = {n: torch.stack([row.roll(-k) for row, k in zip(t, lengths, strict=True)]) for n, t in right.items()}
    assert (left["attention_mask"][:, -1] == 1).all() and (left["attention_mask"][1:, 0] == 0).all()
    model = spt.TaskModel(tiny_encoder(), "sentence", num_labels=3, pooling=pooling).eval()
    torch.testing.assert_close(model(**left).logits, model(**right).logits)
    if pooling == "first":
        model = spt.TaskModel(tiny_encoder(), "token", num_labels=3).eval()
        rows = zip(model(**left).logits, model(**right).logits, lengths, strict=True)
        for padded_left, padded_right, length in rows:
            torch.testing.assert_close(padded_left[10 - length :], padded_right[:length])
        embedded = {
            "attention_mask": left["attention_mask"],
            "inputs_embeds": model.encoder.embeddings.word_embeddings(left["input_ids"]),
        }
        torch.testing.assert_close(model(**embedded).logits, model(**left).logits)


def test_fine_tuning_trains_what_the_head_reads():
    model = spt.TaskModel(tiny_encoder(), "sentence", num_labels=3)
    fine_tuning(model, "fine_tuning")
    assert all(p.requires_grad for p in model.parameters())
    model = spt.TaskModel(tiny_encoder(), "token", num_labels=3)
    fine_tuning(model, "fine_tuning")
    frozen = {n.removeprefix("encoder.") for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == model.unused_parameters == {"pooler.dense.weight", "pooler.dense.bias"}


def test_choices_need_three_dimensions():
    with pytest.raises(spt.SptError, match="batch, choices, length"):
        spt.TaskModel(tiny_encoder(), "choice", num_labels=2)(**batch())


def test_token_loss_leaves_out_padding_and_ignored_labels():
    model = spt.TaskModel(tiny_encoder(), "token", num_labels=3).eval()
    inputs, labels = batch(), torch.randint(0, 3, (3, 10), generator=torch.Generator().manual_seed(0))
    labels[0, 3] = -100
    out = model(**inputs, labels=labels)
    assert out.logits.shape == (3, 10, 3)
    counts = (inputs["attention_mask"] == 1) & (labels != -100)
    torch.testing.assert_close(out.loss, F.cross_entropy(out.logits[counts], labels[counts]))
    assert model(**inputs, labels=torch.full((3, 10), -100)).loss == 0


def test_choices_are_scored_one_by_one():
    model = spt.TaskModel(tiny_encoder(), "choice", num_labels=2).eval()
    assert model.classifier.weight.shape == (1, 32)
    inputs, labels = batch(choices=2), torch.tensor([0, 1, 1])
    out = model(**inputs, labels=labels)
    apart = [model(**{n: t[:, i : i + 1] for n, t in inputs.items()}).logits for i in range(2)]
    torch.testing.assert_close(out.logits, torch.cat(apart, dim=1))
    torch.testing.assert_close(out.loss, F.cross_entropy(out.logits, labels))


def test_a_regression_is_one_number_and_its_squared_error():
    model = spt.TaskModel(tiny_encoder(), "regression", num_labels=1).eval()
    inputs, labels = batch(), torch.tensor([0.0, 2.5, 5.0])
    out = model(**inputs, labels=labels)
    assert out.logits.shape == (3, 1)
    torch.testing.assert_close(out.loss, ((out.logits[:, 0] - labels) ** 2).mean())
    with pytest.raises(spt.SptError, match="num_labels must be 1, not 2"):
        spt.TaskModel(tiny_encoder(), "regression", num_labels=2)


def test_a_regression_trains_and_is_saved(tmp_path):
    made = [spt.attach(spt.TaskModel(tiny_encoder(), "regression", 1), spt.PrefixConfig(2)).eval() for _ in range(2)]
    made[0](**batch(), labels=torch.zeros(3)).loss.backward()
    assert all(p.grad is not None for p in made[0].parameters() if p.requires_grad)
    with torch.no_grad():
        made[0].classifier.bias += 1
    spt.load_adapter(made[1], spt.save_adapter(made[0], tmp_path))
    torch.testing.assert_close(made[1](**batch()).logits, made[0](**batch()).logits)


def test_wrong_arguments_are_named():
    with pytest.raises(spt.SptError, match="task_type 'sentnce': did you mean 'sentence'"):
        spt.TaskModel(tiny_encoder(), "sentnce", num_labels=2)
    with pytest.raises(spt.SptError, match="unknown pooling"):
        spt.TaskModel(tiny_encoder(), "sentence", num_labels=2, pooling="max")
    with pytest.raises(spt.SptError, match="num_labels"):
        spt.TaskModel(tiny_encoder(), "sentence", num_labels=0)
    with pytest.raises(spt.SptError, match="head of its own"):
        spt.TaskModel(BertForSequenceClassification(tiny_encoder().config), "sentence", num_labels=2)
    encoder = tiny_encoder()
    encoder.pooler = None
    with pytest.raises(spt.SptError, match="no pooler"):
        spt.TaskModel(encoder, "sentence", num_labels=2)


def test_targets_of_regression_are_not_rounded():
    model = spt.TaskModel(tiny_encoder(), "regression", num_labels=1)
    logits, labels = torch.tensor([[2000.0], [3.0]], dtype=torch.bfloat16), torch.tensor([2021.0, 3.1416])
    assert model.loss(logits, labels) == F.mse_loss(torch.tensor([2000.0, 3.0]), labels)
    assert model.loss(logits, labels.unsqueeze(1)) == model.loss(logits, labels)

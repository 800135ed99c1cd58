"""The measures on data: against plain loops in every family, and known answers."""

import math

import numpy as np
import pytest
import torch

import spt
from spt.insight.attention_measures import PERMUTATIONS, attention_measures, bootstrap_draws, with_permutations
from spt.insight.attention_sums import AttentionSums
from spt.insight.inspect_adapter import inspect
from spt.insight.text_batches import TextBatch, texts_of_batches
from spt.modeling.attention_probe import LayerAttention, inspected_attention
from spt.modeling.prefix_parameters import prefixes
from spt.modeling.task_model import IGNORED
from tests.conftest import batch
from tests.families import FAMILIES, family
from tests.insight import plain

P = 3


def model_of(name="BERT", task_type="sentence", alpha=8.0, **config):
    model = spt.TaskModel(family(name), task_type, num_labels=3, pooling=FAMILIES[name][1])
    model = spt.attach(model, spt.PrefixConfig(prefix_length=P, alpha=alpha, **config)).double().eval()
    torch.manual_seed(3)
    for prefix in prefixes(model):
        for parameter in prefix.parameters():
            parameter.data.normal_()
    return model


def batches_of(task_type):
    """Two batches with labels, of three texts (or choices) each."""
    made = []
    for length in (10, 7):
        inputs = batch(length=length, choices=2 if task_type == "choice" else None)
        labels = torch.tensor([0, 2, 1])
        if task_type == "token":
            labels = (inputs["input_ids"] % 3).masked_fill(inputs["attention_mask"] == 0, IGNORED)
            labels[:, 0] = IGNORED  # as a special token
        made.append(inputs | {"labels": labels})
    return made


def positions_of(model, batches):
    """For each layer and head the positions as `plain.measures` takes them."""
    found: dict[tuple[int, int], list] = {}
    for number, inputs in enumerate(batches):
        seen = []
        with torch.no_grad(), inspected_attention(model, seen.append):
            model(**{name: tensor for name, tensor in inputs.items() if name != "labels"})
        mask = inputs["attention_mask"].flatten(0, -2)
        choices = len(mask) // len(inputs["labels"])
        for layer in seen:
            for text, head, t in np.ndindex(layer.scores.shape[:3]):
                if mask[text, t]:
                    row = text // choices
                    label = inputs["labels"][row] if inputs["labels"].dim() == 1 else inputs["labels"][row, t]
                    s, log_gate = layer.scores[text, head, t].tolist(), layer.log_gate[text, head, t].tolist()
                    w = layer.weights[text, head, t, :P].tolist()
                    gate = [math.exp(value) for value in log_gate]
                    label = None if label == IGNORED else int(label)
                    found.setdefault((layer.layer, head), []).append(((number, row), label, s, gate, w))
    return found


CASES = [(name, ("sentence", "choice", "token")[number % 3]) for number, name in enumerate(FAMILIES)]


@pytest.mark.parametrize(("name", "task_type"), [*CASES, ("BERT", "token"), ("GPT-2", "token"), ("BERT", "choice")])
def test_every_measure_is_its_definition(name, task_type):
    model, batches = model_of(name, task_type), batches_of(task_type)
    found = inspect(model, batches)
    assert (found.examples, found.labels) == (6, ("0", "1", "2"))
    for (layer, head), positions in positions_of(model, batches).items():
        assert found.positions == len(positions)
        expected = plain.measures(positions)
        total = expected.pop("total variance")
        for measure, value in expected.items():
            values = getattr(found, measure).values[layer, head]
            assert values == pytest.approx(np.array(value), rel=1e-9, abs=1e-12), measure
        both = found.gate_within.values + found.gate_between.values
        assert both[layer, head] == pytest.approx(total, abs=1e-9) and total > 1e-6


@pytest.mark.parametrize("task_type", ["sentence", "choice", "token"])
def test_label_information_is_the_plug_in_estimate_less_its_mean_under_permutations(task_type):
    model, batches = model_of(task_type=task_type), batches_of(task_type)
    texts = texts_of_batches(model, batches)
    found, labels = inspect(model, batches, seed=5), with_permutations(texts.labels, 5)
    assert len(labels) == PERMUTATIONS + 1 and all(labels[0].bincount().equal(row.bincount()) for row in labels)
    units = torch.cat([each.units for each in texts.batches]).tolist()
    for (layer, head), positions in positions_of(model, batches).items():
        weights = [w for *_, w in positions]
        assert [label for _, label, *_ in positions] == [None if u < 0 else labels[0][u] for u in units]
        plug_in, *permuted = (
            plain.information([None if u < 0 else row[u].item() for u in units], weights) for row in labels
        )
        expected = plug_in - sum(permuted) / PERMUTATIONS
        assert found.label_information.values[layer, head] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("task_type", ["sentence", "token"])
def test_padding_on_the_left_changes_nothing(task_type):
    model, batches = model_of(task_type=task_type), batches_of(task_type)
    left = []
    for inputs in batches:
        moved = {name: tensor.clone() for name, tensor in inputs.items()}
        for row, kept in enumerate(inputs["attention_mask"].sum(-1)):
            for name, tensor in moved.items():
                if tensor.dim() > 1:
                    tensor[row] = inputs[name][row].roll(int(tensor.shape[1] - kept), -1)
        left.append(moved)
    assert not torch.equal(left[0]["attention_mask"], batches[0]["attention_mask"])
    one, other = inspect(model, batches), inspect(model, left)
    for name in ("gate_within", "gate_between", "slot_information", "label_information", "slot_share"):
        assert getattr(one, name).values == pytest.approx(getattr(other, name).values, abs=1e-9), name


def test_without_a_gate_there_are_no_gate_measures():
    model = model_of(alpha=None, projection=4)
    found = inspect(model, [{n: t for n, t in each.items() if n != "labels"} for each in batches_of("sentence")])
    assert found.alpha is found.gate_mean is found.gate_within is found.label_information is found.labels is None
    assert found.prefix_mass.values.min() > 0 and found.slot_share.values.sum(-1) == pytest.approx(1)


# --- known answers


def test_one_head_one_layer_two_tokens_by_hand():
    gate = torch.tensor([[0.95, 0.05], [0.5, 0.5]], dtype=torch.float64)
    weights = torch.cat([gate, torch.ones(2, 1)], dim=1) / 2  # one text key with the score 0
    for examples, within, between in ((1, 0.225**2, 0.0), (2, 0.0, 0.225**2)):
        sums = AttentionSums(bootstrap_draws(examples, 0), True, None, 0)
        owners = torch.tensor([0, examples - 1])
        sums.start(TextBatch({}, torch.ones(1, 2, dtype=torch.bool), 0, examples, owners, torch.full((2,), -1)))
        sums.visit(LayerAttention(0, torch.zeros(1, 1, 2, 2), gate.log()[None, None], weights[None, None]))
        found = {name: m.values[0, 0] for name, m in attention_measures(sums).items() if m is not None}
        for name in ("gate_mean", "slot_share"):
            assert found[name] == pytest.approx([0.725, 0.275])
        assert list(found["gate_open"]) == [0.5, 0] and list(found["gate_closed"]) == [0, 0.5]
        assert found["gate_within"] == pytest.approx(within, abs=1e-12)
        assert found["gate_between"] == pytest.approx(between, abs=1e-12)
        assert found["prefix_mass"] == pytest.approx(0.5)
        assert found["slot_information"] == pytest.approx(0.588169 - (0.198515 + 0.693147) / 2, abs=1e-6)
        assert found["slots_used"] == pytest.approx(math.exp(0.588169), abs=1e-5)
        assert found["slots_used_at_once"] == pytest.approx(math.exp(0.445831), abs=1e-5)


def test_keys_of_zero():
    model = model_of()
    for prefix in prefixes(model):
        prefix.key_prefix.data.zero_()
    found = inspect(model, batches_of("sentence"))
    assert (found.gate_mean.values == 0.5).all() and found.gate_open.values.max() == found.gate_closed.values.max() == 0
    assert found.gate_within.values == pytest.approx(0, abs=1e-15)
    assert found.gate_between.values == pytest.approx(0, abs=1e-15)
    assert found.slots_used.values == pytest.approx(P)


def test_slots_that_are_alike():
    model = model_of()
    for prefix in prefixes(model):
        for parameter in (prefix.key_prefix, prefix.value_prefix):
            parameter.data[:] = parameter.data[:1]
    found = inspect(model, batches_of("sentence"))
    assert found.cosine.values == pytest.approx(1) and found.effective_rank.values == pytest.approx(1)
    assert found.mean_abs_cosine.overall.values == pytest.approx(1)
    assert found.slot_information.values == pytest.approx(0, abs=1e-12)
    assert found.norm_std.values == pytest.approx(0, abs=1e-6) and found.gate_mean.values.std(-1).max() < 1e-12
    assert found.label_information.values == pytest.approx(0, abs=1e-12)


def fed(labels, slots, count=4):
    """The label information of positions that each give all of the prefix's weight to one slot."""
    scores = torch.full((1, 1, len(slots), count), -1e4)
    scores[0, 0, torch.arange(len(slots)), slots] = 0
    sums = AttentionSums(torch.ones(1, 1), False, with_permutations(labels, 0), int(labels.max()) + 1)
    units = torch.arange(len(labels))
    sums.start(TextBatch({}, units[None] >= 0, 0, 1, torch.zeros_like(units), units))
    sums.visit(LayerAttention(0, scores, torch.zeros_like(scores), torch.softmax(scores, -1)))
    return attention_measures(sums)["label_information"].values.item()


def test_labels_that_decide_the_slot_and_labels_that_do_not():
    generator = torch.Generator().manual_seed(0)
    labels = torch.multinomial(torch.tensor([0.5, 0.3, 0.2]), 4000, replacement=True, generator=generator)
    shares = labels.bincount() / len(labels)
    of_label = -(shares * shares.log()).sum().item()
    assert fed(labels, labels) == pytest.approx(of_label, abs=3e-3)
    slots = torch.randint(4, (4000,), generator=generator)
    assert fed(labels, slots) == pytest.approx(0, abs=2e-3)


# --- standard errors


def test_samples_drawn_anew_are_repetitions_of_examples():
    model = model_of(task_type="token")
    batches = batches_of("token") * 6
    found, draws = inspect(model, batches), bootstrap_draws(36, 0)
    assert len(draws) > 50 and (draws.sum(1) == 36).all() and (draws[0] == 1).all() and (draws[1:] != 1).any(1).all()
    by_head = positions_of(model, batches)
    for measure in ("gate_within", "gate_between", "slot_information", "prefix_mass"):
        samples = []
        for counts in draws[1:6]:
            copies = [
                ((*example, copy), *rest)
                for example, *rest in by_head[1, 2]
                for copy in range(counts[3 * example[0] + example[1]])
            ]
            samples.append(plain.measures(copies)[measure])
        values = getattr(spt_draws(model, batches, draws[:6]), measure)
        assert values.standard_error[1, 2] == pytest.approx(np.std(samples, ddof=1), rel=1e-6), measure
    assert 0 < found.label_information.standard_error.max() < 1
    assert found.slot_share.over_heads.standard_error.shape == (2, P)
    assert found.prefix_mass.overall.standard_error < found.prefix_mass.standard_error.mean()


def spt_draws(model, batches, draws):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spt.insight.inspect_adapter.bootstrap_draws", lambda examples, seed: draws)
        return inspect(model, batches)


def test_few_examples_have_no_standard_error_and_means_are_means():
    found = inspect(model_of(), batches_of("sentence"))
    assert found.slot_share.standard_error is found.slot_share.overall.standard_error is None
    assert found.slot_share.over_heads.axes == ("layer", "slot") and found.mean_abs_cosine.over_heads is None
    assert found.slot_share.over_heads.values == pytest.approx(found.slot_share.values.mean(1))
    assert found.prefix_mass.over_layers.values == pytest.approx(found.prefix_mass.values.mean(0))
    assert found.prefix_mass.overall.values == pytest.approx(found.prefix_mass.values.mean())


def test_rows_of_padding_alone_and_no_mask_and_few_labels():
    model, batches = model_of(alpha=[8.0, [4.0, 2.0, 4.0, 2.0]]), batches_of("token")
    padded = {name: torch.cat([tensor, tensor[:1]]) for name, tensor in batches[0].items()}
    padded["attention_mask"][-1], padded["labels"][-1] = 0, IGNORED
    assert inspect(model, [padded]).positions == inspect(model, batches[:1]).positions
    assert inspect(model, batches[:1]).alpha == [8.0, [4.0, 2.0, 4.0, 2.0]]
    ids = batches[0]["input_ids"]
    inputs = {"input_ids": ids, "attention_mask": None, "labels": torch.full_like(ids, IGNORED)}
    many = [{name: None if tensor is None else tensor.repeat(11, 1) for name, tensor in inputs.items()}]
    many[0]["labels"][0, :3] = torch.tensor([0, 1, 2])
    assert inspect(model, many).label_information.standard_error.max() >= 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: inspect(spt.detach(model_of()), batches_of("sentence")), "no prefixes .* spt, spt_sl, prefix_tuning"),
        (lambda: inspect(model_of().train(), batches_of("sentence")), "training mode"),
        (lambda: inspect(model_of(), []), "batches of its inputs"),
        (lambda: inspect(model_of(), [{"text": "a"}]), "batches of its inputs"),
        (lambda: inspect(model_of().encoder, []), "a Predictor .* not BertModel"),
        (lambda: inspect(model_of(), batches_of("sentence"), interventions=True), "interventions need the scores"),
        (lambda: inspect(model_of(), [], seed=-1), "seed must be"),
        (lambda: inspect(model_of(), [], batch_size=0), "batch_size must be"),
    ],
)
def test_wrong_arguments(change, message):
    with pytest.raises(spt.SptError, match=message):
        change()


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_is_refused(label):
    inputs = batch() | {"labels": torch.tensor([0, label, 2])}
    with pytest.raises(spt.SptError, match="labels must be from 0 to 2, or -100 for none"):
        inspect(model_of(), [inputs])

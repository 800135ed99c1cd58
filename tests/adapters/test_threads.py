"""Adapters on one backbone, asked from many threads and in turns: each answer is that of the adapter alone."""

import copy
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

import spt
from spt.adapters.predictor import Predictor
from spt.adapters.pruned import save_pruned
from spt.evaluate import evaluate
from spt.insight.text_attention import text_attention
from spt.modeling.pretrained_encoder import load_backbone
from spt.modeling.slot_cosine_and_rank import slot_similarity
from spt.paths import local_path
from spt.tasks.task import Task
from tests.adapters.made import DEMO_ENCODER, made_adapter, made_encoder

METHODS = ("spt", "p_tuning_v2", "bitfit", "lora", "linear_probe")
CHOICES = [json.loads(line) for line in (local_path("pkg://spt/demo/choice") / "val.jsonl").read_text().splitlines()]
INPUTS: dict[str, list] = {
    "demo_pair": [("a child pulled the old apple", "the apple was old"), ("the apple broke " * 30, "old"), ("a", "b")],
    "demo_ner": ["mr kalorba went to mirimso", ["zuba", "and", "dolor"], "mirimso " * 70],
    "demo_choice": CHOICES[:3],
}
Adapters = dict[str, tuple[Path, list, list]]  # the folder, inputs, and their predictions by a backbone of its own


@pytest.fixture(scope="module")
def adapters(tmp_path_factory) -> Adapters:
    folder = tmp_path_factory.mktemp("adapters")
    made = {
        f"{task}.{method}": made_adapter(folder / f"{task}.{method}", f"task={task}", "model=demo", f"method={method}")
        for task, method in [*(("demo_pair", each) for each in METHODS), ("demo_ner", "lora"), ("demo_choice", "spt")]
    }
    full = spt.load(made["demo_pair.p_tuning_v2"])
    kept = [range(7)] * full.model.config.num_hidden_layers
    made["demo_pair.pruned"] = save_pruned(full.adapter, full.model, kept, folder / "pruned", full.adapter.about)
    return {name: alone(path, INPUTS[name.split(".")[0]]) for name, path in made.items()}


def alone(folder: Path, inputs: list) -> tuple[Path, list, list]:
    predictor = spt.load(folder)
    return folder, inputs, [answer(predictor, item) for item in inputs]


def answer(predictor: Predictor, item: object) -> dict:
    (predicted,) = predictor.stream([item])
    return predicted


def shared(adapters: Adapters) -> dict[str, Predictor]:
    predictors: dict[str, Predictor] = {}
    for name, (folder, *_) in adapters.items():
        predictors[name] = spt.load(folder, share=next(iter(predictors.values()), None))
    return predictors


def run_together(*functions: Callable[[], None]) -> None:
    """Call functions in a thread each, all at once; raises what one of them raises."""
    start = threading.Barrier(len(functions))
    with ThreadPoolExecutor(len(functions)) as pool:
        for done in [pool.submit(lambda call=call: (start.wait(), call())) for call in functions]:
            done.result()


def check_all(
    predictors: dict[str, Predictor], adapters: Adapters, start: int = 0, questions: int | None = None
) -> None:
    """Ask predictors their questions, from the one numbered `start`, and compare with the adapters alone."""
    cases = [(name, *case) for name, (_, *each) in adapters.items() for case in zip(*each, strict=True)]
    for number in range(questions or len(cases)):
        name, item, expected = cases[(start + 5 * number) % len(cases)]
        assert answer(predictors[name], item) == expected, name


def test_many_threads_get_the_answers_of_each_adapter_alone(adapters):
    predictors = shared(adapters)
    base = AutoModel.from_pretrained(DEMO_ENCODER).state_dict()

    def ask(thread: int) -> None:
        check_all(predictors, adapters, thread, 12)

    def load_others() -> None:
        check_all(shared(adapters) | {"demo_pair.lora": spt.load(adapters["demo_pair.lora"][0])}, adapters)
        late = spt.load(adapters["demo_pair.bitfit"][0], share=predictors["demo_pair.spt"])
        assert [answer(late, item) for item in INPUTS["demo_pair"]] == adapters["demo_pair.bitfit"][2]

    run_together(*(lambda thread=thread: ask(thread) for thread in range(5)), load_others)
    check_all(predictors, adapters)
    left = predictors["demo_pair.spt"].base.state_dict()
    assert left.keys() == base.keys() and all(torch.equal(left[name], base[name]) for name in base)


def test_one_predictor_in_many_threads_counts_every_truncated_input(adapters):
    folder, inputs, expected = adapters["demo_pair.spt"]
    predictor = spt.load(folder)

    def ask() -> None:
        for _ in range(3):
            assert list(predictor.stream(inputs, batch_size=1)) == expected

    run_together(*[ask] * 5)
    assert predictor.truncated == 5 * 3


def test_a_tokenizer_is_used_by_one_thread_at_a_time(adapters, monkeypatch):
    predictor = spt.load(adapters["demo_pair.spt"][0])
    inside, own = [], Task.encode

    def encode(*arguments):
        inside.append(1)
        time.sleep(0.005)
        assert len(inside) == 1
        inside.pop()
        return own(*arguments)

    monkeypatch.setattr(Task, "encode", encode)
    run_together(*[lambda: answer(predictor, ("a", "b"))] * 4)


def test_generators_take_turns_and_may_be_abandoned(adapters):
    predictors = shared(adapters)
    streams = {name: predictors[name].stream(inputs, batch_size=1) for name, (_, inputs, _) in adapters.items()}
    for number in range(2):  # and the third answer is never asked for
        for name, stream in streams.items():
            assert next(stream) == adapters[name][2][number], name
    streams.popitem()[1].close()
    check_all(predictors, adapters)
    for name, stream in streams.items():
        assert list(stream) == adapters[name][2][2:], name


@pytest.mark.slow
def test_looking_at_an_adapter_changes_no_answer_of_other_threads(adapters):
    predictors = shared(adapters)
    other = spt.load(adapters["demo_pair.p_tuning_v2"][0])  # on a backbone of its own
    one = predictors["demo_pair.spt"]
    examples = [one.examples(item)[0] | {"label": 0} for item in INPUTS["demo_pair"]]

    def measures(predictor: Predictor) -> tuple:
        insight = spt.inspect(predictor, examples)
        attention = text_attention(predictor, INPUTS["demo_pair"][0])
        of_model = spt.inspect(predictor.model, [{"input_ids": torch.arange(5, 15)[None]}])
        return insight.prefix_mass.values.tolist(), attention.sequences[0].prefix_mass.tolist(), of_model.to_json()

    expected = [measures(predictor) for predictor in (one, other)]

    def look(number: int) -> None:
        for _ in range(3):
            assert measures((one, other)[number]) == expected[number]

    def ask(thread: int) -> None:
        check_all(predictors | {"demo_pair.p_tuning_v2": other}, adapters, thread, 30)

    run_together(lambda: look(0), lambda: look(1), *(lambda thread=thread: ask(thread) for thread in range(3)))


def test_evaluation_in_a_thread(adapters):
    predictors = shared(adapters)
    examples = {name: predictors[name].task.read("validation")[:20] for name in ("demo_pair.bitfit", "demo_ner.lora")}
    losses = {name: evaluate(spt.load(adapters[name][0]), each).loss for name, each in examples.items()}

    def score(name: str) -> None:
        for _ in range(3):
            assert evaluate(predictors[name], examples[name]).loss == losses[name]

    run_together(*(lambda name=name: score(name) for name in losses), lambda: check_all(predictors, adapters))


def test_the_model_of_a_predictor_has_its_own_adapter(adapters, tmp_path):
    predictors, inputs = shared(adapters), {"input_ids": torch.arange(5, 15)[None]}
    models = {name: predictor.model for name, predictor in predictors.items() if name.startswith("demo_pair")}
    own = {name: spt.load(adapters[name][0]).model for name in models}
    expected = {name: model(**inputs).logits for name, model in own.items()}

    def call(name: str) -> None:
        for _ in range(20):
            assert torch.equal(models[name](**inputs).logits, expected[name]), name

    run_together(*(lambda name=name: call(name) for name in models))
    for name, model in models.items():
        assert spt.attached(model) == spt.attached(own[name])
        weights = spt.save_adapter(model, tmp_path / name) / "adapter.safetensors"
        assert weights.read_bytes() == spt.save_adapter(own[name], tmp_path / "own").joinpath(weights.name).read_bytes()
        assert slot_similarity(model) == slot_similarity(own[name])


def test_a_copy_of_a_predictor_stands_on_its_own(adapters):
    predictors = shared(adapters)
    copies = copy.deepcopy(predictors)
    run_together(lambda: check_all(predictors, adapters), lambda: check_all(copies, adapters, 3))
    assert copies["demo_pair.spt"].model.encoder is not predictors["demo_pair.spt"].model.encoder


@pytest.mark.skipif(not torch.cuda.is_available(), reason="moves a backbone to a GPU")
def test_adapters_follow_a_backbone_that_another_predictor_moves(adapters):
    predictors = shared(adapters)
    predictors["demo_pair.spt"].to("cuda")
    for name, predictor in predictors.items():
        assert {parameter.device.type for parameter in predictor.model.parameters()} == {"cuda"}, name
    late = spt.load(adapters["demo_pair.bitfit"][0], share=predictors["demo_ner.lora"])
    for name, device in (("spt", "cpu"), ("bitfit", "cuda"), ("lora", "cuda"), ("bitfit", "cpu")):
        predictors[f"demo_pair.{name}"].to(device)
    for name, predictor in predictors.items():
        assert {parameter.device.type for parameter in predictor.model.parameters()} == {"cpu"}, name
    assert {tensor.device.type for tensor in late.model.state_dict().values()} == {"cuda"}


def test_a_device_that_takes_no_parameters_of_others_leaves_theirs_where_they_are(adapters):
    predictors = shared(adapters)
    predictors.pop("demo_pair.spt").to("meta")
    check_all(predictors, {name: adapters[name] for name in predictors})


def test_a_refused_adapter_leaves_the_others_as_they_were(adapters, tmp_path):
    predictors = shared(adapters)
    made_adapter(tmp_path / "tuned", "task=demo_pair", "model=demo", "method=fine_tuning")
    broken = made_adapter(tmp_path / "broken", "task=demo_pair", "model=demo", "method=bitfit")
    description = json.loads((broken / "adapter.json").read_text())
    description["sample"] = {name: [9.0] * len(values) for name, values in description["sample"].items()}
    (broken / "adapter.json").write_text(json.dumps(description))
    for folder, message in ((tmp_path / "tuned", "cannot be shared"), (broken, "trained on other weights")):
        with pytest.raises(spt.SptError, match=message):
            spt.load(folder, share=predictors["demo_pair.spt"])
        check_all(predictors, adapters)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["DeBERTa-v2/v3", "DeBERTa", "MPNet", "ALBERT"])
def test_families_whose_modules_change_with_the_adapter(name, tmp_path):
    encoder = made_encoder(tmp_path / "encoder", name)
    eager = () if name == "ALBERT" else ("model.attn_implementation=eager",)
    model = (f"model.name_or_path={encoder}", "model.pooling=first", *eager)
    own: Adapters = {}
    for method in ("spt", "bitfit", "linear_probe"):
        overrides = ("task=demo_pair", "model=demo", *model, "task.max_length=48", f"method={method}")
        own[method] = alone(made_adapter(tmp_path / method, *overrides), INPUTS["demo_pair"])
    predictors = shared(own)
    run_together(*(lambda thread=thread: check_all(predictors, own, thread, 8) for thread in range(4)))


def test_backbones_are_loaded_one_at_a_time(monkeypatch):
    inside, load = [], AutoModel.from_pretrained

    def slow(*arguments, **options):
        inside.append(1)
        time.sleep(0.01)
        assert len(inside) == 1
        inside.pop()
        return load(*arguments, **options)

    monkeypatch.setattr(AutoModel, "from_pretrained", slow)
    run_together(*[lambda: load_backbone(str(DEMO_ENCODER))] * 3)

"""A trained adapter with all it takes to use it, by one call: `spt.load("adapter").predict(["a text"])`."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, get_type_hints

import torch
from huggingface_hub.dataclasses import type_validator
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split as Splitter
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from spt.adapters.format import DESCRIPTION, Adapter, damaged, load_adapter, read_adapter
from spt.adapters.hub import fetch
from spt.errors import SptError, is_count, nearest
from spt.modeling.attach_prefix import remove_prefixes, restore_prefixes
from spt.modeling.lora import LoraAttachment, name_without_lora, remove_lora, restore_lora
from spt.modeling.position_shift import longest_input
from spt.modeling.prefix import Attachment
from spt.modeling.pretrained_encoder import load_backbone, load_tokenizer
from spt.modeling.task_model import TaskModel
from spt.targets import MOVED
from spt.tasks.base import Example, Task
from spt.tasks.file_readers import Row
from spt.tasks.multiple_choice import ChoiceTask
from spt.tasks.superglue import MultiRCTask, RecordTask, WinogradTask
from spt.tasks.text_classification import RegressionTask, SentenceTask, TextTask
from spt.tasks.token_classification import TokenTask

SHAPES = (SentenceTask, RegressionTask, ChoiceTask, TokenTask, WinogradTask, MultiRCTask, RecordTask)

TASKS: dict[str, type[Task]] = {f"spt.tasks.{task.__name__}": task for task in SHAPES}

WORDS = Splitter(Regex(r"\w+(?:[-.'’&]\w+)*|[^\w\s]"), "isolated")  # words, and signs of punctuation

Input = str | tuple[str, str] | list[str] | Row


def task_from(description: dict[str, Any]) -> Task:
    """The task that `spt.tasks.base.describe_task` described.

    Raises:
        SptError: where it is none of this package's tasks, or its settings make no sense.
    """
    settings = dict(description)
    kind = str(settings.pop("_target_", None))
    kind = MOVED.get(kind, kind)
    if kind not in TASKS:
        raise SptError(f"{kind!r} is no task of this version of spt: {nearest(kind, TASKS)}")
    return made(TASKS[kind], settings, "task")


def made(make: Callable[..., Any], settings: dict[str, Any], what: str) -> Any:
    """What `make` makes of settings that are of the types it says.

    Raises:
        SptError: where they are not.
    """
    types = get_type_hints(make)
    try:
        for name, value in settings.items():
            type_validator(name, value, types.get(name, Any))
        return make(**settings)
    except TypeError as error:
        raise SptError(f"{what}: {' '.join(str(error).split())}") from error


class Predictor:
    """A model with an adapter on it, ready to predict. `spt.load` makes one.

    Predictors made with `share` have one frozen backbone between them: each call puts the caller's adapter on it.

    Attributes:
        adapter: what was loaded.
        task: what it was trained on.
        model: the TaskModel, in evaluation mode.
        tokenizer: the base model's.
        origin: how the base model was loaded: the arguments of `load_backbone`.
        truncated: how many inputs were cut to the model's, or the task's, longest so far.
    """

    def __init__(
        self,
        adapter: Adapter,
        task: Task,
        encoder: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        origin: dict[str, Any],
    ):
        self.adapter, self.task, self.tokenizer, self.origin = adapter, task, tokenizer, origin
        self.truncated = 0
        replaced = (
            set() if adapter.replaces_backbone else {n.removeprefix("encoder.") for n in adapter.backbone_weights}
        )
        own = dict(encoder.named_parameters())
        self._swapped = {
            name: own[name_without_lora(name)].data.clone() for name in replaced if name_without_lora(name) in own
        }
        self._prefixes: Attachment | None = None
        self._lora: LoraAttachment | None = None
        pooling = adapter.description["head"].get("pooling")
        self.model = TaskModel(encoder, task.task_type, len(task.classes), pooling)
        load_adapter(self.model, adapter.folder)
        self.model.requires_grad_(False).eval()
        self.limit = longest_input(encoder)
        encoder.__dict__["worn"] = self

    def predict(self, inputs: Iterable[Input], batch_size: int = 32) -> Iterator[dict[str, Any]]:
        """What the model says about each input, in order, as it goes.

        Args:
            inputs: texts; pairs of texts; lists of words; or rows with the fields of the task's data.
            batch_size: examples at a time, padded to the longest of them.

        Yields:
            {"label", "probabilities"}; for choices {"choice", "probabilities"}, the first choice being 0; for numbers
            {"value"}; for ReCoRD {"answer", "probabilities"}; for entities
            {"entities": [{"type", "start", "end", "text", "probability"}]}, where start and end (exclusive) count
            characters of a text, or words of a list, and the probability is the least of its words'.

        Raises:
            SptError: where an input is none that the task takes.
        """
        if isinstance(inputs, str):
            raise SptError("inputs is one text: give a list of inputs, as in predict([text])")
        if not is_count(batch_size):
            raise SptError(f"batch_size must be a whole number of at least 1, not {batch_size!r}")
        waiting = self._numbered(inputs)
        while examples := list(islice(waiting, batch_size)):
            for example, said in zip(examples, self._described(examples), strict=True):
                yield _entities(example, said["words"]) if isinstance(self.task, TokenTask) else said

    def examples(self, item: Input) -> list[Example]:
        """What the task keeps of an input: one example, or several of a row that nests them.

        Raises:
            SptError: where it is none that the task takes.
        """
        if isinstance(self.task, TokenTask) and not isinstance(item, list):
            text = item.get("text") if isinstance(item, dict) and not self.task.has_words(item) else item
            if isinstance(text, str):
                words = words_of(text)
                return [{"tokens": [word for word, _ in words], "text": text, "places": [span for _, span in words]}]
        return [self.task.unlabelled(row) for row in self.task.unfold(self._row(item))]

    def _numbered(self, inputs: Iterable[Input]) -> Iterator[Example]:
        for number, item in enumerate(inputs, start=1):
            try:
                examples = self.examples(item)
            except SptError as error:
                raise SptError(f"input {number}: {error}") from error
            yield from examples

    def _described(self, examples: list[Example]) -> list[dict[str, Any]]:
        self.wear()
        split = self.task.encode(examples, self.tokenizer, self.limit)
        self.truncated += split.truncated
        names = set(self.tokenizer.model_input_names) & set(split.inputs.column_names)
        batch = self.task.collator(self.tokenizer)(split.inputs.select_columns(sorted(names)).to_list())
        with torch.inference_mode():
            logits = self.model(**{name: batch[name].to(self.model.encoder.device) for name in names}).logits
        return self.task.describe(logits.float().cpu().numpy(), split)

    def _row(self, item: Input) -> Row:
        """An input as a row of the task's data."""
        if isinstance(item, dict):
            return item
        if isinstance(self.task, TokenTask) and isinstance(item, list):
            return {self.task.column("tokens"): item}
        if not isinstance(item, str | tuple):
            raise SptError(f"{item!r} is no input: a text, a pair of texts, a list of words, or a row")
        texts = (item,) if isinstance(item, str) else item
        fields = self.task.plain_fields() if isinstance(self.task, TextTask) else None
        if fields is None:
            wanted = "a text or a list of words" if isinstance(self.task, TokenTask) else "rows, as a file has them"
            raise SptError(f"{self.task.name} takes {wanted}, with {', '.join(self.task.fields())}, not plain texts")
        if len(fields) != len(texts):
            wanted = f"{('one text', 'a pair of texts')[len(fields) - 1]} ({', '.join(fields)})"
            raise SptError(f"{self.task.name} takes {wanted}, not {len(texts)}")
        return dict(zip(fields, texts, strict=True))

    def wear(self) -> None:
        """Put this predictor's adapter on the backbone, in the place of another's."""
        encoder = self.model.encoder
        worn: Predictor | None = encoder.__dict__["worn"]
        if worn is self:
            return
        if worn is not None:
            worn.take_off()
        if self._prefixes is not None:
            restore_prefixes(encoder, self._prefixes)
        if self._lora is not None:
            restore_lora(encoder, self._lora)
        self._swap()
        encoder.__dict__["worn"] = self

    def take_off(self) -> None:
        """Leave the backbone as the base model has it."""
        encoder = self.model.encoder
        self._swap()
        self._lora, self._prefixes = remove_lora(encoder), remove_prefixes(encoder)
        encoder.__dict__.pop("changed_by_adapter", None)
        encoder.__dict__["worn"] = None

    def _swap(self) -> None:
        """Exchange the backbone's own values of what the adapter replaces (biases, ...) with the adapter's."""
        for name, kept in self._swapped.items():
            parameter = self.model.encoder.get_parameter(name)
            self._swapped[name], parameter.data = parameter.data, kept


def words_of(text: str) -> list[tuple[str, tuple[int, int]]]:
    """The words and signs of punctuation in a text, each with its first and last place (exclusive)."""
    return [(word, span) for word, span in WORDS.pre_tokenize_str(text) if not word.isspace()]


def _entities(example: Example, words: list[dict[str, Any]]) -> dict[str, Any]:
    """Tagged words as entities."""
    text, tokens = example.get("text"), example["tokens"]
    places = example.get("places") or [(number, number + 1) for number in range(len(tokens))]
    entities: list[dict[str, Any]] = []
    previous = "O"
    for word, (start, end) in zip(words, places, strict=True):
        mark, _, kind = word["tag"].partition("-")
        if mark == "I" and previous[2:] == kind:
            sure = min(entities[-1]["probability"], word["probability"])
            entities[-1] |= {"end": end, "probability": sure}
        elif mark != "O":
            entities.append({"type": kind, "start": start, "end": end, "text": "", "probability": word["probability"]})
        previous = word["tag"]
    for entity in entities:
        span = slice(entity["start"], entity["end"])
        entity["text"] = " ".join(tokens[span]) if text is None else text[span]
    return {"entities": entities}


def load(
    source: str | Path,
    *,
    base_model: str | None = None,
    revision: str | None = None,
    share: Predictor | None = None,
    device: str | None = None,
) -> Predictor:
    """An adapter with its base model, its tokenizer and its task.

    Args:
        source: the folder of a run or of an adapter, or a repository on the hub ("user/name", "user/name@revision").
        base_model: where the base model is, if not where it was when the adapter was trained: a hub id or a folder.
        revision: of the base model; None: the one the adapter was trained on.
        share: a predictor whose backbone is used, where it is, instead of one more in memory.
        device: where to compute; None: on an accelerator where there is one.

    Raises:
        SptError: where the adapter is damaged, says nothing of its task, or does not fit the base model.
    """
    adapter = read_adapter(fetch(source))
    folder, about = adapter.folder, adapter.about
    if not about:
        raise SptError(
            f"{folder} does not say which task and base model it is for, as runs' adapters do: "
            "spt.load_adapter puts it on a model that you make"
        )
    if not isinstance(about.get("task"), dict) or not isinstance(about.get("model"), dict):
        raise damaged(folder / DESCRIPTION, "it does not say which task and base model it is for")
    try:
        task = task_from(about["task"])
    except SptError as error:
        raise damaged(folder / DESCRIPTION, error) from error
    head = adapter.description["head"]
    expected = {"task_type": task.task_type, "num_labels": len(task.classes), "pooling": about["model"].get("pooling")}
    for name, value in expected.items():
        if head.get(name) != value:
            raise damaged(folder / DESCRIPTION, f"its {name} is {value!r}, its head's {head.get(name)!r}")
    model = {name: value for name, value in about["model"].items() if name not in ("name", "pooling")}
    words = task.task_type == "token"
    if share is not None:
        if (base_model, revision, device) != (None, None, None):
            raise SptError("with share, the base model and its device are those of the other predictor")
        encoder = _shared(adapter, model, share)
        origin = share.origin | {"tokenizer": model.get("tokenizer")}
        known = {"name_or_path": origin["name_or_path"], "revision": origin["revision"]}
        tokenizer = load_tokenizer(**known, options=origin["tokenizer"], split_into_words=words)
        share.wear()
        share.take_off()
        return Predictor(adapter, task, encoder, tokenizer, origin)
    if base_model is not None:
        model |= {"name_or_path": base_model, "revision": revision or "main"}
    elif revision is not None:
        model["revision"] = revision
    try:
        encoder, tokenizer = made(load_backbone, model | {"split_into_words": words}, "model")
    except SptError as error:
        raise SptError(f"{folder}: {error}. Elsewhere, base_model names the base model that it goes on") from error
    if device is None:
        device = str(torch.accelerator.current_accelerator()) if torch.accelerator.is_available() else "cpu"
    return Predictor(adapter, task, encoder.to(device), tokenizer, {"revision": "main"} | model)


def _shared(adapter: Adapter, model: dict[str, Any], share: Predictor) -> PreTrainedModel:
    """The backbone of a predictor, where an adapter can go on it as it was loaded."""
    for each in (adapter, share.adapter):
        if each.replaces_backbone:
            raise SptError(f"{each.folder} holds a whole backbone, which cannot be shared: load it alone")
    for name, usual in (("dtype", "float32"), ("config", {})):
        wanted, loaded = (_in_use(settings.get(name) or usual) for settings in (model, share.origin))
        if wanted != loaded:
            raise SptError(
                f"{adapter.folder} was trained with model.{name}={wanted}, and the shared base model is loaded with "
                f"{loaded}: load it alone"
            )
    return share.model.encoder


def _in_use(setting: Any) -> Any:
    """What of a setting of the base model matters once it is trained: no dropout."""
    return {n: v for n, v in setting.items() if "drop" not in n} if isinstance(setting, dict) else setting

"""A trained adapter with all it takes to use it, by one call: `spt.load("adapter").predict(["a text"])`."""

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from spt.adapter import Adapter, load_adapter, read_adapter
from spt.backbone import load_backbone, load_tokenizer
from spt.encoder import Attachment, longest_input, put_on, take_off
from spt.errors import SptError, nearest
from spt.hub import fetch
from spt.lora import LoraAttachment, put_on_lora, take_off_lora
from spt.model import TaskModel
from spt.readers import Row
from spt.superglue import MultiRCTask, RecordTask, WinogradTask
from spt.tasks import ChoiceTask, Example, RegressionTask, SentenceTask, Task, TextTask, TokenTask

SHAPES = (SentenceTask, RegressionTask, ChoiceTask, TokenTask, WinogradTask, MultiRCTask, RecordTask)
TASKS: dict[str, type[Task]] = {f"{task.__module__}.{task.__name__}": task for task in SHAPES}
WORD = re.compile(r"\w+(?:[-.'’&]\w+)*|[^\w\s]")  # a word, or a sign of punctuation
Input = str | tuple[str, str] | list[str] | Row


def task_from(description: dict[str, Any]) -> Task:
    """The task that `spt.tasks.describe_task` described.

    Raises:
        SptError: where it is none of this package's tasks, or its settings make no sense.
    """
    settings = dict(description)
    kind = settings.pop("_target_", None)
    if kind not in TASKS:
        raise SptError(f"{kind!r} is no task of this version of spt: {nearest(str(kind), TASKS)}")
    try:
        return TASKS[kind](**settings)
    except TypeError as error:
        raise SptError(f"the settings of {kind} are damaged: {error}") from error


class Predictor:
    """A model with an adapter on it, ready to predict. `spt.load` makes one.

    Predictors made with `share` have one frozen backbone between them: each call puts the caller's adapter on it.

    Attributes:
        adapter: what was loaded.
        task: what it was trained on.
        model: the TaskModel, in evaluation mode.
        tokenizer: the base model's.
        origin: where the base model and its tokenizer came from.
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
        replaced = set() if _is_whole(adapter) else {n.removeprefix("encoder.") for n in adapter.backbone_weights}
        self._swapped = {name: p.data.clone() for name, p in encoder.named_parameters() if name in replaced}
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
            batch_size: inputs at a time, padded to the longest of them.

        Yields:
            {"label", "probabilities"}; for numbers {"value"}; for ReCoRD {"answer", "probabilities"}; for entities
            {"entities": [{"type", "start", "end", "text", "probability"}]}, where start and end (exclusive) count
            characters of a text, or words of a list.

        Raises:
            SptError: where an input is none that the task takes.
        """
        waiting = iter(inputs)
        while batch := list(islice(waiting, batch_size)):
            rows = [row for item in batch for row in self.task.unfold(self._row(item))]
            examples = [self.task.unlabelled(row) for row in rows]
            for row, example, said in zip(rows, examples, self._described(examples), strict=True):
                yield self._entities(row, example, said) if isinstance(self.task, TokenTask) else said

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
            words = isinstance(self.task, TokenTask) and self.task.column("tokens")
            spread = words and words not in item and "text" in item
            return item | self._row(str(item["text"])) if spread else item
        if isinstance(self.task, TokenTask) and isinstance(item, str):
            places = [match.span() for match in WORD.finditer(item)]
            return {"text": item, self.task.column("tokens"): [item[a:b] for a, b in places], "places": places}
        if isinstance(self.task, TokenTask) and isinstance(item, list):
            return {self.task.column("tokens"): item}
        texts = (item,) if isinstance(item, str) else item
        fields = self.task.plain_fields() if isinstance(self.task, TextTask) else None
        if fields is None or len(fields) != len(texts) or not isinstance(item, str | tuple):
            raise SptError(
                f"{self.task.name} does not take {len(texts)} text{'s' * (len(texts) > 1)} but rows with "
                f"{', '.join(self.task.fields())}: give them as a file, or as dictionaries"
            )
        return dict(zip(fields, texts, strict=True))

    @staticmethod
    def _entities(row: Row, example: Example, said: dict[str, Any]) -> dict[str, Any]:
        """Tagged words as entities."""
        words, places, text = said["words"], row.get("places"), row.get("text", "")
        entities: list[dict[str, Any]] = []
        for number, word in enumerate(words):
            mark, _, kind = word["tag"].partition("-")
            start, end = places[number] if places else (number, number + 1)
            open_entity = entities and entities[-1]["type"] == kind and entities[-1]["last"] == number - 1
            if mark == "I" and open_entity:
                last = entities[-1]
                last |= {"end": end, "last": number, "probability": min(last["probability"], word["probability"])}
            elif mark in ("B", "I"):
                found = {"type": kind, "start": start, "end": end, "last": number, "probability": word["probability"]}
                entities.append(found)
        for entity in entities:
            del entity["last"]
            span = slice(entity["start"], entity["end"])
            entity["text"] = text[span] if places else " ".join(example["tokens"][span])
        return {"entities": entities}

    def wear(self) -> None:
        """Put this predictor's adapter on the backbone, in the place of another's."""
        encoder = self.model.encoder
        worn: Predictor | None = encoder.__dict__["worn"]
        if worn is self:
            return
        if worn is not None:
            worn.take_off()
        if self._prefixes is not None:
            put_on(encoder, self._prefixes)
        if self._lora is not None:
            put_on_lora(encoder, self._lora)
        self._swap()
        encoder.__dict__["worn"] = self

    def take_off(self) -> None:
        """Leave the backbone as the base model has it."""
        encoder = self.model.encoder
        self._swap()
        self._lora, self._prefixes = take_off_lora(encoder), take_off(encoder)
        encoder.__dict__.pop("changed_by_adapter", None)
        encoder.__dict__["worn"] = None

    def _swap(self) -> None:
        """Exchange the backbone's own values of what the adapter replaces (biases, ...) with the adapter's."""
        for name, kept in self._swapped.items():
            parameter = self.model.encoder.get_parameter(name)
            self._swapped[name], parameter.data = parameter.data, kept


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
        share: a predictor whose backbone is used, instead of one more in memory.
        device: where to compute; None: on an accelerator where there is one. With `share`, where that one is.

    Raises:
        SptError: where the adapter is damaged, says nothing of its task, or does not fit the base model.
    """
    adapter = read_adapter(fetch(source))
    about = adapter.about
    if not isinstance(about.get("task"), dict) or not isinstance(about.get("model"), dict):
        raise SptError(
            f"{adapter.folder} does not say which task and base model it is for, as runs' adapters do: "
            "spt.load_adapter puts it on a model that you make"
        )
    task = task_from(about["task"])
    head = {"task_type": task.task_type, "num_labels": len(task.classes)}
    if head.items() - adapter.description["head"].items():
        raise SptError(f"{adapter.folder} is damaged: its task has {head}, its head is {adapter.description['head']}")
    words = task.task_type == "token"
    if share is not None:
        for each in (adapter, share.adapter):
            if _is_whole(each):
                raise SptError(f"{each.folder} holds a whole backbone, which cannot be shared: load it alone")
        tokenizer = load_tokenizer(**share.origin, split_into_words=words)
        share.wear()
        share.take_off()
        return Predictor(adapter, task, share.model.encoder, tokenizer, share.origin)
    model = {name: value for name, value in about["model"].items() if name not in ("name", "pooling")}
    if base_model is not None:
        model |= {"name_or_path": base_model, "revision": revision or "main"}
    elif revision is not None:
        model["revision"] = revision
    try:
        encoder, tokenizer = load_backbone(**model, split_into_words=words)
    except TypeError as error:
        raise SptError(f"{adapter.folder} is damaged: model: {error}") from error
    if device is None:
        device = str(torch.accelerator.current_accelerator()) if torch.accelerator.is_available() else "cpu"
    origin = {"name_or_path": model["name_or_path"], "revision": model["revision"], "options": model.get("tokenizer")}
    return Predictor(adapter, task, encoder.to(device), tokenizer, origin)  # type: ignore[arg-type]


def _is_whole(adapter: Adapter) -> bool:
    """Whether an adapter replaces most of the backbone: fine-tuning's."""
    return any(len(adapter.weights[name].shape) > 1 and ".pooler." not in name for name in adapter.backbone_weights)

"""A trained adapter, ready to predict: `spt.load("adapter")("a text")`."""

import copy
import threading
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, islice
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from pandas import DataFrame
from pydantic import ConfigDict, ValidationError, validate_call
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from spt import methods, tasks
from spt.adapters.format import DESCRIPTION, Adapter, damaged, install_adapter, read_adapter
from spt.adapters.hub import fetch
from spt.adapters.round_trip import Method, apply_method
from spt.errors import SptError, check_count, nearest
from spt.hydra_targets import MOVED
from spt.modeling.lora import name_without_lora
from spt.modeling.position_shift import longest_input
from spt.modeling.pretrained_encoder import backbone_settings, load_backbone, load_tokenizer, tokenizer_fingerprint
from spt.modeling.task_model import TaskModel
from spt.records.schema import problems
from spt.tasks.model_inputs import in_order
from spt.tasks.task import Example, Split, Task
from spt.tasks.text_classification import TextTask
from spt.tasks.text_lines import Row, check_unicode
from spt.tasks.token_classification import TokenTask
from spt.tasks.words_of_text import words_of

TASKS: dict[str, type[Task]] = {
    f"spt.tasks.{name}": kind for name, kind in vars(tasks).items() if isinstance(kind, type) and issubclass(kind, Task)
}

AHEAD = 16  # batches that are read at a time where all inputs are there

Input = str | tuple[str, str] | list[str] | Mapping[str, Any]


_locks: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # beside the tokenizers, which may be copied


def lock_of(tokenizer: PreTrainedTokenizerBase) -> threading.RLock:
    """The lock of a tokenizer, held while it tokenizes, as it keeps its truncation between calls."""
    return _locks.setdefault(tokenizer, threading.RLock())


class Predictor:
    """A model with an adapter. `spt.load` makes one. Any number of threads may use it.

    Predictors made with `share` have the parameters of one frozen backbone, each in modules of its own.

    Attributes:
        adapter: the adapter that was loaded.
        task: the task it was trained on.
        base: the backbone without the adapter, unless the adapter replaces it; what the adapter replaces is not moved
            with the model.
        tokenizer: the base model's.
        backbone_settings: the arguments of `load_backbone` that the base model was loaded with.
        truncated: how many inputs were truncated so far.
    """

    def __init__(
        self,
        adapter: Adapter,
        task: Task,
        encoder: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        backbone_settings: dict[str, Any],
        method: Method | None = None,
    ):
        known = adapter.run.tokenizer  # None in earlier adapters
        if known is not None and known != tokenizer_fingerprint(tokenizer):
            raise SptError(
                f"{adapter.folder} was trained with another tokenizer than {backbone_settings['name_or_path']!r} has "
                "now (vocabulary, special tokens, normalisation or settings): restore the tokenizer's files, or name "
                "the base model that the adapter was trained on in base_model and revision, without share"
            )
        self.adapter, self.task, self.tokenizer = adapter, task, tokenizer
        self.backbone_settings = backbone_settings
        self.truncated = 0
        self.base = encoder
        if not adapter.replaces_backbone:
            encoder = _own_modules(encoder, adapter)
        pooling: Any = adapter.description.head.get("pooling")
        self._model = TaskModel(encoder, task.task_type, len(task.classes), pooling)
        if method is not None:
            apply_method(method, self._model, adapter.run.method)
        install_adapter(self._model, adapter)
        self._model.requires_grad_(False).eval()
        self.limit = longest_input(encoder)

    def __repr__(self) -> str:
        return f"<Predictor of {self.adapter.folder}: {self.task.name} on {self.backbone_settings['name_or_path']}>"

    @property
    def model(self) -> TaskModel:
        """The TaskModel, in evaluation mode, on the device of the backbone, which another predictor may have moved."""
        device = self._model.encoder.device
        if any(parameter.device != device for parameter in self._model.parameters()):
            with torch.inference_mode(False):
                self._model.to(device)
        return self._model

    @property
    def labels(self) -> list[str]:
        """The names of the classes, for entities of their types; empty for regression."""
        return list(self.task.labels)

    def to(self, device: str | torch.device) -> "Predictor":
        """Move the model, and with it the backbone that others share, to a device; returns the predictor.

        No thread may predict with that backbone meanwhile.
        """
        self.model.to(device)
        return self

    def __call__(
        self, inputs: Input | Iterable[Input], batch_size: int = 32, top_k: int | None = None
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """The prediction of an input, or those of several as a list; the arguments are those of `stream`.

        A list or other iterable (a column of pandas or of `datasets`) is several inputs: one sentence as words is
        [["Ann", "lives"]].
        """
        if not isinstance(inputs, str | tuple | Mapping) and isinstance(inputs, Iterable):
            return list(self.stream(inputs, batch_size, ahead=AHEAD, top_k=top_k))
        predictions = list(self.stream([inputs], top_k=top_k))
        if len(predictions) != 1:
            raise SptError(f"the row has {len(predictions)} examples: stream([row]) gives a prediction for each")
        return predictions[0]

    def stream(
        self, inputs: Iterable[Input], batch_size: int = 32, ahead: int = 1, top_k: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """Predict each input, in order; inputs are read batch by batch.

        Args:
            inputs: texts; pairs of texts; lists of words; or rows with the fields of the task's data.
            batch_size: model inputs per batch, padded to the longest of them (of ReCoRD one for each entity).
            ahead: how many batches of inputs are read at a time. Their examples are sorted by length, so that a batch
                has little padding: much faster for texts of different lengths.
            top_k: the number of classes to give the probabilities of, the highest first; None: all, in the order of
                `labels`. It has no effect on choice tasks.

        Yields:
            {"label", "probabilities"}; for choices {"choice", "probabilities"}, choices counted from 0; for regression
            {"value"}; for ReCoRD {"answer", "probabilities"}; for entities
            {"entities": [{"type", "start", "end", "text", "probability"}]}, where start and end (exclusive) count
            characters of a text or words of a list, and the probability is the lowest of the entity's words. For a
            truncated input "truncated": True is added.

        Raises:
            SptError: an input does not fit the task, or `top_k` is of a task without classes.
        """
        if isinstance(inputs, str | Mapping):
            raise SptError(
                "inputs is one input: give a list of inputs, as in stream([text]), or call the predictor with it"
            )
        if isinstance(inputs, DataFrame):
            raise SptError("inputs is a table, whose iteration gives names of columns: give df.to_dict('records')")
        check_count("batch_size", batch_size)
        if top_k is not None:
            check_count("top_k", top_k)
            if self.task.task_type in ("regression", "token"):
                raise SptError(f"top_k is for classes, and {self.task.name} predicts none: leave it out")
        examples = self._all_examples(inputs)
        error: SptError | None = None
        while error is None:
            read: list[Example] = []
            try:
                for example in islice(examples, batch_size * ahead):
                    read.append(example)
            except SptError as unfit:
                error = unfit  # after the predictions of the inputs before
            if not read:
                break
            for prediction in self._predictions(read, batch_size):
                yield _top(prediction, top_k)
        if error is not None:
            raise error

    def examples(self, item: Input) -> list[Example]:
        """The task's examples for an input: one, or several for a row that nests them. SptError if it does not fit."""
        if isinstance(item, Mapping):  # also the rows of `datasets`
            item = dict(item)
        check_unicode(item.values() if isinstance(item, dict) else item if isinstance(item, list | tuple) else [item])
        if isinstance(self.task, TokenTask) and not isinstance(item, list):
            text = item.get("text") if isinstance(item, dict) and not self.task.has_field(item, "tokens") else item
            if isinstance(text, str):
                words = words_of(text)
                return [{"tokens": [word for word, _ in words], "text": text, "spans": [span for _, span in words]}]
        return [self.task.unlabelled_example(row) for row in self.task.flat_rows(self._row(item))]

    def _all_examples(self, inputs: Iterable[Input]) -> Iterator[Example]:
        for number, item in enumerate(inputs, start=1):
            try:
                examples = self.examples(item)
            except SptError as error:
                raise SptError(f"input {number}: {error}") from error
            yield from examples

    def encode(self, examples: list[Example]) -> Split:
        """The model inputs of examples."""
        with lock_of(self.tokenizer):
            return self.task.encode(examples, self.tokenizer, self.limit)

    def _predictions(self, examples: list[Example], batch_size: int) -> list[dict[str, Any]]:
        """What the task describes of each example, in order, computed in batches of inputs of similar length."""
        split = self.encode(examples)
        with lock_of(self.tokenizer):
            self.truncated += split.truncated
        rows = split.inputs.to_list()
        order = list(range(len(rows)))
        if len(rows) > batch_size:
            order.sort(key=list(split.inputs["length"]).__getitem__)
        collate = self.task.collator(self.tokenizer)
        model, parts = self.model, []
        for start in range(0, len(rows), batch_size):
            places = order[start : start + batch_size]
            batch = collate([rows[place] for place in places])
            with torch.inference_mode():
                logits = model(**{name: each.to(model.encoder.device) for name, each in batch.items()}).logits
            parts.append((places, logits.float().cpu().numpy()))
        predictions = self.task.describe(in_order(parts, len(rows)), split)
        first_rows = accumulate([0, *self.task.input_counts(examples)[:-1]])  # they say whether an example is truncated
        return [
            prediction | {"truncated": True} if rows[first]["truncated"] else prediction
            for prediction, first in zip(predictions, first_rows, strict=True)
        ]

    def _row(self, item: Input) -> Row:
        """An input as a row of the task's data."""
        if isinstance(item, dict):
            return item
        is_tagged = isinstance(self.task, TokenTask)
        if is_tagged and isinstance(item, list):
            return {self.task.column("tokens"): item}
        if not isinstance(item, str | tuple):
            raise SptError(
                f"{item!r} is not an input: give a text, a pair of texts as a tuple, a list of words, or a row"
            )
        texts = (item,) if isinstance(item, str) else item
        fields = self.task.plain_fields() if isinstance(self.task, TextTask) else None
        if fields is None:
            wanted = "a text or a list of words" if is_tagged else "rows, as in a data file"
            raise SptError(f"{self.task.name} takes {wanted}, with {', '.join(self.task.fields())}, not plain texts")
        if len(fields) != len(texts):
            wanted = ("one text", "a pair of texts")[len(fields) - 1]
            raise SptError(f"{self.task.name} takes {wanted} ({', '.join(fields)}), not {len(texts)}")
        return dict(zip(fields, texts, strict=True))


def _own_modules(encoder: PreTrainedModel, adapter: Adapter) -> PreTrainedModel:
    """A copy of the encoder that shares its parameters, but for the few that the adapter replaces."""
    replaced = {name_without_lora(name) for name in adapter.backbone_weights}
    kept: dict[int, Any] = {}
    for place, module in encoder.named_modules(prefix="encoder"):
        weights = dict(module.named_parameters(place, recurse=False))
        if all(type(each) is nn.Parameter for each in weights.values()):
            kept |= {id(each): each for name, each in weights.items() if name not in replaced}
        elif replaced.isdisjoint(weights):  # a quantized module may keep its scales beside its parameters
            kept[id(module)] = module
    own: Any = copy.deepcopy(encoder, kept)
    for name, parameter in encoder.named_parameters():
        if type(parameter) is nn.Parameter:
            vars(own.get_parameter(name)).update(vars(parameter))  # a copy loses the mark of a loaded weight
    tensors = (*own.parameters(), *own.buffers())
    return own if all(each.device == encoder.device for each in tensors) else own.to(encoder.device)


def _top(prediction: dict[str, Any], top_k: int | None) -> dict[str, Any]:
    """A prediction with the `top_k` highest of its probabilities."""
    probabilities = prediction.get("probabilities")
    if top_k is None or not isinstance(probabilities, dict):  # those of choices are a list, by the number of the choice
        return prediction
    ranked = sorted(probabilities, key=lambda name: probabilities[name], reverse=True)
    return prediction | {"probabilities": {name: probabilities[name] for name in ranked[:top_k]}}


def load(
    source: str | Path,
    *,
    base_model: str | None = None,
    revision: str | None = None,
    share: Predictor | None = None,
    device: str | None = None,
    method: Method | None = None,
) -> Predictor:
    """Load an adapter with its base model, its tokenizer and its task.

    Args:
        source: the folder of a run or of an adapter, or a repository on the hub ("user/name", "user/name@revision").
        base_model: a hub id or a folder; None: where the run had it.
        revision: of the base model; None: the one the adapter was trained on.
        share: a predictor whose backbone is used instead of loading another one.
        device: None: the accelerator if there is one, else the CPU.
        method: the function of the method, for an adapter of a method of your own that changes what the base model
            computes. spt never imports a function that an adapter names.

    Raises:
        SptError: the adapter is damaged, does not name its task, or does not fit the base model or its tokenizer.
    """
    adapter = read_adapter(fetch(source))
    run = adapter.run
    task = _task_of(adapter)
    method = _method_of(adapter, method)
    settings = backbone_settings(run.model)
    is_tagged = task.task_type == "token"
    if share is not None:
        if (base_model, revision, device) != (None, None, None):
            raise SptError("with share, base_model, revision and device are those of the other predictor")
        encoder = _shared_backbone(adapter, settings, share, method)
        settings = share.backbone_settings | {"tokenizer": settings.get("tokenizer")}
        tokenizer = load_tokenizer(
            settings["name_or_path"], settings["revision"], settings["tokenizer"], split_into_words=is_tagged
        )
        return Predictor(adapter, task, encoder, tokenizer, settings)
    if base_model is not None:
        settings |= {"name_or_path": base_model, "revision": revision or "main"}
    elif revision is not None:
        settings["revision"] = revision
    try:
        encoder, tokenizer = _backbone_of(settings | {"split_into_words": is_tagged})
    except SptError as error:
        raise SptError(f"{adapter.folder}: {error}. If the base model is elsewhere, name it in base_model") from error
    if device is None:
        device = str(torch.accelerator.current_accelerator()) if torch.accelerator.is_available() else "cpu"
    return Predictor(adapter, task, encoder.to(device), tokenizer, {"revision": "main"} | settings, method)


def _method_of(adapter: Adapter, method: Method | None) -> Method | None:
    """The function to call before an adapter is loaded: the user's, or one of spt.methods; None if none is needed.

    Raises:
        SptError: if the user must name it: what an adapter names is not imported, as it may come from anywhere.
    """
    run = adapter.run
    if method is not None or not run.needs_method:
        return method
    name, target = run.method.get("name"), str(run.method.get("_target_"))
    own = vars(methods).get(target.removeprefix("spt.methods.")) if target.startswith("spt.methods.") else None
    if callable(own) and getattr(own, "__module__", None) == methods.__name__:
        return own
    raise SptError(
        f"{adapter.folder} was trained by method={name} ({target}), which spt does not have: name the function that "
        f"you trust, as method={name} --config-dir <the folder of its YAML> on the command line, or in Python as "
        "spt.load(..., method=function)"
    )


def _task_of(adapter: Adapter) -> Task:
    """The task that an adapter describes (see `spt.tasks.task.describe_task`); SptError if it does not fit the head."""
    path = adapter.folder / DESCRIPTION
    settings = dict(adapter.run.task)
    target = str(settings.pop("_target_"))
    target = MOVED.get(target, target)
    if target not in TASKS:
        raise damaged(path, f"{target!r} is not a task of this version of spt: {nearest(target, TASKS)}")
    try:
        task = TASKS[target](**settings)
    except (SptError, TypeError) as error:
        raise damaged(path, error) from error
    pooling = adapter.run.model.get("pooling")
    expected = {"task_type": task.task_type, "num_labels": len(task.classes), "pooling": pooling}
    if adapter.description.head != expected:
        raise damaged(path, f"task and model need the head {expected}, and its head is {adapter.description.head}")
    return task


def _backbone_of(settings: dict[str, Any]) -> tuple[Any, PreTrainedTokenizerBase]:
    """`load_backbone` with settings from a file; SptError if one is unknown, missing or of another type."""
    try:
        return validate_call(config=ConfigDict(strict=True))(load_backbone)(**settings)
    except ValidationError as error:
        raise SptError(f"model: {problems(error)}") from error


def _shared_backbone(
    adapter: Adapter, settings: dict[str, Any], share: Predictor, method: Method | None
) -> PreTrainedModel:
    """The backbone of a predictor; SptError if the adapter was not trained on the same one, changes or replaces it."""
    for each, is_changed in ((adapter, method is not None), (share.adapter, share.adapter.run.needs_method)):
        if is_changed:
            raise SptError(f"{each.folder}: its method changes the backbone, which cannot be shared: leave out share")
        if each.replaces_backbone:
            raise SptError(f"{each.folder} replaces the whole backbone, which cannot be shared: load it without share")
    for name, default in (("dtype", "float32"), ("config", {})):
        wanted, loaded = (_without_dropout(each.get(name) or default) for each in (settings, share.backbone_settings))
        if wanted != loaded:
            raise SptError(
                f"{adapter.folder} was trained with model.{name}={wanted}, and the shared base model was loaded with "
                f"{loaded}: load it without share"
            )
    return share.base


def _without_dropout(setting: Any) -> Any:
    """A setting of the base model without dropout rates, which have no effect on predictions."""
    return {n: v for n, v in setting.items() if "drop" not in n} if isinstance(setting, dict) else setting

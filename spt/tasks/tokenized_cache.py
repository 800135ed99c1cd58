"""Model inputs of large splits, tokenised once and kept in the cache of `datasets` for other runs."""

import hashlib
import inspect
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import datasets
from datasets import Dataset
from datasets.exceptions import DatasetGenerationError
from transformers import PreTrainedTokenizerBase

from spt.errors import cannot_write
from spt.tasks.model_inputs import Example, Split
from spt.tasks.task import CHUNK, Task, data_fingerprint

# Settings that say which examples there are and how they are scored, not how one is encoded.
NOT_ENCODED = ("name", "data_dir", "hub", "files", "sizes", "held_out", "train_examples", "metrics")


def encoded(task: Task, examples: list[Example], tokenizer: PreTrainedTokenizerBase, limit: int | None) -> Split:
    """`task.encode`, but a split of more than CHUNK examples is read from the cache, or written to it.

    Raises:
        SptError: if the cache cannot be written.
    """
    if len(examples) <= CHUNK:
        return task.encode(examples, tokenizer, limit)
    first = next(task.encoded(examples[:1], tokenizer, limit))

    def rows() -> Iterator[dict[str, Any]]:
        for chunk in task.encoded(examples, tokenizer, limit):
            yield from chunk

    datasets.disable_progress_bars()
    key = fingerprint(task, examples, tokenizer, limit)
    try:
        return Split(examples, Dataset.from_generator(rows, features=first.features, fingerprint=key))
    except (DatasetGenerationError, OSError) as error:
        cause = (error.__cause__ or error) if isinstance(error, DatasetGenerationError) else error
        if not isinstance(cause, OSError):
            raise cause from error
        where = f"the tokenised data in {datasets.config.HF_DATASETS_CACHE}"
        raise cannot_write(where, cause, "or set HF_DATASETS_CACHE to a folder that can be written") from error


def fingerprint(task: Task, examples: list[Example], tokenizer: PreTrainedTokenizerBase, limit: int | None) -> str:
    """A hash of all that model inputs depend on: examples, tokenizer, the task's settings and the code of its class."""
    classes = (*type(task).__mro__[:-1], Split)  # without object
    code = {inspect.getsource(sys.modules[kind.__module__]) for kind in classes}
    settings = {name: value for name, value in asdict(task).items() if name not in NOT_ENCODED}
    parts = [
        data_fingerprint({"": examples}),
        tokenizer.backend_tokenizer.to_str(),
        json.dumps([sorted(code), settings, tokenizer.model_input_names, tokenizer.truncation_side, limit]),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

"""A split's model inputs, tokenised once: other runs and seeds find them in the cache of `datasets`."""

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
from spt.tasks.base import CHUNK, Example, Split, Task, data_fingerprint

NOT_ENCODED = ("data_dir", "hub", "files", "sizes", "held_out")  # settings that say where the examples are from


def encoded(task: Task, examples: list[Example], tokenizer: PreTrainedTokenizerBase, limit: int | None) -> Split:
    """What `task.encode` returns, from the cache where it is there; a split of one chunk is tokenised each time.

    Raises:
        SptError: where the cache cannot be written.
    """
    if len(examples) <= CHUNK:
        return task.encode(examples, tokenizer, limit)
    first = next(task.encoded(examples[:1], tokenizer, limit))

    def rows() -> Iterator[dict[str, Any]]:
        for part in task.encoded(examples, tokenizer, limit):
            yield from part

    datasets.disable_progress_bars()
    try:
        inputs = Dataset.from_generator(
            rows, features=first.features, fingerprint=fingerprint(task, examples, tokenizer, limit)
        )
    except (DatasetGenerationError, OSError) as error:
        cause = error.__cause__ if isinstance(error, DatasetGenerationError) else error
        if isinstance(cause, OSError):
            where = datasets.config.HF_DATASETS_CACHE
            remedy = "or set HF_DATASETS_CACHE to a folder that can be written"
            raise cannot_write(f"the tokenised data in {where}", cause, remedy) from error
        raise (cause or error) from error
    return Split(examples, inputs)


def fingerprint(task: Task, examples: list[Example], tokenizer: PreTrainedTokenizerBase, limit: int | None) -> str:
    """A hash of all that the inputs depend on: data, tokenizer, the task's settings, and the code of tasks."""
    code = {inspect.getsource(sys.modules[kind.__module__]) for kind in type(task).__mro__ if kind is not object}
    settings = {name: value for name, value in asdict(task).items() if name not in NOT_ENCODED}
    parts = [
        data_fingerprint({"": examples}),
        tokenizer.backend_tokenizer.to_str(),
        json.dumps([sorted(code), settings, tokenizer.model_input_names, tokenizer.truncation_side, limit]),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

"""Rows of data sets on the Hugging Face hub, or in its local cache, and of any other `datasets.Dataset`."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Required

import datasets
from datasets import ClassLabel, Dataset
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import RemoteEntryNotFoundError
from pydantic import ConfigDict
from typing_extensions import TypedDict

from spt.errors import SptError, nearest
from spt.hub_errors import hub_cause, hub_error
from spt.tasks.class_names import ClassName
from spt.tasks.text_lines import Row, Rows

COMMIT = re.compile("[0-9a-f]{40}")


class Hub(TypedDict, total=False):
    """Where a task's data is on the hub: a repository, its configuration, a commit, and its names of our splits."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    path: Required[str]
    name: str | None
    revision: str | None
    splits: dict[str, str] | None


def read_hub(hub: Hub, split: str, required: bool) -> Rows:
    """The rows of a split, with the names of classes; none if an optional split is missing.

    Raises:
        SptError: if the data cannot be loaded, or the cache has another revision than the one asked for.
    """
    path, revision = hub["path"], hub.get("revision")
    name_on_hub = (hub.get("splits") or {}).get(split, split)
    try:
        builder = _prepared(path, hub.get("name"), revision)
        data = builder.as_dataset(name_on_hub) if name_on_hub in builder.info.splits else None
    except Exception as error:
        repository, settings = f"datasets/{path}", "task.hub (path, name, revision)"
        if hub_cause(error, repository, settings) is None:
            error.__cause__ = _refusal(path, revision)  # datasets drops what the hub answered
        instead = "set task.data_dir to a folder of files"
        raise hub_error(f"cannot load {path!r} from the hub", repository, error, settings, instead) from error
    if COMMIT.fullmatch(revision or "") and COMMIT.fullmatch(builder.hash) and builder.hash != revision:
        raise SptError(
            f"the hub is out of reach, and the latest cached copy of {path!r} is of revision {builder.hash}, "
            f"not {revision}: load that revision once with a network, or set task.hub.revision to the cached one"
        )
    if data is None and required:
        raise SptError(
            f"{path!r} on the hub has no split {name_on_hub!r}: {nearest(name_on_hub, builder.info.splits)}; "
            f"task.hub.splits={{{split}: <name>}} says which split of the hub is {split}"
        )
    rows = () if data is None else dataset_rows(data)
    return ((f"{path} {name_on_hub}, example {number}", row) for number, row in enumerate(rows))


def _refusal(path: str, revision: str | None) -> Exception | None:
    """The error with which the hub refuses a data set; None if it does not, or `path` is a folder."""
    try:
        if not Path(path).exists():
            hf_hub_download(path, "README.md", repo_type="dataset", revision=revision)
    except RemoteEntryNotFoundError:
        return None
    except Exception as error:
        return error
    return None


def hub_commit(hub: Hub) -> str | None:
    """The commit of a data set that was read, or None if it is not known."""
    commit = _prepared(hub["path"], hub.get("name"), hub.get("revision")).hash
    return commit if COMMIT.fullmatch(commit or "") else None


@cache
def _prepared(path: str, name: str | None, revision: str | None) -> Any:
    """The builder of a data set whose files are downloaded; cached, as each split asks for it."""
    datasets.disable_progress_bars()
    builder = datasets.load_dataset_builder(path, name, revision=revision)
    builder.download_and_prepare()
    return builder


def dataset_rows(data: Dataset) -> Iterator[Row]:
    """The rows, with `ClassName`s in columns of class indices or of lists of them."""
    classes = {column: getattr(feature, "feature", feature) for column, feature in data.features.items()}
    classes = {column: feature for column, feature in classes.items() if isinstance(feature, ClassLabel)}
    for row in data:
        yield row | {column: _named(row[column], feature) for column, feature in classes.items()}


def _named(value: Any, feature: ClassLabel) -> Any:
    """What is no index of a class, such as the -1 of a row without a label, stays as it is."""
    if isinstance(value, list):
        return [_named(each, feature) for each in value]
    is_index = isinstance(value, int) and 0 <= value < feature.num_classes
    return ClassName(feature.int2str(value), value) if is_index else value

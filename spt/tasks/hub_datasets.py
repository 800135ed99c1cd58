"""Rows of data sets on the Hugging Face hub, or in its local cache."""

import re
from functools import cache
from typing import Any

import datasets

from spt.errors import SptError, hub_cache_unwritable, nearest
from spt.tasks.text_lines import Rows

COMMIT = re.compile("[0-9a-f]{40}")


def read_hub(
    path: str,
    split: str,
    name: str | None = None,
    revision: str | None = None,
    required: bool = False,
    splits: dict[str, str] | None = None,
) -> Rows:
    """The rows of a split, with names in place of the class indices of tags; none if an optional split is missing.

    Raises:
        SptError: if the data cannot be loaded, or the cache has another revision than the one asked for.
    """
    split = (splits or {}).get(split, split)
    try:
        builder = _prepared(path, name, revision)
        data = builder.as_dataset(split) if split in builder.info.splits else None
    except Exception as error:
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        raise hub_cache_unwritable(error) or SptError(
            f"cannot load {path!r} from the hub ({type(error).__name__}: {reason}). Check task.hub (path, name, "
            "revision). Without a network, HF_HUB_OFFLINE=1 uses the cached copy, and task.data_dir a folder of files"
        ) from error
    if COMMIT.fullmatch(revision or "") and COMMIT.fullmatch(builder.hash) and builder.hash != revision:
        raise SptError(
            f"the hub is out of reach, and the latest cached copy of {path!r} is of revision {builder.hash}, "
            f"not {revision}: load that revision once with a network, or set task.hub.revision to the cached one"
        )
    if data is None and required:
        raise SptError(f"{path!r} on the hub has no split {split!r}: {nearest(split, builder.info.splits)}")
    return iter(()) if data is None else _rows(f"{path} {split}", data)


def hub_commit(path: str, name: str | None = None, revision: str | None = None, **_: Any) -> str | None:
    """The commit of a data set that was read, or None if it is not known."""
    commit = _prepared(path, name, revision).hash
    return commit if COMMIT.fullmatch(commit or "") else None


@cache
def _prepared(path: str, name: str | None, revision: str | None) -> Any:
    """The builder of a data set whose files are downloaded; cached, as each split asks for it."""
    datasets.disable_progress_bars()
    builder = datasets.load_dataset_builder(path, name, revision=revision)
    builder.download_and_prepare()
    return builder


def _rows(source: str, data: Any) -> Rows:
    tags: dict[str, Any] = {column: getattr(feature, "feature", None) for column, feature in data.features.items()}
    for number, row in enumerate(data):
        row |= {column: tag.int2str(row[column]) for column, tag in tags.items() if hasattr(tag, "int2str")}
        yield f"{source}, example {number}", row

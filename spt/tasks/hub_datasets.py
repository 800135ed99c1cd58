"""Rows of data sets on the Hugging Face hub, or of their cached copies."""

import re
from functools import cache
from typing import Any

from spt.errors import SptError, hub_cache_unwritable, nearest
from spt.tasks.file_readers import Rows

COMMIT = re.compile("[0-9a-f]{40}")


def read_hub(
    path: str, split: str, name: str | None = None, revision: str | None = None, required: bool = False
) -> Rows | None:
    """Rows of one split of a data set on the hub, or of its cached copy; None where no such split is there or required.

    Token classes come as their names, whatever number the data set gives them.
    """
    try:
        builder = _prepared(path, name, revision)
        data = builder.as_dataset(split) if split in builder.info.splits else None
    except Exception as error:
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        raise hub_cache_unwritable(error) or SptError(
            f"cannot load {path!r} from the hub ({type(error).__name__}: {reason}). Check task.hub (path, name, "
            "revision); without a network, HF_HUB_OFFLINE=1 takes what was loaded before, task.data_dir a folder with "
            "the files"
        ) from error
    if COMMIT.fullmatch(revision or "") and COMMIT.fullmatch(builder.hash) and builder.hash != revision:
        raise SptError(
            f"the hub is out of reach, and the latest cached copy of {path!r} is of revision {builder.hash}, "
            f"not {revision}: load that once with a network, or set task.hub.revision to what is there"
        )
    if data is None and required:
        raise SptError(f"{path!r} on the hub has no split {split!r}: {nearest(split, builder.info.splits)}")
    return None if data is None else _hub_rows(path, split, data)


def hub_commit(path: str, name: str | None = None, revision: str | None = None) -> str | None:
    """The commit that a data set which was read is of, where the hub or its cache tells."""
    commit = _prepared(path, name, revision).hash
    return commit if COMMIT.fullmatch(commit or "") else None


@cache
def _prepared(path: str, name: str | None, revision: str | None) -> Any:
    """A data set's builder, its files downloaded: asked for once, not for each split."""
    import datasets

    datasets.disable_progress_bars()
    builder = datasets.load_dataset_builder(path, name, revision=revision)
    builder.download_and_prepare()
    return builder


def _hub_rows(path: str, split: str, data: Any) -> Rows:
    inner = {column: getattr(feature, "feature", None) for column, feature in data.features.items()}
    classes: dict[str, Any] = {column: feature for column, feature in inner.items() if hasattr(feature, "int2str")}
    for number, row in enumerate(data):
        row |= {column: feature.int2str(row[column]) for column, feature in classes.items()}
        yield f"{path} {split}, example {number}", row

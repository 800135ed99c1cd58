"""Rows of a `datasets.Dataset`, with the names of its classes in place of their indices."""

from collections.abc import Iterator
from typing import Any

from datasets import ClassLabel, Dataset

from spt.tasks.class_names import ClassName
from spt.tasks.text_lines import Row


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

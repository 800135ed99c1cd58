"""Rows of .jsonl, .json, .csv, .tsv, .parquet and CoNLL files.

Each reader yields (where, row): `where` is the file and line for error messages, `row` a dict of fields.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset
from pyarrow import ArrowException, parquet

from spt.errors import SptError
from spt.files import parsed
from spt.paths import data_folder
from spt.tasks.conll_columns import read_conll
from spt.tasks.hub_datasets import dataset_rows
from spt.tasks.table_files import check_distinct, read_csv, read_tsv
from spt.tasks.text_lines import Row, Rows, read_lines


def find_file(data_dir: str, names: list[str], required: bool) -> Path | None:
    """The first of `names` that exists in the folder `data_dir`, or None if none does and none is `required`."""
    if not names:
        return None
    folder = data_folder(data_dir, names[0])
    for name in names:
        if (folder / name).is_file():
            return folder / name
    if not required:
        return None
    present = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
    raise SptError(f"{data_dir!r} has no {' or '.join(names)} (it holds {present})")


def read_rows(path: Path, **options: Any) -> Rows:
    """Rows of a .jsonl, .json, .csv, .tsv or .parquet file; the options are those of `read_tsv`."""
    readers: dict[str, Callable[[Path], Rows]] = {**OF_OBJECTS, ".csv": read_csv, ".tsv": partial(read_tsv, **options)}
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise SptError(f"{path}: no reader for this kind of file: expected one of {', '.join(readers)}")
    return readers[suffix](path)


def read_sentences(path: Path, columns: tuple[str, str], **options: Any) -> Rows:
    """Sentences of a .jsonl, .json or .parquet file, or of columns in any other.

    Args:
        path: the file.
        columns: what words and tags of columns are called in the rows.
        options: of `read_conll`.
    """
    if (read := OF_OBJECTS.get(path.suffix.lower())) is not None:
        return read(path)
    return ((where, dict(zip(columns, row.values(), strict=True))) for where, row in read_conll(path, **options))


def read_jsonl(path: Path) -> Rows:
    """JSON objects, one on each line; blank lines are skipped."""
    for number, line in read_lines(path):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                row = parsed(line)
            except ValueError as error:
                raise SptError(f"{where}: not JSON ({error})") from error
            yield where, _object(row, where)


def read_json(path: Path) -> Rows:
    """The objects of a JSON list."""
    text = "".join(line for _, line in read_lines(path, newline=None))
    try:
        rows = parsed(text)
    except ValueError as error:
        raise SptError(f"{path}: not JSON ({error}); a file with one object a line must be named .jsonl") from error
    if not isinstance(rows, list):
        raise SptError(f"{path}: expected a JSON list of objects, found {type(rows).__name__}")
    for number, row in enumerate(rows, start=1):
        where = f"{path}, object {number}"
        yield where, _object(row, where)


def _object(row: Any, where: str) -> Row:
    if not isinstance(row, dict):
        raise SptError(f"{where}: expected a JSON object, found {type(row).__name__}")
    return row


def read_parquet(path: Path) -> Rows:
    """The rows of a parquet file, with names in place of class indices where `datasets` has written it."""
    try:
        with parquet.ParquetFile(path) as file:
            check_distinct(path, file.schema_arrow.names)
            data = Dataset(file.read())
    except (ArrowException, OSError, ValueError) as error:  # ValueError: a column of a type that `datasets` lacks
        raise SptError(f"{path}: not a parquet file that can be read ({error})") from error
    for number, row in enumerate(dataset_rows(data), start=1):
        yield f"{path}, row {number}", row


OF_OBJECTS = {".jsonl": read_jsonl, ".json": read_json, ".parquet": read_parquet}

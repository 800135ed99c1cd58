"""Take over the finished runs of another folder: `python -m spt.runs merge=<folder>`."""

import shutil
from pathlib import Path

from spt.errors import SptError
from spt.files import temporary_folder, written
from spt.records.folder_lock import LOCK
from spt.records.schema import RECORD, read_record


def merge_runs(source: Path, target: Path) -> tuple[int, int]:
    """Copy the finished runs of `source` to `target`, each with all of its files.

    Returns:
        How many were copied, and how many were there already with the same record.

    Raises:
        SptError: `source` holds no finished run, a record cannot be read, or `target` has other results of one of the
            runs. Nothing is copied then.
    """
    folders = sorted(path.parent for path in source.glob(f"*/{RECORD}"))
    if not folders:
        raise SptError(f"{str(source)!r} holds no finished run to merge")
    for folder in folders:
        read_record(folder / RECORD)
    known = [folder for folder in folders if (target / folder.name).exists()]
    for folder in known:
        there = target / folder.name / RECORD
        if not there.is_file():
            raise SptError(f"{there.parent} is a run without a record: finish or delete it first; nothing was copied")
        if there.read_bytes() != (folder / RECORD).read_bytes():
            raise SptError(
                f"{target} has other results of {folder.name}: a run has one result in a folder, so move one of the "
                "two away; nothing was copied"
            )
    for folder in (each for each in folders if each not in known):
        with written(target / folder.name, "or set output_dir"):
            target.mkdir(parents=True, exist_ok=True)
            with temporary_folder(target) as temporary:
                shutil.copytree(folder, temporary / folder.name, ignore=shutil.ignore_patterns(LOCK))
                (temporary / folder.name).replace(target / folder.name)
    return len(folders) - len(known), len(known)

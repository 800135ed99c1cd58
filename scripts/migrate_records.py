"""Bring records of an earlier schema to the present one: `python -m scripts.migrate_records results/records`.

What a record of schema 1 does not say of its code is looked up in the history of this repository, at its commit.
"""

import json
import sys
from functools import cache
from pathlib import Path

from spt.code import digests, git
from spt.files import write_atomically
from spt.record import FAILURE, RECORD, SCHEMA, read_record


@cache
def digests_at(commit: str) -> dict[str, str] | None:
    """The digests of the code at a commit; None where the commit is not known here."""
    return digests(lambda name: git("show", f"{commit}:./{name}.py")) or None


def main(folder: Path) -> None:
    """Migrate all records in a folder of runs."""
    count = 0
    for path in sorted([*folder.glob(f"*/{RECORD}"), *folder.glob(f"*/{FAILURE}")]):
        if json.loads(path.read_text(encoding="utf-8"))["schema"] == SCHEMA:
            continue
        record = read_record(path)
        if record["code"] is None and record["git"]["commit"]:
            record["code"] = digests_at(record["git"]["commit"])
        write_atomically(path, json.dumps(record, indent=2) + "\n")
        count += 1
    print(f"{count} records of {folder} brought to schema {SCHEMA}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

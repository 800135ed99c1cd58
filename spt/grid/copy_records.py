"""Copy the records of finished runs to `results_dir`, where the report reads them, and withdraw them."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

from spt.files import write_if_changed, written
from spt.grid.match_records import Finished
from spt.paths import without_folders, word_without_folders
from spt.records.comparable_settings import LOCATIONS
from spt.records.insight_summary import INSIGHT
from spt.records.schema import FAILURE, HISTORY, OUTCOMES, RECORD, read_record


def publish(run: Finished, folder: Path, selection: dict[str, Any] | None = None) -> None:
    """Copy a run's record, history and outcomes (not its weights) to a folder of its name in `folder`.

    If the run was inspected, a summary of that goes with them. What an earlier call added to the same record stays.

    Args:
        run: a finished run, or the note of a failed one.
        folder: the folder of published records.
        selection: how its learning rate was chosen, to be added to the record.
    """
    target = folder / run.folder.name
    record = without_local_paths(run.record)
    before = read_record(target / RECORD) if (target / RECORD).is_file() else {}
    known = before.pop("selection", None)
    is_same = before == record
    if selection := selection or (known if is_same else None):
        record["selection"] = selection
    beside = (HISTORY, OUTCOMES) if "metrics" in record else ()
    files = {name: run.text(name) for name in beside}
    if beside and run.insight is not None:
        files[INSIGHT] = run.insight.to_json()
    # Written last: a reader that finds the record finds the other files too.
    files[RECORD if beside else FAILURE] = json.dumps(record, indent=2) + "\n"
    with written(target, "or set results_dir"):
        target.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_if_changed(target / name, text)
        if INSIGHT not in files and not is_same:
            (target / INSIGHT).unlink(missing_ok=True)
        if RECORD in files:
            (target / FAILURE).unlink(missing_ok=True)


def without_local_paths(record: dict[str, Any]) -> dict[str, Any]:
    """A copy of a record whose config and command name the folders of data, weights and runs by their last part only.

    Folders that are part of the run's identity stay whole.
    """
    config = dict(record["config"])
    for group, keys in LOCATIONS.items():
        shortened = {
            key: without_folders(config[group][key]) for key in keys if isinstance(config[group].get(key), str)
        }
        config[group] = config[group] | shortened
    if "output_dir" in config:
        config["output_dir"] = without_folders(str(config["output_dir"]))
    command = shlex.join(map(word_without_folders, shlex.split(record["command"])))
    return record | {"config": config, "command": command}


def withdraw(folder: Path) -> None:
    """Delete a published run, first the files by which readers find it."""
    for name in (RECORD, FAILURE):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder)

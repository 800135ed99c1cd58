"""Whether a run is finished, so that the same command shows its result instead of training again."""

from typing import Any

from spt.errors import SptError
from spt.records.run_folder import RunFolder
from spt.records.schema import RECORD, read_record


def finished_record(run: RunFolder) -> dict[str, Any] | None:
    """The record of a run that is finished; None where it is not, or is to be repeated (`force=true`).

    Raises:
        SptError: where the record is damaged, or another run's.
    """
    path = run.folder / RECORD
    if run.config["force"] or not path.exists():
        return None
    record = read_record(path)
    if record["fingerprint"] != run.fingerprint:
        raise SptError(
            f"{path} is of another run, with the fingerprint {record['fingerprint']}: move it to the other run's "
            "folder, or delete it"
        )
    return record

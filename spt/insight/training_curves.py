"""How alike the slots were after each epoch of the training, from the history of a run."""

import logging
from pathlib import Path
from typing import Any

from spt.files import parsed
from spt.records.schema import HISTORY

log = logging.getLogger(__name__)


def similarity_by_epoch(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's history with `prefixes`, the similarity of its slots; epoch 0 is the initialisation.

    A history that cannot be read is left out with a warning: the other results do not depend on it.
    """
    path = run / HISTORY
    try:
        rows = [parsed(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read, and is left out: %s", path, " ".join(str(error).split()))
        rows = []
    return [row for row in rows if "prefixes" in row]

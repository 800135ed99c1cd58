"""How alike the slots were after each epoch of the training, from the history of a run."""

import logging
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from spt.files import parsed
from spt.records.schema import HISTORY

log = logging.getLogger(__name__)

ByLayer = dict[Literal["key", "value"], list[float]]


class Similarity(BaseModel):
    """The measures of slots of `spt.modeling.slot_cosine_and_rank`, a number for each layer."""

    mean_abs_cosine: ByLayer
    effective_rank: ByLayer


class Epoch(BaseModel):
    """A row of a history: the similarity after an epoch; epoch 0 is the initialisation."""

    epoch: int
    prefixes: Similarity


def similarity_by_epoch(run: Path) -> list[Epoch]:
    """The epochs of a run whose history has the similarity of its slots; none if it has no history.

    A history that cannot be read is left out with a warning: the other results do not depend on it.
    """
    path = run / HISTORY
    try:
        rows = [parsed(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
        return [Epoch.model_validate(row) for row in rows if "prefixes" in row]
    except (OSError, ValueError, TypeError, ValidationError) as error:
        log.warning("%s cannot be read, and is left out: %s", path, " ".join(str(error).split()))
        return []

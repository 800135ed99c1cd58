"""Weights & Biases as an experiment tracker: `logger=wandb`."""

import logging
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from spt.training.loggers import Tracker

try:
    import wandb
except ImportError:
    wandb = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

RUN_ID = "wandb/run_id.txt"  # in the run folder: a run that resumes continues the same W&B run
FINISH_TIMEOUT = 600.0  # seconds for the upload at the end; the rest stays on disk, for `wandb sync`
HEADLINES = ("status", "best_epoch", "epochs", "collapsed", "trainable_parameters", "wall_seconds", "peak_memory_bytes")


def _never_fatal(method: Callable[..., None]) -> Callable[..., None]:
    """Turn the first error of a tracker into a warning, and leave the tracker out from then on."""

    @wraps(method)
    def guarded(self: "WandbLogger", *args: Any) -> None:
        if self.broken:
            return
        try:
            method(self, *args)
        except Exception as error:
            self.broken = True
            reason = " ".join(str(error).split()) or type(error).__name__
            log.warning(
                "W&B does not work (%s): the run continues without it, all results are in the run folder. "
                "`wandb login` signs in, WANDB_MODE=offline keeps a local copy for `wandb sync`",
                reason,
            )

    return guarded


class WandbLogger(Tracker):
    """Weights & Biases: config, metrics of each epoch, the record's results as summary, adapter and figures.

    Args:
        project, entity, tags: as in `wandb.init`.
        group: of the run; None: the runs of one sweep form a group.
        timeout: seconds to wait for the server.
    """

    def __init__(
        self,
        project: str,
        entity: str | None = None,
        group: str | None = None,
        tags: list[str] | None = None,
        timeout: float = 30.0,
    ):
        self.settings: dict[str, Any] = {"project": project, "entity": entity, "tags": list(tags or [])}
        self.group, self.timeout = group, timeout
        self.broken = False
        self.run: Any = None

    @_never_fatal
    def start(self, config: dict[str, Any], folder: Path, group: str | None, resumes: bool) -> None:
        """Open the W&B run, the one that the interrupted run had where it resumes."""
        if not resumes:
            (folder / RUN_ID).unlink(missing_ok=True)
        self._open(folder, folder, config=config, group=self.group or group)
        (folder / RUN_ID).parent.mkdir(exist_ok=True)
        (folder / RUN_ID).write_text(self.run.id)

    def _open(self, folder: Path, place: Path, **settings: Any) -> None:
        """Open the W&B run of a run folder, if it has one, and keep its files in the folder `place`."""
        if wandb is None:
            raise ImportError("it is not installed: pip install wandb")
        self.run = wandb.init(
            **self.settings,
            **settings,
            id=(folder / RUN_ID).read_text() if (folder / RUN_ID).exists() else None,
            resume="allow",
            name=folder.name,
            dir=str(place),
            reinit="finish_previous",
            settings=wandb.Settings(
                init_timeout=self.timeout, finish_timeout=FINISH_TIMEOUT, silent=True, console="off"
            ),
        )

    @_never_fatal
    def epoch(self, row: dict[str, Any]) -> None:
        """Log an epoch's row; the measures of the prefixes as one chart per layer."""
        scores = {name: value for name, value in row.items() if name != "prefixes"}
        by_layer = {
            f"prefixes/{measure}/{kind}/layer_{layer}": value
            for measure, kinds in row.get("prefixes", {}).items()
            for kind, values in kinds.items()
            for layer, value in enumerate(values)
        }
        self.run.log(scores | by_layer, step=row["step"])

    @_never_fatal
    def finish(self, record: dict[str, Any], adapter: Path) -> None:
        """Fill in the summary, upload the adapter, close the run."""
        self.run.summary.update(record["metrics"] | {name: record[name] for name in HEADLINES})
        if adapter.is_dir():
            artifact = wandb.Artifact(f"adapter-{record['fingerprint']}", type="adapter")
            artifact.add_dir(str(adapter))
            self.run.log_artifact(artifact)
        self.run.finish()

    @_never_fatal
    def fail(self) -> None:
        """Close the run as failed."""
        if self.run is not None:
            self.run.finish(exit_code=1)

    @_never_fatal
    def insight(self, folder: Path, insight: Path) -> None:
        """Add the figures and insight.json to the W&B run of the run folder."""
        self._open(folder, insight)
        figures = sorted(insight.glob("figures/*.png"))
        self.run.log({f"insight/{path.stem}": wandb.Image(str(path)) for path in figures})
        artifact = wandb.Artifact(f"insight-{self.run.id}", type="insight")
        artifact.add_file(str(insight / "insight.json"))
        self.run.log_artifact(artifact)
        self.run.finish()

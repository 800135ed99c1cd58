"""The files of a run's folder and the schema of its record."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from spt.errors import SptError
from spt.files import parsed
from spt.paths import local_path

SCHEMA = 3
RECORD, HISTORY, OUTCOMES, FAILURE = "record.json", "history.jsonl", "outcomes.json", "failure.json"
CONFIG, LOG, ADAPTER, CHECKPOINT = "config.yaml", "train.log", "adapter", "checkpoint.safetensors"

Count = Annotated[int, Field(ge=0)]


class Strict(BaseModel):
    """A part of a file: values have exactly the types named here, numbers are finite, and unknown keys are kept."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class Exact(BaseModel):
    """A part of a file: it has exactly these names and types, and cannot be changed."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Metrics(Strict):
    """A score in [0, 1] (or [-1, 1]) by split; None where no epoch finished or the split was not scored."""

    best_dev: float | None
    last_dev: float | None
    __pydantic_extra__: dict[str, float | None]  # test and further splits, at the best dev epoch


class Groups(Strict):
    """The groups of a resolved config that every record names."""

    task: dict[str, Any]
    model: dict[str, Any]
    method: dict[str, Any]
    trainer: dict[str, Any]


class Git(Strict):
    """The state of the code; None outside a repository."""

    commit: str | None
    dirty: bool | None  # whether the working tree differed from the commit


class Run(Strict):
    """What identifies a run and where its results come from."""

    schema_version: Literal[3] = Field(alias="schema")
    task: str
    model: str
    method: str
    seed: Count
    recipe: dict[str, Any] | None = None  # the published hyperparameters the run used
    command: str  # the command line that repeats the run
    config: Groups
    fingerprint: str  # hash of everything in the config that can change a result
    versions: dict[str, Any]  # of Python and packages
    git: Git
    numerics: Count  # spt.numerics_version.NUMERICS; 0 for records made before versions were counted
    processes: Annotated[int, Field(ge=1)]
    hardware: dict[str, Any]


class FailedRun(Run):
    """failure.json: why a run of a grid has no record."""

    error: str


class FinishedRun(Run):
    """record.json: the results of a run."""

    status: Literal["finished", "diverged"]
    metric: str  # the one that selects the best epoch
    metrics: Metrics  # the values of `metric`
    scores: dict[str, dict[str, float] | None]  # all metrics, by split as in `metrics`
    baselines: dict[str, dict[str, float]] | None = None  # by split: `metric` of the majority class, of random classes
    best_epoch: Count | None  # by dev score, the first of equals
    epochs: Count
    steps: Count
    collapsed: bool  # whether one class is predicted for every dev example
    warnings: list[str]
    trainable_parameters: Count
    trainable_by_group: dict[str, Count]  # prefix, lora, head, backbone
    backbone_parameters: Count | None = None
    missing_pooler: Literal["trained", "frozen"] | None = None  # of a pooler that the checkpoint lacks
    model_revision: str | None = None  # commit on the hub
    model_sha256: str | None = None  # of a local model's weights
    adapter_bytes: Count | None = None
    resumed: Count  # how often the run was resumed
    wall_seconds: Annotated[float, Field(ge=0)]  # all attempts together
    peak_memory_bytes: Count
    data: dict[str, Any]  # revision, fingerprint, and for each split the counts of examples

    @model_validator(mode="after")
    def _a_diverged_run_says_why(self) -> "FinishedRun":
        if self.status == "diverged" and not self.warnings:
            raise ValueError("warnings must say why a run diverged")
        return self


def read_record(path: Path) -> dict[str, Any]:
    """The contents of a record.json or failure.json, migrated to the present schema; SptError if it is not valid."""
    try:
        if path.exists() and not path.is_file():
            raise OSError("not a file")
        record = migrate(parsed(path.read_bytes()))
        (FailedRun if path.name == FAILURE else FinishedRun).model_validate(record)
    except (OSError, ValueError) as error:
        raise SptError(
            f"{path} is not a valid record ({problems(error)}): it is damaged or of another version of spt; delete it "
            "and repeat the run"
        ) from error
    return record


def migrate(record: Any) -> Any:
    """A record of schema 1 or 2 in the present schema; anything else as it is.

    Schema 2 added `processes` and `resumed`. Schema 3 replaced digests of the code (`code`) by `numerics`, and dropped
    `packed`.
    """
    if not isinstance(record, dict) or record.get("schema") not in (1, 2):
        return record
    kept = {name: value for name, value in record.items() if name not in ("code", "packed")}
    return {"processes": 1, "resumed": 0, "numerics": 0} | kept | {"schema": SCHEMA}


def read_records(output_dir: str | Path) -> list[dict[str, Any]]:
    """The records of all finished runs in a folder, sorted by folder name."""
    return [read_record(path) for path in sorted(Path(output_dir).glob(f"*/{RECORD}"))]


def output_folder(output: Any, run: str, name: str) -> Path:
    """The folder `output`; None: `name` in the run's folder, beside an adapter, or for one of the hub here.

    Raises:
        SptError: if `output` is not the name of a folder.
    """
    if output is not None:
        if not isinstance(output, str) or not output:
            raise SptError(f"output must name a folder, not {output!r}")
        return Path(output)
    source = local_path(run)
    if not source.is_dir():
        return Path(name)
    return (source if (source / ADAPTER).is_dir() else source.resolve().parent) / name


def problems(error: Exception) -> str:
    """What is wrong with a file, in one line: for a ValidationError its first fields that are invalid, and why."""
    if not isinstance(error, ValidationError):
        return str(error)
    invalid = [
        ": ".join(filter(None, (".".join(map(str, each["loc"])), each["msg"].removeprefix("Value error, "))))
        for each in error.errors()
    ]
    more = f"; and {len(invalid) - 3} more" * (len(invalid) > 3)
    return "; ".join(" ".join(line.split()) for line in invalid[:3]) + more

"""Adapters on the hub, as its own libraries keep them: a model repository with the adapter's files and its card."""

import json
import re
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from spt.adapter import DESCRIPTION, WEIGHTS, read_adapter
from spt.card import CARD
from spt.errors import SptError
from spt.readers import local_path
from spt.record import ADAPTER

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
UNREACHABLE = "Without a network it must be in the cache already, or a folder"


def fetch(source: str | Path) -> Path:
    """The folder of an adapter: of a run that holds one, the folder itself, or the copy of a repository on the hub.

    Raises:
        SptError: where there is none.
    """
    folder = local_path(str(source))
    if (folder / ADAPTER / DESCRIPTION).is_file():
        return folder / ADAPTER
    if folder.is_dir() or not REPOSITORY.fullmatch(str(source)):
        if (folder / DESCRIPTION).is_file():
            return folder
        raise SptError(f"{str(source)!r} is no folder of a run or an adapter: it has no {DESCRIPTION}")
    repository, _, revision = str(source).partition("@")
    try:
        found = snapshot_download(repository, revision=revision or None, allow_patterns=[WEIGHTS, DESCRIPTION, CARD])
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise SptError(
            f"{str(source)!r} is neither a folder nor to be had from the hub ({type(error).__name__}: {reason}). "
            f"{UNREACHABLE}"
        ) from error
    return Path(found)


def push(source: str | Path, repository: str, private: bool = False) -> str:
    """Send an adapter to the hub, into `repository` ("user/name"), which is made where it is missing.

    Paths of this machine do not go with it. Who may write there is the hub's to say: log in with `hf auth login`.

    Returns:
        The address of what was sent.

    Raises:
        SptError: where there is no adapter, or the hub does not take it.
    """
    adapter = read_adapter(fetch(source))
    if not REPOSITORY.fullmatch(repository) or "@" in repository:
        raise SptError(f"{repository!r} is no name of a repository: user/name")
    description = json.loads(json.dumps(adapter.description))
    task = description["about"].get("task")
    if isinstance(task, dict):
        task["data_dir"] = None
        task["files"] = {split: [Path(name).name for name in names] for split, names in task["files"].items()}
    card = adapter.folder / CARD
    files: dict[str, Path | bytes] = {
        WEIGHTS: adapter.folder / WEIGHTS,
        DESCRIPTION: (json.dumps(description, indent=2) + "\n").encode(),
        **({CARD: card} if card.is_file() else {}),
    }
    api = HfApi(library_name="spt")
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        operations = [CommitOperationAdd(name, content) for name, content in files.items()]
        return str(api.create_commit(repository, operations, commit_message="Adapter of Selective Prefix Tuning (spt)"))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise SptError(f"the hub does not take {repository!r} ({type(error).__name__}: {reason})") from error

"""Adapters on the hub, as its own libraries keep them: a model repository with the adapter's files and its card."""

import json
import logging
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, snapshot_download

from spt.adapters.format import DESCRIPTION, WEIGHTS, damaged, read_adapter
from spt.adapters.model_card import CARD, card_of
from spt.errors import SptError, hub_cache_unwritable
from spt.modeling.pretrained_encoder import is_local
from spt.paths import local_path
from spt.records.schema import ADAPTER

log = logging.getLogger(__name__)

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
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), "")
        raise hub_cache_unwritable(error) or SptError(
            f"{str(source)!r} is neither a folder nor to be had from the hub ({type(error).__name__}: {reason}). "
            f"{UNREACHABLE}"
        ) from error
    if not (Path(found) / DESCRIPTION).is_file():
        raise SptError(f"{str(source)!r} on the hub is no adapter: it has no {DESCRIPTION}")
    return Path(found)


def push_adapter(source: str | Path, repository: str, private: bool = False) -> str:
    """Send an adapter to the hub, into `repository` ("user/name"), which is made where it is missing.

    Its card is written anew, for that address. The paths of this machine's data do not go with it, and a base model
    that is a folder stays here. Who may write there is the hub's to say: log in with `hf auth login`.

    Returns:
        The address of what was sent.

    Raises:
        SptError: where there is no adapter, or the hub does not take it.
    """
    adapter = read_adapter(fetch(source))
    if not REPOSITORY.fullmatch(repository) or "@" in repository:
        raise SptError(f"{repository!r} is no name of a repository: user/name")
    description = json.loads(json.dumps(adapter.description))
    files: dict[str, Path | bytes] = {WEIGHTS: adapter.folder / WEIGHTS}
    if description["about"]:
        try:
            _without_paths(description)
            card = card_of(replace(adapter, description=description), repository)
        except (KeyError, TypeError, AttributeError) as error:
            raise damaged(adapter.folder / DESCRIPTION, f"no card can be written from it ({error!r})") from error
        files[CARD] = str(card).encode()
    elif (adapter.folder / CARD).is_file():
        files[CARD] = adapter.folder / CARD
    files[DESCRIPTION] = (json.dumps(description, indent=2) + "\n").encode()
    base_model = description["base_model"].get("name_or_path")
    if base_model is not None and is_local(base_model) and not base_model.startswith("pkg://"):
        log.warning("the base model is a folder here, %s: others must name it in base_model", base_model)
    api = HfApi(library_name="spt")
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        operations = [CommitOperationAdd(name, content) for name, content in files.items()]
        return str(api.create_commit(repository, operations, commit_message="Adapter of Selective Prefix Tuning (spt)"))
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), "")
        raise SptError(f"the hub does not take {repository!r} ({type(error).__name__}: {reason})") from error


def _without_paths(description: dict[str, Any]) -> None:
    """Take the paths of this machine's data out of what an adapter says of itself."""
    about = description["about"]
    task, training = about["task"], about["training"]
    task["data_dir"] = None
    task["files"] = {split: [Path(name).name for name in names] for split, names in task["files"].items()}
    overrides = [override.partition("=") for override in shlex.split(training["command"])]
    training["command"] = shlex.join(
        key + equals + (Path(value).name if Path(value).expanduser().is_absolute() else value)
        for key, equals, value in overrides
        if key != "output_dir"
    )
    description["base_model"]["name_or_path"] = about["model"]["name_or_path"]

"""Adapters on the Hugging Face hub: model repositories with an adapter's files and its card."""

import json
import logging
import re
import shlex
from dataclasses import replace
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, snapshot_download

from spt.adapters.format import DESCRIPTION, WEIGHTS, Adapter, adapter_folder, damaged, read_adapter
from spt.adapters.model_card import CARD, card_of
from spt.errors import SptError
from spt.hub_errors import hub_error
from spt.modeling.pretrained_encoder import is_local
from spt.paths import local_path, word_without_folders

log = logging.getLogger(__name__)

DATA_PATHS = ("task.train", "task.validation", "task.test", "task.data_dir")

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def fetch(source: str | Path) -> Path:
    """The folder of an adapter: in a run's folder, the folder itself, or downloaded; SptError if there is none."""
    folder = adapter_folder(local_path(str(source)))
    if (folder / DESCRIPTION).is_file():
        return folder
    if folder.is_dir() or not REPOSITORY.fullmatch(str(source)):
        raise SptError(f"{str(source)!r} is not the folder of a run or an adapter: it has no {DESCRIPTION}")
    repository, _, revision = str(source).partition("@")
    try:
        files = [WEIGHTS, DESCRIPTION, CARD]
        folder = Path(snapshot_download(repository, revision=revision or None, allow_patterns=files))
    except Exception as error:
        what = f"{str(source)!r} is not a folder, and cannot be loaded from the hub"
        instead = "give the folder of an adapter, or a repository that was loaded before"
        raise hub_error(what, repository, error, "its name", instead) from error
    if not (folder / DESCRIPTION).is_file():
        raise SptError(f"{str(source)!r} on the hub is not an adapter: it has no {DESCRIPTION}")
    return folder


def push_adapter(source: str | Path, repository: str, private: bool = False) -> str:
    """Upload an adapter and its card to the hub repository "user/name", which is created if missing.

    Paths of this machine's data are removed from the uploaded files; a base model that is a local folder is not
    uploaded. Log in with `hf auth login` first.

    Returns:
        The address of the commit.

    Raises:
        SptError: there is no adapter, or the hub refuses it.
    """
    adapter = read_adapter(fetch(source))
    if not REPOSITORY.fullmatch(repository) or "@" in repository:
        raise SptError(f"{repository!r} is not the name of a repository: user/name")
    files: dict[str, Path | bytes] = {WEIGHTS: adapter.folder / WEIGHTS}
    if adapter.is_of_run:
        try:
            adapter = _without_paths(adapter)
            files[CARD] = str(card_of(adapter, repository)).encode()
        except (KeyError, TypeError, AttributeError) as error:
            raise damaged(adapter.folder / DESCRIPTION, f"no card can be written from it ({error!r})") from error
    elif (adapter.folder / CARD).is_file():
        files[CARD] = adapter.folder / CARD
    files[DESCRIPTION] = (json.dumps(adapter.description.model_dump(), indent=2) + "\n").encode()
    base_model = adapter.description.base_model.name_or_path
    if base_model is not None and is_local(base_model) and not base_model.startswith("pkg://"):
        log.warning("the base model is a local folder, %s: other users must name theirs in base_model", base_model)
    api = HfApi(library_name="spt")
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        operations = [CommitOperationAdd(name, content) for name, content in files.items()]
        return str(api.create_commit(repository, operations, commit_message="Adapter of Selective Prefix Tuning (spt)"))
    except Exception as error:
        raise hub_error(f"cannot push to {repository!r}", repository, error, "its name", is_upload=True) from error


def _without_paths(adapter: Adapter) -> Adapter:
    """A copy whose description has no paths of this machine's data."""
    description, run = adapter.description.model_copy(deep=True), adapter.run.model_copy(deep=True)
    run.task["data_dir"] = None
    if (run.task.get("hub") or {}).get("path") and is_local(run.task["hub"]["path"]):
        run.task["hub"] = None
    run.task["files"] = {split: [Path(name).name for name in names] for split, names in run.task["files"].items()}
    run.training = adapter.training.model_copy()
    words = [word for word in shlex.split(run.training.command) if not word.startswith("output_dir=")]
    run.training.command = shlex.join(map(_without_data_path, words))
    description.about = run.model_dump()
    description.base_model.name_or_path = run.model["name_or_path"]
    return replace(adapter, description=description)


def _without_data_path(word: str) -> str:
    key, equals, value = word.partition("=")
    return key + equals + Path(value).name if key.lstrip("+") in DATA_PATHS else word_without_folders(word)

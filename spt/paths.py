"""The files that come with this package, and paths in configs."""

import os
import re
from pathlib import Path, PurePath

from spt.errors import SptError

PACKAGE = Path(__file__).resolve().parent

CHECKOUT = None if (PACKAGE / "conf").is_dir() else PACKAGE.parent  # the repository; None in an installed package

CONF = CHECKOUT / "conf" if CHECKOUT else PACKAGE / "conf"

REFERENCE = CHECKOUT / "results" / "reference" if CHECKOUT else PACKAGE / "reference"  # published numbers and curves


def local_path(text: str) -> Path:
    """The path that a config names: ~ is the home folder, pkg://spt/... a folder of this package.

    Raises:
        SptError: for a folder of another package; to look for it would import what an adapter names.
    """
    if text.startswith("pkg://"):
        if not text.startswith("pkg://spt/"):
            raise SptError(f"{text!r} is in another package than spt: name the folder itself")
        return PACKAGE / text.removeprefix("pkg://spt/")
    return Path(os.path.expanduser(text))  # which leaves ~name as it is where there is no such user


def without_folders(text: str) -> str:
    """A path, or a list of paths, with each absolute one cut to its last part; quotes and other text stay."""
    bare = text.strip("'\"")
    if PurePath(bare).is_absolute() or bare.startswith("~"):
        return text.replace(bare, PurePath(bare).name)
    return re.sub(r"(?<=[\[,'\"])[/~][^\[\],'\"]*", lambda path: PurePath(path[0]).name, text)


def word_without_folders(word: str) -> str:
    """`without_folders` of the value of a `key=value` argument, or of the whole argument."""
    key, equals, value = word.partition("=")
    return key + equals + without_folders(value) if equals else without_folders(key)


def split_file(split: str, name: str | None) -> Path:
    """The file that `task.train`, `task.validation` or `task.test` names; SptError if there is none."""
    if not name:
        raise SptError(f"task=custom needs a file in task.{split}")
    path = local_path(str(name)).absolute()
    if not path.is_file():
        raise SptError(f"no file {name!r}: task.{split} names the file of the {split} split")
    return path


def data_folder(data_dir: str, held: str) -> Path:
    """The folder that `task.data_dir` names, with the file `held` in it; SptError if there is none."""
    folder = local_path(data_dir)
    if not folder.is_dir():
        raise SptError(f"no data folder {data_dir!r}: set task.data_dir to the folder that holds {held}")
    return folder

"""The folders of the repository, and paths in configs."""

from importlib.resources import files
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

CONF = REPOSITORY / "conf"


def local_path(text: str) -> Path:
    """The path that a config names: ~ is the home folder, pkg://spt/... a folder of this package."""
    if text.startswith("pkg://"):
        package, _, rest = text.removeprefix("pkg://").partition("/")
        return Path(str(files(package))) / rest
    return Path(text).expanduser()

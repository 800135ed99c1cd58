"""Where things lie: the repository, its configs, and paths as a config names them."""

from importlib.resources import files
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

CONF = REPOSITORY / "conf"


def local_path(text: str) -> Path:
    """A path as a config names it: ~ is the home folder, pkg://spt/... a folder that comes with this package."""
    if text.startswith("pkg://"):
        package, _, rest = text.removeprefix("pkg://").partition("/")
        return Path(str(files(package))) / rest
    return Path(text).expanduser()

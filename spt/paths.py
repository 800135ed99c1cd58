"""The files that come with this package, and paths in configs."""

from importlib.resources import files
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent

CHECKOUT = None if (PACKAGE / "conf").is_dir() else PACKAGE.parent  # the repository; None in an installed package

CONF = CHECKOUT / "conf" if CHECKOUT else PACKAGE / "conf"

REFERENCE = CHECKOUT / "results" / "reference" if CHECKOUT else PACKAGE / "reference"  # published numbers and curves


def local_path(text: str) -> Path:
    """The path that a config names: ~ is the home folder, pkg://spt/... a folder of this package."""
    if text.startswith("pkg://"):
        package, _, rest = text.removeprefix("pkg://").partition("/")
        return Path(str(files(package))) / rest
    return Path(text).expanduser()

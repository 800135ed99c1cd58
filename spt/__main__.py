"""The console command `spt`: `spt train task=rte` is `python -m spt.train task=rte`."""

import os
import sys
from importlib import import_module

from spt import __version__
from spt.errors import nearest

COMMANDS = {
    "train": "train one run, or with --multirun a sweep",
    "evaluate": "score a trained adapter on a split or a file",
    "predict": "predict with a trained adapter",
    "inspect": "see what the prefixes of an adapter learned, or compare runs",
    "prune": "make an adapter smaller",
    "push": "upload an adapter to the Hugging Face hub",
    "runs": "list the finished runs of a folder",
    "reproduce": "plan and run the grid behind the tables",
    "report": "write tables and figures of the records, or show where a number comes from",
}

USAGE = """spt <command> [key=value ...]

{}

spt <command> --help lists the settings of a command; spt <command> is python -m spt.<command>.
spt --version shows the version. Completion in bash: eval "$(spt -sc install=bash)".
""".format("\n".join(f"  {name:<11}{purpose}" for name, purpose in COMMANDS.items()))


def main() -> None:
    """Run the command that the first argument names."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h"):
        print(USAGE, end="")
    elif name == "--version":
        print(f"spt {__version__}")
    elif name in ("-sc", "--shell-completion"):
        complete(rest)
    elif name not in COMMANDS:
        sys.exit(f"error: unknown command {name!r}: {nearest(name, COMMANDS)}")
    else:
        if not sys.flags.safe_path:
            sys.path.insert(0, os.getcwd())  # as `python -m` does: a config may name a class in a file of one's own
        run(name, rest)


def run(name: str, arguments: list[str]) -> None:
    """`python -m spt.<name>` with these arguments, in this process."""
    sys.argv[1:] = arguments
    import_module("spt.report.__main__" if name == "report" else f"spt.{name}").main()


def complete(arguments: list[str]) -> None:
    """Hydra's shell completion: `install=bash` prints the script, which asks `query=bash` what may follow on a line.

    The line begins with `spt <command>`; Hydra expects a program's name alone in front of the overrides.
    """
    program, *words = os.environ.get("COMP_LINE", "spt train ").split(" ")
    words = [word for word in words[:-1] if word] + words[-1:]
    if len(words) < 2 or words[0] not in COMMANDS:
        print(" ".join(COMMANDS) if len(words) < 2 else "")
    else:
        os.environ["COMP_LINE"] = " ".join([program, *words[1:]])
        run(words[0], ["-sc", *arguments])


if __name__ == "__main__":
    main()

"""What is published, as it ships with the repository: numbers in `results/reference`, recipes in `conf/recipe`."""

import csv
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
CONF = REPOSITORY / "conf"
NUMBERS = REPOSITORY / "results" / "reference" / "published_results.csv"
# What is published under another method's name: P-tuning v2's are prefix tuning's numbers.
SAME_AS = {"p_tuning_v2": "prefix_tuning"}


def published(task: str, model: str, method: str) -> list[dict[str, str]]:
    """The rows of one cell: source, split, metric, value (in percent), selection, seed and note of each."""
    with NUMBERS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    cell = (task, model, SAME_AS.get(method, method))
    return [row for row in rows if (row["task"], row["model"], row["method"]) == cell]


def recipes() -> list[str]:
    """The names of all recipes: <method>/<task>/<model>."""
    folder = CONF / "recipe"
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.glob("*/*/*.yaml"))

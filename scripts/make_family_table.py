"""Write the tables of encoder families in docs/encoders.md from test results.

    python -m scripts.make_family_table

runs tests/modeling/test_encoder_families.py (a minute), writes the outcomes to results/families.json, and makes the
tables of that file and of results/families_elsewhere.json (measured by `scripts/compare_libraries.py`).
"""

import json
import re
import subprocess
import sys
import tempfile
import textwrap
import xml.etree.ElementTree as ElementTree
from itertools import product
from pathlib import Path
from typing import Any

from spt.records.provenance import git_state, versions

REPO = Path(__file__).resolve().parent.parent
PAGE, MEASURED, ELSEWHERE = (
    REPO / name for name in ("docs/encoders.md", "results/families.json", "results/families_elsewhere.json")
)
START, END = "<!-- families: start -->\n", "<!-- families: end -->\n"
TESTS = ["-m", "pytest", "-m", "", "tests/modeling/test_encoder_families.py"]  # the slow ones, too
HEADS = ("sentence", "choice", "token")
ATTENTIONS = ("eager", "sdpa")
# For each column, the tests that a family has to pass, by the names pytest gives them.
COLUMNS = {head: (f"test_works[{head}-{{}}]", f"test_padding_changes_nothing[{head}-{{}}]") for head in HEADS} | {
    "fused": ("test_fused[None-{}]", "test_fused[8.0-{}]"),
    "bf16": ("test_bf16[{}]",),
    "checkpointing": tuple(
        f"test_checkpointing[{how}-{reentrant}-{{}}]" for how, reentrant in product(ATTENTIONS, (False, True))
    ),
    "compiled": ("test_compiled[{}]",),
    "shifted positions": ("test_shifted_positions[{}]",),
    "closed gate": tuple(f"test_a_closed_gate_leaves_the_models_own_output[{how}-{{}}]" for how in ATTENTIONS),
    "longest input": ("test_the_longest_input_runs[{}]",),
    "projected prefixes": ("test_projected_prefixes_are_saved_as_plain_ones[{}]",),
}
SHOWN = (*HEADS, "fused", "bf16", "checkpointing")


def run_tests() -> dict[str, str]:
    """The outcome of each test by its name: passed, failed, or the reason it was skipped for."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        process = subprocess.run([sys.executable, *TESTS, f"--junitxml={report}"], cwd=REPO)
        if process.returncode not in (0, 1):
            sys.exit("pytest did not run all tests: the tables were not changed")
        return {case.attrib["name"]: outcome_of(case) for case in ElementTree.parse(report).iter("testcase")}


def outcome_of(case: ElementTree.Element) -> str:
    """The outcome of one test case."""
    skipped = case.find("skipped")
    if skipped is not None:
        return skipped.attrib["message"]
    return "passed" if case.find("failure") is None and case.find("error") is None else "failed"


def results_of(tests: dict[str, str]) -> dict[str, dict[str, str]]:
    """The entry of each column for each family."""
    families = [match[1] for test in tests if (match := re.fullmatch(r"test_bf16\[(.+)\]", test))]
    results = {family: {column: column_entry(column, family, tests) for column in COLUMNS} for family in families}
    covered = {test.format(family) for family in families for column in COLUMNS.values() for test in column}
    if uncovered := tests.keys() - covered:
        sys.exit(f"no column covers {', '.join(sorted(uncovered))}: add one to COLUMNS")
    return results


def column_entry(column: str, family: str, tests: dict[str, str]) -> str:
    """A column's entry for a family: works or yes if all its tests passed, fails, or the reason one was skipped for."""
    outcomes = {tests[test.format(family)] for test in COLUMNS[column]}
    if "failed" in outcomes:
        return "fails"
    return next(iter(outcomes - {"passed"}), "works" if column in HEADS else "yes")


def measure() -> dict[str, Any]:
    """The outcomes of the tests, with command, versions and commit."""
    origin = {"command": " ".join(["python", *TESTS]), "versions": versions(), "git": git_state()}
    return origin | {"results": results_of(run_tests())}


class Notes(list[str]):
    """Footnotes, in the order in which cells first refer to them."""

    def mark(self, cell: str, note: str) -> str:
        """Return the cell with a reference to the footnote, which is added if it is new."""
        if note not in self:
            self.append(note)
        return f"{cell} [{self.index(note) + 1}]"


def measured_cell(outcome: str, notes: Notes) -> str:
    """A cell of the first table."""
    if outcome in ("works", "yes"):
        return "yes"
    return "**fails**" if outcome == "fails" else notes.mark("–", outcome.partition(": ")[2])


def library_cell(outcome: str, notes: Notes) -> str:
    """A cell of the second table: a word for the outcome, with a footnote if it needs more."""
    if outcome == "works":
        return "yes"
    if outcome.startswith(("no such head in transformers", "not in transformers itself")):
        return "–"
    if outcome == "refused":
        return outcome
    if outcome.endswith("by hand around the encoder: works"):
        return notes.mark("by hand", outcome)
    return notes.mark("eager" if "works with attn_implementation='eager'" in outcome else "no", outcome)


def without_details(outcome: str) -> str:
    """An outcome without the text of an error message and without the size of a difference."""
    return re.sub(r"refused: .*", "refused", re.sub(r"(\w+Error): [^;]*| \(by [^)]*\)", r"\1", outcome))


def merged(outcome: str, other: str, other_condition: str) -> str:
    """Two outcomes as one text: one of them if they are equal, else both."""
    return outcome if outcome == other else f"{outcome}; {other_condition}: {other}"


def library_outcome(family: dict[str, dict[str, str]], column: str) -> str:
    """A library's outcome for a family in a column of the second table."""
    outcomes = {head: {name: without_details(text) for name, text in tests.items()} for head, tests in family.items()}
    if column != "checkpointing":
        forward, by_hand = outcomes[column]["forward"], outcomes.get(f"{column}_by_hand")
        return merged(forward, by_hand["forward"], "put by hand around the encoder") if by_hand else forward
    sentence, token = (
        merged(outcomes[head]["checkpointing"], outcomes[head]["checkpointing_unpadded"], "in a batch without padding")
        for head in ("sentence", "token")
    )
    return merged(sentence, token, "token")


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, ["---"] * len(header), *rows))


def tables(measured: dict[str, Any], elsewhere: list[dict[str, Any]]) -> str:
    """The text between the two comments of the page."""
    notes = Notes()
    families = measured["results"]
    first = [
        [family, *(measured_cell(entries[column], notes) for column in SHOWN)] for family, entries in families.items()
    ]
    first_notes = len(notes)
    columns = [(library, column) for library in elsewhere for column in (*HEADS, "checkpointing")]
    second = [
        [family, *(library_cell(library_outcome(each["results"][family], column), notes) for each, column in columns)]
        for family in families
    ]
    numbered = [f"{number}. {note}\n" for number, note in enumerate(notes, 1)]
    versions = " and ".join(f"{name} {measured['versions'][name]}" for name in ("transformers", "torch"))
    libraries = " and ".join(
        f"{each['library']} {each['version']} (transformers {each['transformers']})" for each in elsewhere
    )
    return "\n".join(
        (
            paragraph(f"spt at commit {measured['git']['commit'][:7]}, with {versions}, by `{measured['command']}`:"),
            table(["", *SHOWN], first),
            "".join(numbered[:first_notes]),
            paragraph(
                f"Prefix tuning in {libraries}, by `scripts/compare_libraries.py`. –: transformers has no head of this "
                "kind, or refuses it; refused: by the library, with a message; eager: works with eager attention only."
            ),
            table(["", *(f"{library['library']}: {column}" for library, column in columns)], second),
            "".join(numbered[first_notes:]),
        )
    )


def paragraph(text: str) -> str:
    """The text in lines of at most 120 characters."""
    return textwrap.fill(text, 120, break_on_hyphens=False) + "\n"


def with_tables(page: str, block: str) -> str:
    """The page with `block` between the two comments."""
    replaced, count = re.subn(f"(?s)(?<={START}).*?(?={END})", lambda _: block, page)
    if count != 1:
        sys.exit(f"{PAGE.name} must have one {START.strip()} with {END.strip()} after it")
    return replaced


def main() -> None:
    """Run the tests, write their outcomes and the tables."""
    measured = measure()
    MEASURED.write_text(json.dumps(measured, indent=2) + "\n")
    block = tables(measured, json.loads(ELSEWHERE.read_text()))
    PAGE.write_text(with_tables(PAGE.read_text(), block))


if __name__ == "__main__":
    main()

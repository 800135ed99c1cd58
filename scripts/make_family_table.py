"""Make README's tables of the families of encoders again, from what the tests say.

    python -m scripts.make_family_table

runs tests/modeling/test_encoder_families.py (a minute), writes its results to results/families.json, and from that and
results/families_elsewhere.json (which `scripts/compare_libraries.py` measures) the tables in README.md.
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
README, OURS, ELSEWHERE = (
    REPO / name for name in ("README.md", "results/families.json", "results/families_elsewhere.json")
)
START, END = "<!-- families: start -->\n", "<!-- families: end -->\n"
TESTS = ["-m", "pytest", "tests/modeling/test_encoder_families.py"]
HEADS = ("sentence", "choice", "token")
ATTENTIONS = ("eager", "sdpa")
# The tests that all have to pass for a column, as pytest names them for a family.
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
    """What came of each test: passed, failed, or why it was skipped."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        done = subprocess.run([sys.executable, *TESTS, f"--junitxml={report}"], cwd=REPO)
        if done.returncode not in (0, 1):
            sys.exit("pytest did not run all the tests: the table is left as it is")
        return {case.attrib["name"]: came_of(case) for case in ElementTree.parse(report).iter("testcase")}


def came_of(case: ElementTree.Element) -> str:
    """What came of one test."""
    skipped = case.find("skipped")
    if skipped is not None:
        return skipped.attrib["message"]
    return "passed" if case.find("failure") is None and case.find("error") is None else "failed"


def results_of(tests: dict[str, str]) -> dict[str, dict[str, str]]:
    """What each column says of each family."""
    families = [found[1] for test in tests if (found := re.fullmatch(r"test_bf16\[(.+)\]", test))]
    results = {family: {column: holds(column, family, tests) for column in COLUMNS} for family in families}
    read = {test.format(family) for family in families for column in COLUMNS.values() for test in column}
    if unread := tests.keys() - read:
        sys.exit(f"no column stands for {', '.join(sorted(unread))}: add one to COLUMNS")
    return results


def holds(column: str, family: str, tests: dict[str, str]) -> str:
    """What a column says of a family: works or yes where all its tests passed, fails, or why one was skipped."""
    outcomes = {tests[test.format(family)] for test in COLUMNS[column]}
    if "failed" in outcomes:
        return "fails"
    return next(iter(outcomes - {"passed"}), "works" if column in HEADS else "yes")


def measure() -> dict[str, Any]:
    """The outcomes of the tests, with what they were run on."""
    about = {"command": " ".join(["python", *TESTS]), "versions": versions(), "git": git_state()}
    return about | {"results": results_of(run_tests())}


class Notes(list[str]):
    """Footnotes, in the order in which cells first refer to them."""

    def mark(self, cell: str, note: str) -> str:
        """A cell that refers to a footnote."""
        if note not in self:
            self.append(note)
        return f"{cell} [{self.index(note) + 1}]"


def our_cell(outcome: str, notes: Notes) -> str:
    """A cell of the first table."""
    if outcome in ("works", "yes"):
        return "yes"
    return "**fails**" if outcome == "fails" else notes.mark("–", outcome.partition(": ")[2])


def their_cell(outcome: str, notes: Notes) -> str:
    """A cell of the second table: the measured outcome or, where that does not fit, a word for it and a footnote."""
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
    """A measured outcome without an error's own words, and without how far off a number is."""
    return re.sub(r"refused: .*", "refused", re.sub(r"(\w+Error): [^;]*| \(by [^)]*\)", r"\1", outcome))


def both(outcome: str, other: str, of_the_other: str) -> str:
    """Two outcomes, in one where they agree."""
    return outcome if outcome == other else f"{outcome}; {of_the_other}: {other}"


def their_outcome(family: dict[str, dict[str, str]], column: str) -> str:
    """What a column of the second table says of a family."""
    said = {head: {name: without_details(outcome) for name, outcome in of.items()} for head, of in family.items()}
    if column != "checkpointing":
        forward, by_hand = said[column]["forward"], said.get(f"{column}_by_hand")
        return both(forward, by_hand["forward"], "put by hand around the encoder") if by_hand else forward
    sentence, token = (
        both(said[head]["checkpointing"], said[head]["checkpointing_unpadded"], "in a batch without padding")
        for head in ("sentence", "token")
    )
    return both(sentence, token, "token")


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, ["---"] * len(header), *rows))


def tables(ours: dict[str, Any], elsewhere: list[dict[str, Any]]) -> str:
    """What stands in README between the two comments."""
    notes = Notes()
    families = ours["results"]
    first = [[family, *(our_cell(said[column], notes) for column in SHOWN)] for family, said in families.items()]
    of_the_first = len(notes)
    columns = [(library, column) for library in elsewhere for column in (*HEADS, "checkpointing")]
    second = [
        [family, *(their_cell(their_outcome(library["results"][family], column), notes) for library, column in columns)]
        for family in families
    ]
    numbered = [f"{number}. {note}\n" for number, note in enumerate(notes, 1)]
    versions = " and ".join(f"{name} {ours['versions'][name]}" for name in ("transformers", "torch"))
    libraries = " and ".join(f"{of['library']} {of['version']} (transformers {of['transformers']})" for of in elsewhere)
    return "\n".join(
        (
            paragraph(f"spt at commit {ours['git']['commit'][:7]}, with {versions}, by `{ours['command']}`:"),
            table(["", *SHOWN], first),
            "".join(numbered[:of_the_first]),
            paragraph(
                f"Prefix tuning in {libraries}, by `scripts/compare_libraries.py`. –: transformers itself has no such "
                "head, or refuses it; refused: by the library, with a message; eager: works with eager attention only."
            ),
            table(["", *(f"{library['library']}: {column}" for library, column in columns)], second),
            "".join(numbered[of_the_first:]),
        )
    )


def paragraph(text: str) -> str:
    """Text in lines as long as README's."""
    return textwrap.fill(text, 120, break_on_hyphens=False) + "\n"


def with_tables(readme: str, block: str) -> str:
    """README with this between the two comments."""
    made, count = re.subn(f"(?s)(?<={START}).*?(?={END})", lambda _: block, readme)
    if count != 1:
        sys.exit(f"README.md has to have one {START.strip()} with {END.strip()} after it")
    return made


def main() -> None:
    """Run the tests, write what came of them, and the tables."""
    ours = measure()
    OURS.write_text(json.dumps(ours, indent=2) + "\n")
    block = tables(ours, json.loads(ELSEWHERE.read_text()))
    README.write_text(with_tables(README.read_text(), block))


if __name__ == "__main__":
    main()

"""The scores of a table as a paper shows them: one table for each profile, with the best and what ties with it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pandas import DataFrame

from spt.errors import SptError, nearest
from spt.report.number_format import BASELINES, METRICS, SPLITS, Names, listed, number
from spt.report.paired_tests import LEVEL, seed_test
from spt.report.runs_frame import MEANING, SIGNS, each_row
from spt.report.seed_means import unselected


@dataclass(frozen=True)
class Score:
    """A score in a table for print: its mean, and what is beside it; a word if there is no score."""

    mean: str
    std: str = ""
    n: str = ""
    marks: str = ""
    is_best: bool = False
    is_tied: bool = False


Row = tuple[list[str], list[Score]]  # the texts of the first columns, and the scores


@dataclass(frozen=True)
class PrintTable:
    """A table for print.

    Attributes:
        name: for the label.
        caption: what the table shows.
        places: the headings of the first columns, which name the row.
        columns: of each column with scores the task, and which of its scores.
        blocks: the rows of each model, with its name.
    """

    name: str
    caption: str
    places: Sequence[str]
    columns: Sequence[tuple[str, str]]
    blocks: Sequence[tuple[str, Sequence[Row]]]


@dataclass(frozen=True)
class Choice:
    """What is shown of a table: tasks and quantities, rows and models (empty: all), published numbers, and marks."""

    columns: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    published: bool = True
    marks: bool = False


def print_tables(title: str, cells: DataFrame, names: Names, choice: Choice) -> list[PrintTable]:
    """A table for each profile that has numbers of what is chosen.

    Args:
        title: of the table.
        cells: its `cells_frame`.
        names: of tasks, models, rows and settings.
        choice: what is shown.

    Raises:
        SptError: if a chosen column or row is none of the table's, or nothing is left.
    """
    known = cells[(cells.n > 0) | (cells.published.notna() & choice.published) | (cells.state == "diverged")]
    if not len(known) and not choice.columns and not choice.rows:
        return []
    table = cells.table.iloc[0]
    _check(choice.columns, "column", table, [*cells.task, *cells.quantity])
    _check(choice.rows, "row", table, [*cells.row, *cells.model])
    for wanted, groups in ((choice.columns, ("task", "quantity")), (choice.rows, ("row", "model"))):
        for group in groups:
            if chosen := [each for each in wanted if (cells[group] == each).any()]:
                known = known[known[group].isin(chosen)]
    if not len(known):
        raise SptError(
            f"table {table} has no numbers of what columns and rows choose: python -m spt.reproduce makes them"
        )
    order = dict.fromkeys(zip(cells.row, cells.value, strict=True))
    tables = []
    for profile, own in known.groupby("profile", sort=False):
        name = table if known.profile.nunique() == 1 else f"{table}-{profile}"
        tables.append(_table(name, title, own, list(order), names, choice))
    return tables


def _check(chosen: Iterable[str], what: str, table: str, known: Iterable[str]) -> None:
    for name in chosen:
        if name not in (all_known := dict.fromkeys(known)):
            raise SptError(f"unknown {what} {name!r} of table {table}: {nearest(name, all_known)}")


def _columns(cells: DataFrame, chosen: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of task and quantity: in the order chosen, else as the cells have them; without a choice the main score."""
    tasks = [name for name in chosen if (cells.task == name).any()] or list(dict.fromkeys(cells.task))
    pairs = []
    for task in tasks:
        quantities = list(dict.fromkeys(cells.quantity[cells.task == task]))
        wanted = [name for name in chosen if name in quantities]
        pairs += [(task, name) for name in wanted or [unselected(quantities)] if name in quantities]
    return pairs


def _table(
    name: str, title: str, cells: DataFrame, order: Sequence[tuple[str, str]], names: Names, choice: Choice
) -> PrintTable:
    columns = _columns(cells, choice.columns)
    shown = cells[[pair in columns for pair in zip(cells.task, cells.quantity, strict=True)]]
    setting, rows = next((key for key in shown.setting if key), ""), list(dict.fromkeys(shown.row))
    usual = int(next(iter(shown.n[shown.n > 0].mode()), 0))
    places = [*(["Method"] if len(rows) > 1 or not setting else []), *([names.setting(setting)] if setting else [])]
    blocks = [
        (names.model(str(model)), [(place[-len(places) :], scores) for place, scores in own_rows])
        for model, own in shown.groupby("model", sort=False)
        if (own_rows := list(_rows(own, columns, order, names, choice, usual)))
    ]
    splits = dict.fromkeys(of for _, of in columns)
    heads = [(names.task(task), SPLITS[of] if len(splits) > 1 else "") for task, of in columns]
    about = [
        title,
        *([names.row(rows[0])] if "Method" not in places else []),
        *([blocks[0][0]] if len(blocks) == 1 else []),
    ]
    caption = f"{', '.join(about)}: {_what(shown, names, list(splits))} {_how(shown, blocks, usual, choice)}"
    return PrintTable(name, caption.strip(), places, heads, blocks)


def _what(shown: DataFrame, names: Names, splits: Sequence[str]) -> str:
    """What a caption says the numbers are of."""
    by_metric = shown.groupby("metric", sort=False)
    scores = [f"{METRICS[name]} on {listed(map(names.task, own.task))}" for name, own in by_metric]
    split = f" ({SPLITS[splits[0]]})" if len(splits) == 1 else ""
    return f"{'; '.join(scores)}, in percent{split}."


def _how(shown: DataFrame, blocks: Sequence[tuple[str, Sequence[Row]]], usual: int, choice: Choice) -> str:
    """What a caption says of seeds, of what is marked, and of what is published."""
    sentences = []
    if usual:
        others = ", or as many as in brackets" if shown.n[shown.n > 0].nunique() > 1 else ""
        spread = "Mean ± sample standard deviation over" if shown["std"].notna().any() else "Of"
        sentences.append(f"{spread} {usual} {'seed' if usual == 1 else 'seeds'}{others}.")
    scores = [score for _, rows in blocks for _, row in rows for score in row]
    if any(score.is_best for score in scores):
        sentences.append(f"Bold: the highest mean of our runs{' with a model' if len(blocks) > 1 else ''}.")
    if any(score.is_tied for score in scores):
        sentences.append(
            "Underlined: the 95 % interval of the difference from it, over seeds alone and uncorrected, includes 0."
        )
    sources = dict.fromkeys(row["source"] for rows in shown.references for row in rows[:1])
    if sources and choice.published:
        sentences.append(f"Published: {listed(sources)}.")
    marks = dict.fromkeys(mark for score in scores for mark in score.marks)
    sentences += [f"{sign}: one or more runs {MEANING[name]}." for name, sign in SIGNS.items() if sign in marks]
    return " ".join(sentences)


def _rows(
    cells: DataFrame,
    columns: Sequence[tuple[str, str]],
    order: Sequence[tuple[str, str]],
    names: Names,
    choice: Choice,
    usual: int,
) -> Iterator[Row]:
    """The rows of a model: ours, what is published for it, and baselines."""
    by_place = {(cell.row, cell.value, cell.task, cell.quantity): cell for cell in each_row(cells)}
    best = {pair: _best(cells[(cells.task == pair[0]) & (cells.quantity == pair[1])]) for pair in columns}
    for row, value in order:
        own = [by_place.get((row, value, *pair)) for pair in columns]
        place = [names.row(row), *([value] if value else [])]
        if any(cell is not None and (cell.n or cell.state == "diverged") for cell in own):
            yield place, [_ours(cell, best[pair], usual, choice.marks) for cell, pair in zip(own, columns, strict=True)]
        if choice.published and any(cell is not None and cell.references for cell in own):
            scores = [Score("" if cell is None or not cell.references else number(cell.published)) for cell in own]
            yield [*place[:-1], f"{place[-1]}, published"], scores
    is_swept = (cells.setting != "").any()
    for name, label in BASELINES.items():
        known = [cells[name][(cells.task == task) & (cells.quantity == of)].dropna() for task, of in columns]
        if any(map(len, known)):
            place = [label.capitalize(), *(["" if cells.row.nunique() > 1 else label] if is_swept else [])]
            yield place, [Score(number(score.iloc[0]) if len(score) else "") for score in known]


def _best(cells: DataFrame) -> Any:
    """The cell with the highest mean of ours; None if it has nothing to be compared with."""
    scored = cells[cells.n > 0]
    return max(each_row(scored), key=lambda cell: cell.mean) if len(scored) > 1 else None


def _ours(cell: Any, best: Any, usual: int, marks: bool) -> Score:
    if cell is None or not cell.n:
        return Score("diverged" if cell is not None and cell.state == "diverged" else "")
    shown = {"mean": number(cell.mean), "std": "" if pd.isna(cell.std) else number(cell.std)}
    shown |= {"n": str(cell.n) if cell.n != usual else "", "marks": cell.marks if marks else ""}
    is_best = best is not None and number(cell.mean) == number(best.mean)
    return Score(**shown, is_best=is_best, is_tied=best is not None and not is_best and _ties(cell.scores, best.scores))


def _ties(scores: Mapping[int, float], best: Mapping[int, float]) -> bool:
    differences = [best[seed] - scores[seed] for seed in sorted(best.keys() & scores.keys())]
    if not differences:
        return False
    test = seed_test(differences)
    return test.identical or (test.p is not None and test.p > LEVEL)

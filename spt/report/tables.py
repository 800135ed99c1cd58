"""The tables of the report: what stands in them, and what a reader must know of it."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from spt.grid.match_records import Result
from spt.numerics import NUMERICS
from spt.report.comparisons import RULE, Comparison
from spt.report.markup import Column, Section, Table, listed
from spt.report.measured import (
    COLLAPSED,
    DEV,
    DIRTY,
    DIVERGED,
    METRICS,
    NAMES,
    OTHER_DATA,
    OUTDATED,
    Line,
    cost,
    headline,
    lines,
    marks,
)
from spt.report.significance import CONFIDENCE, RESAMPLES, holm, summary

MEANINGS = {
    "best_dev": (
        "Dev split, the best epoch: the maximum over epochs, on the split that selects the epoch and the learning rate"
    ),
    "last_dev": "Dev split, the last epoch: no epoch is selected, the learning rate is, where several were tried",
    "held_out": "A part of train that was kept from training, at the best dev epoch: it selects nothing",
    "test": "Test split, at the best dev epoch: it selects nothing",
}

SIGNS = {
    COLLAPSED: "of its runs one or more collapsed: one class for every dev example",
    DIVERGED: "of its runs one or more diverged: the scores are of the epochs before, and a later split has none",
    DIRTY: "of its runs one or more came of a working tree with uncommitted changes",
    OUTDATED: f"one or more of its runs had another version of the numerics than the present one, {NUMERICS}",
    OTHER_DATA: "of its runs one or more saw other data than most runs of the task, or than is there now",
}

TOLERANCE = (
    "Δ = ours − published, in points. It is within what the runs can tell where |Δ| ≤ the larger of one example "
    "(where the metric is accuracy) and t · std · √(1 + 1/n), t the 97.5 % quantile for n − 1: the 95 % range of one "
    "more run, if the published run's seed noise, which is not known, is ours. One seed has no tolerance"
)

NONE, NOT_APPLICABLE = "none", "n/a"

COLUMNS = (
    *("cell", "profile", "table", "model", "task", "row", "setting", "value", "quantity", "metric", "examples"),
    *("published", "published_source", "published_split", "published_selection", "published_seed", "published_note"),
    *("published_elsewhere", "state", "ours_mean", "ours_std", "n", "planned", "ours_min", "ours_max"),
    *("delta", "tolerance", "within", "learning_rate", "scores_by_seed", "runs"),
    *("collapsed", "diverged", "dirty", "outdated", "other_data"),
    *("trainable_parameters", "seconds_mean", "peak_memory_bytes", "adapter_bytes"),
    "hardware",
)


def number(value: float, digits: int = 2, sign: bool = False) -> str:
    """A number with a real minus, and no zero below it."""
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    if not text.strip("+-0."):
        text = text.lstrip("+-")
    return text.replace("-", "−")


def p_value(p: float | None) -> str:
    """A p-value to three digits."""
    return NOT_APPLICABLE if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def csv_rows(results: Iterable[Result]) -> list[dict[str, Any]]:
    """A dictionary of `COLUMNS` for each line of the cells."""
    return [_csv_row(line) for line in lines(results)]


def _csv_row(line: Line) -> dict[str, Any]:
    cell, ours, runs = line.cell, line.ours, line.result.done
    main, *others = line.published or ({},)
    signs, took = line.marks, cost(runs.values())
    words = {None: None, True: "yes", False: "no"}
    rates = {run.record["config"]["trainer"]["learning_rate"] for run in runs.values()}
    said = {f"published_{name}": main.get(name) for name in ("source", "split", "selection", "seed", "note")}
    return {
        **{"cell": cell.name, "profile": cell.profile, "table": cell.table, "model": cell.model, "task": cell.task},
        **{"row": cell.row, "setting": cell.point and cell.point[0], "value": cell.point and cell.point[1]},
        **{"quantity": line.quantity, "metric": line.metric, "examples": line.examples},
        **{"published": main.get("value"), **said, "published_elsewhere": "; ".join(map(_also, others)) or None},
        **{"state": line.state, "n": ours.n if ours else 0, "planned": len(cell.seeds)},
        **{"ours_mean": _plain(ours.mean if ours else None), "ours_std": _plain(ours.std if ours else None)},
        **{"ours_min": _plain(ours.low if ours else None), "ours_max": _plain(ours.high if ours else None)},
        **{"delta": _plain(line.delta), "tolerance": _plain(line.tolerance), "within": words[line.within]},
        "learning_rate": listed(f"{rate:g}" for rate in sorted(rates)) or None,
        "scores_by_seed": " ".join(f"{seed}:{score:.4f}" for seed, score in line.scores.items()) or None,
        "runs": " ".join(run.folder.name for run in runs.values()) or None,
        **{"collapsed": words[COLLAPSED in signs] if runs else None, "dirty": words[DIRTY in signs] if runs else None},
        "diverged": words[DIVERGED in signs] if runs else None,
        "outdated": words[OUTDATED in signs] if runs else None,
        "other_data": words[OTHER_DATA in signs] if runs else None,
        "trainable_parameters": took and took.parameters,
        "seconds_mean": took and f"{took.seconds.mean:.1f}",
        **{"peak_memory_bytes": took and took.memory, "adapter_bytes": took and took.adapter},
        "hardware": took and took.hardware,
    }


def _plain(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"


def sections(results: Sequence[Result], compared: Sequence[Comparison]) -> list[Section]:
    """A section for each model of a table, then what its rows differ by, their learning rates and their cost."""
    found = []
    for (profile, model), group in groupby(results, key=lambda result: (result.cell.profile, result.cell.model)):
        found.append(_block(f"{model} (profile {profile})", list(group)))
    done = [result for result in results if result.done]
    return [*found, *_selection(results), *_significance(compared), *_learning_rates(results), *_costs(done)]


def _block(heading: str, results: list[Result]) -> Section:
    section = Section(heading)
    every = lines(results)
    if all(line.state == "not run" for line in every):
        cells = f"{len(results)} cells" if len(results) > 1 else "1 cell"
        section.text.append(f"{cells} not run, and nothing published for them: {'; '.join(extents(results))}.")
        return section
    names = list(dict.fromkeys([*DEV, *(line.quantity for line in every)]))
    for name in sorted(names, key=lambda name: (name not in DEV, name == "test")):
        there = {line.cell: line for line in every if line.quantity == name}
        tasks = {cell.task for cell in there}
        shown = [there.get(result.cell) or Line(result, name, ()) for result in results if result.cell.task in tasks]
        section.tables.append(_scores(name, shown))
    return section


def extents(results: Sequence[Result]) -> list[str]:
    """The cells of a table and model in few words: tasks that share their rows and points, in one text."""
    rows: dict[str, dict[str, list[str]]] = {}
    for cell in (result.cell for result in results):
        points = rows.setdefault(cell.task, {}).setdefault(cell.row, [])
        if cell.point:
            points.append(str(cell.point[1]))
    tasks: dict[str, list[str]] = {}
    for task, by_row in rows.items():
        by_points: dict[str, list[str]] = {}
        for row, points in by_row.items():
            by_points.setdefault(", ".join(points), []).append(row)
        said = [listed(names) + (f" at {points}" if points else "") for points, names in by_points.items()]
        tasks.setdefault("; ".join(said), []).append(task)
    return [f"{listed(names)}: {said}" for said, names in tasks.items()]


def _scores(quantity: str, every: list[Line]) -> Table:
    """Rows by methods, columns by tasks: ours, and where something is published for the task, that and Δ."""
    tasks = list(dict.fromkeys(line.cell.task for line in every))
    known = {line.cell.task for line in every if line.published}
    places = dict.fromkeys((line.cell.row, line.cell.point) for line in every)
    by_place = {(line.cell.row, line.cell.point, line.cell.task): line for line in every}
    swept = next((line.cell.point[0] for line in every if line.cell.point), None)
    footnotes: dict[str, int] = {}
    columns = [Column("row"), *([Column(swept)] if swept else [])]
    for task in tasks:
        columns += [Column(label, task) for label in (("published", "ours", "Δ") if task in known else ("ours",))]
    rows = []
    for row, point in places:
        texts = [row, *([str(point[1])] if point else [])]
        for task in tasks:
            line = by_place[row, point, task]
            texts += [_published(line, footnotes), _ours(line), _delta(line)] if task in known else [_ours(line)]
        rows.append(texts)
    notes = _notes(quantity, every, footnotes)
    if len(known) < len(tasks):
        notes.append(f"Nothing is published for {listed(task for task in tasks if task not in known)}.")
    return Table(NAMES.get(quantity, quantity), columns, rows, notes)


def _published(line: Line, footnotes: dict[str, int]) -> str:
    if not line.published:
        return NONE
    main, *others = line.published
    said = "; ".join([_conditions(main), *(f"for {line.cell.task} also {_also(row)}" for row in others)])
    return f"{number(float(main['value']))} [{footnotes.setdefault(said, len(footnotes) + 1)}]"


def _conditions(row: dict[str, str]) -> str:
    seed = f"seed {row['seed']}" if row["seed"] else "seeds not said"
    return ", ".join([row["source"], row["split"], row["selection"], seed, *([row["note"]] if row["note"] else [])])


def _also(row: dict[str, str]) -> str:
    return f"{row['value']} ({_conditions(row)})"


def _ours(line: Line) -> str:
    if line.ours is None:
        return line.state + line.marks
    planned = len(line.cell.seeds)
    n = f"{line.ours.n}" if line.ours.n == planned else f"{line.ours.n} of {planned}"
    spread = "" if line.ours.std is None else f" ± {number(line.ours.std)}"
    return f"{number(line.ours.mean)}{spread} ({n}){line.marks}"


def _delta(line: Line) -> str:
    if line.delta is None:
        return NOT_APPLICABLE
    delta = number(line.delta, sign=True)
    if line.tolerance is None:
        return f"{delta} (one seed: no tolerance)"
    return f"{delta} ({'within' if line.within else 'beyond'} ±{number(line.tolerance)})"


def _notes(quantity: str, every: list[Line], footnotes: dict[str, int]) -> list[str]:
    meaning = MEANINGS.get(quantity, f"The further split {quantity}, at the best dev epoch: it selects nothing")
    splits = {line.cell.task: _split(line) for line in every}
    splits |= {line.cell.task: _split(line) for line in every if line.ours}
    metrics = dict.fromkeys(line.metric for line in every)
    tasks = {name: listed(line.cell.task for line in every if line.metric == name) for name in metrics}
    notes = [
        f"{meaning}. Percent: {'; '.join(f'{METRICS[name]} on {on}' for name, on in tasks.items())}.",
        f"Examples: {', '.join(splits.values())}.",
    ]
    if any(line.ours for line in every):
        notes.append("ours: mean ± sample standard deviation (number of seeds).")
    if any(line.delta is not None for line in every):
        notes.append(f"{TOLERANCE}.")
    notes += [f"[{place}] {text}" for text, place in footnotes.items()]
    return notes + _signs("".join(line.marks for line in every))


def _split(line: Line) -> str:
    if line.examples is None:
        return f"{line.cell.task} not known here"
    weight = f" (one = {line.one_example:.2f} points)" if line.one_example else ""
    return f"{line.cell.task} {line.examples}{weight}"


def _signs(found: str) -> list[str]:
    return [f"{sign} {text}." for sign, text in SIGNS.items() if sign in found]


def _selection(results: Iterable[Result]) -> list[Section]:
    """What selecting the epoch on dev does, to ours and to the published numbers."""
    rows = []
    for result in results:
        every = {line.quantity: line for line in lines([result])}
        best, last = (every[name] for name in DEV)
        further = [line for name, line in every.items() if name not in DEV and line.ours]
        released = [(a, b) for a in best.published for b in last.published if _of_one_run(a, b)]
        said = [NONE] * 3
        if released:
            highest, final = (float(row["value"]) for row in released[0])
            said = [number(highest), number(final), number(highest - final, sign=True)]
        ours = [best.state] * 3
        if best.ours and last.ours:
            gaps = summary([score - last.scores[seed] for seed, score in best.scores.items()])
            spread = "" if gaps.std is None else f" ± {number(gaps.std)}"
            ours = [number(best.ours.mean), number(last.ours.mean), f"{number(gaps.mean, sign=True)}{spread}"]
        if released or best.ours:
            others = ", ".join(f"{line.quantity} {number(line.ours.mean)}" for line in further if line.ours)
            rows.append([*_place(result), *said, *ours, others or NONE])
    if not rows:
        return []
    labels = ("best dev", "last epoch", "best − last")
    columns = [
        *(Column(label) for label in ("model", "task", "row")),
        *(Column(label, group) for group in ("published", "ours") for label in labels),
        Column("at the best dev epoch", "ours"),
    ]
    notes = [
        "best − last: what reporting the maximum over epochs adds, on the split that it was selected on; ours is its "
        "mean ± sample standard deviation over seeds. The last column is of splits that selected nothing.",
    ]
    return [Section("What selecting on dev does", tables=[Table("Best and last epoch", columns, rows, notes)])]


def _of_one_run(one: dict[str, str], other: dict[str, str]) -> bool:
    return all(one[name] == other[name] for name in ("source", "seed"))


def _significance(found: Sequence[Comparison]) -> list[Section]:
    if not found:
        return []
    by_t = holm([comparison.over_seeds.p for comparison in found])
    by_bootstrap = holm([comparison.over_examples.p if comparison.over_examples else None for comparison in found])
    rows = []
    for comparison, t, boot in zip(found, by_t, by_bootstrap, strict=True):
        cell, seeds, examples = comparison.first.cell, comparison.over_seeds, comparison.over_examples
        assert seeds.difference is not None
        row = [cell.model, cell.task, comparison.label, comparison.quantity, str(seeds.n)]
        row.append(number(seeds.difference, sign=True))
        row += ["identical"] * 2 if seeds.identical else [p_value(seeds.p), p_value(t)]
        if examples is None:
            row += ["other data"] * 3
        elif examples.identical:
            row += ["identical"] * 3
        else:
            mean, low, high = (number(100 * x, sign=True) for x in (examples.difference, examples.low, examples.high))
            row += [f"{mean} [{low}, {high}] {_measure(cell.task, examples.kind)}", p_value(examples.p), p_value(boot)]
        exact = comparison.mcnemar
        rows.append([*row, ", ".join(map(p_value, exact)) if exact else NOT_APPLICABLE])
    columns = [
        *(Column(label) for label in ("model", "task", "difference", "of")),
        *(Column(label, "over seeds") for label in ("n", "mean", "p", "p (Holm)")),
        *(Column(label, "over examples") for label in (f"{CONFIDENCE:.0%} interval", "p", "p (Holm)", "McNemar p")),
    ]
    fewest = min(comparison.over_seeds.n for comparison in found)
    most = max(comparison.over_seeds.n for comparison in found)
    span = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    notes = [
        f"Compared: {RULE}.",
        "Of test where both have it, else of held_out or another split that selected nothing, else of best_dev.",
        f"Over seeds: the paired t-test on equal seeds (scipy.stats.ttest_rel), with {span} of them: a test of so few "
        "has little power, and a large p says little. n/a: one seed, or one and the same difference at every seed.",
        f"Over examples: the paired percentile bootstrap (scipy.stats.bootstrap, {RESAMPLES} resamples, a fixed seed) "
        "of the difference of the seed-averaged scores, for these runs: what other seeds would do is not in it. A mean "
        "of terms (correlations) is resampled with the standard scores that it has in the whole split.",
        "McNemar: the exact test on right and wrong classes (scipy.stats.binomtest), a p for each seed, not corrected.",
        f"Number of comparisons in this table: {len(found)}. For each of the two tests p (Holm) is corrected for that.",
        "identical: the same score at every seed, or the same outcome on every example. other data: the runs did not "
        "see the same examples.",
    ]
    return [Section("Differences between rows", tables=[Table("Paired tests", columns, rows, notes)])]


def _measure(task: str, kind: str) -> str:
    return METRICS[headline(task)] if kind == "mean" else METRICS[kind]


def _learning_rates(results: Sequence[Result]) -> list[Section]:
    tried = [result for result in results if any(result.trials.values())]
    rows = []
    for result in tried:
        scores = []
        for rate, run in result.trials.items():
            if run is not None:
                best = run.record["metrics"]["best_dev"]
                word = (
                    "diverged"
                    if run.record["status"] == "diverged"
                    else number(100 * best)
                    if best is not None
                    else NONE
                )
            else:
                word = "failed" if (result.cell.seeds[0], rate) in result.failures else "not run"
            scores.append(f"{rate:g}: {word}")
        chosen = "not all tried" if result.learning_rate is None else f"{result.learning_rate:g}"
        rows.append([*_place(result), chosen, ", ".join(scores)])
    if not rows:
        return []
    columns = [Column(label) for label in ("model", "task", "row", "chosen", "best dev of each")]
    notes = ["Tried with the first seed; the best dev score chooses, the first of equals. One that diverged is out."]
    return [Section("Learning rates", tables=[Table("Chosen of the candidates", columns, rows, notes)])]


def _costs(results: list[Result]) -> list[Section]:
    rows, machines = [], dict[str, int]()
    for result in results:
        took = cost(result.done.values())
        assert took is not None
        spread = "" if took.seconds.std is None else f" ± {number(took.seconds.std, 0)}"
        rows.append(
            [
                *_place(result),
                f"{took.parameters:,}",
                f"{number(took.seconds.mean, 0)}{spread} ({took.seconds.n})",
                f"{took.memory / 2**20:,.0f}",
                "none" if took.adapter is None else f"{took.adapter / 2**20:,.2f}",
                f"[{machines.setdefault(took.hardware, len(machines) + 1)}]" + marks(result),
            ]
        )
    if not rows:
        return []
    labels = ("model", "task", "row", "trained numbers", "seconds", "peak memory, MiB", "adapter, MiB", "on")
    notes = [
        "seconds: a run from its first step to its last score, mean ± sample standard deviation (runs), with whatever "
        "else the machine did meanwhile: a cost, no benchmark. Peak memory: "
        "of the accelerator where there is one, else of the whole process; the largest of the runs.",
        *(f"[{place}] {machine}." for machine, place in machines.items()),
        *_signs("".join(row[-1] for row in rows)),
    ]
    return [Section("Cost", tables=[Table("What a run takes", [Column(label) for label in labels], rows, notes)])]


def _place(result: Result) -> list[str]:
    cell = result.cell
    return [cell.model, cell.task, cell.row + (f", {cell.point[0]} {cell.point[1]}" if cell.point else "")]

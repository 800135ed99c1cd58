"""The text of `results/README.md`: what was run and what not, how to read it, and what published numbers are."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePath

from spt.grid.match_records import Finished, Result
from spt.paths import CONF, REPOSITORY
from spt.report.comparisons import RULE, Comparison
from spt.report.markup import Column, Table, bullets, listed, markdown_table, wrapped
from spt.report.measured import hardware, headline, published_for
from spt.report.published import COMPARES_WITH, CURVES, NUMBERS, read_numbers
from spt.report.tables import TOLERANCE, extents, number

USUAL = ["cpu", "paper"]

STATES = ("done", "partly", "failed", "config changed", "not run")

RELEASED = frozenset({"authors-release@a7b9e97", "P-tuning-v2-README@b1520c9"})

PRINTED = (
    " **The printed paper's own table is not among them**: they are of the authors' released runs and of the README of "
    "P-tuning v2."
)


def readme(
    titles: dict[str, str],
    profiles: Sequence[str],
    results: Sequence[Result],
    compared: dict[str, list[Comparison]],
    figures: Sequence[str],
) -> str:
    """The README of a folder of results.

    Args:
        titles: of the tables, by name.
        profiles: whose cells these are.
        results: of all cells.
        compared: the comparisons of each table.
        figures: the names of the figures' files.
    """
    parts = [
        "# Results",
        wrapped(
            "Made by `python -m spt.report` from the records in `records/` and the published numbers in `reference/`: "
            "a change goes there, not here. Scores are in percent."
            + ("" if compared_with_published(results) else " **No published number has a run beside it yet.**")
        ),
        *_tables(titles, results),
        *_findings(titles, compared),
        *_figures(figures),
        *_run(titles, results),
        *_not_run(results),
        *_changed(results),
        *_again(titles, profiles, results),
        *_rules(),
    ]
    if any(published_for(result.cell) for result in results):
        parts += _deviations(results)
    return "\n\n".join(parts) + "\n"


def compared_with_published(results: Iterable[Result]) -> bool:
    """Whether any cell has both a run and a published number."""
    return any(result.done and published_for(result.cell) for result in results)


def _tables(titles: dict[str, str], results: Sequence[Result]) -> list[str]:
    rows = []
    for name, title in titles.items():
        own = [result for result in results if result.cell.table == name]
        states = Counter(result.state for result in own)
        words = ", ".join(f"{states[word]} {word}" for word in STATES if states[word])
        files = ", ".join(f"[{kind}](tables/{name}.{kind})" for kind in ("md", "tex", "csv"))
        rows.append([title, files, words, str(sum(bool(published_for(result.cell)) for result in own))])
    columns = [Column(label) for label in ("table", "files", "cells", "cells with a published number")]
    return ["## Tables", markdown_table(Table("", columns, rows))]


def _findings(titles: dict[str, str], compared: dict[str, list[Comparison]]) -> list[str]:
    rows = []
    for name, title in titles.items():
        tally: dict[str, list[int]] = {}
        for comparison in compared[name]:
            found = comparison.over_examples
            if found is None or {comparison.first.state, comparison.second.state} != {"done"}:
                continue
            counts = tally.setdefault(f"{comparison.first.cell.model}: {comparison.label}", [0, 0, 0])
            counts[0] += found.low > 0
            counts[1] += found.high < 0
            counts[2] += 1
        rows += [
            [title, label, *(f"{n} of {of}" for n in (higher, lower))] for label, (higher, lower, of) in tally.items()
        ]
    if not rows:
        return []
    text = (
        "On how many tasks the 95 % interval of the difference (paired bootstrap over examples, not corrected for the "
        "number of comparisons; the tables have the corrected p) lies above 0, and on how many below. An interval "
        "with 0 in it shows no difference, and does not show that there is none. Of cells with all their seeds; the "
        "tables of each heading have the differences themselves."
    )
    columns = [Column(label) for label in ("table", "difference", "above 0 on", "below 0 on")]
    return ["## What the differences say", wrapped(text), markdown_table(Table("", columns, rows))]


def _figures(names: Iterable[str]) -> list[str]:
    drawn = [name for name in names if name.endswith(".svg")]
    if not drawn:
        return []
    links = [f"![{PurePath(name).stem.replace('.', ' ')}](figures/{name})" for name in drawn]
    return ["## Figures", "Each is there as PNG too.", *links]


def _run(titles: dict[str, str], results: Sequence[Result]) -> list[str]:
    rows = []
    for name, title in titles.items():
        own = [result for result in results if result.cell.table == name]
        runs = _runs(own)
        if runs:
            seconds = sum(run.record["wall_seconds"] for run in runs.values())
            rows.append(
                [
                    *(title, f"{sum(result.state == 'done' for result in own)} of {len(own)}", str(len(runs))),
                    listed(str(seed) for seed in sorted({run.record["seed"] for run in runs.values()})),
                    listed(sorted({run.record["model"] for run in runs.values()})),
                    f"{seconds / 3600:.2f}",
                ]
            )
    runs = _runs(results)
    if not runs:
        return ["## What was run", "Nothing yet: the tables hold what is published, and words."]
    records = [run.record for run in runs.values()]
    commits = Counter(_commit(run) for run in runs.values())
    packages = list(dict.fromkeys(name for record in records for name in record["versions"]))
    versions = {name: sorted({str(record["versions"].get(name, "none")) for record in records}) for name in packages}
    columns = [Column(label) for label in ("table", "cells done", "runs", "seeds", "models", "hours")]
    seconds = sum(record["wall_seconds"] for record in records)
    said = [
        f"{len(runs)} runs in all, {seconds / 3600:.2f} hours; a run may "
        "stand in several tables. Runs that tried a learning rate are among them.",
        f"On: {'; '.join(sorted({hardware(record) for record in records}))}.",
        f"Commits: {', '.join(f'{name} ({count} runs)' for name, count in sorted(commits.items()))}.",
        f"Versions: {', '.join(f'{name} {listed(found)}' for name, found in versions.items())}.",
    ]
    if any(record["model"] == "demo" for record in records):
        said.append("`demo` is the embedded demo: its numbers say nothing about the methods.")
    return ["## What was run", markdown_table(Table("", columns, rows)), bullets(said)]


def _runs(results: Iterable[Result]) -> dict[str, Finished]:
    """All runs of cells, tries of learning rates too, by the names of their folders."""
    runs = [run for result in results for run in result.finished]
    return {run.folder.name: run for run in sorted(runs, key=lambda run: run.folder.name)}


def _commit(run: Finished) -> str:
    git = run.record["git"]
    return f"{(git['commit'] or 'no repository')[:12]}{', uncommitted changes' if git['dirty'] else ''}"


def _not_run(results: Sequence[Result]) -> list[str]:
    found: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        state = result.state
        if state == "not run" and any(result.trials.values()):
            tried = sum(run is not None for run in result.trials.values())
            state = f"not run, but {tried} of {len(result.trials)} learning rates tried"
        if state == "partly":
            state = f"{len(result.done)} of {len(result.cell.seeds)} seeds"
        if state != "done":
            found.setdefault((state, result.cell.table, result.cell.model), []).append(result)
    if not found:
        return ["## What was not run", "All cells are done."]
    entries = [
        f"{state}: {table}, {model}: {text}" for (state, table, model), own in found.items() for text in extents(own)
    ]
    failures = [
        f"`{result.cell.name}`, seed {seed}{'' if rate is None else f', learning rate {rate:g}'}: {error}"
        for result in results
        for (seed, rate), error in result.failures.items()
    ]
    failed = ["What failed said:", bullets(failures)] if failures else []
    return ["## What was not run", bullets(sorted(entries)), *failed]


def _changed(results: Sequence[Result]) -> list[str]:
    entries = [
        f"`{result.cell.name}`: `{run.folder.name}`, {'; '.join(said)}"
        for result in results
        for run, said in result.changed
    ]
    if not entries:
        return []
    text = (
        "Records that no cell takes any more, because of their settings, beside the cell that they differ least from."
    )
    return ["## Whose config has changed since", wrapped(text), bullets(entries)]


def _again(titles: Iterable[str], profiles: Sequence[str], results: Sequence[Result]) -> list[str]:
    choices = []
    if sorted(titles) != sorted(path.stem for path in (CONF / "table").glob("*.yaml")):
        choices.append(f"'table=[{','.join(titles)}]'")
    if profiles != USUAL:
        choices.append(f"'profile=[{','.join(profiles)}]'")
    command = " ".join(["python -m spt.report", *choices, *(["results_dir=..."] if choices else [])])
    name = next((result.cell.name for result in results if result.done), results[0].cell.name if results else "")
    return [
        "## Again, and where a number comes from",
        f"    {command}\n    {command} cell={name}",
        wrapped(
            "The first writes these files again, byte for byte, with the versions in `requirements.txt`. The second "
            "tells of a cell (the column `cell` of the CSV files; a run's folder in `records/` is in `runs`) its runs, "
            "each with command, commit, data fingerprint, hardware and versions, or the commands that would make it. "
            "`python -m spt.reproduce` makes what is missing."
        ),
    ]


def _rules() -> list[str]:
    rules = [
        "best dev, last epoch and test or held-out scores stand in tables of their own. Best dev is the maximum over "
        "epochs on the split that selects, so it flatters. The gap between it and test or held_out mixes that effect "
        "with that of other examples.",
        "ours is mean ± sample standard deviation over seeds (n).",
        f"{TOLERANCE}.",
        f"Paired tests: {RULE}. Over seeds a paired t-test, over examples a paired bootstrap of the seed-averaged "
        "score with a 95 % percentile interval, McNemar's exact test for each seed. Holm's correction is over all "
        "comparisons of a table, for each test by itself. With three or five seeds a t-test sees only what is large.",
        "The learning rate is chosen with the first seed, by best dev, where a profile has candidates; that seed's run "
        "is among those of the cell. The ablation and the sweeps choose none: they run with the method's default, or "
        "the recipe's.",
        "† marks a mean with a collapsed run among its runs: one that gives every example the same class. It counts.",
        "¶ marks runs of another version of the numerics than this one: the same command may give other numbers now. "
        "`cell=` names both versions.",
        "A word stands where there is no number: not run, published only (not run, but published), partly (some seeds "
        "are missing), config changed (run with settings that are not the cell's now), failed, diverged, none (nothing "
        "published), n/a (no test can be made), identical (the same outcome for every example).",
    ]
    return ["## How to read it", bullets(rules)]


def _deviations(results: Sequence[Result]) -> list[str]:
    rows = read_numbers(NUMBERS)
    values: dict[tuple[str, ...], dict[str, float]] = {}
    for row in rows:
        if row["split"] == "validation":
            cell = (row["source"], row["task"], row["model"], row["method"], row["seed"])
            values.setdefault(cell, {})[COMPARES_WITH[row["split"], row["selection"]]] = float(row["value"])
    gaps = {cell: found for cell, found in values.items() if len(found) == 2}
    largest = sorted(gaps, key=lambda cell: (gaps[cell]["last_dev"] - gaps[cell]["best_dev"], cell))[:3]
    worst = ", ".join(
        f"{task} on {model} {number(gaps[cell]['best_dev'])} best, {number(gaps[cell]['last_dev'])} last"
        for cell in largest
        for _, task, model, *_ in [cell]
    )
    mean = sum(found["best_dev"] - found["last_dev"] for found in gaps.values()) / len(gaps)
    sources = dict.fromkeys(row["source"] for row in rows)
    seeds = [f"{source}: {_seeds([row for row in rows if row['source'] == source])}" for source in sources]
    notes: dict[str, list[str]] = {}
    for row in rows:
        if row["note"]:
            cells = notes.setdefault(row["note"], [])
            cells += [name for name in [f"{row['task']} on {row['model']}"] if name not in cells]
    shown = {(row["task"], row["model"], row["method"]) for result in results for row in published_for(result.cell)}
    unseen = [
        row
        for row in rows
        if (row["task"], row["model"], row["method"]) not in shown or row["metric"] != headline(row["task"])
    ]
    curves = len(list(CURVES.glob("*.csv")))
    said = [
        f"`{NUMBERS.relative_to(REPOSITORY)}` has {len(rows)} numbers, each with its source, split, what selected the "
        f"epoch, and seed where it is known: {listed(sources)}. {_unseen(len(unseen))}. Rows "
        f"can be added; the columns are checked.{PRINTED if RELEASED.issuperset(sources) else ''}",
        f"`{CURVES.relative_to(REPOSITORY)}` has the dev scores of each epoch of {curves} of the authors' released "
        "runs (authors-release@a7b9e97), as they are.",
        "**Dev-selected maxima.** The released SuperGLUE numbers are the best dev score over epochs; there is no test. "
        f"Where the last epoch is known too ({len(gaps)} runs), best is {number(mean)} points above last on average; "
        f"most for {worst}. NER numbers are of test at the best dev epoch.",
        f"**Single seeds.** Number of cells by seed: {'; '.join(seeds)}.",
        *(f"{listed(cells)}: {note}." for note, cells in notes.items()),
        "A released script passes `hidden_dropout_prob` 0.2 for CoNLL04, which its code never applies: 0.1 is what "
        "ran. The scheduler of NER never steps where gradient accumulation does not divide the steps of an epoch. "
        "Neither is repeated here.",
        "**P-tuning v2 is not SPT without its gate.** It shifts the positions of the text by the prefix length, drops "
        "out value prefixes as well as keys, may compute the prefixes by a small network, and has neither gate nor "
        "selective loss. The row prefix_tuning is run with its published settings where there are some. The row spt is "
        "SPT with the gate and without the selective loss, with the settings published for spt_sl.",
        "**The optimiser.** transformers 4.11's AdamW adds epsilon before the bias correction, torch's after: up to "
        "3e-4 relative in the first steps.",
        "**Batches** are grouped by length and padded to their longest; the published SuperGLUE runs pad to 128.",
        "**Profile cpu** is another encoder (all-MiniLM-L6-v2, which was trained further to embed sentences, on "
        "entailment data among others) on small tasks, with a part of train held out where test has no public labels: "
        "its numbers compare methods with each other, and with nothing published.",
    ]
    return ["## Known deviations", bullets(said)]


def _unseen(count: int) -> str:
    return f"{count} of them stand in no table here" if count else "All of them stand in the tables"


def _seeds(rows: list[dict[str, str]]) -> str:
    cells = {(row["task"], row["model"], row["method"], row["seed"]) for row in rows}
    counts = Counter(cell[-1] for cell in cells)
    return ", ".join(
        f"{counts[seed]} with seed {seed}" if seed else f"{counts[seed]} do not say" for seed in sorted(counts)
    )

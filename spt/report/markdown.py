"""Pages and tables as GitHub's Markdown."""

from collections.abc import Iterable
from itertools import groupby

from spt.report.table_model import Section, Table


def markdown(title: str, sections: Iterable[Section]) -> str:
    """A page of sections, those that are collapsed in parts that unfold."""
    parts = [f"# {title}"]
    for is_collapsed, group in groupby(sections, key=lambda section: section.is_collapsed):
        own = list(group)
        texts = [part for section in own for part in _section(section)]
        if is_collapsed:
            summary = f"<summary>Not run yet: {', '.join(section.heading for section in own)}</summary>"
            texts = [f"<details>\n{summary}", *texts, "</details>"]
        parts += texts
    return "\n\n".join(parts) + "\n"


def _section(section: Section) -> Iterable[str]:
    yield f"## {section.heading}"
    yield from section.text
    for table in section.tables:
        yield f"### {table.title}"
        yield markdown_table(table)
        if table.notes:
            yield "\n".join(f"- {_escaped(note)}" for note in table.notes)


def markdown_table(table: Table) -> str:
    """A table without its title and notes."""
    heading = [f"{column.group} {column.label}".strip() for column in table.columns]
    rows = [heading, ["---"] * len(heading), *table.rows]
    return "\n".join(f"| {' | '.join(map(_escaped, row))} |" for row in rows)


def _escaped(text: str) -> str:
    return text.replace("|", r"\|").replace("*", r"\*").replace("<", "&lt;")

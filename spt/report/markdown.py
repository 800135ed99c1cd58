"""Pages and tables as GitHub's Markdown."""

from collections.abc import Iterable

from spt.report.render_templates import wrapped
from spt.report.table_model import Section, Table


def markdown(title: str, sections: Iterable[Section]) -> str:
    """A page of sections."""
    parts = [f"# {title}"]
    for section in sections:
        parts += [f"## {section.heading}", *map(wrapped, section.text)]
        for table in section.tables:
            parts += [f"### {table.title}", markdown_table(table)]
            if table.notes:
                parts.append("\n".join(wrapped(_escaped(note), "- ") for note in table.notes))
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """A table without its title and notes."""
    heading = [f"{column.group} {column.label}".strip() for column in table.columns]
    rows = [heading, ["---"] * len(heading), *table.rows]
    return "\n".join(f"| {' | '.join(map(_escaped, row))} |" for row in rows)


def _escaped(text: str) -> str:
    return text.replace("|", r"\|").replace("*", r"\*").replace("<", "&lt;")

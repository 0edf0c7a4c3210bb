"""Tables as text for a terminal of a given width, Markdown, HTML and CSV."""

import csv
import html
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

Cells = tuple[str, ...]
NAMES, TEXT = 24, 40  # characters of a name, and of other text, before it is wrapped
FEWEST = 8  # characters of a name beside figures that leave no more


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table whose first column has names.

    Args:
        headings: names of the columns.
        rows: the cells of each line.
        title: what is above it.
        notes: sentences below it.
        figures: columns whose cells are printed on one line, whole, at any width.
        optional: columns that are left out where the width does not suffice, the first one first.
    """

    headings: Cells
    rows: Sequence[Cells]
    title: str = ""
    notes: Sequence[str] = ()
    figures: Sequence[str] = ()
    optional: Sequence[str] = field(default=())

    def column(self, heading: str) -> list[str]:
        """Returns the cells of a column."""
        index = self.headings.index(heading)
        return [row[index] for row in self.rows]

    def without(self, dropped: Sequence[str]) -> "Table":
        """Returns a table without some columns."""
        kept = [index for index, heading in enumerate(self.headings) if heading not in dropped]
        rows = [tuple(row[index] for index in kept) for row in self.rows]
        return replace(self, headings=tuple(self.headings[index] for index in kept), rows=rows)

    def least_width(self, heading: str) -> int:
        """Returns the least width of a column, that of its longest figure; text is wrapped at `TEXT` characters."""
        cells = [*heading.split(), *self.column(heading)]
        if heading == self.headings[0]:
            return min(max(map(len, cells)), NAMES)
        if heading not in self.figures:
            longest_word = max((len(word) for cell in cells for word in cell.split()), default=0)
            return max(longest_word, min(TEXT, max(map(len, cells), default=0)))
        return max(map(len, cells), default=0)

    def fitted(self, width: int) -> tuple["Table", list[str]]:
        """Returns the table without optional columns for which a width does not suffice, and the names of these."""
        optional, dropped = [each for each in self.optional if each in self.headings], list[str]()
        while optional:
            kept = self.without(dropped).headings
            if sum(map(self.least_width, kept)) + 2 * (len(kept) - 1) <= width:
                break
            dropped.append(optional.pop(0))
        return self.without(dropped), [each for each in self.headings if each in dropped]

    def widths(self, width: int) -> list[int | None]:
        """Returns the width of each column, None for text; names give way to figures where the whole is narrow."""
        rest = self.headings[1:]
        left = width - sum(map(self.least_width, rest)) - 2 * len(rest)
        names = max(map(len, [self.headings[0], *self.column(self.headings[0])]))
        least = min(names, NAMES if set(rest) - set(self.figures) else FEWEST)  # text may be wrapped, figures may not
        figures = [self.least_width(each) if each in self.figures else None for each in rest]
        return [max(least, min(names, left)), *figures]

    def markdown(self) -> str:
        """Returns a Markdown table, with title and notes."""
        table = markdown(self.headings, self.rows)
        return "\n\n".join([*([f"**{self.title}**"] if self.title else []), table, *self.notes])

    def html(self) -> str:
        """Returns an HTML table, with title and notes."""
        lines = [*([f"<p><b>{html.escape(self.title)}</b></p>"] if self.title else []), "<table>"]
        for kind, cells in [("th", self.headings), *(("td", row) for row in self.rows)]:
            lines.append(f"<tr>{''.join(f'<{kind}>{html.escape(cell)}</{kind}>' for cell in cells)}</tr>")
        return "\n".join([*lines, "</table>", *(f"<p>{html.escape(note)}</p>" for note in self.notes)])


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


Record = Mapping[str, object]


def json_text(records: Record | Sequence[Record]) -> str:
    """Returns records as indented JSON."""
    return json.dumps(records, indent=1, ensure_ascii=False, allow_nan=False)


def csv_text(records: Sequence[Record]) -> str:
    """Returns records as CSV with one header; nested keys are joined by dots, and lists by spaces."""
    flat = [dict(flattened(record)) for record in records]
    headings = list(dict.fromkeys(key for line in flat for key in line))
    out = io.StringIO()
    writer = csv.DictWriter(out, headings, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue().removesuffix("\n")


def flattened(record: Record, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yields the values of a record with nested keys joined by dots."""
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", " ".join(map(str, value)) if isinstance(value, list | tuple) else value

"""Series of runs over seeds: finished runs are lines of a file and are not made again."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


def completed(
    path: Path,
    wanted: Sequence[tuple[str, int]],
    setting: Mapping[str, object],
    run: Callable[[str, int], Mapping[str, object]],
) -> list[dict[str, object]]:
    """Returns a line for each of the `wanted` (row, seed): that of `path` with an equal `setting`, or that of `run`."""
    text = path.read_text() if path.exists() else ""
    lines = [line for line in map(json.loads, text.splitlines()) if {key: line.get(key) for key in setting} == setting]
    for row, seed in wanted:
        if any((line["row"], line["seed"]) == (row, seed) for line in lines):
            continue
        lines.append({**run(row, seed), "row": row, "seed": seed, **setting})
        with path.open("a") as file:
            file.write(json.dumps(lines[-1]) + "\n")
        print(json.dumps(lines[-1]), flush=True)
    return [line for line in lines if (line["row"], line["seed"]) in wanted]


def table(lines: Sequence[Mapping[str, object]], figures: Mapping[str, tuple[str, int]]) -> str:
    """Returns mean and spread over seeds of each row, Markdown; `figures` has the heading and digits of each key."""
    rows = [["", "seeds", *(heading for heading, _ in figures.values())], ["---"] * (2 + len(figures))]
    for row in dict.fromkeys(str(line["row"]) for line in lines):
        own = [line for line in lines if line["row"] == row]
        cells = [spread([line[key] for line in own], digits) for key, (_, digits) in figures.items()]
        rows.append([f"`{row}`", str(len(own)), *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def spread(values: Sequence[object], digits: int) -> str:
    """Returns "mean ± standard deviation over seeds", the value alone if all are equal, or "–" if one is missing."""
    if any(value is None for value in values):
        return "–"
    numbers = [float(str(value)) for value in values]
    mean = f"{statistics.mean(numbers):,.{digits}f}"
    return f"{mean} ± {statistics.stdev(numbers):,.{digits}f}" if len(set(numbers)) > 1 else mean

"""The leaderboard: its rows are those of the index, the cards and the tables of the documentation."""

import json
import re
import shlex
from pathlib import Path

import pytest

import vaezoo
from vaezoo.cli.app import app
from vaezoo.errors import ConfigError
from vaezoo.evaluation.measurement_settings import MeasurementSettings
from vaezoo.storage.json_files import seal
from vaezoo.workflows import leaderboard as module
from vaezoo.workflows.leaderboard import leaderboard, text, training_seconds
from vaezoo.zoo.index import PACKAGE_FOLDER, bundled_models, parse_index, read_index

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "leaderboard": ROOT / "benchmarks" / "leaderboard.json",
    "tables": ROOT / "docs" / "reference" / "models.md",
    "index": PACKAGE_FOLDER / "index.json",
    "card": PACKAGE_FOLDER / "vae-mnist" / "README.md",
    "metrics": PACKAGE_FOLDER / "vae-mnist" / "metrics.json",
}
#: figure -> label in cards, heading in tables
SHOWN = {
    "bound": ("bound, nats", "bound"),
    "log_evidence": ("log-evidence", "log-evidence (K)"),
    "psnr": ("PSNR, dB", "PSNR"),
    "parameters": ("parameters", "parameters"),
}


def shown(row: dict) -> str:
    """Returns a value as cards and tables show it."""
    if isinstance(row["value"], int):
        return f"{row['value']:,}"
    return f"{row['value']:.2f}" + (f" ± {row['error']:.2f}" if "error" in row else "")


def cells_of(line: str) -> list[str]:
    return [each.strip() for each in line.strip().strip("|").split("|")]


def table_of(page: str) -> dict[str, dict[str, str]]:
    """Returns model -> heading -> cell of all tables of a page."""
    found, headings = {}, []
    for line in page.splitlines():
        if line.startswith("| model |"):
            headings = cells_of(line)
        elif line.startswith("| ") and headings and "---" not in line:
            found[cells_of(line)[0]] = dict(zip(headings, cells_of(line), strict=True))
    return found


def disagreements(texts: dict[str, str]) -> list[str]:
    """Returns what differs between the rows of the leaderboard and index, `metrics.json`, card and table."""
    rows = json.loads(texts["leaderboard"])
    index, tables = parse_index(texts["index"].encode()), table_of(texts["tables"])
    found = [] if rows == leaderboard() else ["Run: python -m vaezoo.workflows.leaderboard benchmarks/leaderboard.json"]
    found += [f"models: {each}" for each in {row["model"] for row in rows} ^ set(index)]
    for name in {row["model"] for row in rows} & set(index):
        folder = PACKAGE_FOLDER / name
        card = texts["card"] if name == "vae-mnist" else (folder / "README.md").read_text()
        stored = json.loads(texts["metrics"] if name == "vae-mnist" else (folder / "metrics.json").read_text())
        lines = dict(cells_of(line)[:2] for line in card.splitlines() if line.startswith("| "))
        for row in (row for row in rows if row["model"] == name):
            figure = row["figure"]
            value = {"mean": row["value"], "error": row["error"]} if "error" in row else row["value"]
            known = [stored[figure], index[name]["metrics"][figure]]
            if any(each != value for each in known):
                found.append(f"{name} {figure}: {known} in the package")
            if figure in SHOWN:
                label, heading = SHOWN[figure]
                label += f" (K = {row['samples']}), nats" if figure == "log_evidence" else ""
                wanted = shown(row)
                if lines.get(label) != wanted:
                    found.append(f"{name} {figure}: {lines.get(label)} in the card")
                wanted += f" ({row['samples']})" if figure == "log_evidence" else ""
                if tables.get(name, {}).get(heading) != wanted:
                    found.append(f"{name} {figure}: {tables.get(name, {}).get(heading)} in the table, not {wanted}")
    return found


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    return {key: path.read_text(encoding="utf-8") for key, path in FILES.items()}


def test_cards_index_tables_and_leaderboard_have_the_same_figures(texts: dict[str, str]) -> None:
    assert disagreements(texts) == []
    assert FILES["leaderboard"].read_text() == text()
    assert {row["model"] for row in json.loads(texts["leaderboard"])} >= set(bundled_models())


@pytest.mark.parametrize("place", FILES)
def test_a_changed_figure_in_any_of_them_is_found(place: str, texts: dict[str, str]) -> None:
    figures = read_index()["vae-mnist"]["metrics"]["bound"]
    old = f"{figures['mean']:.2f} ±" if place in ("card", "tables") else repr(figures["mean"])
    assert old in texts[place]
    changed = texts[place].replace(old, old.replace("90.5", "90.4"))
    if place == "index":
        body = {key: value for key, value in json.loads(changed).items() if key != "digest"}
        changed = seal(body).decode()
    assert any("vae-mnist bound" in each for each in disagreements({**texts, place: changed}))


def test_a_row_has_seed_command_digests_and_the_figure_of_the_literature() -> None:
    rows = {row["figure"]: row for row in leaderboard("iwae-mnist")}
    metrics = read_index()["iwae-mnist"]["metrics"]
    evidence = rows["log_evidence"]
    assert (evidence["value"], evidence["error"]) == tuple(metrics["log_evidence"].values())[::-1]
    assert (evidence["seed"], evidence["samples"], evidence["unit"], evidence["measure"]) == (0, 1000, "nats", "mass")
    assert (evidence["published"], evidence["published_samples"]) == (-84.78, 5000)
    assert "arXiv:1509.00519" in evidence["published_in"] and "published" not in rows["bound"]
    assert evidence["recipe_digest"] == vaezoo.read_recipe("iwae-mnist").digest
    assert evidence["weights_digest"] == metrics["weights"] and evidence["initialized_from"] == "vae-gated-mnist"
    assert evidence["command"] == "vaezoo evaluate iwae-mnist --samples 1000" and "samples" not in rows["psnr"]
    (error,) = [row for row in leaderboard("m2-vae-mnist") if row["figure"] == "label_error"]
    assert error["published"] == 0.1197 and error["value"] < 0.06


def test_the_commands_are_valid_and_of_the_recorded_settings() -> None:
    for row in leaderboard():
        program, *words = shlex.split(row["command"])
        command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
        metrics = read_index()[row["model"]]["metrics"]
        given = bound.arguments
        assert (program, command.__name__, given["name"]) == ("vaezoo", "evaluate", row["model"])
        assert given["samples"] == metrics["samples"]
        assert given.get("limit") == (metrics["examples"] if "subset_seed" in metrics else None)


def test_settings_of_other_figures_are_refused_or_stated() -> None:
    known = {"data": "mnist", "samples": 5, "binarization": "none", "examples": 9, "split": "test", "ssim": 0.5}
    assert MeasurementSettings.of(known).limit is None and not MeasurementSettings.of(known).thorough
    chosen = MeasurementSettings.of({**known, "subset_seed": 0, "total_correlation": 1.0})
    assert chosen.command("./a b", "digits") == (
        "vaezoo evaluate './a b' --data mnist --samples 5 --limit 9 --thorough"
    )
    for wrong, message in (
        ({"split": "train"}, "test images"),
        ({"subset_seed": 3}, "seed 3"),
        ({"samples": None}, "do not state samples"),
    ):
        with pytest.raises(ConfigError, match=message):
            MeasurementSettings.of({**known, **wrong})


def test_the_time_of_a_training_includes_that_of_the_weights_it_starts_from(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"vade-mnist": 5, "vamp-vae-mnist": 70, "vae-gated-mnist": 900}
    index = {name: {"metrics": {"training": {"seconds": each}}} for name, each in seconds.items()}
    monkeypatch.setattr(module, "read_index", lambda: index)
    assert training_seconds("vade-mnist") == 975.0 and training_seconds("vae-gated-mnist") == 900.0
    index["vae-gated-mnist"]["metrics"] = {}
    assert training_seconds("vade-mnist") is None and training_seconds("vae-gated-mnist") is None


def test_each_row_is_one_line() -> None:
    lines = text().splitlines()
    assert lines[0] == "[" and lines[-1] == "]" and len(lines) == len(leaderboard()) + 2
    assert all(
        re.match(r'\{"model": "[a-z0-9-]+", "figure": "[a-z_]+", "seed": \d+, "value": ', line) for line in lines[1:-1]
    )

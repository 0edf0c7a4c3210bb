"""The commands: what they print and write, and their errors."""

import csv
import json
import logging
import resource
import subprocess
import sys
import warnings
from pathlib import Path
from unittest.mock import Mock

import pytest

import vaezoo
from vaezoo.cli import main
from vaezoo.cli.app import print_tables
from vaezoo.recipe import list_recipes
from vaezoo.registry import variants as variant_registry
from vaezoo.workflows.tables import Table
from vaezoo.zoo.index import read_index

# Runs of a few steps leave latents inactive.
pytestmark = pytest.mark.filterwarnings("ignore:.*latents are active")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "run"
    with warnings.catch_warnings(action="ignore"):
        assert main(["train", "vae-digits", "train.steps=30", "train.epochs=0", "--out", str(folder)]) == 0
    return folder


def shell(command):
    return subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120, check=False)


def test_help_and_list_import_no_torch():
    lines = ["import sys, vaezoo.cli", "try: vaezoo.cli.main(sys.argv[1:])", "except SystemExit: pass"]
    code = "\n".join([*lines, "assert 'torch' not in sys.modules"])
    commands = ["demo", "list", "show", "train", "evaluate", "sample", "reconstruct", "traverse", "interpolate"]
    for argument, words in (
        ("--help", [*commands, "compare", "convert", "data", "features", "fit-sampler"]),
        ("list", [*read_index()]),
    ):
        done = shell(f'{sys.executable} -c "{code}" {argument}')
        assert done.returncode == 0, done.stderr
        assert all(word in done.stdout for word in words)


@pytest.mark.full
def test_help_and_list_are_quick():
    """Measures processor time, the best of several runs, since other processes share the machine."""
    for argument in ("--help", "list"):
        times = []
        for _ in range(4):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            assert shell(f"{sys.executable} -m vaezoo {argument}").returncode == 0
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert min(times) < 0.7, times


def test_list_and_show(capsys):
    def output(*arguments):
        assert main([*arguments]) == 0
        return capsys.readouterr().out

    variants = output("list", "--variants")
    assert "Minimizes the distortion plus a weighted rate." in variants and "beta-vae-mnist" in variants
    assert not {"$", "\\", "closed form"} & set(variants.split()) and "\\" not in variants
    recipes = output("list", "--recipes", "*digits*")
    assert "vae-digits" in recipes and "vae-mnist" not in recipes and "no weights yet" in recipes
    assert "no weights yet" not in output("list", "--recipes", "beta-vae-mnist")
    assert "beta = 4.0" in output("show", "beta-vae")
    assert "[train]" in output("show", "vae-digits")
    shown = output("show", "beta-vae-mnist")
    assert "nats" in shown and shown.endswith(list_recipes()["beta-vae-mnist"].read_text(encoding="utf-8"))
    assert "\n    D + β R\n" in output("show", "beta-vae") and "R + λ (D - D_target)" in output("show", "geco-vae")
    assert logging.getLogger("vaezoo").isEnabledFor(logging.INFO)
    assert not logging.getLogger("httpx2").isEnabledFor(logging.INFO)


def test_finished_run_is_not_overwritten(run_folder, capsys):
    assert json.loads((run_folder / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 30
    assert main(["train", "vae-digits", "train.steps=30", "train.epochs=0", "--out", str(run_folder)]) == 1
    assert "--resume" in capsys.readouterr().err


def test_evaluate_prints_and_stores_metrics(run_folder, capsys):
    assert main(["evaluate", str(run_folder), "--samples", "5", "--write"]) == 0
    out = capsys.readouterr().out
    assert all(words in out for words in ("log-evidence (K = 5)", "360 test images of digits", "standard error"))
    assert json.loads((run_folder / "metrics.json").read_text())["samples"] == 5
    assert main(["evaluate", str(run_folder)]) == 0
    out = capsys.readouterr().out
    assert (
        "Stored before:" in out
        and "ublished" not in out
        and "perplexity" not in out
        and out.count("log-evidence (K = 5)") == 2
    )


@pytest.mark.parametrize("command", ["sample", "reconstruct", "traverse", "interpolate"])
def test_pictures_are_written(command, run_folder, here):
    assert main([command, str(run_folder)]) == 0
    (picture,) = (here / "pictures").glob("*.png")
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert main([command, str(run_folder), "--seed", "3", "--out", "mine.png"]) == 0 and (here / "mine.png").is_file()
    assert (here / "mine.png").read_bytes() != picture.read_bytes()


def test_sampler_is_fitted_saved_and_used(run_folder, here, capsys):
    assert main(["sample", str(run_folder), "9", "--sampler", "normal"]) == 0
    assert main(["sample", str(run_folder), "9", "--sampler", "normal", "--top-k", "3"]) == 1
    assert "Got a sampler and options of the prior" in capsys.readouterr().err
    assert main(["sample", str(run_folder), "9", "--temperature", "0.5"]) == 0
    assert main(["sample", str(run_folder), "9", "--top-p", "0.5"]) == 1
    assert "has no probabilities of codes" in capsys.readouterr().err
    assert (here / "pictures" / "run-normal-samples.png").exists()
    assert main(["fit-sampler", str(run_folder), "gaussian-mixture", "components=3", "--out", "kept"]) == 0
    assert "kept/samplers/gaussian-mixture" in capsys.readouterr().out
    assert (here / "kept" / "samplers" / "gaussian-mixture" / "density.safetensors").exists()
    assert main(["sample", "./kept", "9", "--sampler", "gaussian-mixture"]) == 0
    assert (here / "pictures" / "kept-gaussian-mixture-samples.png").exists()


def test_the_use_of_codes_is_measured_and_drawn(here, capsys):
    model = vaezoo.create("vq-vae", shape=(1, 8, 8), codes=512, backbone={"name": "conv", "channels": [4]})
    vaezoo.save(model, "codes")
    arguments = ["evaluate", "./codes", "--data", "digits", "--limit", "300", "--samples", "0"]
    assert main([*arguments, "--code-use", "use.png"]) == 0
    out = capsys.readouterr().out
    assert (here / "use.png").read_bytes()[:4] == b"\x89PNG" and "Wrote use.png" in out
    assert "codes in use" in out and "of 512 codes are in use. Fewer codes" in out


def test_disentanglement_is_measured_on_data_with_factors(here, capsys):
    model = vaezoo.create("vae", shape=(1, 64, 64), latent=3, backbone={"name": "mlp", "hidden": [4]})
    vaezoo.save(model, "sprites")
    arguments = ["evaluate", "./sprites", "--disentanglement", "--limit", "400"]
    assert main([*arguments, "--data", "dsprites"]) == 0
    out = capsys.readouterr().out
    assert all(each in out for each in ("MIG", "guessing: 0.200", "correlation, nats", "400 test images of dsprites"))
    assert main([*arguments, "--data", "mnist"]) == 1
    assert "dsprites" in capsys.readouterr().err


def test_compare_prints_a_table_and_writes_it_with_pictures(run_folder, here, capsys):
    arguments = ["compare", str(run_folder), "--variants", "beta-vae", "--data", "digits", "--steps", "10"]
    assert main([*arguments, "--samples", "3", "--limit", "40", "--out", "pics"]) == 0
    out = capsys.readouterr().out
    assert all(words in out for words in ("beta-vae", "40 test examples of digits", "above "))
    files = {path.name for path in (here / "pics").iterdir()}
    assert files == {"comparison.csv", "comparison.json", "comparison.md", "comparison.png", "runs", "samples.png"}
    page = (here / "pics" / "comparison.md").read_text(encoding="utf-8").splitlines()
    assert page[0] == "**digits, 1 × 8 × 8: probability masses**" and page[2].startswith("| model | bound |")
    assert str(run_folder) in page[4] and page[6].startswith("40 test examples")
    assert "**binarized digits, 1 × 8 × 8: probability masses**" in page  # of the variant, trained on binary images
    assert "Wrote pics/comparison.md" in out


def test_a_picture_of_the_same_name_is_replaced_as_the_help_states(here, capsys):
    Path("picture.png").write_text("older")
    assert main(["sample", "vae-mnist", "2", "--out", "picture.png"]) == 0
    assert Path("picture.png").read_bytes().startswith(b"\x89PNG")
    assert main(["sample", "--help"]) == 0
    assert "an older picture is replaced" in " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_compare_trains_with_the_size_and_likelihood_that_are_given(here):
    options = "--data digits --size 6 --likelihood gaussian --steps 2 --samples 0 --limit 20"
    assert main(["compare", "vae", *options.split(), "--out", "found"]) == 0
    (recipe,) = [json.loads(path.read_bytes()) for path in Path("found/runs").glob("*/recipe.json")]
    assert (recipe["data"]["size"], recipe["architecture"]["likelihood"]) == (6, "gaussian")


def test_compare_writes_its_table_without_out_and_prints_records(run_folder, here, capsys):
    arguments = ["compare", str(run_folder), "--data", "digits", "--samples", "3", "--limit", "40"]
    assert main([*arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    (record,) = json.loads(out)
    (folder,) = (here / "comparisons").iterdir()
    assert f"Wrote {folder.relative_to(here)}/comparison.md" in err
    assert record["bound"]["mean"] == json.loads((folder / "comparison.json").read_text())[0]["bound"]["mean"]
    assert main([*arguments, "--csv"]) == 0
    (line,) = csv.DictReader(capsys.readouterr().out.splitlines())
    assert float(line["bound.mean"]) == record["bound"]["mean"] and line["measure"] == "mass"
    assert list((here / "comparisons").iterdir()) == [folder]  # the same call, the same folder
    assert main([*arguments, "--csv", "--json"]) == 1 and "one of them" in capsys.readouterr().err


@pytest.mark.parametrize("width", [80, 100])
def test_main_figures_are_whole_at_any_width(width, here, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= width and f"Left out at {width} columns" in out
    for name, facts in read_index().items():
        (line,) = [line for line in out.splitlines() if line.split()[:1] == [name]]
        for key in ("bound", "log_evidence"):
            value = facts["metrics"][key]
            assert value["mean"] is None or f"{value['mean']:.2f} ± {value['error']:.2f}" in line
        assert facts["metrics"]["samples"] == 0 or f"({facts['metrics']['samples']})" in line
    options = ["--data", "digits", "--steps", "2", "--samples", "3", "--limit", "9"]
    assert main(["compare", "vae", "full-covariance-vae", *options]) == 0
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines() if not line.startswith("Wrote")) <= width
    records = json.loads(next((here / "comparisons").glob("*/comparison.json")).read_text())
    for record in records:
        for value in (record["bound"], record["log_evidence"], record["difference"]):
            assert value["mean"] is None or f"{value['mean']:.2f} ± {value['error']:.2f}" in out
    assert sum(record["difference"]["mean"] is not None for record in records) == 1


@pytest.mark.parametrize("width", [80, 100])
def test_large_figures_are_whole_beside_long_names(width, capsys, monkeypatch):
    """Nats of large images have many digits: the names are wrapped, not the figures."""
    monkeypatch.setenv("COLUMNS", str(width))
    figures = ("-136280.12 ± 1043.20", "-136280.12 ± 1043.20 (500)", "43410.60 ± 944.51")
    headings = ("model", "bound", "log-evidence (K)", "above vae", "note")
    row = ("runs/a-folder-with-a-long-name", *figures, "few active units")
    print_tables([Table(headings=headings, rows=[row], figures=headings[1:-1], optional=("note",))])
    out = capsys.readouterr().out
    assert all(each in out for each in figures) and max(map(len, out.splitlines())) <= width
    lines = [line for line in out.splitlines()[2:] if "Left out" not in line]
    assert "".join(line.split("  ")[0].split(" ")[0] for line in lines).startswith(row[0])


@pytest.mark.parametrize("kind", [[], ["--variants"], ["--recipes"]])
def test_lists_as_json_and_csv(kind, capsys):
    assert main(["list", "*vae-mnist" if not kind or kind == ["--recipes"] else "*vae", *kind, "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert main(["list", "*vae-mnist" if not kind or kind == ["--recipes"] else "*vae", *kind, "--csv"]) == 0
    lines = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [line["name"] for line in lines] == [record["name"] for record in records] and len(records) > 5
    if not kind:
        found = {record["name"]: record for record in records}["vae-mnist"]
        assert found["log_evidence"] == read_index()["vae-mnist"]["metrics"]["log_evidence"]
        assert (found["published"]["log_evidence"], found["published"]["samples"]) == (-86.76, 5000)


@pytest.mark.parametrize(
    ("kind", "name", "lines"),
    [
        (
            "backbones",
            "conv",
            ["kernel = 3 (one of 3, 4, 5, 7)", "dense = (256,) (a list of 0 to 8 whole numbers from 1"],
        ),
        (
            "likelihoods",
            "gaussian",
            ["scale_kind = 'fixed' (one of fixed, learned, optimal)", "σ > 0; the initial value"],
        ),
        ("samplers", "gaussian-mixture", ["components = 10 (a whole number from 1 to 10,000)", "number of Gaussians"]),
        ("datasets", "digits", ["CC BY 4.0", "folder:PATH"]),
    ],
)
def test_building_blocks_are_listed_and_described(kind, name, lines, capsys):
    assert main(["list", f"--{kind}"]) == 0
    assert name in capsys.readouterr().out.split()
    assert main(["list", f"--{kind}", "--json"]) == 0
    options = {each["name"]: each["options"] for each in json.loads(capsys.readouterr().out)}[name]
    assert main(["show", name]) == 0
    shown = capsys.readouterr().out
    assert all(line in shown for line in lines) and "$" not in shown and "Args:" not in shown
    assert all(len(line) <= 80 or line.startswith("  ") for line in shown.splitlines())
    assert all(f"  {option} = {default!r}" in shown or isinstance(default, list) for option, default in options.items())
    assert main(["list", f"--{kind}", "--recipes"]) != 0
    assert "expected one of them" in capsys.readouterr().err


def test_broken_variants_are_a_line_of_the_list(capsys, monkeypatch):
    found = variant_registry.available
    monkeypatch.setattr(variant_registry, "available", lambda pattern="*": (found(pattern)[0], {"sad-vae": "boom"}))
    assert main(["list", "--variants"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("sad-vae")]
    assert line.split()[1:] == ["broken:", "boom", "–"]


def test_published_figures_are_beside_those_of_a_subset(capsys):
    assert main(["evaluate", "beta-vae-mnist", "--limit", "20", "--samples", "2"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "not comparable: 10000 examples instead of 20" in out and "K = 500 instead of 2" in out
    assert "-106.84 ± 0.31" in out
    assert main(["evaluate", "vae-mnist", "--limit", "20", "--samples", "2", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)[0]
    assert record["published"]["comparable"] is False and record["literature"]["samples"] == 5000


def test_data_get_prints_verified_files(capsys):
    assert main(["data", "get", "mnist"]) == 0 and main(["data", "list"]) == 0
    out = capsys.readouterr().out
    assert out.count("SHA-256 verified") == 4 and "digits" in out


BAD_RECIPE = """
variant = "beta-vea"
[data]
name = "digits"
binarise = "dynamic"
[train]
steps = -5
"""


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("evaluate beta-vae-minst", ["Did you mean 'beta-vae-mnist'"]),
        ("evaluate no/such/folder", ["config.json"]),
        ("train vea-mnist", ["Did you mean", "vae-mnist"]),
        ("train bad.toml", ["beta-vae", "binarize", "steps"]),
        ("train vae-digits stepz=3", ["stepz", "steps"]),
        ("train vae-digits --device abacus", ["abacus", "auto"]),
        ("sample beta-vae-mnist 0", ["n = 0"]),
        ("sample cvae-mnist 4 --c 12", ["0 to 9"]),
        ("reconstruct beta-vae-mnist -3", ["-3"]),
        ("traverse beta-vae-mnist --index -1", ["-1"]),
        ("reconstruct beta-vae-mnist --index 3 --index -1", ["-1"]),
        ("interpolate beta-vae-mnist --seed -1", ["seed = -1"]),
        ("compare betavae", ["beta-vae"]),
        ("compare", ["no model"]),
        ("sample beta-vae-mnist 4 --sampler gausian", ["Did you mean 'gaussian-mixture'"]),
        ("sample cvae-mnist 4 --sampler normal", ["conditional"]),
        ("fit-sampler beta-vae-mnist normal", ["--out"]),
        ("fit-sampler beta-vae-mnist gaussian-mixture components --out x", ["key=value"]),
        ("data get minst", ["Did you mean 'mnist'"]),
        ("show wae", ["Did you mean"]),
        ("evaluate hf:not-a-repo", ["hf:owner/name"]),
        ("evaluate beta-vae-mnist --samples -1", ["samples = -1"]),
    ],
)
def test_mistake_is_one_error_without_a_traceback(command, words, here, capsys):
    (here / "bad.toml").write_text(BAD_RECIPE)
    assert main(command.split()) == 1
    error = capsys.readouterr().err
    assert error.startswith("error [") and "Traceback" not in error
    assert all(word in error for word in words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--steps 5", "steps=5"),
        ("--steps=5", "steps=5"),
        ("--batch-size 64 --device cpu", "batch_size=64"),
        ("--train.learning-rate 1e-3", "train.learning_rate=1e-3"),
        ("--latent --resume", "latent=VALUE"),
        ("--beta 2", "beta=2"),
        ("--stepz 5", "steps=5"),
        ("--devise cpu", "Did you mean --device?"),
        ("--zzzzzz 3", "Unknown option: --zzzzzz."),
    ],
)
def test_settings_given_as_options_are_errors_that_write_them_as_settings(options, words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["train", "vae-digits", *options.split()])
    error = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "Unknown option: --" in error and words in error
    assert ("written without dashes" in error) == ("=" in words)


@pytest.mark.parametrize(
    ("command", "function", "said"),
    [
        ("train vae-digits", "train.train", "Interrupted.\n"),
        ("evaluate vae-mnist", "measure.measure", "Interrupted; no figures were written.\n"),
        (
            "evaluate vae-mnist --disentanglement",
            "measure.measure_disentanglement",
            "Interrupted; no figures were written.\n",
        ),
        (
            "compare vae-mnist --data digits --out table",
            "compare.row_of",
            "Interrupted; the same command continues with the runs in table/runs.\n",
        ),
    ],
)
def test_an_interruption_prints_one_line_that_states_what_is_kept(command, function, said, here, monkeypatch, capsys):
    monkeypatch.setattr(f"vaezoo.workflows.{function}", Mock(side_effect=KeyboardInterrupt))
    assert main(command.split()) == 130
    assert "".join(line for line in capsys.readouterr().err.splitlines(True) if line[0] != "…") == said


def test_wrong_usage_and_a_closed_pipe_give_no_traceback():
    done = shell(f"{sys.executable} -m vaezoo trian vae-mnist")
    assert done.returncode and "train" in done.stderr + done.stdout and "Traceback" not in done.stderr + done.stdout
    assert "Traceback" not in shell(f"{sys.executable} -m vaezoo list | head -1").stderr


@pytest.mark.parametrize(
    ("end", "status", "words"),
    [
        (">&-", 0, []),
        (">/dev/full", 1, ["error [output]: OSError: ", "No space left"]),
        (">&- 2>&-", 0, []),
    ],
)
def test_output_that_cannot_be_written_is_at_most_one_line(end, status, words):
    done = shell(f"{sys.executable} -m vaezoo list --help {end}")
    assert done.returncode == status
    assert len(done.stderr.splitlines()) == (1 if words else 0) and all(word in done.stderr for word in words)


@pytest.mark.parametrize(
    "words",
    [*(pytest.param(each, marks=pytest.mark.full) for each in ("list --variants", "show vae")), "show m\u00fcll"],
)
def test_ascii_terminal_gives_no_traceback(words):
    settings = "LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 PYTHONIOENCODING=ascii"
    done = shell(f"{settings} {sys.executable} -m vaezoo {words}")
    assert "Traceback" not in done.stderr and (done.stdout + done.stderr).isascii()
    assert done.returncode == 0 if words != "show m\u00fcll" else done.stderr.startswith("error [unknown-name]: ")


def test_unknown_user_without_a_home_gets_one_error(monkeypatch, capsys):
    for name in ("HOME", "XDG_CACHE_HOME", "VAEZOO_HOME", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", Mock(side_effect=KeyError))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "~/.cache/huggingface/hub")
    for words in (
        ["data", "get", "mnist"],
        ["pull", "hf:them/tiny"],
        ["evaluate", "vae-mnist", "--data", "folder:~/x"],
    ):
        assert main(words) == 1
        assert "this user has no home folder" in capsys.readouterr().err
    assert main(["show", "vae"]) == 0


@pytest.mark.full
def test_demo_draws_evaluates_and_trains(here, capsys):
    assert main(["demo", "--out", "demo", "--seconds", "2"]) == 0
    out = capsys.readouterr().out
    assert out.count(", distortion ") == 2
    names = {path.name for path in (here / "demo").glob("*.png")}
    assert names == {"reconstructions.png", "samples.png", "traversal.png", "side-by-side.png", "tutorial-samples.png"}
    assert all(f"demo/{name}" in out for name in names) and "SHA-256" not in out


def test_show_prints_an_architecture_in_lines(run_folder, capsys):
    assert main(["show", "vq-vae-mnist"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == ["  shape: (1, 28, 28)", "  latent: (32, 7, 7)"]
    assert lines[4] == "  likelihood: gaussian(scale=0.1, scale_kind='optimal')" and "active units" not in str(lines)
    assert main(["show", str(run_folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "  shape: (1, 8, 8)" and not any("{" in line for line in lines)


def test_comparisons_take_the_data_of_the_models_and_draw_those_of_one_shape(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, pad in (("small", 0), ("padded", 1)):
        data = {"name": "digits", "binarize": "dynamic", "pad": pad}
        recipe = {"variant": "vae", "architecture": {"latent": 2}, "data": data, "train": {"steps": 1, "batch_size": 8}}
        vaezoo.train(recipe, out=name, trackers=())
    main(["compare", "./small", "./padded", "--samples", "2", "--limit", "20", "--out", "found"])
    out, err = capsys.readouterr()
    assert "20 test examples of digits" in out and "Wrote found/" in out
    assert "The pictures leave out models of other shapes: ./padded." in err
    with pytest.raises(SystemExit) as ended:
        main(["compare", "./small", "./small/", "--data", "mnist", "--samples", "2", "--limit", "20"])
    assert ended.value.code == 1

"""Maintains the index of pretrained models and the bundled weights; for maintainers.

- `python -m vaezoo.workflows.bundle FOLDER NAME` copies an evaluated model folder into the package;
- `python -m vaezoo.workflows.bundle hf:owner/name@COMMIT NAME` adds a published model, which `load` downloads;
- `python -m vaezoo.workflows.bundle --pin OWNER [NAME...]` replaces bundled models by what `vaezoo push` published;
- `python -m vaezoo.workflows.bundle --half NAME...|all` stores bundled weights in half precision;
- `python -m vaezoo.workflows.bundle` writes the index and the cards anew from the bundled folders.

After each of them, `python -m vaezoo.workflows.leaderboard benchmarks/leaderboard.json` and
`python -m vaezoo.workflows.listing docs/reference/models.md` write what is derived from the index.
"""

import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vaezoo.core import VAE, code_indices, seeded
from vaezoo.data import Dataset, bundled_images, load_dataset
from vaezoo.data.bundled import BUNDLED
from vaezoo.errors import ConfigError, CorruptWeightsError
from vaezoo.evaluation.batches import batches
from vaezoo.evaluation.report import evaluate
from vaezoo.evaluation.test_sets import limited, test_set
from vaezoo.hub.client import Repository
from vaezoo.storage.config import CONFIG, LOADED_AS, read_config, weight_files
from vaezoo.storage.figures import MEASURED_ON, METRICS
from vaezoo.storage.files import write_file
from vaezoo.storage.json_files import seal, sha256
from vaezoo.storage.model_card import model_card
from vaezoo.storage.model_folder import (
    CARD,
    copy_folder,
    read_metrics,
    read_model,
    read_weights,
    write_model,
)
from vaezoo.storage.weight_files import narrow, widen
from vaezoo.workflows.load import pull
from vaezoo.workflows.measure import data_of
from vaezoo.zoo.index import PACKAGE_FOLDER, bundled_models, read_index

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,60}")
LARGE = 1024  # elements; smaller tensors (biases, scales, statistics) are rounded for no gain
TOLERANCE = 0.02  # nats of the mean bound if it is below 100 nats, else in proportion; dB of the reconstruction's PSNR


def bundle(folder: Path, name: str) -> Path:
    """Copies a verified, evaluated model folder into the package under `name`, and updates the index.

    Raises:
        CorruptWeightsError: the folder is damaged.
        ConfigError: it has no figures.
    """
    metrics = read_metrics(folder)
    if metrics is None:
        raise ConfigError(f"{folder} has no figures of its weights: run `vaezoo evaluate {folder} --write` first.")
    target = PACKAGE_FOLDER / name
    copy_folder(folder, target)
    reindex()
    return target


def pin(place: str, name: str) -> dict[str, object]:
    """Adds a published model, whose files are fetched and verified, to the index; returns its entry.

    Args:
        place: "hf:owner/name@COMMIT", the commit of 40 digits, as `push` returns it.
        name: the name for `load`.

    Raises:
        ConfigError: no commit, a bundled or malformed name, or a model without figures.
        CorruptWeightsError, DownloadError: see `load`.
    """
    repository = Repository.of(place)
    if not repository.pinned or not NAME.fullmatch(name) or (PACKAGE_FOLDER / name / CONFIG).exists():
        raise ConfigError(f"Got {place} as {name!r}; expected hf:owner/name@COMMIT of 40 digits, and a free name.")
    facts = remote_facts(repository)
    write_index({**read_index(), name: facts})
    return facts


def pin_published(owner: str, names: Sequence[str] = ()) -> list[str]:
    """Replaces bundled models by their newest commits on the Hub, and returns their names.

    Every model is fetched and compared with the bundled one before the first one is removed.

    Args:
        owner: the owner of the repositories OWNER/NAME, which `vaezoo push --all --owner OWNER` published.
        names: bundled models; all if there are none.

    Raises:
        CorruptWeightsError: a published model has another config or other weights than the bundled one.
        ConfigError: a model that is not bundled.
        DownloadError: see `load`.
    """
    chosen = list(names) or bundled_models()
    index: dict[str, object] = {**read_index()}
    for name in chosen:
        if not (PACKAGE_FOLDER / name / CONFIG).exists():
            raise ConfigError(f"{name} is not a bundled model.")
        commit = pull(f"hf:{owner}/{name}").name
        index[name] = remote_facts(Repository.of(f"hf:{owner}/{name}@{commit}"))
        if read_config(pull(f"hf:{owner}/{name}@{commit}")) != read_config(PACKAGE_FOLDER / name):
            raise CorruptWeightsError(f"hf:{owner}/{name} is another model than the bundled {name}. Push it again.")
    write_index(index)
    for name in chosen:
        shutil.rmtree(PACKAGE_FOLDER / name)
    return chosen


def remote_facts(repository: Repository) -> dict[str, object]:
    """Returns the index entry of a published commit, after its files were fetched and verified."""
    folder = pull(str(repository))
    if read_metrics(folder) is None:
        raise ConfigError(f"{repository} has no {METRICS}: publish it with its figures.")
    facts = index_entry(folder, METRICS, *([CARD] if (folder / CARD).exists() else []))
    return facts | {"repository": repository.name, "commit": str(repository.revision)}


def index_entry(folder: Path, *more: str) -> dict[str, object]:
    """Returns the index entry of a model: facts of its config, its figures, size and SHA-256 of files."""
    config = read_config(folder)
    return {
        "variant": config["variant"],
        "data": config["data"],
        "architecture": config["architecture"],
        "files": {
            file: {"size": (folder / file).stat().st_size, "sha256": sha256((folder / file).read_bytes())}
            for file in (CONFIG, *(each.file for each in weight_files(config)), *more)
        },
        "metrics": read_metrics(folder),
    }


def reindex() -> None:
    """Writes `index.json` and the cards from the bundled folders; entries of models on the Hub are kept."""
    rest = {name: facts for name, facts in read_index().items() if "repository" in facts}
    folders = [path.parent for path in sorted(PACKAGE_FOLDER.glob(f"*/{CONFIG}"))]
    for folder in folders:
        write_file(folder / CARD, model_card(folder.name, read_config(folder), read_metrics(folder)).encode())
    write_index(rest | {folder.name: index_entry(folder) for folder in folders})


def write_index(index: Mapping[str, object]) -> None:
    """Writes the index."""
    write_file(PACKAGE_FOLDER / "index.json", seal({"models": index}))
    read_index.cache_clear()


def halve(name: str) -> str:
    """Stores a bundled model's weights in half precision, and returns a line with the changes that this causes.

    Matrices and kernels are float16, or bfloat16 if a value is beyond float16's range. The encoder stays float32 if a
    code of the examples would change, and the whole model if its figures would change by more than `TOLERANCE`.
    """
    folder = PACKAGE_FOLDER / name
    config, model = read_config(folder), read_model(folder)
    state = read_weights(folder, config)
    encoder = {key: tensor for key, tensor in state.items() if key.startswith("encoder.")}
    source = data_of(model, None)  # at most 64 test images, bundled ones if there are some
    images = bundled_images(source) if source in BUNDLED else limited(load_dataset(source, "test"), 64)[0]
    data = test_set(model, images)
    *before, codes = outputs(model, data)
    for stored in (halves(state), {**halves(state), **encoder}):
        model.load_state_dict(widen(stored))
        *after, found = outputs(model, data)
        bound, psnr = (abs(new - old) for new, old in zip(after, before, strict=True))
        same = torch.equal(codes, found)
        good = same and max(bound / max(1.0, abs(before[0]) / 100.0), psnr) < TOLERANCE
        if good:
            # The figures are those of the weights before rounding, which change by less than TOLERANCE.
            figures = {key: value for key, value in (read_metrics(folder) or {}).items() if key != MEASURED_ON}
            write_model(folder, {**config, LOADED_AS: "float32"}, stored, figures or None)
            reindex()
            break
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    changes = f"bound {bound:.4f} nats, PSNR {psnr:.4f} dB, codes {'equal' if same else 'differ'}"
    return f"{name}: {changes}; {'half precision' if good else 'stays float32'}, {size:,} bytes"


def halves(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns a state with its large tensors in float16, or in bfloat16 if float16 cannot hold all their values."""
    large = {key: tensor for key, tensor in state.items() if tensor.numel() >= LARGE}
    try:
        return {**state, **narrow(large, torch.float16)}
    except ConfigError:
        return {**state, **narrow(large, torch.bfloat16)}


@torch.no_grad()
def outputs(model: VAE, data: Dataset) -> tuple[float, float, Tensor]:
    """Returns the mean bound, or without a density the mean distortion, the PSNR, and the codes."""
    report = evaluate(model, data, samples=0)
    with seeded(0):
        codes = [code_indices(model.encode(x, c)) for x, c in batches(model, data)]
    found = torch.cat([torch.zeros(0) if each is None else each for each in codes])
    return (report.distortion if report.bound.mean is None else report.bound).mean, report.psnr, found


def main(words: Sequence[str]) -> None:
    """Runs the command line; see the module's docstring."""
    if words[:1] == ["--pin"] and len(words) > 1:
        print("\n".join(pin_published(words[1], words[2:])))
    elif words[:1] == ["--half"] and len(words) > 1:
        for name in bundled_models() if words[1:] == ["all"] else words[1:]:
            print(halve(name), flush=True)
    elif len(words) == 2 and words[0].startswith("hf:"):
        print(pin(words[0], words[1]))
    elif len(words) == 2:
        print(bundle(Path(words[0]), words[1]))
    elif words:
        raise SystemExit(__doc__)
    else:
        reindex()


if __name__ == "__main__":
    main(sys.argv[1:])

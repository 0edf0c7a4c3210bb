"""Hostile values, hostile changes of valid files, and a small model to change."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import torch

import vaezoo
from vaezoo.storage.config import CONFIG
from vaezoo.storage.json_files import seal, sha256
from vaezoo.storage.model_folder import WEIGHTS

KEYS = [
    "_target_", "_class_path", "_instantiator", "_attn_implementation_internal", "auto_map", "architectures",
    "trust_remote_code", "__reduce__", "__class__", "__init__", "__metadata__", "_private", "py/object",
    "!!python/object/apply:os.system", "shape", "variant", "name", "self", "base", "digest", "", "\0", "a" * 300,
    "\u202eexe",
]  # fmt: skip
NAMES = [
    "os.system", "builtins:eval", "torch.nn.Linear", "vaezoo.errors", "__init__", "__import__('os').system('true')",
    "!!python/object/apply:os.system ['true']", "${env:HOME}", "${oc.env:HOME}", "{{7*7}}", "../../etc/passwd", "..",
    "/etc/passwd", "file:///etc/passwd", "http://127.0.0.1:9/x", "hf:a/../../b", "hf:a/b@/etc/passwd", "hf:a/b@../../x",
    "C:\\windows\\system32", "\\\\host\\share", "CON", "nul.txt", "vae\0", "vae\n", "\u202evae", "\uff56\uff41\uff45",
    "vae+" * 50_000 + "vae", "a" * 300, "a/" * 5000, "folder:/etc", "torchvision:CIFAR10", "", "+", ".", "\ud800",
]  # fmt: skip
NUMBERS = [-1, 0, 1, 2, 10**9, 2**31, 2**53, 2**63, 2**64, 10**400, -(2**63), 0.5, -0.0, 1e-320, 1e308, True, None]
VALUES = [*NAMES, *NUMBERS, [], {}, [[]], [0], [1] * 9, [10**9], {"name": "mlp"}, {"name": "mlp", "hidden": [10**6]}]


def places(value: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """Yields the path of a value and of everything inside it."""
    yield path
    for key, each in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(each, (*path, key))


def changed(value: object, place: int, how: int, key: str, new: object) -> object:
    """Returns a copy of a table in which one thing is another: replaced, added, left out or renamed."""
    found = list(places(value))
    *outer, last = found[1 + place % (len(found) - 1)] if len(found) > 1 else ("nothing",)
    result = copy.deepcopy(value)
    holder = result
    for each in outer:
        holder = holder[each]  # type: ignore[index]
    if not isinstance(holder, dict | list) or len(found) == 1:
        return new
    inside = holder[last]  # type: ignore[index]
    if how == 0:
        holder[last] = new  # type: ignore[index]
    elif how == 1:
        del holder[last]  # type: ignore[arg-type]
    elif isinstance(inside, dict):
        inside[key] = new
    elif isinstance(holder, dict):
        holder[key] = new if how == 2 else holder.pop(last)  # type: ignore[arg-type]
    else:
        holder.append(new)
    return result


def small(folder: Path, variant: str = "vae") -> Path:
    """Saves a model of some forty weights."""
    torch.manual_seed(0)
    model = vaezoo.create(variant, shape=(2, 3), latent=2, backbone={"name": "mlp", "hidden": [5]})
    return vaezoo.save(model, folder)


def config_of(folder: Path) -> dict[str, object]:
    """Returns a folder's config without its digest."""
    config: dict[str, object] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    del config["digest"]
    return config


def write_config(folder: Path, config: object) -> None:
    """Writes a config with a correct digest where it can have one."""
    try:
        data = seal(config)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # no table, NaN, half a surrogate pair
        data = json.dumps(config).encode()
    (folder / CONFIG).write_bytes(data)


def write_weights(folder: Path, data: bytes) -> None:
    """Writes weights, and their size and digest into the config."""
    (folder / WEIGHTS).write_bytes(data)
    weights = {"file": WEIGHTS, "size": len(data), "sha256": sha256(data)}
    write_config(folder, config_of(folder) | {"weights": weights})


def split(data: bytes) -> tuple[dict[str, object], bytes]:
    """Returns header and tensors' bytes of a safetensors file."""
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def joined(header: object, body: bytes) -> bytes:
    """Returns a safetensors file with this header."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


RECIPE_TEXT = """variant = "beta-vae+conv-vae"
seed = 0
[options]
beta = 2.0
[architecture]
latent = 4
backbone = { name = "conv", channels = [4] }
likelihood = { name = "bernoulli" }
[data]
name = "mnist"
binarize = "dynamic"
context = false
validation = 100
[[stage]]
steps = 10
batch_size = 8
learning_rate = 1e-3
learning_rates = { model = 0.1 }
betas = [0.9, 0.99]
[[stage]]
epochs = 2
options = { beta = 3.0 }
train = ["encoder"]
"""

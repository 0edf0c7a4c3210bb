"""`export`: writes encoder and decoder of a model for another runtime."""

from collections.abc import Sequence
from pathlib import Path

from vaezoo.core import VAE, check_model, differentiable
from vaezoo.storage.export.export import Exported, export_model
from vaezoo.storage.export.programs import PARTS
from vaezoo.workflows.load import load


@differentiable
def export(model: VAE | str | Path, out: str | Path, *, format: str = "onnx", parts: Sequence[str] = PARTS) -> Exported:
    r"""Writes a model's encoder and decoder as programs for another runtime, compares them with it, and describes them.

    | program | inputs | outputs |
    | --- | --- | --- |
    | `encoder` | `x` (B, *shape) | `latents` (B, *latent): the center of the posterior, its mean if it has one. `stddev` (B, *latent) of a normal posterior; `indices` (B, *grid) of codes |
    | `decoder` | `latents` (B, *latent) | `image` (B, *shape): the mean of p(x\|z), in [0, 1] for likelihoods of pixels |
    | `decoder-of-codes`, of models with codes | `indices` (B, *grid) | `image` |

    Programs of a conditional model also have the input `context` (B, C), one-hot for classes. B is any number from 1.

    Args:
        model: a model, or a name or folder for `vaezoo.load`.
        out: a new or empty folder.
        format: "onnx" (NAME.onnx, compared in onnxruntime), "torch-export" (NAME.pt2, for `torch.export.load`), or one
            of another package (entry points `vaezoo.exports`).
        parts: "encoder", "decoder", or both.

    Raises:
        UnknownNameError: no such model or format.
        ConfigError: unknown parts, or `out` is not empty.
        ExportError: the model has no such program, or the program's outputs differ from the model's by more than 1e-4,
            relative to 1 + |output|; nothing is written.
        MissingExtraError: `pip install 'vaezoo[onnx]'` is needed.
        CheckpointError: `out` cannot be written.
    """  # noqa: E501  (the table)
    model = load(model) if isinstance(model, str | Path) else model
    check_model(model)
    return export_model(model, Path(out), format, [parts] if isinstance(parts, str) else list(parts))

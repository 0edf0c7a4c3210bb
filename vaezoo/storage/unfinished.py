"""Models of runs that have not ended, from their checkpoints; verified like model folders."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from torch import Tensor

from vaezoo.core import VAE, all_finite
from vaezoo.errors import CheckpointError, ConfigError, CorruptWeightsError, warn
from vaezoo.storage import checkpoint
from vaezoo.storage.model_folder import assembled, build, check_recordable, meta_twin


def is_unfinished(folder: Path) -> bool:
    """Returns whether a folder is a checkpoint, or holds checkpoints."""
    return (folder / checkpoint.MANIFEST).is_file() or bool(
        checkpoint.listed(folder) or checkpoint.listed(folder / "checkpoints")
    )


def read_unfinished(folder: Path) -> VAE:
    """Returns the model of a run without a final one, in eval mode; warns which weights it has.

    They are the best ones on the held-out images, otherwise the averaged ones, otherwise those of the last step.

    Args:
        folder: a checkpoint (`step-…`), a folder of checkpoints, or a run; of several checkpoints the newest valid one.

    Raises:
        CheckpointError: no checkpoint is valid, or it was written by a version that did not record the model's config.
        CorruptWeightsError: a checkpoint is damaged, or its tensors are not those of its config.
    """
    if (folder / checkpoint.MANIFEST).is_file():
        path, saved = folder, checkpoint.read_folder(folder, limit_of)
    else:
        found = checkpoint.newest(folder, limit_of) or checkpoint.newest(folder / "checkpoints", limit_of)
        if found is None:
            raise CheckpointError(f"{folder} holds no checkpoint.")
        path, saved, passed_over = found
        for text in passed_over:
            warn(text)
    config = cast("dict[str, object]", saved.state["config"])
    kind, state = weights_of(saved)
    model = assembled(config, checked(config, state, path.name))
    warn(f"{folder} is an unfinished run: loaded its {kind} weights, from the checkpoint {path.name}.")
    return model


def limit_of(state: Mapping[str, object]) -> int:
    """Returns the most bytes in the tensors of a checkpoint of the model that its state names."""
    config = state.get("config")
    if not isinstance(config, dict):
        raise CheckpointError(
            "The checkpoint does not record the model's config: it was written by an earlier version of vaezoo. "
            "Continue the run to its end (--resume), which writes a model."
        )
    try:
        check_recordable(config)
    except ConfigError as error:
        raise CorruptWeightsError(f"The checkpoint has a config that is not one of a model: {error}.") from None
    meta_twin(config)  # refuses critics that are far larger than the model
    return checkpoint.limit_for(sum(tensor.numel() for tensor in build(config, "meta").state_dict().values()))


def weights_of(saved: checkpoint.Checkpoint) -> tuple[str, Mapping[str, Tensor]]:
    """Returns "best", "averaged" or "last", and these weights of a checkpoint."""
    if saved.tensors.get("best"):
        return "best", saved.tensors["best"]
    last, averages = saved.tensors.get("model", {}), saved.tensors.get("averages", {})
    if averages and saved.state.get("averaged") is True:
        return "averaged", {**last, **averages}
    return "last", last


def checked(config: Mapping[str, object], state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Returns the published tensors of a config's model, after names, shapes, types and values were validated.

    Raises:
        CorruptWeightsError: one of them is wrong, or the config is.
    """
    try:
        check_recordable(config)
    except ConfigError as error:
        raise CorruptWeightsError(f"{name} has a config that is not one of a model: {error}.") from None
    wanted = meta_twin(config).state_dict()
    for key, tensor in wanted.items():
        own = state.get(key)
        if own is None or own.shape != tensor.shape or own.is_floating_point() != tensor.is_floating_point():
            got = "nothing" if own is None else f"{own.dtype} of shape {tuple(own.shape)}"
            raise CorruptWeightsError(
                f"{name} has {got} for {key}; its config's model has {tensor.dtype} of shape {tuple(tensor.shape)}."
            )
        if not all_finite(own):
            raise CorruptWeightsError(f"{name} holds NaN or infinite values in {key}.")
    return {key: state[key] for key in wanted}

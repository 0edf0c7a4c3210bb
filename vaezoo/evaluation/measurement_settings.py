"""The settings by which stored figures are measured again, and the command that has them."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from vaezoo.errors import ConfigError
from vaezoo.evaluation.metric import all_metrics
from vaezoo.evaluation.seeds import SEED, SUBSET_SEED


@dataclass(frozen=True, kw_only=True)
class MeasurementSettings:
    """The arguments of `vaezoo.evaluate` that determine a table of figures, as `metrics.json` holds it.

    Args:
        data: public name of the data set.
        samples: K of the importance-weighted evidence; 0 for none.
        binarize: "none", "dynamic" or "static".
        limit: number of examples that were chosen; None for the whole test set.
        seed: seed of all noise.
        thorough: whether figures are among them that take longer.
    """

    data: str
    samples: int
    binarize: str
    limit: int | None = None
    seed: int = SEED
    thorough: bool = False

    @classmethod
    def of(cls, metrics: Mapping[str, object]) -> "MeasurementSettings":
        """Returns the settings of stored figures.

        Raises:
            ConfigError: they lack a setting, or are of another split than "test".
        """
        missing = [key for key in ("data", "samples", "binarization", "examples", "split") if metrics.get(key) is None]
        if missing:
            raise ConfigError(
                f"The stored figures do not state {', '.join(missing)}: measure them with vaezoo evaluate NAME --write."
            )
        if metrics["split"] != "test" or metrics.get("subset_seed") not in (None, SUBSET_SEED):
            raise ConfigError(
                f"Got figures of {metrics['split']} images, chosen with seed {metrics.get('subset_seed')}; expected "
                f"those of test images, all of them or chosen with seed {SUBSET_SEED}."
            )
        known = all_metrics()
        return cls(
            data=str(metrics["data"]),
            samples=cast(int, metrics["samples"]),
            binarize=str(metrics["binarization"]),
            limit=None if metrics.get("subset_seed") is None else cast(int, metrics["examples"]),
            seed=cast(int, metrics.get("seed") or SEED),
            thorough=any(known[key].costly and metrics[key] is not None for key in known.keys() & metrics.keys()),
        )

    def command(self, name: str, trained_on: str) -> str:
        """Returns the command that measures a model with these settings; `trained_on` is the name of its data."""
        words = ["vaezoo", "evaluate", name, *([] if self.data == trained_on else ["--data", self.data])]
        words += ["--samples", str(self.samples), *([] if self.limit is None else ["--limit", str(self.limit)])]
        return shlex.join([*words, *(["--thorough"] if self.thorough else [])])

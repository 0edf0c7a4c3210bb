"""`measure_latents`: the report on the latents of a model, which is given by name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vaezoo.evaluation import LatentReport, latent_report
from vaezoo.storage.model_folder import write_latents
from vaezoo.workflows.load import load, own_folder
from vaezoo.workflows.measure import data_of
from vaezoo.workflows.run_folder import own_data
from vaezoo.workflows.tables import Record


@dataclass(frozen=True, kw_only=True)
class MeasuredLatents:
    """A report on the model `name`, and the folder in which the factors were stored, if they were."""

    name: str
    report: LatentReport
    written: Path | None = None

    def text(self) -> str:
        """Returns the report as text."""
        stored = f"\nStored in {self.written}." if self.written else ""
        return f"{self.name}\n{self.report}{stored}"

    def record(self) -> Record:
        """Returns the report as plain values."""
        return {"name": self.name, **self.report.as_dict()}


def measure_latents(
    name: str | Path,
    *,
    data: str | None = None,
    split: str = "train",
    noise: bool = True,
    limit: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    write: bool = False,
    per_channel: bool = False,
    device: str = "auto",
    bar: Callable[[int, int], None] | None = None,
) -> MeasuredLatents:
    """Returns the report on the latents of a model; `write` stores the factors in its folder.

    See `vaezoo.evaluation.latent_report` for the other arguments and exceptions.

    Raises:
        ConfigError: `write`, but the model is published, or the run has not ended.
    """
    folder = own_folder(name) if write else None
    model = load(name, device=device)
    report = latent_report(
        model,
        data_of(model, own_data(name, data)),
        split=split,
        noise=noise,
        limit=limit,
        seed=seed,
        batch_size=batch_size,
        write=write,
        per_channel=per_channel,
        report=bar,
    )
    if folder is not None:
        write_latents(folder, report.factors(per_channel=per_channel))
    return MeasuredLatents(name=str(name), report=report, written=folder)

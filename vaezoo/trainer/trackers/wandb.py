"""The tracker `wandb`."""

import os

from vaezoo.trainer.tracking import RunService


class WandB(RunService):
    """Weights & Biases; `WANDB_MODE=offline` keeps a run on this machine.

    Args:
        project: of the run; by default `WANDB_PROJECT`, else "vaezoo".

    Raises:
        MissingExtraError: wandb is not installed.
    """

    module, extra = "wandb", "wandb"

    def open(self, name: str) -> None:
        """Starts a run, separate from one that the caller may have; printed output is not captured."""
        self.run = self.package.init(
            project=self.project or os.environ.get("WANDB_PROJECT") or "vaezoo",
            name=name,
            group=None if self.folder is None else self.folder.name,
            dir=None if self.folder is None else str(self.folder),
            config=dict(self.config),
            reinit="create_new",
            settings=self.package.Settings(console="off"),
        )

    def close(self) -> None:
        """Ends the run."""
        if self.run is not None:
            self.run.finish()


wandb = WandB

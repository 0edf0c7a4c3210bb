"""The tracker `trackio`."""

from vaezoo.trainer.tracking import RunService


class Trackio(RunService):
    """Trackio: a local database, or the Space in `TRACKIO_SPACE_ID`; `trackio show` opens the dashboard.

    Args:
        project: of the run; "vaezoo" by default.

    Raises:
        MissingExtraError: trackio is not installed.
    """

    module, extra = "trackio", "trackio"

    def open(self, name: str) -> None:
        """Starts a run; opens no dashboard."""
        group = None if self.folder is None else self.folder.name
        self.run = self.package.init(
            project=self.project or "vaezoo", name=name, group=group, config=dict(self.config), embed=False
        )

    def close(self) -> None:
        """Ends the run."""
        if self.run is not None:
            self.package.finish()

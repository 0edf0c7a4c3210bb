"""Trackers and the progress bar."""

import io
import warnings
from collections.abc import Mapping

import pytest
from rich.console import Console

from vaezoo.trainer.trackers import Bar, Trackers


class Broken:
    def __init__(self) -> None:
        self.calls = 0

    def start(self, name: str, steps: int, done: int) -> None:
        raise OSError("no network")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.calls += 1
        raise KeyError("figures")

    def close(self) -> None:
        raise RuntimeError


def test_what_throws_is_reported_once_and_the_others_hear_everything() -> None:
    heard: list[int] = []

    class Good(Broken):
        def start(self, name: str, steps: int, done: int) -> None:
            heard.append(steps)

        def log(self, step: int, metrics: Mapping[str, float]) -> None:
            heard.append(step)

    broken = Broken()
    both = Trackers([broken, Good()])
    with pytest.warns(UserWarning, match=r"Broken\.start failed: OSError: no network\. Training goes on"):
        both.notify("start", "x", 7, 0)
    with pytest.warns(UserWarning, match=r"Broken\.log failed"):
        both.notify("log", 1, {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        both.notify("log", 2, {})
    assert heard == [7, 1, 2] and broken.calls == 2


def test_ctrl_c_in_a_tracker_is_no_mistake_of_the_tracker() -> None:
    class Stopped(Broken):
        def close(self) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trackers([Stopped()]).notify("close")


def drive(bar: Bar) -> None:
    bar.log(0, {})
    bar.start("vae", 10, 2)
    bar.log(5, {"distortion": 81.25, "rate": 25.0, "images_per_second": 12345.6})
    bar.log(7, {"validation_rate": 1.0})
    bar.close()


def test_the_bar_is_silent_where_there_is_no_terminal() -> None:
    file = io.StringIO()
    drive(Bar(Console(file=file)))
    assert file.getvalue() == ""


def test_the_bar_shows_figures_on_a_terminal() -> None:
    file = io.StringIO()
    drive(Bar(Console(file=file, force_terminal=True, width=120)))
    assert "vae" in file.getvalue() and "7/10" in file.getvalue()
    assert "D 81.2  R 25.0 nats  12,346 images/s" in file.getvalue()

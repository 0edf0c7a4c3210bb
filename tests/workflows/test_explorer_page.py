"""The page of the explorer, without a browser: its components, handlers, messages, and the files of the Space."""

import logging
import runpy
import socket
import time
import tomllib
import urllib.parse
from pathlib import Path

import pytest
import torch

import vaezoo
from vaezoo.cli import main
from vaezoo.errors import ConfigError, MissingExtraError, UnknownNameError
from vaezoo.workflows import explorer, explorer_page

ROOT = Path(__file__).resolve().parents[2]
SPACE = ROOT / "docs" / "space"
NUMBERS = explorer.SLIDERS


class Stub:
    """Stands for gradio: an update is the dictionary of its arguments."""

    update = dict

    @staticmethod
    def skip() -> str:
        return "skip"


@pytest.fixture(scope="module")
def do() -> explorer_page.Handlers:
    cached: dict[str, explorer.Explored] = {}

    def load(name: str) -> explorer.Explored:
        return cached.setdefault(name, cached.get(name) or explorer.prepare(name))

    return explorer_page.Handlers(gradio=Stub, load=load)


def test_a_panel_shows_the_image_its_figures_and_a_slider_for_each_active_latent(do: explorer_page.Handlers) -> None:
    summary, table, z, moved, *sliders = do.show("beta-vae-mnist", {"index": 3}, "")
    beta = do.load("beta-vae-mnist")
    view = explorer.view(beta, explorer.example(beta, 3))
    assert "test image 3" in summary and table.count("<tr>") == 11 and z == view.z.tolist()
    assert [each["label"] for each in sliders] == [f"z{index}" for index in beta.active]
    again = do.move("beta-vae-mnist", z, {"index": 3}, "", *[each["value"] for each in sliders])
    assert again == [moved]
    changed = do.move("beta-vae-mnist", z, {"index": 3}, "", 3.0, *[each["value"] for each in sliders[1:]])
    assert changed != again


def test_a_model_of_codes_has_no_sliders_but_samples_and_the_reason(do: explorer_page.Handlers) -> None:
    name = "vq-vae-mnist"
    summary, table, z, moved, *sliders = do.show(name, {"index": 0}, "")
    assert summary.count("<img") == 3 and z is None and not any(each["visible"] for each in sliders)
    assert "discrete codes" in moved and "discrete" in table
    assert "discrete codes" in do.interpolate(name, "", 0, 1)[0] and "discrete codes" in do.draw_map(name)[1]
    assert (
        do.sample(name, "", 0)[0].count("<img") == 16 and "discrete codes" in do.move(name, None, {}, "", *[0.0] * 8)[0]
    )


def test_classes_are_offered_and_a_drawing_without_one_gives_a_message(do: explorer_page.Handlers) -> None:
    shown, choice = do.choose("cvae-mnist")
    assert (
        shown == {"visible": True}
        and choice["visible"]
        and [value for _, value in choice["choices"]][:3] == ["", "0", "1"]
    )
    assert do.choose("beta-vae-mnist")[1]["visible"] is False
    ink = torch.zeros(1, 60, 60, dtype=torch.uint8)
    ink[:, 10:50, 28:33] = 255
    source = {"image": ink, "ink": True}
    run = explorer_page.guarded(Stub, do.show, NUMBERS + 4)
    message, *rest = run("cvae-mnist", source, "")
    assert "Choose a class" in message and rest == ["skip"] * (NUMBERS + 4)
    message, summary, *_ = run("cvae-mnist", source, "1")
    assert not message and "drawing" in summary
    assert do.sample("cvae-mnist", "1", 0) != do.sample("cvae-mnist", "2", 0)


def test_no_second_model_changes_nothing(do: explorer_page.Handlers) -> None:
    none = explorer_page.NONE
    assert do.choose(none)[0] == {"visible": False}
    results = [
        *do.show(none, {"index": 0}, ""),
        *do.interpolate(none, "", 0, 1),
        *do.draw_map(none),
        *do.sample(none, "", 0),
    ]
    assert set(results) == {"skip"}


def test_a_click_marks_the_map_and_decodes_the_point(do: explorer_page.Handlers) -> None:
    plain, _ = do.draw_map("beta-vae-mnist")
    marked, place = do.click("beta-vae-mnist", {"index": 0}, "", [250, 200])
    assert marked.shape == plain["value"].shape and (marked != plain["value"]).any() and place.count("<img") == 1


def test_without_gradio_the_command_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    assert main(["explore"]) == 1
    assert "pip install 'vaezoo[explore]'" in capsys.readouterr().err
    with pytest.raises(MissingExtraError):
        explorer_page.page()


def test_the_files_of_the_space_fit_the_package() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (least,) = [each.partition(">=")[2] for each in extras["explore"] if each.startswith("gradio")]
    front = (SPACE / "README.md").read_text().split("---\n")[1]
    facts = dict(line.split(": ", 1) for line in front.splitlines())
    assert facts["sdk"] == "gradio" and (SPACE / facts["app_file"]).exists()
    assert [int(each) for each in facts["sdk_version"].split(".")[:2]] >= [int(each) for each in least.split(".")]
    assert (SPACE / "requirements.txt").read_text() == "vaezoo[explore]\n"


class TestWithGradio:
    @pytest.fixture(autouse=True)
    def gradio(self) -> None:
        pytest.importorskip("gradio", reason="gradio is not installed: pip install 'vaezoo[explore]'")

    @pytest.mark.full
    def test_the_page_has_all_models_and_asks_for_nothing_elsewhere(self) -> None:
        config = explorer_page.page().get_config_file()
        (first, second) = [
            each["props"]
            for each in config["components"]
            if str(each["props"].get("label")).endswith(("Model", "next to it"))
        ]
        assert [value for _, value in first["choices"]] == vaezoo.list_models()
        assert [value for _, value in second["choices"]] == ["none", *vaezoo.list_models()]
        assert all(each["api_visibility"] == "private" for each in config["dependencies"])
        assert config["analytics_enabled"] is False
        theme = explorer_page.settings()["theme"]
        assert not theme._stylesheets and "googleapis" not in str(theme._get_theme_css())

    @pytest.mark.full
    def test_names_are_checked_before_anything_is_served_and_a_used_port_is_refused(self) -> None:
        with pytest.raises(UnknownNameError, match="vae-mnst"):
            explorer_page.page(["vae-mnst"])
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with pytest.raises(ConfigError, match="Choose another one"):
                explorer_page.serve(["beta-vae-mnist"], port=taken.getsockname()[1])

    @pytest.mark.full
    def test_the_space_launches_the_page(self, monkeypatch: pytest.MonkeyPatch) -> None:
        launched: list[dict[str, object]] = []
        blocks = pytest.importorskip("gradio").Blocks
        monkeypatch.setattr(blocks, "launch", lambda self, **settings: launched.append(settings))
        runpy.run_path(str(SPACE / "app.py"))
        (settings,) = launched
        assert settings["server_name"] == "0.0.0.0" and settings["share"] is False

    @pytest.mark.full
    def test_a_page_that_is_closed_during_an_upload_logs_no_error(self) -> None:
        logged: list[logging.LogRecord] = []
        handler = logging.Handler()
        handler.emit = logged.append  # type: ignore[method-assign]  # the shortest handler
        blocks = explorer_page.page(["beta-vae-mnist"])
        settings = explorer_page.settings()
        handlers = settings["app_kwargs"]["exception_handlers"]
        ((kind, respond),) = handlers.items()
        handled: list[object] = []
        handlers[kind] = lambda *given: (handled.append(given), respond(*given))[1]
        _, address, _ = blocks.launch(server_name="127.0.0.1", prevent_thread_lock=True, **settings)
        logger = logging.getLogger("uvicorn.error")
        logger.addHandler(handler)
        try:
            url = urllib.parse.urlsplit(address)
            head = (
                f"POST /gradio_api/upload HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Length: 100000\r\n"
                "Content-Type: multipart/form-data; boundary=limit\r\n\r\n"
                '--limit\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
            )
            with socket.create_connection((str(url.hostname), int(url.port or 0)), timeout=30) as connection:
                connection.sendall(head.encode() + b"x" * 5_000)
                time.sleep(0.5)  # the server starts to read
            time.sleep(1.0)
        finally:
            logger.removeHandler(handler)
            blocks.close()
        assert len(handled) == 1  # the server had begun to read the upload
        assert not [each.getMessage() for each in logged if each.levelno >= logging.ERROR]

"""The page of the explorer in a headless Chromium: sliders, drawing, upload, models, map, and no request elsewhere."""

import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.deep
WAIT = 120.0  # seconds, for slow machines
MOVES = int(os.environ.get("VAEZOO_TEST_MOVES", "3"))  # of a slider; their median time is printed


class Page:
    """The page in a browser."""

    def __init__(self, driver: Any, port: int) -> None:
        self.driver, self.port = driver, port

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            if found := condition():
                return found
            time.sleep(0.005)
        raise AssertionError(f"after {WAIT} s there is no {what}; the page shows: {self.text('body')[:2000]}")

    def all(self, selector: str) -> list[Any]:
        return [each for each in self.driver.find_elements("css selector", selector) if each.is_displayed()]

    def text(self, selector: str) -> str:
        script = "return [...document.querySelectorAll(arguments[0])].map(each => each.innerText).join(' ')"
        return str(self.driver.execute_script(script, selector))

    def picture(self, selector: str) -> str:
        """Returns the address of the first picture, which holds its pixels."""
        script = "return document.querySelector(arguments[0] + ' img')?.src ?? ''"
        return str(self.driver.execute_script(script, selector))

    def tab(self, text: str) -> None:
        script = (
            "[...document.querySelectorAll('button[role=tab]')]"
            ".find(each => each.innerText.trim() == arguments[0] && each.offsetParent).click()"
        )
        self.driver.execute_script(script, text)

    def move(self, selector: str, value: float) -> None:
        """Moves the first slider."""
        script = (
            "const range = document.querySelector(arguments[0] + ' input[type=range]');"
            "range.value = arguments[1]; range.dispatchEvent(new Event('input', {bubbles: true}))"
        )
        self.driver.execute_script(script, selector, value)

    def choose(self, label: str, name: str) -> None:
        """Chooses an entry of a dropdown."""
        from_label = f"input[role=combobox][aria-label='{label}']"
        self.until(lambda: self.all(from_label), label)[0].click()
        options = self.until(lambda: self.all("ul[role=listbox] li"), f"list of {label}")
        next(each for each in options if each.get_attribute("aria-label") == name).click()

    def requests(self) -> set[str]:
        """Returns the addresses of all requests since the last call."""
        messages = [json.loads(each["message"])["message"] for each in self.driver.get_log("performance")]
        return {each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Serves the page by the command, and returns its port."""
    pytest.importorskip("gradio", reason="gradio is not installed: pip install 'vaezoo[browser]'")
    if shutil.which("chromedriver") is None:
        pytest.skip("Chromium is not installed: apt-get install chromium chromium-driver")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = int(free.getsockname()[1])
    names = ["beta-vae-mnist", "cvae-mnist", "vq-vae-mnist"]
    command = [sys.executable, "-m", "vaezoo", "explore", *names, "--port", str(number), "--no-browser"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}  # as of a user
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as server:
        try:
            line = server.stdout.readline()  # type: ignore[union-attr]  # a pipe
            assert f"http://127.0.0.1:{number}" in line, line
            yield number
        finally:
            server.send_signal(signal.SIGINT)
            rest, _ = server.communicate(timeout=60)
    assert "Traceback" not in rest and server.returncode in (0, 130), rest


@pytest.fixture(scope="module")
def opened(port: int) -> Iterator[Page]:
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="Selenium is not installed: pip install 'vaezoo[browser]'"
    )
    options = webdriver.ChromeOptions()
    for each in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--enable-unsafe-swiftshader"):
        options.add_argument(each)
    options.add_argument("--window-size=1280,1400")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        driver.set_page_load_timeout(WAIT)
        driver.get(f"http://127.0.0.1:{port}")
        page = Page(driver, port)
        page.until(lambda: page.picture(".vz-moved"), "picture")
        yield page
    finally:
        driver.quit()


def test_the_page_is_served_on_one_address_alone(port: int) -> None:
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", port), timeout=5).close()


def test_a_slider_changes_the_picture(opened: Page) -> None:
    seconds = []
    for number in range(MOVES):
        before, start = opened.picture(".vz-moved"), time.perf_counter()
        opened.move(".vz-slider", 2.5 - 5 * (number % 2) - number / 100)
        opened.until(lambda before=before: opened.picture(".vz-moved") != before, "other picture")  # type: ignore[misc]
        seconds.append(time.perf_counter() - start)
    print(f"median of {MOVES} redraws: {1000 * statistics.median(seconds):.0f} ms")


def test_a_drawing_is_reconstructed(opened: Page) -> None:
    chains = pytest.importorskip("selenium.webdriver").ActionChains
    opened.tab("Draw")
    canvas = opened.until(lambda: opened.all("#canvas canvas"), "canvas")[0]
    opened.until(lambda: opened.driver.execute_script("return Boolean(window.vzBrush)"), "brush")
    time.sleep(3.0)  # the editor sizes its canvas and takes the brush
    chains(opened.driver).move_to_element_with_offset(canvas, 0, -60).click_and_hold().move_by_offset(
        0, 60
    ).move_by_offset(0, 60).release().perform()
    opened.until(lambda: "drawing" in opened.text(".vz-summary"), "drawing")


def test_a_file_that_is_no_image_gives_a_message_and_an_image_its_reconstruction(opened: Page, tmp_path: Path) -> None:
    from PIL import Image

    opened.tab("Upload")
    for name, shown, what in (("wrong.png", ".vz-note", "cannot be read"), ("right.png", ".vz-summary", "uploaded")):
        path = tmp_path / name
        if name == "right.png":
            Image.new("RGB", (50, 50), "white").save(path)
        else:
            path.write_text("no image")
        field = opened.until(lambda: opened.driver.find_elements("css selector", "#file input[type=file]"), "field")[0]
        field.send_keys(str(path))
        opened.until(lambda shown=shown, what=what: what in opened.text(shown), what)  # type: ignore[misc]
        opened.until(lambda: opened.all("#file [aria-label*=lear], #file [aria-label*=emove]"), "button")[0].click()


def test_a_click_on_the_map_decodes_a_point(opened: Page) -> None:
    opened.tab("Map")
    opened.until(lambda: opened.all(".vz-map img"), "map")[0].click()
    opened.until(lambda: opened.picture(".vz-place"), "decoded image")


def test_a_second_model_is_shown_next_to_the_first_and_the_first_changes(opened: Page) -> None:
    opened.choose("Second model, next to it", "vq-vae-mnist")
    opened.until(lambda: len(opened.all(".vz-summary")) == 2, "second model")
    opened.until(lambda: "discrete codes" in opened.text("body"), "reason")
    opened.choose("Model", "cvae-mnist")
    opened.until(lambda: opened.all("input[aria-label=Class]"), "choice of classes")


def test_nothing_failed_and_nothing_was_requested_elsewhere(opened: Page) -> None:
    found = opened.driver.get_log("browser")
    assert not [each for each in found if each["level"] == "SEVERE"]
    addresses = opened.requests()
    own = (f"http://127.0.0.1:{opened.port}/", "data:", "blob:")
    assert len(addresses) > 20 and not [each for each in addresses if not each.startswith(own)]

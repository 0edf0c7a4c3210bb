"""The page of `vaezoo explore`: Gradio components around the functions of `explorer`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any, Final

import torch
from torch import Tensor

from vaezoo.core import require
from vaezoo.errors import ConfigError, VaezooError
from vaezoo.workflows import explorer, explorer_html
from vaezoo.workflows.explorer import IMAGES, SLIDERS, STEP, Explored
from vaezoo.workflows.load import locate
from vaezoo.zoo.index import bundled_models

Gradio = Any  # Any: the module and its components have no types that mypy reads
Handler = Callable[..., Sequence[object]]

FIRST: Final = ("beta-vae-mnist", "vae-mnist")  # the model that is shown first, if it is among the given ones
NONE: Final = "none"
FONTS: Final = ("system-ui", "sans-serif")  # of the reader's machine
FILE_LIMIT: Final = "20mb"
TAKE_BRUSH: Final = """() => {
  if (window.vzBrush) return;
  let left = 100;
  window.vzBrush = setInterval(() => {
    const brush = document.querySelector("#canvas button[aria-label=Brush]");
    if (brush) brush.click();
    if (brush || !--left) clearInterval(window.vzBrush);
  }, 100);
}"""  # chooses the tool that the editor leaves to the user, once it is there
LIVE: Final = {"queue": False, "show_progress": "hidden", "trigger_mode": "always_last", "api_visibility": "private"}


@dataclass(kw_only=True)
class Panel:
    """The components of one model on the page."""

    column: Gradio
    name: Gradio
    choice: Gradio
    message: Gradio
    summary: Gradio
    table: Gradio
    z: Gradio
    sliders: list[Gradio]
    moved: Gradio
    ends: list[Gradio]
    between: Gradio
    map: Gradio
    place: Gradio
    seed: Gradio
    samples: Gradio


def page(names: Sequence[str] = ()) -> Gradio:
    """Returns the page as a `gradio.Blocks` with the function `launch`; see `serve`.

    Args:
        names: names or folders of models; none means all that come with the package.

    Raises:
        MissingExtraError: gradio is not installed.
        UnknownNameError: no such model.
    """
    gradio = require("gradio", "'vaezoo[explore]'", "vaezoo explore")
    known = list(dict.fromkeys(names)) or bundled_models()
    for name in names:
        locate(name)
    first = next((name for name in FIRST if name in known), known[0])
    load = cache(explorer.prepare)
    with gradio.Blocks(title="vaezoo explore", analytics_enabled=False) as blocks:
        gradio.Markdown("## vaezoo explore\nReconstruct, move and sample the latents of variational autoencoders.")
        with gradio.Row():  # below each other on a telephone, where half a line is narrower than a name
            chosen = gradio.Dropdown(known, value=first, label="Model", min_width=240)
            second = gradio.Dropdown([NONE, *known], value=NONE, label="Second model, next to it", min_width=240)
        with gradio.Row():
            source = gradio.State({"index": 0})
            with gradio.Column(scale=1, min_width=300):
                events = inputs(gradio, source)
            with gradio.Column(scale=3, min_width=320), gradio.Row():
                panels = [panel(gradio, chosen, visible=True), panel(gradio, second, visible=False)]
        for each in panels:
            connect(gradio, each, source, load, events, blocks.load if each is panels[0] else None)
    return blocks


def announce(line: str) -> None:
    """Prints a line at once, also into a file or a pipe."""
    print(line, flush=True)


def serve(
    names: Sequence[str] = (),
    *,
    port: int | None = None,
    browser: bool = False,
    report: Callable[[str], object] = announce,
) -> None:
    """Serves the page on 127.0.0.1 until Ctrl-C.

    The page has no fonts, scripts or statistics from elsewhere, and is never shared by a public address.

    Args:
        names: see `page`.
        port: the port; None for the first free one from 7860.
        browser: whether to open the page in a browser.
        report: called with a line once the page is served.

    Raises:
        MissingExtraError: gradio is not installed.
        ConfigError: the port is in use.
    """
    try:
        blocks = page(names)
        _, address, _ = blocks.launch(
            server_name="127.0.0.1", server_port=port, inbrowser=browser, prevent_thread_lock=True, **settings()
        )
    except OSError as error:
        raise ConfigError(f"Could not serve on port {port}: {error}. Choose another one (--port).") from None
    report(f"Serving on {address} until Ctrl-C.")
    blocks.block_thread()


def settings() -> dict[str, Any]:  # Any: arguments of `launch`
    """Returns the arguments of `launch` that do not depend on the machine: theme, limits, nothing from elsewhere."""
    themes = require("gradio.themes", "'vaezoo[explore]'", "vaezoo explore")
    requests = require("starlette.requests", "'vaezoo[explore]'", "vaezoo explore")
    responses = require("starlette.responses", "'vaezoo[explore]'", "vaezoo explore")

    def disconnected(*_: object) -> Any:  # Any: a response, which nobody receives
        return responses.Response(status_code=400)

    return {
        "theme": themes.Default(primary_hue="blue", font=FONTS, font_mono=("ui-monospace", "monospace")),
        "css": explorer_html.CSS,
        "max_file_size": FILE_LIMIT,
        "footer_links": [],
        "quiet": True,
        "share": False,
        "ssr_mode": False,
        "pwa": False,
        "mcp_server": False,
        "enable_monitoring": False,
        # A page that is closed during an upload is no error of the server: without a handler, a traceback is logged.
        "app_kwargs": {"exception_handlers": {requests.ClientDisconnect: disconnected}},
    }


# Components


def inputs(gradio: Gradio, source: Gradio) -> list[Gradio]:
    """Adds the inputs of an image; returns the events that set `source` to {"index"} or {"image", …}."""
    message = gradio.HTML()
    with gradio.Tabs():
        with gradio.Tab("Test image"):
            index = gradio.Slider(0, IMAGES - 1, value=0, step=1, label="Number of the test image", elem_id="index")
        with gradio.Tab("Draw") as drawing:
            canvas = gradio.Sketchpad(
                label="Draw a digit", type="numpy", canvas_size=(280, 280), fixed_canvas=True, layers=False,
                transforms=(), brush=gradio.Brush(default_size=22, colors=["#000000"], color_mode="fixed"),
                elem_id="canvas", buttons=[],
            )  # fmt: skip
        with gradio.Tab("Upload"):
            file = gradio.File(label="Image file", type="filepath", elem_id="file", height=140)
            inverted = gradio.Checkbox(label="Exchange dark and light (for a dark digit on white paper)")

    def draw(canvas: object) -> Sequence[object]:
        return [{"image": explorer.drawn(canvas), "ink": True}]

    def upload(path: str | None, inverted: bool) -> Sequence[object]:
        return [{"index": 0} if path is None else {"image": explorer.uploaded(path), "inverted": inverted}]

    outputs = [message, source]
    drawing.select(None, js=TAKE_BRUSH, api_visibility="private")
    given = [file, inverted]
    return [
        index.input(lambda number: ("", {"index": int(number)}), [index], outputs, **LIVE),
        # The editor sends its images before `change`, but after `input`.
        canvas.change(guarded(gradio, draw, 1), [canvas], outputs, **LIVE),
        *(
            listen(guarded(gradio, upload, 1), given, outputs, **LIVE)
            for listen in (file.upload, file.clear, inverted.input)
        ),
    ]


def panel(gradio: Gradio, name: Gradio, *, visible: bool) -> Panel:
    """Adds the column of one model."""
    with gradio.Column(visible=visible, min_width=320) as column:
        message = gradio.HTML(elem_classes="vz-message")
        choice = gradio.Dropdown([("that of the image", "")], value="", label="Class", visible=False)
        summary, z = gradio.HTML(elem_classes="vz-summary"), gradio.State(None)
        with gradio.Tabs():
            with gradio.Tab("Latents"), gradio.Row():
                moved = gradio.HTML(elem_classes="vz-moved")
                with gradio.Column(scale=2, min_width=240):
                    sliders = [moving(gradio, number) for number in range(SLIDERS)]
            with gradio.Tab("Posterior"):
                table = gradio.HTML()
            with gradio.Tab("Between"):
                texts = ("From test image", "To test image")
                ends = [gradio.Slider(0, IMAGES - 1, value=at, step=1, label=text) for at, text in enumerate(texts)]
                between = gradio.HTML()
            with gradio.Tab("Map"):
                place = gradio.HTML(elem_classes="vz-place")
                gradio.Markdown("Latents of test images. A click on the map decodes the point.")
                map_ = gradio.Image(
                    show_label=False, interactive=False, buttons=[], format="png", elem_classes="vz-map"
                )
            with gradio.Tab("Samples"):
                samples = gradio.HTML(elem_classes="vz-samples")
                seed = gradio.Slider(0, 99, value=0, step=1, label="Seed")
    return Panel(
        column=column, name=name, choice=choice, message=message, summary=summary, table=table, z=z, sliders=sliders,
        moved=moved, ends=ends, between=between, map=map_, place=place, seed=seed, samples=samples,
    )  # fmt: skip


def moving(gradio: Gradio, number: int) -> Gradio:
    """Returns the slider of a latent, hidden until a model is shown."""
    return gradio.Slider(-3, 3, value=0, step=STEP, label=f"z{number}", visible=False, elem_classes="vz-slider")


def guarded(gradio: Gradio, function: Handler, outputs: int) -> Handler:
    """Returns a handler that gives a message, empty or that of an error, before the outputs, which an error keeps."""

    @wraps(function)
    def run(*args: object) -> Sequence[object]:
        try:
            return ["", *function(*args)]
        except VaezooError as error:
            return [explorer_html.note(str(error).partition(" Use reconstructions")[0]), *[gradio.skip()] * outputs]

    return run


# Events


@dataclass(frozen=True, kw_only=True)
class Handlers:
    """The functions behind the events of a panel; each takes the model's name and returns values of components."""

    gradio: Gradio
    load: Callable[[str], Explored]

    def choose(self, name: str) -> Sequence[object]:
        """Returns the visibility of the panel, the choice of classes and its label."""
        if name == NONE:
            return [self.gradio.update(visible=False), self.gradio.skip()]
        classes = self.load(name).classes
        choices = [("that of the image", ""), *((each, each) for each in classes)]
        return [
            self.gradio.update(visible=True),
            self.gradio.update(choices=choices, value="", visible=bool(classes)),
        ]

    def show(self, name: str, source: dict[str, Any], choice: str) -> Sequence[object]:
        """Returns the figures of the image, the latents, the sliders and the image at the sliders."""
        if name == NONE:
            return [self.gradio.skip()] * (SLIDERS + 4)
        explored = self.load(name)
        c, (x, title) = self.context(explored, source, choice), image_of(explored, source)
        view = explorer.view(explored, x, c)
        summary = explorer_html.summary(view, title) + explorer_html.note(explored.note)
        shown = [] if view.z is None else explorer.sliders(explored, view.z, c)
        updates = [
            self.gradio.update(
                label=f"z{each.latent}", minimum=each.low, maximum=each.high, value=each.value, visible=True
            )
            for each in shown
        ]
        updates += [self.gradio.update(visible=False)] * (SLIDERS - len(updates))
        moved = explorer_html.note(explored.obstacle) or at_sliders(view.reconstruction)
        z = None if view.z is None else view.z.tolist()
        return [summary, explorer_html.table(view), z, moved, *updates]

    def move(
        self, name: str, z: list[float] | None, source: dict[str, Any], choice: str, *values: float
    ) -> Sequence[object]:
        """Returns the image at the sliders."""
        explored = self.load(name)
        if z is None:
            return [explorer_html.note(explored.obstacle)]
        c = self.context(explored, source, choice)
        return [at_sliders(explorer.at_sliders(explored, torch.tensor(z), values, c))]

    def interpolate(self, name: str, choice: str, first: float, second: float) -> Sequence[object]:
        """Returns the images between two test images."""
        if name == NONE:
            return [self.gradio.skip()]
        explored = self.load(name)
        if explored.obstacle:
            return [explorer_html.note(explored.obstacle)]
        c = explorer.context_for(explored, choice, int(first))
        ends = [explorer.example(explored, int(index)) for index in (first, second)]
        made = explorer.between(explored, int(first), int(second), c=c)
        captions = [f"image {int(first)}", f"image {int(second)}"]
        return [explorer_html.images(torch.cat(ends), captions) + explorer_html.images(made)]

    def draw_map(self, name: str) -> Sequence[object]:
        """Returns the map and an empty place."""
        if name == NONE:
            return [self.gradio.skip()] * 2
        explored = self.load(name)
        if explored.obstacle:
            return [self.gradio.update(visible=False), explorer_html.note(explored.obstacle)]
        return [self.gradio.update(value=explorer.map_picture(explored).image, visible=True), ""]

    def click(self, name: str, source: dict[str, Any], choice: str, pixel: Sequence[int]) -> Sequence[object]:
        """Returns the map with a cross at a pixel (column, row), and the image decoded there."""
        explored = self.load(name)
        place = explorer.map_picture(explored).place(*pixel)
        made = explorer.at_place(explored, place, self.context(explored, source, choice))
        text = f"decoded at ({', '.join(map(explorer_html.number, place.tolist()))})"
        return [explorer.map_picture(explored, place).image, explorer_html.images(made, [text])]

    def sample(self, name: str, choice: str, seed: float) -> Sequence[object]:
        """Returns samples."""
        if name == NONE:
            return [self.gradio.skip()]
        explored = self.load(name)
        c = explorer.context_for(explored, choice, None) if choice else None
        return [explorer_html.images(explorer.samples(explored, int(seed), c), grid=True)]

    def context(self, explored: Explored, source: dict[str, Any], choice: str) -> Tensor | None:
        """Returns the context (1,) of the chosen class, or of the image."""
        return explorer.context_for(explored, choice, source.get("index"))


def image_of(explored: Explored, source: dict[str, Any]) -> tuple[Tensor, str]:
    """Returns the image (1, *shape) of a source as the model expects it, and its title."""
    if "index" in source:
        kind = "sample" if explored.note else "test image"
        return explorer.example(explored, source["index"]), f"{kind} {source['index']}"
    return explorer.fitted(explored, **source), "drawing" if source.get("ink") else "uploaded image"


def at_sliders(image: Tensor) -> str:
    """Returns the image at the sliders."""
    return explorer_html.images(image, ["decoded at the sliders"])


def connect(
    gradio: Gradio,
    panel: Panel,
    source: Gradio,
    load: Callable[[str], Explored],
    events: Sequence[Gradio],
    started: Gradio | None,
) -> None:
    """Connects the components of a panel: a change of the model draws all of it, other events only what depends on it.

    `events` are those that set `source`; `started` is the event of the page that also draws the panel, or None.
    """
    do = Handlers(gradio=gradio, load=load)

    def click(name: str, source: dict[str, Any], choice: str, event: Any) -> Sequence[object]:  # Any: SelectData
        return do.click(name, source, choice, event.index)

    click.__annotations__["event"] = gradio.SelectData  # Gradio passes the event to an argument of this type

    def wire(listen: Callable[..., Gradio], function: Handler, given: list[Gradio], outputs: list[Gradio]) -> Gradio:
        return listen(guarded(gradio, function, len(outputs)), given, [panel.message, *outputs], **LIVE)

    image = [panel.summary, panel.table, panel.z, panel.moved, *panel.sliders]
    steps: list[tuple[Handler, list[Gradio], list[Gradio]]] = [
        (do.choose, [panel.name], [panel.column, panel.choice]),
        (do.show, [panel.name, source, panel.choice], image),
        (do.interpolate, [panel.name, panel.choice, *panel.ends], [panel.between]),
        (do.draw_map, [panel.name], [panel.map, panel.place]),
        (do.sample, [panel.name, panel.choice, panel.seed], [panel.samples]),
    ]
    for start in filter(None, (panel.name.input, started)):
        event = None
        for step in steps:
            event = wire(start if event is None else event.success, *step)
    for each in events:
        wire(each.success, *steps[1])
    for step in (steps[1], steps[2], steps[4]):
        wire(panel.choice.input, *step)
    for end in panel.ends:
        wire(end.input, *steps[2])
    wire(panel.seed.input, *steps[4])
    for slider in panel.sliders:
        wire(slider.input, do.move, [panel.name, panel.z, source, panel.choice, *panel.sliders], [panel.moved])
    wire(panel.map.select, click, [panel.name, source, panel.choice], [panel.map, panel.place])

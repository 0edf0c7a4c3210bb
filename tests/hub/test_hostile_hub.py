"""A Hub that answers with too much, too slowly, in the wrong form or with control characters; and tokens in errors."""

import gzip
import json
import re
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub.test_faults import at, page, silence, status
from huggingface_hub.utils import close_session, get_session
from support.hub_server import Fault, Handler, Hub, same

import vaezoo
from vaezoo.errors import ConfigError, DownloadError, VaezooError
from vaezoo.hub import client
from vaezoo.workflows import publish
from vaezoo.workflows.load import pull

Tiny = tuple[vaezoo.VAE, str]
FIGURES = {"data": "digits", "split": "test", "examples": 1, "samples": 1, "distortion": 1.0, "rate": 1.0}
SIZE = 30_000_000
BOMBS = {
    "gzip": gzip.compress(bytes(SIZE)),
    "deflate": zlib.compress(bytes(SIZE)),
    "GZIP": gzip.compress(gzip.compress(bytes(SIZE))),
    "gzip, gzip": gzip.compress(gzip.compress(bytes(SIZE))),
    "zstd": b"\x28\xb5\x2f\xfd" + bytes(20),
    "br": bytes(20),
}


def compressed(encoding: str, code: int = 200) -> Fault:
    """Answers with a body that is small before it is decompressed."""

    def fault(handler: Handler) -> bool:
        if handler.command == "HEAD":
            return False
        return handler.reply(code, BOMBS[encoding], Content_Encoding=encoding)

    return fault


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("stage", ["commit", "config", "weights"])
@pytest.mark.parametrize("encoding", BOMBS)
def test_compressed_answer_is_refused(hub: Hub, tiny: Tiny, stage: str, encoding: str, tmp_path: Path) -> None:
    hub.fault = at(stage, compressed(encoding))
    with pytest.raises(DownloadError, match="the answer is compressed"):
        vaezoo.load("hf:them/tiny")
    assert size_of(tmp_path / "cache") < 100_000
    hub.fault = None
    assert same(vaezoo.load("hf:them/tiny"), tiny[0])


@pytest.mark.parametrize("stage", ["commit", "weights"])
@pytest.mark.parametrize("code", [404, 500])
def test_compressed_error_page_is_refused(hub: Hub, tiny: Tiny, stage: str, code: int) -> None:
    hub.fault = at(stage, compressed("gzip", code))
    with pytest.raises(DownloadError, match="the answer is compressed"):
        vaezoo.load("hf:them/tiny")


@pytest.mark.parametrize("stage", ["commit", "config", "weights"])
def test_answer_without_end_is_refused(hub: Hub, tiny: Tiny, stage: str, tmp_path: Path) -> None:
    def fault(handler: Handler) -> bool:
        if handler.command == "HEAD":
            return False
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.close_connection = True
        try:
            for _ in range(1000):
                handler.wfile.write(b"%x\r\n" % 10**5 + b" " * 10**5 + b"\r\n")
                handler.hub.sent.append(10**5)
        except OSError:
            pass
        return True

    hub.fault = at(stage, fault)
    with pytest.raises(DownloadError, match=r"more than [0-9,]+ bytes, the most expected"):
        vaezoo.load("hf:them/tiny")
    assert sum(hub.sent) < 3e7 and size_of(tmp_path / "cache") < 1e5


def test_dripping_answer_takes_no_longer_than_the_limit(hub: Hub, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.close_connection = True
        for _ in range(100):
            handler.wfile.write(b" ")
            if handler.hub.closing.wait(0.05):
                break
        return True

    hub.fault = at("commit", fault)
    monkeypatch.setattr(client, "TIMEOUT", 0.3)
    start = time.perf_counter()
    with pytest.raises(DownloadError, match=r"took more than 0.3 seconds"):
        vaezoo.load("hf:them/tiny")
    assert time.perf_counter() - start < 2


FORMS = ["[]", "3", "null", '"x"', "{}", "{", "[" * 10**5, '{"id": 1, "sha": []}', '{"sha": "0", "siblings": []}']
FORMS += [
    json.dumps({"id": "them/tiny", "sha": "0" * 40, "siblings": siblings})
    for siblings in (3, [3], {"a": 1}, [{}], [{"rfilename": {}}], [{"rfilename": [1]}])
]


@pytest.mark.parametrize("text", FORMS, ids=range(len(FORMS)))
def test_look_up_of_the_wrong_form_is_one_clear_error(hub: Hub, tiny: Tiny, text: str) -> None:
    hub.fault = at("commit", lambda handler: handler.reply(200, text.encode()))
    with pytest.raises(DownloadError, match=r"^hf:them/tiny could not be fetched: "):
        vaezoo.load("hf:them/tiny")


@pytest.mark.parametrize("stage", ["commit", "config", "weights"])
def test_control_characters_of_the_hub_are_escaped(
    hub: Hub, tiny: Tiny, stage: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def fault(handler: Handler) -> bool:
        headers = {"X_Error_Message": "C1 \x9b2J", "X_HF_Warning": f"{stage}; \x9b2J"}
        return handler.reply(400, json.dumps({"error": "\x1b]0;title\x07 \x9b2J \u202e"}).encode(), **headers)

    hub.fault = at(stage, fault)
    with pytest.raises(DownloadError) as raised:
        vaezoo.load("hf:them/tiny")
    printed = capsys.readouterr()
    assert all(each.isprintable() or each == "\n" for each in f"{raised.value}{printed.out}{printed.err}")


def test_messages_of_errors_and_warnings_have_no_control_characters() -> None:
    for error in (ConfigError("\x1b[2J\u202e"), DownloadError("\x1b[2J\x9b"), VaezooError("\x07")):
        assert str(error).isprintable()
    assert str(ConfigError("a\n\tb é → ±")) == "a\n\tb é → ±"
    with pytest.warns(UserWarning, match=r"^\\x1b\[2J$"):
        vaezoo.errors.warn("\x1b[2J")


SECRET = "hf_abcdefghijklmnop"


@pytest.mark.parametrize(
    "token", [f"{SECRET}\nX-Other: 1", f"{SECRET}\r\n\r\nGET /", f"{SECRET} x", f"{SECRET}é", "", 3]
)
def test_malformed_token_is_refused_and_not_shown(hub: Hub, tiny: Tiny, token: str) -> None:
    calls = (
        lambda: vaezoo.load("hf:them/tiny", token=token),
        lambda: pull("hf:them/tiny", token=token),
        lambda: vaezoo.push(tiny[0], "us/tiny", metrics=FIGURES, token=token),
    )
    for call in calls:
        with pytest.raises(ConfigError, match="token is malformed") as raised:
            call()
        assert "abcdefgh" not in str(raised.value)
    assert not hub.requests


def test_token_from_a_file_may_end_with_a_newline(hub: Hub, tiny: Tiny) -> None:
    vaezoo.load("hf:them/tiny", token="secret\n")
    assert {request.token for request in hub.requests if "them/tiny" in request.path} == {"secret"}


@pytest.mark.parametrize("end", ["\x01", "\x1b[2J", "é", "\nX: y"])
def test_malformed_token_of_the_environment_is_not_shown(
    hub: Hub, tiny: Tiny, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", f"{SECRET}{end}")
    with pytest.raises(DownloadError) as raised:
        vaezoo.load("hf:them/tiny")
    assert "abcdefgh" not in str(raised.value) and str(raised.value).isprintable()


def test_secrets_are_left_out_of_reasons() -> None:
    shown = (
        f"Illegal header value b'Bearer {SECRET} x'",
        f"token {SECRET} is no token",
        "cannot reach http://user:abcdefghi@proxy:8080/x",
        "403 for url 'https://cdn.example/x?X-Amz-Signature=abcdefghi'",
        "Authorization: Basic abcdefghi",
    )
    for text in shown:
        assert "abcdefgh" not in client.reason(OSError(text))
    assert client.reason(ValueError("plain")) == "ValueError: plain"


# Publishing

STAGES = {
    "create": r"/api/repos/create",
    "branch": r".*/branch/",
    "upload mode": r".*/preupload/",
    "large files": r".*/objects/batch",
    "storage": r"/large/",
    "listing": r".*/tree/",
    "commit": r".*/commit/",
}


def during(stage: str, fault: Fault) -> Fault:
    return lambda handler: re.match(STAGES[stage], handler.path) is not None and fault(handler)


@pytest.fixture
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Publishes no picture, which takes half a second."""
    monkeypatch.setattr(publish, "draw_pictures", lambda *_: {})


@pytest.mark.usefixtures("no_picture")
@pytest.mark.parametrize("stage", ["commit", *(pytest.param(each, marks=pytest.mark.full) for each in [*STAGES][:-1])])
def test_push_to_a_silent_hub_ends(hub: Hub, tiny: Tiny, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "PATIENCE", 0.2)
    hub.large.clear()  # so that the weights are sent
    hub.fault = during(stage, silence)
    start = time.perf_counter()
    with pytest.raises(DownloadError, match=r"could not be published: "):
        vaezoo.push(tiny[0], "us/tiny", metrics=FIGURES, revision="work")
    assert time.perf_counter() - start < 15


@pytest.mark.usefixtures("no_picture")
@pytest.mark.parametrize("stage", ["create", "upload mode", "large files", "listing", "commit"])
@pytest.mark.parametrize(
    "text", ["3", *(pytest.param(each, marks=pytest.mark.full) for each in ("null", "{", '{"objects": [3]}'))]
)
def test_push_with_answers_of_the_wrong_form_is_one_error(hub: Hub, tiny: Tiny, stage: str, text: str) -> None:
    hub.fault = during(stage, lambda handler: handler.reply(200, text.encode()))
    with pytest.raises(DownloadError, match=r"could not be published: "):
        vaezoo.push(tiny[0], "us/tiny", metrics=FIGURES)


@pytest.mark.usefixtures("no_picture")
@pytest.mark.parametrize("fault", [status(500), page, compressed("gzip")], ids=["500", "HTML", "gzip"])
def test_push_to_a_faulty_hub_is_one_error(hub: Hub, tiny: Tiny, fault: Fault) -> None:
    hub.fault = fault
    with pytest.raises(DownloadError, match=r"could not be published: "):
        vaezoo.push(tiny[0], "us/tiny", metrics=FIGURES)


# Proxies


@pytest.fixture
def socks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A SOCKS proxy, for which the HTTP library needs another package."""
    close_session()
    for name in ("ALL_PROXY", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "socks5://user:abcdefghi@127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    yield
    close_session()


@pytest.mark.usefixtures("no_picture")
def test_socks_proxy_is_one_clear_error(hub: Hub, tiny: Tiny, socks: None) -> None:
    for call in (lambda: vaezoo.load("hf:them/tiny"), lambda: vaezoo.push(tiny[0], "us/tiny", metrics=FIGURES)):
        with pytest.raises(DownloadError) as raised:
            call()
        assert "abcdefgh" not in str(raised.value)


def test_hooks_change_no_other_request(hub: Hub, tiny: Tiny) -> None:
    """The client's session is shared with other libraries, whose compressed answers still arrive."""
    vaezoo.load("hf:them/tiny")
    hub.fault = lambda handler: handler.reply(200, gzip.compress(b"text"), Content_Encoding="gzip")
    assert get_session().get(f"{hub.endpoint}/any").text == "text"


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("stage", ["commit", "config", "weights"])
def test_redirect_takes_no_token_to_another_host(hub: Hub, tiny: Tiny, stage: str, code: int) -> None:
    elsewhere = f"{hub.storage}/large/0"
    place = elsewhere if stage != "weights" else f"{hub.storage}/large/1"

    def fault(handler: Handler) -> bool:
        return handler.path != "/large/1" and handler.reply(code, Location=place)

    hub.fault = at(stage, fault)
    with pytest.raises(DownloadError):
        vaezoo.load("hf:them/tiny", token="secret")
    assert {request.token for request in hub.elsewhere} == ({None} if stage != "config" else set())  # not followed
    assert "secret" in {request.token for request in hub.requests}


@pytest.mark.usefixtures("no_picture")
@pytest.mark.parametrize("code", [302, 307, 308])
@pytest.mark.parametrize("stage", ["create", "upload mode", "commit"])
def test_redirect_of_a_push_takes_no_token_to_another_host(hub: Hub, tiny: Tiny, stage: str, code: int) -> None:
    hub.fault = during(stage, lambda handler: handler.reply(code, Location=f"{hub.storage}/large/0"))
    with pytest.raises(DownloadError):
        vaezoo.push(tiny[0], "us/tiny", metrics=FIGURES)
    assert {request.token for request in hub.elsewhere} <= {None}

"""The plugin before servers that are no ainode: its module is loaded beside a stand-in for Orthanc's own."""

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from support.node import ROOT
from support.waiting import until
from support.web_archives import Answer, http, said

Load = Callable[[str], Any]


def html(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    request.wfile.write(b"<html>Sign in</html>")


def cut_short(request: BaseHTTPRequestHandler) -> None:
    request.send_response(202)
    request.send_header("Content-Length", "600")
    request.end_headers()
    request.wfile.write(b'{"study_')


def no_http(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"\x07\0\0\0\0\x04\0\0\0\0\r\n")


def refusal_cut_short(request: BaseHTTPRequestHandler) -> None:
    request.send_response(503)
    request.send_header("Content-Length", "600")
    request.end_headers()
    request.wfile.write(b'{"det')


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Return what loads the plugin for a node's address; Orthanc holds one study of one instance."""
    loaded = []

    def load(url: str) -> Any:  # noqa: ANN401 - a script of Orthanc, in no package
        monkeypatch.setitem(sys.modules, "orthanc", an_orthanc(url))
        spec = importlib.util.spec_from_file_location("plugin", ROOT / "docker" / "orthanc" / "ainode_plugin.py")
        assert spec
        assert spec.loader
        plugin = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(plugin)
        plugin.MESSENGER.start()
        loaded.append(plugin)
        return plugin

    yield load
    for plugin in loaded:
        plugin.MESSENGER.stop()


def an_orthanc(url: str) -> ModuleType:
    resources = {
        "/studies/a": {"Series": ["s"], "MainDicomTags": {"StudyInstanceUID": "1.2"}},
        "/series/s": {"Instances": ["i"]},
    }

    class OrthancException(Exception):
        pass

    def get(path: str) -> bytes:
        if path not in resources:
            raise OrthancException
        return json.dumps(resources[path]).encode()

    module = ModuleType("orthanc")
    nothing = ("RestApiPut", "SetGlobalProperty", "LogWarning", "RegisterOnChangeCallback", "RegisterRestCallback")
    vars(module).update({name: lambda *_: None for name in (*nothing, "ExtendOrthancExplorer")})
    vars(module).update(
        OrthancException=OrthancException,
        RestApiGet=get,
        GetGlobalProperty=lambda _, default: default,
        GetConfiguration=lambda: json.dumps({"AiNode": {"Url": url, "Token": "a-secret"}}),
    )
    return module


@pytest.mark.parametrize("strange", [html, cut_short, no_http, refusal_cut_short])
def test_a_strange_answer_leaves_the_study_to_be_told_again(load: Load, strange: Answer) -> None:
    asked = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        said(request, 202, {}) if len(asked) > 1 else strange(request)

    with http(answer) as peer:
        plugin = load(peer.dicomweb)
        plugin.MESSENGER.tell("a")
        until(lambda: plugin.MESSENGER.pending("a") is None)
    assert len(asked) == 2


@pytest.mark.parametrize("strange", [html, cut_short, no_http])
def test_what_is_no_node_is_said_with_where_to_look_and_without_the_token(load: Load, strange: Answer) -> None:
    answers: list[str] = []
    output = SimpleNamespace(AnswerBuffer=lambda content, _: answers.append(content))
    with http(strange) as peer:
        load(peer.dicomweb).on_request(output, "", method="GET", groups=["a"])
    error = json.loads(answers[0])["error"]
    assert f"what answers at {peer.dicomweb} is no ainode" in error
    assert "look at Url" in error
    assert "a-secret" not in error


def test_an_address_without_a_scheme_is_said_and_tried_again(load: Load) -> None:
    plugin = load("ainode")
    plugin.MESSENGER.tell("a")
    until(lambda: plugin.MESSENGER.pending("a")["tries"] == 1)
    assert "look at Url" in plugin.MESSENGER.pending("a")["error"]
    until(lambda: plugin.MESSENGER.pending("a")["tries"] == 2)

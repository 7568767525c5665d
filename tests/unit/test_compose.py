"""docker/compose.yml and compose.scale.yml without docker: their files are there, and their parts mean each other."""

import json
import re
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from support.node import ROOT
from support.viewer import VERSION

from ainode.node import settings
from ainode.node.starting.joining import is_shared, terms_of

DOCKER = ROOT / "docker"
SERVICES: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yml").read_text(encoding="utf-8"))["services"]
SCALED: dict[str, Any] = yaml.safe_load((DOCKER / "compose.scale.yml").read_text(encoding="utf-8"))["services"]
ORTHANC: dict[str, Any] = json.loads((DOCKER / "orthanc" / "orthanc.json").read_text(encoding="utf-8"))


def built(service: str) -> tuple[Path, str]:
    """Return a service's build context and its Dockerfile."""
    build = SERVICES[service]["build"]
    where = build if isinstance(build, dict) else {"context": build}
    context = DOCKER / where["context"]
    return context, (context / where.get("dockerfile", "Dockerfile")).read_text(encoding="utf-8")


def make_configuration(command: str, folder: Path) -> None:
    """Run the steps of the node's command before its last, in a folder instead of a temporary one."""
    steps = command.replace('cd "$$(mktemp -d)"', f'cd "{folder}"').replace("/opt/ainode", str(ROOT))
    subprocess.run(["sh", "-ec", re.sub(r"^exec .*$", "", steps, flags=re.MULTILINE)], check=True)


def node_settings(folder: Path, monkeypatch: pytest.MonkeyPatch, zone: str = "") -> settings.Settings:
    """Return what the node of the composition is told: its environment, and routes made by its own command."""
    node = SERVICES["node"]
    for name, value in node["environment"].items():
        monkeypatch.setenv(name, re.sub(r"\$\{TIME_ZONE:-\}", zone, str(value)))
    (command,) = node["command"]
    make_configuration(command, folder)
    return settings.load(folder / "node.toml")


def test_the_node_of_the_composition_may_write_to_its_data_and_gains_no_rights() -> None:
    node = SERVICES["node"]
    assert (node["read_only"], node["cap_drop"]) == (True, ["ALL"])
    assert {*node["tmpfs"], node["environment"]["HOME"]} == {"/tmp"}  # noqa: S108 - of the container
    assert all("no-new-privileges:true" in service["security_opt"] for service in SERVICES.values())


def test_demonstration_weights_answer_after_the_change_that_a_comment_describes(tmp_path: Path) -> None:
    text = (DOCKER / "compose.yml").read_text(encoding="utf-8")
    key = r"\nallow_demonstration = true"
    assert f"append {key} to the last expression of sed" in text
    (command,) = SERVICES["node"]["command"]
    assert command.count('["orthanc"]/') == 1
    changed = command.replace('["orthanc"]/', f'["orthanc"]{key}/')
    make_configuration(changed, tmp_path)
    routes = tomllib.loads((tmp_path / "routes.toml").read_text(encoding="utf-8"))["route"]
    assert {route["allow_demonstration"] for route in routes} == {True}


@pytest.mark.parametrize("service", SERVICES)
def test_every_file_that_an_image_copies_is_there(service: str) -> None:
    context, dockerfile = built(service)
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, flags=re.MULTILINE)
    assert copied
    assert not [name for line in copied for name in line.split() if not (context / name).exists()]


def test_every_service_starts_again_by_itself() -> None:
    assert {service["restart"] for service in SERVICES.values()} == {"unless-stopped"}


def test_the_health_of_the_node_is_what_its_web_interface_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = SERVICES["node"]
    port = node_settings(tmp_path, monkeypatch).web.port
    kind, program, *arguments = node["healthcheck"]["test"]
    _, dockerfile = built("node")
    assert kind == "CMD"
    assert program.removesuffix("python") in dockerfile
    answers = {"/health": 200}

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answers.get(self.path, 404))
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [argument.replace(f":{port}/", f":{server.server_port}/") for argument in arguments]
        assert command != arguments
        for status, is_healthy in ((200, True), (503, False)):
            answers["/health"] = status
            done = subprocess.run([sys.executable, *command], capture_output=True, check=False, timeout=120)
            assert (done.returncode == 0) is is_healthy
        server.shutdown()


def test_the_zone_of_the_environment_is_that_of_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert node_settings(tmp_path, monkeypatch).node.time_zone == ""
    assert node_settings(tmp_path, monkeypatch, zone="Asia/Tokyo").node.time_zone == "Asia/Tokyo"


def test_nothing_is_reached_from_another_machine() -> None:
    assert all(port.startswith("127.0.0.1:") for one in SERVICES.values() for port in one["ports"])


def test_the_node_takes_its_environment_and_sends_every_result_to_orthanc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = node_settings(tmp_path, monkeypatch)
    assert {route.destinations for route in told.routes} == {("orthanc",)}
    assert [route.name for route in told.routes] == [route.name for route in settings.load().routes]
    peer = told.peer(ORTHANC["AiNode"]["Peer"])
    assert (peer.ae_title, peer.host, peer.port) == (ORTHANC["DicomAet"], "orthanc", ORTHANC["DicomPort"])
    assert peer.orthanc == f"http://orthanc:{ORTHANC['HttpPort']}"
    assert peer.deliver == "orthanc"  # what is pulled by REST goes back by REST
    assert ORTHANC["DicomModalities"] == {"AINODE": [told.node.ae_title, "node", told.node.port]}


def test_the_plugin_is_told_where_the_node_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = node_settings(tmp_path, monkeypatch)
    environment = SERVICES["orthanc"]["environment"]
    assert told.web.enabled
    assert environment["AINODE_URL"] == f"http://node:{told.web.port}"
    assert "${AINODE_TOKEN:-}" in environment.values()
    assert f"127.0.0.1:{told.web.port}:{told.web.port}" in SERVICES["node"]["ports"]


def test_each_published_port_is_one_that_its_service_listens_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = node_settings(tmp_path, monkeypatch)
    listening = {
        "orthanc": {ORTHANC["HttpPort"], ORTHANC["DicomPort"]},
        "node": {told.web.port, told.node.port},
        "ohif": {int(re.findall(r"listen (\d+);", (DOCKER / "ohif" / "nginx.conf").read_text())[0])},
    }
    for service, ports in listening.items():
        assert {int(port.rsplit(":")[-1]) for port in SERVICES[service]["ports"]} == ports


def test_the_viewer_is_the_tested_one_and_asks_that_orthanc() -> None:
    _, dockerfile = built("ohif")
    assert f"@ohif/app@{VERSION} " in dockerfile
    nginx = (DOCKER / "ohif" / "nginx.conf").read_text(encoding="utf-8")
    assert f"proxy_pass http://orthanc:{ORTHANC['HttpPort']};" in nginx
    for header in ("Cross-Origin-Opener-Policy same-origin", "Cross-Origin-Embedder-Policy require-corp"):
        assert header in nginx


def scaled_settings(service: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> settings.Settings:
    """Return what a service of the larger composition is told: its environment beside that of compose.yml."""
    environment = SERVICES.get(service, {}).get("environment", {}) | SCALED[service]["environment"]
    (command,) = (SERVICES.get(service, {}) | SCALED[service])["command"]
    folder.mkdir()
    with monkeypatch.context() as shell:
        for name, value in environment.items():
            shell.setenv(name, re.sub(r"\$\{\w+(:-)?\}", "secret" if "PASSWORD" in str(value) else "", str(value)))
        make_configuration(command, folder)
        return settings.load(folder / "node.toml")


def test_a_worker_of_the_larger_composition_has_all_in_common_with_its_node_that_a_worker_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, worker = (scaled_settings(name, tmp_path / name, monkeypatch) for name in ("node", "worker"))
    assert terms_of(node) == terms_of(worker)
    assert is_shared(node)
    assert node.database_url == worker.database_url
    assert "ainode worker --config" in SCALED["worker"]["command"][0]


def test_a_worker_of_the_larger_composition_has_the_data_of_the_node_and_no_more_rights() -> None:
    node, worker = SERVICES["node"], SCALED["worker"]
    for key in ("volumes", "read_only", "tmpfs", "cap_drop", "security_opt", "restart", "build"):
        assert worker[key] == node[key], key
    assert "ports" not in worker
    assert "hostname" in SCALED["node"]
    assert "hostname" not in worker  # each worker is known by the name of its container


def test_the_database_of_the_larger_composition_is_the_one_that_node_and_workers_are_told() -> None:
    environment = SCALED["postgres"]["environment"]
    url = f"postgresql+psycopg://{environment['POSTGRES_USER']}:${{POSTGRES_PASSWORD}}@postgres/{environment['POSTGRES_DB']}"
    for name in ("node", "worker"):
        assert SCALED[name]["environment"]["AINODE_DATABASE__URL"] == url
    assert "no-new-privileges:true" in SCALED["postgres"]["security_opt"]
    assert "ports" not in SCALED["postgres"]

# ruff: noqa: INP001 - a script of Orthanc, in no package
"""Orthanc tells the node of each study that became stable, and shows what became of it.

For the Python plugin of a stock Orthanc, as Debian's 1.10: the standard library only. Configuration (`AiNode` in
orthanc.json, or the environment): Url, Token, Peer (how the node's node.toml names this Orthanc), Automatic.

Whom the node has not heard of yet stands in Orthanc's database (a global property): neither a node that is down nor a
restart of Orthanc loses a study. What was announced last stands at the study (metadata), as a digest of its instances
without the node's own results: they come back as a change of the study, and are no reason to announce it.
"""

import hashlib
import http.client
import json
import os
import threading
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orthanc

# Orthanc's numbers for what is not its own begin at 1024.
_PENDING_PROPERTY = 4711
_ANNOUNCED_METADATA = 4711
_OUR_MODEL_NAME = "ainode"
_MODEL_NAME_TAG = "0008-1090"
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0
_TIMEOUT_S = 10.0


class Node:
    """The node's HTTP interface."""

    def __init__(self, configuration: dict[str, Any]) -> None:
        """Take what the environment says, else what orthanc.json says."""

        def said(key: str, default: str = "") -> str:
            return os.environ.get("AINODE_" + key.upper()) or configuration.get(key, default)

        self._url, self._token, self.peer = said("Url").rstrip("/"), said("Token"), said("Peer", "orthanc")

    def ask(self, method: str, path: str, question: dict[str, Any] | None = None) -> Any:  # noqa: ANN401
        """Return the node's answer; raise OSError, with the reason as its text, where there is none."""
        if not (self._url and self._token):
            raise OSError("AiNode has no Url or Token: `ainode token add orthanc` makes one")
        body = None if question is None else json.dumps(question).encode()
        headers = {"Authorization": "Bearer " + self._token, "Content-Type": "application/json"}
        try:
            request = urllib.request.Request(self._url + path, body, headers, method=method)  # noqa: S310 - the operator's
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise OSError(f"the node answered {error.code}: {_detail(error)}") from error
        except OSError as error:
            raise OSError(f"the node does not answer: {getattr(error, 'reason', error)}") from error
        except (ValueError, http.client.HTTPException) as error:
            # without the error's text, which may repeat the token
            kind = type(error).__name__
            raise OSError(f"what answers at {self._url} is no ainode ({kind}); look at Url and Token") from error


def _detail(error: urllib.error.HTTPError) -> str:
    """Return what the node says is wrong."""
    try:
        return json.load(error)["detail"]
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return error.reason


class Study:
    """A study of this Orthanc."""

    def __init__(self, identifier: str) -> None:
        """Look it up; raises orthanc.OrthancException for an unknown one."""
        self.identifier = identifier
        self._path = "/studies/" + identifier
        self._series = _get(self._path)["Series"]
        self.uid = _get(self._path)["MainDicomTags"]["StudyInstanceUID"]

    def sources(self) -> list[str]:
        """Return the instances that are no result of the node."""
        series = (_get("/series/" + one)["Instances"] for one in self._series)
        return sorted(one for instances in series if not _is_ours(instances) for one in instances)

    def announced(self) -> str:
        """Return the digest of what was announced last, '' for a study that never was."""
        try:
            return orthanc.RestApiGet(f"{self._path}/metadata/{_ANNOUNCED_METADATA}").decode()
        except orthanc.OrthancException:
            return ""

    def remember(self, digest: str) -> None:
        """Keep the digest of what was announced."""
        orthanc.RestApiPut(f"{self._path}/metadata/{_ANNOUNCED_METADATA}", digest.encode())


def _get(path: str) -> Any:  # noqa: ANN401
    return json.loads(orthanc.RestApiGet(path))


def _is_ours(instances: list[str]) -> bool:
    """Whether a series is a result: the node names itself in Manufacturer's Model Name of all it makes."""
    try:
        said = orthanc.RestApiGet(f"/instances/{instances[0]}/content/{_MODEL_NAME_TAG}")
    except (orthanc.OrthancException, IndexError):
        return False
    return said.decode(errors="replace").strip(" \0") == _OUR_MODEL_NAME


class Messenger:
    """Tells the node, in a thread of its own, until it has heard."""

    def __init__(self, node: Node) -> None:
        """Ask nothing of Orthanc yet: its database is closed while it loads its plugins."""
        self._node = node
        self._changed = threading.Condition()
        self._pending: dict[str, Any] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Go on with what an earlier run left."""
        kept = json.loads(orthanc.GetGlobalProperty(_PENDING_PROPERTY, "{}"))
        self._pending = {one: {**entry, "due": 0} for one, entry in kept.items()}
        self._thread.start()

    def stop(self) -> None:
        """End; what is pending is told by the next run."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def tell(self, identifier: str, question: dict[str, Any] | None = None) -> None:
        """Have the node told of a study; a question (read now) goes to it even if it knows the study."""
        with self._changed:
            old = self._pending.get(identifier, {})
            question = old.get("question") if question is None else question
            self._pending[identifier] = {"question": question, "tries": 0, "error": "", "due": 0}
            self._keep()
            self._changed.notify()

    def pending(self, identifier: str) -> dict[str, Any] | None:
        """Return what is still to be told of a study, None if nothing is."""
        with self._changed:
            entry = self._pending.get(identifier)
        return entry and {
            "tries": entry["tries"],
            "error": entry["error"],
            "next_try_in_s": round(max(0.0, entry["due"] - time.monotonic()), 1),
        }

    def _keep(self) -> None:
        orthanc.SetGlobalProperty(_PENDING_PROPERTY, json.dumps(self._pending))

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._stopping:
                    return
                now = time.monotonic()
                due = [one for one, entry in self._pending.items() if entry["due"] <= now]
                if not due:
                    waits = [entry["due"] - now for entry in self._pending.values()]
                    self._changed.wait(min(waits, default=_LONGEST_WAIT_S))
                    continue
                identifier, entry = due[0], self._pending[due[0]]
            self._settle(identifier, entry, self._told(identifier, entry["question"]))

    def _settle(self, identifier: str, entry: dict[str, Any], error: str) -> None:
        """Forget what was told, or note why not and when to try again."""
        with self._changed:
            if self._pending.get(identifier) is not entry:
                return  # there is more to tell since
            if error:
                wait_s = min(_FIRST_WAIT_S * 2 ** min(entry["tries"], 10), _LONGEST_WAIT_S)
                entry.update(tries=entry["tries"] + 1, error=error, due=time.monotonic() + wait_s)
                orthanc.LogWarning(f"ainode: {error}; again in {wait_s:.0f} s")
            else:
                del self._pending[identifier]
            self._keep()

    def _told(self, identifier: str, question: dict[str, Any] | None) -> str:
        """Tell the node of one study; return why that failed, '' where it did not."""
        try:
            study = Study(identifier)
            sources = study.sources()
            digest = hashlib.sha256(json.dumps(sources).encode()).hexdigest()
            if not sources or (question is None and digest == study.announced()):
                return ""
            path = "/studies/" + study.uid
            # The identifier, not the UID alone: of a second patient under the same UID Orthanc has another study.
            named = {"peer": self._node.peer, "orthanc_study": study.identifier}
            if question is None:
                self._node.ask("POST", path + "/announce", {**named, "instances": len(sources)})
            else:
                self._node.ask("POST", path + "/read", {**question, **named})
            study.remember(digest)
        except orthanc.OrthancException:
            return ""  # the study was removed
        except OSError as error:
            return str(error)
        return ""


def on_request(output: Any, _uri: str, **request: Any) -> None:  # noqa: ANN401
    """GET: what is known of a study, here and at the node. POST: have it read now."""
    identifier = request["groups"][0]
    try:
        study = Study(identifier)
        if request["method"] == "POST":
            question = json.loads(request["body"] or b"{}")
            MESSENGER.tell(identifier, question if isinstance(question, dict) else {})
        elif request["method"] != "GET":
            output.SendMethodNotAllowed("GET,POST")
            return
    except orthanc.OrthancException:
        output.SendHttpStatusCode(HTTPStatus.NOT_FOUND)
        return
    except ValueError:
        output.SendHttpStatusCode(HTTPStatus.BAD_REQUEST)
        return
    state = {"study_instance_uid": study.uid, "untold": MESSENGER.pending(identifier), "node": None, "error": ""}
    try:
        state["node"] = NODE.ask("GET", "/studies/" + study.uid)
    except OSError as error:
        state["error"] = str(error)
    output.AnswerBuffer(json.dumps(state, indent=1), "application/json")


def on_change(change: int, _level: int, resource: str) -> None:
    """Tell the node of a stable study; begin and end with Orthanc."""
    if change == orthanc.ChangeType.ORTHANC_STARTED:
        MESSENGER.start()
    elif change == orthanc.ChangeType.ORTHANC_STOPPED:
        MESSENGER.stop()
    elif change == orthanc.ChangeType.STABLE_STUDY and AUTOMATIC:
        MESSENGER.tell(resource)


_CONFIGURATION = json.loads(orthanc.GetConfiguration()).get("AiNode", {})
AUTOMATIC = _CONFIGURATION.get("Automatic", True)
NODE = Node(_CONFIGURATION)
MESSENGER = Messenger(NODE)
orthanc.RegisterOnChangeCallback(on_change)
orthanc.RegisterRestCallback("/ainode/studies/([0-9a-f-]+)", on_request)
orthanc.ExtendOrthancExplorer(Path(__file__).with_name("explorer.js").read_text(encoding="utf-8"))

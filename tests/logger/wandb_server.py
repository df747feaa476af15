"""A small W&B on this machine: what the client asks of one project, with faults on demand."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

ANY = re.compile(r"/.*")


@dataclass
class Entry:
    """A run. `id`: W&B's own; `made`: the order in which runs were made."""

    id: str
    name: str
    made: int
    state: str = "running"
    files: dict[str, bytes] = field(default_factory=dict)


class Server:
    """`runs` of `project` by W&B's own id. `asked`: the GraphQL operations and, of files, the names sent. `short`: file
    → with how many of its bytes its connection breaks off; `gone`: files that are listed and not there; `instead`:
    what comes in a file's place. `shut`: the status with which all is refused. `stalls`: whether it takes no file."""

    def __init__(self, project: str) -> None:
        self.project = project
        self.runs: dict[str, Entry] = {}
        self.asked: list[str] = []
        self.short: dict[str, int] = {}
        self.gone: set[str] = set()
        self.instead: dict[str, bytes] = {}
        self.shut: int | None = None
        self.stalls = False
        self.ended = Event()
        self.http = HTTPServer(threaded=True)

    @contextmanager
    def serving(self) -> Iterator["Server"]:
        self.http.expect_request(ANY).respond_with_handler(self.answer)
        with self.http:
            yield self
            self.ended.set()

    @property
    def url(self) -> str:
        return self.http.url_for("")

    def add(self, name: str, files: dict[str, bytes], state: str = "finished") -> Entry:
        made = len(self.runs)
        return self.runs.setdefault(f"id{made}", Entry(f"id{made}", name, made, state, files))

    def answer(self, request: Request) -> Response:
        kind, *rest = request.path.strip("/").split("/", 2)
        if self.shut is not None:
            return Response("{}", self.shut)
        if kind == "graphql":
            return self._graphql(json.loads(request.get_data()))
        if kind == "stored" and request.method == "PUT":
            if self.stalls:
                self.ended.wait(20)
            self.runs[rest[0]].files[rest[1]] = request.get_data()
        elif kind == "stored":
            return self._file(rest[1], self.runs[rest[0]].files[rest[1]])
        elif kind == "files" and request.path.endswith("/file_stream"):
            told = json.loads(request.get_data())
            if told.get("complete"):
                id = request.path.split("/")[-2]
                self.runs[id].state = "failed" if told["exitcode"] else "finished"
        return Response("{}")

    def _file(self, name: str, content: bytes) -> Response:
        self.asked.append(name)
        if name in self.gone:
            return Response("not found", 404)
        content = self.instead.get(name, content)
        answer = Response(content[: self.short.get(name)])
        answer.headers["Content-Length"] = str(len(content))
        answer.automatically_set_content_length = False
        return answer

    def _graphql(self, told: dict[str, Any]) -> Response:
        operation = re.search(r"(?:query|mutation)\s+(\w+)", told["query"])[1]
        self.asked.append(operation)
        answers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "Viewer": self._viewer,
            "GetDefaultEntity": self._viewer,
            "Runs": self._runs,
            "RunFiles": self._files,
            "RunResumeStatus": lambda given: {"model": {"bucket": None}},  # nothing to go on with
            "UpsertBucket": self._upsert,
            "CreateRunFiles": self._create_files,
        }
        if operation not in answers:  # artifacts, the server's features: the client goes on without
            return Response(json.dumps({"errors": [{"message": f"no {operation} here"}]}))
        return Response(json.dumps({"data": answers[operation](told.get("variables") or {})}))

    def _viewer(self, given: dict[str, Any]) -> dict[str, Any]:
        return {
            "viewer": {"id": "1", "username": "me", "entity": "me", "email": "", "flags": "{}", "teams": {"edges": []}}
        }

    def _known(self, given: dict[str, Any]) -> bool:
        return f"{given['entity']}/{given['project']}" == self.project

    def _runs(self, given: dict[str, Any]) -> dict[str, Any]:
        if not self._known(given):
            return {"project": None}
        (names,) = json.loads(given["filters"]).values()
        runs = [run for run in self.runs.values() if run.name in names["$in"]]
        runs.sort(key=lambda run: run.made, reverse=given["order"] == "-created_at")
        nodes = [
            {"id": f"run:{run.id}", "name": run.id, "displayName": run.name, "state": run.state, "projectId": "1"}
            | {"createdAt": f"2026-01-01T00:{run.made // 60:02}:{run.made % 60:02}Z", "tags": []}
            for run in runs
        ]
        page = _page(nodes, given["cursor"], given["perPage"])
        return {"project": {"internalId": "1", "runCount": len(runs), "readOnly": False, "runs": page}}

    def _files(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self.runs[given["name"]]
        nodes = [
            {"id": name, "name": name, "sizeBytes": len(content), "md5": None, "mimetype": ""}
            | {"url": f"{self.url}/stored/{run.id}/{name}", "directUrl": None, "updatedAt": None}
            for name, content in run.files.items()
            if name in given["fileNames"] or not given["fileNames"]
        ]
        page = _page(nodes, given.get("fileCursor"), given["fileLimit"])
        return {"project": {"internalId": "1", "run": {"fileCount": len(nodes), "files": page}}}

    def _upsert(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.setdefault(given["name"], Entry(given["name"], given["displayName"], len(self.runs)))
        place = {"id": "P", "name": given["project"], "entity": {"id": "E", "name": given["entity"]}}
        bucket = {"id": f"run:{run.id}", "name": run.id, "displayName": run.name, "config": "{}", "project": place}
        return {"upsertBucket": {"bucket": bucket | {"historyLineCount": 0}, "inserted": True}}

    def _create_files(self, given: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"{self.url}/stored/{given['run']}/{name}"} for name in given["files"]]
        return {"createRunFiles": {"runID": f"run:{given['run']}", "uploadHeaders": [], "files": files}}


def _page(nodes: list[dict[str, Any]], cursor: str | None, size: int) -> dict[str, Any]:
    start = int(cursor or 0)
    edges = [{"node": node, "cursor": str(place)} for place, node in enumerate(nodes, 1)][start : start + size]
    more = start + size < len(nodes)
    return {"edges": edges, "pageInfo": {"endCursor": str(start + len(edges)), "hasNextPage": more}}

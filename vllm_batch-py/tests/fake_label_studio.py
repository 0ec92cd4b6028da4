"""As much of Label Studio as a project, an import and a harvest need."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "0123456789abcdef0123456789abcdef01234567"


class FakeLabelStudio:
    """A server with at most one project. ``annotate`` is what people do."""

    def __init__(self) -> None:
        self.project: dict[str, Any] | None = None
        self.tasks: list[dict[str, Any]] = []
        self.imports: list[int] = []
        """How many tasks each import had."""
        self.on_import: Callable[[], int] = lambda: 201
        """Is called before tasks are taken, and says the status."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake._reply(self, None)

            def do_DELETE(self) -> None:
                fake._reply(self, None)

            def do_POST(self) -> None:
                fake._reply(self, json.loads(self.rfile.read(int(self.headers["content-length"])) or b"null"))

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FakeLabelStudio:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def annotate(self, record: str, question: str, option: str) -> None:
        """Somebody chooses an option, and says that the record is gold."""
        task = next(task for task in self.tasks if task["data"]["vb_record"] == record)
        region = {"from_name": question, "to_name": "src_vb_record", "type": "choices", "value": {"choices": [option]}}
        person = {"id": 1, "email": "ann@example.org"}
        task["annotations"] = [{"id": 1, "completed_by": person, "ground_truth": True, "result": [region]}]

    def _reply(self, handler: BaseHTTPRequestHandler, body: Any) -> None:
        status, answer = 401, {"detail": "Invalid token."}
        if handler.headers["authorization"] == f"Token {TOKEN}":
            address = urlsplit(handler.path)
            status, answer = self._answer(handler.command, address.path, parse_qs(address.query), body)
        content = json.dumps(answer).encode()
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def _answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        if (method, path) == ("GET", "/api/version"):
            return 200, {"release": "1.23.2"}
        if (method, path) == ("GET", "/api/projects/"):
            return 200, {"results": [self.project] if self.project else []}
        if (method, path) == ("POST", "/api/projects/"):
            self.project = {"id": 1, **body}
            return 201, self.project
        if (method, path) == ("GET", "/api/tasks/"):
            return 200, self._page(query)
        if (method, path) == ("POST", "/api/projects/1/import"):
            status = self.on_import()
            if status != 201:
                return status, {"detail": "No."}
            self.imports.append(len(body))
            first = len(self.tasks) + 1
            self.tasks += [{**task, "id": at, "project": 1, "annotations": []} for at, task in enumerate(body, first)]
            return 201, {"task_count": len(body)}
        if (method, path) == ("DELETE", "/api/projects/1/"):
            self.project, self.tasks = None, []
            return 200, {}
        return self._export(method, path)

    def _page(self, query: dict[str, list[str]]) -> dict[str, Any]:
        tasks = self.tasks
        if "query" in query:
            keys = {item["value"] for item in json.loads(query["query"][0])["filters"]["items"]}
            tasks = [task for task in tasks if task["data"]["vb_key"] in keys]
        page, size = int(query["page"][0]), int(query["page_size"][0])
        listed = [{**task, "total_annotations": len(task["annotations"])} for task in tasks]
        return {"tasks": listed[(page - 1) * size : page * size], "total": len(tasks)}

    def _export(self, method: str, path: str) -> tuple[int, Any]:
        if (method, path) == ("POST", "/api/projects/1/exports/"):
            return 201, {"id": 5}
        if (method, path) == ("GET", "/api/projects/1/exports/5"):
            return 200, {"status": "completed"}
        if (method, path) == ("GET", "/api/projects/1/exports/5/download"):
            return 200, [task for task in self.tasks if task["annotations"]]
        if (method, path) == ("DELETE", "/api/projects/1/exports/5"):
            return 200, {}
        return 404, {"detail": f"Not found: {method} {path}"}

"""A hub of models on this machine, for tests: it answers what huggingface_hub asks, and can fail in the known ways."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serve folders as models: `models[id]` is a folder, or "gated"; a file in `cut` breaks off in the middle.

    asked: the path of every request; sent: the files of which something was sent.
    """

    def __init__(self):
        self.models, self.cut, self.asked, self.sent = {}, set(), [], []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                hub.answer(self, with_body=False)

            def do_GET(self):
                hub.answer(self, with_body=True)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request, with_body):
        path = request.path.split("?")[0]
        self.asked.append(path)
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/(\w+)", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/(\w+)/(.+)", path)
        model = self.models.get((api or file)[1]) if api or file else None
        if model is None:
            return self.send(request, 404, b"", {"X-Error-Code": "RepoNotFound"})
        if model == "gated":
            return self.send(request, 403, b"", {"X-Error-Code": "GatedRepo"})
        if api:
            return self.send(request, 200, json.dumps(self.listing(api[1], model, api[2])).encode(), {})
        content = Path(model, file[3]).read_bytes()
        self.sent += [file[3]] * with_body
        headers = {"ETag": f'"{abs(hash((file[1], file[3])))}"', "X-Repo-Commit": COMMIT}
        return self.send(request, 200, content, headers, with_body, cut=file[3] in self.cut)

    def listing(self, name, folder, kind):
        paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        files = [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in paths]
        if kind == "tree":
            return [{"type": "file", "oid": f"{i:040x}", "size": n, "path": path} for i, (path, n) in enumerate(files)]
        return {"id": name, "sha": COMMIT, "siblings": [{"rfilename": path} for path, _ in files]}

    def send(self, request, status, content, headers, with_body=True, cut=False):
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            request.send_header(name, value)
        request.end_headers()
        if with_body:
            request.wfile.write(content[: len(content) // 2] if cut else content)
        request.close_connection = True

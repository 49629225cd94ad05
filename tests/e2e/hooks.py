# SPDX-License-Identifier: PostgreSQL
"""An HTTPS server that takes alerts, with its own certificate authority."""

import functools
import http.server
import json
import os
import ssl
import subprocess
import threading
import time

from documents import blocks
from process import PortLock


@functools.cache
def documented(function):
    """The function of that name as it stands in docs/operations.md."""
    (code,) = [block.text for block in blocks("docs/operations.md")
               if f"def {function}(" in block.text]
    found = {}
    exec(code, found)
    return found[function]


class Authority:
    """Certificates for 127.0.0.1 that only clients with the file `path`
    trust."""

    def __init__(self, directory):
        os.makedirs(directory)
        os.chmod(directory, 0o755)
        self.directory = directory
        self.path = os.path.join(directory, "ca.pem")
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes",
                      "-days", "2", "-subj", "/CN=test authority",
                      "-keyout", "ca.key", "-out", "ca.pem")

    def _openssl(self, *args):
        subprocess.run(["openssl", *args], cwd=self.directory, check=True,
                       capture_output=True)

    def certificate(self, name="IP:127.0.0.1"):
        """A file with a key and its certificate for that name."""
        stem = name.replace(":", "-")
        with open(os.path.join(self.directory, stem + ".ext"), "w",
                  encoding="ascii") as file:
            file.write(f"subjectAltName={name}\n")
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj",
                      "/CN=hook", "-keyout", stem + ".key", "-out",
                      stem + ".csr")
        self._openssl("x509", "-req", "-days", "2", "-in", stem + ".csr",
                      "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                      "-extfile", stem + ".ext", "-out", stem + ".pem")
        both = os.path.join(self.directory, stem + ".both")
        with open(both, "wb") as file:
            for part in (".key", ".pem"):
                with open(os.path.join(self.directory, stem + part),
                          "rb") as source:
                    file.write(source.read())
        return both


class Request:
    """A received request: path, headers, body and time."""

    def __init__(self, path, headers, body):
        self.path = path
        self.headers = headers
        self.body = body
        self.at = time.monotonic()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def alerts(self):
        return self.json["alerts"]

    def is_signed(self, secret):
        """The check that docs/operations.md gives to a receiver."""
        return documented("is_ours")(self.headers, self.body, secret)


class Hook:
    """The server. `answer` is (status, body) of each answer; while `silent` is
    set it answers no request."""

    def __init__(self, certificate=None, host="127.0.0.1"):
        self.lock = PortLock()
        self.port = self.lock.port
        self.host = host
        self.requests = []
        self.answer = (200, b'{"errcode":0,"errmsg":"ok"}')
        self.headers = {}
        self.talking = threading.Event()
        self.talking.set()
        self.scheme = "https" if certificate else "http"
        self.server = http.server.ThreadingHTTPServer(
            (host, self.port), self._handler())
        self.server.daemon_threads = True
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(
                self.server.socket, server_side=True,
                do_handshake_on_connect=False)
        threading.Thread(target=self.server.serve_forever,
                         daemon=True).start()

    @property
    def url(self):
        return f"{self.scheme}://{self.host}:{self.port}/very/s3cret/path"

    def _handler(hook):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.requests.append(Request(self.path, self.headers, body))
                hook.talking.wait()
                status, answer = hook.answer
                self.send_response(status)
                for name, value in hook.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def do_GET(self):
                hook.requests.append(Request(self.path, self.headers, b""))
                self.send_error(405)

            def log_message(self, *args):
                pass

        return Handler

    def alert_ids(self):
        return [alert["id"] for request in list(self.requests)
                for alert in request.alerts]

    def close(self):
        self.talking.set()
        self.server.shutdown()
        self.server.server_close()
        self.lock.release()

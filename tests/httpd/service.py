# SPDX-License-Identifier: MIT
"""The example service, started and stopped; raw requests to it; a count of what was checked.

CREDSTORE_HTTPD_UNDER is what it runs under ("valgrind ..."), CREDSTORE_VARIANT how it was built."""
import atexit
import json
import os
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("CREDSTORE_BUILD") or os.path.join(ROOT, "build")
UNDER = shlex.split(os.environ.get("CREDSTORE_HTTPD_UNDER", ""))
VARIANT = os.environ.get("CREDSTORE_VARIANT") or "plain"
SLOW = {"plain": 1, "valgrind": 6}.get(VARIANT, 3)  # limits of time are so much longer
PROGRAM = os.path.join(BUILD, "examples", "httpd")


class Tally:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, good, what):
        if good:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED: {what}", flush=True)
        return good

    def same(self, got, want, what):
        return self.check(got == want, f"{what}: {got!r}, not {want!r}")

    def end(self):
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(self.failed != 0)


tally = Tally()


def work_folder():
    folder = tempfile.mkdtemp(prefix="httpd_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class Service:
    """Its JSON line's members are attributes. files: its limit of open files, soft and hard."""

    def __init__(self, folder, *options, demo=True, files=None):
        self.errors = open(os.path.join(folder, "errors"), "w+", encoding="utf-8")
        command = UNDER + [PROGRAM, "--store", os.path.join(folder, "store"), "--port", "0"]
        limit = files and (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files)))
        self.process = subprocess.Popen(command + ["--demo"] * demo + list(options),
                                        stdout=subprocess.PIPE, stderr=self.errors,
                                        preexec_fn=limit)
        atexit.register(self.process.kill)
        self.line = self.process.stdout.readline().decode()
        self.told = json.loads(self.line) if self.line.endswith("\n") else {}
        for name, value in self.told.items():
            setattr(self, name, value)
        self.port = int(self.told["listening"].rsplit(":", 1)[1]) if self.told else 0

    def stop(self, say=""):
        """It ends with 0, and what it said on stderr is `say`."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60 * SLOW)
        rest = self.process.stdout.read()
        said = self.said()
        tally.same(code, 0, "the exit status after SIGTERM")
        tally.same(rest, b"", "stdout after the line")
        tally.check(say in said and (say != "" or said == ""), f"stderr: {said}")
        return said

    def said(self):
        """On stderr, until now."""
        self.errors.seek(0)
        return self.errors.read()

    def bearer(self, token=None):
        return {"Authorization": f"Bearer {token or self.admin_token}"}


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    @property
    def tag(self):
        return self.headers.get("etag")


class Connection:
    """One connection; requests as bytes, answers as they come."""

    def __init__(self, port, wait=30):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=wait * SLOW)
        self.file = self.socket.makefile("rb")

    def fileno(self):
        return self.socket.fileno()

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode())

    def answer(self, method="GET"):
        """The next one; None: the connection was closed instead."""
        try:
            line = self.file.readline()
            if not line:
                return None
            headers = {}
            while True:
                field = self.file.readline()
                if field in (b"\r\n", b""):
                    break
                name, value = field.decode("latin-1").split(":", 1)
                headers[name.strip().lower()] = value.strip()
            length = 0 if method == "HEAD" else int(headers.get("content-length", 0))
            return Answer(int(line.split()[1]), headers, self.file.read(length))
        except ConnectionError:
            return None

    def ask(self, method, path, headers=None, body=None):
        headers = {"Host": "localhost", **(headers or {})}
        if body is not None:
            body = body if isinstance(body, (bytes, str)) else json.dumps(body)
            body = body if isinstance(body, bytes) else body.encode()
            headers = {"Content-Type": "application/json", "Content-Length": len(body), **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items()
                       if value is not None)
        self.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + (body or b""))
        return self.answer(method)

    def close(self):
        self.file.close()
        self.socket.close()


def raw(port, data, method="GET"):
    """One answer to these bytes on a connection of their own; None: closed without one."""
    connection = Connection(port)
    try:
        connection.send(data)
        return connection.answer(method)
    except ConnectionError:
        return None
    finally:
        connection.close()


def until(condition, seconds):
    """Waits for it; what it answered at last."""
    end = time.monotonic() + seconds * SLOW
    while True:
        value = condition()
        if value or time.monotonic() > end:
            return value
        time.sleep(0.02)

# SPDX-License-Identifier: MIT
"""What bad input gets: the right status, and nothing is changed, crashed or held up by it."""
import json
import resource
import select
import socket
import sys
import threading
import time

from service import SLOW, Connection, Service, raw, tally, until, work_folder

BODY_MAX = 64 * 1024
DEADLINE = 3  # seconds, for a request to arrive: a client may stall for longer than one
SLOW_ONES = 200
CHECKBOOK = "/internal/checkbook/client-credentials"
JSON = "Content-Type: application/json\r\n"


def update_routes(s):
    """The documents' four, with a body that is right: (method, path, body)."""
    return (("PUT", f"{CHECKBOOK}/{s.checkbook_id}", {"is_active": True}),
            ("PUT", f"/api/v1/payments/stripe/projects/{s.project_id}/config", {}),
            ("PATCH", f"/organizations/{s.organization_id}/service-accounts/"
                      f"{s.service_account_id}/credentials/{s.credential_id}", {}),
            ("PATCH", f"/apikeys/{s.api_key_id}",
             {"description": "d", "flatPermissionsList": []}))


def state(s):
    """The four records as they are, with their ETags."""
    connection = Connection(s.port)
    found = []
    for _, path, _ in update_routes(s):
        answer = connection.ask("GET", path, s.bearer())
        found.append((answer.status, answer.tag, answer.body))
    connection.close()
    return found


def unchanged(s, part):
    before = state(s)
    begin = time.monotonic()
    part(s)
    print(f"{part.__name__}: {time.monotonic() - begin:.1f} s")
    after = state(s)
    tally.check([x[0] for x in after] == [200] * 4, f"{part.__name__}: {after}")
    tally.same(after, before, f"{part.__name__}: the records")


def problem(answer, status, what, path=""):
    """The status, and an error in the words of the path's document."""
    if not tally.check(answer is not None and answer.status == status,
                       f"{what}: {answer and answer.status}, not {status}"):
        return
    body = answer.json()
    kind = answer.headers.get("content-type")
    if path.startswith("/apikeys"):
        tally.check(kind == "application/json" and isinstance(body.get("error"), str),
                    f"{what}: {kind} {body}")
    else:
        tally.check(kind == "application/problem+json" and body.get("status") == status,
                    f"{what}: {kind} {body}")
    if status == 401:
        tally.same(answer.headers.get("www-authenticate"), "Bearer", f"{what}: WWW-Authenticate")


# ---- who asks ----


def short_key(s):
    """A key that is over soon, and when. It is refused if that is past when it is asked for."""
    def issued():
        end = int(time.time()) + 3
        body = {"description": "d", "flatPermissionsList": ["checkbook:update"],
                "expiresAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end))}
        connection = Connection(s.port)
        answer = connection.ask("POST", "/apikeys", s.bearer(), body)
        connection.close()
        return answer is not None and answer.status == 201 and (answer.json()["key"], end)
    return until(issued, 30)


def strangers(s):
    late, end = s.short_key
    time.sleep(max(0, end - time.time()) + 0.1)
    connection = Connection(s.port)
    gone = connection.ask("POST", "/apikeys", s.bearer(),
                          {"description": "d", "flatPermissionsList": []}).json()
    connection.ask("DELETE", f"/apikeys/{gone['id']}", s.bearer())
    wrong = s.api_key[:-1] + ("A" if s.api_key[-1] != "A" else "B")
    tokens = [None, "", " ", "nobody", s.admin_token[:-1], s.admin_token + "0", "x" * 127,
              "x" * 5000, s.api_key[:-7], wrong, late, gone["key"]]
    for method, path, body in update_routes(s):
        for token in tokens:
            for name in ("Authorization", "x-api-key"):
                value = token if name[0] == "x" or token is None else f"Bearer {token}"
                answer = connection.ask(method, path, {name: value}, body)
                problem(answer, 401, f"{method} {path} with {name} {str(token)[:30]}", path)
        for value in (s.admin_token, f"Basic {s.admin_token}", f"Bearer{s.admin_token}", "Bearer"):
            answer = connection.ask(method, path, {"Authorization": value}, body)
            problem(answer, 401, f"{method} {path} with another scheme", path)
    for body in ("{", '{"nobody": 1}', b"\xff"):  # who is nobody learns nothing of his body
        answer = connection.ask("PUT", update_routes(s)[0][1], {}, body)
        problem(answer, 401, "a wrong body of nobody")


def members(s):
    connection = Connection(s.port)
    for method, path, body in update_routes(s):
        answer = connection.ask(method, path, s.bearer(s.member_token), body)
        problem(answer, 403, f"{method} {path} by a member", path)
        answer = connection.ask("DELETE", path, s.bearer(s.member_token))
        problem(answer, 403, f"DELETE {path} by a member", path)
    for verb in ("", f"/{s.api_key_id}/roll", f"/{s.api_key_id}/restore?revision=1"):
        answer = connection.ask("POST", "/apikeys" + verb, {"x-api-key": s.api_key},
                                {"description": "d", "flatPermissionsList": []})
        problem(answer, 403, f"POST /apikeys{verb} by a key", "/apikeys")
    for headers in ({"x-api-key": s.api_key}, s.bearer(s.api_key)):
        method, path, body = update_routes(s)[3]
        problem(connection.ask(method, path, headers, body), 403, "a key on a key", path)
    path = update_routes(s)[3][1]
    answer = connection.ask("GET", path, {**s.bearer(), "x-account-id": "umbrella"})
    problem(answer, 403, "another account", path)


# ---- bodies ----


def large_bodies(s):
    connection = Connection(s.port)
    for method, path, body in update_routes(s):
        text = json.dumps(body)
        most = text + " " * (BODY_MAX - len(text))
        for large in (most + " ", "x" * 65 * 1024):
            answer = connection.ask(method, path, s.bearer(), large)
            problem(answer, 413, f"{len(large)} bytes to {path}", path)
            answer = connection.ask(method, path, {"Transfer-Encoding": "chunked", **s.bearer(),
                                                   "Content-Length": None},
                                    f"{len(large):x}\r\n{large}\r\n0\r\n\r\n")
            problem(answer, 413, f"{len(large)} bytes in a chunk to {path}", path)
        answer = connection.ask(method, path, s.bearer(s.member_token), most)
        problem(answer, 403, f"{BODY_MAX} bytes to {path}", path)
    method, path, _ = update_routes(s)[0]
    head = (f"{method} {path} HTTP/1.1\r\nHost: h\r\n{JSON}Authorization: Bearer "
            f"{s.admin_token}\r\n")
    for length in (2**21, 2**40, 2**63):
        problem(raw(s.port, f"{head}Content-Length: {length}\r\n\r\n"), 413, f"{length} bytes said")
    problem(raw(s.port, f"{head}Content-Length: 66560\r\nExpect: 100-continue\r\n\r\n"), 413,
            "65 KiB announced, with Expect")
    endless = Connection(s.port)
    endless.send(f"{head}Transfer-Encoding: chunked\r\n\r\n")
    try:
        for _ in range(200):
            endless.send(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
        answer = endless.answer()
    except OSError:
        answer = None
    tally.check(answer is None or answer.status == 413, "3 MiB in chunks")


def broken_chunks(s):
    method, path, _ = update_routes(s)[0]
    head = (f"{method} {path} HTTP/1.1\r\nHost: h\r\n{JSON}Authorization: Bearer "
            f"{s.admin_token}\r\nTransfer-Encoding: chunked\r\n\r\n")
    body = '{"publishable_key":"broken"}'
    good = f"{len(body):x}\r\n{body}\r\n"
    for broken in ("zz\r\n", "-1\r\n", "\r\n", ";\r\n", " 1c\r\n" + body, "0x1c\r\n" + body,
                   f"{len(body):x}\r\n{body}xx0\r\n\r\n", f"{len(body):x}\r\n{body}",
                   good + "1\r\n", good + "zz\r\n\r\n", good + "0", good,
                   "ffffffffffffffff\r\n" + body, "fffffffffffffffff\r\n" + body,
                   "1c" + "0" * 40 + "\r\n", f"{len(body) - 1:x}\r\n{body}\r\n0\r\n\r\n",
                   f"{len(body) + 2:x}\r\n{body}\r\n0\r\n\r\n"):
        connection = Connection(s.port)
        connection.send(head + broken)
        connection.socket.shutdown(socket.SHUT_WR)
        answer = connection.answer()
        tally.check(answer is None or 400 <= answer.status < 500,
                    f"broken chunks {broken[:30]!r}: {answer and answer.status}")
        connection.close()
    connection = Connection(s.port)  # a body that ends too early
    connection.send(head.replace("Transfer-Encoding: chunked", "Content-Length: 100") + body)
    connection.socket.shutdown(socket.SHUT_WR)
    answer = connection.answer()
    tally.check(answer is None or answer.status == 408, "a body that ends too early")


def not_json(s):
    connection = Connection(s.port)
    for method, path, body in update_routes(s):
        for kind in (None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx",
                     "application/json-patch+json", "json", "", ";application/json"):
            answer = connection.ask(method, path, {**s.bearer(), "Content-Type": kind}, body)
            problem(answer, 415, f"{kind} to {path}", path)
            tally.same(answer.headers.get("accept"), "application/json", "Accept of a 415")
        answer = connection.ask(method, path, {**s.bearer(), "Content-Encoding": "gzip"}, body)
        problem(answer, 415, f"gzip to {path}", path)
        answer = connection.ask(method, path, s.bearer(), "")
        problem(answer, 400, f"nothing to {path}", path)


# ---- paths and methods ----


def paths(s):
    """Each with a body that would change the record, if one were hit."""
    ident, key = s.checkbook_id, s.api_key_id
    wrong = (
        (f"{CHECKBOOK}/{ident}%00", 400), (f"{CHECKBOOK}/%00{ident}", 400), ("/%00", 404),
        (f"{CHECKBOOK}/{ident}%2f", 400), (f"{CHECKBOOK}%2F{ident}", 404),
        (f"{CHECKBOOK}/x%2f..%2f{ident}", 400), (f"{CHECKBOOK}/..", 400), (f"{CHECKBOOK}/.", 400),
        (f"{CHECKBOOK}/../client-credentials/{ident}", 400), (f"{CHECKBOOK}/./{ident}", 400),
        (f"{CHECKBOOK}/%2e%2E/client-credentials/{ident}", 400), (f"{CHECKBOOK}//{ident}", 404),
        (f"/{CHECKBOOK}/{ident}", 404), (f"{CHECKBOOK}/{ident}/", 404), (f"{CHECKBOOK}/", 404),
        (f"{CHECKBOOK}/%", 400), (f"{CHECKBOOK}/{ident}%", 400), (f"{CHECKBOOK}/%4", 400),
        (f"{CHECKBOOK}/{ident[:-1]}%6", 400), (f"{CHECKBOOK}/%zz{ident}", 400),
        (f"{CHECKBOOK}/{ident}%250", 400), (f"{CHECKBOOK}/{ident}%0d%0aX:1", 400),
        (f"{CHECKBOOK}/{ident}%ff", 400), (f"{CHECKBOOK}/{ident.lower()}", (400, 404)),
        (f"{CHECKBOOK}/{ident}x", 400), (f"{CHECKBOOK}/{'x' * 256}", 400),
        (f"{CHECKBOOK}/{ident};v=1", 400), (f"{CHECKBOOK}/{ident}#", 400), ("*", 400),
        (ident, 400), ("?", 400), ("/", 404), ("/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o", 404),
        ("/internal", 404), (CHECKBOOK + "/" + "y" * 20000, (400, 414)), ("http://h", 400),
        ("ftp://h" + CHECKBOOK + "/" + ident, 400))
    for path, status in wrong:
        answer = raw(s.port, f"PUT {path} HTTP/1.1\r\nHost: h\r\nx-api-key: {s.api_key}\r\n{JSON}"
                             'Content-Length: 27\r\n\r\n{"publishable_key":"wrong"}')
        allowed = status if isinstance(status, tuple) else (status,)
        tally.check(answer is not None and answer.status in allowed,
                    f"{path[:60]}: {answer and answer.status}, not {status}")
    connection = Connection(s.port)
    for bad in ("%00", "%2f", "..", "%2e%2e", "a%2fb", "a%00"):
        for path in (f"/apikeys/{bad}", f"/organizations/{bad}/service-accounts/a/credentials/b",
                     f"/organizations/a/service-accounts/{bad}/credentials/b",
                     f"/api/v1/payments/stripe/projects/{bad}/config"):
            answer = connection.ask("GET", path, s.bearer())
            tally.check(answer.status in (400, 403, 404), f"GET {path}: {answer.status}")
    same = connection.ask("GET", f"/%61pikeys/%{ord(key[0]):02x}{key[1:]}", s.bearer())
    tally.same((same.status, same.json().get("id")), (200, key), "an escape of what needs none")


def raw_bytes(s):
    """What is not HTTP, or not quite."""
    line = f"PUT {CHECKBOOK}/{s.checkbook_id}"
    rest = (f"\r\nHost: h\r\nx-api-key: {s.api_key}\r\n{JSON}"
            'Content-Length: 27\r\n\r\n{"publishable_key":"wrong"}')
    for data in (line + "\0x HTTP/1.1" + rest, line + "\0 HTTP/1.1" + rest, line + rest,
                 line + " HTTP/2.0" + rest, line + " HTTP/1.1x" + rest, line + " x HTTP/1.1" + rest,
                 line + " HTTP/1.1" + rest.replace("Host: h\r\n", ""), "\1\0\0\r\n\r\n",
                 "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "PUT\r\n\r\n", " \r\n\r\n",
                 line + " HTTP/1.1" + rest.replace("27", "-27"),
                 line + " HTTP/1.1" + rest.replace("27", "27, 27"),
                 line + " HTTP/1.1" + rest.replace("27", "9" * 30),
                 line + " HTTP/1.1\r\nContent-Length: 2" + rest,
                 line + " HTTP/1.1\r\nTransfer-Encoding: chunked" + rest,
                 line + " HTTP/1.1\r\nTransfer-Encoding: gzip, chunked" + rest,
                 line + " HTTP/1.1\r\nTransfer-Encoding: identity" + rest,
                 line + f" HTTP/1.1\r\nx-api-key: {s.api_key}" + rest,
                 line + " HTTP/1.1\r\nHost: another" + rest,
                 line + f" HTTP/1.1\r\nAuthorization: Bearer {s.admin_token}" + rest,
                 line + ' HTTP/1.1\r\nIf-Match: "1"\r\nIf-Match: "2"' + rest,
                 line + " HTTP/1.1\r\nIf-Match: \"1\0\"" + rest,
                 line + " HTTP/1.1\r\nnonsense" + rest, line + " HTTP/1.1\r\nX: " + "x" * 70000 + rest,
                 line + " HTTP/1.1\r\n" + "X: y\r\n" * 20000 + rest[2:]):
        answer = raw(s.port, data.encode("latin-1"))
        tally.check(answer is None or answer.status in (400, 412, 413, 414, 431, 501, 505),
                    f"{data.replace(line, '')[:60]!r}: {answer and answer.status}")


def smuggled(s):
    """A name that one server takes for Content-Length and another does not: what stands behind the
    header must not become a request."""
    inner = f"DELETE /apikeys/{s.api_key_id} HTTP/1.1\r\nHost: h\r\n{{auth}}\r\n"
    auth = f"Authorization: Bearer {s.admin_token}\r\n"
    inner = inner.replace("{auth}", auth)
    for name in ("Content-Length ", "Content-Length\t", "Transfer-Encoding ", "Content-Length\v",
                 "Content Length"):
        connection = Connection(s.port)
        connection.send(f"GET /apikeys HTTP/1.1\r\nHost: h\r\n{auth}{name}: {len(inner)}\r\n\r\n"
                        f"{inner}")
        problem(connection.answer(), 400, f"a header {name!r}")
        tally.check(connection.answer() is None, f"a header {name!r}: and then")
        connection.close()


def methods(s):
    connection = Connection(s.port)
    allowed = ("GET, HEAD, PUT, DELETE", "GET, HEAD, PUT, DELETE, POST", "GET, HEAD, PATCH, DELETE",
               "GET, HEAD, PATCH, DELETE")
    for (_, path, _), allow in zip(update_routes(s), allowed):
        for method in {"PUT", "PATCH", "POST", "OPTIONS", "TRACE"} - set(allow.split(", ")):
            answer = connection.ask(method, path, s.bearer())
            problem(answer, 405, f"{method} {path}", path)
            tally.same(sorted(answer.headers.get("allow", "").split(", ")),
                       sorted(allow.split(", ")), f"Allow of {path}")
        for method in ("FROB", "get", "PUTT", "X" * 500, "M-SEARCH"):
            problem(connection.ask(method, path, s.bearer()), 501, f"{method[:9]} {path}")
    problem(connection.ask("CONNECT", "/apikeys", s.bearer()), 405, "CONNECT", "/apikeys")
    answer = connection.ask("PUT", CHECKBOOK, s.bearer(), {})
    tally.same((answer.status, answer.headers["allow"]), (405, "GET, HEAD, POST"), "a collection")


# ---- slow ones ----


class SlowOnes(threading.Thread):
    """Connections that send a byte a second: of a request line, of headers, of a body, or nothing."""

    def __init__(self, s):
        super().__init__()
        method, path, _ = update_routes(s)[0]
        head = f"{method} {path} HTTP/1.1\r\nHost: h\r\nx-api-key: {s.api_key}\r\n{JSON}"
        whole = f"{head}Content-Length: 30\r\n\r\n" + '{"publishable_key":"slow ones"}'
        self.starts = ("", whole[:40], whole[:len(head) - 9], whole[:-29])  # none is whole in time
        self.whole, self.ends, self.seconds = whole.encode(), {}, []
        self.sockets, self.at = [], {}
        self.began = time.monotonic()
        for i in range(SLOW_ONES):
            start = self.starts[i % 4].encode()
            sock = socket.create_connection(("127.0.0.1", s.port))
            sock.sendall(start)
            self.sockets.append(sock)
            self.at[sock] = len(start)

    def drop(self, sock):
        data = b""
        try:
            data = sock.recv(4096)
        except ConnectionError:
            pass
        self.ends[sock] = data.split(b"\r\n")[0]
        self.seconds.append(time.monotonic() - self.began)
        del self.at[sock]

    def run(self):
        tick = time.monotonic()
        while self.at and time.monotonic() < self.began + 60 * SLOW:
            readable, _, _ = select.select(list(self.at), [], [], 0.1)
            for sock in readable:
                self.drop(sock)
            if time.monotonic() < tick + 1:
                continue
            tick = time.monotonic()
            for sock in list(self.at):
                try:
                    sock.send(self.whole[self.at[sock]:self.at[sock] + 1])
                    self.at[sock] += 1
                except ConnectionError:
                    self.drop(sock)


def slow_ones(s):
    """They end in time; others are served meanwhile."""
    slow = SlowOnes(s)
    slow.start()
    method, path, _ = update_routes(s)[2]
    connection = Connection(s.port)
    longest, asked, served = 0, 0, 0
    while slow.is_alive():
        begin = time.monotonic()
        answer = connection.ask(method, path, s.bearer(), {})
        longest, served = max(longest, time.monotonic() - begin), served + (answer.status == 200)
        fresh = raw(s.port, f"GET /apikeys HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer "
                            f"{s.admin_token}\r\n\r\n")
        served += fresh.status == 200
        asked += 2
        time.sleep(0.05)
    connection.close()
    tally.check(asked > 0 and served == asked and longest < 20 * SLOW,
                f"beside slow ones: {served} of {asked} served, the slowest in {longest:.2f} s")
    told = list(slow.ends.values())
    tally.same(told.count(b"HTTP/1.1 408 Request Timeout"), SLOW_ONES, "slow ones that were told")
    tally.check(max(slow.seconds, default=99) < (DEADLINE + 20) * SLOW,
                f"slow ones lived {max(slow.seconds, default=99):.1f} s")
    print(f"slow: {SLOW_ONES} of a byte a second, all gone after {max(slow.seconds):.1f} s; "
          f"{served} requests served meanwhile, the slowest in {longest * 1000:.0f} ms")
    for sock in slow.sockets:
        sock.close()


def lazy_reader(s):
    """Asks again and again and takes no answer, until nothing more goes in."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", s.port))
    sock.setblocking(False)
    request = (f"GET /apikeys HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {s.admin_token}\r\n\r\n"
               * 50).encode()
    end = time.monotonic() + 1
    while time.monotonic() < end:
        try:
            sock.send(request)
        except BlockingIOError:
            time.sleep(0.05)
    return sock


def lazy_gone(sock):
    try:
        sock.send(b"G")
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return False


def idle(s):
    """Kept alive without a request: closed without a word, after the deadline."""
    connection = Connection(s.port)
    connection.ask("GET", "/apikeys", s.bearer())
    begin = time.monotonic()
    tally.check(connection.answer() is None, "an idle connection is told something")
    tally.check(time.monotonic() - begin < (DEADLINE + 20) * SLOW, "an idle connection stays")


def full_house():
    """More connections than there may be: the others wait, and are served when the deadline came."""
    s = Service(work_folder(), "--connections", "20", "--threads", "4", "--deadline", "1")
    held = [socket.create_connection(("127.0.0.1", s.port)) for _ in range(40)]

    def behind():
        """Who stalls before he asks, and is told 408, comes again."""
        answer = raw(s.port, f"GET /apikeys HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer "
                             f"{s.admin_token}\r\n\r\n")
        return None if answer is not None and answer.status == 408 else (answer,)
    (answer,) = until(behind, 30) or (None,)
    tally.check(answer is not None and answer.status == 200, "one behind a full house")
    for sock in held:
        sock.close()
    s.stop()


def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 1024), hard), hard))
    s = Service(work_folder(), "--deadline", str(int(DEADLINE * SLOW)))
    s.short_key, lazy = short_key(s), lazy_reader(s)
    for part in (members, large_bodies, broken_chunks, not_json, paths, raw_bytes, smuggled, methods,
                 slow_ones, idle, strangers):
        unchanged(s, part)
    full_house()
    tally.check(until(lambda: lazy_gone(lazy), 60), "one that takes no answer stays")
    tokens = (s.admin_token, s.member_token, s.api_key)
    said = s.stop()
    tally.check(not any(token in said for token in tokens), "a token was logged")
    tally.end()


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: MIT
"""The verbs beside the documents' four updates, conditions, idempotency, sessions, maintenance and
the end of the service: what credstore-httpd(1) says of them."""
import fcntl
import os
import signal
import sys
import time

from service import Connection, Service, tally, until, work_folder

CHECKBOOK = "/internal/checkbook/client-credentials"
STRIPE = "/api/v1/payments/stripe/projects"
PROJECT = "7d444840-9dc0-11d1-b245-5ffdce74fad2"
NEW = {"publishable_key": "p", "secret_key": "s", "base_url": "https://api.checkbook.io"}


class Client:
    """One connection kept alive; every answer has the status that is named."""

    def __init__(self, service, **headers):
        self.connection = Connection(service.port)
        self.headers = headers

    def ask(self, status, method, path, body=None, **headers):
        headers = {name.replace("_", "-"): value
                   for name, value in {**self.headers, **headers}.items()}
        answer = self.connection.ask(method, path, headers, body)
        tally.same(answer and answer.status, status, f"{method} {path}")
        return answer


def life(client, collection, record, new, change, method, token=None):
    """A record's whole life. token: the member that shows what was issued."""
    made = client.ask(201, "POST", collection, new)
    identity = made.json()["id"]
    at = record.format(identity)
    tally.same(made.tag, '"1"', f"{at}: the first ETag")
    tally.check((token in made.json()) == (token is not None), f"{at}: {token} at creation")
    read = client.ask(200, "GET", at)
    tally.check(token not in read.json(), f"{at}: {token} again")
    head = client.ask(200, "HEAD", at)
    tally.same((head.tag, head.headers["content-length"], head.body),
               ('"1"', str(len(read.body)), b""), f"HEAD {at}")
    told = token == "key"  # which permissions a key shows, the catalogue decides with the revision
    same = client.ask(200 if told else 304, "GET", at, If_None_Match='W/"1", "7"')
    tally.same((same.tag, same.body), ('"1"', read.body if told else b""), f"{at} unchanged")
    tally.same(client.ask(200, method, at, change, If_Match='"1"').tag, '"2"', f"{at} changed")
    client.ask(412, method, at, change, If_Match='"1"')
    client.ask(412, method, at, change, If_None_Match="*")
    page = client.ask(200, "GET", collection + "?limit=100").json()
    tally.check(identity in [item["id"] for item in page["items"]], f"{at} is not in the list")
    past = client.ask(200, "GET", at + "/history?limit=5").json()
    tally.same([item["revision"] for item in past["items"]], [2, 1], f"the history of {at}")
    tally.same(client.ask(200, "POST", at + "/restore?revision=1").tag, '"3"', f"{at} restored")
    client.ask(400, "POST", at + "/restore")
    rolled = client.ask(200, "POST", at + "/roll?grace_s=60",
                        None if token else {"secret_key": "fresh"})
    if token is not None:
        tally.check(rolled.json()[token] != made.json()[token], f"{at}: the token came back")
    client.ask(204, "DELETE", at)
    client.ask(404, "GET", at)
    client.ask(404, "DELETE", at)


def checkbook(service):
    client = Client(service, x_api_key=service.api_key)
    life(client, CHECKBOOK, CHECKBOOK + "/{}", NEW, {"is_active": False}, "PUT")


def stripe(service):
    client = Client(service, **service.bearer())
    at = f"{STRIPE}/{PROJECT}/config"
    tally.same(client.ask(200, "GET", at).body, b"null", "none is null")
    made = client.ask(201, "POST", at, {"test_secret_key": "sk_test_51Hq8Jc3Ny7Pf2Sa0Gt4242"})
    tally.same(made.json()["project_id"], PROJECT, "the project of a creation")
    client.ask(409, "POST", at, {})
    client.ask(412, "PUT", at, {}, If_None_Match="*")
    tally.same(client.ask(200, "POST", at + "/deactivate").json()["is_active"], False, "off")
    tally.same(client.ask(200, "POST", at + "/reactivate").json()["is_active"], True, "on")
    page = client.ask(200, "GET", STRIPE).json()
    tally.same(sorted(item["project_id"] for item in page["items"]),
               sorted((PROJECT, service.project_id)), "the list of configurations")
    client.ask(200, "POST", at + "/roll?grace_s=60", {"test_secret_key": "sk_test_51fresh0000000"})
    client.ask(200, "POST", at + "/restore?revision=1")
    tally.check(len(client.ask(200, "GET", at + "/history").json()["items"]) == 5, "the history")
    client.ask(204, "DELETE", at)
    tally.same(client.ask(200, "GET", at).body, b"null", "none is null again")


def service_credentials(service):
    base = (f"/organizations/{service.organization_label}/service-accounts/"
            f"{service.service_account_id}/credentials")
    client = Client(service, **service.bearer())
    life(client, base, base + "/{}", {"name": "n"}, {"name": "m"}, "PATCH", "client_secret")
    secret = client.ask(201, "POST", base, {"name": "n"}).json()["client_secret"]
    own = Client(service, **service.bearer(secret))  # a service of the organization reads
    own.ask(200, "GET", base)
    own.ask(403, "POST", base, {"name": "n"})


def api_keys(service):
    client = Client(service, **service.bearer())
    new = {"description": "d", "flatPermissionsList": ["checkbook:read"]}
    change = {"description": "e", "flatPermissionsList": []}
    life(client, "/apikeys", "/apikeys/{}", new, change, "PATCH", "key")
    made = client.ask(201, "POST", "/apikeys", new, Idempotency_Key="once").json()
    again = client.ask(201, "POST", "/apikeys", new, Idempotency_Key="once").json()
    tally.same(again, made, "the same idempotency key")
    other = client.ask(422, "POST", "/apikeys", change, Idempotency_Key="once")
    tally.check("error" in other.json(), "the words of the document")
    own = Client(service, x_api_key=made["key"])
    own.ask(200, "GET", CHECKBOOK)
    own.ask(403, "POST", CHECKBOOK, NEW)  # it may read alone
    client.ask(403, "GET", "/apikeys", x_account_id="another")


def busy(service, folder):
    """The writer's turn is taken elsewhere: reads go on, a change is told when to come again."""
    client = Client(service, x_api_key=service.api_key)
    with open(os.path.join(folder, "store", "guard.lock"), "rb") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        other = Client(service, x_api_key=service.api_key)
        head = (f"PUT {CHECKBOOK}/{service.checkbook_id} HTTP/1.1\r\nHost: h\r\nx-api-key: "
                f"{service.api_key}\r\nContent-Type: application/json\r\nContent-Length: 18\r\n\r\n")
        other.connection.send(head + '{"is_active":true}')
        client.ask(200, "GET", f"{CHECKBOOK}/{service.checkbook_id}")
        answer = other.connection.answer()
    tally.same(answer.status, 503, "a change while another holds the turn")
    tally.check(int(answer.headers.get("retry-after", 0)) >= 1, "Retry-After")
    client.ask(200, "PUT", f"{CHECKBOOK}/{service.checkbook_id}", {"is_active": True})


def continued(service):
    """Expect: 100-continue, a body in chunks, two requests at once."""
    path = f"/apikeys/{service.api_key_id}"
    token = f"Authorization: Bearer {service.admin_token}\r\n"
    body = b'{"description":"d","flatPermissionsList":[]}'
    connection = Connection(service.port)
    connection.send(f"PATCH {path} HTTP/1.1\r\nHost: h\r\n{token}Expect: 100-continue\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n")
    tally.same(connection.answer().status, 100, "Expect: 100-continue")
    connection.send(body)
    tally.same(connection.answer().status, 200, "then the body")
    chunks = b"".join(b"%x;ext=1\r\n%b\r\n" % (1, body[i:i + 1]) for i in range(len(body)))
    connection.send(f"PATCH {path} HTTP/1.1\r\nHost: h\r\n{token}Transfer-Encoding: chunked\r\n"
                    "Content-Type: Application/JSON ; charset=utf-8\r\n\r\n")
    connection.send(chunks + b"0\r\nTrailer: t\r\n\r\n")
    tally.same(connection.answer().status, 200, "a body in chunks of one byte")
    connection.send(f"GET {path} HTTP/1.1\r\nHost: h\r\n{token}\r\n" * 3)
    tally.same([connection.answer().status for _ in range(3)], [200] * 3, "three at once")
    connection.send(f"GET http://h:1{path} HTTP/1.0\r\n{token}\r\n")
    answer = connection.answer()
    tally.same(answer.status, 200, "HTTP/1.0, with the whole URL")
    tally.check(connection.answer() is None, "HTTP/1.0 is not kept alive")


def sessions_file(folder, now):
    path = os.path.join(folder, "sessions")
    with open(os.path.join(folder, "sessions"), "w", encoding="ascii") as file:
        file.write("# token role tenant id expires permissions\n\n"
                   "session-of-anybody-0 admin devkit4ai ada\n"
                   f"session-of-anybody-1 admin devkit4ai ada {now - 5}\n"
                   f"session-of-anybody-2 admin devkit4ai ada {now + 3600} checkbook:update\n"
                   "session-of-anybody-3 super - root 0 *\n".replace(" - ", " host "))
    os.chmod(path, 0o600)
    return path


def sessions(folder):
    """The host's own, from a file; a service without a demonstration."""
    path = sessions_file(folder, int(time.time()))
    service = Service(folder, "--sessions", path, "--create", demo=False)
    tally.same(list(service.told), ["listening"], "the line")
    at = f"{STRIPE}/{PROJECT}/config"
    tokens = [{"Authorization": f"Bearer session-of-anybody-{i}"} for i in range(4)]
    client = Client(service)
    client.ask(200, "PUT", at, {}, **tokens[0])
    client.ask(401, "PUT", at, {}, **tokens[1])
    client.ask(403, "POST", CHECKBOOK, NEW, **tokens[0])
    client.ask(201, "POST", CHECKBOOK, NEW, **tokens[2])
    tally.same(client.ask(200, "GET", at, x_account_id="devkit4ai", **tokens[3]).tag, '"1"',
               "a super user names the tenant")
    service.stop()
    os.chmod(path, 0o644)
    refused = Service(folder, "--sessions", path, demo=False)  # and --key is missing as well
    tally.same((refused.line, refused.process.wait()), ("", 2), "usage")
    key = os.path.join(folder, "store.key")
    refused = Service(folder, "--key", key, "--sessions", path, demo=False)
    tally.same((refused.line, refused.process.wait()), ("", 1), "a file that others can read")


def maintenance(folder):
    """What it writes down is there after a kill."""
    service = Service(folder, "--maintain", "1")
    admin = Client(service, **service.bearer())
    new = {"description": "d", "flatPermissionsList": ["checkbook:read"]}
    made = admin.ask(201, "POST", "/apikeys", new).json()

    def used():
        answer = Connection(service.port).ask("GET", f"/apikeys/{made['id']}", service.bearer())
        return answer.json()["lastUsedAt"]

    tally.same(used(), None, "last used, of a key that was not")
    Client(service, x_api_key=made["key"]).ask(200, "GET", CHECKBOOK)
    before = until(used, 60)
    service.process.kill()
    service.process.wait()
    service = Service(folder)
    tally.check(before is not None and used() == before, f"last used: {before}")
    service.stop()


def caller_removed(folder):
    """The demonstration's own key is deleted: another comes at the next start, whose one before is
    void as ever."""
    keys = []
    for _ in range(3):
        service = Service(folder)
        if not tally.check("api_key" in service.told, f"start {len(keys) + 1}: no line"):
            return
        keys.append(service.api_key)
        at = f"{CHECKBOOK}/{service.checkbook_id}"
        own = Client(service, x_api_key=service.api_key)
        own.ask(200, "PUT", at, {"is_active": True})
        for old in keys[:-1]:
            Client(service, x_api_key=old).ask(401, "GET", at)
        if len(keys) < 3:
            admin = Client(service, **service.bearer())
            admin.ask(204, "DELETE", f"/apikeys/{identity_of(service.api_key)}")
            own.ask(401, "GET", at)
        service.stop()
    service = Service(folder)  # and nothing was deleted now
    tally.same(identity_of(service.api_key), identity_of(keys[2]), "the key that is rolled")
    Client(service, x_api_key=keys[2]).ask(401, "GET", at)
    service.stop()


def identity_of(key):
    return key.split("_")[1][:27]


def holds(service, name):
    folder = f"/proc/{service.process.pid}/fd"
    for fd in os.listdir(folder):
        try:
            if os.readlink(os.path.join(folder, fd)) == name:
                return True
        except FileNotFoundError:  # closed meanwhile
            pass
    return False


def listening(service):
    """Its socket's name, as /proc has it."""
    with open("/proc/net/tcp", encoding="ascii") as lines:
        rows = [line.split() for line in lines]
    return next(f"socket:[{row[9]}]" for row in rows
                if row[3] == "0A" and row[1].endswith(f":{service.port:04X}"))


def the_end(folder):
    """SIGTERM: what is under way is answered, then the connections end."""
    service = Service(folder)
    idle = Client(service, **service.bearer())
    idle.ask(200, "GET", "/apikeys")
    under_way = Connection(service.port)
    body = b'{"is_active":false}'
    under_way.send(f"PUT {CHECKBOOK}/{service.checkbook_id} HTTP/1.1\r\nHost: h\r\nx-api-key: "
                   f"{service.api_key}\r\nContent-Type: application/json\r\n"
                   f"Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n")
    tally.same(under_way.answer().status, 100, "so it is known there")
    under_way.send(body[:5])
    entrance = listening(service)
    service.process.send_signal(signal.SIGTERM)

    def refused():
        try:
            Connection(service.port).close()
            return False
        except ConnectionError:
            return True

    tally.check(until(refused, 10), "new connections are let in after SIGTERM")
    tally.check(service.process.poll() is None, "it ended with a request under way")
    tally.check(holds(service, entrance), "its threads' listening socket was closed under them")
    under_way.send(body[5:])
    answer = under_way.answer()
    tally.same((answer.status, answer.headers.get("connection")), (200, "close"),
               "a request that was under way")
    tally.check(idle.connection.answer() is None, "an idle connection")
    tally.same(service.process.wait(30), 0, "the exit status")
    service.stop()
    service = Service(folder)
    got = Client(service, x_api_key=service.api_key).ask(
        200, "GET", f"{CHECKBOOK}/{service.checkbook_id}")
    tally.same((got.tag, got.json()["is_active"]), (answer.tag, False), "the last change")
    service.stop()


def main():
    folder = work_folder()
    service = Service(folder)
    for part in (checkbook, stripe, service_credentials, api_keys, continued):
        part(service)
    busy(service, folder)
    service.stop(say="E_BUSY")
    sessions(work_folder())
    maintenance(folder)
    caller_removed(work_folder())
    the_end(folder)
    tally.end()


if __name__ == "__main__":
    sys.exit(main())

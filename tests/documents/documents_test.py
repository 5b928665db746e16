# SPDX-License-Identifier: MIT
"""The four API documents against the library, which runs in other processes (driver.c).

First, each document's example request gets exactly the example answer: the fixtures beside this
file, which are compared with the documents where those are there. Then random legal bodies agree
with a model that shares no code with the library, member by member, after each request and again
after the store was opened by another process; and random illegal ones change nothing.

CREDSTORE_SEED repeats a run, CREDSTORE_BODIES (100) is the number of bodies a kind, and
CREDSTORE_SHARED is the folder in which seeds/ with the documents lies."""
import json
import os
import random
import re
import secrets
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import bodies  # noqa: E402
import model  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.environ.get("CREDSTORE_BUILD") or os.path.join(ROOT, "build")
SHARED = os.environ.get("CREDSTORE_SHARED") or os.path.join(ROOT, "..", "shared")
SEED = int(os.environ.get("CREDSTORE_SEED") or secrets.randbelow(2**32))
BODIES = int(os.environ.get("CREDSTORE_BODIES") or 100)

T_2023 = 1699335116000  # 2023-11-07T05:31:56Z
T_2019 = 1577470279117  # 2019-12-27T18:11:19.117Z
ISSUED = {"service_credential": "client_secret", "api_key": "key"}
KSUID = "1NFHrqBHb3cTfLVkFSGmHZqdDPi"
UUID = "3c90c3cc-0d44-4b50-8888-8dd25736052a"
OTHER_UUID = "11111111-2222-4333-8444-555555555555"
USER, SYSTEM, ADMIN = 1, 4, 1


class Difference(Exception):
    pass


def expect(truth, message):
    if not truth:
        raise Difference(message)


def short(value):
    text = repr(value)
    return text if len(text) < 200 else f"{text[:200]}... ({len(text)} characters)"


class Tally:
    def __init__(self):
        self.members = self.legal = self.illegal = self.cases = 0
        self.failures = []

    def case(self, name, function, *arguments):
        try:
            function(*arguments)
            self.cases += 1
        except Difference as difference:
            self.failures.append(name)
            print(f"FAILED: {name}: {difference}")

    def same(self, where, got, want):
        """Two lists of (member, value), in order, each value of the same JSON type."""
        names = [name for name, _ in want]
        expect([name for name, _ in got] == names,
               f"{where}: the members are {[name for name, _ in got]}, not {names}")
        for (name, a), (_, b) in zip(got, want):
            if isinstance(b, list) and b and isinstance(b[0], tuple):
                expect(isinstance(a, list), f"{where}: {name} is no object")
                self.same(f"{where}: {name}", a, b)
            else:
                expect(type(a) is type(b) and a == b,
                       f"{where}: {name} is {short(a)}, not {short(b)}")
                self.members += 1


tally = Tally()


def pairs(text):
    """JSON with its members in order, as lists of (name, value)."""
    try:
        return json.loads(text, object_pairs_hook=list)
    except ValueError as fault:
        raise Difference(f"the answer is not JSON: {fault}") from None


# ---- the store in another process ----


class Driver:
    def __init__(self, folder, how, now, catalogue):
        program = os.path.join(BUILD, "tests", "documents", "driver")
        permissions = [",".join(p) for p in catalogue]
        self.process = subprocess.Popen(
            [program, os.path.join(folder, "store"), os.path.join(folder, "key"), how, str(now),
             *permissions], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        answer = self.read()
        expect(answer["status"] == "OK", f"the store does not open: {answer}")

    def read(self):
        lines = self.process.stdout
        head = lines.readline().split()
        expect(len(head) == 2, f"the driver has ended ({self.process.poll()})")
        fields = {}
        for _ in range(int(head[1])):
            name, length = lines.readline().split()
            fields[name.decode()] = lines.read(int(length))
            lines.read(1)
        return {k: v if k in ("body", "secret") else v.decode() for k, v in fields.items()}

    def ask(self, command, **fields):
        given = {k: v for k, v in fields.items() if v is not None}
        out = [f"{command} {len(given)}\n".encode()]
        for name, value in given.items():
            value = value if isinstance(value, bytes) else str(value).encode()
            out.append(f"{name} {len(value)}\n".encode() + value + b"\n")
        try:
            self.process.stdin.write(b"".join(out))
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Difference(f"the driver has ended ({self.process.wait()})") from None
        return self.read()

    def typed(self, command, what, **fields):
        answer = self.ask(command, **fields)
        expect(answer["status"] == "OK", f"{what}: {answer['status']}, {answer.get('field')}: "
               f"{answer.get('message')}")
        return answer

    def actor(self, name, kind, roles, tenant, grants=()):
        self.typed("actor", "the actor", name=name, type=kind, roles=roles, id=name, tenant=tenant,
                   grants="\n".join(grants))

    def close(self):
        self.process.stdin.close()
        code = self.process.wait()
        expect(code == 0, f"the driver ended with {code}")


def success(where, answer, http, revision):
    expect(answer["http"] == str(http),
           f"{where}: HTTP {answer['http']}, not {http}: {answer.get('body')}")
    expect(answer.get("content_type") == "application/json",
           f"{where}: the answer is {answer.get('content_type')}")
    expect(answer.get("etag") == f'"{revision}"' and answer["revision"] == str(revision),
           f"{where}: revision {answer['revision']}, ETag {answer.get('etag')}, not {revision}")
    return pairs(answer["body"])


# ---- the documents' texts ----


def decode(text, at):
    """The JSON that starts at or after `at`, as it stands there."""
    at += len(text[at:]) - len(text[at:].lstrip())
    _, end = json.JSONDecoder().raw_decode(text, at)
    return text[at:end]


def after(text, mark, start=0):
    at = text.find(mark, start)
    expect(at >= 0, f"the document does not say {mark!r}")
    return at + len(mark)


def members_of(text):
    """{member: type} of the answer, from the lines "name, type, required?" or "name: type"."""
    if "ServiceAccountCredential = object" in text:
        part = text[after(text, "ServiceAccountCredential = object"):]
        found = re.findall(r"^(\w+): (optional )?(?:string|map\[.*)$", part, re.M)
        return {name: "optional" if optional else "required" for name, optional in found}
    part = text[after(text, "\nResponse\n"):]
    found = re.findall(r"^(\w+)\n(?:string|boolean)(?:<.*>)?( \| null)?(?:\n(required))?$",
                       part, re.M)
    return {name: "null" if null else "required" if required else "optional"
            for name, null, required in found}


def command_of(text, request):
    """The curl command that sends this request, to its closing quote."""
    start = text.find("curl ")
    return text[start:after(text, "'", text.find(request, start) + len(request))]


def parse_checkbook_or_stripe(text):
    request = decode(text, after(text, "--data '"))
    answer = decode(text, after(text, "'", text.find(request) + len(request)))
    return {"command": command_of(text, request), "requests": [request], "answer": answer,
            "members": members_of(text)}


def parse_service_credential(text):
    at = after(text, "-d '")
    answer = decode(text, after(text, "'\n", at))
    again = decode(text, after(text, "Returns Examples"))
    expect(answer == again, "the document's two examples differ")
    request = decode(text, at)
    return {"command": command_of(text, request), "requests": [request], "answer": answer,
            "members": members_of(text)}


def parse_api_key(text):
    at = after(text, "Request Body")
    least = decode(text, at)
    whole = decode(text, text.find(least) + len(least))
    return {"endpoint": text.splitlines()[0], "requests": [least, whole],
            "answer": decode(text, after(text, "API key updated successfully")),
            "members": {"success": "required"},
            "not_found": decode(text, after(text, "ApiKey not found"))}


DOCUMENTS = {
    "checkbook": ("checkbook-client-credentials.txt", parse_checkbook_or_stripe),
    "stripe": ("stripe-configuration.txt", parse_checkbook_or_stripe),
    "service_credential": ("service-account-credential.txt", parse_service_credential),
    "api_key": ("api-key.txt", parse_api_key),
}


def fixture(name):
    with open(os.path.join(HERE, f"{name}.json"), encoding="utf-8") as file:
        return json.load(file)


def check_fixture(name, folder):
    file, parse = DOCUMENTS[name]
    with open(os.path.join(folder, file), encoding="utf-8") as document:
        said = parse(document.read())
    for part, value in said.items():
        expect(fixture(name).get(part) == value,
               f"{part}: the fixture has {short(fixture(name).get(part))}, {file} {short(value)}")
    expect(set(said) == set(fixture(name)), "the fixture holds what the document does not")


# ---- part 1: the examples ----


def example_store(folder, name, now, catalogue=()):
    path = os.path.join(folder, name)
    os.mkdir(path)
    return Driver(path, "create", now, catalogue)


def nulls_are(where, got, members, alternative):
    """In the poorest answer, what the document lets be absent (optional) or null is so, and nothing
    else."""
    present = {name: value for name, value in got}
    for member, kind in members.items():
        if kind == "required":
            expect(present.get(member) is not None, f"{where}: {member} is not there")
        elif kind == alternative:
            gone = member not in present if kind == "optional" else present.get(member, 0) is None
            expect(gone, f"{where}: {member} is not {kind}")
        tally.members += 1


def example_checkbook(folder):
    f = fixture("checkbook")
    driver = example_store(folder, "checkbook", T_2023)
    driver.actor("system", SYSTEM, 0, "dakota")
    at = {"kind": "checkbook", "actor": "system", "id": KSUID}
    driver.typed("import", "the import", kind="checkbook", actor="system", is_active=0,
                 publishable_key="old", secret_key="old", base_url="https://sandbox.checkbook.io",
                 **{"origin.id": KSUID, "origin.client_id": KSUID, "origin.created_at": T_2023})
    answer = driver.ask("handle", verb="update", body=f["requests"][0], **at)
    tally.same("the answer", success("the example", answer, 200, 2), pairs(f["answer"]))
    answer = driver.ask("handle", verb="get", **at)
    tally.same("read back", success("get", answer, 200, 2), pairs(f["answer"]))
    driver.close()


def example_stripe(folder):
    f = fixture("stripe")
    driver = example_store(folder, "stripe", T_2023)
    driver.actor("admin", USER, ADMIN, "devkit4ai")
    at = {"kind": "stripe", "actor": "admin", "id": UUID}
    driver.typed("import", "the import",
                 **at, **{"origin.id": UUID, "origin.created_at": T_2023})
    answer = driver.ask("handle", verb="update", body=f["requests"][0], **at)
    # The example's masks are placeholders, as its keys are: strings, and masks of those keys.
    sent = json.loads(f["requests"][0])
    want = [(name, model.mask(sent[name[:-len("_masked")]]) if name.endswith("_masked") else value)
            for name, value in pairs(f["answer"])]
    tally.same("the answer", success("the example", answer, 200, 2), want)
    body = b'{"test_secret_key":"sk_test_51Hq8Jc3Ny7Pf2Sa0Gt4242"}'
    got = dict(success("a real key", driver.ask("handle", verb="update", body=body, **at), 200, 3))
    expect(got["test_secret_key_masked"] == "sk_test_...4242", "the mask of a real key")
    at["id"] = OTHER_UUID
    answer = driver.ask("handle", verb="get", **at)
    expect(answer.get("body") == b"null", "an absent one is not null")
    answer = driver.ask("handle", verb="update", body=b"{}", **at)
    nulls_are("an empty one", success("an empty one", answer, 200, 1), f["members"], "null")
    driver.close()


def longest(driver, limit, at, **others):
    """A limit is of characters, not of bytes, and not of the units that escapes come in."""
    for count, http in ((limit, "200"), (limit + 1, "400")):
        for body in (json.dumps({"description": "\U0001F600" * count, **others}),
                     json.dumps({"description": "\U0001F600" * count, **others}, ensure_ascii=False)):
            answer = driver.ask("handle", verb="update", body=body, **at)
            expect(answer["http"] == http, f"{count} characters: HTTP {answer['http']}, not {http}")


def example_service_credential(folder):
    f = fixture("service_credential")
    catalogue = [("a", "organizations", "read"), ("b", "organizations", "update"),
                 ("c", "users", "read"), ("d", "users", "list")]
    driver = example_store(folder, "service_credential", T_2019, catalogue)
    driver.actor("admin", USER, ADMIN, "acme", "abcd")
    example = json.loads(f["answer"])
    at = {"kind": "service_credential", "actor": "admin", "tenant": "acme", "parent": "billing"}
    driver.typed("import", "the import", **at, name="name", description="description",
                 **{"origin.id": example["id"], "origin.client_id": example["client_id"],
                    "origin.created_at": T_2019, "origin.last_used_at": T_2019})
    at["id"] = example["id"]
    body = f["requests"][0]
    # The example asks for nothing, yet shows permissions: the text says what it takes.
    answer = driver.ask("handle", verb="update", body=body, query="expand[]=permissions", **at)
    tally.same("the answer", success("the example", answer, 200, 1), pairs(f["answer"]))
    answer = driver.ask("handle", verb="update", body=body, **at)
    tally.same("not expanded", success("not expanded", answer, 200, 1),
               [(k, v) for k, v in pairs(f["answer"]) if k != "permissions"])
    del at["id"]
    answer = driver.ask("handle", verb="create", id="least", body=b'{"name":"n"}', **at)
    nulls_are("the least", success("the least", answer, 201, 1), f["members"], "optional")
    longest(driver, 500, {**at, "id": "least"})
    driver.close()


def error_is(where, answer, http, body):
    expect(answer["http"] == str(http), f"{where}: HTTP {answer['http']}, not {http}")
    tally.same(where, pairs(answer["body"]), pairs(body))


def example_api_key(folder):
    f = fixture("api_key")
    driver = example_store(folder, "api_key", T_2023, [("string", "x", "y"), ("z", "z", "z")])
    driver.actor("admin", USER, ADMIN, "acme", ["string"])
    driver.actor("member", USER, 0, "acme", ["string"])
    at = {"kind": "api_key", "actor": "admin", "id": "key-1"}
    driver.typed("import", "the import", kind="api_key", actor="admin", description="old",
                 permissions="", **{"origin.id": "key-1", "origin.created_at": T_2019,
                                    "origin.last_used_at": T_2019})
    # The example's false is a placeholder for a boolean: an update that took place succeeded.
    want = [(name, True) for name, _ in pairs(f["answer"])]
    for number, body in enumerate(f["requests"]):
        dated = body.replace('"expiresAt": "string"', '"expiresAt": "2123-11-07T05:31:56Z"')
        answer = driver.ask("handle", verb="update", body=dated, **at)
        tally.same("the answer", success("the example", answer, 200, 2 + number), want)
        if dated != body:  # word for word it holds no time
            answer = driver.ask("handle", verb="update", body=body, **at)
            expect(answer["http"] == "400", "a placeholder was taken for a time")
    answer = driver.ask("handle", verb="get", **at)
    tally.same("read back", success("get", answer, 200, 3), [
        ("id", "key-1"), ("description", "string"), ("flatPermissionsList", ["string"]),
        ("expiresAt", "2123-11-07T05:31:56.000Z"), ("createdAt", model.millis(T_2019)),
        ("lastUsedAt", model.millis(T_2019)), ("lastFour", None)])
    refusals = (
        ({"id": "key-2"}, 404, f["not_found"]),
        ({"actor": None}, 401, '{"error": "User not authenticated"}'),
        ({"actor": "member"}, 403, '{"error": "User does not have the required permissions"}'),
        ({"body": '{"description": "d", "flatPermissionsList": ["nobody"]}'}, 400,
         '{"error": "Invalid permissions provided"}'),
        ({"body": '{"description": "d", "flatPermissionsList": ["z"]}'}, 403,
         '{"error": "User does not have the required permissions"}'))
    for change, http, error in refusals:
        request = {"verb": "update", "body": f["requests"][0], **at, **change}
        error_is(f"the {http}", driver.ask("handle", **request), http, error)
    longest(driver, 2000, at, flatPermissionsList=[])
    driver.close()


EXAMPLES = {"stripe": example_stripe, "checkbook": example_checkbook,
            "service_credential": example_service_credential, "api_key": example_api_key}


# ---- part 2: random bodies against the model ----


def made_id(rng, alphabet, length):
    return "".join(rng.choices(alphabet, k=length))


def some_place(rng, kind):
    if kind.name == "checkbook":
        return {"id": "1" + made_id(rng, bodies.PLAIN, 26)}
    if kind.name == "stripe":
        digits = made_id(rng, "0123456789abcdefABCDEF", 32)
        cuts = (0, 8, 12, 16, 20, 32)
        return {"id": "-".join(digits[a:b] for a, b in zip(cuts, cuts[1:]))}
    if kind.name == "service_credential":
        return {"tenant": rng.choice(("acme", "umbrella")), "parent": made_id(rng, "abcXYZ09_-", 9),
                "id": made_id(rng, "abcXYZ09_-", rng.choice((1, 26, 255)))}
    return {"id": made_id(rng, "abcXYZ09._~-", rng.choice((1, 27, 255)))}


# What the library makes where the caller brings none.
MADE = {"checkbook": {"id": "[0-9A-Za-z]{27}"},
        "stripe": {"id": "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"},
        "service_credential": {"id": "[0-9a-z]{26}", "client_id": "[A-Za-z0-9_-]{21}"},
        "api_key": {"id": "[0-9A-Za-z]{27}"}}

ACTORS = {"checkbook": ("system",), "stripe": ("admin",),
          "service_credential": ("wide", "narrow"), "api_key": ("wide", "narrow")}

EXPAND = ("expand[]=permissions", "x=1&expand%5B%5D=permissions,permissions",
          "expand=permissions&y")


class World:
    """The library's store, and the same store as the model has it."""

    def __init__(self, folder, rng):
        self.folder, self.rng = folder, rng
        ids = set()
        while len(ids) < 512:
            ids.add(made_id(rng, "abAB09._:-", rng.choice((4, 8, 8, 64))))
        self.catalogue = [(p, f"r{n % 37}", f"a{n}") for n, p in enumerate(sorted(ids))]
        rng.shuffle(self.catalogue)
        self.everything = frozenset(p[0] for p in self.catalogue)
        self.held = {"wide": self.everything, "system": frozenset(), "admin": frozenset(),
                     "narrow": frozenset(rng.sample(sorted(self.everything), 200))}
        self.clock = model.Clock(1780000000000 + rng.randrange(10**9))
        self.records = {kind.name: [] for kind in model.KINDS}
        self.taken = set()  # ids
        self.lost = set()  # kinds that have shown a difference
        self.open("create")

    def open(self, how):
        self.driver = Driver(self.folder, how, self.clock.host, self.catalogue)
        self.clock.seen = self.clock.host
        known = {p[0] for p in self.catalogue}
        for name, kind, roles, tenant in (("system", SYSTEM, 0, "dakota"),
                                          ("admin", USER, ADMIN, "devkit4ai"),
                                          ("wide", USER, ADMIN, "acme"),
                                          ("narrow", USER, ADMIN, "acme")):
            self.driver.actor(name, kind, roles, tenant, sorted(self.held[name] & known))
        self.driver.actor("umbrella.wide", USER, ADMIN, "umbrella", sorted(known))
        self.driver.actor("umbrella.narrow", USER, ADMIN, "umbrella",
                          sorted(self.held["narrow"] & known))

    def tick(self):
        """Mostly on, at times not at all; at times back, by up to a day or by more."""
        clock, rng = self.clock, self.rng
        dice = rng.random()
        if dice < 0.1:
            clock.host = clock.last_change - rng.randrange(1, model.DAY_MS)
        elif dice < 0.12:
            clock.host = clock.last_change - rng.randrange(model.DAY_MS, 4 * model.DAY_MS)
        else:
            step = rng.choice((0, 1, rng.randrange(1000), rng.randrange(10**5), 3600000))
            clock.host = max(clock.host, clock.last_change) + step
        self.driver.typed("clock", "the clock", now=clock.host)
        clock.look()
        return clock.now()

    def new_place(self, kind):
        while True:
            place = some_place(self.rng, kind)
            if place["id"] not in self.taken:
                self.taken.add(place["id"])
                return place

    def wire(self, kind, place, actor):
        """Where and who, as the driver takes it."""
        other = place.get("tenant") == "umbrella"
        return {"kind": kind.name, "actor": f"umbrella.{actor}" if other else actor, **place}

    def take_made(self, record, got):
        """What the library has made is not the model's to know, but has a form."""
        place, facts, shown = record.place, record.facts, dict(got)
        for name, form in MADE[record.kind.name].items():
            known = facts if name in facts else place
            if known.get(name) is None:
                expect(re.fullmatch(form, shown.get(name) or ""),
                       f"{name} made: {shown.get(name)!r}")
                known[name] = shown[name]
        if facts.get("client_id", 0) is None:
            facts["client_id"] = place["id"]

    def check_view(self, where, record):
        kind = record.kind
        typed = kind.typed(record, self.catalogue)
        wire = self.wire(kind, record.place, ACTORS[kind.name][0])
        answer = self.driver.typed("view", where, **wire)
        del answer["status"]
        got = [(name, answer.pop(name, None)) for name in typed]
        expect(not answer, f"{where}: the view also has {list(answer)}")
        tally.same(where, got, [(k, v if v is None else str(v)) for k, v in typed.items()])

    def check_get(self, where, record):
        kind = record.kind
        actor = self.rng.choice(ACTORS[kind.name])
        expand = kind.name == "service_credential" and self.rng.random() < 0.1
        query = self.rng.choice(EXPAND) if expand else None
        answer = self.driver.ask("handle", verb="get", query=query,
                                 **self.wire(kind, record.place, actor))
        got = success(where, answer, 200, record.revision)
        granted = self.held[actor] if expand else None
        tally.same(where, got, kind.document(record, self.catalogue, granted))

    def check_secrets(self, where, record):
        for member, field in record.kind.secrets.items():
            want = record.values[member]
            actor = "system"
            tenant = "devkit4ai" if record.kind.name == "stripe" else None
            answer = self.driver.ask("reveal", kind=record.kind.name, actor=actor, tenant=tenant,
                                     id=record.place["id"], field=field)
            status = "E_NOT_FOUND" if want is None else "OK"
            expect(answer["status"] == status,
                   f"{where}: {member}: {answer['status']}, not {status}")
            expect(want is None or answer["secret"] == want.encode(),
                   f"{where}: the revealed {member} is not what was sent")
            tally.members += 1

    # ---- the records to begin with ----

    def create(self, kind, verb):
        """By the door's create with or without an id, its update where that creates, or a typed
        import with ids and times."""
        rng, now = self.rng, self.tick()
        actor = ACTORS[kind.name][0]
        sent, patch = bodies.legal(rng, kind, None, now, self.everything, create=True)
        place = self.new_place(kind)
        origin = {}
        if verb == "import":
            return self.bring(kind, place, patch)
        if verb == "nameless":
            place["id"] = None
        wire = self.wire(kind, place, actor)
        if kind.name == "checkbook" and rng.random() < 0.5:
            sent["client_id"] = origin["client_id"] = KSUID
        body = bodies.dump(rng, sent)
        record = model.Record(kind, place, now, origin, patch)
        http = 200 if verb == "update" else 201
        answer = self.driver.ask("handle", verb="update" if verb == "update" else "create",
                                 body=body, **wire)
        got = success(f"create ({verb})", answer, http, 1)
        if verb == "nameless" and kind.name in ISSUED:
            self.take_token(record, got, ISSUED[kind.name])
        self.take_made(record, got)
        tally.same(f"create ({verb})", got, kind.document(record, self.catalogue, None))
        self.clock.last_change = now
        self.records[kind.name].append(record)
        again = self.driver.ask("handle", verb="create", body=body,
                                **self.wire(kind, record.place, actor))
        expect(again["http"] == "409", f"created twice: HTTP {again['http']}")
        return record

    def take_token(self, record, got, member):
        """A creation without an id issues a token, which stands last and in this answer alone."""
        name, token = got.pop()
        expect(name == member, f"the last member is {name}, not {member}")
        expect(re.fullmatch(r"[a-z]+_[0-9A-Za-z]{27}[0-9A-Za-z]{43}[0-9A-Za-z]{6}", token) is not None,
               f"{member} is no token")
        record.facts["last_four"] = token[-4:]

    def bring(self, kind, place, patch):
        rng, now = self.rng, self.clock.now()
        created = rng.randrange(1, now)
        origin = {"created_at": created}
        if rng.random() < 0.5:
            origin["updated_at"] = rng.randrange(created, now)
        if kind.name in ("service_credential", "api_key") and rng.random() < 0.7:
            origin["last_used_at"] = rng.randrange(1, now)
        if kind.name in ("checkbook", "service_credential"):
            origin["client_id"] = KSUID
        if kind.name == "stripe":
            origin["id"] = OTHER_UUID
        record = model.Record(kind, dict(place), now, origin, patch)
        wire = self.wire(kind, place, ACTORS[kind.name][0])
        if kind.name != "stripe":
            origin["id"] = wire.pop("id")
        names = {"expiresAt": "expires_at", "flatPermissionsList": "permissions"}
        slots = {}
        for name, value in patch.items():
            value = "\n".join(sorted(value)) if isinstance(value, frozenset) else value
            value = int(value) if isinstance(value, bool) else value
            slots[names.get(name, name)] = value
        self.driver.typed("import", "import", **wire, **slots,
                          **{f"origin.{name}": value for name, value in origin.items()})
        self.clock.last_change = now
        self.records[kind.name].append(record)
        self.check_get("import", record)
        self.check_view("import", record)

    # ---- one body ----

    def legal(self, kind, number):
        rng, now = self.rng, self.tick()
        record = rng.choice(self.records[kind.name])
        actor = rng.choice(ACTORS[kind.name])
        where = f"legal body {number}"
        allowed = self.held[actor] | (record.values.get(kind.list_member) or frozenset())
        sent, patch = bodies.legal(rng, kind, record, now, allowed)
        request = {"verb": "update", **self.wire(kind, record.place, actor),
                   "body": bodies.dump(rng, sent)}
        if rng.random() < 0.2:  # told before anything else about the record is
            stale = rng.choice((f'"{record.revision + 1}"', f'"{record.revision - 1}"', '"x"',
                                f'W/"{record.revision}"'))
            answer = self.driver.ask("handle", **request, if_match=stale)
            expect(answer["http"] == "412", f"{where}: stale, yet HTTP {answer['http']}")
        expand = kind.name == "service_credential" and rng.random() < 0.2
        answer = self.driver.ask(
            "handle", **request, query=rng.choice(EXPAND) if expand else None,
            if_match=rng.choice((None, None, "*", f'"{record.revision}"')))
        if record.update(patch, now):
            self.clock.last_change = now
        got = success(where, answer, 200, record.revision)
        want = kind.document(record, self.catalogue, self.held[actor] if expand else None)
        tally.same(where, got, [("success", True)] if kind.name == "api_key" else want)
        self.check_get(where, record)
        if rng.random() < 0.3:
            self.check_view(where, record)
        tally.legal += 1

    def illegal(self, kind, number):
        rng, now = self.rng, self.tick()
        record = rng.choice(self.records[kind.name])
        actor = ACTORS[kind.name][0]
        where = f"illegal body {number}"
        place, verb = record.place, "update"
        if rng.random() < 0.1:  # of a record that is not there, and stays so
            place = self.new_place(kind)
            verb = "update" if kind.upsert else "create"
            sent, _ = bodies.legal(rng, kind, None, now, self.everything, create=True)
            fault = bodies.illegal_create(rng, kind, sent)
        elif kind.name == "api_key" and self.not_held(record) and rng.random() < 0.15:
            actor, sent = "narrow", {}
            fault = self.grant_not_held(record, now)
        else:
            sent, _ = bodies.legal(rng, kind, record, now, self.everything)
            fault = bodies.illegal(rng, record, now, sent, sorted(self.everything))
        wire = self.wire(kind, place, actor)
        answer = self.driver.ask("handle", verb=verb, body=fault.body, **wire)
        self.check_refusal(where, kind, fault, answer)
        said = answer["body"].decode()
        for value in [v for m in kind.secrets for v in (sent.get(m), record.values[m])]:
            expect(not isinstance(value, str) or len(value) < 12 or value not in said,
                   f"{where}: the refusal holds a secret")
        if place is not record.place:
            gone = self.driver.ask("handle", verb="get", **wire)
            expect(gone["http"] == "404" or gone.get("body") == b"null",
                   f"{where}: it made a record")
        self.check_get(f"after {where}", record)
        tally.illegal += 1

    def not_held(self, record):
        """What one actor may not grant the record."""
        return sorted(self.everything - self.held["narrow"] - record.values["flatPermissionsList"])

    def grant_not_held(self, record, now):
        sent, _ = bodies.legal(self.rng, record.kind, record, now, self.held["narrow"])
        free = self.rng.choice(self.not_held(record))
        sent["flatPermissionsList"] = sent["flatPermissionsList"][:500] + [free]
        return bodies.Illegal(bodies.dump(self.rng, sent), "flatPermissionsList", 403)

    def check_refusal(self, where, kind, fault, answer):
        expect(answer["http"] == str(fault.http),
               f"{where} ({fault.why}): HTTP {answer['http']}, not {fault.http}: "
               f"{answer.get('body')}")
        expect("etag" not in answer, f"{where}: a refusal with an ETag")
        got = pairs(answer["body"])
        shown = dict(got)
        if kind.name == "api_key":
            expect(answer["content_type"] == "application/json" and list(shown) == ["error"],
                   f"{where}: the refusal is {got}")
            invalid = "Invalid permissions provided"
            if fault.http == 403:
                right = shown["error"] == "User does not have the required permissions"
            elif fault.field == "flatPermissionsList":
                right = shown["error"] == invalid
            else:
                right = shown["error"] not in (invalid, None, "") or fault.field is None
            expect(right, f"{where}: {shown}, the fault: {fault.field}")
            return
        expect(answer["content_type"] == "application/problem+json",
               f"{where}: the refusal is {answer['content_type']}")
        members = ["type", "title", "status", "detail"]
        expect(list(shown)[:4] == members and shown["status"] == fault.http,
               f"{where}: the refusal is {got}")
        at = [dict(error).get("field") for error in shown.get("errors", [])]
        expect(fault.field is None or at == [fault.field], f"{where}: at {at}, not {fault.field}")

    # ---- the whole ----

    def attempt(self, kind, function, *arguments):
        """After a first difference the two no longer agree: what follows would say nothing."""
        if kind.name not in self.lost:
            failed = len(tally.failures)
            cases = tally.cases
            tally.case(kind.name, function, kind, *arguments)
            tally.cases = cases
            if len(tally.failures) > failed:
                self.lost.add(kind.name)

    def read_all(self, kind):
        for n, record in enumerate(self.records[kind.name]):
            self.check_get(f"record {n}, reopened", record)
            self.check_view(f"record {n}, reopened", record)
            self.check_secrets(f"record {n}, reopened", record)

    def reopen(self, catalogue):
        self.driver.close()
        self.catalogue = catalogue
        self.open("open")
        for kind in model.KINDS:
            self.attempt(kind, self.read_all)

    def run(self):
        for kind in model.KINDS:
            for verb in ("create", "nameless", "import", "import", "update"):
                if (verb == "update" and not kind.upsert) or (verb == "nameless" and kind.upsert):
                    continue
                self.attempt(kind, self.create, verb)
        tries = [(kind, way, number) for kind in model.KINDS for number in range(BODIES)
                 for way in (self.legal, self.illegal)]
        self.rng.shuffle(tries)
        for kind, way, number in tries:
            self.attempt(kind, way, number)
        # Another process, in which the host lists its permissions in another order; then another,
        # in which some of them are gone, and so from the lists.
        catalogue = list(self.catalogue)
        self.rng.shuffle(catalogue)
        self.reopen(catalogue)
        self.reopen(catalogue[:400])
        self.driver.close()
        tally.cases += len(model.KINDS) - len(self.lost)


def main():
    print(f"seed {SEED}")
    examples = sum(1 for _ in EXAMPLES)
    members = [len(json.loads(fixture(name)["answer"])) for name in EXAMPLES]
    seeds = os.path.join(SHARED, "seeds")
    with tempfile.TemporaryDirectory(prefix="credstore-documents-") as folder:
        if os.path.isdir(seeds):
            for name in DOCUMENTS:
                tally.case(f"{name}: fixture", check_fixture, name, seeds)
        else:
            print("skipped: the documents are not here: the fixtures are taken as they are")
        for name, run in EXAMPLES.items():
            tally.case(f"{name}: example", run, folder)
        os.mkdir(os.path.join(folder, "random"))
        tally.case("random bodies", World(os.path.join(folder, "random"), random.Random(SEED)).run)
    print(f"documents: {examples} examples, {'+'.join(map(str, members))} members; "
          f"{tally.legal} legal bodies, {tally.illegal} illegal bodies, "
          f"{tally.members} members compared (seed {SEED})")
    print(f"{tally.cases} passed, {len(tally.failures)} failed")
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: MIT
"""A state machine over the whole life of a credential: random verbs of all kinds, typed and through
the HTTP door, on both engines, against the model in life.py, which shares no code with the library.
The library runs in another process (tests/helpers/machine_driver.c) with a clock that the machine
turns. Each answer is predicted: its status, each member of its view, the items and cursors of a
page, the audit's entries. At the end a table says how often each verb of each kind answered what;
no cell that can be reached may be below 50.

CREDSTORE_SEED repeats a run. CREDSTORE_MACHINE_VERBS (100000) verbs; with fewer, the table is not
held to its least. CREDSTORE_MACHINE_DRIVER is another driver than the build's. With
CREDSTORE_MACHINE_SLOWLY the audit is looked at after each verb, and CREDSTORE_MACHINE_LOG names a
file that gets each command and answer: both to find what went wrong first."""
import collections
import hashlib
import hmac
import json
import os
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import life  # noqa: E402
from life import (ADMIN, ALL, API_KEY, CATALOGUE, CHECKBOOK, CLEAR, DAY, HOUR,  # noqa: E402
                  KEY_ACTOR, KINDS, MINUTE, MUST_BE_NEW, MUST_EXIST, NAMES, PATCH, SECRETS, SERVICE,
                  SERVICE_ACTOR, STRIPE, SUPER, SYSTEM, USER, Actor, Bad, Call, No, Token, Wish,
                  same, text_of)

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("CREDSTORE_BUILD") or os.path.join(HERE, "..", "..", "build")
DRIVER = os.environ.get("CREDSTORE_MACHINE_DRIVER") or os.path.join(
    BUILD, "tests", "helpers", "machine_driver")
SEED = int(os.environ.get("CREDSTORE_SEED") or secrets.randbelow(2**32))
FULL = 100000
VERBS = int(os.environ.get("CREDSTORE_MACHINE_VERBS") or FULL)
LEAST = 50
EPISODE = 5000  # verbs on one store
ON_DISK = 4  # of how many episodes one is on LMDB
NOW = 1700000000000
BATCH, BATCH_BYTES = 48, 40000
SLOWLY = bool(os.environ.get("CREDSTORE_MACHINE_SLOWLY"))
LOG = open(os.environ["CREDSTORE_MACHINE_LOG"], "w", encoding="utf-8") \
    if os.environ.get("CREDSTORE_MACHINE_LOG") else None

TENANTS = ("acme", "bolt", "cove")
PARENTS = ("sa-1", "sa_2")
DOOR = {"get": 1, "create": 2, "update": 3, "list": 4, "remove": 5, "roll": 6, "deactivate": 7,
        "reactivate": 8, "history": 9, "restore": 10}
HTTP = {"OK": 200, "E_INVALID": 400, "E_TOO_LARGE": 413, "E_UNSUPPORTED": 400,
        "E_UNAUTHENTICATED": 401, "E_EXPIRED": 401, "E_REVOKED": 401, "E_FORBIDDEN": 403,
        "E_NOT_FOUND": 404, "E_EXISTS": 409, "E_REVISION": 412, "E_IDEMPOTENCY": 422}
API_KEY_TEXT = {**dict.fromkeys(("E_UNAUTHENTICATED", "E_EXPIRED", "E_REVOKED"),
                                "User not authenticated"), "E_NOT_FOUND": "API key not found",
                "E_FORBIDDEN": "User does not have the required permissions"}

# ---- which answers each verb of each kind can give ----

ASKED = ("OK", "E_INVALID", "E_UNAUTHENTICATED", "E_EXPIRED", "E_FORBIDDEN")
TYPED = (*ASKED, "E_UNSUPPORTED")  # an unknown flag of the call
OF_ONE = ("E_NOT_FOUND", "E_REVISION")


def keyed(kind):
    """An API key never changes API keys, so a withdrawn one learns nothing more there."""
    return () if kind == API_KEY else ("E_REVOKED",)


def reachable():
    cells = {}
    for k in KINDS:
        cells["create", k] = (*TYPED, "E_EXISTS", "E_REVISION", "E_IDEMPOTENCY", *keyed(k))
        cells["get", k] = (*TYPED, "E_NOT_FOUND")
        cells["history", k] = cells["get", k]
        cells["list", k] = TYPED
        for verb in ("update", "remove", "restore"):
            cells[verb, k] = (*TYPED, *OF_ONE, *keyed(k))
        cells["roll", k] = (*TYPED, *OF_ONE, "E_IDEMPOTENCY", *keyed(k))
        cells["door get", k] = (*ASKED, "E_NOT_FOUND")
        cells["door list", k] = ASKED
        cells["door create", k] = (*TYPED, "E_EXISTS", "E_REVISION", "E_IDEMPOTENCY",
                                   "E_TOO_LARGE", *keyed(k))
        cells["door update", k] = (*TYPED, *OF_ONE, "E_TOO_LARGE", *keyed(k))
        cells["door remove", k] = (*TYPED, *OF_ONE, *keyed(k))
        cells["door restore", k] = cells["door remove", k]
        cells["door history", k] = cells["door get", k]
        cells["door roll", k] = (*cells["door remove", k], "E_IDEMPOTENCY")
        for verb in ("door deactivate", "door reactivate"):
            cells[verb, k] = (*TYPED, *OF_ONE, *keyed(k))
    # Setting up what is absent: no E_NOT_FOUND, but an id that was removed is taken for ever.
    for verb in ("update", "door update"):
        cells[verb, STRIPE] = tuple(s for s in cells[verb, STRIPE] if s != "E_NOT_FOUND") + (
            "E_EXISTS",)
    # The first answer of an idempotency key is gone when its record is.
    for k in KINDS:
        for verb in ("create", "door create"):
            cells[verb, k] += ("E_NOT_FOUND",)
    # The door answers it with null.
    cells["door get", STRIPE] = ASKED
    # Verbs that a kind has not: known after who asks and what the headers say, before the record.
    for verb in ("door deactivate", "door reactivate"):
        for k in (SERVICE, API_KEY):
            cells[verb, k] = ("E_UNSUPPORTED", *(s for s in ASKED if s != "OK"))
    for k in (CHECKBOOK, STRIPE):
        cells["reveal", k] = (*TYPED, "E_NOT_FOUND")
        cells["door roll", k] += ("E_TOO_LARGE",)
    for k in (SERVICE, API_KEY):
        cells["issue", k] = (*TYPED, "E_REVISION", "E_IDEMPOTENCY", "E_NOT_FOUND", *keyed(k))
    cells["verify", SERVICE] = ("OK", "E_UNAUTHENTICATED", "E_REVOKED", "E_INVALID")
    cells["verify", API_KEY] = (*cells["verify", SERVICE], "E_EXPIRED")
    for verb in ("deactivate", "reactivate"):
        cells[verb, STRIPE] = (*TYPED, *OF_ONE, "E_REVOKED")
    cells["webhook_verify", STRIPE] = (*TYPED, "E_NOT_FOUND", "E_INACTIVE")
    cells["audit_read", 0] = TYPED
    cells["audit_verify", 0] = (*(s for s in TYPED if s != "E_INVALID"), "E_ROLLBACK")
    cells["maintain", 0] = ("OK",)
    return cells


REACHABLE = reachable()
WEIGHTS = {"verify": 3, "update": 2, "get": 1.2, "roll": 1.6, "webhook_verify": 2.5, "list": 0.8,
           "audit_verify": 0.3, "maintain": 0.6, "issue": 1.4, "door create": 1.2}

# ---- values ----

BAD = {
    "publishable_key": ("", "a\x01b", "x" * 4097), "secret_key": ("", "a\nb", "x" * 4097),
    "base_url": ("", "http://api.example.com", "https://u@api.example.com/", "https://127.0.0.1/",
                 "https://api.example.com/#a"),
    "name": ("", "n" * 256, "a\tb"), "test_secret_key": ("", "sk_live_1", "pk_test_1", "whsec_1"),
    "test_publishable_key": ("", "pk_live_1", "sk_test_1"),
    "test_webhook_secret": ("", "sk_test_1", "pk_test_1"),
    "live_secret_key": ("", "sk_test_1", "pk_live_1", "whsec_1"),
    "live_publishable_key": ("", "pk_test_1", "sk_live_1"),
    "live_webhook_secret": ("", "sk_live_1", "pk_live_1"),
}
STEMS = {"test_secret_key": ("sk_test_", "rk_test_", "sk_org_", ""),
         "live_secret_key": ("sk_live_", "rk_live_", "sk_org_", ""),
         "test_publishable_key": ("pk_test_",), "live_publishable_key": ("pk_live_",),
         "test_webhook_secret": ("whsec_",), "live_webhook_secret": ("whsec_",)}


class Disagreement(Exception):
    pass


def escaped(value):
    value = str(value)
    if "\\" in value or "\t" in value or "\n" in value:
        value = value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
    return value


def plain(value):
    if "\\" not in value:
        return value
    out, i = [], 0
    while i < len(value):
        if value[i] == "\\":
            i += 1
            out.append({"t": "\t", "n": "\n"}.get(value[i], value[i]))
        else:
            out.append(value[i])
        i += 1
    return "".join(out)


def compare(what, want, got):
    """Two dicts of texts; a wanted one may be a Later."""
    if want.keys() != got.keys():
        raise Disagreement(f"{what}: members {sorted(want.keys() ^ got.keys())} differ")
    for name, value in want.items():
        if not same(value, got[name]):
            raise Disagreement(f"{what}: {name} is {got[name]!r}, not {value!r}")


def compare_json(what, want, got):
    """Objects are lists of pairs, in order."""
    if isinstance(want, list):
        if not isinstance(got, list) or len(want) != len(got):
            raise Disagreement(f"{what}: {got!r}, not {want!r}")
        for a, b in zip(want, got):
            if isinstance(a, tuple):
                if not isinstance(b, tuple) or a[0] != b[0]:
                    raise Disagreement(f"{what}: the member is {b!r}, not {a[0]}")
                compare_json(f"{what}: {a[0]}", a[1], b[1])
            else:
                compare_json(what, a, b)
    elif want is None or isinstance(want, (bool, int)):
        if got is not want and not (type(want) is int and type(got) is int and want == got):
            raise Disagreement(f"{what}: {got!r}, not {want!r}")
    elif not same(want, got):
        raise Disagreement(f"{what}: {got!r}, not {want!r}")


class Ask:
    """One call: what the driver is told and what the model is asked come from it."""

    def __init__(self, verb, kind, call, tenant, parent=None, id_=None):
        self.verb, self.kind, self.call, self.tenant = verb, kind, call, tenant
        self.parent, self.id = parent, id_
        self.patch = self.origin = self.wish = None
        self.grace = self.source = self.field = self.limit = 0
        self.extra = {}  # further fields of the command
        self.door = None  # through the door: what its headers and body have beside the call
        self.page, self.cursor = {}, None

    def place(self):
        return self.tenant if self.kind == SERVICE else None, self.parent, self.id


class Table:
    def __init__(self):
        self.cells = {(verb, k): dict.fromkeys(statuses, 0)
                      for (verb, k), statuses in REACHABLE.items()}
        self.verbs = 0

    def count(self, verb, kind, status):
        self.verbs += 1
        cell = self.cells[verb, kind]
        cell[status] = cell.get(status, 0) + 1

    def strangers(self):
        return [(v, k, s) for (v, k), cell in self.cells.items() for s in cell
                if s not in REACHABLE[v, k]]

    def low(self):
        return [(v, NAMES[k], s, n) for (v, k), cell in self.cells.items()
                for s, n in cell.items() if n < LEAST]

    def show(self):
        order = ["OK", *sorted({s for cell in self.cells.values() for s in cell} - {"OK"})]
        heads = [s.replace("E_", "")[:9].lower() for s in order]
        print(f"{'verb':16}{'kind':10}" + "".join(f"{h:>10}" for h in heads))
        for (verb, k), cell in sorted(self.cells.items(), key=lambda c: (c[0][0], c[0][1])):
            print(f"{verb:16}{NAMES[k]:10}" + "".join(f"{cell.get(s, '.'):>10}" for s in order))


# ---- the library, in another process ----


class Driver:
    def __init__(self, path, seed):
        self.process = subprocess.Popen(
            [DRIVER, path, str(NOW), str(seed), *(",".join(p) for p in CATALOGUE)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, lines):
        data = ("\n".join(lines) + "\n\n").encode()
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Disagreement(f"the driver has ended ({self.process.wait()})") from None
        for _ in lines:
            line = self.process.stdout.readline()
            if not line.endswith(b"\n"):
                raise Disagreement(f"the driver has ended ({self.process.wait()})")
            yield line[:-1].decode()

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        code = self.process.wait()
        if code != 0:
            raise Disagreement(f"the driver ended with {code}")


def fields_of(line):
    status, *rest = line.split("\t")
    return status, [(name, plain(value)) for name, _, value in (r.partition("=") for r in rest)]


def items_of(fields):
    """What stands before the first item, and the items."""
    head, items = {}, []
    for name, value in fields:
        if name == "item":
            items.append((value, {}))
        elif items:
            items[-1][1][name] = value
        else:
            head[name] = value
    return head, items


# ---- the machine ----


class Machine:
    def __init__(self, rng, table, path):
        self.rng, self.table, self.path = rng, table, path
        self.driver = Driver(path, rng.getrandbits(63))
        self.store = life.Store(NOW)
        self.store.audit += [None, None]  # the store was made, and learned its catalogue
        self.batch, self.bytes = [], 0
        self.actors, self.cursors = {}, []
        self.return_to = None  # from ten years ahead
        self.before_jump = []  # calls with an idempotency key
        self.people = self.make_people()
        self.sets = {}
        self.keyed = collections.deque(maxlen=60)  # calls with an idempotency key
        self.steps = 0

    def make_people(self):
        out = [Actor(SYSTEM, 0, "system", ""), Actor(USER, SUPER, "super", "acme", ALL),
               Actor(USER, SUPER, "super0", "bolt"), Actor(USER, ADMIN, "stranger", "dusk", ALL),
               Actor(USER, ADMIN, "nobody", "", ALL)]
        for t in TENANTS:
            out += [Actor(USER, ADMIN, f"admin-{t}", t, ALL),
                    Actor(SERVICE_ACTOR, 0, f"admin-{t}", t, ALL),  # the same id, another actor
                    Actor(USER, ADMIN, f"narrow-{t}", t, {"orders:read", "checkbook:read"}),
                    Actor(USER, 0, f"member-{t}", t),
                    Actor(SERVICE_ACTOR, ADMIN, f"robot-{t}", t),
                    Actor(SERVICE_ACTOR, 0, f"reader-{t}", t, {"checkbook:read"}),
                    Actor(SERVICE_ACTOR, 0, f"opener-{t}", t,
                          {"checkbook:reveal", "stripe:reveal"}),
                    Actor(USER, 0, f"updater-{t}", t, {"checkbook:update", "stripe:update",
                                                       "service_credentials:update"})]
        return out

    # ---- sending and checking ----

    def send(self, line, check, name=None):
        self.batch.append((line, check, name))
        self.bytes += len(line)
        if len(self.batch) >= BATCH or self.bytes > BATCH_BYTES:
            self.flush()

    def flush(self):
        batch, self.batch, self.bytes = self.batch, [], 0
        if not batch:
            return
        answers = self.driver.ask([line for line, _, _ in batch])
        for line, check, name in batch:
            answer = next(answers)
            if LOG:
                LOG.write(f"> {line[:2000]}\n< {answer[:2000]}\n")
            status, fields = fields_of(answer)
            try:
                check(status, fields)
            except Disagreement as difference:
                raise Disagreement(f"{difference}\n  asked: {line[:1500]}\n  got: {answer[:1500]}"
                                   ) from None
            if name:
                self.table.count(*name, status)

    def line(self, verb, fields):
        return "\t".join([verb, *(f"{n}={escaped(v)}" for n, v in fields.items()
                                  if v is not None)])

    def actor_number(self, actor):
        if actor is None:
            return None
        number = self.actors.get(actor.key)
        if number is None:
            number = self.actors[actor.key] = len(self.actors)
            self.send(self.line("actor", {
                "n": number, "type": actor.type, "roles": actor.roles, "id": actor.id,
                "tenant": actor.tenant, "expires": actor.expires,
                "grants": ",".join(sorted(actor.grants))}), self.expect_ok)
        return number

    @staticmethod
    def expect_ok(status, _fields):
        if status != "OK":
            raise Disagreement(f"{status}, not OK")

    def expect(self, ask, predict, counted=True):
        """Asks the model, then sends; predict answers the check of what an OK shows."""
        try:
            check, want = predict(), "OK"
        except No as no:
            check, want = None, no.status
        if counted and ask.call.key and ask.verb.split()[-1] in ("create", "issue", "roll"):
            self.keyed.append((ask, predict))

        def checked(status, fields):
            what = f"{ask.verb} of {NAMES[ask.kind]}"
            if status != want:
                raise Disagreement(f"{what}: {status}, not {want}")
            if want == "OK":
                check(what, fields)
            elif ask.door is not None:
                self.check_refusal(what, ask.kind, want, dict(fields))
            elif "disagrees" in dict(fields):
                raise Disagreement(f"{what}: the error says {dict(fields)['disagrees']}")
            elif any(n not in ("field", "message") for n, _ in fields):
                raise Disagreement(f"{what}: a refusal shows {fields!r}")
        line = self.door_line(ask) if ask.door is not None else self.typed_line(ask)
        self.send(line, checked, (ask.verb, ask.kind) if counted else None)

    @staticmethod
    def check_refusal(what, kind, status, fields):
        if fields["http"] != str(HTTP[status]) or "etag" in fields or fields["revision"] != "0":
            raise Disagreement(f"{what}: HTTP {fields['http']}, {fields.get('etag')} for {status}")
        body = json.loads(fields["body"])
        if kind == API_KEY:
            if API_KEY_TEXT.get(status, body["error"]) != body["error"]:
                raise Disagreement(f"{what}: the text is {body['error']!r}")
        elif body["status"] != HTTP[status]:
            raise Disagreement(f"{what}: the body says {body['status']}")

    # ---- lines ----

    def typed_line(self, ask):
        c = ask.call
        path, parent, id_ = ask.place()
        fields = {"kind": ask.kind or None, "actor": self.actor_number(c.actor), "tenant": c.tenant,
                  "path": path, "parent": parent, "id": id_, "flags": c.flags or None,
                  "request_id": c.request_id, "expected": c.expected or None,
                  "at": c.at or None, "key": c.key}
        for n, v in (ask.patch or {}).items():
            name = {"expiresAt": "expires_at", "flatPermissionsList": "permissions"}.get(n, n)
            if v is CLEAR:
                fields[f"c.{name}"] = ""
            elif n == "flatPermissionsList":
                fields[f"p.{name}"] = self.shuffled(v)
            else:
                fields[f"p.{name}"] = int(v) if isinstance(v, bool) else v
        if ask.origin is not None:
            fields["origin"] = 1
            for n, v in ask.origin.items():
                fields[f"o.{n}"] = hashlib.sha256(v.value.encode()).hexdigest() \
                    if isinstance(v, Token) else v
        if ask.wish:
            fields["prefix"], fields["grace"] = ask.wish.prefix, ask.wish.grace
        fields.update(ask.extra)
        return self.line(ask.verb, fields)

    def shuffled(self, permissions):
        items = sorted(permissions)
        self.rng.shuffle(items)
        if items and self.rng.random() < 0.2:
            items.append(items[0])
        return ",".join(items)

    def door_line(self, ask):
        c = ask.call
        fields = {"kind": ask.kind, "verb": DOOR[ask.verb[5:]], "actor": self.actor_number(c.actor),
                  "tenant": ask.tenant if ask.kind == SERVICE else c.tenant, "parent": ask.parent,
                  "id": ask.id, "request_id": c.request_id, "key": c.key, **ask.door}
        return self.line("handle", fields)

    # ---- who asks ----

    def people_for(self, kind, cls, tenant):
        found = self.sets.get((kind, cls, tenant))
        if found is None:
            yes = [a for a in self.people if life.may(kind, cls, a, tenant)]
            no = [a for a in self.people if not life.may(kind, cls, a, tenant)]
            found = self.sets[kind, cls, tenant] = yes, no
        return found

    def key_actor(self, kind, cls, tenant, state):
        """An API key of the tenant as an actor: alive, expired, removed, narrowed or unknown."""
        now, out = self.store.now(), []
        if state == "unknown":
            return Actor(KEY_ACTOR, 0, self.ksuid(), tenant, ALL)
        for r in (self.store.everything if state == "removed" else self.store.live[API_KEY]):
            if r.kind != API_KEY or r.tenant != tenant or r.text() is None or \
                    (r.removed is not None) != (state == "removed"):
                continue
            expires = r.now.f["expiresAt"] if r.removed is None else None
            if (expires is not None and expires <= now) != (state == "expired"):
                continue
            held = ALL if state in ("removed", "narrowed") else r.now.f["flatPermissionsList"]
            actor = Actor(KEY_ACTOR, 0, r.text(), tenant, held)
            if life.may(kind, cls, actor, tenant):
                out.append(actor)
        return self.rng.choice(out) if out else None

    def call_for(self, kind, cls, tenant, want):
        rng, now = self.rng, self.store.now()
        yes, no = self.people_for(kind, cls, tenant)
        state = {"E_REVOKED": "removed", "E_UNAUTHENTICATED": "unknown", "E_EXPIRED": "expired",
                 "E_FORBIDDEN": "narrowed"}.get(want, "alive")
        actor = None
        if want == "E_REVOKED" or (kind != API_KEY and rng.random() < (
                0.15 if state == "alive" else 0.4)):
            actor = self.key_actor(kind, cls, tenant, state)
        if actor is None and want == "E_FORBIDDEN":
            actor = rng.choice(no)
        elif actor is None and want != "E_UNAUTHENTICATED" and yes:
            actor = rng.choice(yes)
            if want == "E_EXPIRED":
                actor = actor.until(now - rng.choice((0, 0, 1, HOUR)))
            elif rng.random() < 0.1:
                actor = actor.until(now + rng.choice((1, HOUR)))
        call = Call(actor)
        if actor is None or actor.tenant != tenant or rng.random() < 0.5 or (
                actor.role(SUPER) and rng.random() < 0.9):  # who names the tenant, or is no SUPER
            call.tenant = tenant
        if kind == SERVICE and rng.random() < 0.7:
            call.tenant = None
        if rng.random() < 0.15:
            call.request_id = self.uuid()
        if want == "E_UNSUPPORTED":
            call.flags = 2
        return call

    # ---- ids and values ----

    def ksuid(self):
        return "1" + "".join(self.rng.choices(life.BASE62, k=26))

    def uuid(self):
        h = f"{self.rng.getrandbits(128):032x}"
        text = f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"
        return text.upper() if self.rng.random() < 0.3 else text

    def new_id(self, kind):
        rng = self.rng
        if kind == CHECKBOOK:
            return self.ksuid()
        if kind == STRIPE:
            return self.uuid()
        if kind == SERVICE:
            return rng.choice(("cred", "Cr_", "x-")) + str(rng.randrange(10**6))
        return self.ksuid() if rng.random() < 0.6 else \
            rng.choice(("a", "a.", "a~", "Key")) + str(rng.randrange(10**6))

    def bad_id(self, kind):
        return self.rng.choice(("", "a/b", "x" * 256, "a b") if kind in (SERVICE, API_KEY)
                               else ("", "abc", "x" * 256, "~" * 27))

    def value(self, kind, name, actor=None):
        rng = self.rng
        n = rng.randrange(6)
        if name == "is_active":
            return rng.random() < 0.6
        if name == "expiresAt":
            return self.store.now() + rng.choice((1, 1000, MINUTE, HOUR, DAY, 2 * DAY, 30 * DAY,
                                                  400 * DAY))
        if name == "flatPermissionsList":
            held = sorted(actor.grants if actor is not None and rng.random() < 0.8 else ALL)
            return frozenset(p for p in held if rng.random() < 0.7)
        if name == "base_url":
            return f"https://api{n}.example.com/v{n}"
        if name == "description":
            return ("", "plain", "caf\u00e9 \u4e16\u754c", 'quoted "\\" text', "tab\tand\nline",
                    "d" * 500)[n]
        if name == "name":
            return ("n" * 255, "backend", "d\u00e9ploy", "a/b", "x", "Robot 7")[n]
        if kind == STRIPE:
            return rng.choice(STEMS[name]) + ("9", "abc", "4242424242424242", "x" * 40,
                                              "0000\u00e9\u00e9\u00e94", "zz-99-yy-88-xx-77")[n]
        return f"{name[:3]}_{n}" + "k" * (n * 40)

    def bad_value(self, kind, name):
        rng = self.rng
        if name == "expiresAt":
            return max(1, self.store.now() - rng.choice((0, 1, DAY)))
        if name == "flatPermissionsList":
            return frozenset({"orders:read", "orders:delete"})
        if name == "is_active":
            return CLEAR
        if name == "description":
            return Bad("d" * (501 if kind == SERVICE else 2001))
        return Bad(rng.choice(BAD[name]))

    def patch(self, kind, actor, whole=False):
        out = {}
        for n in PATCH[kind]:
            required = whole and n in life.REQUIRED[kind]
            if not required and self.rng.random() < 0.6:
                continue
            if n in life.NULLABLE[kind] and self.rng.random() < 0.3:
                out[n] = CLEAR
            else:
                out[n] = self.value(kind, n, actor)
        return out

    def spoil(self, kind, patch, create):
        rng = self.rng
        required = [n for n in life.REQUIRED[kind] if create]
        if required and rng.random() < 0.3:
            patch.pop(rng.choice(required), None)
        elif rng.random() < 0.3 and len(life.NULLABLE[kind]) < len(PATCH[kind]):
            patch[rng.choice([n for n in PATCH[kind] if n not in life.NULLABLE[kind]])] = CLEAR
        else:
            name = rng.choice(PATCH[kind])
            patch[name] = self.bad_value(kind, name)

    # ---- choosing records ----

    def record(self, kind, removed=False):
        """A record whose id is known, or None; the oldest ones more often."""
        rng = self.rng
        if removed:
            pool = [r for r in self.store.everything[-400:] if r.kind == kind
                    and r.removed is not None and r.text()]
            return rng.choice(pool) if pool else None
        pool = self.store.live[kind]
        if not pool:
            return None
        r = pool[0] if rng.random() < 0.25 else rng.choice(pool)
        return r if r.text() else None

    def target(self, kind, want):
        """tenant, parent, id, record of what a call is about."""
        rng = self.rng
        r = self.record(kind)
        if r is None or want == "E_NOT_FOUND":
            gone = self.record(kind, removed=True) if rng.random() < 0.4 else None
            tenant, parent = rng.choice(TENANTS), rng.choice(PARENTS)
            if gone is not None:
                return gone.tenant, gone.parent or parent, gone.text(), None
            if r is not None and rng.random() < 0.6:  # another's
                return rng.choice([t for t in TENANTS if t != r.tenant]), parent, r.text(), None
            return tenant, parent, self.new_id(kind), None
        id_ = r.text()
        if kind == STRIPE and rng.random() < 0.3:
            id_ = id_.upper()
        return r.tenant, r.parent or rng.choice(PARENTS), id_, r

    def begin(self, verb, kind, cls, want, whole=False):
        """An Ask about a record; whole: about a list or something new."""
        if whole:
            tenant, parent, id_, r = self.rng.choice(TENANTS), self.rng.choice(PARENTS), None, None
        else:
            tenant, parent, id_, r = self.target(kind, want)
        if want == "E_INVALID" and self.rng.random() < 0.15:  # who may not ask learns nothing of it
            want = self.rng.choice(("E_FORBIDDEN", "E_UNAUTHENTICATED", "E_EXPIRED"))
        call = self.call_for(kind, cls, tenant, want)
        ask = Ask(verb, kind, call, tenant, parent if kind == SERVICE else None, id_)
        if verb.startswith("door "):
            ask.door = {}
            call.flags = 0
        return ask, r

    def spoil_names(self, ask):
        """False if nothing was spoilt."""
        rng, c = self.rng, ask.call
        which = rng.randrange(4)
        if which == 0 and ask.id is not None:
            ask.id = None if rng.random() < 0.3 else self.bad_id(ask.kind)
        elif which == 1:
            c.request_id = rng.choice(("", "a b", "r" * 129, "caf\u00e9"))
        elif which == 2 and ask.kind == SERVICE:
            ask.parent = rng.choice((None, "", "a.b", "p" * 256))
        elif which == 3 and c.actor is not None and c.actor.sees_all() and ask.kind != SERVICE:
            c.tenant = rng.choice(("", "a b", "t" * 256))
        else:
            return False
        return True

    def expected(self, ask, r, want):
        """An expected revision: now and then the right one; a wrong one if it is to be refused."""
        rng, now = self.rng, r.now.revision if r is not None else 0
        if want == "E_REVISION":
            ask.call.expected = rng.choice((now + 1, max(1, now - 1), MUST_BE_NEW, 10**6)) \
                if r is not None else rng.choice((MUST_EXIST, 1, 7))
        elif rng.random() < 0.25:
            ask.call.expected = rng.choice((now, MUST_EXIST)) if r is not None else MUST_BE_NEW

    def key(self):
        return f"key-{self.rng.randrange(50)}" if self.rng.random() < 0.3 else None

    def reuse_key(self, ask, action):
        """Makes a call carry the key of another one by the same actor."""
        rng, now = self.rng, self.store.now()
        names = [name for (day, name), first in self.store.receipts.items()
                 if name[0] == ask.kind and name[4] == action
                 and day in (now // DAY, now // DAY - 1) and now - first[4] < DAY]
        people = {(a.type, a.tenant, a.id): a for a in self.people}
        names = [n for n in names if n[1:4] in people]
        if not names:
            return
        name = rng.choice(names[-20:])
        ask.call.actor, ask.call.key, ask.call.expected = people[name[1:4]], name[6], 0
        ask.tenant = ask.call.tenant = name[5]

    # ---- verbs about one record ----

    def check_view(self, r, s, used=None, grants=None, token=None):
        want = life.view(r, s, used, grants)
        if token is not None:  # first: it fixes the last four
            want = {"secret": token, **want}

        def check(what, fields):
            compare(what, want, dict(fields))
        return check

    def do_get(self, verb, kind, want):
        ask, r = self.begin(verb, kind, "read", want)
        c, rng = ask.call, self.rng
        if want == "E_INVALID":
            self.spoil_names(ask)
        if rng.random() < 0.2:
            c.flags |= 1
        if r is not None and rng.random() < 0.3:
            c.at = rng.choice((1, r.now.revision, max(1, r.now.revision - rng.randrange(110)),
                               r.now.revision + 1))

        def predict():
            r, s = self.store.get(kind, c, *ask.place())
            return self.check_view(r, s, grants=c.actor.grants if c.flags & 1 else None)
        self.expect(ask, predict)

    def do_reveal(self, verb, kind, want):
        ask, r = self.begin(verb, kind, "reveal", want)
        fields = list(SECRETS[kind].values())
        ask.field = self.rng.choice(fields)
        if want == "E_INVALID" and not self.spoil_names(ask):
            ask.field = self.rng.choice((0, 2 if kind == STRIPE else 1, 9, 64, 70000))
        if r is not None and self.rng.random() < 0.5:
            ask.call.at = self.rng.randrange(max(0, r.now.revision - 110), r.now.revision + 2)
        ask.extra = {"field": ask.field}

        def predict():
            value = self.store.reveal(kind, ask.call, *ask.place(), ask.field)
            return lambda what, fields: compare(what, {"secret": value}, dict(fields))
        self.expect(ask, predict)

    def do_history(self, verb, kind, want):
        ask, r = self.begin(verb, kind, "read", want)
        rng = self.rng
        ask.limit = rng.choice((1, 2, 5, 10, 100))
        before = rng.choice((0, 0, 1, 3, r.now.revision if r else 5, 10**6))
        if want == "E_INVALID" and not self.spoil_names(ask):
            ask.limit = rng.choice((0, 101, 2**32 - 1))
        ask.extra = {"limit": ask.limit, "revision": before}
        if ask.door is not None:
            return self.door_history(ask, before)

        def predict():
            r, states, more, prev = self.store.history(kind, ask.call, *ask.place(), before,
                                                       ask.limit)
            views = [life.view(r, s, 0) for s in states]

            def check(what, fields):
                head, items = items_of(fields)
                compare(what, {"next": str(int(more)), "prev": str(int(prev))}, head)
                self.compare_items(what, [(r.id, v) for v in views], items)
            return check
        self.expect(ask, predict)

    @staticmethod
    def compare_items(what, want, got):
        if len(want) != len(got):
            raise Disagreement(f"{what}: {len(got)} items, not {len(want)}")
        for (id_, view), (got_id, members) in zip(want, got):
            # The view of a page's item has no id of its own to tell apart.
            if not same(id_, got_id):
                raise Disagreement(f"{what}: the item is {got_id}, not {id_!r}")
            compare(what, view, members)

    def change(self, ask, action, **more):
        """The model's answer to a change; the check of a typed view."""
        done = self.store.change(action, ask.kind, ask.call, *ask.place(), **more)
        if action == life.REMOVE:
            return lambda what, fields: compare(what, {}, dict(fields))
        grants = ask.call.actor.grants if ask.call.flags & 1 else None
        return self.check_view(done.record, done.state, done.used, grants, done.token)

    def full(self, kind):
        return len(self.store.live[kind]) > 36

    def do_create(self, verb, kind, want):
        rng, taken = self.rng, None
        if want == "OK" and self.full(kind):
            return self.do_remove(verb.replace("create", "remove"), kind, want)
        if want in ("E_EXISTS", "E_REVISION"):
            taken = self.record(kind, removed=want == "E_EXISTS" and rng.random() < 0.4)
        ask, _ = self.begin(verb, kind, "change", want, whole=taken is None)
        if taken is not None:
            tenant = taken.tenant
            if kind in (CHECKBOOK, API_KEY) and rng.random() < 0.3 and want == "E_EXISTS":
                tenant = rng.choice(TENANTS)
            ask.call = self.call_for(kind, "change", tenant, want)
            ask.tenant, ask.parent, ask.id = tenant, taken.parent, taken.text()
        elif kind == STRIPE or rng.random() < 0.5:
            ask.id = self.new_id(kind)
        self.expected(ask, taken, "E_REVISION" if want == "E_REVISION" else "")
        if want != "E_REVISION" and rng.random() < 0.9:
            ask.call.expected = 0
        ask.call.key = self.key()
        if want == "E_IDEMPOTENCY":
            ask.id = self.new_id(kind)
            self.reuse_key(ask, life.CREATE)
        patch = ask.patch = self.patch(kind, ask.call.actor, whole=True)
        if want == "E_INVALID" and not (rng.random() < 0.4 and self.spoil_names(ask)):
            if rng.random() < 0.2:
                ask.call.key = rng.choice(("", "a b", "k" * 256))
            self.spoil(kind, patch, True)
        return self.door_create(ask, patch) if ask.door is not None else self.create(ask, patch)

    def create(self, ask, patch):
        rng, kind, now = self.rng, ask.kind, self.store.now()
        origin = {}
        if rng.random() < 0.3:
            origin["created_at"] = now - rng.choice((0, 1, HOUR, 500 * DAY, -1))
        if rng.random() < 0.15:
            origin["updated_at"] = max(1, origin.get("created_at", now) + rng.choice((0, 0, 5, -1)))
        if kind in (SERVICE, API_KEY) and rng.random() < 0.2:
            origin["last_used_at"] = now - rng.choice((0, HOUR, 40 * DAY))
        if kind == STRIPE and rng.random() < 0.3:
            origin["id"] = self.uuid().lower()
        if kind == CHECKBOOK and rng.random() < 0.3:
            origin["client_id"] = self.ksuid()
        if kind == SERVICE and rng.random() < 0.3:
            origin["client_id"] = f"client_{rng.randrange(99)}"
        if kind == API_KEY and rng.random() < 0.4:
            text = rng.choice(("legacy", "old-key_" + "x" * 40)) + f"-{rng.randrange(400)}"
            origin["token_sha256"] = Token(None, "", None, None, text)
            if rng.random() < 0.6:
                origin["last_four"] = text[-4:]
        id_, place = ask.id, list(ask.place())
        if kind != STRIPE:
            place[2] = ask.id = None
            if id_ is not None:
                origin["id"] = id_
        ask.origin = origin if origin or rng.random() < 0.3 else None
        self.expect(ask, lambda: self.change(ask, life.CREATE, patch=patch, origin=origin))

    def do_gone(self, verb, kind):
        """The same again as a creation whose record was removed since."""
        for ask, predict in reversed(self.keyed):
            if ask.verb != verb or ask.kind != kind:
                continue
            tenant = ask.tenant if kind == SERVICE or ask.call.tenant is None else ask.call.tenant
            a, now = ask.call.actor, self.store.now()
            first = a and self.store.receipts.get((now // DAY, (
                kind, a.type, a.tenant, a.id, life.CREATE, tenant, ask.call.key)))
            if not first or first[1].removed is None and first[1] in self.store.live[kind][:2]:
                continue
            if first[1].removed is None:
                self.flush()
                r = first[1]
                remove = Ask("remove", kind, Call(self.people[1], r.tenant), r.tenant, r.parent,
                             r.text())
                self.expect(remove, lambda: self.change(remove, life.REMOVE))
            return self.expect(ask, predict)
        if verb == "issue":
            return self.do_issue(verb, kind, "OK")
        return self.do_create(verb, kind, "OK")

    def do_issue(self, verb, kind, want):
        rng = self.rng
        if want == "OK" and self.full(kind):
            return self.do_remove("remove", kind, want)
        ask, _ = self.begin(verb, kind, "change", want, whole=True)
        ask.wish = Wish(rng.choice((None, None, "live", "k_9")))
        ask.call.key = self.key()
        if want == "E_IDEMPOTENCY":
            self.reuse_key(ask, life.CREATE)
        ask.patch = patch = self.patch(kind, ask.call.actor, whole=True)
        if kind == API_KEY and want == "OK" and rng.random() < 0.3:
            patch["expiresAt"] = self.store.now() + rng.choice((MINUTE, HOUR))
        if want == "E_REVISION":
            ask.call.expected, ask.call.key = rng.choice((MUST_EXIST, 1, 7)), None
        if want == "E_INVALID" and not (rng.random() < 0.3 and self.spoil_names(ask)):
            if rng.random() < 0.4:
                ask.wish.prefix = rng.choice(("", "_a", "a_", "A", "a" * 33, "a-b"))
            else:
                self.spoil(kind, patch, True)
        self.expect(ask, lambda: self.change(ask, life.CREATE, patch=patch, wish=ask.wish))

    def do_update(self, verb, kind, want):
        rng = self.rng
        ask, r = self.begin(verb, kind, "change", want)
        if kind == STRIPE and want == "E_EXISTS":
            gone = self.record(kind, removed=True)
            if gone is not None:
                ask.tenant, ask.id = gone.tenant, gone.text()
                ask.call = self.call_for(kind, "change", gone.tenant, "OK")
        elif kind == STRIPE and want == "OK" and rng.random() < 0.05:
            ask.id, r = self.new_id(kind), None
        self.expected(ask, r, want)
        ask.patch = patch = self.patch(kind, ask.call.actor)
        if kind == STRIPE and r is not None and rng.random() < 0.05:
            name = rng.choice(PATCH[STRIPE])
            was = r.now.f[name]
            if was is not None:
                patch[name] = life.mask(was[0] if name in SECRETS[STRIPE] else was)
        if want == "E_INVALID" and not (rng.random() < 0.3 and self.spoil_names(ask)):
            self.spoil(kind, patch, False)
        if rng.random() < 0.05:  # other verbs do not look at it
            ask.call.key = rng.choice(("", "a b", "key-1"))
        if ask.door is not None:
            return self.door_update(ask, patch)
        self.expect(ask, lambda: self.change(ask, life.UPDATE, patch=patch))

    def do_remove(self, verb, kind, want):
        ask, r = self.begin(verb, kind, "change", want)
        if r is not None and want == "OK" and r in self.store.live[kind][:2]:
            want = "E_REVISION"  # the oldest ones stay, so that their history grows long
        self.expected(ask, r, want)
        if want == "E_INVALID":
            self.spoil_names(ask)
        if ask.door is not None:
            return self.door_plain(ask, "change", lambda: self.change(ask, life.REMOVE))
        self.expect(ask, lambda: self.change(ask, life.REMOVE))

    def do_restore(self, verb, kind, want):
        rng = self.rng
        ask, r = self.begin(verb, kind, "change", want)
        self.expected(ask, r, want)
        now = r.now.revision if r is not None else 3
        ask.source = rng.choice((1, now, max(1, now - 1), max(1, now - rng.randrange(100))))
        if want == "E_NOT_FOUND" and rng.random() < 0.5:
            ask.source = rng.choice((0, now + 1, max(0, now - 101)))
        if want == "E_INVALID":
            self.spoil_names(ask)
        ask.extra = {"revision": ask.source}
        if ask.door is not None:
            ask.door["query"] = f"revision={ask.source}"
            return self.door_plain(ask, "change", lambda: self.change_door(
                ask, life.RESTORE, 200, source=ask.source), None if ask.source else "E_INVALID")
        self.expect(ask, lambda: self.change(ask, life.RESTORE, source=ask.source))

    def do_roll(self, verb, kind, want):
        rng = self.rng
        ask, r = self.begin(verb, kind, "change", want)
        self.expected(ask, r, want)
        ask.call.key = self.key()
        if want == "E_IDEMPOTENCY":
            self.reuse_key(ask, life.ROLL)
        grace = rng.choice((0, 1, 60, 3600, 90000, life.GRACE_MAX))
        bad = want == "E_INVALID" and not (rng.random() < 0.3 and self.spoil_names(ask))
        if bad and rng.random() < 0.5:
            grace = life.GRACE_MAX + 1
            bad = False
        if kind in (SERVICE, API_KEY):
            if bad:
                ask.call.request_id = "a b"
            ask.wish = Wish(None, grace)
            if ask.door is not None:
                return self.door_roll(ask, grace, {})
            return self.expect(ask, lambda: self.change(ask, life.ROLL, wish=ask.wish))
        name = rng.choice(list(SECRETS[kind]))
        ask.field, fresh = SECRETS[kind][name], self.value(kind, name)
        if ask.door is not None:
            patch = {n: self.value(kind, n) for n in SECRETS[kind]
                     if n == name or rng.random() < 0.2}
            if bad:
                patch = rng.choice(({}, {name: self.bad_value(kind, name)}, {name: CLEAR},
                                    {PATCH[kind][1 if kind == STRIPE else 0]: "pk_"}))
            return self.door_roll(ask, grace, patch)
        if bad and rng.random() < 0.5:
            ask.field = rng.choice((0, 2 if kind == STRIPE else 1, 70000))
            fresh = Bad(fresh)
        elif bad:
            fresh = self.bad_value(kind, name)
        ask.extra = {"field": ask.field, "fresh": fresh, "grace": grace}
        self.expect(ask, lambda: self.change(ask, life.ROLL, patch={name: fresh}, grace=grace))

    def do_switch(self, verb, kind, want):
        ask, r = self.begin(verb, kind, "change", want)
        action = life.DEACTIVATE if verb.endswith("deactivate") else life.REACTIVATE
        self.expected(ask, r, want)
        if want == "E_INVALID":
            self.spoil_names(ask)
        if ask.door is not None:
            return self.door_plain(ask, "change", lambda: self.change_door(ask, action, 200))
        self.expect(ask, lambda: self.change(ask, action))

    # ---- tokens and signatures ----

    def do_verify(self, verb, kind, want):
        rng, store = self.rng, self.store
        pool = store.tokens[kind][-300:]
        if want in ("E_REVOKED", "E_EXPIRED"):
            now = store.now()
            wanted = [t for t in pool if (t.record.removed is not None) == (want == "E_REVOKED")
                      and t.record.now.f[life.DIGEST[kind]] is t]
            pool = [t for t in wanted if want == "E_REVOKED"
                    or (t.record.now.f["expiresAt"] or now + 1) <= now] or pool
        elif rng.random() < 0.5:
            pool = [t for t in pool if t.record.removed is None] or pool
        text = rng.choice(pool).value if pool else "key_nothing"
        if want == "E_UNAUTHENTICATED":
            other = store.tokens[SERVICE if kind == API_KEY else API_KEY]
            at = rng.randrange(len(text))
            text = rng.choice((text[:-1], text + "x", text.upper(), "", "x" * 4097,
                               text[:at] + ("a" if text[at] != "a" else "b") + text[at + 1:],
                               rng.choice(other).value if other else "key_other"))
        self.verify(verb, kind, None if want == "E_INVALID" else text)

    def verify(self, verb, kind, text):
        store = self.store
        ask = Ask(verb, kind, Call(None), None)
        ask.extra = {"token": text}

        def predict():
            if text is None:
                raise No("E_INVALID")
            a = store.verify(kind, text)
            view = {"type": str(a.type), "roles": str(a.roles), "id": a.id, "tenant": a.tenant,
                    "expires": str(a.expires), "grants": life.permissions(a.grants)}
            return lambda what, fields: compare(what, view, dict(fields))
        self.expect(ask, predict)

    def do_webhook_verify(self, verb, kind, want):
        rng, store = self.rng, self.store
        ask, r = self.begin(verb, kind, "reveal", want)
        if want == "E_INACTIVE":
            off = [x for x in store.live[STRIPE] if not x.now.f["is_active"] and x.text()]
            if off:
                r = rng.choice(off)
                ask.tenant, ask.id = r.tenant, r.text()
                ask.call = self.call_for(kind, "reveal", r.tenant, "OK")
        name = rng.choice(("test_webhook_secret", "live_webhook_secret"))
        if r is not None and want == "OK":
            name = next((n for n in (name, "test_webhook_secret", "live_webhook_secret")
                         if r.now.f[n] is not None), name)
        ask.field = SECRETS[STRIPE][name]
        at = store.now() // 1000 + rng.choice((0, 0, 1, -300, 300))
        tolerance = rng.choice((0, 0, 600))
        if want == "E_EXPIRED":
            at += rng.choice((-301, 301, -601, 601))
        signers = [f"whsec_{rng.randrange(9)}"]
        current = r and r.now.f[name]
        graced = r and r.grace.get(name)
        if current and want != "E_UNAUTHENTICATED" and rng.random() < 0.8:
            signers.append(current[0])
        if graced and rng.random() < 0.7:
            signers = [graced[0]]
        body = rng.choice(("", "{}", '{"id": "evt_1"}\nx'))
        header = f"t={at},v0=00," + ",".join(
            "v1=" + hmac.new(s.encode(), f"{at}.{body}".encode(), "sha256").hexdigest()
            for s in signers)
        signed = at, signers
        if want == "E_INVALID" and not (rng.random() < 0.3 and self.spoil_names(ask)):
            signed = None
            header = rng.choice(("", "t=1", "v1=" + "0" * 64, f"t={at},v1=zz", f"t=x,{header}",
                                 f"t=1,{header}", header[:-1]))
            if rng.random() < 0.2:
                ask.field = rng.choice((0, 1, 70000))
        ask.extra = {"field": ask.field, "header": header, "body": body, "tolerance": tolerance}

        def predict():
            store.webhook(ask.call, ask.id, ask.field, signed, tolerance)
            return lambda what, fields: compare(what, {}, dict(fields))
        self.expect(ask, predict)

    # ---- lists ----

    def do_list(self, verb, kind, want):
        rng, now = self.rng, self.store.now()
        ask, _ = self.begin(verb, kind, "read", want, whole=True)
        page = ask.page = {"limit": rng.choice((1, 2, 3, 5, 20, 100))}
        if ask.door is None and rng.random() < 0.4:
            self.filters(kind, page, want)
        ours = [c for c in self.cursors[-60:] if c[1][:2] == (kind, ask.tenant)]
        if ours and rng.random() < 0.6:
            text, here, id_ = rng.choice(ours)
            ask.parent = here[2]
            page.pop("expires_before", None)
            page.pop("unused_since", None)
            if ask.door is None:
                page.update({n: v for n, v in (("expires_before", here[3]),
                                               ("unused_since", here[4])) if v})
            ask.cursor = (rng.choice(("after", "before")), here, id_, text)
        if want == "E_INVALID" and not (rng.random() < 0.2 and self.spoil_names(ask)):
            self.spoil_page(ask, page, ours)
        if rng.random() < 0.1 and ask.door is None:
            ask.call.flags |= 1

        def predict():
            here, items = self.store.list(kind, ask.call, *ask.place()[:2], page, ask.cursor)
            return self.check_page(ask, here, items, page["limit"])
        if ask.door is not None:
            return self.door_list(ask, page, predict)
        ask.extra = {n: page[n] for n in ("limit", "expires_before", "unused_since") if n in page}
        if ask.cursor:
            ask.extra[ask.cursor[0]] = ask.cursor[3]
            if page.get("both"):
                ask.extra["after"] = ask.extra["before"] = ask.cursor[3]
        if page["limit"] == 20 and not ask.cursor and len(ask.extra) == 1 and rng.random() < 0.5:
            ask.extra = {}  # no page at all: the first 20
        self.expect(ask, predict)

    def filters(self, kind, page, want):
        """Around the times that the records have."""
        rng, now, live = self.rng, self.store.now(), self.store.live[kind]
        if want == "E_INVALID" or (kind == API_KEY and rng.random() < 0.6):
            ends = [r.now.f["expiresAt"] for r in live if kind == API_KEY] + [now, now + 500 * DAY]
            page["expires_before"] = (rng.choice(ends) or now) + rng.choice((0, 1))
        if kind in (API_KEY, SERVICE) and rng.random() < 0.7:
            used = [r.used for r in live if r.used] or [now]
            page["unused_since"] = rng.choice(used) + rng.choice((0, 1))

    def spoil_page(self, ask, page, ours):
        rng = self.rng
        text, here, id_ = rng.choice(self.cursors[-60:]) if self.cursors else ("AAAA", None, "")
        which = rng.randrange(4)
        if which == 0:
            page["limit"] = rng.choice((0, 101, 999999999))
        elif which == 1 and self.cursors:  # another list's, or this one's: the model knows
            ask.cursor = ("after", here, id_, text)
        elif which == 2 and ours and ask.door is None:
            page["both"] = True
            ask.cursor = ("after", *ours[-1][1:], ours[-1][0])
        else:
            text = rng.choice((text[:-1], text + "A", "A" * 30, "!", "",
                               text[:5] + ("B" if text[5:6] != "B" else "C") + text[6:]))
            ask.cursor = ("before", None, "", text)

    def check_page(self, ask, here, items, limit):
        grants = ask.call.actor.grants if ask.call.flags & 1 else None
        cursor = ask.cursor
        shown = [(r, s, used, life.view(r, s, used, grants)) for r, s, used in items]

        def check(what, fields):
            every = sorted(((r.text(), r, s, used, v) for r, s, used, v in shown),
                           key=lambda i: i[0])
            chosen, more = self.window(every, cursor, limit)
            head, got = items_of(fields)
            first = head.pop("start", None)
            last = head.pop("end", None)
            compare(what, {"next": str(int(more[0])), "prev": str(int(more[1]))}, head)
            self.compare_items(what, [(i[0], i[4]) for i in chosen], got)
            self.note_cursors(what, here, chosen, first, last)
        return check

    @staticmethod
    def window(every, cursor, limit):
        if cursor and cursor[0] == "before":
            chosen = [i for i in every if i[0] < cursor[2]][-limit:]
        else:
            chosen = [i for i in every if not cursor or i[0] > cursor[2]][:limit]
        if not chosen:  # then all lie on the cursor's other side
            before = bool(cursor) and cursor[0] == "before"
            return chosen, (bool(every) and before, bool(every) and not before)
        return chosen, (chosen[-1][0] < every[-1][0], every[0][0] < chosen[0][0])

    def note_cursors(self, what, here, chosen, first, last):
        if (first is None or last is None) != (not chosen):
            raise Disagreement(f"{what}: cursors {first!r}, {last!r} on {len(chosen)} items")
        if chosen:
            self.cursors += [(first, here, chosen[0][0]), (last, here, chosen[-1][0])]
            del self.cursors[:-300]

    # ---- the door ----

    def conditions(self, ask):
        """Headers of a change for the call's expected revision; what the model makes of them."""
        rng, expected = self.rng, ask.call.expected
        if ask.door_want == "E_UNSUPPORTED":
            ask.door.update(rng.choice(({"if_match": '"1", "2"'}, {"if_none_match": '"3"'})))
            return "E_UNSUPPORTED"
        if expected == MUST_BE_NEW:
            ask.door["if_none_match"] = "*"
        elif expected == MUST_EXIST:
            ask.door["if_match"] = " *"
        elif expected:
            ask.door["if_match"] = f'"{expected}"'
        elif rng.random() < 0.02:
            ask.door["if_match"] = rng.choice(("7", 'W/"1"', '""', '"01"', "x"))
            ask.call.expected = MUST_BE_NEW - 1
        elif rng.random() < 0.02:
            ask.door.update(if_match="*", if_none_match="*")
            return "E_INVALID"
        return None

    def body(self, patch, ask):
        """The document's JSON, and what the door says to it before the verb."""
        rng, out = self.rng, {}
        for n, v in patch.items():
            if v is CLEAR:
                out[n] = "" if n == "expiresAt" and rng.random() < 0.3 else None
            elif n == "expiresAt":
                out[n] = life.millis(v)
            elif n == "flatPermissionsList":
                out[n] = sorted(v)
            else:
                out[n] = v
        text = json.dumps(out, ensure_ascii=rng.random() < 0.5)
        if ask.door_want == "E_TOO_LARGE":
            return text + " " * 65536, "E_TOO_LARGE"
        if any(n not in patch for n in life.IN_BODY[ask.kind]):
            return text, "E_INVALID"
        if ask.door_want == "E_INVALID" and rng.random() < 0.4:
            return rng.choice((text + "x", "[]", "", text[:-1], text[:-1] + (
                "" if text == "{}" else ",") + '"zip":1}')), "E_INVALID"
        return text, None

    def through_door(self, ask, cls, refusals, predict):
        """What the door itself refuses comes after who asks, and before the verb."""
        def predicted():
            self.store.begin(cls, ask.kind, ask.call, *ask.place())
            for refusal in refusals:
                if refusal:
                    raise No(refusal)
            return predict()
        self.expect(ask, predicted)

    def answer(self, done, http, token=None, fixed=None):
        want = {"http": str(http), "revision": str(done.state.revision),
                "etag": f'"{done.state.revision}"', "content_type": "application/json"}
        members = fixed or life.document(done.record, done.state, done.used, done.grants)
        if token is not None:
            members = [*members, (life.TOKEN_MEMBER[done.record.kind], token)]

        def check(what, fields):
            got = dict(fields)
            body = json.loads(got.pop("body", "null"), object_pairs_hook=list)
            compare(what, want, got)
            if token is not None:  # first: it fixes the last four
                token.same(dict(body).get(life.TOKEN_MEMBER[done.record.kind]))
            compare_json(what, members, body)
        return check

    def change_door(self, ask, action, http, fixed=None, **more):
        if action == life.CREATE and "origin" in more and ask.kind != STRIPE:
            path, parent, _ = ask.place()
            done = self.store.change(action, ask.kind, ask.call, path, parent, None, **more)
        else:
            done = self.store.change(action, ask.kind, ask.call, *ask.place(), **more)
        if action == life.REMOVE:
            return lambda what, fields: compare(what, {"http": "204", "revision": "0"},
                                                dict(fields))
        done = Shown(done, ask.door_grants)
        return self.answer(done, http, done.token, fixed)

    def door_create(self, ask, patch):
        kind, origin = ask.kind, {}
        text, refusal = self.body(patch, ask)
        if kind == CHECKBOOK and refusal is None and self.rng.random() < 0.3:
            origin["client_id"] = self.ksuid()
            text = (text[:-1] + ", " if text != "{}" else "{") + \
                f'"client_id": "{origin["client_id"]}"}}'
        ask.door["body"] = text
        refused = self.conditions(ask)
        wish = Wish() if kind in (SERVICE, API_KEY) and ask.id is None else None
        if ask.id is not None and kind != STRIPE:
            origin["id"] = ask.id
        self.through_door(ask, "change", (refused, refusal), lambda: self.change_door(
            ask, life.CREATE, 201, patch=patch, origin=origin, wish=wish))

    def door_update(self, ask, patch):
        if ask.kind == API_KEY and self.rng.random() < 0.9:
            for n in life.IN_BODY[API_KEY]:
                patch.setdefault(n, self.value(API_KEY, n, ask.call.actor))
        text, refusal = self.body(patch, ask)
        ask.door["body"] = text
        refused = self.conditions(ask)
        fixed = [("success", True)] if ask.kind == API_KEY else None
        self.through_door(ask, "change", (refused, refusal), lambda: self.change_door(
            ask, life.UPDATE, 200, fixed, patch=patch))

    def door_plain(self, ask, cls, predict, refusal=None):
        refused = self.conditions(ask)
        if ask.verb == "door remove":
            def predict():
                return self.change_door(ask, life.REMOVE, 204)
        self.through_door(ask, cls, (refused, refusal), predict)

    def door_roll(self, ask, grace, patch):
        """Of a token, or of the secrets that the body sets and nothing else."""
        refused, refusal, more = self.conditions(ask), None, {"wish": ask.wish}
        if grace > 999999999:
            grace = 999999999
        ask.door["query"] = f"x=1&grace_s={grace}" if grace else ""
        if ask.wish is None:
            ask.door["body"], refusal = self.body(patch, ask)
            if not patch or CLEAR in patch.values() or \
                    any(n not in SECRETS[ask.kind] for n in patch):
                refusal = refusal or "E_INVALID"
            more = {"patch": patch, "grace": grace}
        self.through_door(ask, "change", (refused, refusal),
                          lambda: self.change_door(ask, life.ROLL, 200, **more))

    def do_door_get(self, verb, kind, want):
        ask, r = self.begin(verb, kind, "read", want)
        rng, tags, expand = self.rng, None, ""
        if want == "E_INVALID" and not self.spoil_names(ask):
            if kind == SERVICE:
                expand = "E_INVALID"
                ask.door["query"] = "expand[]=permissions,all"
            else:
                ask.call.request_id = ""
        elif rng.random() < 0.3:
            ask.door["query"] = rng.choice(("expand[]=permissions", "a=b&expand=permissions"))
            ask.door_grants = ask.call.actor.grants if ask.call.actor and kind == SERVICE else None
        if r is not None and rng.random() < 0.3:
            tags = rng.choice((r.now.revision, r.now.revision + 1))
            ask.door["if_none_match"] = f'"99999", W/"{tags}"'

        def predict():
            try:
                r, s = self.store.get(kind, ask.call, *ask.place())
            except No as no:
                if kind != STRIPE or no.status != "E_NOT_FOUND":
                    raise
                return lambda what, fields: compare(what, {
                    "http": "200", "revision": "0", "content_type": "application/json",
                    "body": "null"}, dict(fields))
            if tags == s.revision and not r.used and ask.door_grants is None and kind != API_KEY:
                return lambda what, fields: compare(what, {
                    "http": "304", "revision": str(s.revision), "etag": f'"{s.revision}"'},
                    dict(fields))
            return self.answer(Shown(life.Change(r, s, r.used, None), ask.door_grants), 200)
        self.through_door(ask, "read", (expand,), predict)

    def door_list(self, ask, page, predict):
        query = [f"limit={page['limit']}"] if page["limit"] != 20 else []
        if ask.cursor:
            query.append(f"{ask.cursor[0]}={ask.cursor[3]}")
        ask.door["query"] = "&".join(query)
        limit, cursor, kind = page["limit"], ask.cursor, ask.kind

        def predicted():
            here, items = self.store.list(kind, ask.call, *ask.place()[:2], page, cursor)

            def check(what, fields):
                every = sorted(((r.text(), r, s, used) for r, s, used in items),
                               key=lambda i: i[0])
                chosen, more = self.window(every, cursor, limit)
                got = dict(fields)
                body = json.loads(got.pop("body"), object_pairs_hook=list)
                compare(what, {"http": "200", "revision": "0",
                               "content_type": "application/json"}, got)
                info = dict(dict(body)["page_info"])
                first, last = info["start_cursor"], info["end_cursor"]
                self.note_cursors(what, here, chosen, first, last)
                compare_json(what, [
                    ("items", [life.document(r, s, used) for _, r, s, used in chosen]),
                    ("page_info", [("has_next_page", more[0]), ("has_prev_page", more[1]),
                                   ("start_cursor", first), ("end_cursor", last)])], body)
            return check
        self.through_door(ask, "read", (), predicted)

    def door_history(self, ask, before):
        ask.door["query"] = f"limit={ask.limit}" + (f"&before={before}" if before else "")

        def predict():
            r, states, more, prev = self.store.history(ask.kind, ask.call, *ask.place(), before,
                                                       ask.limit)

            def check(what, fields):
                got = dict(fields)
                body = json.loads(got.pop("body"), object_pairs_hook=list)
                compare(what, {"http": "200", "revision": "0",
                               "content_type": "application/json"}, got)
                compare_json(what, [
                    ("items", [[("revision", s.revision), *life.document(r, s, 0, past=True)]
                               for s in states]),
                    ("page_info", [("has_next_page", more), ("has_prev_page", prev),
                                   ("start_cursor", None), ("end_cursor", None)])], body)
            return check
        self.through_door(ask, "read", (), predict)

    # ---- of no kind ----

    def audit_call(self, want):
        rng, now = self.rng, self.store.now()
        yes = [a for a in self.people if a.sees_all()
               or (a.administers(a.tenant) and a.tenant in TENANTS)]
        if want == "E_FORBIDDEN":
            call = Call(rng.choice([a for a in self.people if a not in yes
                                    and a.tenant in TENANTS]))
        else:
            call = Call(None if want == "E_UNAUTHENTICATED" else rng.choice(yes))
        if want == "E_EXPIRED":
            call.actor = call.actor.until(now)
        call.flags = 2 if want == "E_UNSUPPORTED" else 0
        return call

    def do_audit_read(self, verb, kind, want):
        rng, store = self.rng, self.store
        ask = Ask(verb, 0, self.audit_call(want), None)
        last = len(store.audit)
        after, limit = rng.choice((0, last, max(0, last - 3), rng.randrange(last + 2))), \
            rng.choice((1, 3, 10, 1000))
        if limit == 1000:
            after = max(after, last - 20)
        if want == "E_INVALID":
            limit = rng.choice((0, 1001))
        ask.extra = {"after": after, "limit": limit}

        def predict():
            seq, entries = store.audit_read(ask.call, after, limit)

            def check(what, fields):
                head, items = items_of(fields)
                compare(what, {"last": str(seq), "count": str(len(entries))}, head)
                for (number, entry), (got, members) in zip(entries, items):
                    if str(number) != got:
                        raise Disagreement(f"{what}: entry {got}, not {number}")
                    if entry is not None:
                        compare(what, entry, members)
            return check
        self.expect(ask, predict)

    def look_at_audit(self):
        """Finds the verb after which the audit is not the model's."""
        ask = Ask("audit_read", 0, Call(self.people[0]), None)
        after = len(self.store.audit) - 1
        ask.extra = {"after": after, "limit": 10}
        last = self.store.audit[-1]

        def check(_status, fields):
            head, items = items_of(fields)
            if int(head["last"]) != after + 1:
                raise Disagreement(f"the audit has {head['last']} entries, not {after + 1}")
            if last is not None:
                compare("audit", last, items[0][1])
        self.send(self.typed_line(ask), check)
        self.flush()

    def do_audit_verify(self, verb, kind, want):
        if len(self.store.audit) > 1500:
            return self.do_audit_read("audit_read", kind, "OK")
        ask = Ask(verb, 0, self.audit_call(want), None)
        known = self.rng.choice((0, 1)) if want != "E_ROLLBACK" else self.rng.choice((2, 3))
        ask.extra = {"known": known}

        def predict():
            seq = self.store.audit_verify(ask.call, known)

            def check(what, fields):
                got = dict(fields)
                if got["seq"] != str(seq):
                    raise Disagreement(f"{what}: {got['seq']} entries, not {seq}")
            return check
        self.expect(ask, predict)

    def do_maintain(self, verb, kind, want):
        ask = Ask(verb, 0, Call(None), None)
        answer = []
        self.flush()  # the order of the ends is that of the ids
        self.expect(ask, lambda: (answer.extend(self.store.maintain()), lambda what, fields:
                                  compare(what, {"more": "0"}, dict(fields)))[1])
        self.flush()
        unsure, groups = answer
        for group in groups:
            self.put_in_order(group)
        for r, used in unsure:
            self.look_at(r, used)

    def put_in_order(self, group):
        """Entries of the audit that may come in any order: as the library has them."""
        audit, ask = self.store.audit, Ask("audit_read", 0, Call(self.people[0]), None)
        ask.extra = {"after": group[0], "limit": len(group)}

        def check(_status, fields):
            left = audit[group[0]:group[0] + len(group)]
            for n, (_, members) in enumerate(items_of(fields)[1], group[0]):
                found = [e for e in left if life.same(e["id"], members.get("id"))
                         and e["tenant"] == members.get("tenant", "")
                         and e["parent"] == members.get("parent", "")]
                if len(found) != 1:
                    raise Disagreement(f"audit entry {n + 1}: {members}, not one of {left}")
                left.remove(found[0])
                audit[n] = found[0]
        self.send(self.typed_line(ask), check)
        self.flush()

    def look_at(self, r, used):
        """Was the used mark written, or not yet?"""
        call = Call(Actor(USER, ADMIN, f"admin-{r.tenant}", r.tenant, ALL))
        ask = Ask("get", r.kind, call, r.tenant, r.parent, r.text())

        def check(_status, fields):
            got = int(dict(fields).get("last_used_at", -1))
            if got == used:
                r.used = self.store.marks[r][1] = used
                self.store.last_change = self.store.now()
            elif got != r.used:
                raise Disagreement(f"last used at {got}, not {r.used} or {used}")
        self.send(self.typed_line(ask), check)
        self.flush()

    # ---- time ----

    def boundaries(self):
        """Times at which something ends."""
        out, now = [], self.store.now()
        for r in self.store.live[API_KEY][-20:] + self.store.live[SERVICE][-20:]:
            out += [r.now.f.get("expiresAt"), r.now.f["previous_until"]]
        for r in self.store.live[STRIPE][-20:]:
            out += [until for _, until in r.grace.values()]
        out += [first[4] + DAY for first in list(self.store.receipts.values())[-5:]]
        return [t for t in out if t is not None and now < t < now + 500 * DAY]

    def set_clock(self, now):
        self.store.set_clock(now)
        self.send(self.line("clock", {"now": now}), self.expect_ok)

    def turn(self):
        rng, now, store, again = self.rng, self.store.clock, self.store, ()
        dice = rng.random()
        if dice < 0.80:
            return
        if dice < 0.93:
            now += rng.choice((1, 500, 1000, 5000, MINUTE, 61000))
        elif dice < 0.97:
            ends = self.boundaries()
            if ends:
                now = rng.choice(sorted(ends)[:8]) + rng.choice((-1, 0, 0, 1))
        elif dice < 0.985:
            now += rng.choice((HOUR, 5 * HOUR, DAY))
        elif dice < 0.99:
            now -= rng.choice((1, HOUR, DAY - 1))  # the store's time stays
        elif dice < 0.991:
            now += rng.choice((3, 31, 40)) * DAY
        elif dice < 0.9922:  # a day and more back, or ten years ahead and back again
            self.do_maintain("maintain", 0, "OK")
            if self.return_to is not None:
                now, self.return_to = self.return_to, None
                again = self.before_jump
            elif rng.random() < 0.5:
                now, self.return_to = now + 3653 * DAY, now + HOUR
                self.before_jump = list(self.keyed)[-5:]
            else:
                now -= rng.choice((25 * HOUR, 3 * DAY))
        went_back = now < store.clock
        if now != store.clock:
            self.set_clock(max(NOW - 100 * DAY, now))
        if went_back:  # what had ended stays so
            ended = [t for t in store.tokens[API_KEY] if t.record.now.f["expired"]
                     and t.record.now.f["expiresAt"] > store.now()]
            for t in ended[-3:]:
                self.verify("verify", API_KEY, t.value)
        for ask, predict in again:  # their receipts outlived the jump
            self.expect(ask, predict)

    def reopen(self):
        self.flush()
        self.send("reopen", self.expect_ok)
        self.flush()
        self.store.reopen()

    # ---- running ----

    def pick(self):
        """A verb, a kind, and the answer that is sought: now and then what is still rare."""
        if self.steps % 250 == 0:
            self.rare = [(v, k, s) for (v, k), cell in self.table.cells.items()
                         for s in REACHABLE[v, k] if cell[s] < LEAST * 6 // 5]
        if self.rare and self.rng.random() < 0.4:
            return self.rng.choice(self.rare)
        verb, kind = self.rng.choices(CELLS, CELL_WEIGHTS)[0]
        wanted = REACHABLE[verb, kind]
        if "OK" in wanted and self.rng.random() < 0.6:
            return verb, kind, "OK"
        return verb, kind, self.rng.choice(wanted)

    def step(self):
        verb, kind, want = self.pick()
        self.turn()
        if self.keyed and self.rng.random() < 0.03:  # the same again
            self.steps += 1
            return self.expect(*self.rng.choice(self.keyed))
        name = {"door get": "door_get", "door create": "create", "door update": "update",
                "door list": "list", "door remove": "remove", "door roll": "roll",
                "door history": "history", "door restore": "restore",
                "door deactivate": "switch", "door reactivate": "switch", "deactivate": "switch",
                "reactivate": "switch"}.get(verb, verb)
        Ask.door_want = want
        if want == "E_NOT_FOUND" and name in ("create", "issue"):
            self.steps += 1
            return self.do_gone(verb, kind)
        getattr(self, f"do_{name}")(verb, kind, want)
        self.steps += 1
        if SLOWLY:
            self.look_at_audit()
        if self.path != "memory" and self.rng.random() < 0.002:
            self.reopen()

    def run(self, steps):
        first = Ask("audit_verify", 0, Call(self.people[0]), None)  # it becomes the checkpoint
        self.send(self.typed_line(first), self.expect_ok)
        for _ in range(steps):
            self.step()
        self.flush()
        self.sweep()
        self.driver.close()

    def sweep(self):
        """At the end each record is as the model has it, and each removed one is gone."""
        for r in self.store.everything:
            call = Call(Actor(USER, SUPER, "super", "acme", ALL), r.tenant)
            ask = Ask("get", r.kind, call, r.tenant, r.parent, r.text())

            def predict(ask=ask, call=call):
                r, s = self.store.get(ask.kind, call, *ask.place())
                return self.check_view(r, s)
            self.expect(ask, predict, counted=False)
        self.flush()


class Shown:
    """A change's answer, with whose permissions it shows."""

    def __init__(self, done, grants):
        self.record, self.state, self.used = done.record, done.state, done.used
        self.token, self.grants = done.token, grants


Ask.door_grants = None
Ask.door_want = "OK"
CELLS = list(REACHABLE)
CELL_WEIGHTS = [WEIGHTS.get(verb, 1) * (1 + len(REACHABLE[verb, k]) / 4) for verb, k in CELLS]


def fast_folder():
    """A folder where a durable commit costs little: where test_quick_base() of tests/quick.h is."""
    base, room = "/dev/shm", 0
    if os.access(base, os.W_OK | os.X_OK):
        there = os.statvfs(base)
        room = there.f_bavail * there.f_frsize
    if room < 512 << 20:
        base = os.environ.get("TMPDIR") or "/tmp"
    return tempfile.mkdtemp(prefix="credstore-machine-", dir=base)


def run_all(table, split):
    rng = random.Random(SEED)
    folder = fast_folder()
    episode = 0
    try:
        while table.verbs < VERBS:
            on_disk = episode % ON_DISK == 1
            path = os.path.join(folder, f"store{episode}") if on_disk else "memory"
            before = table.verbs
            machine = Machine(rng, table, path)
            try:
                machine.run(min(EPISODE, VERBS - table.verbs))
            except (Disagreement, Exception) as fault:
                machine.driver.process.kill()
                machine.driver.process.wait()
                print(f"episode {episode} on {'LMDB' if on_disk else 'memory'}, verb "
                      f"{table.verbs - before}, store's time {machine.store.now()}, clock "
                      f"{machine.store.clock}")
                raise fault
            split["LMDB" if on_disk else "memory"] += table.verbs - before
            episode += 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main():
    table, split, start = Table(), {"memory": 0, "LMDB": 0}, time.monotonic()
    print(f"seed {SEED} (CREDSTORE_SEED repeats it), {VERBS} verbs")
    try:
        run_all(table, split)
    except Disagreement as difference:
        print(f"DISAGREEMENT: {difference}")
        print("0 passed, 1 failed")
        return 1
    table.show()
    print(f"{table.verbs} verbs: {split['memory']} in memory, {split['LMDB']} on LMDB; "
          f"{time.monotonic() - start:.1f} s")
    strangers, low = table.strangers(), table.low() if VERBS >= FULL else []
    for cell in strangers:
        print(f"a cell that was held for unreachable: {cell}")
    for cell in low:
        print(f"fewer than {LEAST}: {cell}")
    failed = bool(strangers) + bool(low)
    print(f"{3 - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: MIT
"""The whole life of a credential, in Python: records, revisions, secrets, tokens, graces, receipts,
tenants, permissions, tombstones and the audit, and what each verb answers. Written from the public
headers and the rules beside them; it never loads the library. What only the library can know (ids
and tokens that it draws) is a Later: the first answer that shows it fixes it."""
import os
import re
import sys
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "documents"))
from model import mask, millis, seconds  # noqa: E402

MINUTE, HOUR, DAY = 60000, 3600000, 86400000
CHECKBOOK, STRIPE, SERVICE, API_KEY = KINDS = 1, 2, 3, 4
NAMES = {0: "-", 1: "checkbook", 2: "stripe", 3: "service", 4: "api_key"}
USER, KEY_ACTOR, SERVICE_ACTOR, SYSTEM = 1, 2, 3, 4
ADMIN, SUPER = 1, 2
MUST_EXIST, MUST_BE_NEW = 2**64 - 1, 2**64 - 2
CREATE, UPDATE, REMOVE, ROLL, DEACTIVATE, REACTIVATE, RESTORE, EXPIRE = 2, 3, 5, 6, 7, 8, 9, 19
GRACE_MAX = 10 * 366 * 86400
HISTORY = 100  # earlier revisions that are kept

CATALOGUE = [("checkbook:update", "checkbook", "update"), ("checkbook:read", "checkbook", "read"),
             ("checkbook:reveal", "checkbook", "reveal"), ("stripe:update", "stripe", "update"),
             ("stripe:reveal", "stripe", "reveal"),
             ("service_credentials:update", "service_credentials", "update"),
             ("orders:read", "orders", "read"), ("orders:write", "orders", "write")]
ALL = frozenset(p[0] for p in CATALOGUE)


class No(Exception):
    def __init__(self, status):
        super().__init__(status)
        self.status = status


class Bad(str):
    """A value that its field does not take."""


class Clear:
    pass


CLEAR = Clear()

# Fields in the order of the audit. P: in the patch; S: a secret of it; O: from the origin; I: the
# kind's own.
FIELDS = {
    CHECKBOOK: [("publishable_key", "P"), ("secret_key", "S"), ("base_url", "P"),
                ("is_active", "P"), ("client_id", "O")],
    STRIPE: [("test_secret_key", "S"), ("test_publishable_key", "P"), ("test_webhook_secret", "S"),
             ("live_secret_key", "S"), ("live_publishable_key", "P"), ("live_webhook_secret", "S"),
             ("id", "O"), ("is_active", "I"), ("test_configured_at", "I"),
             ("live_configured_at", "I")],
    SERVICE: [("name", "P"), ("description", "P"), ("client_id", "O"), ("digest", "I"),
              ("previous", "I"), ("previous_until", "I"), ("prefix", "I"), ("last_four", "I"),
              ("token_id", "I")],
    API_KEY: [("description", "P"), ("expiresAt", "P"), ("flatPermissionsList", "P"),
              ("token_sha256", "O"), ("previous", "I"), ("previous_until", "I"), ("prefix", "I"),
              ("last_four", "O"), ("expired", "I")],
}
PATCH = {k: [n for n, t in FIELDS[k] if t in "PS"] for k in KINDS}
SECRETS = {k: {n: i + 1 for i, (n, t) in enumerate(FIELDS[k]) if t == "S"} for k in KINDS}
NULLABLE = {CHECKBOOK: (), STRIPE: PATCH[STRIPE], SERVICE: ("description",),
            API_KEY: ("expiresAt",)}
REQUIRED = {CHECKBOOK: ("publishable_key", "secret_key", "base_url"), STRIPE: (),
            SERVICE: ("name",), API_KEY: ("description", "flatPermissionsList")}
IN_BODY = {CHECKBOOK: (), STRIPE: (), SERVICE: (), API_KEY: REQUIRED[API_KEY]}
DIGEST = {SERVICE: "digest", API_KEY: "token_sha256"}
OUTLIVES = {"digest", "token_sha256", "token_id", "previous", "previous_until"}
FALLBACK = {SERVICE: "secret", API_KEY: "key"}
TOKEN_MEMBER = {SERVICE: "client_secret", API_KEY: "key"}
SWITCHED = (CHECKBOOK, STRIPE)

# ---- what the library draws ----

KSUID = re.compile("[0-9A-Za-z]{27}")
FORMS = {"ksuid": KSUID, "resource": re.compile("[0-9a-z]{26}"),
         "client": re.compile("[A-Za-z0-9_-]{21}"),
         "uuid": re.compile("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")}
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Later:
    __slots__ = ("form", "value", "bound")

    def __init__(self, form, bound=None):
        self.form, self.value, self.bound = form, None, bound

    def same(self, got):
        if self.value is None and got is not None and FORMS[self.form].fullmatch(got):
            self.value = got
            if self.bound:
                self.bound(got)
        return self.value is not None and self.value == got

    def __repr__(self):
        return repr(self.value) if self.value else f"<a new {self.form}>"


class Token:
    """A token of a record. id: the KSUID that it carries; an imported one has a value at once."""
    __slots__ = ("record", "prefix", "id", "value", "found")

    def __init__(self, record, prefix, id_, found, value=None):
        self.record, self.prefix, self.id = record, prefix, id_
        self.found, self.value = found, value

    def same(self, got):
        if self.value is None and got is not None:
            body = got[len(self.prefix) + 1:]
            crc, check = zlib.crc32(got[:-6].encode()), ""
            for _ in range(6):
                crc, check = crc // 62, BASE62[crc % 62] + check
            if (got.startswith(self.prefix + "_") and len(body) == 27 + 43 + 6
                    and body.isalnum() and body.endswith(check) and same(self.id, body[:27])):
                self.value = got
                self.found(self)
        return self.value is not None and self.value == got

    def __repr__(self):
        return repr(self.value) if self.value else f"<a new token {self.prefix}_...>"


class Tail:
    __slots__ = ("token",)

    def __init__(self, token):
        self.token = token

    def same(self, got):
        return self.token.value is not None and self.token.value[-4:] == got

    def __repr__(self):
        return f"<the last four of {self.token!r}>"


def same(want, got):
    return want == got if want.__class__ is str else want.same(got)


def text_of(value):
    return value.value if isinstance(value, Later) else value


# ---- who asks ----


class Actor:
    __slots__ = ("type", "roles", "id", "tenant", "grants", "expires", "key")

    def __init__(self, type_, roles, id_, tenant, grants=frozenset(), expires=0):
        self.type, self.roles, self.id, self.tenant = type_, roles, id_, tenant
        self.grants, self.expires = frozenset(grants), expires
        self.key = (type_, roles, id_, tenant, self.grants, expires)

    def until(self, expires):
        return Actor(self.type, self.roles, self.id, self.tenant, self.grants, expires)

    def holding(self, grants):
        return Actor(self.type, self.roles, self.id, self.tenant, grants, self.expires)

    def role(self, role):
        return self.type != KEY_ACTOR and self.roles & role

    def sees_all(self):
        return self.type == SYSTEM or self.role(SUPER)

    def administers(self, tenant):
        return tenant != "" and self.tenant == tenant and self.role(ADMIN)


def may(kind, cls, actor, tenant, named=True):
    """The default policy: cls is change, read or reveal; named: the call names the tenant."""
    own = tenant != "" and actor.tenant == tenant
    above = named and actor.role(SUPER)
    admin = actor.administers(tenant) or above
    if kind == CHECKBOOK:
        change = actor.type == SYSTEM or above or \
            (own and "checkbook:update" in actor.grants)
        reveal = actor.type == SYSTEM or (own and "checkbook:reveal" in actor.grants)
        read = change or (own and "checkbook:read" in actor.grants)
    elif kind == STRIPE:
        change = admin or actor.type == SYSTEM or (own and "stripe:update" in actor.grants)
        reveal = actor.type == SYSTEM or (own and "stripe:reveal" in actor.grants)
        read = change or own
    elif kind == SERVICE:
        change = admin or (own and "service_credentials:update" in actor.grants)
        reveal, read = False, change or own
    else:
        change = actor.type == USER and admin
        reveal, read = False, change or own
    return bool({"change": change, "read": read, "reveal": reveal}[cls])


class Call:
    __slots__ = ("actor", "tenant", "request_id", "expected", "at", "key", "flags")

    def __init__(self, actor, tenant=None):
        self.actor, self.tenant, self.request_id = actor, tenant, None
        self.expected = self.at = self.flags = 0
        self.key = None


# ---- alphabets ----

ID = re.compile("[A-Za-z0-9._~-]{1,255}")
URL_ID = re.compile("[A-Za-z0-9_-]{1,255}")
UUID = re.compile("[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
VISIBLE = re.compile("[!-~]{1,255}")
PREFIX = re.compile("[a-z0-9]([a-z0-9_]{0,30}[a-z0-9])?")
LARGEST_KSUID = "aWgEPTl1tmebfsQzFP4bxwgy80V"
ID_OF = {CHECKBOOK: KSUID, STRIPE: UUID, SERVICE: URL_ID, API_KEY: ID}


def is_ksuid(text):
    return bool(KSUID.fullmatch(text)) and text <= LARGEST_KSUID


def id_valid(kind, text):
    return is_ksuid(text) if kind == CHECKBOOK else bool(ID_OF[kind].fullmatch(text))


def path_valid(kind, text):
    return text is not None and bool((URL_ID if kind == SERVICE else ID).fullmatch(text))


# ---- records ----


class State:
    """A revision, never changed once it is there."""
    __slots__ = ("revision", "updated", "f")

    def __init__(self, revision, updated, f):
        self.revision, self.updated, self.f = revision, updated, f


class Record:
    __slots__ = ("kind", "tenant", "parent", "id", "created", "now", "states", "grace", "used",
                 "removed")

    def __init__(self, kind, tenant, parent, id_, created):
        self.kind, self.tenant, self.parent, self.id = kind, tenant, parent, id_
        self.created, self.now, self.states, self.grace = created, None, {}, {}
        self.used, self.removed = 0, None

    def at(self, revision):
        return self.now if revision == 0 else self.states.get(revision)

    def put(self, state):
        self.now = self.states[state.revision] = state
        self.states.pop(state.revision - HISTORY - 1, None)

    def text(self):
        return text_of(self.id)


def permissions(held):
    return ",".join(p[0] for p in CATALOGUE if p[0] in held)


def view(r, s, used=None, grants=None):
    """The typed view, as texts."""
    f, out = s.f, {}
    out["id"], out["revision"] = r.id, str(s.revision)
    out["created_at"], out["updated_at"] = str(r.created), str(s.updated)
    if r.kind == CHECKBOOK:
        out.update(client_id=f["client_id"], publishable_key=f["publishable_key"],
                   base_url=f["base_url"], is_active=str(int(f["is_active"])), has_secret_key="1",
                   secret_key_set_at=str(f["secret_key"][1]))
    elif r.kind == STRIPE:
        out["project_id"], out["id"] = r.id, f["id"]
        out["is_active"] = str(int(f["is_active"]))
        for mode in ("test", "live"):
            out[f"has_{mode}_credentials"] = str(int(f[f"{mode}_secret_key"] is not None))
            out[f"{mode}_configured_at"] = str(f[f"{mode}_configured_at"] or 0)
            if f[f"{mode}_publishable_key"] is not None:
                out[f"{mode}_publishable_key"] = f[f"{mode}_publishable_key"]
        for name in PATCH[STRIPE]:
            if f[name] is not None:
                out[f"{name}_masked"] = mask(f[name][0] if name in SECRETS[STRIPE] else f[name])
    elif r.kind == SERVICE:
        out.update(organization_id=r.tenant, service_account_id=r.parent,
                   client_id=f["client_id"], name=f["name"],
                   last_used_at=str(r.used if used is None else used))
        if f["description"] is not None:
            out["description"] = f["description"]
        if grants is not None:
            out["permissions"] = ",".join(f"{p[1]}:{p[2]}={int(p[0] in grants)}"
                                          for p in CATALOGUE)
    else:
        out.update(description=f["description"], permissions=permissions(f["flatPermissionsList"]),
                   expires_at=str(f["expiresAt"] or 0),
                   last_used_at=str(r.used if used is None else used))
        if f["last_four"] is not None:
            out["last_four"] = f["last_four"]
    return out


def document(r, s, used, grants=None, past=False):
    """The members of the document's JSON, in order. past: of a history, where last used is not."""
    f = s.f
    if r.kind == CHECKBOOK:
        return [("id", r.id), ("client_id", f["client_id"]),
                ("publishable_key", f["publishable_key"]), ("base_url", f["base_url"]),
                ("is_active", f["is_active"]), ("created_at", seconds(r.created)),
                ("updated_at", seconds(s.updated))]
    if r.kind == STRIPE:
        return [("id", f["id"]), ("project_id", r.id), ("is_active", f["is_active"]),
                ("has_test_credentials", f["test_secret_key"] is not None),
                ("has_live_credentials", f["live_secret_key"] is not None),
                ("created_at", seconds(r.created)),
                *((f"{n}_masked", None if f[n] is None else
                   mask(f[n][0] if n in SECRETS[STRIPE] else f[n])) for n in PATCH[STRIPE]),
                ("test_configured_at", seconds(f["test_configured_at"])),
                ("live_configured_at", seconds(f["live_configured_at"])),
                ("updated_at", seconds(s.updated))]
    if r.kind == SERVICE:
        out = [("id", r.id), ("client_id", f["client_id"]), ("created_at", millis(r.created)),
               ("name", f["name"]), ("description", f["description"]),
               ("last_used_at", millis(used))]
        out = [m for m in out if m[1] is not None]
        if grants is not None:
            tree = {}
            for p in CATALOGUE:
                tree.setdefault(p[1], []).append((p[2], p[0] in grants))
            out.append(("permissions", list(tree.items())))
        return out
    return [("id", r.id), ("description", f["description"]),
            ("flatPermissionsList", [p[0] for p in CATALOGUE if p[0] in f["flatPermissionsList"]]),
            ("expiresAt", millis(f["expiresAt"])), ("createdAt", millis(r.created)),
            *([] if past else [("lastUsedAt", millis(used))]), ("lastFour", f["last_four"])]


class Change:
    """What a change answers."""
    __slots__ = ("record", "state", "used", "token", "replayed")

    def __init__(self, record, state, used, token, replayed=False):
        self.record, self.state, self.used = record, state, used
        self.token, self.replayed = token, replayed


class Wish:
    def __init__(self, prefix=None, grace=0):
        self.prefix, self.grace = prefix, grace


# ---- the store ----


class Store:
    def __init__(self, now):
        self.clock = self.seen = self.last_change = now
        self.records = {}  # by place
        self.everything = []  # records in the order of their creation
        self.live = {k: [] for k in KINDS}
        self.audit = []
        self.receipts = {}  # (day, name): request, record, revision, token, time
        self.tokens = {SERVICE: [], API_KEY: []}  # those whose text is known
        self.imported = set()
        self.marks = {}  # record: [used, written]
        self.purges = []
        self.believed, self.candidate = now, 0  # how far the clock is believed, as it is stored
        self.ends = set()  # (time, record): when something of the record is over

    def set_clock(self, now):
        """The store has looked at it; seen is the largest time that its process saw."""
        self.clock = now
        if now > self.seen or self.seen - now >= DAY:
            self.seen = now

    def now(self):
        """The clock, or the largest time seen while the clock is less than a day behind it."""
        behind = self.last_change - self.seen
        return self.last_change if 0 < behind < DAY else self.seen

    # ---- places ----

    def place(self, kind, tenant, parent, id_):
        if kind == STRIPE:
            return kind, tenant, id_.lower()
        return (kind, tenant, parent, id_) if kind == SERVICE else (kind, id_)

    def own(self, kind, tenant, parent, id_):
        """The record, if it is there and the tenant's."""
        r = self.records.get(self.place(kind, tenant, parent, id_))
        return r if r is not None and r.removed is None and r.tenant == tenant else None

    # ---- the common beginning ----

    def check_call(self, call):
        a = call.actor
        if call.flags & ~1:
            raise No("E_UNSUPPORTED")
        if a is None:
            raise No("E_UNAUTHENTICATED")
        if a.roles & ~3:
            raise No("E_INVALID")
        if a.expires and a.expires <= self.now():
            raise No("E_EXPIRED")

    def tenant_of(self, kind, call, path):
        if kind == SERVICE:
            return path or ""
        return call.actor.tenant if call.tenant is None else call.tenant

    def begin(self, cls, kind, call, path, parent, id_):
        self.check_call(call)
        tenant = self.tenant_of(kind, call, path)
        if not may(kind, cls, call.actor, tenant, kind == SERVICE or call.tenant is not None):
            raise No("E_FORBIDDEN")
        if not path_valid(kind, tenant) or (kind == SERVICE and not path_valid(kind, parent)):
            raise No("E_INVALID")
        if id_ is not None and not id_valid(kind, id_):
            raise No("E_INVALID")
        if call.request_id is not None and not (
                VISIBLE.fullmatch(call.request_id) and len(call.request_id) <= 128
                and (kind != SERVICE or UUID.fullmatch(call.request_id))):
            raise No("E_INVALID")
        return tenant

    # ---- reading ----

    def find(self, cls, kind, call, path, parent, id_):
        tenant = self.begin(cls, kind, call, path, parent, id_)
        if id_ is None:
            raise No("E_INVALID")
        return tenant

    def get(self, kind, call, path, parent, id_):
        tenant = self.find("read", kind, call, path, parent, id_)
        r = self.own(kind, tenant, parent, id_)
        s = r and r.at(call.at)
        if s is None:
            raise No("E_NOT_FOUND")
        return r, s

    def reveal(self, kind, call, path, parent, id_, field):
        tenant = self.find("reveal", kind, call, path, parent, id_)
        if field not in SECRETS[kind].values():
            raise No("E_INVALID")
        r = self.own(kind, tenant, parent, id_)
        s = r and r.at(call.at)
        value = s and s.f[FIELDS[kind][field - 1][0]]
        if value is None:
            raise No("E_NOT_FOUND")
        return value[0]

    def history(self, kind, call, path, parent, id_, before, limit):
        tenant = self.find("read", kind, call, path, parent, id_)
        if not 1 <= limit <= 100:
            raise No("E_INVALID")
        r = self.own(kind, tenant, parent, id_)
        if r is None:
            raise No("E_NOT_FOUND")
        states = [r.states[n] for n in sorted(r.states, reverse=True) if not before or n < before]
        prev = before != 0 and before <= r.now.revision
        return r, states[:limit], len(states) > limit, prev

    def verify(self, kind, text):
        token = next((t for t in self.tokens[kind] if t.value == text), None)
        r = token and token.record
        now = self.now()
        if r is None:
            raise No("E_UNAUTHENTICATED")
        f = r.now.f
        if f[DIGEST[kind]] is not token and not (f["previous"] is token
                                                 and now < f["previous_until"]):
            raise No("E_UNAUTHENTICATED")
        if r.removed is not None:
            raise No("E_REVOKED")
        expires = f.get("expiresAt") or 0
        if f.get("expired") or (expires and expires <= now):
            raise No("E_EXPIRED")
        self.marks.setdefault(r, [0, 0])[0] = now
        if kind == API_KEY:
            return Actor(KEY_ACTOR, 0, r.id, r.tenant, f["flatPermissionsList"], expires)
        return Actor(SERVICE_ACTOR, 0, r.id, r.tenant)

    def webhook(self, call, id_, field, header, tolerance):
        """header: None if it is malformed, else the time and the secrets that signed."""
        tenant = self.begin("reveal", STRIPE, call, None, None, id_)
        if field not in (3, 6):
            raise No("E_INVALID")
        if id_ is None or header is None:
            raise No("E_INVALID")
        r = self.own(STRIPE, tenant, None, id_)
        if r is None:
            raise No("E_NOT_FOUND")
        if not r.now.f["is_active"]:
            raise No("E_INACTIVE")
        name = FIELDS[STRIPE][field - 1][0]
        value = r.now.f[name]
        if value is None:
            raise No("E_NOT_FOUND")
        good = {value[0]}
        graced = r.grace.get(name)
        if graced and self.now() < graced[1]:
            good.add(graced[0])
        at, signers = header
        if not good.intersection(signers):
            raise No("E_UNAUTHENTICATED")
        if abs(self.now() // 1000 - at) > (tolerance or 300):
            raise No("E_EXPIRED")

    # ---- changing ----

    def check_past(self, patch):
        end = patch.get("expiresAt", CLEAR)
        if end is not CLEAR and end <= self.now():
            raise No("E_INVALID")

    def check_patch(self, kind, patch, create):
        for name, value in patch.items():
            if isinstance(value, Bad):
                raise No("E_INVALID")
            if value is CLEAR and name not in NULLABLE[kind]:
                raise No("E_INVALID")
            if name == "flatPermissionsList" and value is not CLEAR and not value <= ALL:
                raise No("E_INVALID")
        if create and any(patch.get(n, CLEAR) is CLEAR for n in REQUIRED[kind]):
            raise No("E_INVALID")

    def check_origin(self, origin):
        now = self.now()
        created, updated = origin.get("created_at", 0), origin.get("updated_at", 0)
        used = origin.get("last_used_at", 0)
        if created < 0 or created > now or used < 0 or used > now:
            raise No("E_INVALID")
        if updated and (updated > now or updated < (created or now)):
            raise No("E_INVALID")
        if any(isinstance(v, Bad) for v in origin.values()):
            raise No("E_INVALID")

    def load(self, kind, tenant, parent, id_, creates, may_create, expected):
        if id_ is None:
            return None
        r = self.records.get(self.place(kind, tenant, parent, id_))
        if r is None:
            return None
        if r.removed is not None:
            if may_create and expected in (0, MUST_BE_NEW):
                raise No("E_EXISTS")
            return None
        if r.tenant != tenant:
            if creates:
                raise No("E_EXISTS")
            return None
        return r

    def check_revision(self, expected, r, creates, may_create):
        if expected == MUST_BE_NEW and r is not None:
            raise No("E_REVISION")
        if expected == MUST_EXIST and r is None and may_create:
            raise No("E_REVISION")
        if r is None and not may_create:
            raise No("E_NOT_FOUND")
        if expected and expected < MUST_BE_NEW and (r is None or r.now.revision != expected):
            raise No("E_REVISION")
        if creates and r is not None:
            raise No("E_EXISTS")

    def check_actor(self, kind, actor, tenant):
        """An actor that has a record here is no more than that record says at this moment."""
        if actor.type != KEY_ACTOR:
            return actor.grants
        r = self.records.get((API_KEY, actor.id))
        if r is None or r.tenant != actor.tenant:
            raise No("E_UNAUTHENTICATED")
        if r.removed is not None:
            raise No("E_REVOKED")
        expires = r.now.f["expiresAt"]
        if r.now.f["expired"] or (expires and expires <= self.now()):
            raise No("E_EXPIRED")
        held = actor.grants & r.now.f["flatPermissionsList"]
        if not may(kind, "change", actor.holding(held), tenant):
            raise No("E_FORBIDDEN")
        return held

    def receipt_name(self, action, kind, call, tenant, parent, id_, patch, origin, wish, grace):
        if call.key is None or action not in (CREATE, ROLL):
            return None, None
        if not VISIBLE.fullmatch(call.key):
            raise No("E_INVALID")
        a = call.actor
        given = tuple(sorted((n, v) for n, v in patch.items() if v is not CLEAR)), tuple(
            sorted(n for n, v in patch.items() if v is CLEAR))
        request = (parent, id_, wish is not None, wish and wish.prefix,
                   wish.grace if wish else grace, given,
                   tuple(sorted((n, getattr(v, "value", v)) for n, v in origin.items()
                                if n != "id")))
        return (kind, a.type, a.tenant, a.id, action, tenant, call.key), request

    def first_answer(self, name, request):
        today = self.now() // DAY
        for day in (today, today - 1):
            first = self.receipts.get((day, name))
            if first is None or self.now() - first[4] >= DAY:
                continue
            if first[0] != request:
                raise No("E_IDEMPOTENCY")
            return first
        return None

    def check_hands_over(self, call, kind, wish, f, held):
        """Whoever gets a token holds what it lets do; but those above all."""
        above = call.actor.type == SYSTEM or (call.tenant is not None and call.actor.role(SUPER))
        if kind == API_KEY and wish and not above and not f["flatPermissionsList"] <= held:
            raise No("E_FORBIDDEN")

    def replay(self, action, call, wish, first, origin, held):
        r, s = first[1], first[1].states.get(first[2])
        if r.removed is not None or s is None:
            raise No("E_NOT_FOUND")
        self.check_hands_over(call, r.kind, wish, s.f, held)
        used = origin.get("last_used_at", 0) if action == CREATE else r.used
        return Change(r, s, used, first[3], True)

    def change(self, action, kind, call, path, parent, id_, patch=None, origin=None, wish=None,
               grace=0, source=None):
        creates = action == CREATE
        may_create = creates or (action == UPDATE and kind == STRIPE)
        tenant = self.begin("change", kind, call, path, parent, id_)
        if kind != SERVICE:
            parent = None
        if wish is not None and (wish.grace > GRACE_MAX or (
                wish.prefix is not None and not PREFIX.fullmatch(wish.prefix))):
            raise No("E_INVALID")
        if patch is not None:
            self.check_patch(kind, patch, creates)
        if origin:
            self.check_origin(origin)
            if "id" in origin and kind != STRIPE:
                id_ = origin["id"]
                if not id_valid(kind, id_):
                    raise No("E_INVALID")
        if grace > GRACE_MAX:
            raise No("E_INVALID")
        if id_ is not None and kind == STRIPE:
            id_ = id_.lower()
        name, request = self.receipt_name(action, kind, call, tenant, parent, id_, patch or {},
                                          origin or {}, wish, grace)
        if action in (DEACTIVATE, REACTIVATE) and kind not in SWITCHED:
            raise No("E_UNSUPPORTED")
        if id_ is None and (not creates or kind == STRIPE):
            raise No("E_INVALID")
        first = self.first_answer(name, request) if name else None
        if first:
            held = self.check_actor(kind, call.actor, tenant)
            return self.replay(action, call, wish, first, origin or {}, held)
        self.check_past(patch or {})
        r = self.load(kind, tenant, parent, id_, creates, may_create, call.expected)
        self.check_revision(call.expected, r, creates, may_create)
        held = self.check_actor(kind, call.actor, tenant)
        then = None
        if action == RESTORE:
            then = r.states.get(source)
            if then is None:
                raise No("E_NOT_FOUND")
        done = self.merge(action, kind, tenant, parent, id_, r, patch or {}, origin or {}, wish,
                          grace, then, held)
        if r:
            f = done.state.f if done.state else r.now.f
            self.check_hands_over(call, kind, wish, f, held)
        if done.state is not None:
            self.commit(action if r else CREATE, call, tenant, parent, done, r)
        if name:
            self.put_receipt(name, request, done)
        return Change(done.record, done.record.now, done.record.used, done.token)

    def merge(self, action, kind, tenant, parent, id_, r, patch, origin, wish, grace, then, held):
        """Answers a Change whose state is what is to be put, or None."""
        now = self.now()
        old = r and r.now
        if r is None:
            r = Record(kind, tenant, parent, id_, origin.get("created_at") or now)
            updated = origin.get("updated_at", 0)
            if not updated and kind != STRIPE:
                updated = r.created
            f = dict.fromkeys(n for n, _ in FIELDS[kind])
            stamp = updated or r.created
        else:
            updated, f, stamp = old.updated, dict(old.f), now
        if action == REMOVE:
            f = {n: v if n in OUTLIVES else None for n, v in f.items()}
            return Change(r, State(old.revision + 1, now, f), 0, None)
        if then is not None:
            patch = {}
            for n in PATCH[kind]:
                was, is_ = then.f[n], f[n]
                if n in SECRETS[kind]:
                    if (was and was[0]) != (is_ and is_[0]):
                        f[n] = was
                elif was != is_:
                    if n == "expiresAt" and was is not None and was <= now:
                        raise No("E_INVALID")
                    f[n] = was
        for n, value in patch.items():
            self.set_field(kind, f, n, value, stamp)
        for n, value in origin.items():
            if n in f:
                f[n] = value
        changed = {n for n in f if f[n] != (old.f[n] if old else None)}
        if "expiresAt" in changed:
            f["expired"] = None  # another end revives a key
        self.settle(kind, r, f, old, patch, then, changed, stamp, action)
        token = self.make_token(kind, r, f, wish, now) if wish else None
        changed = {n for n in f if f[n] != (old.f[n] if old else None)}
        if kind == API_KEY and "flatPermissionsList" in changed and \
                not f["flatPermissionsList"] - (old.f["flatPermissionsList"] if old else set()) \
                <= held:
            raise No("E_FORBIDDEN")
        if old and not changed:
            return Change(r, None, 0, token)
        if not old and "token_sha256" in origin:
            if origin["token_sha256"].value in self.imported:
                raise No("E_EXISTS")
        if old:
            self.settle_grace(kind, r, f, changed, grace)
            return Change(r, State(old.revision + 1, max(updated, now), f), 0, token)
        r.used = origin.get("last_used_at", 0)
        return Change(r, State(1, updated, f), 0, token)

    def set_field(self, kind, f, name, value, stamp):
        if value is CLEAR:
            f[name] = None
            return
        secret = name in SECRETS[kind]
        was = f[name] and (f[name][0] if secret else f[name])
        if kind == STRIPE and was is not None and value == mask(was):
            raise No("E_INVALID")
        if was is None or was != value:
            f[name] = (value, stamp) if secret else value

    def settle(self, kind, r, f, old, patch, then, changed, stamp, action):
        """The kind's own rules."""
        if kind == STRIPE:
            for mode in ("test", "live"):
                keys = [n for n in PATCH[STRIPE] if n.startswith(mode)]
                if changed.intersection(keys):
                    some = any(f[n] is not None for n in keys)
                    f[f"{mode}_configured_at"] = stamp if some else None
            if then is not None:
                f["is_active"] = then.f["is_active"]
            elif old is None or any(v is not CLEAR for v in patch.values()):
                f["is_active"] = True
            if old is None and f["id"] is None:
                f["id"] = Later("uuid")
        if action in (DEACTIVATE, REACTIVATE):
            f["is_active"] = action == REACTIVATE
        if old is not None:
            return
        if r.id is None:
            r.id = Later("resource" if kind == SERVICE else "ksuid",
                         lambda text: self.records.__setitem__(
                             self.place(kind, r.tenant, r.parent, text), r))
        if kind == CHECKBOOK:
            f["is_active"] = True if f["is_active"] is None else f["is_active"]
            f["client_id"] = f["client_id"] or r.id
        if kind == SERVICE and f["client_id"] is None:
            f["client_id"] = Later("client")

    def make_token(self, kind, r, f, wish, now):
        carried = r.id
        if kind == SERVICE:
            carried = f["token_id"] = f["token_id"] or Later("ksuid")
        elif isinstance(carried, str) and not is_ksuid(carried):
            raise No("E_UNSUPPORTED")
        prefix = wish.prefix or f["prefix"] or FALLBACK[kind]
        was, digest = f[DIGEST[kind]], DIGEST[kind]
        f["previous"] = f["previous_until"] = None
        if was is not None and wish.grace:
            until = now + 1000 * wish.grace
            f["previous"], f["previous_until"] = was, min(until, f.get("expiresAt") or until)
        f["prefix"] = prefix
        f[digest] = Token(r, prefix, carried, self.tokens[kind].append)
        f["last_four"] = Tail(f[digest])
        return f[digest]

    def settle_grace(self, kind, r, f, changed, grace):
        """Secrets in their grace stay beside until their field changes or maintenance ends them."""
        now = self.now()
        for n in SECRETS[kind]:
            if n not in changed:
                continue
            if grace and r.now.f[n] is not None:
                r.grace[n] = (r.now.f[n][0], now + 1000 * grace)
            else:
                r.grace.pop(n, None)

    def commit(self, action, call, tenant, parent, done, old):
        r, s = done.record, done.state
        before = r.now.f if old else {}
        changed = [n for n, _ in FIELDS[r.kind] if s.f[n] != before.get(n)]
        if action == REMOVE:
            changed = [n for n in changed if n not in OUTLIVES]
        self.audit.append({
            "action": str(action), "kind": str(r.kind), "actor_type": str(call.actor.type),
            "revision": str(s.revision), "time": str(self.now()), "actor": call.actor.id,
            "tenant": tenant, "parent": parent or "", "id": r.id,
            "request_id": call.request_id or "", "changed": ",".join(changed)})
        if old is None:
            self.everything.append(r)
            self.live[r.kind].append(r)
            if isinstance(r.id, str):
                self.records[self.place(r.kind, tenant, parent, r.id)] = r
            digest = r.kind == API_KEY and s.f["token_sha256"]
            if digest and digest.value is not None:
                digest.record = r
                self.imported.add(digest.value)
                self.tokens[API_KEY].append(digest)
        if action != REMOVE:
            ends = [s.f.get(n) for n in ("expiresAt", "previous_until") if s.f.get(n) != before.get(n)]
            ends += [until for n, (_, until) in r.grace.items() if n in changed]
            self.ends |= {(end, r) for end in ends if end}
        r.put(s)
        if action == REMOVE:
            r.removed, r.used = self.now(), 0
            self.live[r.kind].remove(r)
            self.purges.append(self.now() // DAY)
        for key in self.receipts_over(self.clock_seen()[0])[:4]:  # each change takes a few along
            del self.receipts[key]
        self.last_change = self.now()

    def put_receipt(self, name, request, done):
        self.last_change = self.now()
        self.receipts[self.now() // DAY, name] = (request, done.record, done.record.now.revision,
                                                  done.token, self.now())

    def receipts_over(self, until):
        """By the clock that is believed: one that runs ahead for a while drops none."""
        return sorted((k for k in self.receipts if k[0] < until // DAY - 1), key=lambda k: k[0])

    # ---- lists ----

    def list(self, kind, call, path, parent, page, cursor):
        """page: limit, filters. cursor: None, or (name, the cursor's list or None, its id)."""
        tenant = self.begin("read", kind, call, path, parent, None)
        if not 1 <= page["limit"] <= 100 or page.get("both"):
            raise No("E_INVALID")
        if page.get("expires_before", 0) and kind != API_KEY:
            raise No("E_INVALID")
        if page.get("unused_since", 0) and kind not in (SERVICE, API_KEY):
            raise No("E_INVALID")
        here = (kind, tenant, parent if kind == SERVICE else None, page.get("expires_before", 0),
                page.get("unused_since", 0))
        if cursor and cursor[1] != here:
            raise No("E_INVALID")
        items = [(r, r.now, r.used) for r in self.live[kind]
                 if r.tenant == tenant and (kind != SERVICE or r.parent == parent)
                 and self.passes(r, page)]
        return here, items

    def passes(self, r, page):
        before, since = page.get("expires_before", 0), page.get("unused_since", 0)
        if before and not (r.now.f["expiresAt"] and r.now.f["expiresAt"] < before):
            return False
        return not since or r.used < since

    # ---- the audit ----

    def audit_begin(self, call):
        self.check_call(call)
        a = call.actor
        if not a.sees_all() and not a.administers(a.tenant):
            raise No("E_FORBIDDEN")
        return a.sees_all()

    def audit_read(self, call, after, limit):
        every = self.audit_begin(call)
        if not 1 <= limit <= 1000:
            raise No("E_INVALID")
        looked = self.audit[after:after + limit]
        return after + len(looked), [
            (after + i + 1, e) for i, e in enumerate(looked)
            if every or (e and e["tenant"] == call.actor.tenant)]

    def audit_verify(self, call, known):
        if not self.audit_begin(call):
            raise No("E_FORBIDDEN")
        if known in (2, 3):
            raise No("E_ROLLBACK")
        return len(self.audit)

    # ---- time ----

    def maintain(self):
        """Answers the records whose mark may or may not have been written, a use within a minute of
        the last one that was; and where in the audit the order of entries is not known."""
        wrote, unsure = self.look_at_the_clock(), []
        for r, mark in self.marks.items():
            if mark[0] == mark[1]:
                continue
            due = mark[0] - mark[1] >= MINUTE
            if r.removed is None and r.used < mark[0]:
                if due:
                    r.used, wrote = mark[0], True
                else:
                    unsure.append((r, mark[0]))
            if due:
                mark[1] = mark[0]
        old = self.receipts_over(self.ended_by)
        for key in old:
            del self.receipts[key]
        kept = self.ended_by // DAY - 30  # by the clock that is believed
        over = [d for d in self.purges if d < kept]
        self.purges = [d for d in self.purges if d >= kept]
        if wrote or old or over:
            self.last_change = self.now()
        return unsure, self.work_off_ends()

    def clock_seen(self):
        """What is believed, and the candidate for it, after a look at the clock now."""
        now = self.now()
        if now - self.believed < DAY:
            return now, 0
        if self.candidate == 0 or now < self.candidate:
            return self.believed, now
        if now - self.candidate < DAY:
            return self.believed, self.candidate
        return (now, 0) if now - self.candidate < 2 * DAY else (self.candidate, now)

    def look_at_the_clock(self):
        now, was = self.now(), (self.believed, self.candidate)
        seen = self.clock_seen()
        self.ended_by = seen[0]
        moved = seen[0] - was[0]
        if seen[1] == was[1] and 0 <= moved < HOUR and now - self.last_change < MINUTE:
            return False
        self.believed, self.candidate = seen
        return True

    def work_off_ends(self):
        """What is over leaves its record or is marked in it. Records of two scopes that end at the
        same time come in an order that only the library knows."""
        due = sorted((e for e in self.ends if e[0] <= self.ended_by),
                     key=lambda e: (e[0], e[1].kind, e[1].text()))
        told = {}
        for end, r in due:
            self.ends.discard((end, r))
            self.last_change = self.now()
            if r.removed is None and self.end(r):
                told.setdefault((end, r.kind), []).append(len(self.audit) - 1)
        return [group for (_, kind), group in told.items()
                if kind in (STRIPE, SERVICE) and len(group) > 1]

    def end(self, r):
        f, over = dict(r.now.f), set()
        for n in [n for n, (_, until) in r.grace.items() if until <= self.ended_by]:
            del r.grace[n]
            over.add(n)
        if f.get("previous_until") and f["previous_until"] <= self.ended_by:
            f["previous"] = f["previous_until"] = None
            over |= {"previous", "previous_until"}
        if f.get("expiresAt") and f["expiresAt"] <= self.ended_by and not f["expired"]:
            f["expired"] = True
            over.add("expired")
        if not over:
            return False
        r.put(State(r.now.revision + 1, r.now.updated, f))
        self.audit.append({
            "action": str(EXPIRE), "kind": str(r.kind), "actor_type": str(SYSTEM),
            "revision": str(r.now.revision), "time": str(self.now()), "actor": "maintenance",
            "tenant": r.tenant, "parent": r.parent or "", "id": r.id, "request_id": "",
            "changed": ",".join(n for n, _ in FIELDS[r.kind] if n in over)})
        return True

    def reopen(self):
        self.marks = {}
        self.seen = self.clock

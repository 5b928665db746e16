# SPDX-License-Identifier: MIT
"""What the four documents promise, in Python: a record of each kind, what an update makes of it,
and what it then looks like. Written from the documents and the rules beside them, not from the C
code, and it never loads the library. It takes legal updates only; bodies.py knows what is legal."""
import datetime

EPOCH = datetime.datetime(1970, 1, 1)
DAY_MS = 24 * 3600 * 1000


def seconds(ms):
    """2023-11-07T05:31:56Z"""
    if not ms:
        return None
    return f"{EPOCH + datetime.timedelta(milliseconds=ms - ms % 1000):%Y-%m-%dT%H:%M:%S}Z"


def millis(ms):
    """2019-12-27T18:11:19.117Z"""
    return f"{seconds(ms)[:-1]}.{ms % 1000:03}Z" if ms else None


PREFIXES = ("sk_test_", "sk_live_", "rk_test_", "rk_live_", "pk_test_", "pk_live_", "sk_org_",
            "whsec_", "sk_", "rk_", "pk_")


def mask(value):
    """Prefix, "..." and the last 4 characters, but no more than a quarter of what follows the
    prefix (in bytes), and nothing up to the last character that is not ASCII."""
    prefix = next((p for p in PREFIXES if value.startswith(p)), "")
    rest = value[len(prefix):]
    tail = ""
    for c in reversed(rest):
        if not c.isascii() or len(tail) == min(4, len(rest.encode()) // 4):
            break
        tail = c + tail
    return f"{prefix}...{tail}"


class Record:
    """One record. values: the members of the body by their names, None = null."""

    def __init__(self, kind, place, now, origin, values):
        self.kind, self.place = kind, place  # place: tenant, parent, id as far as the kind has them
        self.revision = 1
        self.created_at = origin.get("created_at", now)
        self.updated_at = origin.get("updated_at", self.created_at)
        self.last_used_at = origin.get("last_used_at", 0)
        self.values = dict.fromkeys(kind.members)
        self.facts = {}  # what is neither in the body nor in every kind
        kind.begin(self, origin)
        stamp = origin.get("updated_at") or self.created_at
        kind.settle(self, self.merge(values), stamp)

    def merge(self, patch):
        """Absent keeps, null clears, a value sets. Answers what changed: the same is no change."""
        changed = {m for m, value in patch.items() if self.values[m] != value}
        for member in changed:
            self.values[member] = patch[member]
        return changed

    def update(self, patch, now):
        """A change of nothing moves nothing. Answers whether something changed."""
        changed = self.merge(patch)
        if changed:
            self.revision += 1
            self.updated_at = max(self.updated_at, now)
            self.kind.settle(self, changed, now)
        return bool(changed)

    def flag(self, member):
        return int(self.values[member])


class Checkbook:
    name = "checkbook"
    members = ("publishable_key", "secret_key", "base_url", "is_active")
    required = ("publishable_key", "secret_key", "base_url")  # at creation
    in_body = ()  # at each update
    nullable = ()
    secrets = {"secret_key": 2}  # the field's number for a reveal
    list_member = None
    upsert = False

    def begin(self, record, origin):
        record.values["is_active"] = True
        record.facts["client_id"] = origin.get("client_id", record.place["id"])

    def settle(self, record, changed, now):
        if "secret_key" in changed:
            record.facts["secret_key_set_at"] = now

    def document(self, r, _catalogue, _granted):
        return [("id", r.place["id"]), ("client_id", r.facts["client_id"]),
                ("publishable_key", r.values["publishable_key"]),
                ("base_url", r.values["base_url"]), ("is_active", r.values["is_active"]),
                ("created_at", seconds(r.created_at)), ("updated_at", seconds(r.updated_at))]

    def typed(self, r, _catalogue):
        return {"id": r.place["id"], "client_id": r.facts["client_id"],
                "publishable_key": r.values["publishable_key"], "base_url": r.values["base_url"],
                "is_active": r.flag("is_active"), "has_secret_key": 1, "revision": r.revision,
                "created_at": r.created_at, "updated_at": r.updated_at,
                "secret_key_set_at": r.facts["secret_key_set_at"]}


class Stripe:
    name = "stripe"
    members = ("test_secret_key", "test_publishable_key", "test_webhook_secret",
               "live_secret_key", "live_publishable_key", "live_webhook_secret")
    required = in_body = ()
    nullable = members
    secrets = {"test_secret_key": 1, "test_webhook_secret": 3,
               "live_secret_key": 4, "live_webhook_secret": 6}
    list_member = None
    upsert = True

    def begin(self, record, origin):
        record.updated_at = origin.get("updated_at", 0)
        record.facts.update(id=origin.get("id"), test=0, live=0)

    def settle(self, record, changed, now):
        """When a key of the mode was last set or cleared; null when none is left."""
        for mode in ("test", "live"):
            keys = [m for m in self.members if m.startswith(mode)]
            if changed.intersection(keys):
                record.facts[mode] = now if any(record.values[k] is not None for k in keys) else 0

    def masks(self, r):
        return [(f"{m}_masked", None if r.values[m] is None else mask(r.values[m]))
                for m in self.members]

    def has(self, r, mode):
        return r.values[f"{mode}_secret_key"] is not None

    def document(self, r, _catalogue, _granted):
        return [("id", r.facts["id"]), ("project_id", r.place["id"].lower()), ("is_active", True),
                ("has_test_credentials", self.has(r, "test")),
                ("has_live_credentials", self.has(r, "live")),
                ("created_at", seconds(r.created_at)), *self.masks(r),
                ("test_configured_at", seconds(r.facts["test"])),
                ("live_configured_at", seconds(r.facts["live"])),
                ("updated_at", seconds(r.updated_at))]

    def typed(self, r, _catalogue):
        return {"id": r.facts["id"], "project_id": r.place["id"].lower(), "is_active": 1,
                "has_test_credentials": int(self.has(r, "test")),
                "has_live_credentials": int(self.has(r, "live")), "revision": r.revision,
                "test_publishable_key": r.values["test_publishable_key"],
                "live_publishable_key": r.values["live_publishable_key"], **dict(self.masks(r)),
                "created_at": r.created_at, "updated_at": r.updated_at,
                "test_configured_at": r.facts["test"], "live_configured_at": r.facts["live"]}


class ServiceCredential:
    name = "service_credential"
    members = ("name", "description")
    required = ("name",)
    in_body = ()
    nullable = ("description",)
    secrets = {}
    list_member = None
    upsert = False

    def begin(self, record, origin):
        record.facts["client_id"] = origin.get("client_id")

    def settle(self, record, changed, now):
        pass

    def document(self, r, catalogue, granted):
        """granted: what the actor holds, if the permissions are asked for, else None."""
        answer = [("id", r.place["id"]), ("client_id", r.facts["client_id"]),
                  ("created_at", millis(r.created_at)), ("name", r.values["name"]),
                  ("description", r.values["description"]),
                  ("last_used_at", millis(r.last_used_at))]
        answer = [(name, value) for name, value in answer if value is not None]
        if granted is not None:
            grants = {}
            for permission, resource, action in catalogue:
                grants.setdefault(resource, {})[action] = permission in granted
            answer.append(("permissions", [(k, list(v.items())) for k, v in grants.items()]))
        return answer

    def typed(self, r, _catalogue):
        return {"organization_id": r.place["tenant"], "service_account_id": r.place["parent"],
                "id": r.place["id"], "client_id": r.facts["client_id"],
                "name": r.values["name"], "description": r.values["description"],
                "revision": r.revision, "created_at": r.created_at, "updated_at": r.updated_at,
                "last_used_at": r.last_used_at}


class ApiKey:
    """Its flatPermissionsList is a frozenset here, its expiresAt milliseconds."""
    name = "api_key"
    members = ("description", "expiresAt", "flatPermissionsList")
    required = in_body = ("description", "flatPermissionsList")
    nullable = ("expiresAt",)
    secrets = {}
    list_member = "flatPermissionsList"
    upsert = False

    def begin(self, record, origin):
        pass

    def settle(self, record, changed, now):
        pass

    def permissions(self, r, catalogue):
        return [c[0] for c in catalogue if c[0] in r.values["flatPermissionsList"]]

    def document(self, r, catalogue, _granted):
        return [("id", r.place["id"]), ("description", r.values["description"]),
                ("flatPermissionsList", self.permissions(r, catalogue)),
                ("expiresAt", millis(r.values["expiresAt"])), ("createdAt", millis(r.created_at)),
                ("lastUsedAt", millis(r.last_used_at)), ("lastFour", r.facts.get("last_four"))]

    def typed(self, r, catalogue):
        return {"id": r.place["id"], "description": r.values["description"],
                "permissions": "\n".join(self.permissions(r, catalogue)), "last_four": r.facts.get("last_four"),
                "expires_at": r.values["expiresAt"] or 0, "revision": r.revision,
                "created_at": r.created_at, "updated_at": r.updated_at,
                "last_used_at": r.last_used_at}


KINDS = (Checkbook(), Stripe(), ServiceCredential(), ApiKey())


class Clock:
    """The host's clock, and the store's: never behind what was seen of it, nor the last change,
    unless by a day or more."""

    def __init__(self, now):
        self.host = self.seen = self.last_change = now

    def look(self):
        if self.host > self.seen or self.seen - self.host >= DAY_MS:
            self.seen = self.host

    def now(self):
        behind = self.last_change - self.seen
        return self.last_change if 0 < behind < DAY_MS else self.seen

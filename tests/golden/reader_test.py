#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Reads the golden store by credstore-format(5) alone, without the library.

Opens all that lies in tests/golden/*.hex, from the root slot down to each secret, says what it
opened, and holds it against expected.json. Then damages one byte at a time and wants to see that
refused: a reader that accepts anything would prove nothing.
"""
import glob
import hashlib
import hmac
import json
import os
import re
import struct
import sys
import zlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FOLDER = os.path.dirname(os.path.abspath(__file__))
META, ROOT, KEYRING, CATALOGUE, ROTATION = 1, 2, 3, 4, 5
RECORD, OWNER, LANE, RECEIPT, PURGE, END, USAGE = 0x10, 0x11, 0x20, 0x30, 0x31, 0x32, 0x40
ALIAS, FINGERPRINT, DIGEST, TOKEN = 0x50, 0x51, 0x52, 0x53
TABLES = {META, ROOT, KEYRING, CATALOGUE, ROTATION, RECORD, OWNER, LANE, RECEIPT, PURGE, END, USAGE,
          ALIAS, FINGERPRINT, DIGEST, TOKEN}
DAY = 86400000
NO_SCOPE = bytes(16)
NO_RIGHT = "(no right to reveal)"
METHODS = {1: "key", 2: "passphrase", 3: "pad"}  # what expected.json knows of a slot's root key
BODY, SECRET, NAME, CHAIN = 1, 2, 3, 4
TEXT, FLAG, TIME, PERMISSIONS, SECRET_FIELD, SHA256 = range(6)
TOKENS = {80: SHA256, 81: SHA256, 82: TIME, 83: TEXT, 84: TEXT}
KINDS = {  # scope by owner?, fields
    1: (False, {1: TEXT, 2: SECRET_FIELD, 3: TEXT, 4: FLAG, 64: TEXT}),
    2: (True, {1: SECRET_FIELD, 2: TEXT, 3: SECRET_FIELD, 4: SECRET_FIELD, 5: TEXT,
               6: SECRET_FIELD, 64: TEXT, 65: FLAG, 66: TIME, 67: TIME}),
    3: (True, {1: TEXT, 2: TEXT, 64: TEXT, 85: TEXT, **TOKENS}),
    4: (False, {1: TEXT, 2: TIME, 3: PERMISSIONS, 85: FLAG, **TOKENS}),
}
REMOVED_AT, PREVIOUS = 6, 7
CREATE, UPDATE, REMOVE, ROLL, EXPIRE = 2, 3, 5, 6, 19
AUDIT = {1: ("time", "q"), 2: ("actor_type", "B"), 3: ("actor", None), 4: ("tenant", None),
         5: ("action", "B"), 6: ("kind", "B"), 7: ("parent", None), 8: ("id", None),
         9: ("revision", "Q"), 10: ("changed", "list"), 11: ("request", None)}


class Damaged(Exception):
    pass


def need(condition, what):
    if not condition:
        raise Damaged(what)


class Bytes:
    """Takes fields off the front."""

    def __init__(self, raw):
        self.raw = raw

    def take(self, count):
        need(len(self.raw) >= count, "cut")
        head, self.raw = self.raw[:count], self.raw[count:]
        return head

    def number(self, form):
        return struct.unpack(">" + form, self.take(struct.calcsize(form)))[0]

    def end(self):
        need(not self.raw, "bytes left over")


# ---- primitives ----

def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))


def xaes_open(key, nonce, sealed, tag, associated):
    def encrypt(block):
        return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(block)

    l = int.from_bytes(encrypt(bytes(16)), "big")
    k1 = ((l << 1) & ((1 << 128) - 1)) ^ (0x87 if l >> 127 else 0)
    k1 = k1.to_bytes(16, "big")
    subkey = b"".join(encrypt(xor(bytes([0, n, 0x58, 0]) + nonce[:12], k1)) for n in (1, 2))
    try:
        return AESGCM(subkey).decrypt(nonce[12:], sealed + tag, associated)
    except InvalidTag:
        raise Damaged("a box does not open where it lies") from None


def stretched(passphrase, head):
    """The root key of a passphrase slot; a cost beyond the format's is not paid."""
    log2_n, r, p = struct.unpack(">BII", head[19:28])
    need(1 <= log2_n <= 20 and 1 <= r <= 8 and 1 <= p <= 16, "cost of a slot")
    return hashlib.scrypt(passphrase.encode(), salt=head[28:60], n=1 << log2_n, r=r, p=p,
                          maxmem=(1 << 30) + (1 << 24), dklen=32)


def mac(key, message):
    return hmac.new(key, message, hashlib.sha256).digest()


def tlvs(raw):
    members, rest = [], Bytes(raw)
    while rest.raw:
        member = rest.number("H")
        members.append((member, rest.take(rest.number("I"))))
    once = [m for m, _ in members if m != PREVIOUS]
    need(len(set(once)) == len(once), "a member stands twice")
    return members


class Box:
    def __init__(self, rest):
        self.key_id = rest.number("I")
        count = rest.number("I")
        self.nonce, self.tag = rest.take(24), rest.take(16)
        self.sealed = rest.take(count)

    def open(self, store, key, role, kind=0, scope=NO_SCOPE, ident=b"", field=0, revision=0):
        associated = (struct.pack(">B", 1) + store.id + struct.pack(">BB", role, kind) + scope +
                      struct.pack(">H", len(ident)) + ident +
                      struct.pack(">HQI", field, revision, self.key_id))
        store.boxes += 1
        return xaes_open(key, self.nonce, self.sealed, self.tag, associated)


def sealed_value(raw):
    rest = Bytes(raw)
    need(rest.number("B") == 1, "format")
    box = Box(rest)
    rest.end()
    return box


# ---- a store ----

class Store:
    def __init__(self, pairs, root, asked):
        """root: a root key of expected.json. asked: the requests with an idempotency key, which
        alone name their receipts."""
        self.pairs, self.boxes = pairs, 0
        self.read_header()
        self.open_slots(root)
        self.read_sealed_header()
        self.read_keyring()
        self.read_catalogue()
        self.read_lane()
        self.read_records()
        self.read_owners()
        self.read_usage()
        self.read_fingerprints()
        self.read_tokens()
        self.read_digests()
        self.read_aliases()
        self.read_purge()
        self.read_ends()
        self.read_rotation()
        self.read_receipts(asked)
        self.compare_with_audit()

    def table(self, first):
        return {key[1:]: value for key, value in self.pairs.items() if key[0] == first}

    def read_header(self):
        meta = self.table(META)
        need(set(meta) == {b"\0", b"\1"}, "meta")
        rest = Bytes(meta[b"\0"])
        need(rest.take(10) == b"\x01credstore", "magic")
        self.id = rest.take(16)
        rest.end()

    def open_slots(self, root):
        self.slot = None
        for key, value in sorted(self.table(ROOT).items()):
            slot, = struct.unpack(">H", key)
            need(len(value) >= 19 and value[0] == 1 and value[1] in METHODS, "slot")
            if METHODS[value[1]] not in root:
                continue
            rest = Bytes(value)
            head = rest.take(60 if value[1] == 2 else 19)
            opens = self.unwrap_blob if value[1] == 3 else self.unwrap_box
            keys = opens(root, slot, head, rest)
            if keys is None:
                continue
            rest.end()
            need(self.slot is None, "two slots of one root key")
            self.slot, self.rights = slot, head[2]
            need(len(keys) == (64 if self.rights & 2 else 32) and self.rights & 1, "rights")
            self.body_store_key, self.secret_store_key = keys[:32], keys[32:]
        need(self.slot is not None, "no slot of this key")

    def checks(self, key, slot, head):
        message = b"credstore root slot\0" + self.id + struct.pack(">H", slot)
        return head[3:19] == mac(key, message)[:16]

    def unwrap_box(self, root, slot, head, rest):
        key = bytes.fromhex(root["key"]) if head[1] == 1 else stretched(root["passphrase"], head)
        if not self.checks(key, slot, head):
            return None
        box = Box(rest)
        need(box.key_id == 0, "key id of a slot")
        return box.open(self, key, 6, ident=head, field=slot)

    def unwrap_blob(self, root, slot, head, rest):
        """The scenario's key service puts the keys under a pad, and the pad's byte behind them."""
        blob = rest.take(rest.number("H"))
        if blob[-1:] != bytes([root["pad"]]):
            return None
        keys = bytes(byte ^ root["pad"] for byte in blob[:-1])
        need(self.checks(keys[:32], slot, head), "keys of a blob")
        return keys

    def read_sealed_header(self):
        box = sealed_value(self.table(META)[b"\1"])
        need(box.key_id == 0, "key id of the sealed header")
        highest, self.created_at, self.epoch = struct.unpack(
            ">BqQ", box.open(self, self.body_store_key, 5))
        need(highest == 1 and self.epoch == 1, "highest format, epoch")

    def read_keyring(self):
        ring = self.table(KEYRING)
        need(set(ring) == {b"\1", b"\2"}, "keyring")
        box = sealed_value(ring[b"\1"])
        rest = Bytes(box.open(self, self.body_store_key, 7, field=BODY))
        version, self.keys, active = rest.number("Q"), {}, []
        self.ring_version = version
        while rest.raw:
            key_id, purpose, suite, state = struct.unpack(">IBBB", rest.take(7))
            material = rest.take(32)
            need(suite == (1 if purpose in (BODY, SECRET) else 2), "suite")
            need(state in (1, 2), "state")
            active += [purpose] if state == 1 else []
            need(purpose != SECRET or material == bytes(32), "a secret key in the body half")
            self.keys[purpose, key_id] = None if purpose == SECRET else material
        if self.rights & 2:
            box = sealed_value(ring[b"\2"])
            rest = Bytes(box.open(self, self.secret_store_key, 7, field=SECRET))
            need(rest.number("Q") == version, "the halves' versions")
            while rest.raw:
                key_id = rest.number("I")
                self.keys[SECRET, key_id] = rest.take(32)
        need(sorted(self.keys) == [(BODY, 1), (BODY, 5), (SECRET, 2), (SECRET, 6), (NAME, 3),
                                   (CHAIN, 4)], "a new store's keys, and the first promoted ones")
        need(sorted(active) == [BODY, SECRET, NAME, CHAIN], "one active key a purpose")

    def read_rotation(self):
        need(sealed_value(self.table(ROTATION)[b""]).key_id == 5, "under the new key")
        rest = Bytes(self.unseal(self.table(ROTATION)[b""], 20))
        need(rest.number("Q") == self.ring_version, "keyring that the rotation is about")
        need((rest.number("I"), rest.number("Q")) == (1, 0), "pass, and values looked at in it")
        need(rest.number("Q") == len(self.pairs) - 1, "values of the pass before")
        need([rest.number("Q") for _ in range(3)] == [0, 0, 0], "due, damaged, of a newer library")
        need(rest.take(rest.number("H")) == b"\1", "where to go on")
        rest.end()

    def key(self, purpose, box):
        need((purpose, box.key_id) in self.keys, "key id")
        return self.keys[purpose, box.key_id]

    def unseal(self, raw, role, **place):
        box = sealed_value(raw)
        return box.open(self, self.key(BODY, box), role, **place)

    def whole_name(self, domain, *parts):
        message = bytes([domain]) + b"".join(struct.pack(">I", len(p)) + p for p in parts)
        return mac(self.keys[NAME, 3], message)

    def name(self, domain, *parts):
        return self.whole_name(domain, *parts)[:16]

    def read_catalogue(self):
        rest = Bytes(self.unseal(self.table(CATALOGUE)[b""], 8))
        self.catalogue = []
        while rest.raw:
            need(rest.number("H") == len(self.catalogue), "number of a permission")
            self.catalogue.append(rest.take(rest.number("H")).decode("ascii"))

    # ---- audit and head ----

    def read_lane(self):
        lane = self.table(LANE)
        head = lane.pop(b"\0\0\1")
        self.pruned, chain, self.audit = 0, bytes(32), []
        if b"\0\0\2" in lane:
            anchor = Bytes(self.unseal(lane.pop(b"\0\0\2"), 19, field=0))
            self.pruned, chain = anchor.number("Q"), anchor.take(32)
            anchor.end()
            need(self.pruned > 0, "an anchor behind nothing")
        self.believed, self.candidate = 0, 0
        if b"\0\0\3" in lane:
            clock = Bytes(self.unseal(lane.pop(b"\0\0\3"), 21, field=0))
            self.believed, self.candidate = clock.number("q"), clock.number("q")
            clock.end()
        for seq, key in enumerate(sorted(lane), self.pruned + 1):
            need(key == struct.pack(">HBQ", 0, 0, seq), "sequence")
            plain = self.unseal(lane[key], 9, field=0, revision=seq)
            need(plain[:32] == chain, "chain")
            chain = mac(self.keys[CHAIN, 4], struct.pack(">HQ", 0, seq) + plain)
            self.audit.append(self.entry(plain[32:]))
        plain = Bytes(self.unseal(head, 10, field=0))
        self.generation, last = plain.number("Q"), plain.number("Q")
        need(last == self.pruned + len(self.audit), "last sequence")
        need(plain.take(32) == chain, "chain value in the head")
        self.last_time = plain.number("q")
        need(plain.number("Q") == self.ring_version, "keyring's version in the head")
        plain.end()

    @staticmethod
    def entry(raw):
        said = {}
        for member, value in tlvs(raw):
            name, form = AUDIT[member]
            if form is None:
                said[name] = value.decode("utf-8")
            elif form == "list":
                said[name] = list(struct.unpack(">%dH" % (len(value) // 2), value))
            else:
                said[name] = struct.unpack(">" + form, value)[0]
        return said

    # ---- records ----

    def read_records(self):
        frames, self.parts_named = {}, set()
        for key, value in self.table(RECORD).items():
            kind, scope, rest = key[0], key[1:17], key[17:]
            ident, behind = rest.split(b"\0", 1)
            if behind == b"\0":
                revision = None
            else:
                need(behind[:1] == b"\1" and len(behind) == 9, "key of a record")
                revision = struct.unpack(">Q", behind[1:])[0]
            roles = (2,) if revision else (1, 3)
            frame = self.frame(kind, scope, ident, value, roles)
            need(revision in (None, frame["revision"]), "history in another place")
            frames.setdefault((kind, scope, ident), []).append(frame)
        self.records = []
        for place, all_of_it in sorted(frames.items()):
            all_of_it.sort(key=lambda f: -f["revision"])
            need([f["revision"] for f in all_of_it] == list(range(len(all_of_it), 0, -1)),
                 "revisions without a gap")
            for n, frame in enumerate(all_of_it):
                newer = [p for f in all_of_it[:n + 1] for p in f["parts"]]
                self.records.append(self.record(place, frame, newer))
                self.records[-1]["history"] = len(all_of_it) - 1 if n == 0 else 0

    def frame(self, kind, scope, ident, value, roles):
        rest = Bytes(value)
        need(rest.number("B") == 1, "format")
        role = rest.number("B")
        need(role in roles, "role")
        count, revision = rest.number("H"), rest.number("Q")
        box, parts = Box(rest), []
        for _ in range(count):
            field, part_revision = rest.number("H"), rest.number("Q")
            parts.append((field, part_revision, Box(rest)))
        rest.end()
        body = box.open(self, self.key(BODY, box), role, kind, scope, ident, revision=revision)
        return {"role": role, "revision": revision, "parts": parts, "body": body}

    def record(self, place, frame, parts):
        kind, scope, ident = place
        by_owner, fields = KINDS[kind]
        members = tlvs(frame["body"])
        body = dict(m for m in members if m[0] != PREVIOUS)
        tenant, parent = body.pop(1), body.pop(2, b"")
        need(scope == (self.name(1, bytes([kind]), tenant, parent) if by_owner else NO_SCOPE),
             "scope")
        record = {"kind": kind, "tenant": tenant.decode(), "parent": parent.decode(),
                  "id": ident.decode(), "revision": frame["revision"], "fields": {},
                  "set_at": {}, "masks": {}}
        record["created_at"] = struct.unpack(">q", body.pop(3))[0]
        record["updated_at"] = struct.unpack(">q", body.pop(4))[0] if 4 in body else None
        need(len(body.pop(5)) == 8, "incarnation")
        need((REMOVED_AT in body) == (frame["role"] == 3), "a tombstone, or not")
        if frame["role"] == 3:
            record["removed_at"] = struct.unpack(">q", body.pop(REMOVED_AT))[0]
            need(not frame["parts"] and set(body) <= {0x100 + 80, 0x100 + 85}, "what outlives")
        named = sum(self.previous(place, record, value, parts, frame["parts"])
                    for member, value in members if member == PREVIOUS)
        for member, value in body.items():
            field = member - 0x100
            if fields[field] == SECRET_FIELD:
                named += self.secret(place, record, field, value, parts, frame["parts"])
            else:
                record["fields"][str(field)] = self.value(fields[field], value)
        need(named == len(frame["parts"]), "a part that the body does not name")
        return record

    def value(self, form, raw):
        if form == TEXT:
            return raw.decode("utf-8")
        if form in (FLAG, TIME):
            return struct.unpack(">q", raw)[0]
        if form == SHA256:
            need(len(raw) == 32, "digest")
            return raw.hex()
        need(len(raw) == 64, "permissions")
        numbers = [n for n in range(512) if raw[n // 8] >> n % 8 & 1]
        return [self.catalogue[n] for n in numbers]

    def secret(self, place, record, field, raw, parts, own):
        """Answers 1 if the part lies in this very value, else 0."""
        rest = Bytes(raw)
        revision, set_at = rest.number("Q"), rest.number("q")
        tag, fingerprint = rest.take(16), rest.take(16)
        record["set_at"][str(field)] = set_at
        record["masks"][str(field)] = rest.raw.decode("utf-8")
        record["fields"][str(field)], here = self.part(place, field, revision, tag, fingerprint,
                                                       parts, own)
        return here

    def previous(self, place, record, raw, parts, own):
        rest = Bytes(raw)
        field, until, revision = rest.number("H"), rest.number("q"), rest.number("Q")
        tag, fingerprint = rest.take(16), rest.take(16)
        rest.end()
        need(KINDS[place[0]][1][field] == SECRET_FIELD, "PREVIOUS of a secret")
        text, here = self.part(place, field, revision, tag, fingerprint, parts, own)
        need(str(field) not in record.setdefault("previous", {}), "two graces of one field")
        record["previous"][str(field)] = [text, until, revision]
        return here

    def part(self, place, field, revision, tag, fingerprint, parts, own):
        found = [p for p in parts if p[0] == field and p[1] == revision and p[2].tag == tag]
        need(len(found) == 1, "the part that the body names")
        self.parts_named.add((place, field, revision, fingerprint))
        key = self.key(SECRET, found[0][2])
        if key is None:
            return NO_RIGHT, int(found[0] in own)
        plain = found[0][2].open(self, key, 4, *place, field, revision)
        need(self.name(2, plain) == fingerprint, "fingerprint")
        return plain.decode("utf-8"), int(found[0] in own)

    def read_owners(self):
        """One entry a record of the kinds of the scope store, found without opening the record."""
        found = set()
        for key, value in self.table(OWNER).items():
            kind, owner, ident = key[0], key[1:17], key[17:-1]
            plain = self.unseal(value, 14, kind=kind, scope=owner, ident=ident)
            need(key[-1:] == b"\0" and plain == b"", "list index")
            found.add((kind, owner, ident))
        gone = {(r["kind"], r["id"]) for r in self.records if "removed_at" in r}
        listed = {(r["kind"], r["tenant"], r["id"]) for r in self.records
                  if not KINDS[r["kind"]][0] and (r["kind"], r["id"]) not in gone}
        need(found == {(kind, self.name(3, bytes([kind]), tenant.encode(), b""), ident.encode())
                       for kind, tenant, ident in listed}, "list index against the records")

    def read_usage(self):
        self.usage = {}
        for key, value in self.table(USAGE).items():
            need(key[-1:] == b"\0", "key of a used mark")
            plain = self.unseal(value, 12, kind=key[0], scope=key[1:17], ident=key[17:-1])
            name = "%d %s" % (key[0], key[17:-1].decode())
            self.usage[name] = struct.unpack(">q", plain)[0]

    # ---- lookup tables ----

    def place(self, record):
        kind, owner = record["kind"], (record["tenant"].encode(), record["parent"].encode())
        scope = self.name(1, bytes([kind]), *owner) if KINDS[kind][0] else NO_SCOPE
        return kind, scope, record["id"].encode()

    @staticmethod
    def locator(rest):
        return rest.number("B"), rest.take(16), rest.take(len(rest.raw))

    @staticmethod
    def key_of_record(raw):
        """kind, scope, id, 00, and what is behind them."""
        ident, behind = raw[17:].split(b"\0", 1)
        return (raw[0], raw[1:17], ident), Bytes(behind)

    def read_fingerprints(self):
        """One entry for each part that there is, and, the history being whole, no other."""
        found = set()
        for key, value in self.table(FINGERPRINT).items():
            place, rest = self.key_of_record(key[16:])
            field, revision = rest.number("H"), rest.number("Q")
            rest.end()
            kind, scope, ident = place
            plain = self.unseal(value, 15, kind=kind, scope=scope, ident=ident, field=field,
                                revision=revision)
            need(plain == b"", "fingerprint entry")
            found.add((place, field, revision, key[:16]))
        need(found == self.parts_named, "fingerprints against the parts")

    def read_tokens(self):
        found = set()
        for key, value in self.table(TOKEN).items():
            plain = Bytes(self.unseal(value, 17, ident=key))
            found.add((key.decode(), self.locator(plain)))
        need(found == {(r["fields"]["85"], self.place(r)) for r in self.records
                       if r["kind"] == 3 and "85" in r["fields"]}, "TOKEN against the records")

    def read_digests(self):
        """Imported keys have no prefix: those that are issued are not entered."""
        found = set()
        for key, value in self.table(DIGEST).items():
            plain = Bytes(self.unseal(value, 16, ident=key))
            found.add((key, self.locator(plain)))
        imported = {(self.name(7, bytes.fromhex(r["fields"]["80"])), self.place(r))
                    for r in self.records if r["kind"] == 4 and "80" in r["fields"] and
                    "83" not in r["fields"] and "removed_at" not in r}
        need(found == imported, "DIGEST against the records")

    def read_aliases(self):
        self.organizations, labels = {}, {}
        for key, value in self.table(ALIAS).items():
            ident, label = self.unseal(value, 13, ident=key).split(b"\0")
            if self.name(6, ident) == key:
                self.organizations[ident.decode()] = label.decode()
            else:
                need(label == b"", "a label's own entry names a label")
                labels[key] = ident.decode()
        need(labels == {self.name(6, label.encode()): ident
                        for ident, label in self.organizations.items() if label}, "labels")
        need({r["tenant"] for r in self.records if r["kind"] == 3} == set(self.organizations),
             "organizations against the records")

    def read_purge(self):
        found = set()
        for key, value in self.table(PURGE).items():
            day, = struct.unpack(">I", key[:4])
            place, rest = self.key_of_record(key[4:])
            rest.end()
            kind, scope, ident = place
            plain = self.unseal(value, 18, kind=kind, scope=scope, ident=ident, revision=day)
            need(plain == b"", "purge entry")
            found.add((day, place))
        need(found == {(r["removed_at"] // DAY, self.place(r)) for r in self.records
                       if "removed_at" in r}, "PURGE against the tombstones")

    def read_ends(self):
        """One entry for each end that a revision has brought and maintenance has not found over."""
        found, ends = set(), set()
        for key, value in self.table(END).items():
            end, = struct.unpack(">q", key[:8])
            place, rest = self.key_of_record(key[8:])
            rest.end()
            kind, scope, ident = place
            plain = self.unseal(value, 22, kind=kind, scope=scope, ident=ident, revision=end)
            need(plain == b"", "entry of the queue of ends")
            found.add((end, place))
        for r in self.records:
            graces = [until for _, until, _ in r.get("previous", {}).values()]
            fields = [r["fields"].get("82")] + [r["fields"].get("2") if r["kind"] == 4 else None]
            ends |= {(end, self.place(r)) for end in graces + fields
                     if end is not None and end > self.believed}
        need(found == ends, "END against the records")

    def read_receipts(self, asked):
        table = self.table(RECEIPT)
        self.receipts = []
        for request in asked:
            name = self.whole_name(5, bytes([request["kind"], request["action"],
                                             request["actor_type"]]),
                                   *(request[part].encode() for part in
                                     ("tenant", "actor_tenant", "actor", "key")))
            found = [key for key in table if key[4:] == name[:16]]
            need(len(found) == 1, "receipt")
            self.receipt(found[0], table.pop(found[0]), name, request)
        need(not table, "a receipt that nobody asked for")

    def receipt(self, key, value, name, request):
        rest = Bytes(value)
        need(rest.number("B") == 1, "format")
        box = Box(rest)
        plain = Bytes(box.open(self, self.key(BODY, box), 11, ident=name[:16]))
        request_mac, revision, made_at = plain.take(32), plain.number("Q"), plain.number("q")
        place = self.locator(plain)
        asked_for = place[2] if request["id"] is None else request["id"].encode()
        need(request_mac == self.request_mac(request, asked_for), "request of the receipt")
        need(struct.unpack(">I", key[:4])[0] == made_at // DAY, "day of the receipt")
        record, = [r for r in self.records
                   if self.place(r) == place and r["revision"] == revision]
        if rest.raw:
            self.receipt_token(rest, name, record)
        need(bool(request["token"]) == ("83" in record["fields"]), "a token, or none")
        self.receipts.append([request["key"], revision, made_at])

    def receipt_token(self, rest, name, record):
        box = Box(rest)
        rest.end()
        key = self.key(SECRET, box)
        if key is None:
            return
        token = box.open(self, key, 11, ident=name[:16], field=1)
        self.check_token(token.decode("ascii"), record)

    @staticmethod
    def check_token(token, record):
        fields = record["fields"]
        prefix, rest = token.rsplit("_", 1)
        need(len(rest) == 27 + 43 + 6 and rest[:27] == fields.get("85", record["id"]), "token")
        crc, check = zlib.crc32(token[:-6].encode()), ""
        for _ in range(6):
            crc, digit = divmod(crc, 62)
            check = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[digit] + check
        need(check == token[-6:], "check digits of the token")
        need(hashlib.sha256(token.encode()).hexdigest() == fields["80"], "digest of the token")
        need((prefix, token[-4:]) == (fields["83"], fields["84"]), "what is shown of the token")

    def request_mac(self, request, ident):
        rest = struct.pack(">IB3q", request["grace_s"], request["token"], 0, 0, 0)
        out = self.whole_name(5, request["parent"].encode(), ident,
                              request["prefix"].encode(), rest)
        for field, form in sorted(KINDS[request["kind"]][1].items()):
            given = request["fields"].get(str(field))
            number, raw = 0, b""
            if form in (FLAG, TIME):
                number = given or 0
            elif form == PERMISSIONS and given is not None:
                raw = bytearray(64)
                for permission in given:
                    n = self.catalogue.index(permission)
                    raw[n // 8] |= 1 << n % 8
            elif form == SHA256 and given is not None:
                raw = bytes.fromhex(given)
            elif given is not None:
                raw = given.encode()
            for start in range(0, max(len(raw), 1), 4096):
                head = struct.pack(">IqQ", given is not None, number, len(raw))
                out = self.whole_name(5, out, head, bytes(raw[start:start + 4096]))
        return out

    def compare_with_audit(self):
        """The records are those that the audit tells of, each at its last revision."""
        told = {}
        for entry in self.audit:
            if entry["action"] in (CREATE, UPDATE, REMOVE, ROLL, EXPIRE):
                place = entry["kind"], entry["tenant"], entry.get("parent", ""), entry["id"]
                begins = place not in told and self.pruned  # its creation may be among them
                need(begins or entry["revision"] == told.get(place, 0) + 1,
                     "revision in the audit")
                told[place] = entry["revision"]
        newest = {}
        for r in self.records:
            place = r["kind"], r["tenant"], r["parent"], r["id"]
            newest[place] = max(newest.get(place, 0), r["revision"])
        need(newest == told, "records against the audit")


# ---- against what is expected ----

MADE = {"64": "[A-Za-z0-9_-]{21}", "80": "[0-9a-f]{64}", "81": "[0-9a-f]{64}",
        "84": "[0-9A-Za-z]{4}", "85": "[0-9A-Za-z]{27}"}


def agrees(expected, actual):
    """None in expected stands for what is made at random: ids, tokens and their digests."""
    if set(expected) != set(actual):
        return False
    for name, value in expected.items():
        if name == "fields":
            if set(value) != set(actual[name]):
                return False
            for field, text in value.items():
                made = text is None and re.fullmatch(MADE[field], actual[name][field])
                if not made and text != actual[name][field]:
                    return False
        elif name == "id" and value is None:
            if not re.fullmatch("[0-9a-z]{26}|[0-9A-Za-z]{27}", actual[name]):
                return False
        elif value != actual[name]:
            return False
    return True


class Count:
    passed = failed = 0

    @classmethod
    def check(cls, what, good):
        if good:
            cls.passed += 1
        else:
            cls.failed += 1
            print("FAILED:", what)


def check_whole(pairs, expected, root):
    store = Store(pairs, root, expected["receipts"])
    left = list(store.records)
    Count.check("slot and rights", (store.slot, store.rights) == (root["slot"], root["rights"]))
    Count.check("created at", store.created_at == expected["created_at"])
    Count.check("head", (store.generation, store.last_time) ==
                (expected["generation"], expected["last_time"]))
    Count.check("believed time", (store.believed, store.candidate) == (expected["believed"], 0))
    Count.check("catalogue", store.catalogue == expected["catalogue"])
    Count.check("usage", store.usage == expected["usage"])
    Count.check("organizations", store.organizations == expected["organizations"])
    Count.check("receipts", store.receipts ==
                [[r["key"], r["revision"], r["made_at"]] for r in expected["receipts"]])
    Count.check("pruned", store.pruned == expected["pruned"])
    for wanted in expected["records"]:
        if not root["rights"] & 2:
            wanted = dict(wanted, fields={
                f: NO_RIGHT if f in wanted["set_at"] else v
                for f, v in wanted["fields"].items()})
            if "previous" in wanted:
                wanted["previous"] = {f: [NO_RIGHT] + v[1:]
                                      for f, v in wanted["previous"].items()}
        found = [r for r in left if agrees(wanted, r)]
        Count.check("record %s" % wanted, len(found) == 1)
        left = [r for r in left if r not in found]
    Count.check("no other record", not left)
    Count.check("length of the audit", len(store.audit) == len(expected["audit"]))
    for seq, (wanted, said) in enumerate(zip(expected["audit"], store.audit), store.pruned + 1):
        Count.check("audit entry %d: %s" % (seq, said), agrees(wanted, said))
    print("slot %d: opened %d boxes: %d records and history, %d audit entries, head, catalogue, "
          "%d used marks, %d receipts" %
          (store.slot, store.boxes, len(store.records), len(store.audit), len(store.usage),
           len(store.receipts)))
    return store


def check_damage(pairs, roots, asked):
    """One byte at a time, and one value less at a time: all refused. The first root key sees to all
    but the other slots, which each see to themselves."""
    step = int(os.environ.get("CREDSTORE_DAMAGE_STEP", "13"))  # 1: every byte
    tried = refused = 0
    slots = {struct.pack(">BH", ROOT, root["slot"]): root for root in roots}
    damaged = [(key, value[:n] + bytes([value[n] ^ 1]) + value[n + 1:])
               for key, value in pairs.items() for n in range(0, len(value), step)]
    damaged += [(key, None) for key in pairs if key[0] not in (ROOT, ROTATION, USAGE)]
    damaged += [(key, None) for key in slots]
    for key, value in damaged:
        changed = {k: v for k, v in pairs.items() if k != key}
        if value is not None:
            changed[key] = value
        tried += 1
        try:
            Store(changed, slots.get(key, roots[0]), asked)
            print("not seen: %s" % key.hex())
        except (Damaged, KeyError, IndexError, struct.error, ValueError):
            refused += 1
    Count.check("damage", tried == refused and tried > 500)
    print("damaged %d times, refused %d times" % (tried, refused))


def main():
    pairs = {}
    for path in sorted(glob.glob(os.path.join(FOLDER, "*.hex"))):
        with open(path, encoding="ascii") as lines:
            for line in lines:
                key, value = line.split()
                pairs[bytes.fromhex(key)] = bytes.fromhex(value)
    with open(os.path.join(FOLDER, "expected.json"), encoding="utf-8") as file:
        expected = json.load(file)
    Count.check("tables", {key[0] for key in pairs} == TABLES)
    slots = {struct.pack(">BH", ROOT, root["slot"]) for root in expected["root_keys"]}
    Count.check("slots", slots == {key for key in pairs if key[0] == ROOT})
    for root in expected["root_keys"]:
        check_whole(pairs, expected, root)
    check_damage(pairs, expected["root_keys"], expected["receipts"])
    print("%d passed, %d failed" % (Count.passed, Count.failed))
    return 1 if Count.failed else 0


if __name__ == "__main__":
    sys.exit(main())

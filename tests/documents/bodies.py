# SPDX-License-Identifier: MIT
"""Bodies of requests: legal ones, written in any way that JSON allows, and illegal ones with one
thing wrong."""
import datetime
import string
import sys

from model import EPOCH, mask

BODY_MAX = 64 * 1024
KEY_MAX = 4096
URL_MAX = 2048
LAST_MS = 253402300799999  # 9999-12-31T23:59:59.999Z

PLAIN = string.ascii_letters + string.digits
POOLS = (PLAIN, PLAIN + " !#$%&'()*+,-./:;<=>?@[]^_`{|}~", '"\\/', "äöüßéñŁžÿ",
         "漢字かなАбвגדا", "😀🧪𝔘\U00010000\U0010FFFD",
         "\u2028\u2029\uFEFF\u200D\u0301\uE000\uFFFD")
CONTROLS = "\n\t\r\b\f\x01\x1f\x7f"


class Deck:
    """Cards in a random order, each once before any comes again: few draws see them all."""

    def __init__(self, cards):
        self.cards, self.left = list(cards), []

    def draw(self, rng):
        if not self.left:
            self.left = rng.sample(self.cards, len(self.cards))
        return self.left.pop()


class Raw:
    """Bytes that go into a body as they are."""

    def __init__(self, text):
        self.text = text


# ---- JSON, written in as many ways as there are ----

SHORT = {'"': '\\"', "\\": "\\\\", "/": "\\/", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r",
         "\t": "\\t"}


class Writer:
    def __init__(self, rng, spaces, escapes):
        self.rng, self.spaces, self.escapes = rng, spaces, escapes

    def space(self):
        if self.rng.random() >= self.spaces:
            return b""
        return bytes(self.rng.choices(b" \t\n\r", k=self.rng.randrange(4)))

    def escaped(self, c):
        units = c.encode("utf-16-be").hex()
        units = "".join(self.rng.choice((x, x.upper())) for x in units)
        return "".join("\\u" + units[i:i + 4] for i in range(0, len(units), 4))

    def text(self, value):
        out = []
        for c in value:
            if c in SHORT and (c != "/" or self.rng.random() < self.escapes):
                out.append(SHORT[c] if self.rng.random() < 0.7 else self.escaped(c))
            elif c < " " or self.rng.random() < self.escapes:
                out.append(self.escaped(c))
            else:
                out.append(c)
        return ('"' + "".join(out) + '"').encode()

    def value(self, v):
        if isinstance(v, Raw):
            return v.text
        if isinstance(v, str):
            return self.text(v)
        if isinstance(v, dict):
            v = [self.text(name) + self.space() + b":" + self.space() + self.value(x)
                 for name, x in v.items()]
            return self.joined(b"{", v, b"}")
        if isinstance(v, (list, tuple)):
            return self.joined(b"[", [self.value(x) for x in v], b"]")
        words = {None: b"null", True: b"true", False: b"false"}
        return words[v] if v is None or isinstance(v, bool) else str(v).encode()

    def joined(self, begin, items, end):
        comma = [item + self.space() + b"," + self.space() for item in items[:-1]]
        return begin + self.space() + b"".join(comma + items[-1:]) + self.space() + end


def dump(rng, members):
    """A dict, its members in a random order, in a random dress that keeps to the limit."""
    names = list(members)
    rng.shuffle(names)
    members = {name: members[name] for name in names}
    for escapes in (rng.choice((0, 0, 0.1, 1)), 0):
        writer = Writer(rng, rng.choice((0, 0.3, 1)), escapes)
        body = writer.space() + writer.value(members) + writer.space()
        if len(body) <= BODY_MAX:
            break
    if rng.random() < 0.02:  # as long as a body may be
        body += b" " * (BODY_MAX - len(body))
    return body


# ---- values ----


def characters(rng, count, controls=False):
    pools = [rng.choice(POOLS) for _ in range(rng.randrange(1, 4))] + [CONTROLS] * controls
    return "".join(rng.choice(rng.choice(pools)) for _ in range(count))


def of_bytes(rng, limit):
    """1..limit bytes, now and then exactly the limit."""
    full = rng.random() < 0.06
    text = characters(rng, limit if full else rng.randrange(1, 60))
    text = text.encode()[:limit].decode(errors="ignore")
    return text + "x" * (limit - len(text.encode())) if full else text


LONGEST = {limit: Deck([c * limit for c in ("a", "é", "漢", "😀")]) for limit in (255, 500, 2000)}


def of_characters(rng, limit, least, controls):
    if rng.random() < 0.2:
        return LONGEST[limit].draw(rng)
    return characters(rng, rng.randrange(least, 80), controls)


def base_url(rng):
    host = rng.choice(("api.checkbook.io", "sandbox.checkbook.io", "API.Checkbook.IO", "8.8.8.8",
                       "[2606:4700:4700::1111]", "xn--bcher-kva.example.com",
                       "a-b.c_d.example.org"))
    url = rng.choice(("https://", "https://", "HTTPS://")) + host
    url += rng.choice(("", "", ":443", ":8443"))
    url += rng.choice(("", "/", "/v3", "/v3/a%20b;c=d", "/v3?x=1&y=%C3%A4", "?q",
                       "/~u/@x:y/(z)!*'"))
    if rng.random() < 0.05:
        url += ("" if "/v" in url or url.endswith("/") else "/") + "a" * URL_MAX
    return url[:URL_MAX]


# ... the prefixes that each Stripe key may have, "" for none that anyone knows
STRIPE = {"secret_key": ("sk_{}_", "rk_{}_", "sk_org_", "sk_", "rk_", ""),
          "publishable_key": ("pk_{}_", "pk_", ""), "webhook_secret": ("whsec_", "whsec_", "")}


def stripe_key(rng, member):
    mode, kind = member.split("_", 1)
    prefix = rng.choice(STRIPE[kind]).format(mode)
    if rng.random() < 0.06:
        return prefix + "k" * (KEY_MAX - len(prefix))
    if rng.random() < 0.2:  # "x": what follows must not make another prefix of it
        return prefix + "x" + of_bytes(rng, KEY_MAX - len(prefix) - 1)
    return prefix + "x" + "".join(rng.choices(PLAIN, k=rng.randrange(40)))


def rfc3339(rng, ms):
    """One of the many ways to write a time."""
    offset = rng.choice((0, 0, 0, 60, -300, 330, 14 * 60, -12 * 60, 23 * 60 + 59))
    if ms > LAST_MS - 86400000:
        offset = min(offset, 0)
    local = EPOCH + datetime.timedelta(milliseconds=ms, minutes=offset)
    fraction = ms % 1000
    text = f"{local:%Y-%m-%dT%H:%M:%S}"
    if fraction or rng.random() < 0.3:
        digits = f"{fraction:03}"
        if not fraction % 100:
            digits = rng.choice((digits, digits[0]))
        elif rng.random() < 0.3:  # beyond a millisecond: cut off
            digits += rng.choice(("0", "9", "4999", "999999"))
        text += "." + digits
    if offset or rng.random() < 0.3:
        sign = "-" if offset < 0 or (offset == 0 and rng.random() < 0.5) else "+"
        text += f"{sign}{abs(offset) // 60:02}:{abs(offset) % 60:02}"
    else:
        text += "Z"
    return text.lower() if rng.random() < 0.2 else text


def expiry(rng, now):
    return rng.choice((now + 1, now + rng.randrange(1, 10**6), now + rng.randrange(1, 10**11),
                       now + 86400000 - now % 1000, LAST_MS))


def permissions(rng, allowed):
    """A list with duplicates, in any order, and the set that it means."""
    allowed = sorted(allowed)
    count = rng.choice((0, 1, 2, 3, 10, min(40, len(allowed))))
    ids = allowed if rng.random() < 0.05 else rng.sample(allowed, min(count, len(allowed)))
    listed = list(ids)
    if listed and len(listed) < 512:
        room = 512 - len(listed)
        listed += rng.choices(listed, k=room if rng.random() < 0.1 else rng.randrange(min(4, room)))
    rng.shuffle(listed)
    return listed, frozenset(ids)


class Fresh:
    """A value for a member: as JSON has it, and as the model keeps it."""

    def __init__(self, rng, now, allowed):
        self.rng, self.now, self.allowed = rng, now, allowed

    def of(self, kind, member):
        rng = self.rng
        if kind.name == "checkbook":
            if member == "is_active":
                return (rng.random() < 0.5,) * 2
            value = base_url(rng) if member == "base_url" else of_bytes(rng, KEY_MAX)
        elif kind.name == "stripe":
            value = stripe_key(rng, member)
        elif member == "name":
            value = of_characters(rng, 255, 1, False)
        elif member == "description":
            value = of_characters(rng, 500 if kind.name == "service_credential" else 2000, 0, True)
        elif member == "expiresAt":
            at = expiry(rng, self.now)
            return rfc3339(rng, at), at
        else:
            return permissions(rng, self.allowed)
        return value, value

    def same(self, record, member):
        """The value that is there, or None if it cannot be said again."""
        value = record.values[member]
        if member == "expiresAt" and value is not None:
            return None if value <= self.now else (rfc3339(self.rng, value), value)
        if member == "flatPermissionsList":
            listed = sorted(value)
            self.rng.shuffle(listed)
            return listed, value
        if record.kind.name == "stripe" and value is not None and value == mask(value):
            return None
        return (value, value) if value is not None else None

    def null(self, member):
        return (self.rng.choice((None, "")) if member == "expiresAt" else None), None


def legal(rng, kind, record, now, allowed, create=False):
    """Members as JSON has them, and the patch that they mean. record: None if there is none yet."""
    fresh = Fresh(rng, now, allowed)
    sent, patch = {}, {}
    repeat = record is not None and rng.random() < 0.2
    cleared = rng.choice(("test", "live")) if rng.random() < 0.15 else None  # a whole mode
    for member in kind.members:
        must = member in (kind.required if create else kind.in_body)
        dice = rng.random()
        value = None
        if cleared is not None and member.startswith(cleared):
            value = fresh.null(member)
        elif record is not None and (repeat or dice < 0.2):
            value = fresh.same(record, member)
            if value is None and record.values[member] is None and member in kind.nullable:
                value = fresh.null(member)
            if repeat and not must and dice < 0.4:
                value = None
        elif dice < 0.35 and member in kind.nullable:
            value = fresh.null(member)
        elif dice < 0.7 or must:
            value = fresh.of(kind, member)
        if value is None and must:
            value = fresh.of(kind, member)
        if value is not None:
            sent[member], patch[member] = value  # as JSON has it, as the model keeps it
    return sent, patch


# ---- illegal ----


class Illegal:
    """One thing wrong. http: what it gets; field: the member at fault where there is one."""

    def __init__(self, body, field=None, http=400):
        self.body, self.field, self.http = body, field, http
        self.why = sys._getframe(1).f_code.co_name  # for the report of a difference
        if len(body) > BODY_MAX:
            self.field, self.http = None, 413


STRINGS = Deck((
    b'"a\xff"', b'"\\u0000"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83dx"',
    b'"\\uDbFF\\u0041"', b'"a\nb"', b'"a\tb"', b'"\x01"', b'"\x00"', b'"\xc0\xaf"',
    b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\\x41"', b'"\\u12"', b'"\\ufffe"',
    b'"\xef\xbf\xbf"', b'"\\ufdd0"', b'"no end', b"'a'", b"undefined", b"NaN", b"-Infinity", b"01",
    b"1.", b"+1", b"9007199254740993", b"1e400", b"tru", b"nul", b'"a" "b"', b'{"a":1,}', b"[1,]",
    b"[" * 8 + b"]" * 8, b"/* */ 1", b""))
BODIES = Deck((
    b"", b"  \n", b"null", b"true", b'"text"', b"1", b"[]", b'[{"name":"n"}]', b"{", b"}", b"{]",
    b"\x00", b"{} {}", b"{}\x00", b"{},", b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00", b"{,}",
    b"// {}\n{}", b"{}#", b'{"a"}', b'{"a":}', b"{a:1}", b"{null:1}", b"{'a':1}", b"name=n",
    b"<a/>", b"{}\xc2\xa0", b'{"\xff":1}', b'{"a":' + b"[" * 2000 + b"]" * 2000 + b"}"))


def broken_text(rng, kind, sent):
    return Illegal(dump(rng, {**sent, rng.choice(kind.members): Raw(STRINGS.draw(rng))}))


def broken_body(rng, kind, sent):
    return Illegal(BODIES.draw(rng))


def broken_ends(rng, kind, sent):
    body = dump(rng, sent).strip()
    return Illegal(rng.choice((body[:-1], body[1:], body[:-1] + b",}", body + b"x", body + b"\x00",
                               b"\xef\xbb\xbf" + body, body + b"{}")))


def too_much(rng, kind, sent):
    if rng.random() < 0.3:
        return Illegal(dump(rng, {f"m{i}": 1 for i in range(65)}))
    body = dump(rng, sent)
    return Illegal(body + b" " * (BODY_MAX + 1 - len(body)))


def twice(rng, kind, sent):
    """A name stands twice, the second time in escapes."""
    name = rng.choice(list(sent) or kind.members)
    plain, other = Writer(rng, 0, 0), Writer(rng, 0.3, rng.choice((0, 1)))
    value = plain.value(sent.get(name))
    first, second = plain.text(name) + b":" + value, other.text(name) + b":" + value
    return Illegal(b"{" + first + b"," + second + b"}")


def unknown(rng, kind, sent):
    first, last = kind.members[0], kind.members[-1]
    name = rng.choice(("unknown", "", "__proto__", "id", "created_at", "updated_at", "revision",
                       "project_id", "client_id", "permissions", "has_test_credentials", "lastFour",
                       "test_configured_at", "secretKey", first.upper(), first + " ",
                       last + "_masked"))
    return Illegal(dump(rng, {**sent, name: rng.choice((None, 1, "x", True, [], {}))}))


def wrong_type(rng, kind, sent):
    member = rng.choice(kind.members)
    values = [0, 1, -1.5, "true", True, False, [], ["a"], {}, {"a": 1}, [None]]
    if member == "is_active":
        values = [v for v in values if not isinstance(v, bool)]
    elif member == "flatPermissionsList":
        values = [v for v in values if v != []] + [[1], [[]], [True], "a"]
    else:
        values = [v for v in values if not isinstance(v, str)]
    if member not in kind.nullable:
        values += [None] * 3
    return Illegal(dump(rng, {**sent, member: rng.choice(values)}), member)


BAD_KEYS = ("", "x" * (KEY_MAX + 1), "é" * (KEY_MAX // 2) + "x", "a\nb", "a\r\nb", "\x01", "a\x7f",
            "tab\t")
BAD_URLS = (
    "http://api.checkbook.io", "ftp://api.checkbook.io", "api.checkbook.io", "//api.checkbook.io",
    "https:", "https://", "https:///v3", "https://:443", "https://user@api.checkbook.io",
    "https://a:b@api.checkbook.io", "https://api.checkbook.io#f", "https://api.checkbook.io/#",
    "https://api.checkbook.io\\v3", "https://api.checkbook.io/\n", "https://api.checkbook.io/\x7f",
    "https://api.check book.io", "https://10.0.0.1", "https://127.0.0.1/", "https://127.1",
    "https://2130706433", "https://0x7f.0.0.1", "https://0177.0.0.1", "https://192.168.1.1:443",
    "https://172.16.0.1", "https://172.31.255.255", "https://169.254.169.254/latest",
    "https://0.0.0.0", "https://[::1]", "https://[fe80::1]", "https://[fc00::1]",
    "https://[fd12::1]:443", "https://[::ffff:10.0.0.1]", "https://[::]", "",
    "https://api.checkbook.io:0", "https://api.checkbook.io:99999", "https://api.checkbook.io:x",
    " https://api.checkbook.io", "https://api.checkbook.io ",
    "https://api.checkbook.io/" + "a" * URL_MAX, "https://ap\u0456.checkbook.io",
    "https://api..checkbook.io", "https://[::1", "https://a%2eb.io", "javascript:alert(1)",
    "https://api.checkbook.io/%zz")
BAD_TIMES = (
    "2099-02-30T00:00:00Z", "2099-02-29T00:00:00Z", "2100-02-29T00:00:00Z", "2099-13-01T00:00:00Z",
    "2099-00-01T00:00:00Z", "2099-04-31T00:00:00Z", "2099-01-00T00:00:00Z", "2099-01-01T24:00:00Z",
    "2099-01-01T00:60:00Z", "2099-01-01T00:00:61Z", "2099-01-01T00:00:60Z", "2099-01-01T00:00:00",
    "2099-01-01", "2099-01-01T00:00Z", "2099-01-01T00:00:00.Z", "2099-01-01T00:00:00,5Z",
    "2099-01-01T00:00:00+24:00", "2099-01-01T00:00:00+00:60", "2099-01-01T00:00:00+0000",
    "2099-1-1T00:00:00Z", "20990101T000000Z", "10000-01-01T00:00:00Z", "+2099-01-01T00:00:00Z",
    "9999-12-31T23:59:59-00:01", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z",
    "2016-12-31T23:59:60Z", "2020-01-01T00:00:00Z", "never", "null", "string", "4102444800",
    " 2099-01-01T00:00:00Z", "2099-01-01T00:00:00Z ", "2099-01-01T00:00:00ZZ",
    "2099-W01-1T00:00:00Z", "\uff12099-01-01T00:00:00Z")
WRONG_PREFIXES = {  # mode and other mode are put in
    "secret_key": ("sk_{1}_", "rk_{1}_", "pk_", "pk_{0}_", "pk_{1}_", "whsec_"),
    "publishable_key": ("pk_{1}_", "sk_", "sk_{0}_", "rk_{0}_", "rk_{1}_", "sk_org_", "whsec_"),
    "webhook_secret": ("sk_{0}_", "rk_{1}_", "pk_", "pk_{0}_", "sk_org_")}


def wrong_prefixes():
    for mode, other in (("test", "live"), ("live", "test")):
        for kind, prefixes in WRONG_PREFIXES.items():
            for prefix in prefixes:
                yield f"{mode}_{kind}", prefix.format(mode, other) + "x7Rk2Vd9Xw4242"


def own_mask(_rng, record, member, _now, _ids):
    """What a form sends back that was filled from an answer."""
    value = record.values[member]
    return "" if value is None else mask(value)


def past(rng, _record, _member, now, _ids):
    return rfc3339(rng, now - rng.choice((0, 0, 1, rng.randrange(10**9))))


def bad_list(rng, _record, _member, _now, ids):
    good = rng.sample(ids, 3)
    bad = rng.choice(("", "nobody:has", good[0].upper() + "?", good[0] + " ", good[0][:-1] + "\n",
                      "*", "p" * 300, "pérm"))
    return rng.choice((good + [bad], [bad] + good, [bad], good + [None], good + [1], good + [good]))


# Member and bad value, or a function that makes one.
FAULTS = {
    "checkbook": Deck([("base_url", url) for url in BAD_URLS] +
                      [(m, key) for m in ("publishable_key", "secret_key") for key in BAD_KEYS]),
    "stripe": Deck([*wrong_prefixes()] +
                   [(f"{mode}_{kind}", fault) for mode in ("test", "live") for kind in STRIPE
                    for fault in (own_mask, own_mask, "a\nb")] +
                   [("test_webhook_secret", key) for key in BAD_KEYS]),
    "service_credential": Deck(
        [("name", bad) for bad in ("", None, "a" * 256, "😀" * 256, "a\nb", "\x7f", "\x01")] +
        [("description", bad) for bad in ("d" * 501, "😀" * 501, "\n" * 501)]),
    "api_key": Deck([("expiresAt", bad) for bad in BAD_TIMES + (past,) * 4] +
                    [("description", bad)
                     for bad in ("d" * 2001, "😀" * 2001, "\n" * 2001, None)] +
                    [("flatPermissionsList", bad) for bad in (bad_list,) * 4]),
}
ANY_KIND = (broken_text, broken_text, broken_body, broken_body, broken_ends, too_much, twice,
            unknown, wrong_type, wrong_type)


def illegal(rng, record, now, sent, ids):
    """sent: a legal body's members, into which one fault is put. ids: the whole catalogue's."""
    kind = record.kind
    if rng.random() < 0.35:
        return rng.choice(ANY_KIND)(rng, kind, sent)
    if kind.in_body and rng.random() < 0.1:
        member = rng.choice(kind.in_body)
        return Illegal(dump(rng, {k: v for k, v in sent.items() if k != member}), member)
    member, value = FAULTS[kind.name].draw(rng)
    if callable(value):
        value = value(rng, record, member, now, ids)
    return Illegal(dump(rng, {**sent, member: value}), member)


def illegal_create(rng, kind, sent):
    """Of a record that is not there yet: its creation may also lack what it needs."""
    if kind.required and rng.random() < 0.5:
        member = rng.choice(kind.required)
        return Illegal(dump(rng, {k: v for k, v in sent.items() if k != member}), member)
    return rng.choice((broken_text, broken_body, twice, wrong_type))(rng, kind, sent)

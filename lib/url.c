/* SPDX-License-Identifier: MIT
 *
 * The base URL of a service to call, and the rules that keep it from pointing inwards.
 */
#include "url.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct span {
    const char *ptr;
    size_t len;
};

struct authority {
    struct span host; /* an IPv6 literal with its brackets */
    uint32_t port;    /* 0 = not given */
};

enum { ADDRESS_LEN = 16, HOST_MAX = 253, LABEL_MAX = 63 };

/* ---- spans --------------------------------------------------------------------------------------
 */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* Value of a hex digit, 16 for any other character. */
static uint32_t hex_value(char c)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    const char *at = memchr(digits, c, sizeof digits - 1);

    return at == NULL ? 16 : (uint32_t)(at - digits) % 16;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static struct span after(struct span s, size_t count)
{
    const struct span rest = {s.ptr + count, s.len - count};

    return rest;
}

static struct span first(struct span s, size_t count)
{
    s.len = count;
    return s;
}

/* Where the first character of set stands, or the length. */
static size_t find(struct span s, const char *set)
{
    size_t at = 0;

    while (at < s.len && memchr(set, s.ptr[at], strlen(set)) == NULL)
        at++;
    return at;
}

static bool same(struct span a, struct span b)
{
    size_t at = 0;

    while (at < a.len && at < b.len && lower(a.ptr[at]) == lower(b.ptr[at]))
        at++;
    return at == a.len && at == b.len;
}

static struct span span_of(const char *text)
{
    const struct span s = {text, strlen(text)};

    return s;
}

static bool starts_with(struct span s, const char *text)
{
    const size_t len = strlen(text);

    return s.len >= len && same(first(s, len), span_of(text));
}

/* ---- form ---------------------------------------------------------------------------------------
 */

/* What no byte of the whole URL may be, or NULL. */
static const char *fault_of_byte(struct span s)
{
    const unsigned char c = (unsigned char)s.ptr[0];

    if (c < 0x20 || c == 0x7f)
        return "a control character in the URL";
    if (c > 0x7f)
        return "a character that is not ASCII in the URL";
    if (c == ' ')
        return "a space in the URL";
    if (c == '\\')
        return "a backslash in the URL";
    if (c == '#')
        return "a fragment in the URL";
    if (c == '%' && (s.len < 3 || hex_value(s.ptr[1]) > 15 || hex_value(s.ptr[2]) > 15))
        return "a percent sign without two hex digits in the URL";
    if (memchr("\"<>^`{|}", c, 8) != NULL)
        return "a character that a URL cannot hold";
    return NULL;
}

static const char *fault_of_bytes(struct span url)
{
    const char *fault = NULL;

    for (size_t i = 0; i < url.len && fault == NULL; i++)
        fault = fault_of_byte(after(url, i));
    return fault;
}

/* Digits without leading zeros, 1..65535: other spellings are read differently by different
   programs. */
static bool read_port(struct span s, uint32_t *port)
{
    if (s.len == 0 || s.len > 5 || s.ptr[0] == '0')
        return false;
    *port = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (!is_digit(s.ptr[i]))
            return false;
        *port = *port * 10 + (uint32_t)(s.ptr[i] - '0');
    }
    return *port <= 65535;
}

/* Labels of 1..63 letters, digits, hyphens and underscores; one dot may end the name. */
static const char *fault_of_name(struct span host)
{
    if (host.len - (host.ptr[host.len - 1] == '.') > HOST_MAX)
        return "the host is too long";
    for (size_t i = 0; i < host.len; i++) {
        const char c = host.ptr[i];

        if (c == '%')
            return "a percent sign in the host";
        if (!is_letter(c) && !is_digit(c) && memchr("-_.", c, 3) == NULL)
            return "a character that a host cannot hold";
    }
    for (struct span rest = host; rest.len > 0;) {
        const size_t len = find(rest, ".");

        if (len == 0 || len > LABEL_MAX)
            return "an empty or too long label in the host";
        rest = after(rest, len == rest.len ? len : len + 1);
    }
    return NULL;
}

/* [..] as 16 bytes. Versions to come (v1.x) and zones (%eth0) are not addresses that we can judge.
 */
static bool read_ipv6(struct span host, uint8_t out[ADDRESS_LEN])
{
    char text[INET6_ADDRSTRLEN] = {0};

    if (host.len < 4 || host.len - 2 >= sizeof text || host.ptr[host.len - 1] != ']')
        return false;
    memcpy(text, host.ptr + 1, host.len - 2);
    return inet_pton(AF_INET6, text, out) == 1;
}

static const char *fault_of_host(struct span host)
{
    uint8_t address[ADDRESS_LEN];

    if (host.len == 0)
        return "the URL has no host";
    if (host.ptr[0] != '[')
        return fault_of_name(host);
    return read_ipv6(host, address) ? NULL : "the host is not a valid IPv6 address";
}

/* Splits host and port and checks the form of both. */
static const char *split_authority(struct span s, struct authority *out)
{
    size_t host_len = s.len > 0 && s.ptr[0] == '[' ? find(s, "]") + 1 : find(s, ":");

    if (find(s, "@") < s.len)
        return "user information in the URL";
    if (host_len > s.len)
        host_len = s.len; /* a bracket that is never closed: not an address */
    out->host = first(s, host_len);
    out->port = 0;
    if (host_len < s.len &&
        (s.ptr[host_len] != ':' || !read_port(after(s, host_len + 1), &out->port)))
        return "the port is not a number from 1 to 65535";
    return fault_of_host(out->host);
}

/* ---- addresses ----------------------------------------------------------------------------------
 */

/* IANA's special-purpose registries and the multicast blocks. An IPv4 block stands as v4-mapped, so
   that one search serves both. Blocks that the registries call globally reachable are left out;
   those inside 2001::/23 and 192.0.0.0/24 are not, as no service lives there. */
#define V4(a, b, c, d)                                                                             \
    {                                                                                              \
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, (a), (b), (c), (d)                               \
    }

static const struct block {
    uint8_t prefix[ADDRESS_LEN];
    uint8_t bits;
    const char *fault;
} blocks[] = {
    {V4(0, 0, 0, 0), 96 + 8, "the host is an unspecified address"},
    {V4(10, 0, 0, 0), 96 + 8, "the host is a private address"},
    {V4(100, 64, 0, 0), 96 + 10, "the host is a shared address"},
    {V4(127, 0, 0, 0), 96 + 8, "the host is a loopback address"},
    {V4(169, 254, 0, 0), 96 + 16, "the host is a link-local address"},
    {V4(172, 16, 0, 0), 96 + 12, "the host is a private address"},
    {V4(192, 0, 0, 0), 96 + 24, "the host is a reserved address"},
    {V4(192, 0, 2, 0), 96 + 24, "the host is a documentation address"},
    {V4(192, 88, 99, 0), 96 + 24, "the host is a reserved address"},
    {V4(192, 168, 0, 0), 96 + 16, "the host is a private address"},
    {V4(198, 18, 0, 0), 96 + 15, "the host is a benchmarking address"},
    {V4(198, 51, 100, 0), 96 + 24, "the host is a documentation address"},
    {V4(203, 0, 113, 0), 96 + 24, "the host is a documentation address"},
    {V4(224, 0, 0, 0), 96 + 4, "the host is a multicast address"},
    {V4(240, 0, 0, 0), 96 + 4, "the host is a reserved address"},
    {{0}, 128, "the host is an unspecified address"},
    {{[15] = 1}, 128, "the host is a loopback address"},
    {{0x20, 0x01}, 23, "the host is a reserved address"},
    {{0x20, 0x01, 0x0d, 0xb8}, 32, "the host is a documentation address"},
    {{0x3f, 0xff}, 20, "the host is a documentation address"},
    {{0xfc}, 7, "the host is a unique-local address"},
    {{0xfe, 0x80}, 10, "the host is a link-local address"},
    {{0xff}, 8, "the host is a multicast address"},
};

/* Where an IPv6 address carries an IPv4 address that the traffic ends at. */
static const struct carrier {
    uint8_t prefix[ADDRESS_LEN];
    uint8_t bits, at;
} carriers[] = {
    {V4(0, 0, 0, 0), 96, 12},        /* v4-mapped */
    {{0, 0x64, 0xff, 0x9b}, 96, 12}, /* NAT64 */
    {{0x20, 0x02}, 16, 2},           /* 6to4 */
};

static const uint8_t v4_mapped[ADDRESS_LEN] = V4(0, 0, 0, 0);

static bool begins_with_bits(const uint8_t *address, const uint8_t *prefix, size_t bits)
{
    const size_t bytes = bits / 8;
    const unsigned mask = 0xffu << (8 - bits % 8) & 0xffu; /* 0 if the bits are whole bytes */

    return memcmp(address, prefix, bytes) == 0 &&
           (mask == 0 || ((address[bytes] ^ prefix[bytes]) & mask) == 0);
}

static const char *fault_of_address(const uint8_t address[ADDRESS_LEN])
{
    static const uint8_t global_unicast[ADDRESS_LEN] = {0x20};
    uint8_t judged[ADDRESS_LEN];
    bool routable = begins_with_bits(address, global_unicast, 3);
    bool carried = false;

    memcpy(judged, v4_mapped, sizeof judged);
    for (size_t i = 0; i < sizeof carriers / sizeof *carriers && !carried; i++) {
        carried = begins_with_bits(address, carriers[i].prefix, carriers[i].bits);
        if (carried)
            memcpy(judged + 12, address + carriers[i].at, 4);
    }
    if (!carried)
        memcpy(judged, address, sizeof judged);
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        if (begins_with_bits(judged, blocks[i].prefix, blocks[i].bits))
            return blocks[i].fault;
    }
    return carried || routable ? NULL : "the host is a reserved address";
}

/* One number of an IPv4 address as inet_aton() reads it: 0x is hex, a leading 0 octal if asked. */
static bool read_v4_number(struct span s, bool octal, uint32_t *out)
{
    uint64_t value = 0;
    uint32_t base = 10;

    if (starts_with(s, "0x")) {
        base = 16;
        s = after(s, 2);
    } else if (octal && s.len > 1 && s.ptr[0] == '0') {
        base = 8;
        s = after(s, 1);
    }
    for (size_t i = 0; i < s.len; i++) {
        const uint32_t digit = hex_value(s.ptr[i]);

        value = value * base + digit;
        if (digit >= base || value > UINT32_MAX)
            return false;
    }
    *out = (uint32_t)value;
    return s.len > 0;
}

/* One to four numbers, the last of which fills the bytes that are left. */
static bool read_ipv4(struct span host, bool octal, uint8_t out[ADDRESS_LEN])
{
    uint32_t address = 0, number = 0;
    size_t left = 4;

    for (bool last = false; !last; left--) {
        const size_t len = find(host, ".");

        last = len == host.len;
        if (left == 0 || !read_v4_number(first(host, len), octal, &number))
            return false;
        if (last ? (uint64_t)number >> (8 * left) != 0 : number > 255)
            return false;
        address |= last ? number : number << (8 * (left - 1));
        host = after(host, last ? len : len + 1);
    }
    memcpy(out, v4_mapped, ADDRESS_LEN);
    for (size_t i = 0; i < 4; i++)
        out[12 + i] = (uint8_t)(address >> (24 - 8 * i) & 0xff);
    return true;
}

/* Whether resolvers take the name for an IPv4 address: its last label is a number. */
static bool ends_in_number(struct span host)
{
    size_t at = host.len;
    struct span label;
    bool hex;

    while (at > 0 && host.ptr[at - 1] != '.')
        at--;
    label = after(host, at);
    hex = starts_with(label, "0x");
    for (size_t i = hex ? 2 : 0; i < label.len; i++) {
        if (hex ? hex_value(label.ptr[i]) > 15 : !is_digit(label.ptr[i]))
            return false;
    }
    return true;
}

/* A leading zero is octal to some programs and nothing to others: no reading may be inward. */
static const char *fault_of_ipv4(struct span host)
{
    uint8_t address[ADDRESS_LEN];
    const char *fault;

    if (!read_ipv4(host, true, address))
        return "the host is not a valid IPv4 address";
    fault = fault_of_address(address);
    if (fault == NULL && read_ipv4(host, false, address))
        fault = fault_of_address(address);
    return fault;
}

static bool is_local_name(struct span host)
{
    static const char *const names[] = {"localhost",   "local",         "internal",
                                        "localdomain", "ip6-localhost", "ip6-loopback"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct span name = span_of(names[i]);
        const size_t before = host.len < name.len ? 0 : host.len - name.len;

        if (same(after(host, before), name) && (before == 0 || host.ptr[before - 1] == '.'))
            return true;
    }
    return false;
}

/* What makes a well-formed host point inwards, or NULL. */
static const char *fault_of_target(struct span host)
{
    uint8_t address[ADDRESS_LEN];

    if (read_ipv6(host, address))
        return fault_of_address(address);
    if (host.ptr[host.len - 1] == '.')
        host.len--; /* the root: the same name */
    if (ends_in_number(host))
        return fault_of_ipv4(host);
    return is_local_name(host) ? "the host is a local name" : NULL;
}

/* ---- the whole ----------------------------------------------------------------------------------
 */

static bool is_listed(const struct authority *to, uint32_t scheme_port, const char *const *allow,
                      size_t allow_count)
{
    const uint32_t port = to->port != 0 ? to->port : scheme_port;
    struct authority entry;

    for (size_t i = 0; i < allow_count; i++) {
        if (allow[i] != NULL && split_authority(span_of(allow[i]), &entry) == NULL &&
            same(entry.host, to->host) && (entry.port == 0 || entry.port == port))
            return true;
    }
    return false;
}

const char *cs_url_check(const char *ptr, size_t len, const char *const *allow, size_t allow_count)
{
    const bool listed_only = allow != NULL && allow_count > 0;
    struct span rest = {ptr, len};
    struct authority to;
    const char *fault = fault_of_bytes(rest);
    uint32_t scheme_port = 443;

    if (fault != NULL)
        return fault;
    if (starts_with(rest, "https://")) {
        rest = after(rest, strlen("https://"));
    } else if (listed_only && starts_with(rest, "http://")) {
        scheme_port = 80;
        rest = after(rest, strlen("http://"));
    } else {
        return listed_only ? "the URL does not start with https:// or http://"
                           : "the URL does not start with https://";
    }
    len = find(rest, "/?");
    fault = split_authority(first(rest, len), &to);
    if (fault != NULL)
        return fault;
    if (find(after(rest, len), "[]") < rest.len - len)
        return "a character that a URL cannot hold";
    if (listed_only)
        return is_listed(&to, scheme_port, allow, allow_count) ? NULL : "the host is not allowed";
    return fault_of_target(to.host);
}

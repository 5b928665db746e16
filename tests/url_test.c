/* SPDX-License-Identifier: MIT
 *
 * Base URLs: RFC 3986's forms, IANA's special-purpose blocks edge by edge, and every way to write
 * an inward address that resolvers understand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <cmocka.h>

#include "url.h"

#define COUNT(list) (sizeof(list) / sizeof *(list))

static uint64_t seed;

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Checks a copy without a NUL, so that a read past the end is seen. */
static const char *check_with(const char *url, const char *const *allow, size_t allow_count)
{
    const size_t len = strlen(url);
    char *copy = malloc(len == 0 ? 1 : len);
    const char *fault;

    assert_non_null(copy);
    memcpy(copy, url, len);
    fault = cs_url_check(copy, len, allow, allow_count);
    free(copy);
    assert_true(fault == NULL || (fault[0] != '\0' && strchr(fault, '\n') == NULL));
    return fault;
}

static const char *check(const char *url)
{
    return check_with(url, NULL, 0);
}

static const char *check_host(const char *host)
{
    char url[400];

    assert_true(snprintf(url, sizeof url, "https://%s/v3", host) < (int)sizeof url);
    return check(url);
}

static void expect(const char *url, const char *fault, const char *part)
{
    if (part == NULL && fault != NULL)
        fail_msg("%s: refused: %s", url, fault);
    if (part != NULL && fault == NULL)
        fail_msg("%s: accepted", url);
    if (part != NULL && strstr(fault, part) == NULL)
        fail_msg("%s: '%s' does not speak of '%s'", url, fault, part);
}

static void good_urls(void **state)
{
    static const char *const urls[] = {
        "https://api.checkbook.io",
        "https://api.checkbook.io/",
        "https://api.checkbook.io/v3",
        "HTTPS://API.CHECKBOOK.IO/v3",
        "HttpS://api.checkbook.io",
        "https://api.checkbook.io:443/v3",
        "https://api.checkbook.io:1",
        "https://api.checkbook.io:65535?x",
        "https://api.checkbook.io?a=b/c?d",
        "https://api.checkbook.io./v3",
        "https://a/b/c/d;p?q",
        "https://a",
        "https://example.com/~u/a.b-c_d!$&'()*+,;=:@/%7Euser%C3%A4",
        "https://example.com/?a@b:c",
        "https://xn--bcher-kva.example/",
        "https://under_score.example.com",
        "https://1e100.net",
        "https://0xg.example",
        "https://1.2.3.example",
        "https://example.0xfg",
        "https://internal.example.com",
        "https://localhost.example.com",
        "https://notlocalhost",
        "https://mylocal",
        "https://x.notinternal",
        /* public addresses, however written */
        "https://8.8.8.8",
        "https://8.8.8.8./",
        "https://134744072",
        "https://0x08080808",
        "https://0x8.0x8.0x8.0x8",
        "https://8.526344",
        "https://8.8.2056",
        "https://0020.8.8.8",
        "https://[2606:4700:4700::1111]",
        "https://[2606:4700:4700::1111]:8443/x",
        "https://[::ffff:8.8.8.8]",
        "https://[::FFFF:808:808]",
        "https://[64:ff9b::8.8.8.8]",
        "https://[2002:808:808::1]",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(urls); i++)
        expect(urls[i], check(urls[i]), NULL);
    expect("shorter", cs_url_check("https://good.example%%%", 20, NULL, 0), NULL);
}

static void bad_forms(void **state)
{
    static const struct {
        const char *url, *part;
    } cases[] = {
        {"", "https"},
        {"https", "https"},
        {"https:", "https"},
        {"https:/", "https"},
        {"https://", "no host"},
        {"https:///v3", "no host"},
        {"https://?x", "no host"},
        {"https://:443/", "no host"},
        {" https://example.com", "space"},
        {"https://example.com ", "space"},
        /* RFC 3986 sections 1.1.2 and 5.4: other schemes and relative references */
        {"ftp://ftp.is.co.za/rfc/rfc1808.txt", "https"},
        {"http://www.ietf.org/rfc/rfc2396.txt", "https"},
        {"ldap://[2001:db8::7]/c=GB?objectClass?one", "https"},
        {"mailto:John.Doe@example.com", "https"},
        {"tel:+1-816-555-1212", "https"},
        {"urn:oasis:names:specification:docbook:dtd:xml:4.1.2", "https"},
        {"file:///etc/passwd", "https"},
        {"httpss://example.com", "https"},
        {"https.://example.com", "https"},
        {"g:h", "https"},
        {"g", "https"},
        {"./g", "https"},
        {"/g", "https"},
        {"//g", "https"},
        {"?y", "https"},
        {"#s", "fragment"},
        {"../../g", "https"},
        {"https:g", "https"},
        {"https:example.com", "https"},
        /* characters */
        {"https://example.com/a b", "space"},
        {"https://example.com/\t", "control"},
        {"https://example.com/\r\nHost: x", "control"},
        {"https://example.com/\x7f", "control"},
        {"https://example.com/#f", "fragment"},
        {"https://example.com#", "fragment"},
        {"https://example.com\\@10.0.0.1", "backslash"},
        {"https:\\\\example.com", "backslash"},
        {"https://example.com/\xc3\xa4", "ASCII"},
        {"https://b\303\274cher.example/", "ASCII"},
        {"https://example.com/%", "percent"},
        {"https://example.com/%4", "percent"},
        {"https://example.com/%zz", "percent"},
        {"https://example.com/%4g", "percent"},
        {"https://example.com/%g4", "percent"},
        {"https://example.com/?%", "percent"},
        {"https://example.com/{id}", "cannot hold"},
        {"https://example.com/<x>", "cannot hold"},
        {"https://example.com/\"", "cannot hold"},
        {"https://example.com/^", "cannot hold"},
        {"https://example.com/`", "cannot hold"},
        {"https://example.com/|", "cannot hold"},
        {"https://example.com/[1]", "cannot hold"},
        {"https://example.com/?a[]=1", "cannot hold"},
        /* user information */
        {"https://user@example.com", "user information"},
        {"https://user:pw@example.com", "user information"},
        {"https://@example.com", "user information"},
        {"https://example.com:443@10.0.0.1", "user information"},
        {"https://example.com@[::1]/", "user information"},
        /* ports */
        {"https://example.com:", "port"},
        {"https://example.com:/", "port"},
        {"https://example.com:0", "port"},
        {"https://example.com:00", "port"},
        {"https://example.com:0443", "port"},
        {"https://example.com:65536", "port"},
        {"https://example.com:99999", "port"},
        {"https://example.com:100000", "port"},
        {"https://example.com:4294967739", "port"},
        {"https://example.com:18446744073709552059", "port"},
        {"https://example.com:-1", "port"},
        {"https://example.com:+1", "port"},
        {"https://example.com:44a", "port"},
        {"https://example.com:0x1bb", "port"},
        {"https://example.com:443:443", "port"},
        {"https://example.com:%34", "port"},
        {"https://::1/", "port"},
        {"https://[2606:4700::1]:", "port"},
        {"https://[2606:4700::1]443", "port"},
        {"https://[2606:4700::1].example.com", "port"},
        /* host names */
        {"https://.", "label"},
        {"https://..", "label"},
        {"https://.example.com", "label"},
        {"https://example..com", "label"},
        {"https://example.com../", "label"},
        {"https://8.8.8.8..", "label"},
        {"https://ex%61mple.com", "percent sign in the host"},
        {"https://127%2e0.0.1", "percent sign in the host"},
        {"https://%31%32%37.1", "percent sign in the host"},
        {"https://example.com%00.evil", "percent sign in the host"},
        {"https://exa!mple.com", "host cannot hold"},
        {"https://a,b.example", "host cannot hold"},
        {"https://~.example", "host cannot hold"},
        {"https://(x)/", "host cannot hold"},
        {"https://*.example.com", "host cannot hold"},
        {"https://exa[mple.com", "host cannot hold"},
        {"https://example.com]", "host cannot hold"},
        /* IPv6 literals that are none */
        {"https://[", "IPv6"},
        {"https://[]", "IPv6"},
        {"https://[/", "IPv6"},
        {"https://[::1", "IPv6"},
        {"https://[:]", "IPv6"},
        {"https://[2606:4700:::1]", "IPv6"},
        {"https://[2606::4700::1]", "IPv6"},
        {"https://[1:2:3:4:5:6:7]", "IPv6"},
        {"https://[1:2:3:4:5:6:7:8:9]", "IPv6"},
        {"https://[2606:47000::1]", "IPv6"},
        {"https://[2606:g::1]", "IPv6"},
        {"https://[8.8.8.8]", "IPv6"},
        {"https://[::ffff:8.8.8]", "IPv6"},
        {"https://[::ffff:256.8.8.8]", "IPv6"},
        {"https://[::ffff:0x8.8.8.8]", "IPv6"},
        {"https://[v1.fe80::a+en1]", "IPv6"},
        {"https://[fe80::1%25eth0]", "IPv6"},
        {"https://[2606:4700::1%251]", "IPv6"},
        {"https://[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0001]", "IPv6"},
        {"https://[[2606:4700::1]]", "port"},
        {"https://[example.com]", "IPv6"},
        /* numbers that are no address */
        {"https://256.8.8.8", "IPv4"},
        {"https://8.8.8.256", "IPv4"},
        {"https://8.8.65536", "IPv4"},
        {"https://8.16777216", "IPv4"},
        {"https://4294967296", "IPv4"},
        {"https://0x100000000", "IPv4"},
        {"https://18446744073709551617", "IPv4"},
        {"https://1.2.3.4.5", "IPv4"},
        {"https://8.8.8.8.0", "IPv4"},
        {"https://8.8.8.8.0.0", "IPv4"},
        {"https://08.8.8.8", "IPv4"},
        {"https://8.8.8.09", "IPv4"},
        {"https://0x", "IPv4"},
        {"https://8.8.8.0x", "IPv4"},
        {"https://example.1", "IPv4"},
        {"https://example.com.0x7f", "IPv4"},
        {"https://1e3.8", "IPv4"},
    };
    static const char nul[] = "https://example.com\0.evil";

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++)
        expect(cases[i].url, check(cases[i].url), cases[i].part);
    assert_non_null(cs_url_check(nul, sizeof nul - 1, NULL, 0));
    assert_non_null(cs_url_check("https://example.com", 20, NULL, 0)); /* its NUL counted in */
    assert_non_null(cs_url_check(NULL, 0, NULL, 0));
}

static void every_byte_of_a_path(void **state)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "-._~!$&'()*+,;=:@/?";

    (void)state;
    for (int c = 0; c < 256; c++) {
        char url[] = "https://example.com/?/z";
        const bool in = memchr(allowed, c, sizeof allowed - 1) != NULL;

        url[sizeof url - 2] = (char)c;
        assert_int_equal(cs_url_check(url, sizeof url - 1, NULL, 0) == NULL, in);
    }
}

static void every_byte_of_a_host(void **state)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "-_./?"; /* the last two end it */

    (void)state;
    for (int c = 0; c < 256; c++) {
        char url[] = "https://a?b.example";
        const bool in = memchr(allowed, c, sizeof allowed - 1) != NULL;

        url[9] = (char)c;
        assert_int_equal(cs_url_check(url, sizeof url - 1, NULL, 0) == NULL, in);
    }
}

static void long_names(void **state)
{
    char label[80], host[320];

    (void)state;
    memset(label, 'a', sizeof label);
    assert_true(snprintf(host, sizeof host, "%.63s.example", label) > 0);
    expect(host, check_host(host), NULL);
    assert_true(snprintf(host, sizeof host, "%.64s.example", label) > 0);
    expect(host, check_host(host), "label");
    assert_true(
        snprintf(host, sizeof host, "%.63s.%.63s.%.63s.%.61s", label, label, label, label) == 253);
    expect(host, check_host(host), NULL);
    strcat(host, ".");
    expect(host, check_host(host), NULL);
    assert_true(
        snprintf(host, sizeof host, "%.63s.%.63s.%.63s.%.62s", label, label, label, label) == 254);
    expect(host, check_host(host), "too long");
}

static void local_names(void **state)
{
    static const char *const hosts[] = {
        "localhost",
        "LOCALHOST",
        "LocalHost.",
        "localhost.",
        "localhost.localdomain", /* as /etc/hosts has them */
        "ip6-localhost",
        "ip6-loopback",
        "localhost:8443",
        "x.localhost",
        "x.y.localhost.",
        "printer.local",
        "printer.LOCAL.",
        "local",
        "internal",
        "metadata.google.internal",
        "metadata.google.internal.",
        "ip-10-0-0-1.ec2.internal",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(hosts); i++)
        expect(hosts[i], check_host(hosts[i]), "local name");
}

static void disguises(void **state)
{
    static const struct {
        const char *host, *part;
    } cases[] = {
        /* loopback */
        {"127.0.0.1", "loopback"},
        {"127.0.0.1.", "loopback"},
        {"127.0.0.1:8443", "loopback"},
        {"127.1", "loopback"},
        {"127.0.1", "loopback"},
        {"127.65535", "loopback"},
        {"127.16777215", "loopback"},
        {"0x7f.1", "loopback"},
        {"0X7F.0x0.0.0x1", "loopback"},
        {"0x7f000001", "loopback"},
        {"0x7F000001.", "loopback"},
        {"0x000000000007f000001", "loopback"},
        {"2130706433", "loopback"},
        {"017700000001", "loopback"},
        {"0000017700000001", "loopback"},
        {"0177.0.0.1", "loopback"},
        {"0177.1", "loopback"},
        {"00000177.0x0.1", "loopback"},
        {"127.000.000.001", "loopback"},
        {"0127.0.0.1", "loopback"}, /* 87.0.0.1 as octal, but not to all */
        {"127.0.0.0x1", "loopback"},
        {"[::1]", "loopback"},
        {"[::1]:443", "loopback"},
        {"[0:0:0:0:0:0:0:1]", "loopback"},
        {"[0000:0000:0000:0000:0000:0000:0000:0001]", "loopback"},
        {"[::0.0.0.1]", "loopback"},
        {"[::ffff:127.0.0.1]", "loopback"},
        {"[::ffff:7f00:1]", "loopback"},
        {"[0:0:0:0:0:FFFF:7F00:0001]", "loopback"},
        {"[64:ff9b::7f00:1]", "loopback"},
        {"[64:ff9b::127.0.0.1]", "loopback"},
        {"[2002:7f00:1::]", "loopback"},
        {"[2002:7f00:0001:ffff::8.8.8.8]", "loopback"},
        /* private */
        {"10.0.0.1", "private"},
        {"10.1", "private"},
        {"012.0.0.1", "private"},
        {"010.0.0.1", "private"}, /* 8.0.0.1 as octal, but not to all */
        {"0xa.0.0.1", "private"},
        {"167772161", "private"},
        {"172.16.0.1", "private"},
        {"172.31.255.255", "private"},
        {"0xAC.0x10.1", "private"},
        {"192.168.1.1", "private"},
        {"192.168.257", "private"},
        {"0300.0250.1", "private"},
        {"3232235777", "private"},
        {"[::ffff:10.0.0.1]", "private"},
        {"[::ffff:a00:1]", "private"},
        {"[::ffff:192.168.0.1]", "private"},
        {"[64:ff9b::10.0.0.1]", "private"},
        {"[2002:a00:1::1]", "private"},
        {"[2002:c0a8:101::]", "private"},
        /* link-local, the clouds' metadata service */
        {"169.254.169.254", "link-local"},
        {"169.254.169.254.", "link-local"},
        {"2852039166", "link-local"},
        {"0xa9fea9fe", "link-local"},
        {"0251.0376.0251.0376", "link-local"},
        {"169.254.43518", "link-local"},
        {"169.16689662", "link-local"},
        {"[::ffff:169.254.169.254]", "link-local"},
        {"[::ffff:a9fe:a9fe]", "link-local"},
        {"[64:ff9b::a9fe:a9fe]", "link-local"},
        {"[2002:a9fe:a9fe::]", "link-local"},
        {"[fe80::1]", "link-local"},
        {"[fd00:ec2::254]", "unique-local"},
        /* unspecified */
        {"0", "unspecified"},
        {"0.", "unspecified"},
        {"00", "unspecified"},
        {"0x0", "unspecified"},
        {"0.0.0.0", "unspecified"},
        {"0.0", "unspecified"},
        {"[::]", "unspecified"},
        {"[0::0]", "unspecified"},
        {"[::ffff:0:0]", "unspecified"},
        {"[64:ff9b::]", "unspecified"},
        /* fullwidth and other digits, fullwidth dots */
        {"\xef\xbc\x91\xef\xbc\x92\xef\xbc\x97.0.0.1", "ASCII"},
        {"\xe2\x91\xa0\xe2\x91\xa1\xe2\x91\xa6.0.0.1", "ASCII"},
        {"127\343\200\2020\343\200\2020\343\200\2021", "ASCII"},
        {"[::\xef\xbc\x91]", "ASCII"},
        {"local\xc2\xadhost", "ASCII"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++)
        expect(cases[i].host, check_host(cases[i].host), cases[i].part);
}

/* IANA's special-purpose registries: just before, first, last, just behind. NULL: the neighbour is
   no matter of this block. */
static void special_purpose_blocks(void **state)
{
    static const struct {
        const char *before, *first, *last, *behind, *part;
    } blocks[] = {
        {NULL, "0.0.0.0", "0.255.255.255", "1.0.0.0", "unspecified"},
        {"9.255.255.255", "10.0.0.0", "10.255.255.255", "11.0.0.0", "private"},
        {"100.63.255.255", "100.64.0.0", "100.127.255.255", "100.128.0.0", "shared"},
        {"126.255.255.255", "127.0.0.0", "127.255.255.255", "128.0.0.0", "loopback"},
        {"169.253.255.255", "169.254.0.0", "169.254.255.255", "169.255.0.0", "link-local"},
        {"172.15.255.255", "172.16.0.0", "172.31.255.255", "172.32.0.0", "private"},
        {"191.255.255.255", "192.0.0.0", "192.0.0.255", "192.0.1.0", "reserved"},
        {"192.0.1.255", "192.0.2.0", "192.0.2.255", "192.0.3.0", "documentation"},
        {"192.88.98.255", "192.88.99.0", "192.88.99.255", "192.88.100.0", "reserved"},
        {"192.167.255.255", "192.168.0.0", "192.168.255.255", "192.169.0.0", "private"},
        {"198.17.255.255", "198.18.0.0", "198.19.255.255", "198.20.0.0", "benchmarking"},
        {"198.51.99.255", "198.51.100.0", "198.51.100.255", "198.51.101.0", "documentation"},
        {"203.0.112.255", "203.0.113.0", "203.0.113.255", "203.0.114.0", "documentation"},
        {"223.255.255.255", "224.0.0.0", "239.255.255.255", NULL, "multicast"},
        {NULL, "240.0.0.0", "255.255.255.255", NULL, "reserved"},
        {NULL, "[::2]", "[::ffff]", NULL, "reserved"},
        {NULL, "[::127.0.0.1]", "[::8.8.8.8]", NULL, "reserved"},
        {NULL, "[::ffff:0:8.8.8.8]", "[64:ff9a::]", NULL, "reserved"},
        {NULL, "[64:ff9b:1::]", "[64:ff9b:1:ffff:ffff:ffff:ffff:ffff]", NULL, "reserved"},
        {NULL, "[100::]", "[100::ffff:ffff:ffff:ffff]", NULL, "reserved"},
        {NULL, "[100:0:0:1::]", "[1fff:ffff::]", "[2000::]", "reserved"},
        {"[2000:ffff:ffff::1]", "[2001::]", "[2001:1ff:ffff::]", "[2001:200::]", "reserved"},
        {NULL, "[2001:0:808:808::1]", "[2001:2::1]", NULL, "reserved"},
        {NULL, "[2001:10::1]", "[2001:2f:ffff::]", NULL, "reserved"},
        {"[2001:db7:ffff::]", "[2001:db8::]", "[2001:db8:ffff::ffff]", "[2001:db9::]",
         "documentation"},
        {"[3ffe:ffff::]", "[3fff::]", "[3fff:fff:ffff::]", "[3fff:1000::]", "documentation"},
        {"[3fff:ffff::]", "[4000::]", "[5eff::]", NULL, "reserved"},
        {NULL, "[5f00::]", "[fbff::]", NULL, "reserved"},
        {NULL, "[fc00::]", "[fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]", NULL, "unique-local"},
        {NULL, "[fe00::]", "[fe7f:ffff::]", NULL, "reserved"},
        {NULL, "[fe80::]", "[febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff]", NULL, "link-local"},
        {NULL, "[fec0::]", "[feff:ffff::]", NULL, "reserved"},
        {NULL, "[ff00::]", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]", NULL, "multicast"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(blocks); i++) {
        expect(blocks[i].first, check_host(blocks[i].first), blocks[i].part);
        expect(blocks[i].last, check_host(blocks[i].last), blocks[i].part);
        if (blocks[i].before != NULL)
            expect(blocks[i].before, check_host(blocks[i].before), NULL);
        if (blocks[i].behind != NULL)
            expect(blocks[i].behind, check_host(blocks[i].behind), NULL);
    }
}

/* One address in all its spellings gets one verdict. */
static void spellings_agree(void **state)
{
    uint64_t rng = seed;
    size_t allowed = 0;

    (void)state;
    for (int round = 0; round < 2000; round++) {
        const uint32_t a = (uint32_t)next_random(&rng) >> (round % 4 == 0 ? 5 : 0);
        const unsigned b[4] = {a >> 24, a >> 16 & 0xff, a >> 8 & 0xff, a & 0xff};
        char plain[16], host[10][64];
        const char *want;

        snprintf(plain, sizeof plain, "%u.%u.%u.%u", b[0], b[1], b[2], b[3]);
        snprintf(host[0], sizeof host[0], "%u", (unsigned)a);
        snprintf(host[1], sizeof host[1], "0x%x", (unsigned)a);
        snprintf(host[2], sizeof host[2], "%u.%u", b[0], (unsigned)a & 0xffffff);
        snprintf(host[3], sizeof host[3], "%u.0X%X.%u", b[0], b[1], (unsigned)a & 0xffff);
        snprintf(host[4], sizeof host[4], "0x%02x.%u.0x%x.%u.", b[0], b[1], b[2], b[3]);
        snprintf(host[5], sizeof host[5], "[::ffff:%s]", plain);
        snprintf(host[6], sizeof host[6], "[::ffff:%x:%x]", (unsigned)a >> 16,
                 (unsigned)a & 0xffff);
        snprintf(host[7], sizeof host[7], "[64:ff9b::%s]", plain);
        snprintf(host[8], sizeof host[8], "[2002:%x:%x::1]", (unsigned)a >> 16,
                 (unsigned)a & 0xffff);
        snprintf(host[9], sizeof host[9], "%s.", plain);
        want = check_host(plain);
        allowed += want == NULL;
        for (size_t i = 0; i < COUNT(host); i++)
            expect(host[i], check_host(host[i]), want);
        if (want != NULL) { /* as octal, the other reading may be refused for its own sake */
            snprintf(host[0], sizeof host[0], "0%o.0%o.0%o.0%o", b[0], b[1], b[2], b[3]);
            expect(host[0], check_host(host[0]), want);
        }
    }
    assert_true(allowed > 200 && allowed < 1900);
}

/* The C library's own inet_aton() is what many clients use: what it reads as inward is refused. */
static void no_spelling_slips_through(void **state)
{
    static const char *const pieces[] = {"0",  "00", "0x", "0X", "7f", "127", "177", "10",
                                         "a",  "12", "1",  ".",  ".",  ".",   "169", "254",
                                         "fe", "9",  "8",  "f",  "x",  "255", "256", "65536"};
    uint64_t rng = seed;
    size_t read = 0;

    (void)state;
    for (int round = 0; round < 30000; round++) {
        const size_t count = 1 + next_random(&rng) % 9;
        char host[80] = "";
        struct in_addr address;
        unsigned top;

        for (size_t i = 0; i < count; i++)
            strcat(host, pieces[next_random(&rng) % COUNT(pieces)]);
        if (inet_addr(host) == INADDR_NONE)
            continue;
        address.s_addr = inet_addr(host);
        top = (unsigned)(ntohl(address.s_addr) >> 24);
        read++;
        if ((top == 0 || top == 10 || top == 127) && check_host(host) == NULL)
            fail_msg("%s slips through", host);
    }
    assert_true(read > 1000);
}

static void allow_list(void **state)
{
    static const char *const list[] = {
        "sandbox.example", "Ported.Example:8443", "127.0.0.1",        "[::1]:9000",
        "localhost",       "secure.example:443",  "plain.example:80", "[fd00::1]",
    };
    static const struct {
        const char *url, *part;
    } cases[] = {
        {"https://sandbox.example", NULL},
        {"https://SANDBOX.Example/v3?x", NULL},
        {"http://sandbox.example:8080/", NULL},
        {"https://ported.example:8443", NULL},
        {"https://ported.example", "not allowed"},
        {"https://ported.example:8444", "not allowed"},
        {"http://127.0.0.1:1/", NULL},
        {"http://127.1/", "not allowed"},
        {"http://[::1]:9000/", NULL},
        {"http://[::1]/", "not allowed"},
        {"http://[fd00::1]/", NULL},
        {"http://[FD00::1]:5/", NULL},
        {"http://[fd00::2]/", "not allowed"},
        {"http://localhost", NULL},
        {"HTTP://LOCALHOST:3000", NULL},
        {"https://secure.example", NULL},
        {"https://secure.example:443", NULL},
        {"http://secure.example", "not allowed"},
        {"http://secure.example:443", NULL},
        {"http://plain.example", NULL},
        {"https://plain.example", "not allowed"},
        {"https://api.checkbook.io", "not allowed"},
        {"https://x.sandbox.example", "not allowed"},
        {"https://sandbox.exampl", "not allowed"},
        {"https://sandbox.example.com", "not allowed"},
        {"https://sandbox.example.", "not allowed"},
        /* the form rules stay */
        {"ftp://sandbox.example", "https"},
        {"https://u@sandbox.example", "user information"},
        {"https://sandbox.example@evil.example", "user information"},
        {"https://evil.example\\@sandbox.example", "backslash"},
        {"https://sandbox.example/#", "fragment"},
        {"https://sandbox.example:0", "port"},
        {"https://sandbox.example:65536", "port"},
        {"https://sandbox.example:", "port"},
        {"https://sandbox%2eexample", "percent"},
        {"https://sandbox.example/%", "percent"},
        {"https://sandbox.example/\n", "control"},
        {"https://sandbox.example/\xc3\xa4", "ASCII"},
        {"https://", "no host"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++)
        expect(cases[i].url, check_with(cases[i].url, list, COUNT(list)), cases[i].part);
}

static void malformed_entries_allow_nothing(void **state)
{
    static const char *const list[] = {
        NULL,          "",          ":443", "https://a.example", "b.example/",
        "c.example:0", "*.example", "::1",  "u@d.example",       "e.example:",
        "f.example:x", " ",         "[::1", "g.example:65536",
    };
    static const char *const urls[] = {
        "https://a.example", "https://b.example", "https://c.example",
        "https://d.example", "https://e.example", "https://f.example",
        "https://x.example", "https://g.example", "https://[::1]",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(urls); i++)
        expect(urls[i], check_with(urls[i], list, COUNT(list)), "not allowed");
    expect("no list", check_with("https://api.checkbook.io", list, 0), NULL);
    expect("no list", check_with("http://api.checkbook.io", list, 0), "https");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_urls),
        cmocka_unit_test(bad_forms),
        cmocka_unit_test(every_byte_of_a_path),
        cmocka_unit_test(every_byte_of_a_host),
        cmocka_unit_test(long_names),
        cmocka_unit_test(local_names),
        cmocka_unit_test(disguises),
        cmocka_unit_test(special_purpose_blocks),
        cmocka_unit_test(spellings_agree),
        cmocka_unit_test(no_spelling_slips_through),
        cmocka_unit_test(allow_list),
        cmocka_unit_test(malformed_entries_allow_nothing),
    };
    const char *given = getenv("CREDSTORE_SEED");

    seed = given == NULL ? 0x3986u : strtoull(given, NULL, 0);
    printf("CREDSTORE_SEED=%llu\n", (unsigned long long)seed);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT
 *
 * The base URL of a service to call (RFC 3986), and the rules that keep it from pointing inwards.
 */
#ifndef CS_URL_H
#define CS_URL_H

#include <stddef.h>

/* Looks at a base URL and returns NULL if it is allowed, else one line (a literal) that says what
   is wrong. Without an allow-list: scheme https (any case), a host, an optional port 1..65535
   (decimal, no leading zeros), optional path and query; no userinfo, fragment, control character,
   space, backslash, non-ASCII byte or other character that RFC 3986 does not know there; percent
   only before two hex digits, and not in the host, which is an address or a name of letters,
   digits, hyphens and underscores; not localhost, local or internal nor a name below them; and no
   literal address, however it is written (dotted, decimal, octal, hex, short forms; IPv6 with or
   without an IPv4 tail, v4-mapped, NAT64, 6to4), that is private, loopback, link-local,
   unique-local, shared (100.64/10), multicast, reserved, documentation, benchmarking or unspecified
   (RFC 6890, IANA special-purpose registries). A name whose last label is a number is an address or
   refused; a leading zero must be harmless both as octal and as decimal. One dot at the end of the
   host changes nothing. With a list: http or https, and the host must stand in it, compared as text
   without case: an entry host allows every port, an entry host:port that port alone, the scheme's
   own (443, 80) where the URL has none; the form rules stay, the scheme, name and address rules do
   not apply. IPv6 entries have brackets. An entry that is not of this form allows nothing. An empty
   list is no list. */
const char *cs_url_check(const char *ptr, size_t len, const char *const *allow, size_t allow_count);

#endif

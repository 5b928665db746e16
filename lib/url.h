/* SPDX-License-Identifier: MIT
 *
 * The base URL of a service to call (RFC 3986), and the rules that keep it from pointing inwards.
 */
#ifndef CS_URL_H
#define CS_URL_H

#include <stddef.h>

/* Looks at a base URL and returns NULL if it is allowed, else one line (a literal) that says what
   is wrong. Without an allow-list: scheme https (any case), a host, an optional port 1..65535,
   optional path and query; no userinfo, fragment, control character, space, backslash or non-ASCII
   byte; percent only before two hex digits; not localhost or below .localhost, .local, .internal;
   and no literal address, however it is written (dotted, decimal, octal, hex, short forms; IPv6
   with or without an IPv4 tail, v4-mapped, NAT64, 6to4), that is private, loopback, link-local,
   unique-local, shared (100.64/10), multicast, reserved, documentation, benchmarking or unspecified
   (RFC 6890, IANA special-purpose registries). With one: http or https, and the host (or host:port)
   must stand in the list, compared without case; the form rules stay, the scheme and address rules
   do not apply. */
const char *cs_url_check(const char *ptr, size_t len, const char *const *allow, size_t allow_count);

#endif

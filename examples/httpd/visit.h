/* SPDX-License-Identifier: MIT
 *
 * One request: from libmicrohttpd's callbacks to the slices that the library's door takes, and its
 * answer back.
 */
#ifndef HTTPD_VISIT_H
#define HTTPD_VISIT_H

#include <credstore.h>
#include <microhttpd.h>

#include "connections.h"
#include "sessions.h"

/* What all requests share; the callbacks' cls. */
typedef struct desk {
    credstore *store;
    const session_list *sessions;
    connection_list *connections;
} desk;

/* MHD_OPTION_URI_LOG_CALLBACK: the target as it came, before anything is done to it. */
void *visit_begin(void *cls, const char *target, struct MHD_Connection *c);
/* MHD_AccessHandlerCallback: headers, body, end. */
enum MHD_Result visit_step(void *cls, struct MHD_Connection *c, const char *url, const char *method,
                           const char *version, const char *data, size_t *data_len, void **visit);
/* MHD_OPTION_NOTIFY_COMPLETED */
void visit_end(void *cls, struct MHD_Connection *c, void **visit,
               enum MHD_RequestTerminationCode why);

/* MHD_OPTION_UNESCAPE_CALLBACK: leaves all as it is; routes.h decodes what it needs. */
size_t visit_unescape(void *cls, struct MHD_Connection *c, char *text);

#endif

/* SPDX-License-Identifier: MIT
 *
 * libmicrohttpd with as many threads as the example has, and nothing behind it: takes any body,
 * gives an answer as long as a Checkbook one. Prints its port; ends when its input does.
 */
#include <microhttpd.h>

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

enum { THREADS = 16, ANSWER = 254 };

static enum MHD_Result answer(void *cls, struct MHD_Connection *c, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *data_len, void **seen)
{
    struct MHD_Response *response;
    enum MHD_Result result;

    (void)url;
    (void)method;
    (void)version;
    (void)data;
    if (*seen == NULL || *data_len > 0) {
        *seen = cls;
        *data_len = 0;
        return MHD_YES;
    }
    response = MHD_create_response_from_buffer(ANSWER, cls, MHD_RESPMEM_PERSISTENT);
    if (response == NULL)
        return MHD_NO;
    MHD_add_response_header(response, "Content-Type", "application/json");
    result = MHD_queue_response(c, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return result;
}

int main(void)
{
    static char body[ANSWER];
    const struct sockaddr_in at = {.sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const union MHD_DaemonInfo *info;
    struct MHD_Daemon *daemon;

    memset(body, 'x', sizeof body);
    daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL, answer, body,
                              MHD_OPTION_SOCK_ADDR, &at, MHD_OPTION_THREAD_POOL_SIZE,
                              (unsigned)THREADS, MHD_OPTION_END);
    info = daemon == NULL ? NULL : MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT);
    if (info == NULL)
        return 1;
    printf("%u\n", info->port);
    fflush(stdout);
    while (getchar() != EOF)
        ;
    MHD_stop_daemon(daemon);
    return 0;
}

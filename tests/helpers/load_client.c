/* SPDX-License-Identifier: MIT
 *
 * Many connections at once against an HTTP service, one writer a record:
 *
 *   load_client PORT SECONDS PLAN
 *
 * A line of PLAN is one connection: METHOD, PATH, a header and a body, with tabs between them. Each
 * '@' of the body becomes the number of the request, so that every request changes the record. The
 * ETag of each answer has to be the one before plus one. Prints "all answered" when each connection
 * has had its first answer; at the end, for each line, the first ETag, the last one and the number
 * of answers ("0 0 N" of a server without them), then "total REQUESTS MILLISECONDS"; fails at the
 * first answer that is not 2xx.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS_MAX = 64, FIELDS = 4, LINE_SIZE = 2048, TEXT_SIZE = 8192 };

typedef struct worker {
    char line[LINE_SIZE];
    const char *field[FIELDS];
    uint16_t port;
    int64_t until;
    uint64_t first, last, answers;
    bool failed;
    atomic_size_t *silent; /* of all workers: those who have had no answer yet */
} worker;

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool fail(worker *w, const char *what, const char *text)
{
    fprintf(stderr, "%s %s: %s: %.400s\n", w->field[0], w->field[1], what, text);
    w->failed = true;
    return false;
}

static int connect_to(uint16_t port)
{
    const int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    const struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    if (fd < 0)
        return -1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (const struct sockaddr *)&at, sizeof at) == 0)
        return fd;
    close(fd);
    return -1;
}

static size_t write_request(const worker *w, char out[TEXT_SIZE])
{
    char body[LINE_SIZE + 64 * 20];
    size_t len = 0;

    for (const char *c = w->field[3]; *c != '\0' && len < LINE_SIZE; c++) {
        if (*c == '@')
            len += (size_t)snprintf(body + len, 21, "%" PRIu64, w->answers);
        else
            body[len++] = *c;
    }
    body[len] = '\0';
    return (size_t)snprintf(out, TEXT_SIZE,
                            "%s %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n"
                            "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                            w->field[0], w->field[1], w->field[2], len, body);
}

static bool send_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        const ssize_t sent = send(fd, text, len, MSG_NOSIGNAL);

        if (sent <= 0)
            return false;
        text += sent;
        len -= (size_t)sent;
    }
    return true;
}

/* The value of a header, NULL if it is not there. */
static const char *header(const char *head, const char *name)
{
    const size_t len = strlen(name);

    for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line + 2, "\r\n"))
        if (strncasecmp(line + 2, name, len) == 0 && line[2 + len] == ':')
            return line + 2 + len + 1 + strspn(line + 2 + len + 1, " ");
    return NULL;
}

/* One whole answer; nothing may come behind it. */
static bool read_answer(int fd, char text[TEXT_SIZE])
{
    size_t have = 0, whole = 0;

    while (whole == 0 || have < whole) {
        const ssize_t got = recv(fd, text + have, TEXT_SIZE - 1 - have, 0);
        const char *end, *length;

        if (got <= 0)
            return false;
        have += (size_t)got;
        text[have] = '\0';
        end = whole == 0 ? strstr(text, "\r\n\r\n") : NULL;
        if (end == NULL)
            continue;
        length = header(text, "Content-Length");
        whole = (size_t)(end + 4 - text) + (length == NULL ? 0 : strtoul(length, NULL, 10));
    }
    return have == whole;
}

static bool take_answer(worker *w, const char *text)
{
    const char *tag = header(text, "ETag");
    const uint64_t revision = tag == NULL ? 0 : strtoull(tag + 1, NULL, 10);

    if (strncmp(text, "HTTP/1.1 2", 10) != 0)
        return fail(w, "not a success", text);
    if (w->answers > 0 && revision != (w->last == 0 ? 0 : w->last + 1))
        return fail(w, "the revision is not the next one", text);
    if (w->answers == 0) {
        w->first = revision;
        if (atomic_fetch_sub(w->silent, 1) == 1 &&
            (puts("all answered") < 0 || fflush(stdout) != 0))
            return fail(w, "no output", "");
    }
    w->last = revision;
    w->answers++;
    return true;
}

static void *work(void *arg)
{
    worker *w = arg;
    char text[TEXT_SIZE];
    const int fd = connect_to(w->port);

    if (fd < 0) {
        fail(w, "no connection", "");
        return NULL;
    }
    while (now_ms() < w->until) {
        if (!send_all(fd, text, write_request(w, text)) || !read_answer(fd, text)) {
            fail(w, "no answer", "");
            break;
        }
        if (!take_answer(w, text))
            break;
    }
    close(fd);
    return NULL;
}

static bool take_line(worker *w)
{
    char *rest = w->line;

    w->line[strcspn(w->line, "\n")] = '\0';
    for (size_t i = 0; i < FIELDS; i++) {
        w->field[i] = rest;
        rest = rest == NULL ? NULL : strchr(rest, '\t');
        if (rest != NULL)
            *rest++ = '\0';
    }
    return w->field[FIELDS - 1] != NULL;
}

static int run(worker *workers, size_t count)
{
    pthread_t threads[WORKERS_MAX];
    const int64_t begin = now_ms();
    uint64_t total = 0;
    atomic_size_t silent = count;
    bool failed = false;

    for (size_t i = 0; i < count; i++)
        workers[i].silent = &silent;
    for (size_t i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, work, &workers[i]) != 0)
            return 1;
    for (size_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < count; i++) {
        printf("%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", workers[i].first, workers[i].last,
               workers[i].answers);
        total += workers[i].answers;
        failed = failed || workers[i].failed;
    }
    printf("total %" PRIu64 " %" PRId64 "\n", total, now_ms() - begin);
    return failed;
}

int main(int argc, char **argv)
{
    static worker workers[WORKERS_MAX];
    size_t count = 0;
    FILE *plan = argc == 4 ? fopen(argv[3], "r") : NULL;
    int64_t until;

    if (plan == NULL) {
        fprintf(stderr, "usage: load_client PORT SECONDS PLAN\n");
        return 2;
    }
    until = now_ms() + (int64_t)(strtod(argv[2], NULL) * 1000);
    while (count < WORKERS_MAX && fgets(workers[count].line, LINE_SIZE, plan) != NULL) {
        workers[count].port = (uint16_t)strtoul(argv[1], NULL, 10);
        workers[count].until = until;
        if (!take_line(&workers[count])) {
            fprintf(stderr, "load_client: a line of the plan has too few fields\n");
            return 2;
        }
        count++;
    }
    fclose(plan);
    return run(workers, count);
}

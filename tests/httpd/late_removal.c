/* SPDX-License-Identifier: MIT
 *
 * Loaded before the service: its first thread is slow to take a listening socket out of an epoll
 * set. A thread that does the same thing meanwhile then always comes between.
 */
#define _GNU_SOURCE /* RTLD_NEXT */

#include <dlfcn.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { LATE_MS = 20 };

int epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *event)
{
    const struct timespec late = {0, LATE_MS * 1000000L};
    int (*removal)(int, int, int, struct epoll_event *);
    void *const next = dlsym(RTLD_NEXT, "epoll_ctl");
    int listening = 0;
    socklen_t length = sizeof listening;

    if (op == EPOLL_CTL_DEL && syscall(SYS_gettid) == getpid() &&
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) == 0 && listening)
        nanosleep(&late, NULL);
    memcpy(&removal, &next, sizeof removal);
    return removal(epoll_fd, op, fd, event);
}

# SPDX-License-Identifier: MIT
"""The limit of open files: with too few it says so and ends; with few, more connections than fit
wait for a place, all are served, and nobody spins meanwhile."""
import os
import select
import sys
import time

from service import UNDER, Connection, Service, tally, until, work_folder

TOO_FEW, FEW = 40, 100
CONNECTIONS = 150


def too_few(folder):
    service = Service(folder, files=TOO_FEW)
    if not tally.same(service.line, "", f"its line with {TOO_FEW} files"):
        return service.process.kill()
    code = service.process.wait()
    tally.same(code, 1, f"the exit status with {TOO_FEW} files")
    tally.check("Too many open files" in service.said(), f"stderr: {service.said()}")


def seconds_used(service):
    """Of a processor."""
    with open(f"/proc/{service.process.pid}/stat", encoding="utf-8") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def answered(waiting):
    """Those that have something to read."""
    return select.select(waiting, [], [], 0.1)[0]


def take(waiting, held):
    """Answers that are there; their connections stay open."""
    for connection in answered(waiting):
        answer = connection.answer()
        tally.check(answer is not None and answer.status == 200, f"{answer and answer.status}")
        waiting.remove(connection)
        held.append(connection)
    return len(held)


def spins(service):
    """In a second in which nothing is asked: the share of a processor that is used."""
    used, begin = seconds_used(service), time.monotonic()
    time.sleep(1)
    return (seconds_used(service) - used) / (time.monotonic() - begin)


def few(folder):
    service = Service(folder, "--deadline", "600", "--audit", "0", "--maintain", "3600", files=FEW)
    waiting, held, served = [], [], 0
    for _ in range(CONNECTIONS):
        connection = Connection(service.port)
        connection.send("GET /apikeys HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer "
                        f"{service.admin_token}\r\n\r\n")
        waiting.append(connection)
    while waiting:
        if not tally.check(until(lambda: take(waiting, held), 30), "nobody is served any more"):
            break
        while take(waiting, held) and answered(waiting):
            pass
        if waiting and served == 0:
            share = spins(service)
            tally.check(share < 0.25, f"with all places taken: {share:.2f} of a processor")
            print(f"files: {len(held)} of {CONNECTIONS} have a place; {share:.2f} of a processor")
        served += len(held)
        while held:
            held.pop().close()
    tally.same(served, CONNECTIONS, "connections that were served")
    tally.check(service.process.poll() is None, "it ended")
    service.stop()


def main():
    if UNDER:
        print("skipped: what it runs under needs files of its own")
    else:
        too_few(work_folder())
        few(work_folder())
    tally.end()


if __name__ == "__main__":
    sys.exit(main())

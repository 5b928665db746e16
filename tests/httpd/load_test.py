# SPDX-License-Identifier: MIT
"""PUT and PATCH over 16 connections, each the one writer of a record: no error, no revision lost or
skipped, and no memory gathered. CREDSTORE_LOAD_SECONDS makes it longer: `make load` takes 30, and
then the data file's pages count as well, which have settled after five seconds and not before."""
import os
import shlex
import subprocess
import sys
import time

from service import BUILD, ROOT, VARIANT, Connection, Service, tally, work_folder

SECONDS = float(os.environ.get("CREDSTORE_LOAD_SECONDS") or 4)
SETTLED = min(5, SECONDS / 2)  # memory is looked at then, and at the end
GATED = "together" if SECONDS >= 30 else "own"
CLIENT = os.path.join(BUILD, "tests", "helpers", "load_client")
BARE = os.path.join(BUILD, "tests", "helpers", "bare_httpd")
GROWTH_KB = 1024


def make_records(service):
    """Eight records for PUT, eight for PATCH: (method, path, header, body)."""
    connection = Connection(service.port)
    plan = []
    base = "/internal/checkbook/client-credentials"
    for _ in range(8):
        answer = connection.ask("POST", base, {"x-api-key": service.api_key}, {
            "publishable_key": "p", "secret_key": "s", "base_url": "https://api.checkbook.io"})
        tally.same(answer.status, 201, "a Checkbook record")
        plan.append(("PUT", f"{base}/{answer.json()['id']}", f"x-api-key: {service.api_key}",
                     '{"publishable_key":"publishable-@","secret_key":"secret-@"}'))
    base = (f"/organizations/{service.organization_id}/service-accounts/"
            f"{service.service_account_id}/credentials")
    for _ in range(8):
        answer = connection.ask("POST", base, service.bearer(), {"name": "name"})
        tally.same(answer.status, 201, "a service credential")
        plan.append(("PATCH", f"{base}/{answer.json()['id']}",
                     f"Authorization: Bearer {service.admin_token}",
                     '{"description":"description @"}'))
    connection.close()
    return plan


def memory(pid):
    """Resident kilobytes: the process's own, and what it has mapped of the store's data file. The
    latter are pages of the system's cache, and grow with the file, which grows with the audit."""
    own = mapped = 0
    store = False
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as file:
        for line in file:
            if line[0] in "0123456789abcdef":
                store = line.rstrip().endswith("/data.mdb")
            elif line.startswith("Rss:"):
                own, mapped = (own, mapped + int(line.split()[1])) if store else (
                    own + int(line.split()[1]), mapped)
    return {"own": own, "mapped of the data file": mapped, "together": own + mapped}


def load(port, seconds, plan_file, pid=None):
    """The client's lines and rate; memory at two moments, if there is a pid."""
    seen = []
    process = subprocess.Popen([CLIENT, str(port), str(seconds), plan_file],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if pid is not None:
        time.sleep(SETTLED)
        seen.append(memory(pid))
        time.sleep(max(0, seconds - SETTLED - 0.2))
        seen.append(memory(pid))
    out, err = process.communicate()
    tally.check(process.returncode == 0 and err == "", f"the client: {err}")
    lines = [tuple(map(int, line.split())) for line in out.splitlines()[1:-1]]
    _, total, spent = out.splitlines()[-1].split()
    return lines, int(total) * 1000 / int(spent), seen


def check_revisions(service, plan, lines):
    connection = Connection(service.port)
    for (_, path, header, _), (first, last, answers) in zip(plan, lines):
        name, value = header.split(": ")
        answer = connection.ask("GET", path, {name: value})
        tally.same((answer.status, answer.tag), (200, f'"{last}"'), f"{path} afterwards")
        tally.check(answers > 0 and last - first + 1 == answers and first == 2,
                    f"{path}: {answers} answers, revisions {first} to {last}")
    connection.close()


def renewed(service, plan):
    """The plan with the tokens of this start."""
    return [(method, path, f"x-api-key: {service.api_key}" if method == "PUT" else
             f"Authorization: Bearer {service.admin_token}", body)
            for method, path, _, body in plan]


def write_plan(plan_file, plan):
    with open(plan_file, "w", encoding="ascii") as file:
        file.writelines("\t".join(line) + "\n" for line in plan)


def late_removal(folder):
    """What the service is run with so that its threads' race at the end, if there is one, is lost."""
    library = os.path.join(folder, "late_removal.so")
    subprocess.run([*shlex.split(os.environ.get("CC", "gcc")), "-std=c11", "-Wall", "-Wextra",
                    "-Werror", "-shared", "-fPIC", "-o", library,
                    os.path.join(ROOT, "tests", "httpd", "late_removal.c")], check=True)
    return library


def stopped_under_load(folder, plan, plan_file, before):
    """SIGTERM among the requests: what was answered is there, and nothing that was not."""
    if VARIANT == "plain":  # sanitizers and valgrind have to be loaded first themselves
        os.environ["LD_PRELOAD"] = late_removal(folder)
    service = Service(folder)
    os.environ.pop("LD_PRELOAD", None)
    plan = renewed(service, plan)
    check_revisions(service, plan, before)
    write_plan(plan_file, plan)
    client = subprocess.Popen([CLIENT, str(service.port), "60", plan_file],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    tally.same(client.stdout.readline(), "all answered\n", "before SIGTERM")
    service.stop()
    out, err = client.communicate()
    tally.same(err.count("no answer"), len(plan), "connections that were ended")
    tally.same(len(err.splitlines()), len(plan), f"what the client saw: {err}")
    lasts = [int(line.split()[1]) for line in out.splitlines()[:-1]]
    service = Service(folder)
    connection = Connection(service.port)
    for (_, path, header, _), last, (_, earlier, _) in zip(renewed(service, plan), lasts, before):
        name, value = header.split(": ")
        tally.same(connection.ask("GET", path, {name: value}).tag, f'"{max(last, earlier)}"',
                   f"{path} after SIGTERM")
    connection.close()
    service.stop()


def bare_rate(plan_file):
    process = subprocess.Popen([BARE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    port = int(process.stdout.readline())
    _, rate, _ = load(port, min(SECONDS, 2), plan_file)
    process.communicate()
    return rate


def main():
    folder = work_folder()
    # A demonstration lets its audit go, so that the file, of which pages are mapped, stops growing.
    service = Service(folder)
    plan = make_records(service)
    plan_file = os.path.join(folder, "plan")
    write_plan(plan_file, plan)
    lines, rate, seen = load(service.port, SECONDS, plan_file, service.process.pid)
    check_revisions(service, plan, lines)
    service.stop()
    stopped_under_load(folder, plan, plan_file, lines)
    bare = bare_rate(plan_file)
    print(f"load: {len(plan)} connections, {SECONDS:g} s: {rate:.0f} durable updates/s; "
          f"a bare libmicrohttpd handler {bare:.0f} requests/s; ratio {bare / rate:.1f}")
    for name in seen[0]:
        print(f"load: resident at {SETTLED:g} s and at the end, {name}: "
              f"{seen[0][name]} KB, {seen[1][name]} KB")
    if VARIANT == "plain":  # the others keep freed memory, or shadows of it
        tally.check(seen[1][GATED] <= seen[0][GATED] + GROWTH_KB, f"the memory grows, {GATED}")
    tally.end()


if __name__ == "__main__":
    sys.exit(main())

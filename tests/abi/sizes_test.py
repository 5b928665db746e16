# SPDX-License-Identifier: MIT
"""Programs built against shorter and against longer structs run with this library. For each struct that
the library reads and that may grow, sizes_client.c is compiled with a copy of the header in which the
struct lacks its last member, and with one in which it has one more: zero, which is OK, and not zero,
which is E_UNSUPPORTED. Of what the library makes, each way too: it says its size."""
import os
import re
import shlex
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True

from abi import SIZED_BY_CALLER, Interface  # beside this file

BUILD = os.environ["CREDSTORE_BUILD"]
CC = [*shlex.split(os.environ.get("CC", "gcc")), "-std=c11", "-Wall", "-Wextra", "-Werror",
      "tests/abi/sizes_client.c", "-L", BUILD, "-lcredstore"]
NOT_GIVEN = {"credstore_answer"}  # the library's own, handed back to be freed
TAKEN = ("credstore_checkbook", "credstore_stripe", "credstore_stripe_page",
         "credstore_service_credential", "credstore_api_key", "credstore_answer",
         "credstore_audit_page", "credstore_audit_entry", "credstore_root_page",
         "credstore_root_slot", "credstore_data_key_page", "credstore_data_key", *sorted(SIZED_BY_CALLER))
results = {True: 0, False: 0}


def verdict(good, what):
    results[good] += 1
    if not good:
        print(f"FAILED: {what}")


def shorter(body):
    """The members without the last one."""
    head, last = body.rstrip().rstrip(";").rpartition(";")[::2]
    if "," in last and "(" not in last:
        return f"{head};{last.rpartition(',')[0]};"
    return f"{head};"


def longer(body):
    return f"{body} uint64_t from_the_future;"


def aged(text, struct, change):
    pattern = re.compile(r"(typedef struct " + struct + r" \{)(.*?)(\} " + struct + ";)", re.DOTALL)
    changed, count = pattern.subn(lambda m: m[1] + change(m[2]) + m[3], text)
    if count != 1 or changed == text:
        sys.exit(f"{struct} is not found in the headers")
    return changed


def build(work, text, macros, *flags):
    with open(f"{work}/credstore.h", "w", encoding="utf-8") as header:
        header.write(f"#include <stddef.h>\n#include <stdint.h>\n{macros}{text}")
    done = subprocess.run([*CC, "-I", work, "-o", f"{work}/client", *flags], capture_output=True,
                          text=True, check=False)
    print(done.stdout + done.stderr, end="")
    return done.returncode == 0


def answers(work, struct, wanted, age, tail="0"):
    done = subprocess.run([f"{work}/client", struct, tail, str(age)], capture_output=True, text=True, check=False,
                          env={**os.environ, "LD_LIBRARY_PATH": BUILD})
    got = done.stdout.strip()
    if got != wanted:
        print(f"{struct}: {got or done.returncode} {done.stderr}")
    return got == wanted


def ages(work, struct, interface, macros, given):
    verdict(answers(work, struct, "OK", 0),
            f"{struct}: as it is; has tests/abi/sizes_client.c a step for it?")
    with tempfile.TemporaryDirectory() as place:
        verdict(build(place, aged(interface.text, struct, shorter), macros, f"-DOLDER_{struct}")
                and answers(place, struct, "OK", -1), f"{struct}: a program with a shorter one")
        verdict(build(place, aged(interface.text, struct, longer), macros)
                and answers(place, struct, "OK", 1)
                and (not given or answers(place, struct, "E_UNSUPPORTED", 1, "1")),
                f"{struct}: a program with a longer one")


def main():
    interface = Interface("include")
    given = sorted(name for name in (interface.read - interface.filled - NOT_GIVEN)
                   if name in interface.structs and interface.may_grow(name))
    macros = "".join(f"{line}\n" for line in interface.preprocess("-dM").splitlines()
                     if re.match(r"#define CREDSTORE_(?!API\b)\w+\b.* \S", line))
    verdict(len(given) > 10, "too few structs to look at")
    with tempfile.TemporaryDirectory() as work:
        verdict(build(work, interface.text, macros), "the client as it is")
        for struct in given:
            ages(work, struct, interface, macros, True)
        for struct in TAKEN:
            ages(work, struct, interface, macros, False)
    print(f"{len(given)} structs given, {len(TAKEN)} taken, each shorter and longer")
    print(f"{results[True]} passed, {results[False]} failed")
    sys.exit(results[False] > 0)


main()

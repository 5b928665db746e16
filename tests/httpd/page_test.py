# SPDX-License-Identifier: MIT
"""credstore-httpd(1) and README.md taken at their word: their routes and options are the program's,
their example runs as it stands."""
import json
import os
import re
import subprocess
import sys

from service import PROGRAM, ROOT, UNDER, tally, work_folder

NAMES = {"checkbook": {}, "stripe": {"{id}": "{project_id}"}, "apikeys": {},
         "organizations": {"{tenant}": "{organization_id}", "{parent}": "{service_account_id}",
                           "{id}": "{credential_id}"}}


def text_of(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as file:
        return file.read()


def routes_of_program():
    source = text_of("examples", "httpd", "routes.c")
    defined = {}

    def value(expression):
        parts = re.findall(r'"([^"]*)"|(\w+)', expression)
        return "".join(text if not name else defined[name] for text, name in parts)

    for name, expression in re.findall(r"^#define (\w+) +(.*)$", source, re.M):
        defined[name] = value(expression)
    rows = re.findall(r'^    \{("\w+"), ([^,]*),\s', source, re.M)
    routes = []
    for method, path in rows:
        path = value(path)
        for key, names in NAMES.items():
            if key in path:
                for old, new in names.items():
                    path = path.replace(old, new)
        routes.append(f"{method[1:-1]} {path}")
    return routes


def example_of_readme():
    section = text_of("README.md").split("\n## An HTTP service\n")[1]
    return re.search(r"```sh\n(.*?)```", section, re.S).group(1)


def run_example(text):
    folder = work_folder()
    os.mkdir(os.path.join(folder, "build"))
    os.mkdir(os.path.join(folder, "build", "examples"))
    program = os.path.join(folder, "build", "examples", "httpd")
    with open(program, "w", encoding="utf-8") as file:
        file.write(f'#!/bin/sh\nexec {" ".join(UNDER)} {PROGRAM} "$@"\n')
    os.chmod(program, 0o755)
    done = subprocess.run(["sh", "-e", "-c", text], cwd=folder, capture_output=True, text=True,
                          check=False, timeout=120, env={**os.environ, "no_proxy": "*"})
    tally.same(done.returncode, 0, f"the example ended: {done.stderr}")
    first, rest = done.stdout.split("}", 1)
    shown = json.loads(first + "}")
    tally.same((shown["id"], shown["base_url"], shown["is_active"]),
               ("1NFHrqBHb3cTfLVkFSGmHZqdDPi", "https://api.checkbook.io", True), "the first answer")
    tally.check(rest.startswith("HTTP/1.1 200 ") and rest.endswith('{"success":true}') and
                'ETag: "2"' in rest, f"the second answer: {rest}")


def main():
    page = text_of("man", "credstore-httpd.1")
    said = re.findall(r"^\.Ql ([A-Z]+ /\S*)$", page, re.M)
    tally.same(said, routes_of_program(), "the routes of the page")
    tally.check(len(said) > 30, f"{len(said)} routes")
    usage = subprocess.run(UNDER + [PROGRAM, "--help"], capture_output=True, text=True, check=True)
    options = re.findall(r"^  --(\w+)", usage.stdout, re.M)
    for what, found in (("synopsis", re.findall(r"^\.(?:Op )?Fl -(\w+)", page, re.M)),
                        ("list", re.findall(r"^\.It Fl -(\w+)", page, re.M))):
        tally.same(sorted(found[:len(options)]), sorted(options), f"the options in the {what}")
    example = page.split(".Bd -literal\n")[1].split(".Ed\n")[0].replace("\\e", "\\")
    tally.same(example_of_readme(), example, "the example of README.md")
    run_example(example)
    tally.end()


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The manual held against the headers, and taken at its word.

Each exported symbol has one page, which has its prototype as the header has it and every status that
the header lets it answer; structs are shown as they are; nothing is named that is not there. Every
EXAMPLES block is built against an installed tree and run, and prints what the page shows; the first
one of libcredstore(7) as that page says, alone in an empty folder.

In EXAMPLES a comment above a block says what it is: program (one with a name is many blocks, and that
file), fragment (stands behind the frame of libcredstore(7)), frame, shell, output. Outside of it all
blocks of section 3 are declarations from a header. credstore-httpd(1) is tests/httpd/page_test.py's.
"""
import concurrent.futures
import fcntl
import glob
import os
import re
import shlex
import subprocess
import sys
import tempfile

CC = shlex.split(os.environ.get("CC", "cc"))
BUILD = os.environ["CREDSTORE_BUILD"]
HEADERS = ["include/credstore.h", "include/credstore/backend.h"]
ELSEWHERE = {("fork", "2"), ("flock", "2"), ("memcmp", "3")}
ORDER = ["NAME", "SYNOPSIS", "DESCRIPTION", "RETURN VALUES", "EXAMPLES", "ERRORS", "SEE ALSO",
         "SECURITY CONSIDERATIONS"]
CHANGES = re.compile(r"_(create|update|remove|roll|restore|issue|deactivate|reactivate|label|add|"
                     r"promote|reseal|prune|repair_indexes|offboard)$")

failures = []
passed = 0


def check(ok, what):
    global passed
    if ok:
        passed += 1
    else:
        failures.append(what)
        print("FAILED:", what)


def nothing(found, what):
    check(not found, "%s: %s" % (what, ", ".join(sorted(str(one) for one in found))))


def squeezed(text):
    return re.sub(r"\s+", "", re.sub(r"/\*.*?\*/", "", text, flags=re.S))


# ---- the headers ----

def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def prototypes():
    """name -> (type, parameters), both without blanks"""
    found = {}
    for header in HEADERS:
        text = subprocess.run(
            CC + ["-E", "-P", "-nostdinc", "-isystem", "tests/headers/empty", "-DCREDSTORE_API=@",
                  header], capture_output=True, text=True, check=True).stdout
        for match in re.finditer(r"@([^@;{}]*?)\b(credstore_\w+)\s*\(([^;]*)\)\s*;", text):
            found[match[2]] = squeezed(match[1]), squeezed(match[3])
    return found


def contracts(text):
    """name -> what the comment above its declaration says; a group of declarations shares one"""
    found = {}
    kept = re.sub(r"/\*.*?\*/", lambda m: re.sub(r"\n\s*\n", "\n", m[0]), text, flags=re.S)
    for paragraph in re.split(r"\n\s*\n", kept):
        said = " ".join(re.findall(r"/\*.*?\*/", paragraph, flags=re.S))
        for name in re.findall(r"\b(credstore_\w+)\s*\(", re.sub(r"/\*.*?\*/", "", paragraph,
                                                                 flags=re.S)):
            found[name] = said
    return found


# ---- the pages ----

class Page:
    def __init__(self, path):
        self.path = path
        self.name, self.section = os.path.basename(path).rsplit(".", 1)
        self.lines = read(path).splitlines()
        self.parts = {}
        title = None
        for line in self.lines:
            if line.startswith(".Sh "):
                title = line[4:]
                self.parts[title] = []
            elif title is not None:
                self.parts[title].append(line)
        self.names = re.findall(r"^\.Nm (\S+)", self.part("NAME"), flags=re.M)

    def part(self, title):
        return "\n".join(self.parts.get(title, []))

    def words(self, macro, text=None):
        """the arguments of a macro, wherever it stands in a line"""
        found = []
        for line in (self.lines if text is None else text.splitlines()):
            if line.startswith(".") and not line.startswith(".\\\""):
                for match in re.finditer(
                        r"\b%s ((?:\"[^\"]*\"|[^\s.,;:()]\S*)(?: , (?![A-Z][a-z] )\S+)*)" % macro, line):
                    found += [one.strip('"') for one in match[1].split(" , ")]
        return [one for one in found if not re.match(r"^[A-Z][a-z]$", one)]

    def references(self):
        text = "\n".join(line for line in self.lines if line.startswith("."))
        return set(re.findall(r"\bXr (\S+) (\d)", text))

    def blocks(self, inside_examples):
        """(mark, text) of each literal block"""
        found, block, mark, before = [], None, "", ""
        title = ""
        for line in self.lines:
            if line.startswith(".Sh "):
                title = line[4:]
            if line.startswith(".Ed"):
                if (title == "EXAMPLES") == inside_examples:
                    found.append((mark, "\n".join(block) + "\n"))
                block = None
            elif block is not None:
                block.append(re.sub(r"^\\&", "", line).replace("\\e", "\\"))
            elif line.startswith(".Bd -literal"):
                block, mark = [], before[3:].strip() if before.startswith('.\\"') else ""
            before = line
        return found

    def synopsis(self):
        found = {}
        for match in re.finditer(r"^\.Ft (.*)\n\.Fo (\S+)\n((?:\.Fa .*\n)+)\.Fc$",
                                 self.part("SYNOPSIS") + "\n", flags=re.M):
            parameters = re.findall(r'^\.Fa "(.*)"$', match[3], flags=re.M)
            found[match[2]] = squeezed(match[1].strip('"')), squeezed(",".join(parameters))
        return found


def load_pages():
    found = {}
    for path in sorted(glob.glob("man/*.[0-9]")):
        page = Page(path)
        found[page.name, page.section] = page
    return found


# ---- a page against the headers ----

def check_names(page, exported, links):
    own = [name for name in page.names if name in exported]
    nothing(set(page.names) - set(exported) - {page.name}, page.path + " has names of nothing")
    check(page.names[0] == page.name or page.name not in exported,
          page.path + " is not named for its first function")
    for name in own:
        check(name not in links, "%s and %s both tell of %s" % (page.path, links.get(name), name))
        links[name] = page.path
    return own


def check_synopsis(page, own, known):
    shown = page.synopsis()
    nothing(set(shown) ^ set(own), page.path + ": NAME and SYNOPSIS differ")
    for name, declared in shown.items():
        check(known.get(name) == declared,
              "%s: %s is declared as %s" % (page.path, name, known.get(name)))


def check_structs(page, headers):
    for _, text in page.blocks(False):
        depth, start = 0, 0
        flat = squeezed(text)
        for i, char in enumerate(flat):
            depth += (char == "{") - (char == "}")
            if char == ";" and depth == 0:
                check(flat[start:i + 1] in headers,
                      "%s: no header has %s" % (page.path, flat[start:i + 1]))
                start = i + 1
        check(start == len(flat), "%s: a block that ends without a semicolon" % page.path)


def statuses_of(name, known, said, rules):
    """what the header lets a function answer"""
    wanted = set(re.findall(r"\bE_[A-Z_]*[A-Z]\b", said.get(name, "")))
    parameters = known[name][1]
    if known[name][0] != "credstore_status":
        return set()
    if re.match(r"credstore\*store\b", parameters):
        wanted |= rules["store"]
    if "constcredstore_call*call" in parameters:
        wanted |= rules["call"]
        if CHANGES.search(name):
            wanted |= rules["change"]
    return wanted


def check_errors(page, own, known, said, rules):
    listed = set(page.words("Er", page.part("ERRORS")))
    for name in own:
        missing = {one for one in statuses_of(name, known, said, rules)
                   if "CREDSTORE_" + one not in listed}
        nothing(missing, "%s: ERRORS lacks what %s may answer" % (page.path, name))
    for title in page.parts:
        if title == "ERRORS" and ".Bl " in page.part(title):
            check(re.search(r"^\.It Bq ", page.part(title), flags=re.M), page.path + ": no errors")


def check_words(page, exported, vocabulary, links, pages):
    nothing(set(page.words("Er")) - vocabulary, page.path + ": unknown statuses")
    constants = {one for one in page.words("Dv") if one.startswith(("CREDSTORE", "_"))}
    nothing(constants - vocabulary, page.path + ": unknown constants")
    nothing({one for one in page.words("Fn") if one not in exported and one != "example"},
            page.path + ": functions that are not exported")
    nothing({one for one in page.words("Va") if one.split(".")[-1] not in vocabulary},
            page.path + ": members of no struct")
    shown = set(re.findall(r"\w+", page.part("SYNOPSIS"))) | set(
        word for _, text in page.blocks(False) for word in re.findall(r"\w+", text))
    nothing({one for one in page.words("Fa", page.part("DESCRIPTION")) if one not in shown},
            page.path + ": arguments of no function that it shows")
    nothing({name + " " + section for name, section in page.references()
             if (name, section) not in pages and (name, section) not in ELSEWHERE and
             (section != "3" or name not in links)}, page.path + " points to nothing")


def check_form(page):
    check(page.lines[0] == '.\\" SPDX-License-Identifier: MIT', page.path + ": the licence")
    check(".Dt %s %s" % (page.name.upper(), page.section) in page.lines, page.path + ": its title")
    if page.section == "3":
        titles = [title for title in page.parts if title in ORDER]
        check(titles == ORDER, "%s: has %s" % (page.path, ", ".join(titles)))
    for mark, _ in page.blocks(True):
        check(mark.split(" ")[0] in ("program", "fragment", "frame", "shell", "output"),
              "%s: an example that is marked %r" % (page.path, mark))


# ---- the examples ----

def environment(tree, work):
    """cc and pkg-config by these names, whatever they are here"""
    os.mkdir(work + "/bin")
    for tool, command in (("cc", " ".join(CC)), ("pkg-config", os.environ.get("PKG_CONFIG",
                                                                              "pkg-config"))):
        with open(work + "/bin/" + tool, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\nPATH='%s'\nexec %s \"$@\"\n" % (os.environ["PATH"], command))
        os.chmod(work + "/bin/" + tool, 0o755)
    env = dict(os.environ, PATH=work + "/bin:" + os.environ["PATH"],
               PKG_CONFIG_PATH=tree + "/lib/pkgconfig", LD_LIBRARY_PATH=tree + "/lib")
    for name in ("MAKEFLAGS", "MFLAGS", "PKG_CONFIG_SYSROOT_DIR"):
        env.pop(name, None)
    return env


def install(tree):
    """make install, while no other test does: the .pc file is made in the build folder"""
    env = dict(os.environ)
    with open(BUILD + "/install.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            [os.environ.get("MAKE", "make"), "-s", "--no-print-directory", "BUILD=" + BUILD,
             "DESTDIR=", "PREFIX=" + tree, "LIBDIR=" + tree + "/lib", "install"],
            env=env, capture_output=True, text=True)
        subprocess.run([os.environ.get("MAKE", "make"), "-s", "--no-print-directory",
                        "BUILD=" + BUILD, "all"], env=env, capture_output=True)
    check(done.returncode == 0, "make install: " + done.stderr)
    return done.returncode == 0


def run(command, folder, env):
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, shell=True)
    return done.returncode, done.stdout, done.stderr


def compile_and_run(job):
    page, what, source, output, env, folder = job
    os.mkdir(folder)
    with open(folder + "/example.c", "w", encoding="utf-8") as file:
        file.write(source)
    code, _, errors = run(
        "cc -std=c11 -Wall -Wextra -Wno-unused-parameter -Wno-unused-function -Werror -o example "
        "example.c $(pkg-config --cflags --libs libcredstore)", folder, env)
    if code != 0:
        return "%s: %s does not compile:\n%s" % (page.path, what, errors)
    code, printed, errors = run("./example", folder, env)
    if code != 0:
        return "%s: %s ends with %d: %s" % (page.path, what, code, errors)
    if printed != output:
        return "%s: %s prints\n%s" % (page.path, what, printed)
    return None


def examples_of(page, frame):
    """(what, source, output, shell) of each; a program with a name is all blocks of that name"""
    found = []
    for mark, text in page.blocks(True):
        kind, _, name = mark.partition(" ")
        if kind == "program" and name and found and found[-1]["what"] == name:
            found[-1]["source"] += "\n" + text
        elif kind in ("program", "fragment"):
            source = text if kind == "program" else frame + "\n" + text
            found.append({"what": name or kind, "source": source, "output": None, "shell": None})
        elif kind in ("output", "shell") and found:
            found[-1][kind] = text
    return found


def check_examples(pages, frame, env, work):
    jobs = []
    for page in pages.values():
        for example in examples_of(page, frame):
            check(example["output"] is not None, page.path + ": an example without its output")
            if example["what"].startswith("examples/"):
                body = read(example["what"]).split("*/\n", 1)[1].lstrip("\n")
                check(body == example["source"], "%s is not %s" % (page.path, example["what"]))
            jobs.append((page, example["what"], example["source"], example["output"], env,
                         "%s/example%d" % (work, len(jobs))))
    check(len(jobs) > 25, "only %d examples" % len(jobs))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for wrong in pool.map(compile_and_run, jobs):
            check(wrong is None, wrong)


def check_first_program(page, env, work):
    """libcredstore(7)'s first block alone in an empty folder, by the commands that the page gives"""
    first = examples_of(page, "")[0]
    check(page.blocks(True)[0][0] == "program" and first["shell"], page.path + " begins otherwise")
    commands = [line[2:] for line in first["shell"].splitlines() if line.startswith("$ ")]
    check(commands[0].startswith("cc ") and
          commands[0].endswith("$(pkg-config --cflags --libs libcredstore)"), commands[0])
    folder = work + "/empty"
    os.mkdir(folder)
    with open(folder + "/" + re.search(r"\S+\.c\b", commands[0])[0], "w", encoding="utf-8") as file:
        file.write(first["source"])
    for again in range(2):
        code, printed, errors = run(" && ".join(commands), folder, env)
        check(code == 0 and printed == first["output"],
              "the first program, run %d: %s%s" % (again + 1, printed, errors))


# ---- all of it ----

def rules_of(text):
    """what any function may answer, from the head of credstore.h"""
    head = re.sub(r"\s*\n \*\s*", " ", text.split("*/", 1)[0])
    return {key: set(re.findall(r"\bE_[A-Z_]*[A-Z]\b", re.search(pattern, head)[1]))
            for key, pattern in (("store", r"Any call on a store may answer (.*?)\. "),
                                 ("call", r"Who takes a credstore_call may also answer (.*?)\. "),
                                 ("change", r"Any change may answer (.*?)\. "))}


def check_pages(pages):
    exported = re.findall(r"^ *(credstore_\w+);", read("lib/libcredstore.map"), flags=re.M)
    text = "\n\n".join(read(path) for path in sorted(
        ["include/credstore.h"] + glob.glob("include/credstore/*.h")))
    known, said, rules = prototypes(), contracts(text), rules_of(read("include/credstore.h"))
    check(set(known) == set(exported) and len(exported) > 70, "the map and the headers differ")
    check(len(rules["store"]) > 8 and len(rules["change"]) > 6, "the head of credstore.h")
    headers, links = squeezed(text), {}
    vocabulary = set(re.findall(r"\w+", text))
    topics = [page for page in pages.values() if page.section == "3"]
    own = {page.path: check_names(page, exported, links) for page in topics}
    nothing(set(exported) - set(links), "no page tells of")
    for page in topics:
        check_synopsis(page, own[page.path], known)
        check_structs(page, headers)
        check_errors(page, own[page.path], known, said, rules)
    for page in pages.values():
        check_words(page, exported, vocabulary, links, pages)
        if (page.name, page.section) != ("credstore-format", "5"):
            check_form(page)
    overview = pages["libcredstore", "7"]
    nothing(set(pages) - {("libcredstore", "7")} - overview.references(),
            "libcredstore(7) does not point to")


def main():
    pages = load_pages()
    pages.pop(("credstore-httpd", "1"))
    check(not subprocess.run(["mandoc", "-Tlint", "-Wwarning"] + sorted(glob.glob("man/*.[0-9]")),
                             capture_output=True).stdout, "mandoc -Tlint -Wwarning")
    check_pages(pages)
    frames = [text for mark, text in pages["libcredstore", "7"].blocks(True) if mark == "frame"]
    check(len(frames) == 1, "libcredstore(7) has one frame")
    with tempfile.TemporaryDirectory() as work:
        if install(work + "/tree"):
            env = environment(work + "/tree", work)
            check_first_program(pages["libcredstore", "7"], env, work)
            check_examples(pages, frames[0], env, work)
    print("%d passed, %d failed" % (passed, len(failures)))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

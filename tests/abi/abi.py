# SPDX-License-Identifier: MIT
"""The interface that programs were compiled against, held against what is built now.

abi.py check|accept --include include --library libcredstore.so [--lists tests/abi]

symbols.txt has each exported symbol with its version node; layout.txt each constant, function, member
(offset, size, type) and the size of each struct that may not grow; libcredstore-<version>.abi is
abidw's dump of the library. The lists have a section a version, in which each line came. A version is
released once CHANGELOG.md gives it a date: from then on its lines and its dump stand for ever. Until
then `accept` writes them anew. What is new is no breach; what is changed or gone is."""
import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile

from pycparser import c_ast, c_generator, c_parser

ACCEPT = "make abi-accept"
HEAD = "# Written by `" + ACCEPT + "`, a section a version. Lines of a released version never change.\n"
EMPTY = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "headers", "empty")
# What those two headers would have said, for the parser alone.
BASICS = "".join(f"typedef {base} {name};\n" for base, name in (
    ("unsigned long", "size_t"), ("unsigned char", "uint8_t"), ("unsigned short", "uint16_t"),
    ("int", "int32_t"), ("unsigned", "uint32_t"), ("long", "int64_t"), ("unsigned long", "uint64_t")))
DUMP = ["abidw", "--drop-private-types", "--exported-interfaces-only", "--no-elf-needed",
        "--no-show-locs", "--no-corpus-path", "--no-comp-dir-path", "--type-id-style", "hash"]
# Structs that the caller lends and the library fills have one size for ever, but for those whose
# struct_size the library looks at before it writes; sizes_test.py has each of those.
SIZED_BY_CALLER = {"credstore_check_result", "credstore_repair_result"}


def run(command, **more):
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    except FileNotFoundError:
        sys.exit(f"abi: {command[0]} is missing: make deps")
    return done


def must(command, **more):
    done = run(command, **more)
    if done.returncode != 0:
        sys.exit(f"abi: {' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


# ---- what the headers say ----


class Nameless(c_ast.NodeVisitor):
    """Takes the names of parameters and of what has a type out of it, for good."""

    def visit_Decl(self, node):
        node.name = None
        self.generic_visit(node)

    def visit_TypeDecl(self, node):
        node.declname = None
        self.generic_visit(node)


def spelled(kind):
    Nameless().visit(kind)
    return re.sub(r"\s+", " ", c_generator.CGenerator().visit(kind)).strip()


class Interface(c_ast.NodeVisitor):
    """Constants, functions and structs of the public headers."""

    def __init__(self, include):
        self.compiler = [*shlex.split(os.environ.get("CC", "gcc")), "-std=c11", "-I", include]
        self.source = "".join(f"#include <{name}>\n" for name in [
            "credstore.h", *sorted(f"credstore/{name}" for name in os.listdir(f"{include}/credstore"))])
        self.constants, self.functions, self.structs = [], {}, {}
        # Structs that the library reads, that it fills, and that lie in others or in arrays.
        self.read, self.filled, self.embedded = set(), set(), set()
        self.text = self.preprocess("-P", "-nostdinc", "-isystem", EMPTY, "-DCREDSTORE_API=")
        self.visit(c_parser.CParser().parse(BASICS + self.text))
        macros = self.preprocess("-dM")
        self.constants += re.findall(
            r"^#define (CREDSTORE_(?!VERSION|API\b)\w+) +(?![{\"])\S", macros, re.MULTILINE)

    def preprocess(self, *flags):
        return must([*self.compiler, "-E", *flags, "-x", "c", "-"], input=self.source)

    def visit_Enumerator(self, node):
        self.constants.append(node.name)

    def visit_Struct(self, node):
        if node.decls:
            self.structs[node.name] = [(decl.name, spelled(decl.type)) for decl in node.decls]
            self.embedded.update(kind for _, kind in self.structs[node.name])
            self.embedded.update(kind.removeprefix("const ").removesuffix(" *")
                                 for name, kind in self.structs[node.name] if name == "items")
        self.generic_visit(node)

    def visit_Decl(self, node):
        if isinstance(node.type, c_ast.FuncDecl) and node.name.startswith("credstore_"):
            self.functions[node.name] = spelled(node.type)
            for parameter in node.type.args.params:
                match = re.fullmatch(r"(const )?(credstore\w*) \*", spelled(parameter.type))
                if match:
                    (self.read if match[1] else self.filled).add(match[2])
        self.generic_visit(node)

    def may_grow(self, name):
        if name in self.filled - SIZED_BY_CALLER or name in self.embedded:
            return False
        return self.structs[name][0][0] == "struct_size"

    def lines(self):
        """The layout as the compiler sees it."""
        rows = [('"constant %s %lld"', f'"{name}", (long long)({name})') for name in self.constants]
        for struct, members in self.structs.items():
            if not self.may_grow(struct):
                rows.append(('"size %s %zu"', f'"{struct}", sizeof({struct})'))
            rows += [('"member %s %zu %zu %s"',
                      f'"{struct}.{name}", offsetof({struct}, {name}), sizeof((({struct} *)0)->{name}), '
                      f'"{kind}"') for name, kind in members]
        body = "\n".join(f'    printf({form} "\\n", {values});' for form, values in rows)
        with tempfile.TemporaryDirectory() as work:
            must([*self.compiler, "-x", "c", "-o", f"{work}/layout", "-"],
                 input=f"{self.source}#include <stdio.h>\nint main(void)\n{{\n{body}\n}}\n")
            printed = must([f"{work}/layout"]).splitlines()
        return printed + [f"function {name} {kind}" for name, kind in self.functions.items()]


def symbols(library):
    lines = []
    for row in must(["nm", "-D", "--defined-only", library]).splitlines():
        _, kind, name = row.split()
        if kind != "A":
            lines.append(" ".join(re.split("@+", name)))
    return lines


# ---- what was written down ----


def version_of(include):
    with open(f"{include}/credstore.h", encoding="utf-8") as header:
        parts = dict(re.findall(r"#define CREDSTORE_VERSION_(\w+) +(\d+)", header.read()))
    return f"{parts['MAJOR']}.{parts['MINOR']}"


def released(changelog):
    with open(changelog, encoding="utf-8") as text:
        return set(re.findall(r"^## \[(\d+\.\d+)\.\d+\] - \d{4}-\d\d-\d\d", text.read(), re.MULTILINE))


def read_sections(path):
    sections = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as text:
            for line in text.read().splitlines():
                if line.startswith("["):
                    lines = sections.setdefault(line.strip("[]"), [])
                elif line and not line.startswith("#"):
                    lines.append(line)
    return sections


def write_sections(path, sections):
    with open(path, "w", encoding="utf-8") as text:
        text.write(HEAD)
        for version, lines in sections.items():
            text.write(f"\n[{version}]\n" + "".join(f"{line}\n" for line in lines))


def subject(line):
    """What a line is about: its words but for what is said of it."""
    words = line.split()
    return " ".join(words[:2]) if words[0] in ("constant", "size", "member", "function") else words[0]


class Verdict:
    def __init__(self, now, closed):
        self.now, self.closed = now, closed
        self.broken, self.changed, self.new = [], [], []

    def differs(self, version, text):
        if version in self.closed:
            self.broken.append(f"of {version}, which is released: {text}")
        else:
            self.changed.append(text)

    def came(self, line):
        node = line.split()[-1]
        if self.now in self.closed:
            self.broken.append(f"{self.now} is released, so this needs a next version and its node in "
                               f"lib/libcredstore.map: {line}")
        elif node.startswith("LIBCREDSTORE_") and node != f"LIBCREDSTORE_{self.now}":
            self.broken.append(f"a new symbol belongs to LIBCREDSTORE_{self.now}: {line}")
        else:
            self.new.append(line)

    def compare(self, sections, current):
        """Holds lines against the list; answers those that no released section has."""
        present = {subject(line): line for line in current}
        known = {}
        for version, lines in sections.items():
            for line in lines:
                known[subject(line)] = version
                there = present.get(subject(line))
                if there is None:
                    self.differs(version, f"gone: {line}")
                elif there != line:
                    self.differs(version, f"was: {line}\n       now: {there}")
        for line in current:
            if subject(line) not in known:
                self.came(line)
        return sorted(line for line in current if known.get(subject(line)) not in self.closed)


# ---- what abidiff says ----

HARMLESS = [re.compile(pattern) for pattern in (
    r"Leaf changes summary: .*", r"Changed leaf types summary: .*",
    r"Removed/Changed/Added functions summary: 0 Removed, 0 Changed.*, \d+ Added functions?.*",
    r"Removed/Changed/Added variables summary: 0 Removed, 0 Changed.*, 0 Added variables?.*",
    r"\d+ Added functions?:", r"  \[A\] 'function .*",
    r"'(struct|enum) \w+' changed:", r"  type size hasn't changed",
    r"  \d+ data member insertions?:", r"  \d+ enumerator insertions?:",
    r"    '\w+::\w+' value '-?\d+'")]
GROWN = re.compile(r"  type size changed from (\d+) to (\d+) \(in bits\)")
INSERTED = re.compile(r"    '.*', at offset (\d+) \(in bits\)")


def beyond_growth(report):
    """The lines of a leaf report that tell of more than members and values that came at the end."""
    end = 0
    for line in filter(str.strip, report.splitlines()):
        grown, inserted = GROWN.fullmatch(line), INSERTED.fullmatch(line)
        if grown and int(grown[1]) < int(grown[2]):
            end = int(grown[1])
        elif not (inserted and int(inserted[1]) >= end) and not any(p.fullmatch(line) for p in HARMLESS):
            yield line


def compare_dumps(verdict, lists, dump):
    for name in sorted(os.listdir(lists)):
        match = re.fullmatch(r"libcredstore-(\d+\.\d+)\.abi", name)
        if not match:
            continue
        done = run(["abidiff", "--leaf-changes-only", os.path.join(lists, name), dump])
        if done.returncode & 3:
            sys.exit(f"abi: abidiff failed on {name}:\n{done.stdout}{done.stderr}")
        told = list(beyond_growth(done.stdout))
        if told:
            verdict.differs(match[1], f"abidiff against {name}:\n       " + "\n       ".join(told))


def take_dump(include, library, path, names):
    """abidw says nothing of a library without debug information, and abidiff takes that for peace."""
    must([*DUMP, "--headers-dir", include, "--out-file", path, library])
    with open(path, encoding="utf-8") as text:
        told = set(re.findall(r"<function-decl name='\w+' .*elf-symbol-id='([^'@]*)", text.read()))
    if told != names:
        sys.exit(f"abi: {library} has no debug information for {sorted(names - told)[:3]}: build it "
                 "with -g, without -flto")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("check", "accept"))
    parser.add_argument("--include", default="include")
    parser.add_argument("--library", required=True)
    parser.add_argument("--lists", default="tests/abi")
    parser.add_argument("--changelog", default="CHANGELOG.md")
    given = parser.parse_args()
    machine = must([*shlex.split(os.environ.get("CC", "gcc")), "-dumpmachine"]).strip()
    if not machine.startswith("x86_64"):
        print(f"skipped: the lists are of x86-64, and this is {machine}")
        return

    now = version_of(given.include)
    verdict = Verdict(now, released(given.changelog))
    lists = {"symbols.txt": sorted(symbols(given.library)),
             "layout.txt": sorted(Interface(given.include).lines())}
    fresh = {}
    for name, current in lists.items():
        sections = read_sections(f"{given.lists}/{name}")
        lines = verdict.compare(sections, current)
        fresh[name] = {version: kept for version, kept in sections.items() if version in verdict.closed}
        if now not in verdict.closed:
            fresh[name][now] = lines
    with tempfile.TemporaryDirectory() as work:
        dump = f"{work}/now.abi"
        take_dump(given.include, given.library, dump, {line.split()[0] for line in lists["symbols.txt"]})
        compare_dumps(verdict, given.lists, dump)
        for text in verdict.broken:
            print(f"abi: REFUSED, {text}")
        for text in verdict.changed:
            print(f"abi: CHANGED, {text}")
        for text in verdict.new:
            print(f"abi: new: {text}")
        if verdict.broken:
            sys.exit("abi: programs that were built against a released version would break")
        if given.action == "accept":
            for name, sections in fresh.items():
                write_sections(f"{given.lists}/{name}", sections)
            if now not in verdict.closed:
                with open(dump, encoding="utf-8") as text, \
                        open(f"{given.lists}/libcredstore-{now}.abi", "w", encoding="utf-8") as out:
                    out.write(text.read())
    total = sum(map(len, lists.values()))
    if given.action == "check" and verdict.changed:
        sys.exit(f"abi: not what {given.lists} says. {now} is not released: if it is meant, {ACCEPT}")
    print(f"abi: {total} lines, {len(verdict.new)} new, {len(verdict.changed)} changed"
          + ("" if given.action == "accept" or not verdict.new else f"; {ACCEPT} writes them down"))


if __name__ == "__main__":
    main()

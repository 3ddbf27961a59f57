#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The manual pages and the program must agree: check-man.py VENEER VENEER.1 VENEER.5 [VENEER-COMMAND.1...]

What `veneer --help` names and what veneer(1) lists under its flags are the same
set, and so are the mount options the program knows and those of veneer(5), and the
flags of each further command.
"""

import os
import re
import subprocess
import sys


def program_output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def words_of_help(text):
    return set(re.findall(r"(?<![\w-])(--?[a-zA-Z][\w-]*)", text))


def items(page):
    """What follows .It in the outer lists of a mdoc page, continued lines joined."""
    with open(page, encoding="ascii") as file:
        lines = file.read().replace("\\\n", " ").splitlines()
    depth = 0
    for line in lines:
        depth += line.startswith(".Bl") - line.startswith(".El")
        if depth == 1 and line.startswith(".It "):
            yield line[4:]


def flags_of_page(page):
    found = set()
    for item in items(page):
        for flag in re.findall(r"Fl (\S+)", item):
            found.add("-" + flag)
    return found


def options_of_page(page):
    """Names and, for those with a fixed set of values, NAME=VALUE for each."""
    found = set()
    for item in items(page):
        if not item.startswith("Cm "):
            continue
        names, _, value = item.partition(" Ns = Ns ")
        names = re.findall(r"[\w+]+", names[3:])
        found.update(names)
        if value.startswith("Cm "):
            found.update(f"{names[0]}={word}" for word in re.findall(r"\w+", value[3:]))
    return found


def compare(what, program, page):
    faults = [f"{what}: {word} is not in the manual page" for word in sorted(program - page)]
    faults += [f"{what}: {word} is not in the program" for word in sorted(page - program)]
    return faults


def main():
    veneer, page1, page5, *others = sys.argv[1:]
    faults = compare("flags", words_of_help(program_output(veneer, "--help")), flags_of_page(page1))
    faults += compare("options", set(program_output(veneer, "--list-options").split()),
                      options_of_page(page5))
    listed = set(re.findall(r"^  ([a-z]{2,}) ", program_output(veneer, "--help").partition("Other commands")[2]
                            .partition("\n\n")[0], re.M))
    with open(page1, encoding="ascii") as file:
        text = file.read()
    faults += compare("commands", listed, set(re.findall(r"^\.It Cm ([a-z]+)\n", text, re.M)) - {"mount"})
    faults += compare("pages", listed, {os.path.basename(page)[len("veneer-"):-2] for page in others})
    for page in others:
        command = re.fullmatch(r"veneer-(.+)\.1", os.path.basename(page)).group(1)
        help_text = program_output(veneer, command, "--help")
        faults += compare(command, words_of_help(help_text), flags_of_page(page))
    print("\n".join(faults) or "the manual pages are complete")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

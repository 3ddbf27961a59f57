#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Enforces the rooms of docs/architecture.md by reading the sources.

1. Every quoted include names its folder, and only folders its own may use.
2. Header files of a room do not include each other in a circle.
3. System calls on files are made in sys alone (and /dev/fuse is served in fuse).
4. Within core only upper.c changes anything on disk.
"""
import os
import re
import sys

# What a room may include: other rooms, or single headers of one.
ALLOWED = {
    "base": {"base"},
    "sys": {"base", "sys"},
    "format": {"base", "format"},
    "core": {"core", "format", "sys", "base"},
    "fuse": {"fuse", "sys", "base"},
    "daemon": {"daemon", "base", "sys", "format", "core/core.h", "fuse/fuse.h", "tools/tools.h"},
    "offline": {"offline", "core/core.h", "format", "sys", "base"},
    "tools": {"tools", "offline", "core/core.h", "format", "sys", "base"},
}

# On files; calls on memory, clocks, signals, sockets and processes are not meant.
FILE_CALLS = """
    open open64 openat openat2 creat close_range stat fstat lstat fstatat statx statfs fstatfs statvfs fstatvfs
    access faccessat mkdir mkdirat mknod mknodat symlink symlinkat link linkat unlink unlinkat
    rmdir remove rename renameat renameat2 readlink readlinkat chmod fchmod fchmodat chown lchown
    fchown fchownat utimensat futimens utime utimes truncate ftruncate fallocate posix_fallocate
    lseek fsync fdatasync syncfs pread pread64 preadv pwrite pwrite64 pwritev copy_file_range
    sendfile getdents64 readdir opendir fdopendir ioctl flock fcntl setfsuid setfsgid umask
    getxattr lgetxattr fgetxattr setxattr lsetxattr fsetxattr removexattr lremovexattr
    fremovexattr listxattr llistxattr flistxattr name_to_handle_at open_by_handle_at mount umount
    umount2 open_tree move_mount mount_setattr syscall
""".split()

# fuse: /dev/fuse and its socket to fusermount3 are its own matter.  daemon: only what becoming
# a daemon and the command line need.
EXCEPTIONS = {
    "fuse": {"open", "ioctl", "fcntl", "pread", "pwrite"},
    "daemon": {"fcntl", "umask", "open"},
}

MUTATIONS = """
    sys_mkdir sys_mknod sys_symlink sys_link sys_link_fd sys_unlink sys_rmdir sys_rename sys_chmod
    sys_chown sys_utimens sys_truncate sys_fallocate sys_pwrite sys_set_fsflags sys_setxattr
    sys_removexattr sys_copy_data
""".split()
MUTATION_FILE = "upper.c"

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def code_only(text):
    """The text without comments and strings, lines kept."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group(0))
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', blank, text, flags=re.S)


def calls(text, names):
    """(line, name) of each call of one of names as a plain function."""
    pattern = re.compile(r"(?<![\w.>])(" + "|".join(names) + r")\s*\(")
    for match in pattern.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, match.group(1)


def check_includes(room, path, text):
    for match in INCLUDE.finditer(text):
        target = match.group(1)
        line = text.count("\n", 0, match.start()) + 1
        if "/" not in target:
            yield f"{path}:{line}: \"{target}\" does not name its folder"
        elif target.split("/")[0] not in ALLOWED[room] and target not in ALLOWED[room]:
            yield f"{path}:{line}: {room} must not include \"{target}\""


def check_calls(room, path, text):
    if room != "sys":
        forbidden = [name for name in FILE_CALLS if name not in EXCEPTIONS.get(room, ())]
        for line, name in calls(text, forbidden):
            yield f"{path}:{line}: {name}() belongs in sys"
    if room == "core" and os.path.basename(path) != MUTATION_FILE:
        for line, name in calls(text, MUTATIONS):
            yield f"{path}:{line}: {name}() belongs in core/{MUTATION_FILE}"


def find_cycle(graph):
    """A list of files that include each other in a circle, or None."""
    done = set()

    def visit(node, trail):
        if node in trail:
            return trail[trail.index(node):] + [node]
        if node in done:
            return None
        for target in graph.get(node, ()):
            cycle = visit(target, trail + [node])
            if cycle:
                return cycle
        done.add(node)
        return None

    for start in graph:
        cycle = visit(start, [])
        if cycle:
            return cycle
    return None


def main():
    root = sys.argv[1]
    problems, graph, seen = [], {}, 0
    for room in sorted(os.listdir(root)):
        directory = os.path.join(root, room)
        if not os.path.isdir(directory):
            continue
        if room not in ALLOWED:
            problems.append(f"{directory}: not a room")
            continue
        for name in sorted(os.listdir(directory)):
            if not name.endswith((".c", ".h")):
                continue
            path = os.path.join(directory, name)
            with open(path, encoding="utf-8") as file:
                text = file.read()
            seen += 1
            graph[f"{room}/{name}"] = INCLUDE.findall(text)
            problems += check_includes(room, path, text)
            problems += check_calls(room, path, code_only(text))
    cycle = find_cycle(graph)
    if cycle:
        problems.append("include cycle: " + " -> ".join(cycle))
    for problem in problems:
        print(problem)
    print(f"{seen} files read, {len(problems)} problems")
    return 1 if problems or not seen else 0


if __name__ == "__main__":
    sys.exit(main())

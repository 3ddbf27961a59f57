# SPDX-License-Identifier: MIT
"""Transactions on a new database, each of them on disk: sqlite_job.py FILE COUNT prints ns."""

import sqlite3
import sys
import time


def main():
    database = sqlite3.connect(sys.argv[1], isolation_level=None)
    database.execute("pragma journal_mode=delete")
    database.execute("pragma synchronous=full")
    database.execute("create table entries (number integer primary key, content blob)")
    start = time.monotonic_ns()
    for _ in range(int(sys.argv[2])):
        database.execute("begin immediate")
        database.execute("insert into entries (content) values (?)", (b"x" * 400,))
        database.execute("commit")
    print(time.monotonic_ns() - start)


if __name__ == "__main__":
    main()

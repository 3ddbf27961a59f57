"""The suite against its documentation: every deviation is written down, and tested where it says."""

import ast
import os
import re

from contenders import CHECKOUT, HERE

DOCUMENT = os.path.join(CHECKOUT, "docs", "deviations.md")
POSIX = os.path.join(os.path.dirname(HERE), "posix")
ROW = re.compile(r"^\| (D-\d\d) \|(.*)\|$", re.MULTILINE)


def all_files():
    """Every file of tests that runs on both, of this suite and of tests/posix; names are unique."""
    found = {}
    for suite in (HERE, POSIX):
        for name in sorted(os.listdir(suite)):
            if re.fullmatch(r"test_\w+\.py", name):
                assert name not in found, f"two files called {name}"
                found[name] = os.path.join(suite, name)
    return found


def marked_tests():
    """Map of "file::test" -> the deviation ids it is marked with, for every such test."""
    found = {}
    for name, path in all_files().items():
        with open(path, encoding="utf-8") as file:
            tree = ast.parse(file.read())
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                assert f"{name}::{node.name}" not in found, f"two tests called {node.name} in {name}"
                found[f"{name}::{node.name}"] = {
                    each.args[0].value for each in node.decorator_list
                    if isinstance(each, ast.Call) and ast.unparse(each.func).endswith("mark.deviation")}
    return found


def documented():
    """Map of deviation id -> the cells of its row."""
    with open(DOCUMENT, encoding="utf-8") as file:
        rows = ROW.findall(file.read())
    assert len({number for number, _cells in rows}) == len(rows), "an id is used twice"
    return {number: [cell.strip() for cell in cells.split("|")] for number, cells in rows}


def test_every_deviation_of_a_test_is_documented():
    used = set().union(*marked_tests().values())
    assert used - documented().keys() == set()


def test_every_documented_deviation_names_its_tests():
    marks = marked_tests()
    for number, cells in documented().items():
        tests = re.findall(r"`(test_\w+\.py::\w+)`", cells[-1])
        assert tests, f"{number} names no test"
        for test in tests:
            assert number in marks.get(test, ()), f"{test} does not exist or is not marked {number}"


def test_every_marked_test_is_named():
    named = documented()
    for test, numbers in marked_tests().items():
        for number in numbers:
            assert f"`{test}`" in named[number][-1], f"{number} does not name {test}"


def test_every_row_is_complete():
    for number, cells in documented().items():
        assert len(cells) == 5 and all(cells), number

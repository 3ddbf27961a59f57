"""The commands beside mounting: running them, and the forms of what they print."""

import json
import os
import re
import subprocess

from contenders import CHECKOUT, VENEER


def run(*args, **kwargs):
    """`veneer ARGS`; its output as text, with whatever bytes names have."""
    kwargs = {"stdin": subprocess.DEVNULL, "timeout": 60, **kwargs}
    return subprocess.run([VENEER, *map(str, args)], capture_output=True, text=True, errors="surrogateescape",
                          check=False, **kwargs)


def ask(*args, **kwargs):
    """The output of a command that must succeed."""
    done = run(*args, **kwargs)
    assert done.returncode == 0, (args, done.stderr)
    return done.stdout


def layers_of(u):
    """Options that name the layers of a union that is not mounted."""
    words = [u.upper, "--lower", ":".join(u.lowers)]
    return words + (["--work", u.work] if u.work else [])


def check_form(name, text):
    """The text has the form of docs/NAME.schema.json."""
    with open(os.path.join(CHECKOUT, "docs", f"{name}.schema.json"), encoding="utf-8") as file:
        schema = json.load(file)
    found = violations(json.loads(text), schema, schema)
    assert not found, "\n".join(found)


def violations(value, schema, root, where="$"):
    """What is wrong with value by this part of the schema; the words of JSON Schema that are in use."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    types = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None),
             "integer": int, "number": (int, float)}
    names = schema.get("type", [])
    names = [names] if isinstance(names, str) else names
    fits = any(isinstance(value, types[name]) and not (isinstance(value, bool) and name != "boolean")
               for name in names)
    if names and not fits:
        return [f"{where}: {value!r} is no {names}"]
    found = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where}: {value!r} is none of {schema['enum']}")
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        found.append(f"{where}: {value!r} does not match")
    if isinstance(value, (int, float)) and value < schema.get("minimum", value):
        found.append(f"{where}: {value!r} is too small")
    if isinstance(value, list):
        for i, item in enumerate(value):
            found += violations(item, schema.get("items", {}), root, f"{where}[{i}]")
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        found += [f"{where}.{key} is missing" for key in schema.get("required", ()) if key not in value]
        found += [f"{where}.{key} is not in the schema" for key in value
                  if key not in properties and schema.get("additionalProperties") is False]
        for key in value.keys() & properties.keys():
            found += violations(value[key], properties[key], root, f"{where}.{key}")
    return found

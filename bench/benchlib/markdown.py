# SPDX-License-Identifier: MIT
"""A result as tables of markdown, and their place in a document."""

from . import figures

SHORT = {"count": "", "times": "x"}
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def passed(value, limit, section):
    return " **\u2713**" if figures.has_passed(value, limit, section) else ""


def limits(criteria, section, workload, modes):
    known = {mode: figures.to_reach(criteria, section, workload, mode) for mode in modes}
    shown = {mode: f"{value:g}" for mode, value in known.items() if value is not None}
    if len(set(shown.values())) == 1 and len(shown) == len(known):
        return next(iter(shown.values()))
    return ", ".join(f"{mode} {value}" for mode, value in shown.items())


def table(header, rows):
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def machine(result):
    facts = result.data["machine"]
    memory = round(facts["memory_mib"] / 1024)
    words = [f"Linux {facts['kernel']}", f"{facts['processors']} x {facts['processor']}",
             f"{memory} GiB", facts["filesystem"], f"io_uring {facts['io_uring']}",
             f"{result.data['rounds']} rounds, {result.data['scale']} size", facts["date"]]
    if result.data["user"]:
        words.append(f"veneer mounted by user {result.data['user']}")
    return ", ".join(words) + "."


def ratios(result, criteria, others, modes):
    def cells(section, workload, values):
        return [("-" if value is None else f"{value:.2f}") + passed(
            value, figures.to_reach(criteria, section, workload, each["mode"]), section)
            for value, each in zip(values, others)]
    rows = []
    for name in result.names("time"):
        values = [result.ratio(name, each["name"]) for each in others]
        rows.append([result.workloads[name]["title"],
                     figures.in_words(result.value(name, result.base), "ns"),
                     *cells("ratio", name, values), limits(criteria, "ratio", name, modes)])
    means = [result.mean(each["name"]) for each in others]
    rows.append(["geometric mean", "", *cells("ratio", "geometric-mean", means),
                 limits(criteria, "ratio", "geometric-mean", modes)])
    return table(["workload", "kernel", *(each["name"] for each in others), "to reach"], rows)


def flat(result, criteria, others, modes):
    rows = []
    for name, entry in criteria.get("flat", {}).items():
        values = [result.over(name, entry["over"], each["name"]) for each in others]
        if not any(values):
            continue
        title = (f"{result.workloads[name]['title']}, over "
                 f"{result.workloads[entry['over']]['title'].removeprefix('missing name ')}")
        kernel = result.over(name, entry["over"], result.base)
        rows.append([title, "-" if kernel is None else f"{kernel:.2f} x",
                     *(("-" if value is None else f"{value:.2f} x") + passed(
                         value, figures.to_reach(criteria, "flat", name, each["mode"]), "flat")
                       for value, each in zip(values, others)),
                     f"at most {limits(criteria, 'flat', name, modes)} x"])
    return rows


def own_figures(result, criteria, others, modes):
    rows = []
    for name in result.names("figure"):
        unit = result.workloads[name]["unit"]
        section = "at-least" if name in criteria.get("at-least", {}) else "at-most"
        values = [result.value(name, each["name"]) for each in others]
        limit = limits(criteria, section, name, modes)
        rows.append([result.workloads[name]["title"],
                     figures.in_words(result.value(name, result.base), unit),
                     *(figures.in_words(value, unit) + passed(
                         value, figures.to_reach(criteria, section, name, each["mode"]), section)
                       for value, each in zip(values, others)),
                     f"{section.replace('-', ' ')} {limit} {SHORT.get(unit, unit)}".strip() if limit
                     else ""])
    rows += flat(result, criteria, others, modes)
    return table(["", "kernel", *(each["name"] for each in others), "to reach"], rows)


def figures_of(result, criteria):
    """Everything that stands between the marks of a document."""
    others = [each for each in result.contenders if each["kind"] != "kernel"]
    modes = list(dict.fromkeys(each["mode"] for each in others if each["mode"]))
    parts = [machine(result)]
    if result.names("time"):
        parts.append(ratios(result, criteria, others, modes))
    if result.names("figure"):
        parts.append(own_figures(result, criteria, others, modes))
    return "\n\n".join(parts)


def put(document, text):
    """The document with what is between its marks replaced."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there is no place marked {BEGIN} ... {END}")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"

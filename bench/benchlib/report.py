# SPDX-License-Identifier: MIT
"""Results as tables of text."""

from . import figures

NAME, BASE, CELL = 22, 10, 17


def mark(value, limit, section):
    passed = figures.has_passed(value, limit, section)
    return {None: "", True: "pass", False: "not yet"}[passed]


class Table:
    """One row for each workload: the kernel's time, each contender's ratio to it, what to reach."""

    def __init__(self, contenders, criteria):
        self.contenders = contenders
        self.criteria = criteria
        self.columns = [each for each in contenders if each["kind"] != "kernel"]
        self.modes = [mode for mode in ("served", "passthrough")
                      if not contenders or mode in [each["mode"] for each in contenders]]
        self.has_peers = any(each["kind"] == "peer" for each in contenders)

    def header(self):
        words = [f"{'':{NAME}}{'kernel':>{BASE}}"]
        words += [f"{each['name'][:CELL - 2]:>{CELL - 1}} " for each in self.columns]
        words.append("  to reach")
        if self.has_peers:
            words.append("   to the best peer")
        return "".join(words)

    def _line(self, name, base, cells, limits, more=""):
        shown = [f"{text:>{CELL - 8}} {word:7}" for text, word in cells]
        return f"{name:{NAME}}{base:>{BASE}}{''.join(shown)}  {limits}{more}".rstrip()

    def limits(self, section, name):
        known = {mode: figures.to_reach(self.criteria, section, name, mode)
                 for mode in self.modes}
        if len(set(known.values())) == 1:
            limit = next(iter(known.values()))
            return "" if limit is None else f"{limit:g}"
        return ", ".join(f"{mode} {value:g}" for mode, value in known.items() if value is not None)

    def _cells(self, section, name, values, texts):
        limits = [figures.to_reach(self.criteria, section, name, each["mode"])
                  for each in self.columns]
        return [(text, mark(value, limit, section))
                for value, text, limit in zip(values, texts, limits)]

    def ratio_row(self, result, name):
        ratios = [result.ratio(name, each["name"]) for each in self.columns]
        texts = ["-" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
        return self._line(name, figures.in_words(result.value(name, result.base), "ns"),
                          self._cells("ratio", name, ratios, texts), self.limits("ratio", name),
                          self._peer(result, name))

    def _peer(self, result, name):
        """Each veneer's time over that of the fastest other FUSE overlay."""
        peer = result.best_peer(name)
        if not peer:
            return ""
        limit = figures.to_reach_of_peers(self.criteria, name)
        words = []
        for each in self.columns:
            ratio = result.ratio(name, each["name"], peer) if each["kind"] == "veneer" else None
            if ratio is not None:
                words.append(f"{ratio:.2f} {mark(ratio, limit, 'best-peer')}")
        return f"   {', '.join(words)} of {peer}" if words else ""

    def figure_row(self, result, name):
        unit = result.workloads[name]["unit"]
        section = "at-least" if name in self.criteria.get("at-least", {}) else "at-most"
        values = [result.value(name, each["name"]) for each in self.columns]
        texts = [figures.in_words(value, unit) for value in values]
        return self._line(name, figures.in_words(result.value(name, result.base), unit),
                          self._cells(section, name, values, texts), self.limits(section, name))

    def rows(self, result, name):
        is_time = result.workloads[name]["kind"] == "time"
        yield (self.ratio_row if is_time else self.figure_row)(result, name)

    def closing(self, result):
        """What is made of several workloads."""
        lines = []
        for name, entry in self.criteria.get("flat", {}).items():
            values = [result.over(name, entry["over"], each["name"]) for each in self.columns]
            base = result.over(name, entry["over"], result.base)
            if base is not None:
                texts = ["-" if value is None else f"{value:.2f}" for value in values]
                lines.append(self._line(f"{name}/{entry['over'].rpartition('-')[2]}",
                                        f"{base:.2f}", self._cells("flat", name, values, texts),
                                        self.limits("flat", name)))
        means = [result.mean(each["name"]) for each in self.columns]
        if any(means):
            texts = ["-" if mean is None else f"{mean:.2f}" for mean in means]
            lines.append(self._line("geometric mean", "",
                                    self._cells("ratio", "geometric-mean", means, texts),
                                    self.limits("ratio", "geometric-mean")))
        return lines


class Comparison:
    """Two builds: the new one's time over the old one's, in the same rounds."""

    OLD, NEW = "old", "new"

    def header(self):
        return (f"{'':{NAME}}{'old':>{BASE}}{'new':>{BASE}}{'new/old':>9}"
                f"{'quartiles':>18}")

    def rows(self, result, name):
        unit = result.workloads[name]["unit"]
        old, new = (result.samples(name, which) for which in (self.OLD, self.NEW))
        word, quartiles = figures.verdict(old, new)
        shown = ""
        if quartiles:
            shown = f"{quartiles[1]:9.3f}{quartiles[0]:9.3f} -{quartiles[2]:7.3f}"
        # Of some figures more is better: the numbers are there to be read.
        if result.workloads[name]["kind"] == "figure":
            word = ""
        yield (f"{name:{NAME}}{figures.in_words(figures.median(old), unit):>{BASE}}"
               f"{figures.in_words(figures.median(new), unit):>{BASE}}{shown}  {word}").rstrip()

    def closing(self, result):
        mean = result.mean(self.NEW, self.OLD)
        if mean:
            yield f"{'geometric mean':{NAME}}{'':{2 * BASE}}{mean:9.3f}"

# SPDX-License-Identifier: MIT
"""What the samples come to: ratios, criteria, comparisons. No I/O but reading criteria.

A result is what bench/run writes with --json:

    {"format": 1, "scale": ..., "rounds": ..., "user": ..., "machine": {...},
     "contenders": [{"name", "kind", "mode", ...}],
     "workloads": {NAME: {"title", "kind", "unit", "samples": {CONTENDER: [number or null]}}}}

A sample's place in its list is its round: null where it could not be measured.
"""

import math
import statistics
import tomllib

FORMAT = 1
# Two builds are told apart where three quarters of the rounds agree by more than this.
NOISE = 0.03


def load_criteria(path):
    with open(path, "rb") as file:
        return tomllib.load(file)


def to_reach(criteria, section, name, mode):
    """The number asked of a mode, or None."""
    entry = criteria.get(section, {}).get(name, {})
    return entry.get(mode, entry.get("both")) if mode else None


def to_reach_of_peers(criteria, name):
    """What is asked of the ratio to the fastest peer, or None."""
    entry = criteria.get("best-peer", {})
    return entry.get("requests" if name in entry.get("of-requests", ()) else "all")


def pairs(samples, base):
    """Ratios of the rounds in which both were measured."""
    return [a / b for a, b in zip(samples, base) if a is not None and b]


def median(samples):
    known = [sample for sample in samples if sample is not None]
    return statistics.median(known) if known else None


def spread(values):
    """Lower quartile, median, upper quartile."""
    if len(values) < 2:
        return (values[0],) * 3 if values else None
    return tuple(statistics.quantiles(values, n=4, method="inclusive"))


def geometric_mean(values):
    known = [value for value in values if value]
    return math.exp(sum(map(math.log, known)) / len(known)) if known else None


class Result:
    """A result and what it says of each contender."""

    def __init__(self, data):
        if data.get("format") != FORMAT:
            raise ValueError("not a result of bench/run, or of another version of it")
        self.data = data
        self.workloads = data["workloads"]
        self.contenders = data["contenders"]
        kinds = {each["kind"]: each["name"] for each in self.contenders}
        self.base = kinds.get("kernel", self.contenders[0]["name"])

    def names(self, kind):
        return [name for name, each in self.workloads.items() if each["kind"] == kind]

    def samples(self, workload, contender):
        return self.workloads[workload]["samples"].get(contender, [])

    def value(self, workload, contender):
        return median(self.samples(workload, contender))

    def ratio(self, workload, contender, base=None):
        """Median over the rounds of the time over the base's time in the same round."""
        base = self.samples(workload, base or self.base)
        return median(pairs(self.samples(workload, contender), base))

    def mean(self, contender, base=None):
        return geometric_mean(self.ratio(name, contender, base) for name in self.names("time"))

    def over(self, workload, other, contender):
        """A contender's time over its own time of another workload."""
        if workload not in self.workloads or other not in self.workloads:
            return None
        return median(pairs(self.samples(workload, contender), self.samples(other, contender)))

    def best_peer(self, workload):
        """The peer with the shortest time, if any took part and finished."""
        times = {each["name"]: self.value(workload, each["name"])
                 for each in self.contenders if each["kind"] == "peer"}
        known = {name: time for name, time in times.items() if time}
        return min(known, key=known.get) if known else None


def has_passed(value, limit, section):
    """None where there is nothing to compare."""
    if value is None or limit is None:
        return None
    return value >= limit if section == "at-least" else value <= limit


def verdict(old, new):
    """Whether the new is clearly "slower" or "faster" than the old, and the ratios' spread."""
    quartiles = spread(pairs(new, old))
    if not quartiles:
        return "", None
    lower, _, upper = quartiles
    if lower > 1 + NOISE:
        return "slower", quartiles
    if upper < 1 - NOISE:
        return "faster", quartiles
    return "", quartiles


def in_words(value, unit):
    """A number for people: times with three digits and a unit that fits."""
    if value is None:
        return "-"
    if unit == "ns":
        for name, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
            if value >= size:
                digits = ".3g" if value < 999.5 * size else ".0f"
                return f"{value / size:{digits}} {name}"
        return f"{value:.0f} ns"
    if unit == "KiB":
        return f"{value:.0f} KiB" if value < 10240 else f"{value / 1024:.1f} MiB"
    if unit == "times":
        return f"{value:.2f} x"
    if unit == "count":
        return f"{value:.0f}"
    return f"{value:.3g} {unit}"

"""The alignment of gradients, and the value shift of every layer, as text that reads well in 80 columns."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from edgeq.report.text import compact, number, plain, share, warn
from edgeq.report.text import say as _say

LOSSES = {"ce": "cross-entropy", "margin": "margin"}


def render(content: dict[str, Any], console: Console) -> None:
    """``content``: what :func:`edgeq.cli.align.align` gives."""
    warn(console, content["warnings"])
    _say(console, f"{plain(content['target']['file'], 40)} on {content['runtime']}", "bold")
    if content["source"]:
        _say(console, f"float: {plain(content['source']['file'], 60)}")
    _say(console, f"{content['n']} images of {plain(content['data'], 50)}, seed {content['seed']}")
    _cosines(content, console)
    _gradients(content, console)
    if content["differences"]:
        _differences(content, console)
    for shift in content["shift"]:
        _shift(shift, content, console)
    if content["logit_variance"]:
        _logits(content["logit_variance"], console)


def _cosines(content: dict[str, Any], console: Console) -> None:
    _title(console, f"Cosine of input gradients of the {LOSSES[content['objective']]}, clean images, in pairs")
    _say(console, f"{'':36}{'mean [95 %]':19} median signs  rows apart", "dim")
    for pair in content["cosines"]:
        mean = _value(pair["mean"]) + _bounds(pair["interval"])
        rest = f"{_value(pair['median']):>6} {number(pair['signs'], 2):>5} {pair['rows']:>5} {pair['apart']:>5}"
        _say(console, f"{pair['a']:17} {pair['b']:17} {mean:19} {rest}")
    _say(console, "signs: of components that are zero in neither, the share of one sign (chance .5)", "dim")
    _say(console, "apart: rows left out, because one of the two is exactly zero there", "dim")
    noisy = {name: d for name, d in content["differences"].items() if d["ceiling"] is not None}
    for pairs, ceiling in dict.fromkeys((d["params"]["pairs"], d["ceiling"]) for d in noisy.values()):
        _say(console, f"spsa: even of a linear loss, {pairs} pairs for {content['size']:,} components give {number(ceiling)};", "dim")
        _say(console, "  two spsa estimates share their directions, and so that noise", "dim")
    if any(d["control"] for d in content["differences"].values()):
        _say(console, "spsa float, coordinate float: the same questions to the float network", "dim")


def _gradients(content: dict[str, Any], console: Console) -> None:
    _title(console, "Exactly zero")
    _say(console, f"{'':18}{'rows':>14} {'components':>11}", "dim")
    for name, zero in content["gradients"].items():
        rows = f"{zero['rows']['k']} of {zero['rows']['of']}"
        broken = f"  {zero['not_finite']} rows hold no number" if zero["not_finite"] else ""
        _say(console, f"{name:18}{rows:>14} {share(zero['pixels']):>11}{broken}")


def _differences(content: dict[str, Any], console: Console) -> None:
    _title(console, "Finite differences on the pixel grid")
    _say(console, f"{'':18}{'step':>5} {'queries':>8} {'differences':>12} {'zero':>6} {'explode':>8} {'median':>8}", "dim")
    for name, found in content["differences"].items():
        median = "-" if found["median_size"] is None else f"{found['median_size']:.2g}"
        some = f"{found['params']['step']:>5} {found['queries']:>8} {compact(found['zero']['of']):>12} {share(found['zero']):>6}"
        _say(console, f"{name:18}{some} {share(found['explode']):>8} {median:>8}")
    for name in dict.fromkeys(d["reference"] for d in content["differences"].values() if d["reference"] and not d["control"]):
        large = share(content["gradients"][name]["large"])
        _say(console, f"explode: above {content['explodes']} times {name}'s slope, the root mean square of a row's", "dim")
        _say(console, f"  components (float's for the float network); {large} of {name}'s own are", "dim")
        _say(console, "median: of the sizes that are not zero, in that unit", "dim")


def _shift(shift: dict[str, Any], content: dict[str, Any], console: Console) -> None:
    name = content["attack"]["name"]
    _title(console, f"Value shift, layer by layer: {name} at {shift['pixels']:g}/255 on {shift['crafted_on']}, against clean images")
    adversarial, noise = shift["adversarial"], shift["noise"]
    right = f"right: clean {share(shift['clean'])}, {name} {share(adversarial['robust'])}, uniform noise {share(noise['robust'])}"
    _say(console, right)
    _say(console, f"ties:  clean {share(shift['ties'])}, {name} {share(adversarial['ties'])}, uniform noise {share(noise['ties'])}")
    _say(console, f"{'':3} {'op':12} {'output':16} {'changed':>7} {'of these':>19}  {'mean LSB':>11} noise", "dim")
    _say(console, f"{'':40} {'flat':>6} {'swal.':>6} {'moved':>5}  {'before':>6} {'after':>4} swal.", "dim")
    for line, other in zip(adversarial["lines"], noise["lines"], strict=True):
        kinds = " ".join(f"{_of(line[k], line['changed']):>{w}}" for k, w in (("flat", 6), ("swallowed", 6), ("moved", 5)))
        steps = f"{_steps(line['before']):>6} {_steps(line['after']):>4}"
        where = f"{line['index']:>3} {_short(line['kind'], 12):12} {_tail(plain(line['output']), 16):16}"
        elements = _of(line["changed"], line["elements"])
        _say(console, f"{where} {elements:>7} {kinds}  {steps} {_of(other['swallowed'], other['changed']):>5}")
    _say(console, "changed: the value before rounding differs; moved: the code does, too; swal.: it", "dim")
    _say(console, "  does not, a bucket swallowed it; flat: the activation itself did (ReLU)", "dim")
    if shift["unequal"]:
        _say(console, f"simulated, and on {shift['unequal']} images not with {content['runtime']}'s answer: take with care", "bold red")
    else:
        _say(console, f"simulated, with the answers of {content['runtime']} on every image", "dim")


def _logits(found: dict[str, Any], console: Console) -> None:
    _title(console, "Variance of an image's logits, mean over the images (B19 5.1.2)")
    if found["ratio"] is None:
        _say(console, "not measured: the float network's logits do not vary")
        return
    ratio = f"file / float {number(found['ratio'])}{_bounds(found['interval'])}"
    _say(console, f"float {found['float']:.4g}, file {found['file']:.4g}; {ratio}")
    if found["apart"]:
        _say(console, f"{found['apart']} images are left out: their logits do not vary, or are no numbers", "dim")


def _title(console: Console, text: str) -> None:
    _say(console)
    _say(console, text[:80], "bold")


def _value(value: float | None) -> str:
    """``.123``, ``-.123``: a cosine."""
    if value is None:
        return "-"
    return ("-" if value < -0.0005 else "") + number(abs(value))


def _bounds(interval: list[float] | None) -> str:
    return "" if interval is None else f" [{_value(interval[0])} {_value(interval[1])}]"


def _of(count: int, whole: int) -> str:
    return number(count / whole) if whole else "-"


def _steps(value: float) -> str:
    return number(value, 2) if value < 99.5 else compact(value)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _tail(text: str, most: int) -> str:
    """The end of a name, which tells layers apart better than its start; of fused names the first."""
    text = text.split(";")[0]
    return text if len(text) <= most else "…" + text[1 - most :]

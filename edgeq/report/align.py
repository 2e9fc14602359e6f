"""The alignment of gradients, and the value shift of every layer, as text that reads well in 80 columns."""

from __future__ import annotations

from rich.console import Console

from edgeq.measure.alignment import Aligned, Interval, LogitVariance
from edgeq.measure.value_shift import Shift
from edgeq.report.text import compact, number, plain, share, warn
from edgeq.report.text import say as _say

LOSSES = {"ce": "cross-entropy", "margin": "margin"}


def render(aligned: Aligned, console: Console) -> None:
    """All of an alignment; what was not measured has no table."""
    warn(console, aligned.warnings)
    _say(console, f"{plain(aligned.target.file, 40)} on {aligned.runtime}", "bold")
    if aligned.source:
        _say(console, f"float: {plain(aligned.source.file, 60)}")
    _say(console, f"{aligned.n} images of {plain(aligned.data, 50)}, seed {aligned.seed}")
    _cosines(aligned, console)
    _gradients(aligned, console)
    if aligned.differences:
        _differences(aligned, console)
    for shift in aligned.shift:
        _shift(shift, aligned, console)
    if aligned.logit_variance:
        _logits(aligned.logit_variance, console)


def _cosines(aligned: Aligned, console: Console) -> None:
    _title(console, f"Cosine of input gradients of the {LOSSES[aligned.objective]}, clean images, in pairs")
    _say(console, f"{'':36}{'mean [95 %]':19} median signs  rows apart", "dim")
    for pair in aligned.cosines:
        mean = _value(pair.mean) + _bounds(pair.interval)
        rest = f"{_value(pair.median):>6} {number(pair.signs, 2):>5} {pair.rows:>5} {pair.apart:>5}"
        _say(console, f"{pair.a:17} {pair.b:17} {mean:19} {rest}")
    _say(console, "signs: of components that are zero in neither, the share of one sign (chance .5)", "dim")
    _say(console, "apart: rows left out, because one of the two is exactly zero there", "dim")
    noisy = [d for d in aligned.differences.values() if d.ceiling is not None]
    for pairs, ceiling in dict.fromkeys((d.params["pairs"], d.ceiling) for d in noisy):
        _say(console, f"spsa: even of a linear loss, {pairs} pairs for {aligned.size:,} components give {number(ceiling)};", "dim")
        _say(console, "  two spsa estimates share their directions, and so that noise", "dim")
    if any(d.control for d in aligned.differences.values()):
        _say(console, "spsa float, coordinate float: the same questions to the float network", "dim")


def _gradients(aligned: Aligned, console: Console) -> None:
    _title(console, "Exactly zero")
    _say(console, f"{'':18}{'rows':>14} {'components':>11}", "dim")
    for name, zero in aligned.gradients.items():
        rows = f"{zero.rows.k} of {zero.rows.of}"
        broken = f"  {zero.not_finite} rows contain no number" if zero.not_finite else ""
        _say(console, f"{name:18}{rows:>14} {share(zero.pixels):>11}{broken}")


def _differences(aligned: Aligned, console: Console) -> None:
    _title(console, "Finite differences on the pixel grid")
    _say(console, f"{'':18}{'step':>5} {'queries':>8} {'differences':>12} {'zero':>6} {'explode':>8} {'median':>8}", "dim")
    for name, one in aligned.differences.items():
        median = "-" if one.median_size is None else f"{one.median_size:.2g}"
        some = f"{one.params['step']:>5} {one.queries:>8} {compact(one.zero.of):>12} {share(one.zero):>6}"
        _say(console, f"{name:18}{some} {share(one.explode):>8} {median:>8}")
    for reference in dict.fromkeys(d.reference for d in aligned.differences.values() if d.reference and not d.control):
        large = share(aligned.gradients[reference].large)
        _say(console, f"explode: above {aligned.explodes} times {reference}'s slope, the root mean square of a row's", "dim")
        _say(console, f"  components (float's for the float network); {large} of {reference}'s own are", "dim")
        _say(console, "median: of the sizes that are not zero, in that unit", "dim")


def _shift(shift: Shift, aligned: Aligned, console: Console) -> None:
    name = aligned.attack.name
    _title(console, f"Value shift, layer by layer: {name} at {shift.pixels:g}/255 on {shift.crafted_on}, against clean images")
    adversarial, noise = shift.adversarial, shift.noise
    right = f"right: clean {share(shift.clean)}, {name} {share(adversarial.robust)}, uniform noise {share(noise.robust)}"
    _say(console, right)
    _say(console, f"ties:  clean {share(shift.ties)}, {name} {share(adversarial.ties)}, uniform noise {share(noise.ties)}")
    _say(console, f"{'':3} {'op':12} {'output':16} {'changed':>7} {'of these':>19}  {'mean LSB':>11} noise", "dim")
    _say(console, f"{'':40} {'flat':>6} {'swal.':>6} {'moved':>5}  {'before':>6} {'after':>4} swal.", "dim")
    for line, other in zip(adversarial.lines, noise.lines, strict=True):
        kinds = " ".join(f"{_of(k, line.changed):>{w}}" for k, w in ((line.flat, 6), (line.swallowed, 6), (line.moved, 5)))
        steps = f"{_steps(line.before):>6} {_steps(line.after):>4}"
        where = f"{line.index:>3} {_short(line.kind, 12):12} {_tail(plain(line.output), 16):16}"
        elements = _of(line.changed, line.elements)
        _say(console, f"{where} {elements:>7} {kinds}  {steps} {_of(other.swallowed, other.changed):>5}")
    _say(console, "changed: the value before rounding differs; moved: the code does, too; swal.: it", "dim")
    _say(console, "  does not, a bucket swallowed it; flat: the activation itself did (ReLU)", "dim")
    if shift.unequal:
        _say(console, f"simulated, and on {shift.unequal} images not with {aligned.runtime}'s answer: take with care", "bold red")
    else:
        _say(console, f"simulated, with the answers of {aligned.runtime} on every image", "dim")


def _logits(aligned: LogitVariance, console: Console) -> None:
    _title(console, "Variance of an image's logits, mean over the images (B19 5.1.2)")
    if aligned.ratio is None:
        _say(console, "not measured: the float network's logits do not vary")
        return
    ratio = f"file / float {number(aligned.ratio)}{_bounds(aligned.interval)}"
    _say(console, f"float {aligned.of_float:.4g}, file {aligned.of_file:.4g}; {ratio}")
    if aligned.apart:
        _say(console, f"{aligned.apart} images are left out: their logits do not vary, or are no numbers", "dim")


def _title(console: Console, text: str) -> None:
    _say(console)
    _say(console, text[:80], "bold")


def _value(value: float | None) -> str:
    """``.123``, ``-.123``: a cosine."""
    if value is None:
        return "-"
    return ("-" if value < -0.0005 else "") + number(abs(value))


def _bounds(interval: Interval) -> str:
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

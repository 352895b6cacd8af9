"""A comparison's results in words and in numbers as people read them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from yolo_attn.compare.analysis.results import GAIN, LOSS, NO_EVIDENCE, SOUGHT, UNTOLD, Contrast, Needed, Results
from yolo_attn.compare.analysis.seeds import LEVEL, MOST_SEEDS, POWER, Difference
from yolo_attn.compare.execution.costs import ROUNDS
from yolo_attn.compare.study import Variant

EQUAL_COST: dict[str | None, str] = {
    None: "",
    GAIN: ", and over a base of equal cost",
    NO_EVIDENCE: ", but not over a base of equal cost",
    LOSS: ", but lost against a base of equal cost",
    UNTOLD: ", and of a base of equal cost nothing can be told",
}
"""What a variant's verdict against its control makes of its gain over the base."""

MISS = 0.02
"""How far, as a share, a control's GFLOPs may be from its variant's before a report says so."""

NONE = "–"
"""What stands where there is no number."""


def points(fraction: float | None, sign: bool = False) -> str:
    """A fraction of 1 on the scale of 0 to 100, with two decimals; a difference with its sign."""
    if fraction is None:
        return NONE
    text = f"{100 * fraction:+.2f}" if sign else f"{100 * fraction:.2f}"
    return text.replace("-", "−") if float(text) else "0.00"


def fixed(value: float | None, digits: int = 0) -> str:
    """A number that is no score, with so many decimals."""
    return NONE if value is None else f"{value:,.{digits}f}"


def p_value(p: float | None) -> str:
    """A p-value."""
    return NONE if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def interval(difference: Difference | None) -> str:
    """A difference, and half of its 95 % interval where there is one."""
    if difference is None:
        return NONE
    mean = points(difference.mean, sign=True)
    return mean if difference.half is None else f"{mean} ± {points(difference.half)}"


def verdict(comparison: Contrast, metric: str) -> str:
    """A comparison's verdict in words, its numbers and their seeds."""
    if comparison.main is None:
        return f"{UNTOLD}: no seed of which both have finished"
    return (
        f"{comparison.verdict}: {interval(comparison.main)} {metric}, {_counted(len(comparison.main.by_seed), 'seed')}"
    )


def headline(results: Results) -> str:
    """Whether it helped, in a sentence or two; a control of equal cost is no variant, but a gain is held against it."""
    base = results.study.base.label
    tried = [c for c in results.comparisons if c.against == results.study.base and not c.variant.control_for]
    if not tried:
        return f"Nothing but {base} was trained: there is nothing to hold against it."
    of = {kind: [c.variant for c in tried if c.verdict == kind] for kind in (GAIN, LOSS, NO_EVIDENCE, UNTOLD)}
    if _all_zero(results):
        return f"Whether it helped cannot be told: {results.main} is 0 throughout."
    if len(of[UNTOLD]) == len(tried):
        return f"Whether it helped cannot be told: no spread over seeds to judge {results.main} by."
    equal = {c.variant.name: c.verdict for c in results.comparisons if c.against.control_for}
    sentences = []
    for verdict, told in EQUAL_COST.items():
        gained = [variant for variant in of[GAIN] if equal.get(variant.name) == verdict]
        if gained:
            sentences.append(f"{_labels(gained)} gained {results.main} over {base}{told}.")
    if any(equal.get(variant.name) in (None, GAIN) for variant in of[GAIN]):
        sentences[0] = f"Yes, by this budget: {sentences[0]}"
    if not sentences:
        judged = [*of[LOSS], *of[NO_EVIDENCE]]
        which = judged[0].label if len(judged) == 1 else f"any of {len(judged)} variants"
        sentences = [f"There is no evidence that {which} gained {results.main} over {base}."]
    beaten = [variant for variant in of[NO_EVIDENCE] if equal.get(variant.name) == LOSS]
    for variants, against in ((of[LOSS], ""), (beaten, " against a base of equal cost")):
        if variants:
            sentences.append(f"{_labels(variants)} lost{against}.")
    if of[UNTOLD]:
        sentences.append(f"Of {_labels(of[UNTOLD])} nothing can be told.")
    return " ".join(sentences)


def _all_zero(results: Results) -> bool:
    reached = [each.scores[results.main].mean for each in results.variants if results.main in each.scores]
    return bool(reached) and not any(reached)


def budget(results: Results) -> str:
    """What all models were given."""
    manifest = results.study.manifest
    images = f" ({manifest.data.images} validation images)" if manifest.data.images else ""
    seeds = f"seed{'s' * (len(manifest.seeds) > 1)} {', '.join(map(str, manifest.seeds))}"
    return f"{_counted(manifest.epochs, 'epoch')}, {seeds}, {manifest.data.path}{images}"


def shown(results: Results) -> Iterator[str]:
    """What the numbers show, a sentence or two for each comparison."""
    tested = sum(each.p is not None for each in results.comparisons)
    for each in results.comparisons:
        text = f"{each.variant.label} against {each.against.label}: {verdict(each, results.main)}."
        if each.main is None or each.p is None or each.main.deviation == 0:
            yield text + " Both have the same numbers." * (each.p is not None)
            continue
        p = f"p {p_value(each.p)}" if each.p < 0.001 else f"p = {p_value(each.p)}"
        corrected = f" after Holm's correction for {tested} verdicts" if tested > 1 else ""
        if each.verdict == NO_EVIDENCE:
            half = each.main.half or 0.0
            ends = [points(end, sign=True) for end in (each.main.mean - half, each.main.mean + half)]
            text += (
                f" The seeds agree on it, but it is too small to be told in these figures ({p}"
                if each.p < LEVEL
                else f" That is not evidence of no effect: anything from {ends[0]} to {ends[1]} agrees with it ({p}"
            )
        else:
            text += f" It is more than the spread between seeds explains ({p}"
        yield f"{text}{corrected}). {_of_images(each, results)}".strip()


def not_shown(results: Results) -> Iterator[str]:
    """What the numbers do not show."""
    yield (
        f"Anything beyond this budget and this data: {budget(results)}. Attention that helps a short training may "
        "not help a long one, and the other way round."
    )
    yield (
        "What a model reaches on images that nobody chose by: each training's best epoch was chosen on the same "
        "validation images, so all numbers are somewhat high, those of the base too."
    )
    yield (
        "Single lines of the tables by metric, size, class and kind of error: they are not corrected for their number, "
        f"and of 95 % intervals one in twenty misses the truth. Only verdicts are corrected, for {results.main} alone."
    )
    yield (
        "How surely seeds tell that were added after a look at a report: verdicts are right as often as they say where "
        "the seeds were fixed before any result was known."
    )
    yield (
        "Whether differences between seeds are spread normally, which the t-interval supposes and a few seeds cannot "
        "tell."
    )
    if any(each.cost.latency_ms is not None for each in results.variants):
        yield "What latency is elsewhere: it was measured on one machine, one picture at a time."


def seeds_needed(needed: Needed | None) -> str:
    """How many seeds a difference of 0.5 would take, in words."""
    if needed is None:
        return NONE
    least, most = (f"more than {MOST_SEEDS}" if n is None else str(n) for n in (needed.measured, needed.at_most))
    return least if least == most else f"{least} (at most {most})"


def problems(results: Results) -> Iterator[str]:
    """What a reader should know of how the numbers came about, a line each."""
    study = results.study
    missing = [run for run in study.runs if not run.done]
    if missing:
        yield f"{len(missing)} of {len(study.runs)} trainings failed or are missing: numbers are of the others alone."
    records = [run.record for run in study.runs if run.done and run.record]
    names = sorted({name for record in records for name in record.versions})
    for name in names:
        yield from _mixed(f"versions of {name}", (record.versions.get(name, "unknown") for record in records))
    judged = [len(c.main.by_seed) for c in results.comparisons if c.p is not None and c.main]
    if 2 in judged:
        yield f"Two seeds are few to judge by: {judged.count(2)} of {len(judged)} verdicts rest on no more."
    planned = next((call.seeds for call in study.manifest.calls), ())
    added = [str(seed) for seed in study.manifest.seeds if seed not in planned]
    if planned and added:
        yield (
            f"After the first command came in seed{'s' * (len(added) > 1)} {', '.join(added)}: if a report was "
            "looked at before, the verdicts are right less often than they say."
        )
    yield from _mixed("machines", (record.machine for record in records))
    yield from _mixed("devices", (record.device for record in records))
    yield from _mixed("evaluators", (run.evaluator for run in study.runs if run.done))
    yield from _mixed("numbers of epochs", (str(record.epochs) for record in records))
    if _all_zero(results):
        yield f"{results.main} is 0 throughout: so short a training tells nothing."
    unmeasured = [each.variant for each in results.variants if each.cost.latency_ms is None]
    if unmeasured:
        yield ": ".join(filter(None, (f"The cost was not measured of {_labels(unmeasured)}", study.costs.error))) + "."
    yield from _unequal(results)
    if records and not study.truth.exists():
        yield (
            "There is no ground_truth.json, as where the data is not COCO's: nothing is said of the choice of images "
            "and of kinds of errors."
        )
    yield from results.images.problems


def rules(results: Results) -> Iterator[tuple[str, str]]:
    """How each number comes about."""
    yield "Mean ± standard deviation", "Over a variant's finished seeds; the standard deviation divides by n − 1."
    yield (
        "Difference ± interval",
        "The variant's number minus the base's under the same seed, averaged over the n seeds that both have, "
        "± t(0.975, n − 1) · s / √n, with s the standard deviation of the n differences.",
    )
    yield (
        "Verdict",
        f"Gain or loss where the paired t-test of {results.main} has p < {LEVEL} after Holm's correction for all "
        "verdicts of this report, and the difference does not round to 0.00; no evidence where not. Where nothing "
        "helps or harms, at most one report in twenty says gain or loss of anything, if the seeds were fixed before "
        "any result was known. It is more if seeds are added because of what was seen: of one variant that does "
        "nothing, a look at 3 seeds and one at 5 say gain or loss in 9 % of cases, a look at each number of seeds from "
        "3 to 10 in 17 %. One seed, or seeds that all differ by the same number, tell nothing. Two are judged, with "
        "one degree of freedom: s is known from two numbers, and all rests on their being spread normally.",
    )
    yield (
        "Seeds for 0.5",
        f"The fewest with which that test, at its strictest level, shows a true difference of {points(SOUGHT)} with a "
        f"probability of {POWER:.0%}, by the noncentral t: at the measured standard deviation, and in brackets at the "
        "largest that it is below with a probability of 80 %.",
    )
    if results.images.number:
        yield (
            "Images",
            f"The {results.images.number} validation images are drawn anew {results.images.resamples} times, with "
            "repetition, the same ones for both models, and COCO's AP is computed on each draw from the matches within "
            "images. ± is 1.96 standard deviations of the difference, averaged over seeds. It holds the trainings "
            "fixed, as the interval over seeds holds the images fixed.",
        )
        yield (
            "Kinds of errors",
            "TIDE's: AP50 with the errors of one kind mended, minus AP50. They do not add up to 100 − AP50.",
        )
    yield (
        "Latency",
        f"One picture of noise, timed {ROUNDS} times by itself, the models fused and in turn: median and quartiles.",
    )
    yield (
        "Memory",
        "The peak of a training. On a CPU, the most that its process held, without the DataLoader's processes; on "
        "CUDA, the most that PyTorch had allocated.",
    )


def _of_images(each: Contrast, results: Results) -> str:
    half = each.images.get(results.main)
    if half is None or each.main is None:
        return ""
    left = f"The choice of the {results.images.number} validation images leaves ± {points(half)} open"
    if each.verdict == NO_EVIDENCE:
        return f"{left} besides."
    held = "more than the difference: it need not hold on others" if half >= abs(each.main.mean) else "less than it"
    return f"{left}, {held}."


def _unequal(results: Results) -> Iterator[str]:
    """Tell of controls of equal cost that have another."""
    needed = {each.variant.name: each.cost.gflops for each in results.variants}
    for each in results.variants:
        own, wanted = needed[each.variant.name], needed.get(each.variant.control_for or "")
        if own and wanted and abs(own / wanted - 1) > MISS:
            miss = f"{own / wanted - 1:+.1%}".replace("-", "−")
            yield (
                f"{each.variant.label} does not cost as much as what it is held against: {fixed(own, 2)} GFLOPs and "
                f"{fixed(wanted, 2)}, {miss}."
            )


def _mixed(what: str, values: Iterable[str]) -> Iterator[str]:
    found = Counter(values)
    if len(found) > 1:
        told = ", ".join(f"{value} ({_counted(number, 'training')})" for value, number in found.most_common())
        yield f"The trainings differ in their {what}: {told}."


def _labels(variants: Sequence[Variant]) -> str:
    *others, last = (variant.label for variant in variants)
    return f"{', '.join(others)} and {last}" if others else last


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"

"""Mutated model YAMLs: each is edited, or refused in one line of bounded length; nothing else is raised."""

import random

import pytest

from yolo_attn.errors import LONGEST_LINE, UserError
from yolo_attn.model.insertion import insert, migrate, remove

TEXT = """\
# a model
nc: 3
activation: nn.ReLU()
scales:
  n: [0.33, 0.25, 1024]
  s: [0.33, 0.50, 1024]
backbone:
  # [from, repeats, module, args]
  - [-1, 1, Conv, [64, 3, 2]] # 0
  - [-1, 3, C2f, &args [128, True]]
  - [-1, 1, {own}] # 2
  - [-1, 1, Conv, [256, 3, 2]]
  - [-1, 3, C2f_NAM, [256, True, {{where: end}}]] # 4
  - [-1, 1, SPPF, [256, 5]]

head:
  - [-1, 1, nn.Upsample, [None, 2, "nearest"]]
  - [[-1, 1], 1, Concat, [1]] # cat
  - [-1, 3, C2f, *args] # 8 (P2/4-small)
  - [[8, 5], 1, Detect, [nc]] # Detect(P2, P3)
"""

WORDS = (
    *("-1", "0", "1", "3", "99", "1000000", "-7", "0.5", ".inf", ".nan", "1e-4", "true", "null", "~", "", "x", "nc"),
    *("[", "]", "{", "}", ",", ":", "- ", "&a ", "*a", "*args", "<<: *args", "!!int ", "!!binary ", "!x ", "? ", "#"),
    *("'", '"', "|", ">", "%", "@", "\t", "\n", "\r", "\x85", "\u2028", "\x00", "\ud800", "\ufeff", "ü", "---\n"),
    *("Conv", "C2f", "GAM", "SE", "SEAttention", "C2f_SE", "C3_GAMAttention", "Concat", "Detect", "Classify", "Index"),
    *("TorchVision", "nn.Module", "nn.Linear", "nn.", "torchvision.ops.nms", "deepcopy", "BaseModel", "anchors"),
    *("[1, 2]", "{a: 1}", "[[1]]", "(1, 2)", "layers", "d", "ch", "backbone", "head", "scales", "activation"),
)


def mutated(rng, text):
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        lines = text.splitlines(keepends=True)
        at = rng.randrange(len(text) + 1) if text else 0
        kind = rng.randrange(7)
        if kind == 0:
            text = text[:at] + rng.choice(WORDS) + text[at:]
        elif kind == 1:
            text = text[:at] + text[at + rng.choice((1, 1, 2, 9)) :]
        elif kind == 2 and lines:
            del lines[rng.randrange(len(lines))]
            text = "".join(lines)
        elif kind == 3 and lines:
            lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
            text = "".join(lines)
        elif kind == 4 and len(lines) > 1:
            i, j = rng.sample(range(len(lines)), 2)
            lines[i], lines[j] = lines[j], lines[i]
            text = "".join(lines)
        else:  # another word in a word's place
            words = [i for i in range(len(text)) if text[i] in "[ ,"]
            start = rng.choice(words) + 1 if words else 0
            end = min((i for i in (text.find(mark, start) for mark in ",]\n") if i >= 0), default=len(text))
            text = text[:start] + rng.choice(WORDS) + text[end:]
    return text


def check_mutations(seed, number):
    rng = random.Random(seed)
    edited, lines = 0, []
    for count in range(number):
        command = rng.choice((insert, remove, migrate))
        own = rng.choice(
            ("GAM, [8]", "SEAttention, [128, 16]", "CBAM, [32, 7]") if command is migrate else ("GAM, []",)
        )
        text = mutated(rng, TEXT.format(own=own))
        place = rng.choice(("neck", "backbone", "stages", "after:0,3", "blocks"))
        given = ("NAM", place) if command is insert else ()
        try:
            command(text, "my.yaml", *given, scale=rng.choice(("n", "s", "")))
            edited += 1
        except UserError as error:
            lines.append(str(error))
        except Exception as error:
            raise AssertionError(f"seed {seed}, mutation {count}: {command.__name__} of\n{text}") from error
    assert all(0 < len(line) <= LONGEST_LINE + 3 and len(line.splitlines()) == 1 for line in lines)
    return edited


@pytest.mark.integration
def test_mutated_texts_are_edited_or_refused_in_one_line():
    assert 5 < check_mutations(seed=0, number=100) < 95


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_mutated_texts_are_edited_or_refused_in_one_line_many_times(seed):
    assert 25 < check_mutations(seed, number=500) < 475

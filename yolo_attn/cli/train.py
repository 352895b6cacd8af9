"""`yolo-attn train`."""

import argparse
from typing import Any

from yolo_attn.cli.arguments import (
    OPTION_OF,
    OPTIONS,
    add_class_options,
    add_data_options,
    add_run_options,
    add_stretch_option,
    not_empty,
    positive,
    reader_options,
    settings,
    strength,
)
from yolo_attn.errors import UserError

RESUMABLE = ("imgsz", "batch", "device", "workers", "cache", "patience", "plots", "val", "save_period", "close_mosaic")
"""Settings that may change when a training is resumed."""


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("train", help="train a detector and report COCO's AP")
    parser.add_argument("--cfg", type=not_empty, help="model YAML, such as yolov8n-gam.yaml")
    add_data_options(parser, "default: a demo set, drawn on first use")
    add_class_options(parser)
    parser.add_argument("--epochs", type=positive, help="default: 100; the demo set: its own")
    parser.add_argument("--weights", type=not_empty, help="checkpoint to start from; default: none, train from scratch")
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        type=not_empty,
        metavar="LAST.PT",
        help="resume an interrupted run; without a file, the newest under --project",
    )
    parser.add_argument(
        "--nam-sparsity",
        type=strength,
        metavar="P",
        help="NAM's penalty P·(Σ|γ| + Σ|λ|), such as 1e-4; default: the model YAML's, else none",
    )
    add_stretch_option(parser)
    parser.add_argument(
        "--identity-init",
        action=argparse.BooleanOptionalAction,
        help="with --weights: attention missing from the checkpoint starts with a gain that keeps the magnitude of its "
        "input; default: on",
    )
    parser.add_argument(
        "--freeze-base",
        type=positive,
        metavar="N",
        help="with --weights: for the first N epochs train only layers that got no weights, then everything",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="with --weights: list the weights that each row takes from it"
    )
    add_run_options(parser)


def run(args: argparse.Namespace, further: list[str]) -> None:
    """Train, or resume an interrupted training."""
    from yolo_attn.engine.api import Training, resume, train

    given = settings(args, further)
    if args.resume:
        _check_unchanged(args, given)
    elif not args.cfg:
        raise UserError("train needs --cfg, such as --cfg yolov8n-gam.yaml")
    with reader_options(args):
        if args.resume:
            resume(args.resume, args.project, given, args.task)
        else:
            train(
                Training(
                    cfg=args.cfg,
                    settings=given,
                    project=args.project,
                    weights=args.weights,
                    nam_sparsity=args.nam_sparsity,
                    stretch=args.stretch,
                    task=args.task,
                    identity_init=args.identity_init,
                    freeze_base=args.freeze_base,
                    strict=args.strict,
                    verbose=args.verbose,
                    trust=args.trust,
                )
            )


def _check_unchanged(args: argparse.Namespace, given: dict[str, Any]) -> None:
    """Raise a UserError for the first option that cannot change with `--resume`, if any is given."""
    fixed = {"--cfg": args.cfg, "--weights": args.weights, "--nam-sparsity": args.nam_sparsity}
    fixed |= {"--identity-init": args.identity_init, "--freeze-base": args.freeze_base}
    fixed |= {"--drop-unused": args.drop_unused or None, "--crowds-as-objects": args.crowds_as_objects or None}
    fixed |= {"--stretch": args.stretch or None, "--strict": args.strict or None, "--trust": args.trust or None}
    fixed |= {OPTION_OF.get(key, key): v for key, v in given.items() if key not in RESUMABLE}
    fixed.pop("--data", None)
    changed = [name for name, value in fixed.items() if value is not None]
    if changed:
        raise UserError(
            f"{changed[0]} cannot change with --resume; only these can: --data, --imgsz, "
            f"--batch, --device, {', '.join(name for name in RESUMABLE if name not in OPTIONS)}"
        )

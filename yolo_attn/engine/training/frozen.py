"""`--freeze-base`: for the first epochs only what got no weights from the checkpoint is trained."""

from typing import Any

import torch
from torch import nn
from ultralytics.utils import LOGGER

KEY = "freeze_base"
"""Of a model's YAML, as long as its base is frozen, so that a resumed training goes on with it."""


class FrozenBase:
    """The base of a model in training, frozen: its parameters, its batch norms' statistics, and its moving average.

    Parameters lose their gradients only now, behind the model's wrapper for several processes, which goes on with those
    that it has met.

    Args:
        trainer: The trainer, whose events thaw it.
        model: The model, without wrappers.
        ema: Its moving average; None in a process that keeps none.
        epochs: For how many it is frozen, from the training's first.
        new: Names of the parameters and buffers that train from the beginning.
    """

    def __init__(self, trainer: Any, model: Any, ema: Any, epochs: int, new: list[str]) -> None:
        self.model, self.ema, self.epochs = model, ema, epochs
        owners = {name.rpartition(".")[0] for name in new}
        self.parameters = [p for name, p in model.named_parameters() if name not in new and p.requires_grad]
        self.norms = [
            m
            for name, m in model.named_modules()
            if isinstance(m, nn.modules.batchnorm._BatchNorm) and name not in owners
        ]
        self.kept = [key for key in model.state_dict() if key not in new]
        for p in self.parameters:
            p.requires_grad = False
        for each in filter(None, (model, ema)):
            each.yaml = {**each.yaml, KEY: {"epochs": epochs, "new": new}}
        trainer.add_callback("on_train_epoch_start", self._thaw)
        trainer.add_callback("on_train_batch_start", self._hold)
        trainer.add_callback("on_train_epoch_end", self._settle)
        until = f"{epochs} epochs" if epochs > 1 else "epoch"
        LOGGER.info(f"the base is frozen for the first {until}: only what got no weights trains, {len(new)} tensors")

    def _hold(self, trainer: Any) -> None:
        """Keep the statistics of the base's batch norms, which Ultralytics sets to training before each epoch."""
        for norm in self.norms:
            norm.eval()

    def _settle(self, trainer: Any) -> None:
        """Take the base over into the moving average, which would round it a little with every step."""
        if self.ema is None:
            return
        ours, theirs = self.model.state_dict(), self.ema.state_dict()
        with torch.no_grad():
            for key in self.kept:
                theirs[key].copy_(ours[key])

    def _thaw(self, trainer: Any) -> None:
        """Behind the last frozen epoch, train everything; what Ultralytics' own `freeze` holds stays frozen."""
        if trainer.epoch < self.epochs or KEY not in self.model.yaml:
            return
        self.norms, self.kept = [], []
        for p in self.parameters:
            p.requires_grad = True
        for each in filter(None, (self.model, self.ema)):
            each.yaml = {key: value for key, value in each.yaml.items() if key != KEY}
        LOGGER.info("the base is frozen no longer: everything trains")

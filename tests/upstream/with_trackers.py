"""A training that TensorBoard, MLflow and W&B follow, and what each of them has of it; offline.

test_features.py runs this file in an environment that has them.
"""

import json
import sys
from pathlib import Path

import mlflow
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from ultralytics import SETTINGS, YOLO

import yolo_attn  # noqa: F401  registers the row names


def main(model, data, home):
    """Train two epochs, and print each tracker's names of metrics, with their values in the last epoch."""
    SETTINGS.update({"mlflow": True, "tensorboard": True, "wandb": True})
    logged = {}
    log = wandb.Run.log

    def listened(run, values, *args, **kwargs):
        logged.update({name: value for name, value in values.items() if isinstance(value, (int, float))})
        return log(run, values, *args, **kwargs)

    wandb.Run.log = listened
    settings = {"imgsz": 64, "batch": 8, "device": "cpu", "workers": 0, "plots": False, "project": home, "name": "run"}
    trainer = YOLO(model)
    trainer.train(data=data, epochs=2, **settings)
    metrics = {name: float(value) for name, value in trainer.trainer.metrics.items()}
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    events = EventAccumulator(str(Path(home, "run")))
    events.Reload()
    scalars = {name: events.Scalars(name)[-1].value for name in events.Tags()["scalars"]}
    found = {"trainer": metrics, "mlflow": run.data.metrics, "tensorboard": scalars, "wandb": logged}
    print("\nFOUND " + json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])

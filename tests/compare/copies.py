"""COCO's numbers on images drawn with repetition, the plain way: each copy is its own image and matched again."""

import json

from support import pycocotools_scores


def scores_of_copies(truth, predictions, counts, folder, kind="bbox", sigmas=None):
    """Return pycocotools' average precisions of a set with each image, in the order of ids, `counts` times."""
    content, found = json.loads(truth.read_text()), json.loads(predictions.read_text())
    images, annotations, detections = [], [], []
    for image, count in zip(sorted(content["images"], key=lambda each: each["id"]), counts, strict=True):
        for _ in range(count):
            copy = {"image_id": len(images) + 1}
            images.append({**image, "id": copy["image_id"]})
            detections += [{**each, **copy} for each in found if each["image_id"] == image["id"]]
            for each in content["annotations"]:
                if each["image_id"] == image["id"]:
                    annotations.append({**each, **copy, "id": len(annotations) + 1})
    files = folder / "truth.json", folder / "predictions.json"
    files[0].write_text(json.dumps({**content, "images": images, "annotations": annotations}))
    files[1].write_text(json.dumps(detections))
    params = {} if sigmas is None else {"kpt_oks_sigmas": sigmas}
    stats, _ = pycocotools_scores(*files, kind, **params)
    return stats[: 5 if kind == "keypoints" else 6]

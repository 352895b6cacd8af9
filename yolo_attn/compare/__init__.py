"""`yolo-attn compare`: planning/ what to train, execution/ the trainings, analysis/ what they show, report/ the pages.

pipeline.py runs a whole comparison (`compare`); study_folder.py reads its folder (`read_study`).
"""

from yolo_attn.lazy import public

__all__, __getattr__ = public(__name__, {"pipeline": "Comparison compare", "study_folder": "Study read_study"})

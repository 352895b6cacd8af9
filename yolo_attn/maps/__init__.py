"""What attention does to images. attention_maps.py: the command's work; views.py: an image through a model, reduced.

figures.py draws gates and statistics, truth.py the labels of a data set, images.py finds and reads images,
templates/index.html is the page.
"""

from yolo_attn.lazy import public

__all__, __getattr__ = public(__name__, {"attention_maps": "draw_maps"})

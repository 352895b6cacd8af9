"""COCO JSON in, COCO's numbers out; knows no layers."""

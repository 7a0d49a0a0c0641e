"""One of each: what a package of your own can bring to parcelhub (docs/extending.md).

PARCELHUB_EXTENSIONS=extension.corners,extension.weighing,extension.crowded,extension.tiny_rcnn,extension.notes
"""

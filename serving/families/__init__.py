"""The families of networks that can be a base, each with one `answer` for the segmenter.

`load.load_model` reads a base folder of any family; `types.Prediction` is what all of them say. `parcelseg` is the
default (docs/history/bases.md, "The bake-off"); `eomt`, `rf_detr`, `mask2former` and `mask_rcnn` load what others
trained.
"""

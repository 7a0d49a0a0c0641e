"""One inference path: pictures in, instances out. `segmenter.Segmenter` is the entry; adapters and engines below it."""

"""Bytes by their sha256: where they lie, how they are written, what holds them back from collection.

`blobs.BlobStore` is the entry.
"""

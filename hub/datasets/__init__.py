"""Datasets as the hub keeps them: revisions, uploads in parts, what is refused at the door, an index of pictures.

`datasets.Datasets` lists and reads, `uploads.Uploads` takes files in, `content_checks` says which files may come in.
"""

"""The Triton model `segmenter`: its repository on disk, what runs inside it, and the server process around it.

`launcher.TritonServer` starts and watches the server; `model_repository` writes the files Triton reads; `backend` is
imported by Triton's Python stub only, and `engine` is the part of it that knows no Triton.
"""

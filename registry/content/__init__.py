"""What a file's bytes are, judged before a commit may name them: bounded reads only, nothing is ever executed.

`ContentDoor` is what `Repos` asks about each commit, whichever way the bytes came (in the commit, over LFS, in chunks).
`read_header` parses the header of a safetensors file; `find_danger` says what in a file could run code.
"""

from registry.content.guard import ContentDoor
from registry.content.safetensors_header import TensorInfo, read_header
from registry.content.sniff import find_danger
from registry.content.window import Window

__all__ = ["ContentDoor", "TensorInfo", "Window", "find_danger", "read_header"]

"""The Hugging Face Hub protocol: what `huggingface_hub`, `transformers`, `peft` and git-lfs speak to this hub.

`routes` has all handlers; `hub.protocol` has what they work with, `hub.accounts` says who may read and write and who
has proven to possess which bytes, `problems` how errors leave. `paths` keeps encoded slashes of addresses apart from
real ones. docs/hub-protocol.md tells what is spoken.
"""

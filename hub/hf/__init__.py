"""The Hugging Face Hub protocol: what `huggingface_hub`, `transformers`, `peft` and git-lfs speak to this hub.

`routes` has all handlers and `HubProtocol` (in `service`) what they work with: `access` says who may read and write,
`uploads` who has proven to possess which bytes, `views` what the wire says of repos and files, `problems` how errors
leave. `paths` keeps encoded slashes of addresses apart from real ones. docs/hub-protocol.md tells what is spoken.
"""

"""What the routes of the Hugging Face Hub protocol work with, without a route: views of repositories, discussions,
pieces of large uploads, and grants for Xet. `service.HubProtocol` has all of it; `hub.hf` speaks it.
"""

"""Repositories: commits, branches and tags, trees, the directory by name, cards, git's names for blobs.

`repos.Repos` writes and reads; `directory.Directory` finds.
"""

"""The structs of the REST API, and how lists are paged. Nothing in here does anything.

`core` (cells, jobs, models, repositories), `resources` (datasets, tokens, teams), `serving`, `provenance`, `paging`.
"""

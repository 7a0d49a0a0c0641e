"""Pictures that a person is to label: the queue of each cell, the regions on them, and the commits that come of it.

Public: `service.Labelling` (everything that REST and pages do), `rank.RANKERS` (what is asked first).
"""

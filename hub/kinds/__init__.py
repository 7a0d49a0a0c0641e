"""The kinds of jobs that the hub brings: each module is one, and registers itself (`hub.jobs.kinds`).

`finetune` trains a variant (refreshes too), `dataset_check` looks over a dataset and brings it into the hub's form,
`evaluation` measures a model on a dataset, `growth` tests a contribution or trains the next base.
A new kind is a new file here; docs/extending.md shows what is in it.
"""

"""Makes models: bases from scenes and photographs, and LoRA variants from a cell's few hundred images.

contract, errors                 what a fine-tune is asked and leaves, for the hub's jobs; what can go wrong
growth_plan, refresh_plan        what the hub writes into a job and the training reads there
pipelines/                       what a job or a command runs from end to end
report/                          what came of it, for people and for pages
training/ evaluation/ curation/  the loop; how good a model is; what is worth learning from
models/ datasets/ scenes/        the networks' start; formats, quality and decks; generated pictures
"""

"""The base grows: contributions and what they are worth, the next base, and each cell's way to it.

Public: `contributions.Contributions` (offers and their states), `grower.Grower` (runs), `policy.GrowthPolicies`.
"""

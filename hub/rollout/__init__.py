"""What serves which robot: promotions, roll-outs, trials, the serving folder, robots and what they report.

`promotions.Promotions` moves a variant; `serving_folder.ServingFolder` makes the folder say so; `production.Production`
holds what runs beside it.
"""

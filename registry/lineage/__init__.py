"""What was made from what: `lineage.Lineage` keeps the edges, `graph` walks them."""

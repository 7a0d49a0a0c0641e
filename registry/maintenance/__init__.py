"""Finding damage (`fsck`) and removing garbage (`collection`, `row_collection`)."""

"""The hub's own tables in the registry's catalog, as migrations that only ever get longer."""

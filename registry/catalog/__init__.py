"""One DuckDB file with one owner: transactions, cursors, whole indexes, migrations, a probe in a process of its own.

`catalog.Catalog` is the entry; `migrations.MigrationSet` is how other floors add tables.
"""

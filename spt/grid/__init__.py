"""The grid behind the tables: its cells, their records, what is missing, and running that."""
